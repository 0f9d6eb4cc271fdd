//! Costs that only whole executions show, from those that a record has: connecting, which takes another time after an execution than after
//! a single call; getting a page of a ring; a call that a cache answers. The first two come from the part `cache`, with four of the
//! traces, so that `check` has eleven others to hold the model against.

use std::collections::BTreeMap;

use anyhow::Result;

use super::costs::{Costs, FEWEST, LEAST_OF_A_HIT, Way, pages};
use super::model::{Choice, Fewer};
use super::profile::{PAGE, Profile, bytes, calls};
use crate::lab::report::{Record, Row};
use crate::lab::trace::Trace;

/// What everything costs on the machine of a record.
pub(super) fn costs(record: &Record) -> Result<Costs> {
    let mut costs = Costs::of(record)?;
    let distance = costs.distance.clone();
    let played = played(record, &distance)?;
    if let Some(page) = slope(&left(&played, &costs, Way::ShmAdaptive)) {
        costs.page = page;
    }
    for way in [Way::SocketSleeping, Way::SocketAdaptive, Way::ShmSleeping, Way::ShmAdaptive] {
        let left = left(&played, &costs, way);
        if left.is_empty() {
            continue;
        }
        let weights: f64 = left.iter().map(Left::weight).sum();
        let connect: f64 = left.iter().map(|left| left.weight() * (left.ns - left.pages * costs.page)).sum();
        let connect = (connect / weights).max(0.0);
        costs.connects_in(way, connect);
        // Polled executions are not in that part.
        match way {
            Way::SocketAdaptive => costs.connects_in(Way::SocketPolled, connect),
            Way::ShmAdaptive => costs.connects_in(Way::ShmPolled, connect),
            _ => {}
        }
    }
    costs.hit = hit(record, &costs);
    Ok(costs)
}

/// What is left of an execution when its calls are taken off.
struct Left {
    ns: f64,
    /// Of its rings that it touched.
    pages: f64,
    measured: f64,
}

impl Left {
    /// The longer an execution, the more of what is left is the error of so many calls.
    fn weight(&self) -> f64 {
        self.measured.powi(-2)
    }
}

/// The rows of the part `cache` that calls are taken off, by trace, with what was asked of their host.
fn played<'a>(record: &'a Record, distance: &'a str) -> Result<Vec<(Profile, Vec<&'a Row>)>> {
    let mut rows: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in plain(record, distance, "cache") {
        if let Some(trace) = row.trace() {
            rows.entry(trace).or_default().push(row);
        }
    }
    let profile = |trace: &str| Profile::of_trace(&Trace::built_in(trace)?.only(&record.played(trace)?)?);
    rows.into_iter().map(|(trace, rows)| Ok((profile(trace)?.merged(), rows))).collect()
}

fn left(played: &[(Profile, Vec<&Row>)], costs: &Costs, way: Way) -> Vec<Left> {
    let of = |profile: &Profile, row: &Row| {
        let (measured, connect) = (row.execution_ns?, costs.connect(way)?);
        let waiting = Choice::new(way, Fewer::Nothing).waiting(profile, costs)?;
        let pages = pages(way, bytes(&profile.loads), calls(&profile.loads));
        Some(Left { ns: measured - (waiting.wall - connect.wall - costs.page * pages), pages, measured })
    };
    let rows = played.iter().flat_map(|(profile, rows)| rows.iter().map(move |row| (profile, *row)));
    rows.filter(|(_, row)| way.is(row)).filter_map(|(profile, row)| of(profile, row)).collect()
}

/// How much more is left for each page, along the line that lies nearest. Nothing if they do not tell, or say that pages give time back.
fn slope(all: &[Left]) -> Option<f64> {
    let sum = |of: fn(&Left) -> f64| all.iter().map(|left| left.weight() * of(left)).sum::<f64>();
    let (w, x, y) = (sum(|_| 1.0), sum(|left| left.pages), sum(|left| left.ns));
    let (xx, xy) = (sum(|left| left.pages * left.pages), sum(|left| left.pages * left.ns));
    let slope = (w * xy - x * y) / (w * xx - x * x);
    (slope.is_finite() && slope >= 0.0).then_some(slope)
}

/// What a call that a cache answers takes all the same, its pages and deferred writes included: what is left of all executions with
/// a cache when the calls that came to the host are taken off, for each call that did not. Looked for where the host takes least.
fn hit(record: &Record, costs: &Costs) -> f64 {
    let left = |way: Way, row: &Row| {
        let plain =
            plain(record, &costs.distance, "savings").find(|all| way.is(all) && all.workload == row.workload)?;
        let calls = row.execution_calls?;
        let host = calls * costs.call(way, f64::from(PAGE), 0.0, 1.0)?.wall
            + costs.lap(way, calls * f64::from(PAGE), calls)
            + costs.stalls(way, calls);
        Some((row.execution_ns? - costs.connect(way)?.wall - host, plain.execution_calls? - calls))
    };
    let (mut time, mut saved) = (0.0, 0.0);
    for way in [Way::SocketAdaptive, Way::ShmAdaptive] {
        let cached = rows(record, &costs.distance, "savings")
            .filter(|row| way.is(row) && row.cache == Some(PAGE) && row.slices >= FEWEST);
        for (left, calls) in cached.filter_map(|row| left(way, row)) {
            time += left;
            saved += calls;
        }
    }
    if saved > 0.0 { (time / saved).max(LEAST_OF_A_HIT) } else { LEAST_OF_A_HIT }
}

/// Rows of a part that were measured with cores so far apart.
fn rows<'a>(record: &'a Record, distance: &'a str, part: &str) -> impl Iterator<Item = &'a Row> {
    record.rows(part).iter().filter(move |row| row.slices > 0 && row.distance.as_deref() == Some(distance))
}

/// Those without a cache, one call at a time.
fn plain<'a>(record: &'a Record, distance: &'a str, part: &str) -> impl Iterator<Item = &'a Row> {
    rows(record, distance, part).filter(|row| row.cache.is_none() && row.in_flight == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_each_one_more_adds() {
        let on = |line: fn(f64) -> f64| {
            [0.5, 2.0, 7.0].map(|pages| Left { ns: line(pages), pages, measured: 1e5 * (1.0 + pages) })
        };
        let near = slope(&on(|pages| 90e3 + 3e3 * pages)).expect("a line");
        assert!((near - 3e3).abs() < 1e-6, "{near}");
        assert_eq!(slope(&on(|pages| 90e3 - pages)), None);
        assert_eq!(slope(&on(|_| 90e3)[..1]), None);
        assert_eq!(slope(&[]), None);
    }
}
