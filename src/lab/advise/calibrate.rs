//! Costs that only whole executions show, from those that a record has: connecting, which takes another time after an execution than after
//! a single call; getting a page of a ring; a call that a cache answers. The first two come from the part `cache`, with four of the
//! traces, so that `check` has eleven others to hold the model against.

use anyhow::Result;

use super::costs::{Costs, FEWEST, LEAST_OF_A_HIT, Way, pages};
use super::model::{Choice, Fewer};
use super::profile::{PAGE, Profile, bytes, calls};
use crate::lab::report::{Record, Row};
use crate::lab::trace::Trace;

/// What everything costs on the machine of a record.
pub(super) fn costs(record: &Record) -> Result<Costs> {
    let mut costs = Costs::of(record)?;
    if let Some(page) = slope(&left(record, &costs, Way::ShmAdaptive)?) {
        costs.page = page;
    }
    for way in [Way::SocketSleeping, Way::SocketAdaptive, Way::ShmSleeping, Way::ShmAdaptive] {
        let left = left(record, &costs, way)?;
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

fn left(record: &Record, costs: &Costs, way: Way) -> Result<Vec<Left>> {
    let mut all = Vec::new();
    for row in plain(record, costs, "cache").filter(|row| way.is(row)) {
        let (Some(trace), Some(measured)) = (row.trace(), row.execution_ns) else { continue };
        let profile = Profile::of_trace(&Trace::built_in(trace)?.only(&record.played(trace)?)?)?.merged();
        let waiting = Choice::new(way, Fewer::Nothing).waiting(&profile, costs);
        let (Some(waiting), Some(connect)) = (waiting, costs.connect(way)) else { continue };
        let pages = pages(way, bytes(&profile.loads), calls(&profile.loads));
        let ns = measured - (waiting.wall - connect.wall - costs.page * pages);
        all.push(Left { ns, pages, measured });
    }
    Ok(all)
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
        let plain = plain(record, costs, "savings").find(|all| way.is(all) && all.workload == row.workload)?;
        let calls = row.execution_calls?;
        let host = calls * costs.call(way, f64::from(PAGE), 0.0, 1.0)?.wall
            + costs.lap(way, calls * f64::from(PAGE), calls)
            + costs.stalls(way, calls);
        Some((row.execution_ns? - costs.connect(way)?.wall - host, plain.execution_calls? - calls))
    };
    let (mut time, mut saved) = (0.0, 0.0);
    for way in [Way::SocketAdaptive, Way::ShmAdaptive] {
        let cached =
            rows(record, costs, "savings").filter(|row| way.is(row) && row.cache == Some(PAGE) && row.slices >= FEWEST);
        for (left, calls) in cached.filter_map(|row| left(way, row)) {
            time += left;
            saved += calls;
        }
    }
    if saved > 0.0 { (time / saved).max(LEAST_OF_A_HIT) } else { LEAST_OF_A_HIT }
}

/// Rows of a part at the distance of all costs.
fn rows<'a>(record: &'a Record, costs: &'a Costs, part: &str) -> impl Iterator<Item = &'a Row> {
    let at = |row: &&Row| row.slices > 0 && row.distance.as_deref() == Some(&costs.distance);
    record.rows(part).iter().filter(at)
}

/// Those without a cache, one call at a time.
fn plain<'a>(record: &'a Record, costs: &'a Costs, part: &str) -> impl Iterator<Item = &'a Row> {
    rows(record, costs, part).filter(|row| row.cache.is_none() && row.in_flight == 1)
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
