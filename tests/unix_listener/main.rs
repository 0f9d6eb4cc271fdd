//! What only a Unix-socket listener has: its file, its users, its descriptors; and inherited descriptors.
#![cfg(all(unix, feature = "uds"))]

mod silent;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use genvm_transport::{
    AcceptError, Address, BlockingStream, ConnectError, ConnectOptions, ListenError, ListenOptions, Listener, Peer,
    PeerPolicy, Transports, connect, connect_async, listen,
};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{directory, other_process, role, say, watchdog};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn unix(path: &Path) -> String {
    format!("unix://{}", path.display())
}

fn listening(path: &Path) -> Box<dyn Listener> {
    listen(&unix(path), &ListenOptions::default()).expect("listen")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A socket file that a killed host left.
fn stale(path: &Path) {
    drop(UnixListener::bind(path).expect("bind"));
    assert!(fs::symlink_metadata(path).expect("it stays").file_type().is_socket());
}

/// A client gets an answer from this listener.
fn serves(listener: &dyn Listener) {
    thread::scope(|scope| {
        scope.spawn(|| answer(&mut *listener.accept().expect("accept")));
        asks(&listener.address().to_string());
    });
}

fn answer(stream: &mut dyn BlockingStream) {
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("a request");
    stream.write_all(&[byte[0] + 1]).expect("write");
    stream.flush().expect("flush");
}

fn asks(address: &str) {
    let mut client = connect(address, &ConnectOptions::default()).expect("connect");
    let mut byte = [41];
    client.write_all(&byte).expect("write");
    client.read_exact(&mut byte).expect("an answer");
    assert_eq!(byte, [42]);
}

/// The longest path that a socket can have, in `directory`.
fn longest(directory: &Path) -> PathBuf {
    let room = 107 - directory.as_os_str().len() - 1;
    directory.join("x".repeat(room))
}

/// The other process of the tests below. `ROLE` is what it does, and where.
#[test]
fn other() {
    let Some(role) = role() else { return };
    let _watchdog = watchdog("the other process");
    let (what, address) = role.split_once(' ').expect("a role and an address");
    match what {
        "race" => {
            say("ready");
            let mut line = String::new();
            std::io::stdin().lock().read_line(&mut line).expect("a start signal");
            let listener = listen(address, &ListenOptions::default());
            match &listener {
                Ok(_) => say("result: won"),
                Err(ListenError::InUse { .. }) => say("result: in use"),
                Err(error) => say(&format!("result: {error}")),
            }
            // Winners stay until everybody has tried.
            std::io::stdin().lock().read_line(&mut line).expect("an end");
        }
        "exhausted" => exhausted(address),
        "inherits" => inherits(),
        other => panic!("no role {other}"),
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let _watchdog = watchdog("a_stale_socket_is_replaced");
    let directory = directory();
    for path in [directory.path().join("s"), longest(directory.path())] {
        stale(&path);
        let listener = listening(&path);
        serves(&*listener);
        drop(listener);
        assert!(!path.exists());
        let left: Vec<_> = fs::read_dir(directory.path()).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_live_listener_is_never_stolen() {
    let _watchdog = watchdog("a_live_listener_is_never_stolen");
    let directory = directory();
    for path in [directory.path().join("s"), longest(directory.path())] {
        let ours = listening(&path);
        let inode = fs::metadata(&path).expect("its file").ino();
        // Each look may be a connection that closes at once: a host has to bear such clients anyhow.
        let second = listen(&unix(&path), &ListenOptions::default());
        assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
        assert_eq!(fs::metadata(&path).expect("its file").ino(), inode);
        assert_eq!(ours.accept().expect("the look").read(&mut [0]).expect("its end"), 0);
        serves(&*ours);
        drop(ours);

        let foreign = UnixListener::bind(&path).expect("bind");
        let second = listen(&unix(&path), &ListenOptions::default());
        assert!(matches!(second, Err(ListenError::InUse { .. })), "{second:?}");
        drop(foreign);
        fs::remove_file(&path).expect("still there");
    }
}

#[test]
fn of_many_processes_one_wins() {
    let _watchdog = watchdog("of_many_processes_one_wins");
    for (is_stale, is_long) in [(false, false), (true, false), (true, true)] {
        let directory = directory();
        let path = if is_long { longest(directory.path()) } else { directory.path().join("s") };
        if is_stale {
            stale(&path);
        }
        let mut racers: Vec<_> = (0..8).map(|_| other_process("other", &format!("race {}", unix(&path)))).collect();
        racers.iter_mut().for_each(|racer| drop(racer.wait_for("ready")));
        for racer in &mut racers {
            racer.child.stdin.as_mut().expect("piped").write_all(b"go\n").expect("it waits");
        }
        let results: Vec<_> = racers.iter_mut().map(|racer| racer.wait_for("result: ")).collect();
        assert_eq!(results.iter().filter(|result| *result == "won").count(), 1, "{results:?}");
        assert_eq!(results.iter().filter(|result| *result == "in use").count(), 7, "{results:?}");
    }
}

#[test]
fn only_our_own_file_is_removed() {
    let _watchdog = watchdog("only_our_own_file_is_removed");
    let directory = directory();
    let path = directory.path().join("s");
    let ours = listening(&path);
    fs::remove_file(&path).expect("our file");
    let theirs = listening(&path);
    drop(ours);
    serves(&*theirs);
    drop(theirs);
    assert!(!path.exists());
}

/// Whoever finds the file finds a listener, and whoever starts next does not take it for stale.
#[test]
fn the_file_goes_before_the_listener() {
    let _watchdog = watchdog("the_file_goes_before_the_listener");
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listening(&path);
    let lock = fs::File::open(directory.path()).expect("the directory");
    flock(&lock, FlockOperation::LockExclusive).expect("nobody else's");
    thread::scope(|scope| {
        scope.spawn(move || drop(listener));
        // That it waits for the lock is nothing that could be waited for.
        thread::sleep(Duration::from_millis(50));
        UnixStream::connect(&path).expect("it listens as long as its file is there");
        drop(lock);
    });
    assert!(!path.exists());
}

#[test]
fn what_is_no_socket_is_left_alone() {
    let _watchdog = watchdog("what_is_no_socket_is_left_alone");
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "precious").expect("a file");
    fs::create_dir(at("directory")).expect("a directory");
    std::os::unix::fs::symlink(at("nowhere"), at("link")).expect("a link");
    for name in ["file", "directory", "link"] {
        let error = listen(&unix(&at(name)), &ListenOptions::default()).expect_err("no socket");
        assert!(matches!(&error, ListenError::NotASocket { path } if *path == at(name)), "{error:?}");
    }
    assert_eq!(fs::read_to_string(at("file")).expect("still there"), "precious");
    assert!(at("directory").is_dir() && at("link").is_symlink() && !at("nowhere").exists());
}

#[test]
fn modes_of_the_file_and_its_directory() {
    let _watchdog = watchdog("modes_of_the_file_and_its_directory");
    let directory = directory();
    let mode = |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o7777;
    let path = directory.path().join("new/s");
    let listener = listening(&path);
    assert_eq!((mode(&path), mode(path.parent().expect("new"))), (0o600, 0o700));
    drop(listener);

    let path = longest(directory.path());
    let mut options = ListenOptions::default();
    options.socket_mode = 0o660;
    let _listener = listen(&unix(&path), &options).expect("listen");
    assert_eq!(mode(&path), 0o660);
}

#[test]
fn the_longest_path_works_and_a_longer_one_says_so() {
    let _watchdog = watchdog("the_longest_path_works_and_a_longer_one_says_so");
    let directory = directory();
    let mut path = longest(directory.path()).into_os_string();
    assert_eq!(path.len(), 107);
    serves(&*listening(Path::new(&path)));
    path.push("x");
    let address = unix(Path::new(&path));
    let errors = [
        listen(&address, &ListenOptions::default()).expect_err("too long").to_string(),
        connect(&address, &ConnectOptions::default()).expect_err("too long").to_string(),
        runtime().block_on(connect_async(&address, &ConnectOptions::default())).expect_err("too long").to_string(),
    ];
    for error in errors {
        assert!(error.contains("108 bytes are too long"), "{error}");
    }
}

#[test]
fn another_user_is_refused_before_a_byte_is_read() {
    let _watchdog = watchdog("another_user_is_refused_before_a_byte_is_read");
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be another user");
        return;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 to be another user's client");
        return;
    }
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let path = directory.path().join("s");
    let client = || {
        let code = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                    try:\n  s.sendall(b')')\n  print(s.recv(1))\nexcept OSError: print('refused')";
        let path = path.to_str().expect("text");
        Command::new("python3").args(["-c", code, path]).uid(NOBODY).stdout(Stdio::piped()).spawn().expect("python3")
    };
    let output = |client: std::process::Child| {
        String::from_utf8(client.wait_with_output().expect("it ends").stdout).expect("text").trim().to_owned()
    };
    let mut options = ListenOptions::default();
    options.socket_mode = 0o666;
    let listener = listen(&unix(&path), &options).expect("listen");
    let runtime = runtime();
    for asynchronous in [false, true] {
        let client = client();
        let error = if asynchronous {
            runtime.block_on(listener.accept_async()).expect_err("not allowed")
        } else {
            listener.accept().expect_err("not allowed")
        };
        assert!(!error.is_fatal());
        assert!(
            matches!(error, AcceptError::PeerNotAllowed(Peer::Process { uid: NOBODY, .. })),
            "it is somebody else: {error}"
        );
        let seen = output(client);
        assert!(seen == "b''" || seen == "refused", "{seen}");
        serves(&*listener);
    }
    drop(listener);

    options.allowed_peers = PeerPolicy::Users(vec![NOBODY]);
    let listener = listen(&unix(&path), &options).expect("listen");
    let client = client();
    answer(&mut *listener.accept().expect("allowed"));
    assert_eq!(output(client), "b'*'");
    // And now it is us who are somebody else.
    let _client = UnixStream::connect(&path).expect("connect");
    assert!(matches!(listener.accept(), Err(AcceptError::PeerNotAllowed(_))));
}

#[test]
fn whoever_is_not_allowed_hears_and_is_heard_nothing() {
    let _watchdog = watchdog("whoever_is_not_allowed_hears_and_is_heard_nothing");
    // Everybody but us: the other end need not be another user to be the wrong one.
    let others = PeerPolicy::Users(vec![rustix::process::geteuid().as_raw() ^ 1]);
    let schemes: &[&str] = if cfg!(feature = "shm") { &["unix", "shm"] } else { &["unix"] };
    let runtime = runtime();
    let directory = directory();
    let path = directory.path().join("s");
    let said_nothing = |mut stream: UnixStream| {
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert!(said.is_empty(), "{said:?}");
    };
    for (scheme, asynchronous) in schemes.iter().flat_map(|scheme| [(scheme, false), (scheme, true)]) {
        let address = format!("{scheme}://{}", path.display());
        let mut options = ListenOptions::default();
        options.allowed_peers = others.clone();
        let listener = listen(&address, &options).expect("listen");
        let mut client = UnixStream::connect(&path).expect("connect");
        client.write_all(b"\xf5gvmshm\n").expect("write");
        let error = if asynchronous {
            runtime.block_on(listener.accept_async()).expect_err("not allowed")
        } else {
            listener.accept().expect_err("not allowed")
        };
        assert!(!error.is_fatal() && matches!(error, AcceptError::PeerNotAllowed(Peer::Process { .. })), "{error}");
        said_nothing(client);
        drop(listener);

        let host = UnixListener::bind(&path).expect("bind");
        let mut options = ConnectOptions::default();
        options.allowed_peers = others.clone();
        let error = if asynchronous {
            runtime.block_on(connect_async(&address, &options)).expect_err("not allowed")
        } else {
            connect(&address, &options).expect_err("not allowed")
        };
        assert!(matches!(error, ConnectError::PeerNotAllowed { peer: Peer::Process { .. }, .. }), "{error}");
        said_nothing(host.accept().expect("accept").0);
        fs::remove_file(&path).expect("its file");
    }
}

#[test]
fn accepting_goes_on_when_descriptors_come_free() {
    let _watchdog = watchdog("accepting_goes_on_when_descriptors_come_free");
    let directory = directory();
    let path = directory.path().join("s");
    let mut host = other_process("other", &format!("exhausted {}", unix(&path)));
    for _ in 0..2 {
        host.wait_for("listening");
        let mut client = UnixStream::connect(&path).expect("connect");
        client.write_all(&[41]).expect("write");
        host.child.stdin.as_mut().expect("piped").write_all(b"connected\n").expect("it waits");
        let mut byte = [0];
        client.read_exact(&mut byte).expect("an answer");
        assert_eq!(byte, [42]);
    }
    assert!(host.child.wait().expect("it ends").success());
}

/// A host that has no descriptor left when a client comes, with each face.
fn exhausted(address: &str) {
    let runtime = runtime();
    let listener = listen(address, &ListenOptions::default()).expect("listen");
    let before = getrlimit(Resource::Nofile);
    let spare = |count: u64| {
        // Descriptors are given out from below.
        let free = free_descriptor();
        setrlimit(Resource::Nofile, Rlimit { current: Some(free + count), ..before }).expect("setrlimit");
    };
    let line = || {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).expect("the parent's word");
    };
    for asynchronous in [false, true] {
        spare(0);
        say("listening");
        line();
        thread::scope(|scope| {
            let accepting = scope.spawn(|| {
                if asynchronous {
                    runtime.block_on(async {
                        let mut stream = listener.accept_async().await.expect("accept");
                        let mut byte = [0];
                        stream.read_exact(&mut byte).await.expect("a request");
                        stream.write_all(&[byte[0] + 1]).await.expect("write");
                    });
                } else {
                    answer(&mut *listener.accept().expect("accept"));
                }
            });
            // That it waits is nothing that could be waited for.
            thread::sleep(Duration::from_millis(50));
            assert!(!accepting.is_finished());
            setrlimit(Resource::Nofile, before).expect("setrlimit");
        });
    }
}

/// The number that the next descriptor would get.
fn free_descriptor() -> u64 {
    use std::os::fd::AsRawFd;
    fs::File::open("/dev/null").expect("one is free").as_raw_fd() as u64
}

#[test]
fn a_child_inherits_a_connection() {
    let _watchdog = watchdog("a_child_inherits_a_connection");
    for nonblocking in [false, true] {
        let (mut ours, theirs) = UnixStream::pair().expect("a pair");
        theirs.set_nonblocking(nonblocking).expect("fcntl");
        let child = Command::new(std::env::current_exe().expect("current_exe"))
            .args(["other", "--exact", "--nocapture", "--test-threads=1"])
            .env("ROLE", "inherits fd://0")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut byte = [0];
        ours.read_exact(&mut byte).expect("a request");
        // Late enough that the child waits, whatever the descriptor's mode is.
        thread::sleep(Duration::from_millis(20));
        ours.write_all(&[byte[0] + 1]).expect("write");
        let mut poured = vec![0; POURED];
        ours.read_exact(&mut poured).expect("more than fits");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(ours.read(&mut byte).expect("an end"), 0, "closed with the stream");
    }
}

/// No text says so, but a caller may.
#[test]
fn a_descriptor_below_zero_is_an_error() {
    let (address, options) = (Address::Fd(-1), ConnectOptions::default());
    let errors = [
        Transports::builtin().connect(&address, &options).expect_err("no descriptor"),
        runtime().block_on(Transports::builtin().connect_async(&address, &options)).expect_err("no descriptor"),
    ];
    for error in errors {
        let ConnectError::Io { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

const POURED: usize = 1 << 20;

fn inherits() {
    let options = ConnectOptions::default();
    let refused = |address: &str| connect(address, &options).expect_err("no connection").to_string();
    assert!(refused("fd://1").contains("not an open stream socket"), "a pipe");
    assert!(refused("fd://999999").contains("not an open stream socket"), "closed");
    let mut stream = connect("fd://0", &options).expect("connect");
    let mut byte = [41];
    stream.write_all(&byte).expect("write");
    stream.read_exact(&mut byte).expect("an answer");
    assert_eq!(byte, [42]);
    stream.write_all(&vec![7; POURED]).expect("write");
    assert!(refused("fd://0").contains("taken over before"), "while it is in use");
    drop(stream);
    assert!(refused("fd://0").contains("taken over before"), "and afterwards");
    let again = runtime().block_on(connect_async("fd://0", &options));
    assert!(again.expect_err("taken").to_string().contains("taken over before"));
}
