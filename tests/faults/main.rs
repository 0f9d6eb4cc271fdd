//! The fault catalogue: what happens to one end of a connection when the other is killed, stopped, starved or slow, and to a
//! host when its clients are. Real processes, both transports, both faces, either side as the victim.
//!
//! Each fault prints one line of figures (`harness` says which). What it does **not** do: compare with limits of time unless it
//! is a full run, because a busy machine is no fault of ours. `GENVM_FAULTS` says how often: `short` (the default: a minute for
//! all of it), `full`, a part of that such as `full/4`, or a number of trials for everything. `GENVM_FAULTS_SEED` repeats a run,
//! `GENVM_FAULTS_ROW=storm@shm,host,async` runs that row alone, `GENVM_FAULTS_LIST=1` only names them.
#![cfg(all(target_os = "linux", feature = "uds", feature = "shm"))]

mod addresses;
#[path = "../conformance/body.rs"]
#[allow(unused_imports, unused_macros, reason = "its suite is run elsewhere")]
mod body;
mod descriptors;
mod full;
mod handshakes;
mod harness;
#[path = "../hostile_peer/peer.rs"]
#[allow(dead_code, reason = "its lies are told elsewhere")]
mod hostile;
#[cfg(target_arch = "x86_64")]
mod instructions;
mod killed;
mod lingering;
mod memory;
mod panics;
#[path = "../protocol_support/mod.rs"]
mod protocol_support;
mod signals;
mod sizes;
mod soak;
mod steps;
mod stopped;
mod storm;
#[cfg(target_arch = "x86_64")]
mod tracer;
mod traffic;
mod wakeups;

use body::{Face, support};

/// The schemes that are put through everything.
const SCHEMES: [&str; 2] = ["unix", "shm"];
const FACES: [Face; 2] = [Face::Blocking, Face::Async];

/// The other process of every test. `ROLE` is what it does, and what with; it ends by being killed, or with its parent.
#[test]
fn victim() {
    let Some(role) = support::role() else { return };
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let (what, with) = role.split_once(' ').expect("a role and its arguments");
    match what {
        "visit" => traffic::visitor(with, |_| {}),
        "fork" => traffic::visitor(with, |_| lingering::leave_a_child()),
        "fork-host" => lingering::host(with),
        "resident" => traffic::visitor(with, |_| lingering::take_memory()),
        "resident-host" => lingering::resident_host(with),
        "host" => traffic::host(with),
        "limited" => descriptors::limited_host(with),
        "racer" => addresses::racer(with),
        "full" => full::client(with),
        "wakeful" => wakeups::host(with),
        "small-host" => storm::host(with),
        #[cfg(target_arch = "x86_64")]
        "instruction" => instructions::client(with),
        #[cfg(target_arch = "x86_64")]
        "instruction-host" => instructions::host(with),
        "step" => steps::client(with),
        "step-host" => steps::host(with),
        "no-room" => memory::no_room(with),
        "limits" => memory::limits(with),
        other => panic!("no role {other}"),
    }
}
