//! What was hoped for, and what came of it: one line a figure, each about a ratio that a row has.

use super::page::{Table, Value};
use super::pick::by_distance;
use super::read::{Record, Row};
use super::words;
use crate::lab::table::ratio_text;

/// A figure that was to be reached.
struct Target {
    what: &'static str,
    part: &'static str,
    wanted: fn(&Row) -> bool,
    /// The ratio, and the column that it is from.
    ratio: fn(&Row) -> Option<f64>,
    column: &'static str,
    at_most: f64,
}

/// Shared memory as it is by default.
fn adaptive(row: &Row, workload: &str) -> bool {
    (&row.transport[..], &row.wait[..], &row.host[..]) == ("shm", "adaptive", "thread") && row.workload == workload
}

const TARGETS: &[Target] = &[
    Target {
        what: "hot ping:32, streams alone, × floor",
        part: "hot",
        wanted: |row| adaptive(row, "ping:32"),
        ratio: |row| row.ratio_floor,
        column: "ratio_floor",
        at_most: 1.2,
    },
    Target {
        what: "hot read:32, whole stack, × floor",
        part: "hot",
        wanted: |row| adaptive(row, "read:32"),
        ratio: |row| row.ratio_floor,
        column: "ratio_floor",
        at_most: 1.35,
    },
    Target {
        what: "hot write:32, whole stack, × floor",
        part: "hot",
        wanted: |row| adaptive(row, "write:32"),
        ratio: |row| row.ratio_floor,
        column: "ratio_floor",
        at_most: 1.35,
    },
    Target {
        what: "p99 of hot read:32, × its median",
        part: "hot",
        wanted: |row| adaptive(row, "read:32"),
        ratio: |row| Some(row.p99_ns? / row.p50_ns?),
        column: "p99_ns / p50_ns",
        at_most: 2.0,
    },
    Target {
        what: "read:65536, × copying as much",
        part: "bulk",
        wanted: |row| adaptive(row, "read:65536"),
        ratio: |row| row.ratio_copy_floor,
        column: "ratio_copy_floor",
        at_most: 1.15,
    },
    Target {
        what: "16 in flight, a call × floor",
        part: "flight",
        wanted: |row| adaptive(row, "read:32") && row.in_flight == 16,
        ratio: |row| row.ratio_floor,
        column: "ratio_floor",
        at_most: 35.0 / 130.0,
    },
    Target {
        what: "256 in flight, a call × floor",
        part: "flight",
        wanted: |row| adaptive(row, "read:32") && row.in_flight == 256,
        ratio: |row| row.ratio_floor,
        column: "ratio_floor",
        at_most: 20.0 / 130.0,
    },
    Target {
        what: "both ends on one core, × the sleeping socket",
        part: "same",
        wanted: |row| adaptive(row, "read:32"),
        ratio: |row| row.ratio_uds,
        column: "ratio_uds",
        at_most: 1.0,
    },
    Target {
        what: "a millisecond between calls, both sleep, × the socket",
        part: "parked",
        wanted: |row| (&row.transport[..], &row.wait[..], &row.workload[..]) == ("shm", "park", "read:32"),
        ratio: |row| row.ratio_uds,
        column: "ratio_uds",
        at_most: 1.1,
    },
    Target {
        what: "connect to first answer, × the socket",
        part: "connect",
        wanted: |row| adaptive(row, "connect"),
        ratio: |row| row.ratio_uds,
        column: "ratio_uds",
        at_most: 2.5,
    },
];

/// A line for each figure that the record has, at each distance of the cores that it was measured at; `None` if it has none.
pub(super) fn table(record: &Record) -> Option<Table> {
    let header = ["figure", "hoped for", "measured", ""].map(str::to_owned).to_vec();
    let mut rows = Vec::new();
    for target in TARGETS {
        for picked in by_distance(record, target.part, target.wanted) {
            for row in picked.rows.iter().filter(|row| !row.is_empty()) {
                let Some(ratio) = (target.ratio)(row) else { continue };
                let at =
                    row.distance.as_deref().map_or_else(String::new, |at| format!(", {}", words::distance(Some(at))));
                rows.push(vec![
                    Value::word(format!("{}{at}", target.what)),
                    Value::word(format!("≤ {} ×", ratio_text(target.at_most))),
                    Value::new(format!("{} ×", ratio_text(ratio)), row, target.column),
                    Value::word(if ratio <= target.at_most { "met" } else { "missed" }),
                ]);
            }
        }
    }
    (!rows.is_empty()).then_some(Table { header, rows })
}
