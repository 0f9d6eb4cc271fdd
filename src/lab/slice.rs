//! A [`Slice`]: a few milliseconds of calls on fresh connections, short enough for the machine to stay as it is meanwhile. What the
//! machine was like, whoever asked for the slice measures before and after it.

use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::line::Executed;
use super::process::Usage;
use super::stats::{Buckets, Latencies, clock_cost};
use super::workload::Work;

/// What the GenVM side measured in one go.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Slice {
    /// Calls that were timed one by one, a clock reading included in each.
    pub(super) latencies: Buckets,
    /// What that reading costs.
    pub(super) clock_ns: f64,
    /// Calls that were timed as one, and the time for them; those of `latencies` where calls are kept apart by thinking or
    /// made on several connections.
    pub(super) batch_calls: u64,
    pub(super) batch_ns: f64,
    /// The same with all that is between calls: thinking, connecting. On several connections, the time that passed for so many calls.
    pub(super) wall_ns: f64,
    pub(super) executions: Vec<Executed>,
    /// Calls that were timed, one by one or as a batch.
    pub(super) calls: u64,
    /// Calls before those.
    pub(super) warm_up: u64,
    /// What all the calls took of this process, warm-up included, thinking not.
    pub(super) usage: Usage,
}

impl Slice {
    /// With what reading the clock costs now: for whoever has heard that the calls are over.
    pub(super) fn with_clock(self) -> Self {
        Self { clock_ns: clock_cost(), ..self }
    }
}

/// A slice of calls on what `works` have opened, on all of them at once. Says nothing of the clock.
pub(super) fn run(works: &mut [impl Work]) -> Result<Slice> {
    match works {
        [work] => one(work),
        works => many(works),
    }
}

fn one(work: &mut impl Work) -> Result<Slice> {
    // Calls that thinking keeps apart cannot be timed as a batch.
    let thinking = work.thinks();
    let before = Usage::now();
    let warm = steps(work, None, WARM_UP, 1)?;
    let mut latencies = Latencies::default();
    let warm_beside = work.beside();
    let timed = steps(work, Some(&mut latencies), SHORT * (1 + u32::from(thinking)), ENOUGH)?;
    let timed_beside = work.beside();
    let mut slice =
        Slice { latencies: latencies.buckets(), calls: timed.calls, warm_up: warm.calls, ..Slice::default() };
    if thinking {
        (slice.batch_calls, slice.batch_ns) = (timed.calls, latencies.total());
        (slice.wall_ns, slice.executions) = (nanos(timed.took), timed_beside.executions);
    } else {
        let batched = steps(work, None, SHORT, ENOUGH)?;
        let beside = work.beside();
        (slice.batch_calls, slice.batch_ns) = (batched.calls, nanos(batched.took.saturating_sub(beside.connecting)));
        (slice.wall_ns, slice.executions) = (nanos(batched.took), beside.executions);
        slice.calls += batched.calls;
    }
    slice.usage = Usage::now().since(before);
    slice.usage.cpu_ns -= (warm_beside.thinking + timed_beside.thinking).as_nanos() as i64;
    Ok(slice)
}

/// Nanoseconds for so many rounds of calls, after a warm-up of the usual length: for those who choose the number of calls and not the
/// time for them. Thinking is left out; connecting in front of executions is not.
pub(super) fn time(works: &mut [impl Work], rounds: u64) -> Result<f64> {
    let [work] = works else { bail!("several connections have no common number of rounds") };
    steps(work, None, WARM_UP, 1)?;
    let count = rounds * work.round();
    let took = if work.thinks() {
        let mut latencies = Latencies::default();
        (0..count).try_for_each(|_| work.step(Some(&mut latencies)).map(drop))?;
        latencies.total()
    } else {
        let started = Instant::now();
        for _ in 0..count {
            work.step(None)?;
        }
        nanos(started.elapsed())
    };
    work.beside(); // nobody asks
    Ok(took)
}

/// Longer: several connections, a thread each. What they do in a second is counted over one window that all of them share: with more
/// threads than cores each has its turn at another time, and rates over windows of their own would not add up.
fn many(works: &mut [impl Work]) -> Result<Slice> {
    let window = LONG.max(TURN * works.len() as u32);
    let (warm, begun) = (Barrier::new(works.len()), OnceLock::new());
    let before = Usage::now();
    let parts: Vec<Result<_>> = thread::scope(|scope| {
        let threads: Vec<_> = works
            .iter_mut()
            .map(|work| {
                let (warm, begun) = (&warm, &begun);
                scope.spawn(move || {
                    let first = steps(work, None, WARM_UP, 1);
                    warm.wait(); // for those that failed as well
                    let until = *begun.get_or_init(Instant::now) + window;
                    let mut latencies = Latencies::default();
                    let timed = steps_until(work, &mut latencies, until)?;
                    Ok::<_, anyhow::Error>((first?, timed, latencies, work.beside()))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>>>().context("on one of several connections")?;
    let usage = Usage::now().since(before);
    let mut slice = Slice { usage, ..Slice::default() };
    let (mut latencies, mut in_time) = (Latencies::default(), 0);
    for (first, timed, part, beside) in &parts {
        latencies.add(part);
        in_time += timed.in_time;
        slice.warm_up += first.calls;
        slice.calls += timed.calls;
        slice.usage.cpu_ns -= beside.thinking.as_nanos() as i64;
        slice.executions.extend(&beside.executions);
    }
    (slice.latencies, slice.batch_calls, slice.batch_ns) = (latencies.buckets(), slice.calls, latencies.total());
    slice.wall_ns = nanos(window) * slice.calls as f64 / in_time.max(1) as f64;
    Ok(slice)
}

struct TimedSteps {
    calls: u64,
    /// Those that ended before the time was over.
    in_time: u64,
}

/// Steps until then, and at least one.
fn steps_until(work: &mut impl Work, latencies: &mut Latencies, until: Instant) -> Result<TimedSteps> {
    let (mut calls, mut in_time) = (0, 0);
    loop {
        calls += work.step(Some(latencies))?;
        if Instant::now() >= until {
            return Ok(TimedSteps { calls, in_time });
        }
        in_time = calls;
    }
}

struct Steps {
    calls: u64,
    took: Duration,
}

/// Steps for `time` and until `enough` calls were made, but not for ever.
fn steps(work: &mut impl Work, mut latencies: Option<&mut Latencies>, time: Duration, enough: u64) -> Result<Steps> {
    let started = Instant::now();
    let (mut calls, mut batch) = (0, 1);
    loop {
        for _ in 0..batch {
            calls += work.step(latencies.as_deref_mut())?;
        }
        let took = started.elapsed();
        if took >= time && (calls >= enough || took >= LONGEST) {
            return Ok(Steps { calls, took });
        }
        // The clock is read rarely where it is not wanted.
        if latencies.is_none() && took < time / 16 {
            batch *= 2;
        }
    }
}

fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

const WARM_UP: Duration = Duration::from_micros(500);
/// Of each kind of timing. The machine stays as it is for some hundred milliseconds at most.
const SHORT: Duration = Duration::from_micros(2500);
/// Calls that a median is worth taking of.
const ENOUGH: u64 = 30;
/// With several connections: long enough for each to have its turn, though it be on one core with all others.
const LONG: Duration = Duration::from_millis(100);
const TURN: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::ConnectOptions;
    use crate::lab::line::Line;
    use crate::lab::matrix::Transport;
    use crate::lab::process::thread_time;

    /// Steps that take a millisecond of a core, whoever else wants it.
    struct Busy(Line);

    impl Work for Busy {
        fn open(&mut self) -> Result<()> {
            Ok(())
        }

        fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64> {
            self.0.call(latencies, |_| {
                let begun = thread_time();
                while thread_time() - begun < STEP {}
                Ok(())
            })
        }

        fn close(&mut self) -> Result<()> {
            Ok(())
        }

        fn line(&mut self) -> &mut Line {
            &mut self.0
        }
    }

    #[test]
    fn more_threads_than_cores_do_not_do_more_than_the_cores_can() {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let line = Line::new(Transport::Uds, String::new(), ConnectOptions::default(), Duration::ZERO, 0);
        let mut works: Vec<_> = (0..8 * cores).map(|_| Busy(line.clone())).collect();
        let slice = run(&mut works).expect("a slice");
        let busy = slice.batch_calls as f64 * nanos(STEP) / slice.wall_ns;
        // What was half done when the window began is in it as a whole.
        assert!(busy > 0.0 && busy < cores as f64 * 1.2, "{busy} of {cores} cores");
    }

    const STEP: Duration = Duration::from_millis(1);
}
