//! What ADR-003 weighed, and more: the same `storage_read` of 32 bytes over every transport of the lab that parks or adapts, in
//! batches, and answered by a cache of pages on GenVM's side. What fewer calls do for an execution as a whole is in `trace`.
//! `cargo bench --all-features --bench alternatives -- http`

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use genvm_transport::lab::bench::ways;

const READ: &str = "read:32";
const BATCH: u32 = 16;

fn alternatives(criterion: &mut Criterion) {
    let mut group = support::group(criterion, "alternatives");
    group.throughput(Throughput::Elements(1));
    for (transport, wait) in ways().iter().filter(|(_, wait)| wait != "spin") {
        support::measure(&mut group, BenchmarkId::new(transport, wait), &support::case(transport, wait, READ));
    }
    support::measure(
        &mut group,
        BenchmarkId::new("uds/adaptive", "cache hit"),
        &support::case("uds", "adaptive", READ).cached(32),
    );
    group.throughput(Throughput::Elements(BATCH.into()));
    for wait in ["park", "adaptive"] {
        let case = support::case("uds", wait, READ).in_flight(BATCH);
        support::measure(&mut group, BenchmarkId::new(format!("uds/{wait}"), format!("batch of {BATCH}")), &case);
    }
    group.finish();
}

criterion_group!(benches, alternatives);
criterion_main!(benches);
