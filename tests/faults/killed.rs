//! A peer that is killed with SIGKILL at a random moment: while it calls, writes, reads, refuses to read, waits, or is about to
//! connect. The survivor has an error or an end; only whole bytes that the victim published reach it, and all that it had
//! flushed do; the host serves the next client, the next host replaces the file.
//!
//! Measured: from the kill to the survivor's error. Seen: how long at most the kernel took to end the victim, and how long after that a
//! survivor had not noticed; only the second is ours, and a machine that is busy with other things makes the first long.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::ConnectError;
use genvm_transport::error::UpgradeError;

use crate::body::{Face, Pattern};
use crate::harness::{Random, alone, count};
use crate::support::{directory, other_process};
use crate::traffic::{CALL, Ended, Host, Kind, WAITS, connected, entered, hello, is_an_end, name_of, options, visit};
use crate::{FACES, SCHEMES};

pub const P99: Duration = Duration::from_millis(10);
pub const MAX: Duration = Duration::from_millis(100);
/// The victim is killed within that time of its start to work; a wake-up, a scheduler slice and a thousand calls fit in.
const LIFE: Duration = Duration::from_millis(3);
/// Connecting and the upgrade take less.
const CONNECTING: Duration = Duration::from_micros(400);

/// The longest of each, over all trials.
#[derive(Default)]
struct Deaths {
    dying: Cell<Duration>,
    unnoticed: Cell<Duration>,
}

impl Deaths {
    /// Somebody was killed, had ended, and was missed; returns how long the survivor's error took.
    fn enter(&self, killed: Instant, dead: Instant, noticed: Instant) -> Duration {
        self.dying.set(self.dying.get().max(dead - killed));
        self.unnoticed.set(self.unnoticed.get().max(noticed.saturating_duration_since(dead)));
        noticed.saturating_duration_since(killed)
    }

    fn seen(&self) -> String {
        format!("dying_us:{},unnoticed_us:{}", self.dying.get().as_micros(), self.unnoticed.get().as_micros())
    }
}

#[test]
fn clients_killed_at_a_random_moment() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let (path, ledger) = (directory.path().join("s"), directory.path().join("ledger"));
            let address = format!("{scheme}://{}", path.display());
            let deaths = Deaths::default();
            let fault = alone.fault("killed", format!("{scheme},client,{}", name_of(face))).allowing(P99, MAX);
            fault.seeing(|| deaths.seen()).run(
                count(14, 5_000),
                || Host::start(&address, face),
                |host, random| {
                    let kind = random.pick(&[Kind::Call, Kind::Up, Kind::Down, Kind::DownDeaf, Kind::Idle]);
                    let (face, wait) = (random.pick(&FACES), random.below(WAITS.len() as u64));
                    let _ = std::fs::remove_file(&ledger);
                    let role = format!(
                        "visit {address} {} {} {} {wait} {}",
                        name_of(face),
                        kind as u8 as char,
                        random.next(),
                        ledger.display()
                    );
                    let mut victim = other_process("victim", &role);
                    // One in four is killed before it has connected, most of these in the middle of it.
                    let early = random.below(4) == 0;
                    victim.wait_for(if early { "ready" } else { "connected" });
                    random.pause(if early { CONNECTING } else { LIFE });
                    let killed = Instant::now();
                    victim.kill();
                    let dead = Instant::now();
                    let ended = host.settle(face);
                    assert!(ended.len() == 1 || early && ended.is_empty(), "{ended:?}");
                    let ended = ended.first()?;
                    check(ended, kind, early, entered(&ledger));
                    Some(deaths.enter(killed, dead, ended.at))
                },
            );
            let _ = std::fs::remove_file(&ledger);
            assert_eq!(std::fs::read_dir(directory.path()).expect("the directory").count(), 0, "a file is left");
        }
    }
}

fn check(ended: &Ended, kind: Kind, early: bool, flushed: usize) {
    let Ended { kind: seen, bytes, end, panicked, .. } = ended;
    let in_the_handshake = early && end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionAborted);
    assert!(!panicked && (is_an_end(end) || in_the_handshake), "{ended:?}");
    assert!(*seen == Some(kind) || early && seen.is_none(), "{ended:?}");
    match kind {
        Kind::Call => assert_eq!(bytes % CALL, 0, "a part of a call"),
        Kind::Up => assert!(*bytes >= flushed, "{bytes} of {flushed} bytes that were flushed"),
        _ => {}
    }
}

#[test]
fn hosts_killed_at_a_random_moment() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let path = directory.path().join("s");
            let address = format!("{scheme}://{}", path.display());
            let deaths = Deaths::default();
            let fault = alone.fault("killed", format!("{scheme},host,{}", name_of(face))).allowing(P99, MAX);
            let was_run = fault.seeing(|| deaths.seen()).run(
                count(14, 5_000),
                || (),
                |(), random| Some(host_killed(&address, face, random, &deaths)),
            );
            // The last one killed left its file. The next start replaces it, and removes its own.
            assert_eq!(std::fs::symlink_metadata(&path).is_ok(), was_run);
            drop(Host::start(&address, face));
            assert_eq!(std::fs::read_dir(directory.path()).expect("the directory").count(), 0, "a file is left");
        }
    }
}

fn host_killed(address: &str, face: Face, random: &mut Random, deaths: &Deaths) -> Duration {
    let mut victim = other_process("victim", &format!("host {address} {}", name_of(random.pick(&FACES))));
    victim.wait_for("listening"); // over the file of the one before it
    let kind = random.pick(&[Kind::Call, Kind::Up, Kind::UpDeaf, Kind::Down, Kind::Idle, Kind::Good]);
    let pattern = Pattern(random.next());
    let options = options(Some(random.pick(&WAITS)));
    thread::scope(|scope| {
        let survivor = if kind == Kind::Good {
            // Connects over and over, so that most are killed in the middle of it.
            scope.spawn(|| {
                loop {
                    match connected(face, address, &options) {
                        Ok(mut end) => {
                            let end = hello(&mut end, kind, pattern)
                                .and_then(|()| visit(&mut end, kind, pattern, &mut 0, None));
                            if end.is_err() {
                                assert!(is_an_end(&end), "{end:?}");
                                return Instant::now();
                            }
                        }
                        Err(error) => {
                            let at = Instant::now();
                            assert!(is_nobody_there(&error), "{error:?}");
                            return at;
                        }
                    }
                }
            })
        } else {
            let mut end = connected(face, address, &options).expect("connect");
            hello(&mut end, kind, pattern).expect("hello");
            scope.spawn(move || {
                let (mut end, mut bytes) = (end, 0);
                let ended = visit(&mut end, kind, pattern, &mut bytes, None);
                let at = Instant::now();
                assert!(is_an_end(&ended), "{ended:?}");
                at
            })
        };
        random.pause(LIFE);
        let killed = Instant::now();
        victim.kill();
        let dead = Instant::now();
        let noticed = survivor.join().expect("the survivor saw what nobody wrote, or another error");
        deaths.enter(killed, dead, noticed)
    })
}

/// Whether connecting may end like this when nobody listens any more, or somebody dies while it goes on.
pub fn is_nobody_there(error: &ConnectError) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset};
    match error {
        ConnectError::Io { source, .. } => {
            matches!(source.kind(), ConnectionRefused | ConnectionReset | BrokenPipe)
        }
        ConnectError::Upgrade { source, .. } => matches!(source, UpgradeError::Closed),
        _ => false,
    }
}
