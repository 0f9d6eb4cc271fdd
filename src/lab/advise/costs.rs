//! [`Costs`]: what a call costs each way on the machine of a record, by its size, by the time since the last one, and by how many go
//! out together. Nothing is assumed of a way that the record has no rows of.

use anyhow::{Context, Result};
use serde::Serialize;

use crate::RingCapacity;
use crate::lab::report::{Record, Row};

/// A transport and how both ends wait on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    SocketSleeping,
    SocketAdaptive,
    SocketPolled,
    ShmSleeping,
    ShmAdaptive,
    ShmPolled,
}

impl Way {
    pub(super) const ALL: [Self; 6] = [
        Self::SocketSleeping,
        Self::SocketAdaptive,
        Self::SocketPolled,
        Self::ShmSleeping,
        Self::ShmAdaptive,
        Self::ShmPolled,
    ];

    /// As tables of results call it.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::SocketSleeping => ("uds", "park"),
            Self::SocketAdaptive => ("uds", "adaptive"),
            Self::SocketPolled => ("uds", "spin"),
            Self::ShmSleeping => ("shm", "park"),
            Self::ShmAdaptive => ("shm", "adaptive"),
            Self::ShmPolled => ("shm", "spin"),
        }
    }

    pub(super) fn has_rings(self) -> bool {
        self.names().0 == "shm"
    }

    /// Whether a row was measured this way, by a host that has a thread for each connection.
    pub(super) fn is(self, row: &Row) -> bool {
        (&row.transport[..], &row.wait[..]) == self.names() && row.host == "thread"
    }
}

/// Nanoseconds that pass, and that both processes are busy.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) wall: f64,
    pub(super) cpu: f64,
}

impl Cost {
    fn add(self, other: Self, times: f64) -> Self {
        Self { wall: self.wall + other.wall * times, cpu: self.cpu + other.cpu * times }
    }

    fn not_negative(self) -> Self {
        Self { wall: self.wall.max(0.0), cpu: self.cpu.max(0.0) }
    }
}

/// Points at which a cost is known, rising.
#[derive(Debug, Clone)]
struct Curve(Vec<(f64, Cost)>);

/// What is known of a way.
#[derive(Debug)]
struct Known {
    /// By bytes of the value, one call right after the other.
    sizes: Curve,
    /// By microseconds between calls, of 32 bytes.
    think: Curve,
    /// By how many go out together, of 32 bytes each, a call.
    together: Option<Curve>,
    connect: Cost,
    stalls: Stalls,
}

/// The rare calls that take many times as long as the others: no median knows them, and a long execution meets them.
#[derive(Debug, Clone, Copy, Default)]
struct Stalls {
    /// Nanoseconds by which they make the mean call longer than the median one.
    each_call: f64,
    /// How long one is.
    one: f64,
}

#[derive(Debug)]
pub(super) struct Costs {
    /// In the order of [`Way::ALL`].
    ways: Vec<Option<Known>>,
    /// Of a call that a cache answers.
    pub(super) hit: f64,
    /// Of a page of a ring, for both ends to get it.
    pub(super) page: f64,
    /// How far apart the cores were that all of this was measured on.
    pub(super) distance: String,
}

impl Costs {
    /// From the parts `sizes`, `think`, `flight` and `connect`, at the distance of the cores that `sizes` met most often.
    ///
    /// # Errors
    /// The record does not say what today's way costs.
    pub(super) fn of(record: &Record) -> Result<Self> {
        let slices = |distance: &&str| {
            let rows = record.rows("sizes").iter().filter(|row| row.distance.as_deref() == Some(*distance));
            rows.map(|row| row.slices).sum::<u64>()
        };
        let distance = ["siblings", "near", "far"].into_iter().max_by_key(slices).context("a distance")?;
        let rows = |part: &str| {
            let of_distance = |row: &&Row| row.slices > 0 && row.distance.as_deref() == Some(distance);
            record.rows(part).iter().filter(of_distance).collect::<Vec<_>>()
        };
        let (sizes, think, flight, connect) = (rows("sizes"), rows("think"), rows("flight"), rows("connect"));
        let known = |way: Way| {
            let of = |rows: &[&Row], way: Way, x: fn(&Row) -> Option<f64>| {
                Curve::of(rows.iter().copied().filter(|row| way.is(row) && row.cache.is_none()), x)
            };
            let bytes = |row: &Row| row.workload.strip_prefix("read:")?.parse().ok();
            // Right after one another the host's thread of the last connection still polls, and is in the way of the next.
            let connecting = match way {
                Way::SocketPolled => Way::SocketAdaptive,
                Way::ShmPolled => Way::ShmAdaptive,
                other => other,
            };
            let first = of(&sizes, connecting, bytes)?.at(SIZE);
            let hot = sizes.iter().find(|row| way.is(row) && row.cache.is_none() && bytes(row) == Some(SIZE));
            Some(Known {
                sizes: of(&sizes, way, bytes)?,
                think: of(&think, way, |row| Some(row.think_us as f64))?,
                together: of(&flight, way, |row| Some(f64::from(row.in_flight).ln())).filter(|curve| curve.0.len() > 1),
                connect: of(&connect, connecting, |_| Some(0.0))?.at(0.0).add(first, -1.0).not_negative(),
                stalls: hot.and_then(|row| Stalls::of(row)).unwrap_or_default(),
            })
        };
        let ways: Vec<_> = Way::ALL.into_iter().map(known).collect();
        let today = ways.first().and_then(Option::as_ref);
        today.context("the record does not say what today's way costs: it needs the parts sizes, think and connect")?;
        Ok(Self { ways, hit: LEAST_OF_A_HIT, page: PAGE_FAULTS, distance: distance.to_owned() })
    }

    /// What stalls add to the median execution of so many calls. They are rare and differ: the median execution meets about one fewer
    /// than the average one.
    pub(super) fn stalls(&self, way: Way, calls: f64) -> f64 {
        let stalls = self.ways[way as usize].as_ref().map_or(Stalls::default(), |known| known.stalls);
        (calls * stalls.each_call - stalls.one).max(0.0)
    }

    /// What it takes longer until the rings have been gone around once: their memory comes page by page.
    pub(super) fn lap(&self, way: Way, bytes: f64, calls: f64) -> f64 {
        self.page * pages(way, bytes, calls)
    }

    /// One of `together` calls of so many bytes each that go out together, so many microseconds after the last ones; `None` if the
    /// record does not say.
    pub(super) fn call(&self, way: Way, bytes: f64, think_us: f64, together: f64) -> Option<Cost> {
        let known = self.ways[way as usize].as_ref()?;
        let hot = known.sizes.at(SIZE);
        let base = if together > 1.0 { known.together.as_ref()?.at(together.ln()) } else { hot };
        // What it takes longer for its size, and all of them for the time since the last.
        let sized = known.sizes.at(bytes).add(hot, -1.0);
        let apart = known.think.beyond(think_us).add(known.think.at(0.0), -1.0);
        Some(base.add(sized, 1.0).add(apart, 1.0 / together).not_negative())
    }

    /// Connecting, without the first call.
    pub(super) fn connect(&self, way: Way) -> Option<Cost> {
        Some(self.ways[way as usize].as_ref()?.connect)
    }

    /// That connecting takes so long.
    pub(super) fn connects_in(&mut self, way: Way, wall: f64) {
        if let Some(known) = &mut self.ways[way as usize] {
            known.connect.wall = wall;
        }
    }
}

/// How many pages of its rings so many calls touch, which carry so many bytes in all: none without rings.
pub(super) fn pages(way: Way, bytes: f64, calls: f64) -> f64 {
    if !way.has_rings() {
        return 0.0;
    }
    let ring = f64::from(RingCapacity::DEFAULT.bytes());
    // A request takes two lines, an answer one and what it carries.
    let used = (calls * 2.0 * LINE).min(ring) + (calls * LINE + bytes).min(ring);
    used / 4096.0
}

impl Stalls {
    fn of(row: &Row) -> Option<Self> {
        Some(Self { each_call: (row.mean_ns? - row.median_call()?).max(0.0), one: row.p999_ns? })
    }
}

impl Curve {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>, x: fn(&Row) -> Option<f64>) -> Option<Self> {
        let points = rows.filter_map(|row| Some((x(row)?, Cost { wall: row.median_call()?, cpu: row.cpu_ns()? })));
        let mut points: Vec<_> = points.collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!points.is_empty()).then_some(Self(points))
    }

    /// Between two points a straight line, which goes on beyond the last; before the first its value.
    fn at(&self, x: f64) -> Cost {
        let points = &self.0;
        let next = points.iter().position(|(at, _)| *at >= x).unwrap_or(points.len() - 1);
        if next == 0 {
            return points[0].1;
        }
        let ((x0, low), (x1, high)) = (points[next - 1], points[next]);
        low.add(high.add(low, -1.0), (x - x0) / (x1 - x0))
    }

    /// Beyond the last point what passes stays what it is, because all are asleep by then; what polls goes on doing so.
    fn beyond(&self, x: f64) -> Cost {
        let last = self.0.last().map_or(0.0, |(x, _)| *x);
        let (at, limit) = (self.at(x), self.at(x.min(last)));
        Cost { wall: limit.wall, cpu: at.cpu.max(limit.cpu) }
    }
}

/// Bytes of the calls that `think`, `flight` and `connect` are measured with.
const SIZE: f64 = 32.0;
/// Slices that a median is worth taking of.
pub(super) const FEWEST: u64 = 5;
/// Nanoseconds of looking into a cache and finding it, at the least.
pub(super) const LEAST_OF_A_HIT: f64 = 50.0;
const LINE: f64 = 64.0;
/// Nanoseconds for both ends to get a page of a ring, where a record does not say: what `compare --workloads trace:treemap_1k --transports shm
/// --waits spin --ring-kib 16,64,128,1024` takes longer for each page more, 4.2 µs on a quiet machine and 8 to 10 µs on a shared one.
/// Allocating them ahead takes as long.
const PAGE_FAULTS: f64 = 7000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_a_line_between_its_points() {
        let cost = |wall, cpu| Cost { wall, cpu };
        let curve = Curve(vec![(1.0, cost(10.0, 5.0)), (3.0, cost(20.0, 5.0)), (5.0, cost(20.0, 9.0))]);
        assert_eq!(curve.at(0.0), cost(10.0, 5.0));
        assert_eq!(curve.at(2.0), cost(15.0, 5.0));
        assert_eq!(curve.at(3.0), cost(20.0, 5.0));
        assert_eq!(curve.at(7.0), cost(20.0, 13.0));
        let falling = Curve(vec![(0.0, cost(10.0, 10.0)), (1.0, cost(8.0, 8.0))]);
        assert_eq!(falling.beyond(3.0), cost(8.0, 8.0));
    }
}
