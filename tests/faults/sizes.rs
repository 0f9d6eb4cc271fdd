//! Writes of every size from nothing to three times the ring, in any order, so that each begins anywhere in it: the other end reads these
//! bytes and no others. The smallest rings, so that every large write goes round. A short run takes one size in sixteen.
//!
//! Measured: all sizes once.

use std::io::Write;
use std::time::Instant;

use genvm_transport::{ListenOptions, RingCapacity, listen};

use crate::body::Pattern;
use crate::harness::{alone, amount, count};
use crate::support::directory;
use crate::traffic::{Host, Kind, connected, hello, name_of, options};
use crate::{FACES, SCHEMES};

#[test]
fn every_size() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let most = 3 * RingCapacity::MIN.bytes() as usize;
            let setup = || {
                let mut options = ListenOptions::default();
                options.stream.ring_capacity = RingCapacity::MIN;
                Host::on(listen(&address, &options).expect("listen"), face)
            };
            // A full run is ten million writes.
            alone.fault("sizes", format!("{scheme},both,{}", name_of(face))).run(
                count(1, 204),
                setup,
                |host, random| {
                    let mut sizes: Vec<usize> = (0..=most).step_by(amount(16, 1)).collect();
                    for place in (1..sizes.len()).rev() {
                        sizes.swap(place, random.below(place as u64 + 1) as usize);
                    }
                    let (pattern, mut options) = (Pattern(random.next()), options(None));
                    options.stream.ring_capacity = RingCapacity::MIN;
                    let begun = Instant::now();
                    let mut end = connected(random.pick(&FACES), &address, &options).expect("connect");
                    hello(&mut end, Kind::Up, pattern).expect("hello");
                    let mut written = 0;
                    for size in sizes {
                        end.write_all(&pattern.bytes(written, size)).and_then(|()| end.flush()).expect("room");
                        written += size;
                    }
                    drop(end);
                    let took = begun.elapsed();
                    let ended = host.settle(face);
                    let [ended] = &ended[..] else { panic!("{ended:?}") };
                    assert!(!ended.panicked && ended.end.is_ok(), "{ended:?}");
                    assert_eq!(ended.bytes, written);
                    Some(took)
                },
            );
        }
    }
}
