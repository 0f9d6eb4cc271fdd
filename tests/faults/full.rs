//! Both directions full at once, slow readers, the smallest rings: two processes exchange thousands of pieces, neither waits for
//! the other for ever, every byte arrives, and memory does not grow with what is on its way.
//!
//! Measured: one exchange.

use std::time::Instant;

use genvm_transport::{ListenOptions, RingCapacity, listen};

use crate::body::{Face, Pattern};
use crate::harness::{alone, count};
use crate::support::{directory, other_process, say};
use crate::traffic::{Host, Kind, connected, face_of, hello, name_of, options, pieces, visit};
use crate::{FACES, SCHEMES};

const GROWTH: usize = 2 << 20;

#[test]
fn both_directions_full() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || {
                let mut options = ListenOptions::default();
                options.stream.ring_capacity = RingCapacity::MIN;
                Host::on(listen(&address, &options).expect("listen"), face)
            };
            alone.fault("full", format!("{scheme},both,{}", name_of(face))).run(count(4, 50), setup, |host, random| {
                let pattern = Pattern(random.next());
                let begun = Instant::now();
                let role = format!("full {address} {} {}", name_of(random.pick(&FACES)), pattern.0);
                let mut client = other_process("victim", &role);
                let grown: usize = client.wait_for("done ").parse().expect("a number");
                let took = begun.elapsed();
                client.child.wait().expect("it ends");
                assert!(grown < GROWTH, "grew by {grown} bytes");
                let ended = host.settle(Face::Blocking);
                let [ended] = &ended[..] else { panic!("{ended:?}") };
                assert!(!ended.panicked && ended.end.is_ok(), "{ended:?}");
                assert_eq!(ended.bytes, pieces(pattern).sum::<usize>());
                Some(took)
            });
        }
    }
}

/// `ADDRESS FACE SEED`
pub fn client(with: &str) {
    let words: Vec<&str> = with.split(' ').collect();
    let &[address, face, seed] = &words[..] else { panic!("role: {with}") };
    let mut options = options(None);
    options.stream.ring_capacity = RingCapacity::MIN;
    let pattern = Pattern(seed.parse().expect("a seed"));
    let mut end = connected(face_of(face), address, &options).expect("connect");
    hello(&mut end, Kind::Both, pattern).expect("hello");
    let (before, mut bytes) = (resident("self"), 0);
    visit(&mut end, Kind::Both, pattern, &mut bytes, None).expect("an exchange");
    assert_eq!(bytes, pieces(pattern.reverse()).sum::<usize>());
    say(&format!("done {}", resident("self").saturating_sub(before)));
}

/// Bytes of memory that a process has for itself: not its files, and not what it shares.
pub fn resident(process: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("kilobytes") << 10
}
