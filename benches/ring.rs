//! Streams without the protocol. `ping`: so many bytes there and back between two processes. `one_thread`: written at one end and read
//! at the other by the same thread, so that nobody waits: what the instructions cost. `two_threads`: all one way, a core each.
//! `cargo bench --features lab --bench ring -- ping/shm`

mod support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use genvm_transport::lab::bench::{pin_genvm, pin_host};
use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, connect, listen};

type Stream = Box<dyn BlockingStream>;

const SCHEMES: [&str; 3] = ["unix", "shm", "shm-named"];

fn ping(criterion: &mut Criterion) {
    for transport in ["uds", "shm", "shm-named"] {
        for wait in ["adaptive", "spin"] {
            let mut group = support::group(criterion, format!("ring/ping/{transport}/{wait}"));
            for size in [32_u32, 4096] {
                group.throughput(Throughput::Bytes(size.into()));
                let case = support::case(transport, wait, &format!("ping:{size}"));
                support::measure(&mut group, BenchmarkId::from_parameter(size), &case);
            }
            group.finish();
        }
    }
}

/// Both ends of a connection within this process, over which the right bytes have come.
fn ends(scheme: &str) -> (Stream, Stream) {
    let directory = tempfile::tempdir().expect("a directory");
    let address = format!("{scheme}://{}/ring.sock", directory.path().display());
    let listener = listen(&address, &ListenOptions::default()).expect("listen");
    let mut options = ConnectOptions::default();
    options.upgrades = false; // a socket stays one
    let sent: Vec<u8> = (0..4096).map(|at| (at % 251) as u8).collect();
    thread::scope(|scope| {
        // The first read makes a client known for what it is.
        let accepting = scope.spawn(|| {
            let (mut far, mut got) = (listener.accept().expect("accept"), vec![0; sent.len()]);
            far.read_exact(&mut got).expect("read");
            assert_eq!(got, sent);
            far
        });
        let mut near = connect(&address, &options).expect("connect");
        near.write_all(&sent).expect("write");
        near.flush().expect("flush");
        assert_eq!(near.kind().to_string(), scheme);
        (near, accepting.join().expect("the right bytes"))
    })
}

fn one_thread(criterion: &mut Criterion) {
    for scheme in SCHEMES {
        let mut group = support::group(criterion, format!("ring/one_thread/{scheme}"));
        for size in [32, 4096] {
            group.throughput(Throughput::Bytes(size as u64));
            let (mut near, mut far) = ends(scheme);
            let (out, mut back) = (vec![7; size], vec![0; size]);
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| {
                    near.write_all(&out).expect("write");
                    near.flush().expect("flush");
                    far.read_exact(&mut back).expect("read");
                });
                assert_eq!(back, out);
            });
        }
        group.finish();
    }
}

fn two_threads(criterion: &mut Criterion) {
    for scheme in SCHEMES {
        let mut group = support::group(criterion, format!("ring/two_threads/{scheme}"));
        for size in [32, 4096, 65_536] {
            group.throughput(Throughput::Bytes(size as u64));
            let (mut near, mut far) = ends(scheme);
            let received = &AtomicU64::new(0);
            let mut sent = 0;
            thread::scope(|scope| {
                scope.spawn(move || {
                    pin_host();
                    let mut bytes = vec![0; 65_536];
                    while let n @ 1.. = far.read(&mut bytes).expect("read") {
                        received.fetch_add(n as u64, Ordering::Release);
                    }
                });
                group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                    bencher.iter_custom(|writes| {
                        sent += writes * size as u64;
                        pinned(|| all_one_way(&mut near, writes, size, || received.load(Ordering::Acquire) == sent))
                    });
                });
                drop(near);
            });
            assert_eq!(received.load(Ordering::Acquire), sent);
        }
        group.finish();
    }
}

/// The time for so many writes, until the last byte `is_there`.
fn all_one_way(near: &mut Stream, writes: u64, size: usize, is_there: impl Fn() -> bool) -> Duration {
    let out = vec![7; size];
    let started = Instant::now();
    for _ in 0..writes {
        near.write_all(&out).expect("write");
    }
    near.flush().expect("flush");
    while !is_there() {
        thread::yield_now(); // to the reader, where there is one core
    }
    started.elapsed()
}

/// On a thread of its own: processes that start later are to find this one where it was.
fn pinned(work: impl FnOnce() -> Duration + Send) -> Duration {
    thread::scope(|scope| {
        let working = scope.spawn(|| {
            pin_genvm();
            work()
        });
        working.join().expect("no panic")
    })
}

criterion_group!(benches, ping, one_thread, two_threads);
criterion_main!(benches);
