//! Floors: what the hardware allows between two cores, measured without any transport. No transport between two processes can
//! be faster than the line. The copies are plain ones: who asks for the lines ahead, as `shm://` does, can come down to them, or a little
//! below.
#![allow(unsafe_code, reason = "the copy floor is plain copies into and out of memory that two threads share")]

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::process::pin;
use super::stats::median;

/// What two cores can do at this moment, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Floor {
    /// One cache line to the other core and back.
    pub(super) line: f64,
    /// One line to the other core and so many bytes back: copied into shared memory there and out of it here, piece by piece.
    pub(super) copy: Option<f64>,
}

/// The floor between cores `a` and `b`; with `bulk`, also that of calls which copy so many bytes. `None` if there are no two cores.
pub(super) fn measure(a: usize, b: usize, bulk: Option<usize>) -> Option<Floor> {
    (a != b).then(|| Floor { line: line(a, b), copy: bulk.map(|bytes| copy(a, b, bytes)) })
}

/// A number on a line of its own, with the one that the prefetcher brings along.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicUsize);

impl Line {
    fn set(&self, value: usize) {
        self.0.store(value, Ordering::Release);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    fn wait_for(&self, value: usize) {
        while self.get() != value {
            std::hint::spin_loop();
        }
    }
}

fn line(a: usize, b: usize) -> f64 {
    let ball = &Line::default();
    let (mut expected, mut value) = (1, 0);
    let answer = move || {
        if ball.get() == expected {
            ball.set(expected + 1);
            expected += 2;
        } else {
            std::hint::spin_loop();
        }
    };
    let ask = move || {
        ball.set(value + 1);
        ball.wait_for(value + 2);
        value += 2;
    };
    between(a, b, BOUNCES, ask, answer)
}

fn copy(a: usize, b: usize, bytes: usize) -> f64 {
    let shared = &Shared((0..bytes).map(|_| UnsafeCell::new(0)).collect());
    let (asked, copied) = (&Line::default(), &Line::default());
    let (source, mut target) = (vec![1; bytes], vec![0; bytes]);
    let (mut answered, mut asking) = (0, 0);
    let answer = move || {
        if asked.get() == answered {
            return std::hint::spin_loop();
        }
        answered += 1;
        for (at, piece) in pieces(bytes) {
            shared.put(at, &source[at..at + piece]);
            copied.set((answered - 1) * bytes + at + piece);
        }
    };
    let ask = move || {
        let before = asking * bytes;
        asking += 1;
        asked.set(asking);
        for (at, piece) in pieces(bytes) {
            while copied.get() < before + at + piece {
                std::hint::spin_loop();
            }
            shared.take(at, &mut target[at..at + piece]);
        }
    };
    let copies = (COPIED_PER_BATCH / bytes).max(1);
    between(a, b, copies, ask, answer)
}

fn pieces(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bytes).step_by(PIECE).map(move |at| (at, PIECE.min(bytes - at)))
}

/// Memory that one thread copies into and another out of.
struct Shared(Box<[UnsafeCell<u8>]>);

// SAFETY: `copy` keeps the two sides apart: `put` fills a piece before it announces it (Release), `take` reads it after it has seen
// that (Acquire), and the next request, which lets `put` touch it again, is made after that (Release, Acquire).
unsafe impl Sync for Shared {}

impl Shared {
    fn put(&self, at: usize, from: &[u8]) {
        let to = &self.0[at..at + from.len()];
        // SAFETY: `to` is as long as `from`, and nobody reads it now (see `Sync`).
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), UnsafeCell::raw_get(to.as_ptr()), from.len()) };
    }

    fn take(&self, at: usize, to: &mut [u8]) {
        let from = &self.0[at..at + to.len()];
        // SAFETY: `from` is as long as `to`, and nobody writes it now (see `Sync`).
        unsafe { ptr::copy_nonoverlapping(UnsafeCell::raw_get(from.as_ptr()).cast_const(), to.as_mut_ptr(), to.len()) };
    }
}

/// Nanoseconds that `ask` takes on core `a` while core `b` does nothing but `answer`: the median of batches. What the two own is
/// moved to the stacks of their threads, so that they share no line but those that they mean to.
pub(super) fn between(
    a: usize,
    b: usize,
    batch: usize,
    mut ask: impl FnMut() + Send,
    mut answer: impl FnMut() + Send,
) -> f64 {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(move || {
            pin(Some(b));
            while !stop.load(Ordering::Relaxed) {
                // Looks at `stop` rarely: that line stays shared and costs nothing.
                (0..1000).for_each(|_| answer());
            }
        });
        let asking = scope.spawn(move || {
            pin(Some(a));
            let mut asked = || {
                let started = Instant::now();
                (0..batch).for_each(|_| ask());
                started.elapsed().as_nanos() as f64 / batch as f64
            };
            (0..WARM_UP).for_each(|_| _ = asked()); // until both run
            let (started, mut batches) = (Instant::now(), Vec::new());
            while batches.len() < ENOUGH || started.elapsed() < TIME {
                batches.push(asked());
            }
            stop.store(true, Ordering::Relaxed);
            median(&mut batches)
        });
        asking.join().unwrap_or(f64::NAN)
    })
}

/// As long as a probe is to be: a fraction of the few milliseconds between two of them.
const TIME: Duration = Duration::from_micros(300);
const WARM_UP: usize = 6;
/// A hiccup of the machine falls into one batch or two.
const ENOUGH: usize = 7;
const BOUNCES: usize = 50;
const COPIED_PER_BATCH: usize = 256 << 10;
/// As the transports publish large writes: the other side copies while this one still does.
const PIECE: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_bytes_come_back() {
        if let [a, b, ..] = super::super::process::cores()[..] {
            let floor = measure(a, b, Some(2 * PIECE + 1)).expect("two cores");
            assert!(floor.line > 0.0 && floor.copy.is_some_and(|copy| copy > floor.line), "{floor:?}");
            assert_eq!(measure(a, b, None).expect("two cores").copy, None);
        }
        assert_eq!(measure(0, 0, None), None);
    }

    #[test]
    fn pieces_cover_everything_once() {
        assert_eq!(pieces(PIECE).collect::<Vec<_>>(), [(0, PIECE)]);
        assert_eq!(pieces(2 * PIECE + 1).collect::<Vec<_>>(), [(0, PIECE), (PIECE, PIECE), (2 * PIECE, 1)]);
    }
}
