//! What `lab compare` prints: a table for people, or every field of every row for programs.

use std::io::{self, Write as _};

use clap::ValueEnum;
use serde_json::Value;

use super::compare::Report;
use super::table::{self, Style};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// A table, and what one has to know to read it
    Table,
    /// The same in Markdown
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
        Format::Markdown => table::render(report, Style::Markdown),
        Format::Csv => csv(report)?,
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

fn csv(report: &Report) -> serde_json::Result<String> {
    let mut out = FIELDS.join(",") + "\n";
    for row in &report.rows {
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
    "p90_ns",
    "p99_ns",
    "p999_ns",
    "max_ns",
    "mean_ns",
    "calls_per_s",
    "execution_ns",
    "execution_calls",
    "floor_ns",
    "copy_floor_ns",
    "ratio_floor",
    "ratio_copy_floor",
    "ratio_uds",
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
    use crate::lab::machine::Machine;
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

        let machine = Machine::look();
        let report = Report { command: vec![], machine, seed: 1, rounds: 1, took_s: 1.0, timer_ns: 30.0, rows };
        let csv = csv(&report).unwrap();
        let line = csv.lines().nth(1).unwrap();
        assert!(line.starts_with("uds,park,tokio,,,,,connect,free,0,1,2,,0,0,"), "{line}");
        assert!(line.ends_with(r#",1,"a ""strange"", long tale""#), "{line}");
    }
}
