//! What `lab compare` prints: a table for people, or every field of every row for programs.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use clap::ValueEnum;
use serde_json::Value;

use super::compare::Report;
use super::rows::Row;
use super::table::{self, Style};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table in 80 columns, and what one has to know to read it
    Table,
    /// The same with more columns
    Wide,
    /// The wide one in Markdown
    Markdown,
    /// Every field of every row
    Csv,
    /// Every field of every row, the machine and the command
    Json,
}

/// Prints the report.
pub(super) fn print(report: &Report, format: Format) -> io::Result<()> {
    let text = match format {
        Format::Table => table::render(report, Style::Plain),
        Format::Wide => table::render(report, Style::Wide),
        Format::Markdown => table::render(report, Style::Markdown),
        Format::Csv => csv(&report.rows)?,
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    say(&text)
}

/// Prints a text. That nobody reads it to its end, as with `| head`, is no error of ours.
pub(super) fn say(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Every field of every row, as text.
pub(super) fn csv(rows: &[Row]) -> serde_json::Result<String> {
    let mut out = FIELDS.join(",") + "\n";
    for row in rows {
        let row = serde_json::to_value(row)?;
        let fields = FIELDS.iter().map(|name| match &row[name] {
            Value::Null => String::new(),
            Value::String(text) if text.contains([',', '"', '\n']) => format!("\"{}\"", text.replace('"', "\"\"")),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        out += &(fields.collect::<Vec<_>>().join(",") + "\n");
    }
    Ok(out)
}

/// The latencies of every row: its number, the upper end of a bucket, and how many calls are in it.
pub(super) fn histograms(rows: &[Row]) -> String {
    let mut out = "row,upper_ns,count\n".to_owned();
    for (number, row) in rows.iter().enumerate() {
        for (upper, count) in &row.histogram.0 {
            let _ = writeln!(out, "{number},{upper},{count}");
        }
    }
    out
}

/// All fields of a row, in the order of their columns.
const FIELDS: &[&str] = &[
    "transport",
    "wait",
    "host",
    "spin_us",
    "yield_us",
    "ring_kib",
    "cache",
    "workload",
    "placement",
    "think_us",
    "in_flight",
    "connections",
    "distance",
    "slices",
    "moved",
    "steal",
    "calls",
    "p50_ns",
    "p50_low_ns",
    "p50_high_ns",
    "p90_ns",
    "p99_ns",
    "p999_ns",
    "max_ns",
    "clock_ns",
    "mean_ns",
    "calls_per_s",
    "execution_ns",
    "execution_calls",
    "floor_ns",
    "copy_floor_ns",
    "ratio_floor",
    "ratio_floor_low",
    "ratio_floor_high",
    "ratio_copy_floor",
    "ratio_uds",
    "ratio_uds_low",
    "ratio_uds_high",
    "client_cpu_ns",
    "host_cpu_ns",
    "client_switches",
    "host_switches",
    "errors",
    "error",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::lab::matrix::{Cell, HostKind, Placement, Situation, Way, Workload};
    use crate::lab::rows::{Failure, rows};

    #[test]
    fn csv_has_every_field() {
        let situation = Situation {
            workload: Workload::Connect,
            placement: Placement::Free,
            think_us: 0,
            in_flight: 1,
            connections: 2,
        };
        let cells = [Cell { way: Way::today(HostKind::Tokio), situation }];
        let failure = Failure { cell: 0, error: "a \"strange\", long tale".to_owned() };
        let rows = rows(&cells, &[], &[failure]);
        let fields = serde_json::to_value(&rows[0]).unwrap();
        let named: BTreeSet<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(named, FIELDS.iter().copied().collect());

        let csv = csv(&rows).unwrap();
        let line = csv.lines().nth(1).unwrap();
        assert!(line.starts_with("uds,park,tokio,,,,,connect,free,0,1,2,,0,0,"), "{line}");
        assert!(line.ends_with(r#",1,"a ""strange"", long tale""#), "{line}");
    }
}
