//! Slices: a few milliseconds of calls between two probes of the floor.
//!
//! A hypervisor moves virtual cores about, several times a second on some machines, and the floor with them by a factor of ten.
//! Within a slice the cores mostly stay where they are; where the two probes disagree, they did not, and the slice says so.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::floor::{self, Floor};
use super::matrix::Distance;
use super::process::Usage;
use super::stats::{Buckets, Latencies, median, timer_overhead};
use super::worker::ClientJob;
use super::workload::Work;

/// What the GenVM side measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) slices: Vec<Slice>,
    /// What reading the clock costs, in nanoseconds.
    pub(super) timer_ns: f64,
    /// All calls, the warm-up's included: what the host's CPU time is for.
    pub(super) all_calls: u64,
    /// CPU time and switches of this process for `all_calls`, floor probes not included.
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Slice {
    /// The floor right before and right after, in nanoseconds.
    pub(super) floors: Option<(f64, f64)>,
    /// The floor of copying as many bytes as a call does, right before.
    pub(super) copy_floor: Option<f64>,
    /// Calls that were timed one by one: their latencies, a clock reading included.
    pub(super) latencies: Buckets,
    /// Mean over calls that were timed as batches; of the single ones where there is think time between.
    pub(super) mean_ns: f64,
    /// Calls, timed and not.
    pub(super) calls: u64,
    /// Median time of a whole execution, connecting included; traces only.
    pub(super) execution_ns: Option<f64>,
}

impl Slice {
    /// The floor, if both probes agree on it.
    pub(super) fn floor(&self) -> Option<f64> {
        let (before, after) = self.floors?;
        (before.max(after) <= MOVED * before.min(after)).then_some((before + after) / 2.0)
    }

    /// Whether the cores were moved meanwhile.
    pub(super) fn moved(&self) -> bool {
        self.floors.is_some() && self.floor().is_none()
    }

    pub(super) fn distance(&self) -> Option<Distance> {
        self.floor().map(Distance::of)
    }

    /// Median latency without the clock's part.
    pub(super) fn p50(&self, timer_ns: f64) -> f64 {
        let mut latencies = Latencies::default();
        latencies.merge(&self.latencies);
        (latencies.percentile(50.0) as f64 - timer_ns).max(1.0)
    }
}

/// Slice after slice until the job's time is up, at least one.
pub(super) fn measure(work: &mut dyn Work, job: &ClientJob) -> Result<Measured> {
    let started = Instant::now();
    let mut measured = Measured { timer_ns: timer_overhead(), ..Measured::default() };
    let mut before = probe(job);
    while measured.slices.is_empty() || started.elapsed() < job.time {
        let usage = Usage::now();
        work.open()?;
        work.executions();
        let (warm_up, took) = work.run(WARM_UP, None)?;
        // Long enough for some dozens of calls, short enough to end before the cores move.
        let half = SHORTEST.max((took / warm_up as u32).saturating_mul(ENOUGH)).min(job.time / 2);
        let mut latencies = Latencies::default();
        let (timed, took) = work.run(half, Some(&mut latencies))?;
        let (untimed, mean_ns) = match job.think.is_zero() {
            true => {
                let (calls, took) = work.run(half, None)?;
                (calls, took.as_nanos() as f64 / calls as f64)
            }
            false => (0, took.as_nanos() as f64 / timed as f64),
        };
        work.close();
        measured.usage = measured.usage.plus(Usage::now().since(usage));
        measured.all_calls += warm_up + timed + untimed;
        let after = probe(job);
        let mut executions = work.executions();
        measured.slices.push(Slice {
            floors: before.zip(after).map(|(before, after)| (before.line, after.line)),
            copy_floor: before.and_then(|floor| floor.copy),
            latencies: latencies.buckets(),
            mean_ns,
            calls: timed + untimed,
            execution_ns: (!executions.is_empty()).then(|| median(&mut executions)),
        });
        before = after;
    }
    work.check()?;
    Ok(measured)
}

fn probe(job: &ClientJob) -> Option<Floor> {
    let (a, b) = job.floor?;
    floor::measure(a, b, job.workload.bulk())
}

/// Probes further apart than this ratio did not find the cores at the same places.
const MOVED: f64 = 1.25;
const WARM_UP: Duration = Duration::from_micros(500);
/// Half a slice.
const SHORTEST: Duration = Duration::from_micros(1500);
const ENOUGH: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_between_different_floors_has_no_distance() {
        let slice = |before, after| Slice { floors: Some((before, after)), ..Slice::default() };
        assert_eq!(slice(70.0, 74.0).distance(), Some(Distance::Near));
        assert_eq!(slice(30.0, 30.0).distance(), Some(Distance::Siblings));
        assert_eq!(slice(400.0, 420.0).floor(), Some(410.0));
        assert!(slice(70.0, 410.0).moved() && slice(410.0, 70.0).moved() && !slice(410.0, 420.0).moved());
        assert!(!Slice::default().moved(), "without probes nobody knows");
    }
}
