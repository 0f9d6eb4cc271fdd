//! The tables of a record, part by part. Each is one entry of [`TABLES`]: which rows, what makes a line, what makes a column, what
//! is printed where they meet.

use super::page::{Block, Line, Piece, Table, Value, line};
use super::pick::{Picked, by_distance};
use super::read::{Record, Row};
use super::words::{self, Measure};

/// A part of a record as a table: lines and columns are made by what rows have in common.
pub(super) struct Pivot {
    pub(super) part: &'static str,
    title: &'static str,
    /// What the cells are, and what one has to know to read them.
    about: &'static str,
    wanted: fn(&Row) -> bool,
    /// What the first column is called, and what it says of a row.
    line: (&'static str, fn(&Row) -> String),
    column: fn(&Row) -> String,
    measures: &'static [Measure],
    /// Tables for all distances that have their share of the slices; otherwise for the one with the most.
    distances: bool,
}

/// A line for each way, a column for each workload, at the distance that was met most.
const WAYS_BY_WORKLOAD: Pivot = Pivot {
    part: "",
    title: "",
    about: "",
    wanted: |_| true,
    line: ("way", words::way),
    column: |row| row.workload.clone(),
    measures: &[words::whole],
    distances: false,
};

pub(super) const TABLES: &[Pivot] = &[
    Pivot {
        part: "hot",
        title: "A hot call against the floor",
        about: "The median call, and how many times the floor that is. `ping` is the streams alone, without the protocol.",
        measures: &[words::p50, words::to_floor],
        distances: true,
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "compare",
        title: "Today's way and its rivals",
        about: "The median call; of `trace:` a whole recorded execution, connecting included.",
        wanted: |row| row.placement == "split",
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "alternatives",
        title: "What ADR-003 names beside the socket",
        about: "The median call; of `trace:` a whole recorded execution, connecting included.",
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "peers",
        title: "What others would reach for",
        about: "The median call; of `trace:` a whole recorded execution, connecting included.",
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "cache",
        title: "Fewer calls against cheaper ones",
        about: "A whole recorded execution, connecting included, and how many of its calls came to the host; with and without a cache \
                of storage pages in front of the client, by the bytes of its pages.",
        line: ("way", words::cached_way),
        measures: &[words::whole, words::calls],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "savings",
        title: "What a cache of 256-byte pages saves, trace by trace",
        about: "A whole recorded execution, connecting included, and how many of its calls came to the host.",
        wanted: |row| matches!(row.cache, None | Some(256)) && (row.wait == "adaptive" || row.transport == "uds"),
        line: ("trace", |row| row.trace().unwrap_or(&row.workload).to_owned()),
        column: words::cached_way,
        measures: &[words::whole, words::calls],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "sizes",
        title: "By size of the value",
        about: "The median call.",
        measures: &[words::p50],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "bulk",
        title: "64 KiB at once",
        about: "The median call, and how many times the floor of copying as much that is.",
        measures: &[words::p50, words::to_copy_floor],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "flight",
        title: "Calls in flight",
        about: "Time for each call, at the median of batches.",
        column: |row| format!("{} in flight", row.in_flight),
        measures: &[words::p50],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "think",
        title: "By time between calls",
        about: "The median call, and CPU time of both processes for each call, while GenVM computes so long between two of them.",
        column: think,
        measures: &[words::p50, words::cpu],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "parked",
        title: "Calls a millisecond apart, both ends asleep in between",
        about: "The median call, and CPU time of both processes for each call.",
        measures: &[words::p50, words::cpu],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "same",
        title: "Both ends on one core",
        about: "The median call, and how many times today's time that is: the sleeping Unix socket with the same kind of host.",
        measures: &[words::p50_interval, words::to_uds],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "budget",
        title: "How long to poll, then to yield",
        about: "By the microseconds of each, on a core each: the median call, and CPU time of both processes for each call.",
        wanted: |row| row.placement == "split",
        line: ("poll + yield", budget),
        column: think,
        measures: &[words::p50, words::cpu],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "ring",
        title: "Size of a ring",
        about: "The median call; of `trace:` a whole recorded execution; of `connect` from connecting to the first answer.",
        wanted: |row| row.ring_kib.is_some(),
        line: ("ring", |row| format!("{} KiB, {}", row.ring_kib.unwrap_or_default(), words::way(row))),
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "connect",
        title: "Connect to first answer",
        about: "The median, and how many times today's time that is: the sleeping Unix socket with the same kind of host.",
        measures: &[words::p50_interval, words::to_uds],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "connections",
        title: "Many connections",
        about: "Placed by the scheduler: calls a second of all connections, and CPU time of both processes for each call.",
        column: |row| format!("{} at once", row.connections),
        measures: &[words::rate, words::cpu],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "beside",
        title: "Beside others who compute",
        about: "A thread for each core computes all the while. The mean call, the median and the 99th percentile: a few calls wait for a scheduler slice, and the mean has them.",
        column: |row| {
            let placement = match &row.placement[..] {
                "split" => "a core each",
                "same" => "both on one core",
                _ => "placed by the scheduler",
            };
            placement.to_owned()
        },
        measures: &[words::mean, words::p50, words::p99],
        distances: true,
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "named",
        title: "Named segments, a core each",
        about: "The median call; of `connect` from connecting to the first answer.",
        wanted: |row| row.placement == "split",
        measures: &[words::p50],
        ..WAYS_BY_WORKLOAD
    },
    Pivot {
        part: "named",
        title: "Named segments, both ends on one core",
        about: "The median call; of `connect` from connecting to the first answer.",
        wanted: |row| row.placement == "same",
        measures: &[words::p50],
        ..WAYS_BY_WORKLOAD
    },
];

/// Parts that are no comparison: what their command printed is shown as it is.
pub(super) const PRINTED: &[(&str, &str)] = &[
    ("walk", "The least that any ring can take"),
    ("idle", "A connection that nobody uses"),
    ("doorbell", "How to wake a peer"),
    ("model", "The model of `advise`, and what was measured"),
];

impl Pivot {
    /// What it is called where it is missing.
    pub(super) fn title(&self) -> &'static str {
        self.title
    }

    /// The table under its heading; `None` if the part has none of its rows.
    pub(super) fn blocks(&self, record: &Record) -> Option<Vec<Block>> {
        let mut picked = by_distance(record, self.part, self.wanted);
        let all: u64 = picked.iter().map(slices).sum();
        if !self.distances {
            picked.truncate(1);
        }
        picked.retain(|picked| slices(picked) as f64 >= WORTH_SHOWING * all as f64);
        if picked.is_empty() {
            return None;
        }
        let mut blocks = vec![Block::Heading(3, self.title.to_owned())];
        for (number, picked) in picked.iter().enumerate() {
            let table = self.table(picked);
            let about = if number == 0 { words_and_code(self.about) } else { line![] };
            let shown = match picked.distance {
                None => String::new(),
                at => format!("{} ({} of {all} slices).", capital(words::distance(at)), slices(picked)),
            };
            let mut text = about;
            if !shown.is_empty() {
                text.0.push(if number == 0 { format!(" {shown}").into() } else { shown.into() });
            }
            blocks.extend([Block::Text(text), Block::Table(table)]);
        }
        Some(blocks)
    }

    fn table(&self, picked: &Picked<'_>) -> Table {
        let (name, of) = self.line;
        let columns = distinct(picked, self.column);
        let mut table =
            Table { header: [name.to_owned()].into_iter().chain(columns.iter().cloned()).collect(), rows: vec![] };
        for text in distinct(picked, of) {
            let mut cells = vec![Value::word(text.clone())];
            cells.extend(columns.iter().map(|column| {
                let row = picked.one(|row| of(row) == text && (self.column)(row) == *column);
                row.map_or_else(|| Value::word(words::DASH), |row| cell(row, self.measures))
            }));
            table.rows.push(cells);
        }
        table
    }
}

/// What a table about ways prints of each in one situation.
pub(super) fn ways(rows: &[&Row]) -> Table {
    let measures: &[(&str, Measure)] = &[
        ("median (95 %)", words::p50_interval),
        ("p99", words::p99),
        ("p99.9", words::p999),
        ("CPU", words::cpu),
        ("stolen", words::stolen),
        ("× floor (95 %)", words::to_floor),
        ("× today (95 %)", words::to_uds),
    ];
    let header = std::iter::once("way").chain(measures.iter().map(|(name, _)| *name));
    let line = |row: &&Row| {
        let cells = measures.iter().map(|(_, measure)| measure(row));
        std::iter::once(Value::word(words::cached_way(row))).chain(cells).collect()
    };
    Table { header: header.map(str::to_owned).collect(), rows: rows.iter().map(line).collect() }
}

/// What is printed of a row in one cell: a row that was not measured says it once.
fn cell(row: &Row, measures: &[Measure]) -> Value {
    let values: Vec<_> = measures.iter().map(|measure| measure(row)).collect();
    let known = values.iter().filter(|value| !value.sources.is_empty()).cloned();
    let shown = if row.is_empty() { known.take(1).collect::<Vec<_>>() } else { known.collect() };
    shown.into_iter().reduce(Value::and).unwrap_or_else(|| Value::word(words::DASH))
}

/// What the rows are called, each name once, in the order of the rows.
fn distinct(picked: &Picked<'_>, name: fn(&Row) -> String) -> Vec<String> {
    let mut names = Vec::new();
    for row in &picked.rows {
        let name = name(row);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn slices(picked: &Picked<'_>) -> u64 {
    picked.rows.iter().map(|row| row.slices).sum()
}

fn think(row: &Row) -> String {
    format!("{} µs", row.think_us)
}

fn budget(row: &Row) -> String {
    format!("{} + {} µs", row.spin_us.unwrap_or_default(), row.yield_us.unwrap_or_default())
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text in which backquotes mean code.
pub(super) fn words_and_code(text: &str) -> Line {
    let pieces = text.split('`').enumerate().filter(|(_, text)| !text.is_empty());
    Line(pieces.map(|(at, text)| if at % 2 == 1 { Piece::Code(text.to_owned()) } else { text.into() }).collect())
}

/// The share of the slices that makes a distance worth a table, where there is one for each.
const WORTH_SHOWING: f64 = 0.05;
