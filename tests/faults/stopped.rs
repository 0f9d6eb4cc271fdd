//! A peer that is stopped (SIGSTOP) and continued is not dead: whoever waits for it has a timeout and no error, and goes on where
//! it was when the peer does.
//!
//! Measured: how long after its time the timeout fires.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use genvm_transport::{ListenOptions, listen};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::body::{End, Pattern};
use crate::harness::{Random, alone, count};
use crate::support::{Other, directory, other_process};
use crate::traffic::{CALL, Kind, accepted, call, connected, hello, name_of, options};
use crate::{FACES, SCHEMES};

const LATE: Duration = Duration::from_millis(20);

struct Stopped<'a>(&'a Other);

impl<'a> Stopped<'a> {
    /// Stops it, and waits until the kernel says that it is.
    fn new(process: &'a Other) -> Self {
        kill_process(pid(process), Signal::STOP).expect("stop");
        let (_, status) = waitpid(Some(pid(process)), WaitOptions::UNTRACED).expect("wait").expect("it changed");
        assert!(status.stopped(), "{status:?}");
        Self(process)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        kill_process(pid(self.0), Signal::CONT).expect("continue");
    }
}

fn pid(process: &Other) -> Pid {
    Pid::from_child(&process.child)
}

fn timeout(random: &mut Random) -> Duration {
    Duration::from_micros(1000 + random.below(9000))
}

/// A client of a host in another process.
struct Client {
    host: Other,
    calling: (End, Pattern, usize),
    writing: (End, Pattern, usize),
}

#[test]
fn a_stopped_host_is_not_dead() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || {
                let mut host = other_process("victim", &format!("host {address} {}", name_of(face)));
                host.wait_for("listening");
                let start = |kind, pattern| {
                    let mut end = connected(face, &address, &options(None)).expect("connect");
                    hello(&mut end, kind, pattern).expect("hello");
                    (end, pattern, 0)
                };
                Client { calling: start(Kind::Call, Pattern(3)), writing: start(Kind::Up, Pattern(4)), host }
            };
            alone.fault("stopped", format!("{scheme},host,{}", name_of(face))).allowing(LATE, LATE).run(
                count(12, 1000),
                setup,
                |client, random| Some(if random.below(2) == 0 { read(client, random) } else { write(client, random) }),
            );
        }
    }
}

fn read(client: &mut Client, random: &mut Random) -> Duration {
    let (end, pattern, at) = &mut client.calling;
    for _ in 0..random.below(20) {
        call(end, *pattern, at).expect("an answer");
    }
    let mut answer = [0; CALL];
    let late = {
        let _stopped = Stopped::new(&client.host);
        let timeout = timeout(random);
        end.write_all(&pattern.bytes(*at, CALL)).expect("room");
        let begun = Instant::now();
        let error = end.read_within(timeout, &mut answer).expect_err("it is stopped");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        begun.elapsed().checked_sub(timeout).expect("not before its time")
    };
    end.read_exact(&mut answer).expect("the answer");
    pattern.check(*at, &answer);
    *at += CALL;
    call(end, *pattern, at).expect("another answer");
    late
}

fn write(client: &mut Client, random: &mut Random) -> Duration {
    let (end, pattern, at) = &mut client.writing;
    let late = {
        let _stopped = Stopped::new(&client.host);
        let timeout = timeout(random);
        loop {
            let piece = pattern.bytes(*at, 5000);
            let begun = Instant::now();
            match end.write_within(timeout, &piece) {
                Ok(n) => *at += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    break begun.elapsed().checked_sub(timeout).expect("not before its time");
                }
            }
        }
    };
    // More than fits in between, and the host checks every byte of it.
    let piece = pattern.bytes(*at, 500_000);
    end.write_all(&piece).and_then(|()| end.flush()).expect("it goes on");
    *at += piece.len();
    late
}

/// A host's connection with a client in another process.
struct Served {
    end: End,
    pattern: Pattern,
    at: usize,
}

impl Served {
    /// Answers what comes within that time.
    fn answer(&mut self, limit: Duration) -> Result<(), ErrorKind> {
        let mut buffer = [0; CALL];
        match self.end.read_within(limit, &mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof),
            Ok(n) => {
                self.pattern.check(self.at, &buffer[..n]);
                self.at += n;
                self.end.write_all(&buffer[..n]).and_then(|()| self.end.flush()).map_err(|error| error.kind())
            }
            Err(error) => Err(error.kind()),
        }
    }
}

#[test]
fn a_stopped_client_is_not_dead() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || {
                let listener = listen(&address, &ListenOptions::default()).expect("listen");
                let ledger = directory.path().join("ledger");
                let role = format!("visit {address} {} c 5 1 {}", name_of(face), ledger.display());
                let mut client = other_process("victim", &role);
                let mut end = accepted(face, &*listener).expect("accept");
                end.read_exact(&mut [0; 9]).expect("hello");
                client.wait_for("connected");
                (client, Served { end, pattern: Pattern(5), at: 0 })
            };
            alone.fault("stopped", format!("{scheme},client,{}", name_of(face))).allowing(LATE, LATE).run(
                count(12, 1000),
                setup,
                |(client, served), random| {
                    for _ in 0..1 + random.below(20) {
                        served.answer(PATIENCE).expect("a call");
                    }
                    let late = {
                        let _stopped = Stopped::new(client);
                        let timeout = timeout(random);
                        loop {
                            let begun = Instant::now();
                            match served.answer(timeout) {
                                Ok(()) => {} // it had called before
                                Err(kind) => {
                                    assert_eq!(kind, ErrorKind::TimedOut);
                                    break begun.elapsed().checked_sub(timeout).expect("not before its time");
                                }
                            }
                        }
                    };
                    served.answer(PATIENCE).expect("it calls again");
                    Some(late)
                },
            );
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(50);
