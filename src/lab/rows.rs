//! From slices to [`Row`]s: one for each cell and each [`Distance`] that its slices fall into. What is left out is counted.

use std::collections::BTreeMap;

use serde::Serialize;

use super::floor::Floor;
use super::interval::Interval;
use super::line::Executed;
use super::matrix::{Cell, Distance, Way, Workload};
use super::process::{Ticks, Usage};
use super::slice::Slice;
use super::stats::{Buckets, Latencies, median};

/// A slice of a cell, and what the machine was like meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) cell: usize,
    pub(super) round: u32,
    pub(super) slice: Slice,
    /// What the calls took of the host.
    pub(super) host: Usage,
    /// Right before and right after; `None` where there are no two cores.
    pub(super) floors: Option<[Floor; 2]>,
    pub(super) ticks: Ticks,
}

/// A cell that could not be measured, or not to its end, in one of the rounds.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) cell: usize,
    pub(super) error: String,
}

/// A line of the result. Times in nanoseconds; CPU time and switches a call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) cell: Cell,
    /// `None` where it is no part of a call, or not known: on one core, where the scheduler places, on several connections.
    pub(super) distance: Option<Distance>,
    /// What the row was made of.
    pub(super) slices: usize,
    /// Slices of the cell during which the cores moved; they are in no row.
    pub(super) moved: usize,
    /// Share of all cores' time that a hypervisor gave to others.
    pub(super) steal: Option<f64>,
    pub(super) calls: u64,
    pub(super) p50_ns: Option<u64>,
    /// Where the median of a slice lies in 95 of 100 such runs, and so for the ratios below.
    pub(super) p50_low_ns: Option<f64>,
    pub(super) p50_high_ns: Option<f64>,
    pub(super) p90_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
    pub(super) p999_ns: Option<u64>,
    pub(super) max_ns: Option<u64>,
    /// What the clock adds to each of these.
    pub(super) clock_ns: Option<f64>,
    /// Of calls timed in batches, without the clock; with it where they are timed one by one, with thinking or on several connections.
    pub(super) mean_ns: Option<f64>,
    /// Of all connections, with what is between calls.
    pub(super) calls_per_s: Option<f64>,
    /// A whole execution, connecting included: the mean over the sampled ones of the median of each; only where each was played.
    pub(super) execution_ns: Option<f64>,
    /// Its calls that came to the host; a cache answers some itself.
    pub(super) execution_calls: Option<f64>,
    /// The floor between the cell's cores; between the first and the last where it has no two.
    pub(super) floor_ns: Option<f64>,
    pub(super) copy_floor_ns: Option<f64>,
    /// Medians of what each slice says: its median call, without the clock, to the floors around it.
    pub(super) ratio_floor: Option<f64>,
    pub(super) ratio_floor_low: Option<f64>,
    pub(super) ratio_floor_high: Option<f64>,
    pub(super) ratio_copy_floor: Option<f64>,
    /// Median over the rounds of the median call to that of the Unix socket that sleeps at once.
    pub(super) ratio_uds: Option<f64>,
    pub(super) ratio_uds_low: Option<f64>,
    pub(super) ratio_uds_high: Option<f64>,
    pub(super) client_cpu_ns: Option<f64>,
    pub(super) host_cpu_ns: Option<f64>,
    pub(super) client_switches: Option<f64>,
    pub(super) host_switches: Option<f64>,
    /// Rounds of the cell that failed.
    pub(super) errors: usize,
    /// Why the first of them did.
    pub(super) error: Option<String>,
    /// All latencies, to two digits.
    #[serde(skip)]
    pub(super) histogram: Buckets,
}

/// Where a slice belongs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    At(Option<Distance>),
    Moved,
}

impl Sample {
    fn place(&self, cells: &[Cell]) -> Place {
        let Some([before, after]) = self.floors.filter(|_| cells[self.cell].situation.has_distance()) else {
            return Place::At(None);
        };
        if before.line.max(after.line) > before.line.min(after.line) * MOVED {
            return Place::Moved;
        }
        Place::At(Some(Distance::of((before.line + after.line) / 2.0)))
    }

    fn floor(&self) -> Option<f64> {
        self.floors.map(|[before, after]| (before.line + after.line) / 2.0)
    }

    fn copy_floor(&self) -> Option<f64> {
        let [before, after] = self.floors?;
        Some((before.copy? + after.copy?) / 2.0)
    }
}

/// The median call of several slices together, without the clock, which is read once for all calls in flight.
fn median_call<'a>(samples: impl IntoIterator<Item = &'a Sample>, in_flight: u32) -> f64 {
    let (mut latencies, mut clocks) = (Latencies::default(), Vec::new());
    for sample in samples {
        latencies.merge(&sample.slice.latencies);
        clocks.push(clock_of(sample, in_flight));
    }
    (latencies.percentile(50.0) as f64 - median(&mut clocks)).max(1.0)
}

/// What the clock adds to a call.
fn clock_of(sample: &Sample, in_flight: u32) -> f64 {
    sample.slice.clock_ns / f64::from(in_flight)
}

/// All rows, in the order of the cells. A cell that was neither measured nor failed has none.
pub(super) fn rows(cells: &[Cell], samples: &[Sample], failures: &[Failure]) -> Vec<Row> {
    // By cell and distance, the slices in the order in which they were measured.
    let mut filed: BTreeMap<(usize, Option<Distance>), Vec<&Sample>> = BTreeMap::new();
    let mut moved = vec![0; cells.len()];
    for sample in samples {
        match sample.place(cells) {
            Place::At(distance) => filed.entry((sample.cell, distance)).or_default().push(sample),
            Place::Moved => moved[sample.cell] += 1,
        }
    }
    let executions = |workload: &Workload| {
        let of_workload = samples.iter().filter(|sample| cells[sample.cell].situation.workload == *workload);
        of_workload.flat_map(|sample| &sample.slice.executions).map(|execution| execution.number + 1).max().unwrap_or(0)
    };
    let mut rows = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let errors: Vec<_> = failures.iter().filter(|failure| failure.cell == number).collect();
        let today = Way::today(cell.way.host);
        let baseline = cells.iter().position(|other| other.way == today && other.situation == cell.situation);
        let mut places: Vec<_> = filed.range((number, None)..).take_while(|((cell, _), _)| *cell == number).collect();
        let (nowhere, nothing) = ((number, None), Vec::new());
        if places.is_empty() && (moved[number] > 0 || !errors.is_empty()) {
            places.push((&nowhere, &nothing));
        }
        for (&(_, distance), samples) in places {
            let baseline = baseline.and_then(|baseline| filed.get(&(baseline, distance)));
            let ratio = baseline.and_then(|baseline| ratio(samples, baseline, cell.situation.in_flight));
            let interval = ratio.and_then(|(_, interval)| interval);
            rows.push(Row {
                moved: moved[number],
                ratio_uds: ratio.map(|(ratio, _)| ratio),
                ratio_uds_low: interval.map(|interval| interval.low),
                ratio_uds_high: interval.map(|interval| interval.high),
                errors: errors.len(),
                error: errors.first().map(|failure| failure.error.clone()),
                ..row(cell, distance, samples, executions(&cell.situation.workload))
            });
        }
    }
    rows
}

fn row(cell: &Cell, distance: Option<Distance>, samples: &[&Sample], executions: usize) -> Row {
    let mut latencies = Latencies::default();
    samples.iter().for_each(|sample| latencies.merge(&sample.slice.latencies));
    let sum = |value: fn(&Sample) -> f64| samples.iter().map(|sample| value(sample)).sum::<f64>();
    let quotient = |above: f64, below: f64| (below > 0.0).then(|| above / below);
    let calls = sum(|sample| (sample.slice.calls + sample.slice.warm_up) as f64);
    let batch_calls = sum(|sample| sample.slice.batch_calls as f64);
    let some = |value: u64| (latencies.count() > 0).then_some(value);
    let in_flight = cell.situation.in_flight;
    let median_of = |value: &dyn Fn(&Sample) -> Option<f64>| {
        let mut values: Vec<_> = samples.iter().filter_map(|sample| value(sample)).collect();
        (!values.is_empty()).then(|| median(&mut values))
    };
    let interval = |value: &dyn Fn(&Sample) -> Option<f64>, middle: Option<f64>| {
        let rounds: Vec<Vec<f64>> = by_round(samples)
            .into_values()
            .map(|samples| samples.into_iter().filter_map(value).collect())
            .filter(|round: &Vec<f64>| !round.is_empty())
            .collect();
        Some(Interval::of_median(&rounds)?.around(middle?))
    };
    let p50_ns = some(latencies.percentile(50.0));
    let p50 = interval(&|sample| Some(median_of_slice(sample) as f64), p50_ns.map(|ns| ns as f64));
    let to_floor = |sample: &Sample| Some(median_call([sample], in_flight) / sample.floor()?);
    let ratio_floor = median_of(&to_floor);
    let floor = interval(&to_floor, ratio_floor);
    Row {
        cell: cell.clone(),
        distance,
        slices: samples.len(),
        moved: 0,
        steal: quotient(sum(|sample| sample.ticks.stolen as f64), sum(|sample| sample.ticks.all as f64)),
        calls: samples.iter().map(|sample| sample.slice.calls).sum(),
        p50_ns,
        p50_low_ns: p50.map(|interval| interval.low),
        p50_high_ns: p50.map(|interval| interval.high),
        p90_ns: some(latencies.percentile(90.0)),
        p99_ns: some(latencies.percentile(99.0)),
        p999_ns: some(latencies.percentile(99.9)),
        max_ns: some(latencies.max()),
        clock_ns: median_of(&|sample| Some(clock_of(sample, in_flight))),
        mean_ns: quotient(sum(|sample| sample.slice.batch_ns), batch_calls),
        calls_per_s: quotient(batch_calls * 1e9, sum(|sample| sample.slice.wall_ns)),
        execution_ns: execution(samples, executions, |execution| execution.ns),
        execution_calls: execution(samples, executions, |execution| execution.calls as f64),
        floor_ns: median_of(&Sample::floor),
        copy_floor_ns: median_of(&Sample::copy_floor),
        ratio_floor,
        ratio_floor_low: floor.map(|interval| interval.low),
        ratio_floor_high: floor.map(|interval| interval.high),
        ratio_copy_floor: median_of(&|sample| Some(median_call([sample], in_flight) / sample.copy_floor()?)),
        ratio_uds: None,
        ratio_uds_low: None,
        ratio_uds_high: None,
        client_cpu_ns: quotient(sum(|sample| sample.slice.usage.cpu_ns as f64), calls),
        host_cpu_ns: quotient(sum(|sample| sample.host.cpu_ns as f64), calls),
        client_switches: quotient(sum(|sample| sample.slice.usage.switches as f64), calls),
        host_switches: quotient(sum(|sample| sample.host.switches as f64), calls),
        errors: 0,
        error: None,
        histogram: latencies.coarse(),
    }
}

/// Executions, of which any way has played so many, differ by more than ways do: a median over all would say which were played most.
fn execution(samples: &[&Sample], executions: usize, value: fn(&Executed) -> f64) -> Option<f64> {
    let mut times = vec![Vec::new(); executions];
    samples.iter().flat_map(|sample| &sample.slice.executions).for_each(|one| times[one.number].push(value(one)));
    let all_played = !times.is_empty() && times.iter().all(|times| !times.is_empty());
    all_played.then(|| times.iter_mut().map(|times| median(times)).sum::<f64>() / executions as f64)
}

/// Of medians, round by round, and between what bounds; where no round has both, of the medians over all rounds.
fn ratio(samples: &[&Sample], baseline: &[&Sample], in_flight: u32) -> Option<(f64, Option<Interval>)> {
    if samples.is_empty() || baseline.is_empty() {
        return None;
    }
    let call = |samples: &[&Sample]| median_call(samples.iter().copied(), in_flight);
    let mut theirs = by_round(baseline);
    let pairs: Vec<_> =
        by_round(samples).into_iter().filter_map(|(round, ours)| Some((ours, theirs.remove(&round)?))).collect();
    if pairs.is_empty() {
        return Some((call(samples) / call(baseline), None));
    }
    let ratio = median(&mut pairs.iter().map(|(ours, theirs)| call(ours) / call(theirs)).collect::<Vec<_>>());
    let calls = |samples: &[&Sample]| samples.iter().map(|sample| call(&[sample])).collect::<Vec<_>>();
    let rounds: Vec<_> = pairs.iter().map(|(ours, theirs)| (calls(ours), calls(theirs))).collect();
    Some((ratio, Interval::of_ratio(&rounds).map(|interval| interval.around(ratio))))
}

fn by_round<'a>(samples: &[&'a Sample]) -> BTreeMap<u32, Vec<&'a Sample>> {
    let mut rounds: BTreeMap<u32, Vec<&Sample>> = BTreeMap::new();
    samples.iter().for_each(|sample| rounds.entry(sample.round).or_default().push(sample));
    rounds
}

/// With the clock.
fn median_of_slice(sample: &Sample) -> u64 {
    let mut latencies = Latencies::default();
    latencies.merge(&sample.slice.latencies);
    latencies.percentile(50.0)
}

/// Floors that differ by more than this factor say that the cores were moved in between.
pub(super) const MOVED: f64 = 1.25;

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::matrix::{HostKind, Placement, Situation, Transport, Wait};

    /// Today's way and a rival, in one situation.
    pub(in crate::lab) fn cells(placement: Placement) -> Vec<Cell> {
        let situation =
            Situation { workload: Workload::Read(32), placement, think_us: 0, in_flight: 1, connections: 1 };
        let today = Way::today(HostKind::Thread);
        let rival = Way { transport: Transport::Shm, wait: Wait::Spin, ..today };
        [today, rival].map(|way| Cell { way, situation: situation.clone() }).into()
    }

    /// Calls of `call` nanoseconds each, measured with a clock that takes 30, between two floors.
    pub(in crate::lab) fn sample(cell: usize, round: u32, call: u64, floors: [f64; 2]) -> Sample {
        let mut latencies = Latencies::default();
        (0..10).for_each(|_| latencies.record(Duration::from_nanos(call + 30)));
        let slice = Slice {
            latencies: latencies.buckets(),
            clock_ns: 30.0,
            batch_calls: 10,
            batch_ns: 10.0 * call as f64,
            wall_ns: 20.0 * call as f64,
            calls: 20,
            warm_up: 5,
            usage: Usage { cpu_ns: 2500, switches: 50 },
            ..Slice::default()
        };
        let floors = floors.map(|line| Floor { line, copy: Some(line * 10.0) });
        let host = Usage { cpu_ns: 5000, switches: 0 };
        Sample { cell, round, slice, host, floors: Some(floors), ticks: Ticks { stolen: 1, all: 10 } }
    }

    #[test]
    fn slices_are_filed_by_distance_and_moved_ones_counted_only() {
        let samples = [
            sample(0, 0, 1000, [30.0, 32.0]),
            sample(0, 0, 7000, [60.0, 76.0]), // moved
            sample(0, 0, 2000, [70.0, 70.0]),
            sample(0, 1, 4000, [70.0, 80.0]),
            sample(0, 1, 9000, [70.0, 400.0]), // moved
            sample(0, 1, 8000, [400.0, 420.0]),
        ];
        let rows = rows(&cells(Placement::Split), &samples, &[]);
        let filed: Vec<_> = rows.iter().map(|row| (row.distance.unwrap(), row.slices, row.moved)).collect();
        assert_eq!(filed, [(Distance::Siblings, 1, 2), (Distance::Near, 2, 2), (Distance::Far, 1, 2)]);
        let near = &rows[1];
        assert_eq!((near.calls, near.p50_ns, near.max_ns), (40, Some(2030), Some(4031)));
        assert_eq!((near.mean_ns, near.calls_per_s), (Some(3000.0), Some(1e9 / 6000.0)));
        assert_eq!((near.client_cpu_ns, near.host_cpu_ns), (Some(100.0), Some(200.0)));
        assert_eq!((near.client_switches, near.steal), (Some(2.0), Some(0.1)));
        assert_eq!((near.floor_ns, near.copy_floor_ns), (Some(72.5), Some(725.0)));
        // 2000 / 70 and 4000 / 75, each within what three digits of a histogram tell.
        assert!((near.ratio_floor.unwrap() - (2000.0 / 70.0 + 4000.0 / 75.0) / 2.0).abs() < 0.05, "{near:?}");
        assert!((near.ratio_copy_floor.unwrap() * 10.0 - near.ratio_floor.unwrap()).abs() < 1e-9);
    }

    #[test]
    fn where_there_is_no_distance_every_slice_counts() {
        for placement in [Placement::Same, Placement::Free] {
            let samples = [sample(0, 0, 1000, [30.0, 400.0]), sample(0, 0, 1000, [70.0, 70.0])];
            let rows = rows(&cells(placement), &samples, &[]);
            assert_eq!((rows.len(), rows[0].distance, rows[0].slices, rows[0].moved), (1, None, 2, 0));
        }
        let one_core = Sample { floors: None, ..sample(0, 0, 1000, [0.0; 2]) };
        let rows = rows(&cells(Placement::Split), &[one_core], &[]);
        assert_eq!((rows[0].distance, rows[0].floor_ns, rows[0].ratio_floor), (None, None, None));
        assert_eq!(rows[0].slices, 1);
    }

    #[test]
    fn ratios_to_the_socket_are_formed_at_the_same_distance_and_in_the_same_round() {
        let (near, far) = ([70.0; 2], [400.0; 2]);
        let today = [sample(0, 0, 10_000, near), sample(0, 1, 40_000, near), sample(0, 0, 90_000, far)];
        let rival = [sample(1, 0, 1000, near), sample(1, 1, 2000, near), sample(1, 1, 3000, far)];
        let rows = rows(&cells(Placement::Split), &[today, rival].concat(), &[]);
        let ratio = |row: usize| (rows[row].ratio_uds.unwrap() * 1e4).round() / 1e4;
        assert_eq!((ratio(0), ratio(1)), (1.0, 1.0));
        // Near: 1/10 in one round, 2/40 in the other. Far: no round has both, so 3/90.
        assert!((ratio(2) - 0.075).abs() < 1e-3 && (ratio(3) - 3.0 / 90.0).abs() < 1e-3, "{rows:?}");

        let alone = super::rows(&cells(Placement::Split), &[sample(1, 0, 1000, near)], &[]);
        assert_eq!(alone[0].ratio_uds, None);
    }

    #[test]
    fn calls_in_flight_share_a_reading_of_the_clock() {
        let mut cells = cells(Placement::Split);
        cells[0].situation.in_flight = 3;
        let rows = rows(&cells, &[sample(0, 0, 90, [100.0; 2])], &[]);
        assert_eq!((rows[0].p50_ns, rows[0].ratio_floor), (Some(120), Some(1.1)));
    }

    #[test]
    fn an_execution_is_the_mean_of_medians_if_all_were_played() {
        let played = |executions: &[(usize, f64)], floor: f64| {
            let mut sample = sample(0, 0, 1000, [floor; 2]);
            let executed = |&(number, ns): &(usize, f64)| Executed { number, ns, calls: 3 };
            sample.slice.executions = executions.iter().map(executed).collect();
            sample
        };
        let samples = [
            played(&[(0, 10.0), (1, 1000.0), (0, 90.0)], 70.0),
            played(&[(0, 20.0)], 70.0),
            played(&[(0, 5.0)], 400.0), // the other one was not played at this distance
        ];
        let rows = rows(&cells(Placement::Split), &samples, &[]);
        assert_eq!(rows.iter().map(|row| row.execution_ns).collect::<Vec<_>>(), [Some(510.0), None]);
        assert_eq!(rows.iter().map(|row| row.execution_calls).collect::<Vec<_>>(), [Some(3.0), None]);
    }

    #[test]
    fn nothing_that_went_wrong_is_dropped() {
        let moved = sample(0, 0, 1000, [30.0, 70.0]);
        let failure = Failure { cell: 1, error: "gone".to_owned() };
        let rows = rows(&cells(Placement::Split), &[moved], &[failure.clone(), failure]);
        assert_eq!((rows[0].slices, rows[0].moved, rows[0].errors), (0, 1, 0));
        assert_eq!((rows[0].p50_ns, rows[0].mean_ns, rows[0].ratio_floor), (None, None, None));
        assert_eq!((rows[1].slices, rows[1].errors, rows[1].error.as_deref()), (0, 2, Some("gone")));
        assert!(super::rows(&cells(Placement::Split), &[], &[]).is_empty());
    }
}
