//! A [`Slice`]: a few milliseconds of calls on fresh connections, short enough for the machine to stay as it is meanwhile. What the
//! machine was like, whoever asked for the slice measures before and after it.

use std::sync::Barrier;
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
    /// The same with all that is between calls: thinking, connecting. On several connections, the time that passed.
    pub(super) wall_ns: f64,
    pub(super) executions: Vec<Executed>,
    /// Calls that were timed, one by one or as a batch.
    pub(super) calls: u64,
    /// Calls before those.
    pub(super) warm_up: u64,
    /// What all the calls took of this process, warm-up included, thinking not.
    pub(super) usage: Usage,
}

/// A slice of calls on what `works` have opened, on all of them at once.
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
    slice.clock_ns = clock_cost();
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

/// Longer: several connections, a thread each.
fn many(works: &mut [impl Work]) -> Result<Slice> {
    let warm = Barrier::new(works.len());
    let before = Usage::now();
    let parts: Vec<Result<_>> = thread::scope(|scope| {
        let threads: Vec<_> = works
            .iter_mut()
            .map(|work| {
                let warm = &warm;
                scope.spawn(move || {
                    let first = steps(work, None, LONG / 4, 1);
                    warm.wait(); // for those that failed as well
                    let mut latencies = Latencies::default();
                    let timed = steps(work, Some(&mut latencies), LONG, 1)?;
                    Ok::<_, anyhow::Error>((first?, timed, latencies, work.beside()))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))).collect()
    });
    let parts = parts.into_iter().collect::<Result<Vec<_>>>().context("on one of several connections")?;
    let usage = Usage::now().since(before);
    let mut slice = Slice { usage, clock_ns: clock_cost(), ..Slice::default() };
    let (mut latencies, mut rate) = (Latencies::default(), 0.0);
    for (first, timed, part, beside) in &parts {
        latencies.add(part);
        rate += timed.calls as f64 / nanos(timed.took);
        slice.warm_up += first.calls;
        slice.calls += timed.calls;
        slice.usage.cpu_ns -= beside.thinking.as_nanos() as i64;
        slice.executions.extend(&beside.executions);
    }
    (slice.latencies, slice.batch_calls, slice.batch_ns) = (latencies.buckets(), slice.calls, latencies.total());
    slice.wall_ns = slice.batch_calls as f64 / rate;
    Ok(slice)
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
/// With several connections: a few turns of the scheduler for each.
const LONG: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_millis(200);
