//! A `storage_write` after the other: round trips between two processes, over every transport, with every wait strategy.
//! `cargo bench --features lab --bench hot_write -- shm/adaptive`

mod support;

use criterion::{Criterion, criterion_group, criterion_main};

fn hot_write(criterion: &mut Criterion) {
    support::sizes(criterion, "hot_write", "write");
}

criterion_group!(benches, hot_write);
criterion_main!(benches);
