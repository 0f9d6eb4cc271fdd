//! A peer that agrees on shared memory and then rings without end, for nobody and nothing. The host's other connections are served as
//! ever. The storm costs a blocking host the one thread that is rung, so a core at most; a tokio host of several threads pays with two, the
//! one that waits for sockets and the one that runs the task, and was seen to use 1.2 cores.
//!
//! Measured: a call of somebody else's.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::{ListenOptions, RingCapacity, listen};

use crate::FACES;
use crate::body::{End, Face, Pattern};
use crate::descriptors::processor_time;
use crate::harness::{alone, count};
use crate::hostile::{Peer, START};
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
    for face in FACES {
        let directory = directory();
        let address = format!("shm://{}/s", directory.path().display());
        let pattern = Pattern(9);
        let setup = || {
            let mut host = other_process("victim", &format!("small-host {address} {}", name_of(face)));
            host.wait_for("listening");
            let storm = Storm::start(&directory.path().join("s"));
            let mut end = connected(face, &address, &options(None)).expect("connect");
            hello(&mut end, Kind::Call, pattern).expect("hello");
            World { storm, end, bytes: 0, begun: Instant::now(), used: processor_time(&host), host }
        };
        let trials = count(200, 60_000);
        alone.fault("storm", format!("shm,host,{}", name_of(face))).allowing(P99, MAX).run(
            trials,
            setup,
            |world, random| {
                random.pause(Duration::from_millis(2));
                let begun = Instant::now();
                call(&mut world.end, pattern, &mut world.bytes).expect("an answer");
                let took = begun.elapsed();
                if world.bytes.is_multiple_of(100 * CALL) {
                    let (all, used) = (world.begun.elapsed(), processor_time(&world.host) - world.used);
                    assert!(used < all.mul_f64(cores(face)), "the host has used {used:?} of {all:?}");
                    assert!(!world.storm.thread.as_ref().expect("it runs").is_finished(), "the storm is over");
                }
                Some(took)
            },
        );
    }
}

/// How many cores the host may use: for the storm, and half a one at most for the calls that are measured and for counting in ticks.
fn cores(face: Face) -> f64 {
    match face {
        Face::Blocking => 1.5,
        Face::Async => 2.0,
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

/// Rings as often as the socket takes it, until dropped.
struct Storm {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Storm {
    fn start(path: &std::path::Path) -> Self {
        let peer = Peer::agree(UnixStream::connect(path).expect("connect"), true, START);
        peer.socket.set_nonblocking(true).expect("non-blocking");
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                let _ = (&peer.socket).write(&[1; 64]);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
