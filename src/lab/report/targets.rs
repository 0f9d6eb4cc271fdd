//! What was hoped for, and what came of it: one line a figure, each about a ratio that a row has.

use super::page::{Table, Value};
use super::pick::by_distance;
use super::read::{Record, Row};
use super::words;
use crate::lab::table::ratio_text;

/// A figure that was to be reached: what it is called, the part and the rows that have it, what is measured, and the most that it was
/// to be.
struct Target(&'static str, &'static str, fn(&Row) -> bool, Ratio, f64);

#[derive(Clone, Copy)]
enum Ratio {
    ToFloor,
    ToCopying,
    ToToday,
    Tail,
}

impl Ratio {
    fn of(self, row: &Row) -> Option<f64> {
        match self {
            Self::ToFloor => row.ratio_floor,
            Self::ToCopying => row.ratio_copy_floor,
            Self::ToToday => row.ratio_uds,
            Self::Tail => Some(row.p99_ns? / row.p50_ns?),
        }
    }

    fn column(self) -> &'static str {
        match self {
            Self::ToFloor => "ratio_floor",
            Self::ToCopying => "ratio_copy_floor",
            Self::ToToday => "ratio_uds",
            Self::Tail => "p99_ns / p50_ns",
        }
    }
}

/// Shared memory and a host of threads.
fn shm(row: &Row, wait: &str, workload: &str) -> bool {
    (&row.transport[..], &row.wait[..], &row.host[..], &row.workload[..]) == ("shm", wait, "thread", workload)
}

const TARGETS: &[Target] = &[
    Target("hot ping:32, streams alone, × floor", "hot", |row| shm(row, "adaptive", "ping:32"), Ratio::ToFloor, 1.2),
    Target("hot read:32, whole stack, × floor", "hot", |row| shm(row, "adaptive", "read:32"), Ratio::ToFloor, 1.35),
    Target("hot write:32, whole stack, × floor", "hot", |row| shm(row, "adaptive", "write:32"), Ratio::ToFloor, 1.35),
    Target("p99 of hot read:32, × its median", "hot", |row| shm(row, "adaptive", "read:32"), Ratio::Tail, 2.0),
    Target("read:65536, × copying as much", "bulk", |row| shm(row, "adaptive", "read:65536"), Ratio::ToCopying, 1.15),
    Target("16 in flight, a call × floor", "flight", |row| in_flight(row, 16), Ratio::ToFloor, 35.0 / 130.0),
    Target("256 in flight, a call × floor", "flight", |row| in_flight(row, 256), Ratio::ToFloor, 20.0 / 130.0),
    Target(
        "both ends on one core, × the sleeping socket",
        "same",
        |row| shm(row, "adaptive", "read:32"),
        Ratio::ToToday,
        1.0,
    ),
    Target(
        "a millisecond between calls, both sleep, × the socket",
        "parked",
        |row| shm(row, "park", "read:32"),
        Ratio::ToToday,
        1.1,
    ),
    Target(
        "connect to first answer, × the socket",
        "connect",
        |row| shm(row, "adaptive", "connect"),
        Ratio::ToToday,
        2.5,
    ),
];

fn in_flight(row: &Row, calls: u32) -> bool {
    shm(row, "adaptive", "read:32") && row.in_flight == calls
}

/// A line for each figure that the record has, at each distance of the cores that it was measured at; `None` if it has none.
pub(super) fn table(record: &Record) -> Option<Table> {
    let header = ["figure", "hoped for", "measured", ""].map(str::to_owned).to_vec();
    let mut rows = Vec::new();
    for Target(what, part, wanted, ratio, at_most) in TARGETS {
        for picked in by_distance(record, part, wanted) {
            for row in picked.rows.iter().filter(|row| !row.is_empty()) {
                let Some(measured) = ratio.of(row) else { continue };
                let at =
                    row.distance.as_deref().map_or_else(String::new, |at| format!(", {}", words::distance(Some(at))));
                rows.push(vec![
                    Value::word(format!("{what}{at}")),
                    Value::word(format!("≤ {} ×", ratio_text(*at_most))),
                    Value::new(format!("{} ×", ratio_text(measured)), row, ratio.column()),
                    Value::word(if measured <= *at_most { "met" } else { "missed" }),
                ]);
            }
        }
    }
    (!rows.is_empty()).then_some(Table { header, rows })
}
