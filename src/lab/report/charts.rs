//! What the plots show: series of points taken from rows, with the floor among them. `plot` draws them; their data go into a table
//! beside the picture.

use super::claims;
use super::page::Source;
use super::pick::{Picked, most_met};
use super::read::{Record, Row};
use super::words;
use crate::lab::table::nanos;

/// A picture and its words.
pub(in crate::lab) struct Chart {
    /// Of its files.
    pub(in crate::lab) name: &'static str,
    pub(in crate::lab) title: String,
    pub(in crate::lab) caption: String,
    pub(in crate::lab) drawing: Drawing,
}

pub(in crate::lab) enum Drawing {
    /// Both axes logarithmic.
    Lines { x: Axis, y: Axis, series: Vec<Series> },
    /// Bars from zero, each with what it saves of today's time behind it, and a note at the end.
    Bars { x: Axis, bars: Vec<Bar> },
}

pub(in crate::lab) struct Axis {
    pub(in crate::lab) label: String,
    /// Name of its column in the data.
    pub(in crate::lab) column: &'static str,
    pub(in crate::lab) scale: Scale,
}

#[derive(Clone, Copy, PartialEq)]
pub(in crate::lab) enum Scale {
    /// Nanoseconds, with their unit at each tick.
    Time,
    Bytes,
    /// A count, by fours.
    Plain,
    /// A count, by decades.
    Count,
    /// 1 / (1 - q) for a share q of the calls, ticks named after q.
    Percentile,
    /// Microseconds; zero is drawn at [`AT_ZERO`].
    Think,
}

pub(in crate::lab) struct Series {
    pub(in crate::lab) label: String,
    pub(in crate::lab) look: Look,
    pub(in crate::lab) points: Vec<Point>,
}

/// A way looks alike in all plots.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::lab) enum Look {
    Floor,
    CopyFloor,
    /// One of the styles of `plot`.
    Way(usize),
}

pub(in crate::lab) struct Point {
    pub(in crate::lab) x: f64,
    pub(in crate::lab) y: f64,
    /// Ends of the interval of `y`.
    pub(in crate::lab) ends: Option<[f64; 2]>,
    pub(in crate::lab) source: Source,
}

pub(in crate::lab) struct Bar {
    pub(in crate::lab) label: String,
    pub(in crate::lab) look: Look,
    pub(in crate::lab) ns: f64,
    /// What the bar is made of.
    pub(in crate::lab) calls: Option<f64>,
    /// What it is less than today's, if its part has today's way.
    pub(in crate::lab) saved: Option<Saved>,
    pub(in crate::lab) source: Source,
}

/// The difference between today's time and a bar, in its two parts. Negative is what takes longer.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::lab) struct Saved {
    /// Of calls that are no longer made: as many times what a call takes today.
    pub(in crate::lab) fewer_ns: f64,
    /// Of the calls that are still made: as many times what each takes less.
    pub(in crate::lab) faster_ns: f64,
    /// Today's time.
    pub(in crate::lab) today: Source,
}

/// A plot that can be made, or what it is called and which part it lacks.
pub(super) type Drawn = Result<Chart, (&'static str, &'static str)>;

/// All plots of a record, those that lack something too.
pub(super) fn charts(record: &Record) -> Vec<Drawn> {
    let or = |chart: Option<Chart>, title, part| chart.ok_or((title, part));
    vec![
        or(sizes(record), "latency by size of the value", "sizes"),
        or(percentiles(record), "percentiles of a hot call", "tails"),
        or(think(record), "latency by time between calls", "think"),
        or(spinning(record), "the price of polling", "think"),
        or(flight(record), "calls in flight", "flight"),
        or(executions(record), "a recorded execution", "cache"),
        or(connections(record, "thread"), "many connections, a thread each", "connections"),
        or(connections(record, "tokio"), "many connections, a tokio host", "connections"),
    ]
}

fn sizes(record: &Record) -> Option<Chart> {
    let picked = most_met(record, "sizes", |_| true)?;
    let size = |row: &Row| row.workload.split_once(':').and_then(|(_, size)| size.parse().ok());
    let mut series = floors(&picked, size);
    series.extend(by_way(&picked, size, median, "p50_ns"));
    Some(Chart {
        name: "sizes",
        title: "Time of a hot read by size of its value".to_owned(),
        caption: told("Medians; bars are their 95 % intervals.", &picked),
        drawing: lines(axis("size of the value [bytes]", "value_bytes", Scale::Bytes), call(), series)?,
    })
}

fn percentiles(record: &Record) -> Option<Chart> {
    let picked = claims::hot(record)?;
    let mut series = Vec::new();
    for row in picked.rows.iter().filter(|row| row.wait != "spin") {
        let Some(buckets) = record.histogram(row) else { continue };
        let points = quantiles(buckets).into_iter().map(|(x, y)| point(x, y, row, "histogram"));
        series.push(Series { label: words::short_way(row), look: look(row), points: points.collect() });
    }
    let widest = series.iter().flat_map(|series| &series.points).map(|point| point.x).fold(1.0, f64::max);
    if let Some((row, floor)) = picked.rows.iter().find_map(|row| Some((row, row.floor_ns?))) {
        let points = [1.0, widest].map(|x| point(x, floor, row, "floor_ns")).into();
        series.insert(0, Series { label: FLOOR.to_owned(), look: Look::Floor, points });
    }
    Some(Chart {
        name: "percentiles",
        title: "How many hot reads of 32 bytes are done in which time".to_owned(),
        caption: told("From histograms of all calls, the clock's reading included.", &picked),
        drawing: lines(axis("share of the calls [%]", "one_in", Scale::Percentile), call(), series)?,
    })
}

fn think(record: &Record) -> Option<Chart> {
    let picked = most_met(record, "think", |_| true)?;
    let mut series = floors(&picked, thinking);
    series.extend(by_way(&picked, thinking, median, "p50_ns"));
    Some(Chart {
        name: "think",
        title: "Time of a read of 32 bytes by the time between calls".to_owned(),
        caption: told("Medians; bars are their 95 % intervals. Adaptive ends poll, then yield, then sleep.", &picked),
        drawing: lines(axis("time between calls [µs]", "think_us", Scale::Think), call(), series)?,
    })
}

fn spinning(record: &Record) -> Option<Chart> {
    let picked = most_met(record, "think", |_| true)?;
    let cpu = |row: &Row| Some((row.cpu_ns()?, None));
    let mut series = by_way(&picked, |row| row.p50_ns, cpu, "p50_ns");
    let costs = || series.iter().flat_map(|series: &Series| &series.points).map(|point| point.y);
    let (least, most) = (costs().fold(f64::MAX, f64::min), costs().fold(0.0, f64::max));
    let row = picked.rows.iter().find(|row| row.floor_ns.is_some());
    if let Some((row, floor)) = row.and_then(|row| Some((row, row.floor_ns?))) {
        let points = [least, most].map(|y| point(floor, y, row, "floor_ns")).into();
        series.insert(0, Series { label: FLOOR.to_owned(), look: Look::Floor, points });
    }
    Some(Chart {
        name: "cpu",
        title: "The price of polling: CPU time against latency".to_owned(),
        caption: told(
            "A point for each time between calls, from none to the longest; the line follows them. Left is faster, low is cheaper.",
            &picked,
        ),
        drawing: lines(
            axis("time of a call, median", "p50_ns", Scale::Time),
            axis("CPU time of both processes, a call", "cpu_ns", Scale::Time),
            series,
        )?,
    })
}

fn flight(record: &Record) -> Option<Chart> {
    let picked = most_met(record, "flight", |_| true)?;
    let in_flight = |row: &Row| Some(f64::from(row.in_flight));
    let mut series = floors(&picked, in_flight);
    series.extend(by_way(&picked, in_flight, median, "p50_ns"));
    Some(Chart {
        name: "flight",
        title: "Time for each of several reads in flight".to_owned(),
        caption: told("Medians; the floor is that of a single call.", &picked),
        drawing: lines(axis("calls on their way at once", "in_flight", Scale::Plain), call(), series)?,
    })
}

/// Of one kind of host.
fn connections(record: &Record, host: &str) -> Option<Chart> {
    let picked = most_met(record, "connections", |row| row.host == host)?;
    let connections = |row: &Row| Some(f64::from(row.connections));
    let series = by_way(&picked, connections, |row| Some((row.calls_per_s?, None)), "calls_per_s");
    let (name, serves) = if host == "tokio" { ("connections-tokio", "tokio") } else { ("connections", "threads") };
    let caption = "Of all connections together; the scheduler places both ends. More is better.".to_owned();
    let rate = axis("calls a second", "calls_per_s", Scale::Count);
    Some(Chart {
        name,
        title: format!("Reads of 32 bytes a second by the number of connections, a host of {serves}"),
        caption,
        drawing: lines(axis("connections at once", "connections", Scale::Plain), rate, series)?,
    })
}

/// Of one trace: the ways that make all calls and the same with a cache, from the parts that have them, each against today's way in its
/// own part.
fn executions(record: &Record) -> Option<Chart> {
    let workload = "trace:erc20";
    let cached = most_met(record, "cache", |row| row.workload == workload && matches!(row.cache, None | Some(256)))?;
    // Their time is compared, so they have to be of the same distance.
    let others = most_met(record, "alternatives", |row| row.workload == workload)
        .filter(|picked| picked.distance == cached.distance);
    let mut bars = bars_of(&cached, |_| true, workload);
    let again = |row: &Row| matches!(&row.transport[..], "uds" | "shm");
    bars.extend(others.iter().flat_map(|others| bars_of(others, |row| !again(row), workload)));
    bars.sort_by(|a, b| b.ns.total_cmp(&a.ns));
    let parts = if others.is_some() { "cache and alternatives" } else { "cache" };
    (!bars.is_empty()).then(|| Chart {
        name: "executions",
        title: "Time of a recorded erc20 execution, by alternative".to_owned(),
        caption: told(
            &format!(
                "Filled: whole executions, connecting included, from {parts}; beside each what it is made of: calls that came to the \
                 host × time for each. Striped and light: what today's way takes longer in the same part, by calls that are no \
                 longer made and by what each of the others takes less; the three together are today's time. Where each call takes longer than today, nothing stands for it, and the stripes \
                 end beyond today's time by as much."
            ),
            &cached,
        ),
        drawing: Drawing::Bars { x: axis("time of an execution", "execution_ns", Scale::Time), bars },
    })
}

/// A bar for each of the rows that are wanted, in their order.
fn bars_of(picked: &Picked<'_>, wanted: impl Fn(&Row) -> bool, workload: &str) -> Vec<Bar> {
    let today = picked.way("uds", "park", workload);
    let rows = picked.rows.iter().filter(|row| wanted(row));
    let bar = |row: &&Row| {
        let cache = row.cache.map_or_else(String::new, |_| " + cache".to_owned());
        let label = format!("{}{cache}", words::short_way(row));
        let source = Source::of(row, "execution_ns");
        let saved = today.and_then(|today| saved(row, today));
        Some(Bar { label, look: look(row), ns: row.execution_ns?, calls: row.execution_calls, saved, source })
    };
    rows.filter_map(bar).collect()
}

/// Splits today's time less the row's into fewer calls, at today's time for each, and faster ones.
fn saved(row: &Row, today: &Row) -> Option<Saved> {
    let (ns, calls) = (row.execution_ns?, row.execution_calls?);
    let (today_ns, today_calls) = (today.execution_ns?, today.execution_calls.filter(|calls| *calls > 0.0)?);
    let fewer_ns = (today_calls - calls) * today_ns / today_calls;
    let today = Source::of(today, "execution_ns");
    Some(Saved { fewer_ns, faster_ns: today_ns - ns - fewer_ns, today })
}

/// The data of a chart: a line for each point, with the row that it is from.
pub(super) fn data(chart: &Chart) -> String {
    let quoted = |text: &str| if text.contains(',') { format!("\"{text}\"") } else { text.to_owned() };
    match &chart.drawing {
        Drawing::Lines { x, y, series } => {
            let mut out = format!("series,{},{},low,high,source\n", x.column, y.column);
            for series in series {
                for Point { x, y, ends, source } in &series.points {
                    let ends = ends.map_or_else(|| ",".to_owned(), |[low, high]| format!("{low},{high}"));
                    out += &format!("{},{x},{y},{ends},{source}\n", quoted(&series.label));
                }
            }
            out
        }
        Drawing::Bars { x, bars } => {
            let mut out =
                format!("way,{},calls,source,saved_by_fewer_calls_ns,saved_by_faster_calls_ns,today\n", x.column);
            for Bar { label, ns, calls, source, saved, .. } in bars {
                let calls = calls.map_or_else(String::new, |calls| calls.to_string());
                let saved = saved.as_ref().map_or_else(
                    || ",,".to_owned(),
                    |Saved { fewer_ns, faster_ns, today }| format!("{fewer_ns:.0},{faster_ns:.0},{today}"),
                );
                out += &format!("{},{ns},{calls},{source},{saved}\n", quoted(label));
            }
            out
        }
    }
}

impl Bar {
    /// `9.55 ms = 203 calls × 47.1 µs`.
    pub(super) fn note(&self) -> String {
        match self.calls {
            Some(calls) if calls > 0.0 => format!("{} = {calls:.0} × {}", nanos(self.ns), nanos(self.ns / calls)),
            _ => nanos(self.ns),
        }
    }
}

impl Scale {
    /// Where a value is drawn.
    pub(super) fn place(self, value: f64) -> f64 {
        if self == Self::Think { value.max(AT_ZERO) } else { value }
    }
}

/// A plot without a way in it is none.
fn lines(x: Axis, y: Axis, series: Vec<Series>) -> Option<Drawing> {
    let drawn = |series: &Series| matches!(series.look, Look::Way(_)) && !series.points.is_empty();
    series.iter().any(drawn).then_some(Drawing::Lines { x, y, series })
}

fn axis(label: &str, column: &'static str, scale: Scale) -> Axis {
    Axis { label: label.to_owned(), column, scale }
}

fn call() -> Axis {
    axis("time of a call", "ns", Scale::Time)
}

/// A series for each way, of the rows that have both coordinates, in their order.
fn by_way(
    picked: &Picked<'_>,
    x: impl Fn(&Row) -> Option<f64>,
    y: impl Fn(&Row) -> Option<(f64, Option<[f64; 2]>)>,
    column: &'static str,
) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for row in picked.rows.iter().filter(|row| !row.is_empty()) {
        let (Some(x), Some((y, ends))) = (x(row), y(row)) else { continue };
        let label = words::short_way(row);
        let point = Point { ends, ..point(x, y, row, column) };
        match series.iter_mut().find(|series| series.label == label) {
            Some(series) => series.points.push(point),
            None => series.push(Series { label, look: look(row), points: vec![point] }),
        }
    }
    series
}

/// The floors around the fastest way's calls: one line there and back, and where bytes count, copying them.
fn floors(picked: &Picked<'_>, x: impl Fn(&Row) -> Option<f64>) -> Vec<Series> {
    let measured = || picked.rows.iter().copied().filter(|row| !row.is_empty());
    let Some(fastest) = measured().min_by(|a, b| a.p50_ns.unwrap_or(f64::MAX).total_cmp(&b.p50_ns.unwrap_or(f64::MAX)))
    else {
        return vec![];
    };
    let along = |floor: fn(&Row) -> Option<f64>, column| -> Vec<Point> {
        let rows = measured().filter(|row| (&row.transport, &row.wait) == (&fastest.transport, &fastest.wait));
        rows.filter_map(|row| Some(point(x(row)?, floor(row)?, row, column))).collect()
    };
    let both = [
        (FLOOR, Look::Floor, along(|row| row.floor_ns, "floor_ns")),
        ("floor of copying", Look::CopyFloor, along(|row| row.copy_floor_ns, "copy_floor_ns")),
    ];
    let some = both.into_iter().filter(|(.., points)| !points.is_empty());
    some.map(|(label, look, points)| Series { label: label.to_owned(), look, points }).collect()
}

fn point(x: f64, y: f64, row: &Row, column: &'static str) -> Point {
    Point { x, y, ends: None, source: Source::of(row, column) }
}

fn median(row: &Row) -> Option<(f64, Option<[f64; 2]>)> {
    Some((row.p50_ns?, row.p50_low_ns.zip(row.p50_high_ns).map(|(low, high)| [low, high])))
}

fn thinking(row: &Row) -> Option<f64> {
    Some(row.think_us as f64)
}

/// Of a histogram: one in how many calls takes longer than each bucket's end. The last bucket has all calls in it: it is drawn where
/// one call is all that is left. Buckets that move neither by a fiftieth are left out.
fn quantiles(buckets: &[(f64, u64)]) -> Vec<(f64, f64)> {
    let total: u64 = buckets.iter().map(|(_, count)| count).sum();
    let (mut seen, mut points) = (0, Vec::<(f64, f64)>::new());
    for (upper, count) in buckets {
        seen += count;
        let one_in = total as f64 / (total - seen).max(1) as f64;
        let moved = |(x, y): &(f64, f64)| one_in > x * 1.02 || *upper > y * 1.02;
        if points.last().is_none_or(moved) || seen == total {
            points.push((one_in, *upper));
        }
    }
    points
}

fn look(row: &Row) -> Look {
    Look::Way(match (&row.transport[..], &row.wait[..]) {
        ("uds", "park") => 0,
        ("uds", "adaptive") => 1,
        ("shm", "park") => 2,
        ("shm", "adaptive") => 3,
        ("uds", _) => 4,
        ("shm", _) => 5,
        _ => 6,
    })
}

fn told(text: &str, picked: &Picked<'_>) -> String {
    match picked.distance {
        Some(_) => format!("{text} A core each: {}.", words::distance(picked.distance)),
        None => text.to_owned(),
    }
}

/// Where no time between calls is drawn on a logarithmic axis, in microseconds.
pub(super) const AT_ZERO: f64 = 0.7;
const FLOOR: &str = "floor";
