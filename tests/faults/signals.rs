//! A storm of signals at every thread, each of which cuts a system call short, while both ends of a connection exchange pieces
//! down to a byte with timeouts and dropped futures all along: no byte is lost or repeated, and nobody sees `Interrupted`.
//!
//! Measured: one connection.
#![allow(unsafe_code, reason = "signals at a thread have no safe wrapper")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::body::{Face, Pattern};
use crate::harness::{Random, alone, amount, count};
use crate::support::{directory, thread_id};
use crate::traffic::{Host, Kind, call, connected, hello, name_of, options, pieces, visit};
use crate::{FACES, SCHEMES};

#[test]
fn a_storm_of_signals() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || (Host::start(&address, face), Storm::start());
            alone.fault("signals", format!("{scheme},both,{}", name_of(face))).run(
                count(4, 50),
                setup,
                |(host, storm), random| {
                    let (begun, before) = (Instant::now(), storm.count());
                    // Once more if the storm was late.
                    while storm.count() == before {
                        let client = random.pick(&FACES);
                        calls(&address, client, random);
                        exchange(&address, client, random);
                    }
                    for ended in host.settle(Face::Blocking) {
                        assert!(!ended.panicked && ended.end.is_ok(), "{ended:?}");
                    }
                    Some(begun.elapsed())
                },
            );
        }
    }
}

/// Calls without a timeout, and longer pauses than ends poll: both ends sleep in the kernel.
fn calls(address: &str, face: Face, random: &mut Random) {
    let mut end = connected(face, address, &options(None)).expect("connect");
    let pattern = Pattern(random.next());
    hello(&mut end, Kind::Call, pattern).expect("hello");
    let mut bytes = 0;
    for _ in 0..amount(100, 10_000) {
        random.any_pace();
        call(&mut end, pattern, &mut bytes).expect("an answer");
    }
}

fn exchange(address: &str, face: Face, random: &mut Random) {
    let mut end = connected(face, address, &options(None)).expect("connect");
    let (pattern, mut bytes) = (Pattern(random.next()), 0);
    hello(&mut end, Kind::Both, pattern).expect("hello");
    visit(&mut end, Kind::Both, pattern, &mut bytes, None).expect("an exchange");
    assert_eq!(bytes, pieces(pattern.reverse()).sum::<usize>());
}

/// Signals at every thread but its own, until dropped.
struct Storm {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Storm {
    fn start() -> Self {
        extern "C" fn nothing(_: libc::c_int) {}
        // SAFETY: a zeroed `sigaction` is valid: no flags (in particular no SA_RESTART) and an empty mask. The handler does
        // nothing, which is async-signal-safe.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as libc::sighandler_t;
            assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        }
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, counted) = (over.clone(), sent.clone());
        let thread = thread::spawn(move || {
            let (us, mut random) = (thread_id(), Random(1));
            while !until.load(Ordering::Relaxed) {
                for task in std::fs::read_dir("/proc/self/task").expect("our threads").flatten() {
                    let tid: i32 = task.file_name().to_string_lossy().parse().expect("a number");
                    if tid != us {
                        // SAFETY: the handler is installed; a thread that has ended meanwhile is ESRCH.
                        let sent = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, libc::SIGUSR1) };
                        counted.fetch_add(usize::from(sent == 0), Ordering::Relaxed);
                    }
                }
                random.pause(Duration::from_micros(300));
            }
        });
        Self { over, sent, thread: Some(thread) }
    }

    fn count(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}
