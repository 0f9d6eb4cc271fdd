//! A peer that agrees on shared memory and then rings without end, for nobody and nothing: as often as the socket takes it, or whenever a
//! sleeper has armed. The host's other connections are served as ever, and the storm costs it less than a core.
//!
//! Measured: a call of somebody else's. Seen: cores that the host used, for the storm and for these calls, and how often it was rung.

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::{ListenOptions, RingCapacity, listen};
use rustix::net::SendFlags;

use crate::FACES;
use crate::body::{End, Pattern};
use crate::descriptors::processor_time;
use crate::harness::{alone, amount, count};
use crate::hostile::{ARMED, BELL, Peer, START};
use crate::support::{Other, directory, other_process, say};
use crate::traffic::{CALL, Host, Kind, call, connected, face_of, hello, name_of, options};

const P99: Duration = Duration::from_millis(10);
/// No figure is named for it; beyond this it would be a hang.
const MAX: Duration = Duration::from_secs(1);

struct World {
    storm: Storm,
    end: End,
    bytes: usize,
    host: Other,
    begun: Instant,
    used: Duration,
}

#[test]
fn a_storm_of_doorbells() {
    let alone = alone();
    // A busy machine gives the host less than it would take, so a short run shows no more than that it is bounded.
    let allowed = amount(2, 1) as f64;
    for (face, how) in FACES.into_iter().flat_map(|face| [(face, How::Blind), (face, How::Armed)]) {
        let directory = directory();
        let address = format!("shm://{}/s", directory.path().display());
        let pattern = Pattern(9);
        let setup = || {
            let mut host = other_process("victim", &format!("small-host {address} {}", name_of(face)));
            host.wait_for("listening");
            let storm = Storm::start(&directory.path().join("s"), how);
            let mut end = connected(face, &address, &options(None)).expect("connect");
            hello(&mut end, Kind::Call, pattern).expect("hello");
            World { storm, end, bytes: 0, begun: Instant::now(), used: processor_time(&host), host }
        };
        let (cores, rings) = (Cell::new(0.0), Cell::new(0));
        let on = format!("shm,host,{},{}", name_of(face), how.name());
        let fault = alone.fault("storm", on).allowing(P99, MAX);
        fault.seeing(|| format!("cores:{:.2},rings:{}", cores.get(), rings.get())).run(
            count(100, 60_000), // a minute at least, by the pauses
            setup,
            |world, random| {
                random.pause(Duration::from_millis(2));
                let begun = Instant::now();
                call(&mut world.end, pattern, &mut world.bytes).expect("an answer");
                let took = begun.elapsed();
                if world.bytes.is_multiple_of(50 * CALL) {
                    let (all, used) = (world.begun.elapsed(), processor_time(&world.host) - world.used);
                    cores.set(used.as_secs_f64() / all.as_secs_f64());
                    rings.set(world.storm.rings.load(Ordering::Relaxed));
                    assert!(cores.get() < allowed, "the host has used {used:?} of {all:?}");
                    // It arms no more often than that, however fast the machine is: the sleeper rests in between. A ring may meet an
                    // arm that is taken back already, and another the same one again.
                    let arms = 2 * (300 + world.storm.begun.elapsed().as_millis() as u64 / 2);
                    assert!(matches!(how, How::Blind) || rings.get() < arms, "{} rings in {all:?}", rings.get());
                    assert!(!world.storm.thread.as_ref().expect("it runs").is_finished(), "the storm is over");
                }
                Some(took)
            },
        );
    }
}

/// `ADDRESS FACE`: with rings as small as the hostile peer expects.
pub fn host(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let mut options = ListenOptions::default();
    options.stream.ring_capacity = RingCapacity::MIN;
    let host = Host::on(listen(address, &options).expect("listen"), face_of(face));
    say("listening");
    host.serve_for_ever();
}

/// How a storm rings.
#[derive(Debug, Clone, Copy)]
enum How {
    /// As often as the socket takes it.
    Blind,
    /// Once an arm, at once: as often as a peer may that has something to say.
    Armed,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::Armed => "armed",
        }
    }
}

/// Rings until dropped.
struct Storm {
    begun: Instant,
    over: Arc<AtomicBool>,
    rings: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Storm {
    fn start(path: &Path, how: How) -> Self {
        let peer = Peer::agree(UnixStream::connect(path).expect("connect"), true, START);
        peer.socket.set_nonblocking(true).expect("non-blocking");
        let begun = Instant::now();
        let (over, rings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (until, count) = (over.clone(), rings.clone());
        let thread = thread::spawn(move || {
            let mut rung = 0;
            while !until.load(Ordering::Relaxed) {
                let bell = peer.theirs.load(BELL);
                if matches!(how, How::Blind) || bell & ARMED != 0 && bell != rung {
                    rung = bell;
                    let sent = rustix::net::send(&peer.socket, &[1], SendFlags::NOSIGNAL).is_ok();
                    count.fetch_add(sent.into(), Ordering::Relaxed);
                }
            }
        });
        Self { begun, over, rings, thread: Some(thread) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
