//! Lost wake-ups: calls between two processes that both pause at random, mostly about as long as an end polls before it sleeps. A
//! wake-up that is lost is a call without an answer, because nothing here has a timeout; the watchdog sees it.
//!
//! Measured: the longest call of each batch, the host's pauses included.

use std::time::{Duration, Instant};

use genvm_transport::{ListenOptions, listen};

use crate::body::{End, Pattern};
use crate::harness::{alone, count};
use crate::support::{directory, other_process, say};
use crate::traffic::{Host, Kind, WAITS, call, connected, face_of, hello, name_of, options};
use crate::{FACES, SCHEMES};

const BATCH: usize = 1000;

#[test]
fn no_wake_up_is_lost() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            // Every way to wait at one end with every way that sleeps at the other.
            let setup = || {
                let hosts: Vec<_> = (0..2)
                    .map(|wait| {
                        let address = format!("{scheme}://{}/{wait}", directory.path().display());
                        let role = format!("wakeful {address} {} {wait}", name_of(face));
                        let mut host = other_process("victim", &role);
                        host.wait_for("listening");
                        (host, address)
                    })
                    .collect();
                let mut ends: Vec<(End, Pattern, usize)> = Vec::new();
                for (_, address) in &hosts {
                    for wait in WAITS {
                        let pattern = Pattern(ends.len() as u64);
                        let mut end = connected(face, address, &options(Some(wait))).expect("connect");
                        hello(&mut end, Kind::Paced, pattern).expect("hello");
                        ends.push((end, pattern, 0));
                    }
                }
                (ends, hosts)
            };
            alone.fault("wakeups", format!("{scheme},both,{}", name_of(face))).run(
                count(3, 25_000),
                setup,
                |(ends, _), random| {
                    let place = random.below(ends.len() as u64) as usize;
                    let (end, pattern, bytes) = &mut ends[place];
                    let mut longest = Duration::ZERO;
                    for _ in 0..BATCH {
                        random.any_pace();
                        let begun = Instant::now();
                        call(end, *pattern, bytes).expect("an answer");
                        longest = longest.max(begun.elapsed());
                    }
                    Some(longest)
                },
            );
        }
    }
}

/// `ADDRESS FACE WAIT`
pub fn host(with: &str) {
    let words: Vec<&str> = with.split(' ').collect();
    let &[address, face, wait] = &words[..] else { panic!("role: {with}") };
    let options = ListenOptions::default().with_wait(WAITS[wait.parse::<usize>().expect("a strategy")]);
    let host = Host::on(listen(address, &options).expect("listen"), face_of(face));
    say("listening");
    host.serve_for_ever();
}
