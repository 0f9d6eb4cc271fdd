//! Promise 9: nothing is left behind. A program of its own with one test, because it counts what the whole process has.
#![cfg(all(target_os = "linux", any(feature = "uds", feature = "shm", feature = "tcp")))]

mod support;

use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use genvm_transport::{ConnectOptions, ListenOptions, Listener, connect, connect_async, listen};
use support::{descriptors_and_mappings, directory, shm_names, watchdog};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// What a process can leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    descriptors: usize,
    mappings: usize,
    names: usize,
    files: Vec<std::ffi::OsString>,
}

fn belongings(directory: &Path) -> Belongings {
    let (descriptors, mappings) = descriptors_and_mappings();
    let ours = format!("genvm-{}-", std::process::id());
    Belongings {
        descriptors,
        mappings,
        names: shm_names().iter().filter(|name| name.starts_with(&ours)).count(),
        files: std::fs::read_dir(directory).expect("the directory").flatten().map(|file| file.file_name()).collect(),
    }
}

fn addresses(directory: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for (scheme, compiled) in
        [("unix", cfg!(feature = "uds")), ("shm", cfg!(feature = "shm")), ("shm-named", cfg!(feature = "shm-named"))]
    {
        if compiled {
            all.push(format!("{scheme}://{}/s", directory.display()));
        }
    }
    if cfg!(feature = "tcp") {
        all.push("tcp://127.0.0.1:0".to_owned());
    }
    all
}

#[test]
fn nothing_is_left_behind() {
    let _watchdog = watchdog("nothing_is_left_behind");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let directory = directory();
    let addresses = addresses(directory.path());
    // The first round may set up what stays for good, such as a place to keep the kernel's answers.
    addresses.iter().for_each(|address| everything(&runtime, address));
    let before = belongings(directory.path());
    assert!(before.mappings == 0 && before.names == 0 && before.files.is_empty(), "{before:?}");
    for address in &addresses {
        for _ in 0..10 {
            everything(&runtime, address);
        }
        assert_eq!(belongings(directory.path()), before, "{address}");
    }
}

fn everything(runtime: &Runtime, address: &str) {
    connections(runtime, address);
    #[cfg(feature = "shm")]
    if address.starts_with("shm") {
        failed_upgrades(runtime, address);
    }
    // Nobody there.
    if !address.starts_with("tcp") {
        connect(address, &ConnectOptions::default()).expect_err("nobody listens");
        runtime.block_on(connect_async(address, &ConnectOptions::default())).expect_err("nobody listens");
    }
    // A listener that cannot be.
    let listener = listen(address, &ListenOptions::default()).expect("listen");
    listen(&listener.address().to_string(), &ListenOptions::default()).expect_err("in use");
    // Clients whom nobody accepted.
    let waiting = plain(listener.address());
    drop(listener);
    drop(waiting);
}

/// A client that has connected and nothing more.
fn plain(address: &genvm_transport::Address) -> Box<dyn ReadAndWrite> {
    match address {
        genvm_transport::Address::Tcp(address) => Box::new(std::net::TcpStream::connect(address).expect("connect")),
        other => {
            let path = other.path().expect("a path");
            Box::new(std::os::unix::net::UnixStream::connect(path).expect("connect"))
        }
    }
}

trait ReadAndWrite: Read + Write {}
impl<T: Read + Write> ReadAndWrite for T {}

/// Each face at each end; either end closes first; bytes are left unread.
fn connections(runtime: &Runtime, address: &str) {
    let listener = listen(address, &ListenOptions::default()).expect("listen");
    let address = listener.address().to_string();
    let options = ConnectOptions::default();
    for host_first in [false, true] {
        // The client sends three bytes and gets three; one end leaves the last one unread.
        let (sent, host_reads, client_reads) =
            (*b"abc", if host_first { 2 } else { 3 }, if host_first { 3 } else { 2 });
        for (async_client, async_host) in [(false, false), (false, true), (true, false), (true, true)] {
            thread::scope(|scope| {
                scope.spawn(|| serve(runtime, &*listener, async_host, host_reads));
                let mut got = vec![0; client_reads];
                if async_client {
                    runtime.block_on(async {
                        let mut stream = connect_async(&address, &options).await.expect("connect");
                        stream.write_all(&sent).await.expect("write");
                        stream.read_exact(&mut got).await.expect("read");
                    });
                } else {
                    let mut stream = connect(&address, &options).expect("connect");
                    stream.write_all(&sent).expect("write");
                    stream.read_exact(&mut got).expect("read");
                }
            });
        }
    }
    // Connecting and accepting that were given up.
    runtime.block_on(async {
        for _ in 0..5 {
            tokio::select! {
                biased;
                _ = listener.accept_async() => panic!("nobody has connected"),
                () = std::future::ready(()) => {}
            }
            tokio::select! {
                biased;
                _ = connect_async(&address, &options) => {}
                () = tokio::task::yield_now() => {}
            }
            // Whoever was given up may still be in the queue; nothing is to be heard from them.
            while let Ok(accepted) = tokio::time::timeout(Duration::from_millis(1), listener.accept_async()).await {
                let mut stream = accepted.expect("accept");
                let _ = stream.read(&mut [0]).await;
            }
        }
    });
}

fn serve(runtime: &Runtime, listener: &dyn Listener, asynchronous: bool, reads: usize) {
    let mut got = vec![0; reads];
    if asynchronous {
        runtime.block_on(async {
            let mut stream = listener.accept_async().await.expect("accept");
            stream.read_exact(&mut got).await.expect("read");
            stream.write_all(b"xyz").await.expect("write");
            stream.flush().await.expect("flush");
        });
    } else {
        let mut stream = listener.accept().expect("accept");
        stream.read_exact(&mut got).expect("read");
        stream.write_all(b"xyz").expect("write");
        stream.flush().expect("flush");
    }
}

/// Clients that begin an upgrade and break off, or send nonsense; hosts that do not answer, or send nonsense.
#[cfg(feature = "shm")]
fn failed_upgrades(runtime: &Runtime, address: &str) {
    use std::io::ErrorKind;
    let mut options = ListenOptions::default();
    options.handshake_timeout = Duration::from_millis(5);
    let listener = listen(address, &options).expect("listen");
    let greetings: [&[u8]; 4] = [b"\xf5", b"\xf5gvmshm\n", &[0xf5; 96], b"\xf5gvmshm\nand then something else"];
    for greeting in greetings {
        for hangs_up in [false, true] {
            for asynchronous in [false, true] {
                let mut client = plain(listener.address());
                client.write_all(greeting).expect("write");
                let client = if hangs_up { None } else { Some(client) };
                let end = if asynchronous {
                    runtime.block_on(async {
                        let mut stream = listener.accept_async().await.expect("accept");
                        stream.read(&mut [0]).await
                    })
                } else {
                    listener.accept().expect("accept").read(&mut [0])
                };
                let kind = end.expect_err("no upgrade").kind();
                assert!(matches!(kind, ErrorKind::InvalidData | ErrorKind::ConnectionAborted), "{kind:?}");
                drop(client);
            }
        }
    }
    drop(listener);

    let path = address.split_once("://").expect("a scheme").1;
    let host = std::os::unix::net::UnixListener::bind(path).expect("bind");
    let mut options = ConnectOptions::default();
    options.handshake_timeout = Duration::from_millis(5);
    for answer in [None, Some(&b""[..]), Some(&[0xf5; 96][..])] {
        for asynchronous in [false, true] {
            thread::scope(|scope| {
                let answering = scope.spawn(|| {
                    let (mut stream, _) = host.accept().expect("accept");
                    let Some(answer) = answer else { return Some(stream) };
                    // On a busy machine the client may have given up before it has greeted, or later.
                    let _ = stream.read_exact(&mut [0]).and_then(|()| stream.write_all(answer));
                    None
                });
                if asynchronous {
                    runtime.block_on(connect_async(address, &options)).expect_err("no upgrade");
                } else {
                    connect(address, &options).expect_err("no upgrade");
                }
                drop(answering.join().expect("no panic"));
            });
        }
    }
    drop(host);
    std::fs::remove_file(path).expect("its file");
}
