//! Clients that never finish what they began, and hosts that do not answer: a greeting that is cut off at every byte, by silence,
//! a half-closed or a closed socket; a greeting that comes byte by byte; a crowd that connects and says nothing. The host serves
//! whoever behaves meanwhile; the client gives up in time.
//!
//! Measured: the good client's connecting and first answer; and how long after its time a client gives up.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use genvm_transport::ConnectError;
use genvm_transport::error::UpgradeError;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{alone, amount, count};
use crate::support::{Other, directory, other_process};
use crate::traffic::{connected, good_client, name_of, options};
use crate::{FACES, SCHEMES};

const GREETING: usize = 96;
const SERVED: Duration = Duration::from_millis(100);

/// A greeting in which nothing is wrong but that no descriptor comes with it.
fn greeting() -> [u8; GREETING] {
    let mut bytes = [0; GREETING];
    bytes[..8].copy_from_slice(b"\xf5gvmshm\n");
    bytes[8] = 1;
    bytes[16..20].copy_from_slice(&4096u32.to_le_bytes());
    bytes[24..32].copy_from_slice(&77u64.to_le_bytes());
    bytes
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Silence,
    HalfClosed,
    Closed,
}

/// A client that says the first so many bytes.
fn cut_off(path: &str, at: usize, then: Then) -> Option<UnixStream> {
    let mut client = UnixStream::connect(path).expect("connect");
    client.write_all(&greeting()[..at]).expect("room for a greeting");
    match then {
        Then::Silence => {}
        Then::HalfClosed => client.shutdown(Shutdown::Write).expect("shutdown"),
        Then::Closed => return None,
    }
    Some(client)
}

/// A host in another process, and those who hang about at it.
struct Crowd {
    _host: Other,
    pending: Vec<UnixStream>,
    cut: usize,
}

#[test]
fn greetings_cut_off_at_every_byte() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let path = directory.path().join("s").display().to_string();
            let address = format!("{scheme}://{path}");
            let setup = || {
                let mut host = other_process("victim", &format!("host {address} {}", name_of(face)));
                host.wait_for("listening");
                Crowd { _host: host, pending: Vec::new(), cut: 0 }
            };
            alone.fault("half_open", format!("{scheme},host,{}", name_of(face))).allowing(SERVED, SERVED).run(
                count(GREETING + 1, 10 * (GREETING + 1)),
                setup,
                |crowd, random| {
                    let begun = Instant::now();
                    for then in [Then::Silence, Then::HalfClosed, Then::Closed] {
                        crowd.pending.extend(cut_off(&path, crowd.cut, then));
                    }
                    good_client(random.pick(&FACES), &address);
                    let took = begun.elapsed();
                    crowd.cut += 1;
                    if crowd.cut > GREETING {
                        (crowd.cut, crowd.pending) = (0, Vec::new());
                    }
                    Some(took)
                },
            );
        }
    }
}

#[test]
fn slow_greetings() {
    let alone = alone();
    for face in FACES {
        let directory = directory();
        let path = directory.path().join("s").display().to_string();
        let address = format!("shm://{path}");
        let setup = || {
            let mut host = other_process("victim", &format!("host {address} {}", name_of(face)));
            host.wait_for("listening");
            Crowd {
                _host: host,
                pending: (0..8).map(|_| UnixStream::connect(&path).expect("connect")).collect(),
                cut: 0,
            }
        };
        alone.fault("slow", format!("shm,host,{}", name_of(face))).allowing(SERVED, SERVED).run(
            count(GREETING - 1, 10 * (GREETING - 1)),
            setup,
            |crowd, random| {
                for client in &mut crowd.pending {
                    client.write_all(&greeting()[crowd.cut..][..1]).expect("room for a byte");
                }
                crowd.cut += 1;
                if crowd.cut == GREETING - 1 {
                    crowd.pending = (0..8).map(|_| UnixStream::connect(&path).expect("connect")).collect();
                    crowd.cut = 0;
                }
                let begun = Instant::now();
                good_client(random.pick(&FACES), &address);
                Some(begun.elapsed())
            },
        );
    }
}

#[test]
fn a_crowd_that_says_nothing() {
    let alone = alone();
    let before = getrlimit(Resource::Nofile);
    // For the host as well, which inherits it.
    setrlimit(Resource::Nofile, Rlimit { current: before.maximum, ..before }).expect("setrlimit");
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let path = directory.path().join("s").display().to_string();
            let address = format!("{scheme}://{path}");
            let setup = || {
                let mut host = other_process("victim", &format!("host {address} {}", name_of(face)));
                host.wait_for("listening");
                let pending: Vec<_> = (0..amount(100, 1000))
                    .map(|number| cut_off(&path, number % 3, Then::Silence).expect("it stays"))
                    .collect();
                // The first one finds the host at accepting all of them.
                good_client(face, &address);
                Crowd { _host: host, pending, cut: 0 }
            };
            alone.fault("pending", format!("{scheme},host,{}", name_of(face))).allowing(SERVED, SERVED).run(
                count(10, 1000),
                setup,
                |crowd, random| {
                    // Some go, others come.
                    for _ in 0..random.below(5) {
                        let place = random.below(crowd.pending.len() as u64) as usize;
                        crowd.pending[place] = cut_off(&path, 1, Then::Silence).expect("it stays");
                    }
                    let begun = Instant::now();
                    good_client(random.pick(&FACES), &address);
                    Some(begun.elapsed())
                },
            );
        }
    }
    setrlimit(Resource::Nofile, before).expect("setrlimit");
}

/// A host that answers so many bytes of a greeting and then nothing.
#[test]
fn answers_cut_off_at_every_byte() {
    let alone = alone();
    for face in FACES {
        let directory = directory();
        let path = directory.path().join("s");
        let address = format!("shm://{}", path.display());
        alone.fault("half_open", format!("shm,client,{}", name_of(face))).allowing(SERVED, SERVED).run(
            count(GREETING, 10 * GREETING),
            || {
                let _ = std::fs::remove_file(&path);
                (UnixListener::bind(&path).expect("bind"), 0)
            },
            |(host, cut), random| {
                let mut options = options(None);
                options.handshake_timeout = Duration::from_millis(5 + random.below(5));
                let timeout = options.handshake_timeout;
                let closes = random.below(2) == 0;
                let cut_at = *cut % GREETING;
                *cut += 1;
                std::thread::scope(|scope| {
                    let answering = scope.spawn(move || {
                        let (mut stream, _) = host.accept().expect("accept");
                        stream.read_exact(&mut [0; GREETING]).expect("a greeting");
                        let _ = stream.write_all(&greeting()[..cut_at]); // the client may have given up
                        if closes { None } else { Some(stream) }
                    });
                    let begun = Instant::now();
                    let error = connected(face, &address, &options).expect_err("no answer");
                    let took = begun.elapsed();
                    let _open_until_now = answering.join().expect("no panic");
                    let ConnectError::Upgrade { source, .. } = &error else { panic!("{error:?}") };
                    match source {
                        UpgradeError::Closed if closes => None,
                        UpgradeError::TimedOut(after) => {
                            assert_eq!(*after, timeout);
                            Some(took.checked_sub(timeout).expect("not before its time"))
                        }
                        other => panic!("{other:?}"),
                    }
                })
            },
        );
    }
}
