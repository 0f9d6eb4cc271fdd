//! A `storage_read` after the other: round trips between two processes, over every transport, with every wait strategy.
//! `cargo bench --features lab --bench hot_read -- shm/adaptive`

mod support;

use criterion::{Criterion, criterion_group, criterion_main};

fn hot_read(criterion: &mut Criterion) {
    support::sizes(criterion, "hot_read", "read");
}

criterion_group!(benches, hot_read);
criterion_main!(benches);
