//! What the suites share.
#![allow(dead_code, unused_imports, reason = "each suite uses a part")]

#[cfg(feature = "lab")]
mod cases;

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};

#[cfg(feature = "lab")]
pub use cases::{TRANSPORTS, WAITS, case, measure, sizes};

/// A group whose benchmarks take well under a second each. `README.md` adds them up.
pub fn group(criterion: &mut Criterion, name: impl Into<String>) -> BenchmarkGroup<'_, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    group.sample_size(20).nresamples(20_000);
    group
}
