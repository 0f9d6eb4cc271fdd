//! A peer that speaks the rendezvous and then lies. Whatever it does, its victim has a typed error within a second, keeps
//! nothing open, and goes on to serve whoever behaves. Each side and each face is the victim in turn.
#![cfg(all(target_os = "linux", feature = "shm"))]

mod handshake;
mod peer;
mod ring;
#[path = "../support/mod.rs"]
mod support;
mod victim;

use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};

use genvm_transport::WaitStrategy;
use rustix::fs::{Mode, OFlags};
use support::{descriptors_and_mappings, watchdog};
use victim::{Victim, World, victims};

/// One test at a time: what is open is counted for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs `case` for each victim, in a world that has to be afterwards as it was before.
fn each_victim(what: &'static str, waits: &[WaitStrategy], case: impl Fn(&World, Victim)) {
    let _alone = alone();
    let _watchdog = watchdog(what);
    let world = World::new();
    for victim in victims(waits) {
        let before = descriptors_and_mappings();
        assert_eq!(before.1, 0, "{what}, {victim:?}: mappings");
        case(&world, victim);
        assert_eq!(descriptors_and_mappings(), before, "{what}, {victim:?}: descriptors and mappings");
        world.serves(victim);
    }
}

/// The same for each line of a table.
fn each_line<T>(what: &'static str, waits: &[WaitStrategy], table: &[T], case: impl Fn(&World, Victim, &T)) {
    each_victim(what, waits, |world, victim| {
        for line in table {
            let before = descriptors_and_mappings();
            case(world, victim, line);
            assert_eq!(descriptors_and_mappings(), before, "{victim:?}");
            world.serves(victim);
        }
    });
}

fn open(path: &str, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).expect(path)
}
