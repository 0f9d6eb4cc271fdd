//! The floor: one cache line bounced between two cores, nothing else. No transport between two processes can be faster.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process::pin;
use super::stats::median;

/// A line of its own, with the one that the prefetcher brings along.
#[repr(align(128))]
struct Line(AtomicU64);

/// Nanoseconds a round trip of one cache line between cores `a` and `b` takes: the median of batches over `time`. `None` if there
/// are no two cores.
pub(super) fn measure(a: usize, b: usize, time: Duration) -> Option<f64> {
    if a == b {
        return None;
    }
    let (ball, stop) = (Line(AtomicU64::new(0)), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(Some(b));
            let mut expected = 1;
            while !stop.load(Ordering::Relaxed) {
                // Looks at `stop` rarely: that line stays shared and costs nothing.
                for _ in 0..1000 {
                    if ball.0.load(Ordering::Acquire) == expected {
                        ball.0.store(expected + 1, Ordering::Release);
                        expected += 2;
                    } else {
                        std::hint::spin_loop();
                    }
                }
            }
        });
        let probe = scope.spawn(|| {
            pin(Some(a));
            let mut value = 0;
            let mut round_trips = |n: u64| {
                let started = Instant::now();
                for _ in 0..n {
                    ball.0.store(value + 1, Ordering::Release);
                    while ball.0.load(Ordering::Acquire) != value + 2 {
                        std::hint::spin_loop();
                    }
                    value += 2;
                }
                started.elapsed().as_nanos() as f64 / n as f64
            };
            round_trips(BATCH); // until both run
            let (started, mut batches) = (Instant::now(), Vec::new());
            while batches.len() < 3 || started.elapsed() < time {
                batches.push(round_trips(BATCH));
            }
            stop.store(true, Ordering::Relaxed);
            median(&mut batches)
        });
        probe.join().ok()
    })
}

const BATCH: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_back() {
        if let [a, b, ..] = super::super::process::cores()[..] {
            assert!(measure(a, b, Duration::ZERO).is_some_and(|floor| floor > 0.0));
        }
        assert_eq!(measure(0, 0, Duration::ZERO), None);
    }
}
