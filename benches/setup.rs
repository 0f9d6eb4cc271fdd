//! A connection to a host that runs: connect, upgrade to shared memory where there is one, first answer (a read of 32 bytes), end.
//! `cargo bench --features lab --bench setup -- shm`

mod support;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn setup(criterion: &mut Criterion) {
    let mut group = support::group(criterion, "setup");
    for transport in support::TRANSPORTS {
        for wait in ["park", "adaptive"] {
            let case = support::case(transport, wait, "connect");
            support::measure(&mut group, BenchmarkId::new(transport, wait), &case);
        }
    }
    group.finish();
}

criterion_group!(benches, setup);
criterion_main!(benches);
