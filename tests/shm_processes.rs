//! Shared memory between two real processes: upgrade, fall-back, one address for everybody, and what happens when either
//! side is killed.
#![cfg(all(unix, feature = "shm"))]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

use genvm_transport::error::UpgradeError;
use genvm_transport::options::Fallback;
use genvm_transport::{
    BlockingStream, ConnectError, ConnectOptions, ListenOptions, RingCapacity, TransportKind, WaitStrategy, connect,
    listen,
};
use support::{Other, directory, other_process, role, say, watchdog};

const WAITS: [WaitStrategy; 3] = [WaitStrategy::Park, WaitStrategy::ADAPTIVE, WaitStrategy::Spin];

fn schemes() -> &'static [&'static str] {
    if cfg!(feature = "shm-named") { &["shm", "shm-named"] } else { &["shm"] }
}

/// Sends back what comes, until the end.
fn echo(stream: &mut dyn BlockingStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 100_000];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// The other process of most tests below. `ROLE` is what it does and where.
#[test]
fn peer() {
    let Some(role) = role() else { return };
    let _watchdog = watchdog("the other process");
    let (what, address) = role.split_once(' ').expect("a role and an address");
    match what {
        // Writes for ever; ends by being killed.
        "pour" => {
            let mut stream = connect(address, &ConnectOptions::default()).expect("connect");
            say("connected");
            loop {
                stream.write_all(&[7; 3000]).expect("write");
                stream.flush().expect("flush");
            }
        }
        // Calls for ever.
        "call" => {
            let mut stream = connect(address, &ConnectOptions::default()).expect("connect");
            let mut byte = [0; 62];
            stream.write_all(&byte).expect("write");
            stream.read_exact(&mut byte).expect("read");
            say("connected");
            loop {
                stream.write_all(&byte).expect("write");
                stream.read_exact(&mut byte).expect("read");
            }
        }
        // Connects and does nothing.
        "idle" => {
            let mut stream = connect(address, &ConnectOptions::default()).expect("connect");
            stream.write_all(b"!").expect("write");
            stream.flush().expect("flush");
            say("connected");
            let _ = stream.read(&mut [0]);
        }
        // A host that echoes; ends by being killed.
        "host" => {
            let listener = listen(address, &ListenOptions::default()).expect("listen");
            say("listening");
            loop {
                let mut stream = listener.accept().expect("accept");
                thread::spawn(move || echo(&mut *stream));
            }
        }
        other => panic!("no role {other}"),
    }
}

fn host(address: &str) -> Other {
    let mut host = other_process("peer", &format!("host {address}"));
    host.wait_for("listening");
    host
}

#[test]
fn every_size_and_strategy_between_two_processes() {
    let _watchdog = watchdog("every_size_and_strategy_between_two_processes");
    for scheme in schemes() {
        let directory = directory();
        let address = format!("{scheme}://{}/s", directory.path().display());
        let _host = host(&address);
        for wait in WAITS {
            for capacity in [RingCapacity::MIN, RingCapacity::DEFAULT] {
                let mut options = ConnectOptions::default().with_wait(wait);
                options.stream.ring_capacity = capacity;
                let mut stream = connect(&address, &options).expect("connect");
                for size in [1, 55, 56, 57, 62, 64, 120, 1000, 4096, 50_000] {
                    let sent: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
                    stream.write_all(&sent).expect("write");
                    let mut received = vec![0; size];
                    stream.read_exact(&mut received).expect("read"); // publishes; there was no flush
                    assert!(sent == received, "{scheme} {wait:?} {capacity:?} {size}");
                }
                assert_eq!(stream.kind().to_string(), *scheme);
            }
        }
    }
}

#[test]
fn a_killed_client_is_the_end_of_its_stream() {
    let _watchdog = watchdog("a_killed_client_is_the_end_of_its_stream");
    for scheme in schemes() {
        for (role, wait) in ["pour", "call", "idle"].into_iter().flat_map(|role| WAITS.map(|wait| (role, wait))) {
            if *scheme == "shm-named" && role != "idle" {
                continue; // killed while it rings, it may leave a lock of raw_sync taken: docs/reliability.md
            }
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let listener = listen(&address, &ListenOptions::default().with_wait(wait)).expect("listen");
            let mut client = other_process("peer", &format!("{role} {address}"));
            let mut stream = listener.accept().expect("accept");
            let serving = thread::spawn(move || match role {
                "pour" => std::io::copy(&mut stream, &mut std::io::sink()).map(drop),
                "call" => echo(&mut *stream),
                _ => stream.read_to_end(&mut Vec::new()).map(drop),
            });
            client.wait_for("connected");
            client.kill();
            let end = serving.join().expect("no panic");
            let acceptable = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
            assert!(end.as_ref().err().is_none_or(acceptable), "{scheme} {role} {wait:?}: {end:?}");
        }
    }
}

#[test]
fn a_killed_host_is_an_end_and_then_a_broken_pipe() {
    let _watchdog = watchdog("a_killed_host_is_an_end_and_then_a_broken_pipe");
    for scheme in schemes() {
        for wait in WAITS {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let mut host = host(&address);
            let mut stream = connect(&address, &ConnectOptions::default().with_wait(wait)).expect("connect");
            let mut buffer = [1; 100];
            stream.write_all(&buffer).expect("write");
            stream.read_exact(&mut buffer).expect("read");
            let reader = thread::spawn(move || {
                let end = stream.read(&mut buffer);
                (end, stream)
            });
            host.kill();
            let (end, mut stream) = reader.join().expect("no panic");
            assert_eq!(end.expect("an end"), 0, "{scheme} {wait:?}");
            assert_eq!(stream.write(&[1]).expect_err("nobody there").kind(), ErrorKind::BrokenPipe);
            assert_eq!(stream.flush().expect_err("nobody there").kind(), ErrorKind::BrokenPipe);
        }
    }
}

#[test]
fn a_host_killed_while_we_fill_its_ring_is_a_broken_pipe() {
    let _watchdog = watchdog("a_host_killed_while_we_fill_its_ring_is_a_broken_pipe");
    for wait in WAITS {
        let directory = directory();
        let address = format!("shm://{}/s", directory.path().display());
        let mut host = host(&address);
        let mut stream = connect(&address, &ConnectOptions::default().with_wait(wait)).expect("connect");
        // Nobody reads the echoes, so both rings fill up and the writer waits for room.
        let writer = thread::spawn(move || {
            loop {
                if let Err(error) = stream.write_all(&[1; 5000]) {
                    return error.kind();
                }
            }
        });
        host.kill();
        assert_eq!(writer.join().expect("no panic"), ErrorKind::BrokenPipe, "{wait:?}");
    }
}

#[test]
fn no_name_is_left_behind() {
    let _watchdog = watchdog("no_name_is_left_behind");
    for scheme in schemes() {
        let directory = directory();
        let address = format!("{scheme}://{}/s", directory.path().display());
        let mut host = host(&address);
        let prefix = format!("genvm-{}-", host.child.id());
        let mut stream = connect(&address, &ConnectOptions::default()).expect("connect");
        stream.write_all(b"x").expect("write");
        stream.read_exact(&mut [0]).expect("read");
        // Both have mapped both segments: the names are gone while the connection lives, and so after any kill.
        let ours = format!("genvm-{}-", std::process::id());
        let left = |prefix: &str| support::shm_names().into_iter().filter(|name| name.starts_with(prefix)).count();
        assert_eq!((left(&prefix), stream.kind().to_string().as_str()), (0, *scheme));
        host.kill();
        drop(stream);
        assert_eq!(left(&prefix), 0);
        let _ = ours; // other tests of this program may be between creating and opening theirs
    }
}

#[test]
fn one_address_serves_plain_and_upgraded_clients() {
    let _watchdog = watchdog("one_address_serves_plain_and_upgraded_clients");
    let directory = directory();
    let path = directory.path().join("s");
    let most_lenient = schemes().last().expect("a scheme");
    let listener = listen(&format!("{most_lenient}://{}", path.display()), &ListenOptions::default()).expect("listen");
    let serving = thread::spawn(move || {
        let kinds = (0..schemes().len() + 1).map(|_| {
            let mut stream = listener.accept().expect("accept");
            echo(&mut *stream).expect("echo");
            stream.kind()
        });
        kinds.collect::<Vec<_>>()
    });
    let mut plain = std::os::unix::net::UnixStream::connect(&path).expect("connect");
    plain.write_all(&[1]).expect("write");
    plain.read_exact(&mut [0]).expect("read");
    drop(plain);
    for scheme in schemes() {
        let mut stream =
            connect(&format!("{scheme}://{}", path.display()), &ConnectOptions::default()).expect("connect");
        stream.write_all(&[1]).expect("write");
        stream.read_exact(&mut [0]).expect("read");
    }
    let expected = [TransportKind::Unix, TransportKind::Shm, TransportKind::ShmNamed];
    assert_eq!(serving.join().expect("no panic"), expected[..schemes().len() + 1]);
}

/// Named segments are for peers that trust each other, so a client cannot choose them for a host that did not.
#[cfg(feature = "shm-named")]
#[test]
fn a_host_of_sealed_segments_refuses_named_ones() {
    let _watchdog = watchdog("a_host_of_sealed_segments_refuses_named_ones");
    let directory = directory();
    for scheme in ["shm", "unix"] {
        let path = directory.path().join("s");
        let Ok(listener) = listen(&format!("{scheme}://{}", path.display()), &ListenOptions::default()) else {
            assert!(!cfg!(feature = "uds") && scheme == "unix");
            continue;
        };
        let serving = thread::spawn(move || listener.accept().expect("accept").read(&mut [0]).expect_err("no upgrade"));
        match connect(&format!("shm-named://{}", path.display()), &ConnectOptions::default()) {
            Err(ConnectError::Upgrade { source: UpgradeError::Refused(_), .. }) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(serving.join().expect("no panic").kind(), ErrorKind::InvalidData);
    }
}

/// A host of today: it reads a method id that it does not know, and closes.
fn old_host(path: &std::path::Path) -> thread::JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        let mut firsts = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut id = [0];
            stream.read_exact(&mut id).expect("a method id");
            firsts.push(id[0]);
            if id[0] < 14 {
                stream.write_all(b"ok").expect("answer");
                return firsts;
            }
        }
    })
}

#[test]
fn an_old_host_is_a_clear_error_or_a_plain_connection() {
    let _watchdog = watchdog("an_old_host_is_a_clear_error_or_a_plain_connection");
    let directory = directory();
    let path = directory.path().join("s");
    let address = format!("shm://{}", path.display());
    let host = old_host(&path);
    let mut options = ConnectOptions::default();
    match connect(&address, &options) {
        Err(ConnectError::Upgrade { source: UpgradeError::Closed, .. }) => {}
        other => panic!("{other:?}"),
    }
    options.fallback = Fallback::Plain;
    let mut stream = connect(&address, &options).expect("falls back");
    assert_eq!(stream.kind(), TransportKind::Unix);
    stream.write_all(&[13]).expect("write");
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).expect("read");
    assert_eq!((&answer, host.join().expect("no panic")), (b"ok", vec![0xf5, 0xf5, 13]));
}

#[cfg(feature = "prefer-shm")]
#[test]
fn prefer_shm_upgrades_plain_addresses_where_the_host_can() {
    let _watchdog = watchdog("prefer_shm_upgrades_plain_addresses_where_the_host_can");
    let directory = directory();
    let path = directory.path().join("s");
    let address = format!("unix://{}", path.display());
    let listener = listen(&address, &ListenOptions::default()).expect("listen");
    let serving = thread::spawn(move || {
        (0..2).for_each(|_| echo(&mut *listener.accept().expect("accept")).expect("echo"));
    });
    for (upgrades, kind) in [(true, TransportKind::Shm), (false, TransportKind::Unix)] {
        let mut options = ConnectOptions::default();
        options.upgrades = upgrades;
        let mut stream = connect(&address, &options).expect("connect");
        assert_eq!(stream.kind(), kind);
        stream.write_all(&[1]).expect("write");
        stream.read_exact(&mut [0]).expect("read");
    }
    serving.join().expect("no panic");

    let host = old_host(&path);
    let mut stream = connect(&address, &ConnectOptions::default()).expect("connect");
    assert_eq!(stream.kind(), TransportKind::Unix);
    stream.write_all(&[0]).expect("write");
    stream.read_exact(&mut [0; 2]).expect("read");
    host.join().expect("no panic");
}

/// A peer in a pid namespace that we cannot see has the id 0; that is no process id, and must not become one.
#[test]
fn a_peer_from_another_pid_namespace_has_no_process_id() {
    let _watchdog = watchdog("a_peer_from_another_pid_namespace_has_no_process_id");
    let directory = directory();
    let address = format!("shm://{}/s", directory.path().display());
    let listener = listen(&address, &ListenOptions::default()).expect("listen");
    let program = std::env::current_exe().expect("current_exe");
    // The listener's namespace is the parent of the client's, so the client has an id here; the other way round it has not.
    // So the host is the one that is put into a namespace of its own.
    drop(listener);
    let host = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .arg(program)
        .args(["who_connects", "--exact", "--nocapture", "--test-threads=1"])
        .env("ROLE", &address)
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut host) = host else {
        eprintln!("no `unshare` here: skipped");
        return;
    };
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(host.stdout.take().expect("piped")));
    if !lines.any(|line| line.expect("its output").contains("listening")) {
        eprintln!("no namespaces here: skipped");
        let _ = host.wait();
        return;
    }
    let mut stream = connect(&address, &ConnectOptions::default()).expect("connect");
    stream.write_all(b"!").expect("write");
    stream.flush().expect("flush");
    let said = lines.find_map(|line| line.expect("its output").strip_prefix("peer ").map(str::to_owned));
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(said, Some(format!("a process of uid {uid}, gid {}", rustix::process::getegid().as_raw())));
    host.wait().expect("wait");
}

/// The other process of the test above.
#[test]
fn who_connects() {
    let Some(address) = role() else { return };
    let _watchdog = watchdog("the host in another namespace");
    let listener = listen(&address, &ListenOptions::default()).expect("listen");
    say("\nlistening");
    let mut stream = listener.accept().expect("accept");
    stream.read_exact(&mut [0]).expect("read");
    say(&format!("\npeer {}", stream.peer()));
}
