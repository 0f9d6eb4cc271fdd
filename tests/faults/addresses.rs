//! Hosts that want one address: a stale file is replaced, of two that start at once exactly one wins, and a third does not steal
//! the address from it.
//!
//! Measured: the loser's and the winner's `listen`, both.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use genvm_transport::{ListenError, ListenOptions, listen};

use crate::SCHEMES;
use crate::body::Face;
use crate::harness::{alone, count};
use crate::support::{directory, other_process, say};
use crate::traffic::{Host, good_client, orders, tell};

#[test]
fn two_hosts_race_for_one_address() {
    let alone = alone();
    for scheme in SCHEMES {
        let directory = directory();
        let path = directory.path().join("s");
        let address = format!("{scheme}://{}", path.display());
        alone.fault("race", format!("{scheme},host,blocking")).run(
            count(50, 1000),
            || [(); 2].map(|()| other_process("victim", &format!("racer {address}"))),
            |racers, random| {
                let is_stale = random.below(2) == 0;
                if is_stale {
                    drop(UnixListener::bind(&path).expect("bind")); // its file stays
                }
                let first = random.below(2) as usize;
                let begun = Instant::now();
                tell(&mut racers[first], "listen");
                tell(&mut racers[1 - first], "listen");
                let mut results: Vec<_> = racers.iter_mut().map(|racer| racer.wait_for("result: ")).collect();
                let took = begun.elapsed();
                let inode = std::fs::metadata(&path).expect("the winner's file").ino();
                let third = listen(&address, &ListenOptions::default());
                assert!(matches!(third, Err(ListenError::InUse { .. })), "{third:?}");
                assert_eq!(std::fs::metadata(&path).expect("the winner's file").ino(), inode);
                good_client(Face::Blocking, &address);
                for racer in racers.iter_mut() {
                    tell(racer, "leave");
                    racer.wait_for("left");
                }
                results.sort();
                assert_eq!(results, ["in use", "won"], "stale: {is_stale}");
                assert!(!path.exists(), "the winner's file is left");
                Some(took)
            },
        );
        let left: Vec<_> = std::fs::read_dir(directory.path()).expect("the directory").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// `ADDRESS`: listens and leaves when told.
pub fn racer(address: &str) {
    let mut host = None;
    for order in orders() {
        match order.as_str() {
            "listen" => match listen(address, &ListenOptions::default()) {
                Ok(listener) => {
                    host = Some(Host::on(listener, Face::Blocking));
                    say("result: won");
                }
                Err(ListenError::InUse { .. }) => say("result: in use"),
                Err(error) => say(&format!("result: {error}")),
            },
            _ => {
                drop(host.take());
                say("left");
            }
        }
    }
}
