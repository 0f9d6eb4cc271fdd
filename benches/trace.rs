//! Whole recorded executions, a connection each, between two processes: today's way, faster ways, and fewer calls through a cache of
//! pages. A round plays every execution that `lab compare` plays of the trace; the throughput is that of the contract's calls.
//! `cargo bench --features lab --bench trace -- erc20`

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const WAYS: [(&str, &str); 3] = [("uds", "park"), ("uds", "adaptive"), ("shm", "adaptive")];

/// Bytes of a page.
const PAGE: u32 = 32;

fn trace(criterion: &mut Criterion) {
    // Many small reads; the smallest contract; whole tables rewritten.
    for name in ["erc20", "storage", "llm_erc20"] {
        let mut group = support::group(criterion, format!("trace/{name}"));
        for (transport, wait) in WAYS {
            let case = support::case(transport, wait, &format!("trace:{name}"));
            group.throughput(Throughput::Elements(case.calls().expect("a trace")));
            let way = format!("{transport}/{wait}");
            support::measure(&mut group, BenchmarkId::from_parameter(&way), &case);
            support::measure(&mut group, BenchmarkId::new(way, "cached"), &case.cached(PAGE));
        }
        group.finish();
    }
}

criterion_group!(benches, trace);
criterion_main!(benches);
