//! Connections that come and go, and calls over each, for as long as one likes: neither process has more memory or descriptors at
//! the end than when it was warm.
//!
//! Measured: one connection with all its calls.

use std::time::Instant;

use genvm_transport::WaitStrategy;

use crate::body::Pattern;
use crate::full::resident;
use crate::harness::{alone, count};
use crate::support::{Other, directory, other_process};
use crate::traffic::{Kind, call, connected, hello, name_of, options};
use crate::{FACES, SCHEMES};

const GROWTH: usize = 1 << 20;
const CALLS: usize = 1000;

struct World {
    host: Other,
    connections: usize,
    warm: Option<[usize; 2]>,
}

impl World {
    fn memory(&self) -> [usize; 2] {
        [resident(&self.host.child.id().to_string()), resident("self")]
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.host.child.id())).expect("it lives").count()
    }
}

#[test]
fn connections_and_calls_without_end() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let trials = count(20, 50_000);
            let setup = || {
                let mut host = other_process("victim", &format!("wakeful {address} {} 1", name_of(face)));
                host.wait_for("listening");
                World { host, connections: 0, warm: None }
            };
            alone.fault("soak", format!("{scheme},both,{}", name_of(face))).run(trials, setup, |world, random| {
                let begun = Instant::now();
                let wait = Some(WaitStrategy::ADAPTIVE);
                let mut end = connected(random.pick(&FACES), &address, &options(wait)).expect("connect");
                let pattern = Pattern(random.next());
                hello(&mut end, Kind::Call, pattern).expect("hello");
                let mut bytes = 0;
                for _ in 0..CALLS {
                    call(&mut end, pattern, &mut bytes).expect("an answer");
                }
                drop(end);
                let took = begun.elapsed();
                world.connections += 1;
                // The first tenth warms up allocators and the runtime.
                if world.connections == trials.now.div_ceil(10) {
                    world.warm = Some(world.memory());
                }
                if world.connections == trials.now {
                    let (warm, now) = (world.warm.expect("warm by now"), world.memory());
                    let grew = |which: usize| now[which].saturating_sub(warm[which]);
                    assert!(grew(0) <= GROWTH && grew(1) <= GROWTH, "memory of host and client: {warm:?}, {now:?}");
                    assert!(world.descriptors() < 40, "the host has {} descriptors", world.descriptors());
                }
                Some(took)
            });
        }
    }
}
