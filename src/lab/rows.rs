//! From slices to rows: a row for each cell and distance, over all rounds.
//!
//! Percentiles come from merged histograms, never from averages; ratios are medians of what each slice, or each round, says of
//! itself. Slices during which the cores were moved are counted and left out.

use anyhow::Result;
use serde::Serialize;

use super::matrix::{Cell, Distance, Way};
use super::process::Usage;
use super::slice::{Measured, Slice};
use super::stats::{Latencies, median};

/// A cell in a round: what its GenVM side measured, and what its host used meanwhile.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) cell: usize,
    pub(super) round: u32,
    pub(super) result: Result<(Measured, Usage)>,
}

/// A line of the result. Times in nanoseconds; CPU time and switches a call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) cell: Cell,
    /// How far apart the cores were; `None` where that is no part of a call.
    pub(super) distance: Option<Distance>,
    /// Slices that the row is made of.
    pub(super) slices: usize,
    /// Slices of the cell, at whatever distance, that were left out because the cores were moved meanwhile.
    pub(super) moved: usize,
    pub(super) calls: u64,
    pub(super) p50_ns: Option<u64>,
    pub(super) p90_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
    pub(super) p999_ns: Option<u64>,
    pub(super) max_ns: Option<u64>,
    pub(super) mean_ns: Option<f64>,
    pub(super) floor_ns: Option<f64>,
    pub(super) copy_floor_ns: Option<f64>,
    pub(super) ratio_floor: Option<f64>,
    pub(super) ratio_copy_floor: Option<f64>,
    pub(super) ratio_uds: Option<f64>,
    pub(super) client_cpu_ns: Option<f64>,
    pub(super) host_cpu_ns: Option<f64>,
    pub(super) client_switches: Option<f64>,
    pub(super) host_switches: Option<f64>,
    /// Rounds that failed.
    pub(super) errors: usize,
    /// Why the first of them did.
    pub(super) error: Option<String>,
    /// Median time of a whole execution, connecting included.
    pub(super) execution_ns: Option<f64>,
}

/// Cells in their order; of each, the distances that were seen, or one row that says why there is nothing.
pub(super) fn rows(cells: &[Cell], samples: &[Sample]) -> Vec<Row> {
    let all = Samples { cells, samples };
    (0..cells.len())
        .flat_map(|cell| {
            let mut distances: Vec<_> = all.slices(cell, None).filter(|(.., slice)| !slice.moved()).collect();
            distances.sort_by_key(|(.., slice)| all.distance(cell, slice));
            distances.dedup_by_key(|(.., slice)| all.distance(cell, slice));
            let mut rows: Vec<_> =
                distances.iter().map(|(.., slice)| all.row(cell, all.distance(cell, slice))).collect();
            if rows.is_empty() && samples.iter().any(|sample| sample.cell == cell) {
                rows.push(all.row(cell, None));
            }
            rows
        })
        .collect()
}

struct Samples<'a> {
    cells: &'a [Cell],
    samples: &'a [Sample],
}

impl<'a> Samples<'a> {
    /// What was measured of a cell, in one round or in all.
    fn done(&self, cell: usize, round: Option<u32>) -> impl Iterator<Item = (u32, &'a Measured, &'a Usage)> + use<'a> {
        let of_cell = self.samples.iter().filter(move |s| s.cell == cell && round.is_none_or(|round| round == s.round));
        of_cell.filter_map(|s| s.result.as_ref().ok().map(|(measured, usage)| (s.round, measured, usage)))
    }

    fn slices(&self, cell: usize, round: Option<u32>) -> impl Iterator<Item = (u32, f64, &'a Slice)> + use<'a> {
        self.done(cell, round)
            .flat_map(|(round, measured, _)| measured.slices.iter().map(move |slice| (round, measured.timer_ns, slice)))
    }

    /// The slice's distance, where that is a part of every call of the cell.
    fn distance(&self, cell: usize, slice: &Slice) -> Option<Distance> {
        slice.distance().filter(|_| self.cells[cell].situation.has_distance())
    }

    fn row(&self, cell: usize, distance: Option<Distance>) -> Row {
        let is_ours = |slice: &Slice| {
            let counts = !(slice.moved() && self.cells[cell].situation.has_distance());
            counts && self.distance(cell, slice) == distance
        };
        // Where distance is no part of a call, a floor that moved is still what it was on the average.
        let floor = |slice: &Slice| match self.cells[cell].situation.has_distance() {
            true => slice.floor(),
            false => slice.floors.map(|(before, after)| (before + after) / 2.0),
        };
        let ours: Vec<_> = self.slices(cell, None).filter(|(.., slice)| is_ours(slice)).collect();
        let mut latencies = Latencies::default();
        ours.iter().for_each(|(.., slice)| latencies.merge(&slice.latencies));
        let some = |value: u64| (latencies.count() > 0).then_some(value);
        let all_calls: u64 = self.done(cell, None).map(|(_, measured, _)| measured.all_calls).sum();
        let a_call = |total: i64| (all_calls > 0).then(|| total as f64 / all_calls as f64);
        let of_slices = |value: &dyn Fn(f64, &Slice) -> Option<f64>| {
            median_of(ours.iter().filter_map(|(_, timer, slice)| value(*timer, slice)))
        };
        let failed = || self.samples.iter().filter(|s| s.cell == cell).filter_map(|s| s.result.as_ref().err());
        let usage = |of: &dyn Fn(&Measured, &Usage) -> i64| {
            a_call(self.done(cell, None).map(|(_, measured, usage)| of(measured, usage)).sum())
        };
        Row {
            cell: self.cells[cell].clone(),
            distance,
            slices: ours.len(),
            moved: self.slices(cell, None).filter(|(.., slice)| slice.moved()).count(),
            calls: ours.iter().map(|(.., slice)| slice.calls).sum(),
            p50_ns: some(latencies.percentile(50.0)),
            p90_ns: some(latencies.percentile(90.0)),
            p99_ns: some(latencies.percentile(99.0)),
            p999_ns: some(latencies.percentile(99.9)),
            max_ns: some(latencies.max()),
            mean_ns: of_slices(&|_, slice| Some(slice.mean_ns)),
            floor_ns: of_slices(&|_, slice| floor(slice)),
            copy_floor_ns: of_slices(&|_, slice| slice.copy_floor),
            ratio_floor: of_slices(&|timer, slice| Some(slice.p50(timer) / floor(slice)?)),
            ratio_copy_floor: of_slices(&|timer, slice| Some(slice.p50(timer) / slice.copy_floor?)),
            ratio_uds: self.ratio_to_today(cell, &ours),
            client_cpu_ns: usage(&|measured, _| measured.usage.cpu_ns),
            host_cpu_ns: usage(&|_, usage| usage.cpu_ns),
            client_switches: usage(&|measured, _| measured.usage.switches),
            host_switches: usage(&|_, usage| usage.switches),
            errors: failed().count(),
            error: failed().next().map(super::cli::explain),
            execution_ns: of_slices(&|_, slice| slice.execution_ns),
        }
    }

    /// Median over rounds of the ratio to the Unix socket that sleeps, in the same situation and round. How far apart the cores
    /// are is no part of what that one costs: waking is a thousand times a line.
    fn ratio_to_today(&self, cell: usize, ours: &[(u32, f64, &Slice)]) -> Option<f64> {
        let Cell { way, situation } = &self.cells[cell];
        let today = Way::today(way.host);
        let baseline = self.cells.iter().position(|other| other.way == today && other.situation == *situation)?;
        let mut rounds: Vec<_> = ours.iter().map(|(round, ..)| *round).collect();
        rounds.dedup();
        median_of(rounds.into_iter().filter_map(|round| {
            let here = ours.iter().filter(|(other, ..)| *other == round);
            let here = median_of(here.map(|(_, timer, slice)| slice.p50(*timer)))?;
            if cell == baseline {
                return Some(1.0);
            }
            let there = self.slices(baseline, Some(round)).map(|(_, timer, slice)| slice.p50(timer));
            Some(here / median_of(there)?)
        }))
    }
}

fn median_of(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| median(&mut values))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::matrix::{HostKind, Placement, Situation, Transport, Wait};
    use super::*;

    fn cell(transport: Transport, wait: Wait, placement: Placement) -> Cell {
        let situation = Situation { workload: "read:32".parse().unwrap(), placement, think_us: 0, in_flight: 1 };
        Cell { way: Way { transport, wait, ..Way::today(HostKind::Thread) }, situation }
    }

    fn slice(before: f64, after: f64, latency_ns: u64) -> Slice {
        let mut latencies = Latencies::default();
        (0..10).for_each(|_| latencies.record(Duration::from_nanos(latency_ns)));
        Slice { floors: Some((before, after)), latencies: latencies.buckets(), calls: 10, ..Slice::default() }
    }

    fn sample(cell: usize, round: u32, slices: Vec<Slice>) -> Sample {
        let all_calls = 10 * slices.len() as u64;
        let measured = Measured { slices, timer_ns: 20.0, all_calls, ..Measured::default() };
        Sample { cell, round, result: Ok((measured, Usage::default())) }
    }

    #[test]
    fn slices_are_filed_by_distance_and_moved_ones_are_counted() {
        let cells = [
            cell(Transport::Uds, Wait::Park, Placement::Split),
            cell(Transport::Shm, Wait::Adaptive, Placement::Split),
        ];
        let samples = [
            sample(0, 0, vec![slice(100.0, 100.0, 50_020)]),
            sample(1, 0, vec![slice(100.0, 100.0, 220), slice(100.0, 400.0, 999_999), slice(400.0, 400.0, 820)]),
            sample(1, 1, vec![slice(100.0, 100.0, 320)]),
        ];
        let rows = rows(&cells, &samples);
        let seen: Vec<_> = rows.iter().map(|row| (row.distance, row.slices, row.moved, row.max_ns)).collect();
        let (near, far) = (Some(Distance::Near), Some(Distance::Far));
        assert_eq!(seen, [(near, 1, 0, Some(50_047)), (near, 2, 1, Some(320)), (far, 1, 1, Some(820))]);
        assert_eq!(rows.iter().map(|row| row.ratio_floor.unwrap()).collect::<Vec<_>>(), [500.27, 2.5, 2.0]);
        // Round 1 has no socket to be compared with.
        assert_eq!(rows[1].ratio_uds.map(|ratio| (ratio * 1e5).round()), Some((200.0 / 50_027.0 * 1e5f64).round()));
        assert_eq!(rows[0].ratio_uds, Some(1.0));
    }

    #[test]
    fn on_one_core_distance_is_no_matter() {
        let cells = [cell(Transport::Shm, Wait::Spin, Placement::Same)];
        let samples = [sample(0, 0, vec![slice(100.0, 400.0, 220), slice(70.0, 70.0, 220)])];
        let rows = rows(&cells, &samples);
        assert_eq!((rows.len(), rows[0].distance, rows[0].slices, rows[0].moved), (1, None, 2, 1));
        assert_eq!(rows[0].floor_ns, Some(160.0));
    }

    #[test]
    fn a_cell_that_failed_is_a_row() {
        let cells = [cell(Transport::Tcp, Wait::Park, Placement::Split)];
        let failed = Sample { cell: 0, round: 0, result: Err(anyhow::anyhow!("no port")) };
        let rows = rows(&cells, &[failed]);
        assert_eq!((rows.len(), rows[0].errors, rows[0].error.as_deref()), (1, 1, Some("no port")));
    }
}
