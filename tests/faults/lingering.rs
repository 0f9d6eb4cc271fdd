//! Peers that die slowly or leave somebody behind: one with much memory to give back, one whose forked child keeps the socket
//! open. Over shared memory the second is noticed all the same, because the process itself is watched; over a plain socket it is
//! not, which is what a socket that somebody holds open means.
//!
//! Measured: from the kill to the survivor's error.
#![allow(unsafe_code, reason = "forks without exec, as some hosts do")]

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::body::{Face, Pattern};
use crate::harness::{Trials, alone, amount, count};
use crate::support::{directory, other_process, say};
use crate::traffic::{Host, Kind, WAITS, connected, face_of, hello, is_an_end, name_of, options, visit};
use crate::{FACES, SCHEMES};

const LATE: Duration = Duration::from_millis(150);
const RESIDENT: usize = 512 << 20;

#[test]
fn killed_with_much_memory() {
    for scheme in SCHEMES {
        // Half a gigabyte takes its time: one face will do unless it is a full run.
        let faces = &FACES[..amount(1, 2)];
        client_killed("killed_resident", "resident", (scheme, faces), count(1, 50));
        host_killed("killed_resident", "resident-host", (scheme, faces), count(1, 50));
    }
}

#[test]
fn killed_with_a_child_that_holds_the_socket() {
    client_killed("killed_forked", "fork", ("shm", &FACES), count(6, 500));
    host_killed("killed_forked", "fork-host", ("shm", &FACES), count(6, 500));
}

fn client_killed(name: &'static str, role: &str, (scheme, faces): (&str, &[Face]), trials: Trials) {
    let alone = alone();
    for &face in faces {
        let directory = directory();
        let ledger = directory.path().join("ledger");
        let address = format!("{scheme}://{}/s", directory.path().display());
        alone.fault(name, format!("{scheme},client,{}", name_of(face))).allowing(LATE, LATE).run(
            trials,
            || Host::start(&address, face),
            |host, random| {
                let kind = random.pick(&[Kind::Call, Kind::Up, Kind::DownDeaf, Kind::Idle]);
                let role = format!(
                    "{role} {address} {} {} {} {} {}",
                    name_of(random.pick(&FACES)),
                    kind as u8 as char,
                    random.next(),
                    random.below(WAITS.len() as u64),
                    ledger.display()
                );
                let mut victim = other_process("victim", &role);
                let child = role.starts_with("fork").then(|| Child(victim.wait_for("child ")));
                victim.wait_for("connected");
                random.pause(PAUSE);
                let killed = Instant::now();
                victim.child.kill().expect("kill");
                let ended = host.settle(face);
                drop(child); // only now: the error did not wait for it
                let [ended] = &ended[..] else { panic!("{ended:?}") };
                assert!(!ended.panicked && is_an_end(&ended.end), "{ended:?}");
                Some(ended.at.saturating_duration_since(killed))
            },
        );
    }
}

fn host_killed(name: &'static str, role: &str, (scheme, faces): (&str, &[Face]), trials: Trials) {
    let alone = alone();
    for &face in faces {
        let directory = directory();
        // Never the same: a child that holds the listening socket holds the address.
        let setup = || 0;
        alone.fault(name, format!("{scheme},host,{}", name_of(face))).allowing(LATE, LATE).run(
            trials,
            setup,
            |number, random| {
                *number += 1;
                let address = format!("{scheme}://{}/{number}", directory.path().display());
                let mut victim = other_process("victim", &format!("{role} {address} {}", name_of(random.pick(&FACES))));
                victim.wait_for("listening");
                let kind = random.pick(&[Kind::Call, Kind::Up, Kind::UpDeaf, Kind::Down, Kind::Idle]);
                let (pattern, options) = (Pattern(random.next()), options(Some(random.pick(&WAITS))));
                let mut end = connected(face, &address, &options).expect("connect");
                hello(&mut end, kind, pattern).expect("hello");
                let child = role.starts_with("fork").then(|| Child(victim.wait_for("child ")));
                let survivor = thread::spawn(move || {
                    let ended = visit(&mut end, kind, pattern, &mut 0, None);
                    let at = Instant::now();
                    assert!(is_an_end(&ended), "{ended:?}");
                    at
                });
                random.pause(PAUSE);
                let killed = Instant::now();
                victim.child.kill().expect("kill");
                let ended = survivor.join().expect("an end");
                drop(child);
                Some(ended.saturating_duration_since(killed))
            },
        );
    }
}

/// Somebody's child, whom nobody waits for.
struct Child(String);

impl Drop for Child {
    fn drop(&mut self) {
        let pid = self.0.parse().ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::KILL).expect("it lives");
    }
}

/// A child that does nothing, with a copy of every descriptor. Ends after two minutes if nobody ends it.
pub fn leave_a_child() {
    // SAFETY: the child calls nothing but `alarm` and `pause`, which are async-signal-safe.
    let child = unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(120);
            loop {
                libc::pause();
            }
        }
        child
    };
    assert!(child > 0, "fork");
    say(&format!("child {child}"));
}

/// A host that leaves a child once it has a client.
pub fn host(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let host = Host::start(address, face_of(face));
    say("listening");
    host.wait_for_a_client();
    leave_a_child();
    host.serve_for_ever();
}

pub fn take_memory() {
    std::mem::forget(std::hint::black_box(vec![1u8; RESIDENT]));
}

pub fn resident_host(with: &str) {
    take_memory();
    crate::traffic::host(with);
}

const PAUSE: Duration = Duration::from_millis(2);
