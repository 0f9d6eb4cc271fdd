//! Medians, and histograms that travel between processes. Percentiles come from merged histograms, never from averages.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The median; sorts the values. 0 for none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Latencies in nanoseconds, three significant digits.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are allowed"))
    }
}

impl Latencies {
    #[inline]
    pub(super) fn record(&mut self, latency: Duration) {
        // Grows with the largest value; what an hour-long call does to it does not matter.
        let _ = self.0.record(latency.as_nanos() as u64);
    }

    /// Calls that took so long together, each a share of it.
    #[inline]
    pub(super) fn record_batch(&mut self, took: Duration, calls: u32) {
        let _ = self.0.record_n((took / calls).as_nanos() as u64, calls.into());
    }

    /// Those of both.
    pub(super) fn add(&mut self, other: &Self) {
        let _ = self.0.add(&other.0);
    }

    pub(super) fn percentile(&self, percent: f64) -> u64 {
        if self.0.is_empty() { 0 } else { self.0.value_at_percentile(percent) }
    }

    pub(super) fn max(&self) -> u64 {
        self.0.max()
    }

    /// All of them one after another, in nanoseconds.
    pub(super) fn total(&self) -> f64 {
        self.0.mean() * self.0.len() as f64
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    pub(super) fn merge(&mut self, other: &Buckets) {
        for &(value, count) in &other.0 {
            let _ = self.0.record_n(value, count);
        }
    }

    /// The same to two digits.
    pub(super) fn coarse(&self) -> Buckets {
        let mut coarse = Histogram::<u64>::new(2).expect("two digits are allowed");
        let _ = coarse.add(&self.0);
        Self(coarse).buckets()
    }

    pub(super) fn buckets(&self) -> Buckets {
        Buckets(self.0.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect())
    }
}

/// The non-empty buckets of a histogram: value and count.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Buckets(pub(super) Vec<(u64, u64)>);

/// What reading the clock costs, in nanoseconds: it is part of every timed latency.
/// About 20 µs of work.
pub(super) fn clock_cost() -> f64 {
    let mut batches = [0.0; 11].map(|_| {
        let started = Instant::now();
        (0..50).for_each(|_| _ = std::hint::black_box(Instant::now()));
        started.elapsed().as_nanos() as f64 / 50.0
    });
    median(&mut batches)
}

/// A shuffled copy of `0..n`, the same for the same seed.
pub(super) fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_merged_percentiles() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
        let mut parts = [Latencies::default(), Latencies::default()];
        (1..=1000).for_each(|ns| parts[ns as usize % 2].record(Duration::from_nanos(ns)));
        let mut all = Latencies::default();
        parts.iter().for_each(|part| all.merge(&part.buckets()));
        assert_eq!((all.count(), all.percentile(50.0), all.percentile(99.0), all.max()), (1000, 500, 990, 1000));
    }

    #[test]
    fn an_order_is_a_permutation_and_repeats() {
        let mut order = shuffled(100, 7);
        assert_eq!(order, shuffled(100, 7));
        assert_ne!(order, shuffled(100, 8));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));
    }
}
