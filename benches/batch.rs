//! Reads of 32 bytes, so many on their way at once on one connection between two processes (`HostClient::storage_read_many`; a single
//! one is a call like any other). A round is all of them: the throughput compares.
//! `cargo bench --features lab --bench batch -- uds/park`

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn batch(criterion: &mut Criterion) {
    for transport in ["uds", "shm", "tcp"] {
        for wait in ["park", "adaptive"] {
            let mut group = support::group(criterion, format!("batch/{transport}/{wait}"));
            for calls in [1, 4, 16, 64, 256] {
                group.throughput(Throughput::Elements(calls.into()));
                let case = support::case(transport, wait, "read:32").in_flight(calls);
                support::measure(&mut group, BenchmarkId::from_parameter(calls), &case);
            }
            group.finish();
        }
    }
}

criterion_group!(benches, batch);
criterion_main!(benches);
