//! The table of `lab compare`, for people: one block a situation and distance, one line a way. Narrower than the rows: those have
//! everything.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::compare::Report;
use super::matrix::{Distance, Placement, Situation};
use super::rows::Row;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// In 80 columns.
    Plain,
    Wide,
    Markdown,
}

/// The table, and what one has to know to read it.
pub(super) fn render(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let mut left_out = 0;
    for rows in report.rows.chunk_by(|a, b| a.cell.situation == b.cell.situation) {
        let all: usize = rows.iter().map(|row| row.slices).sum();
        let mut distances: Vec<_> = rows.iter().map(|row| row.distance).collect();
        distances.sort_unstable();
        distances.dedup();
        for distance in distances {
            let block: Vec<_> =
                rows.iter().filter(|row| row.distance == distance && (row.slices > 0 || row.errors > 0)).collect();
            if block.is_empty() {
                continue; // the legend names what was measured on moving cores only
            }
            let share: usize = block.iter().map(|row| row.slices).sum();
            let failed = block.iter().any(|row| row.slices == 0);
            if (share as f64) < WORTH_SHOWING * all as f64 && !failed {
                left_out += 1;
                continue;
            }
            let mark = if style == Style::Markdown { "### " } else { "" };
            let _ = writeln!(out, "{mark}{}", title(&rows[0].cell.situation, distance, &block));
            let gap = if style == Style::Markdown { "\n" } else { "" };
            let _ = writeln!(out, "{gap}{}\n", table(&block, style));
        }
    }
    legend(report, style, left_out, &mut out);
    out
}

fn title(situation: &Situation, distance: Option<Distance>, block: &[&Row]) -> String {
    let mut title = situation.to_string();
    if let Some(distance) = distance {
        let _ = write!(title, ", {distance}");
    }
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (low, high) = values.fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        if (low - high).abs() < 0.5 { format!("{high:.0}") } else { format!("{low:.0} to {high:.0}") }
    };
    let mut notes = Vec::new();
    if has_floor(situation) && block.iter().any(|row| row.floor_ns.is_some()) {
        notes.push(format!("floor {} ns", range(&mut block.iter().filter_map(|row| row.floor_ns))));
    }
    if block.iter().any(|row| row.copy_floor_ns.is_some()) && has_floor(situation) {
        let mut copies: Vec<f64> = block.iter().filter_map(|row| row.copy_floor_ns).collect();
        notes.push(format!("copy floor {}", nanos(super::stats::median(&mut copies))));
    }
    notes.push(format!("slices a way: {}", range(&mut block.iter().map(|row| row.slices as f64))));
    format!("{title} ({})", notes.join(", "))
}

/// Whether the floor between two cores has to do with the calls.
fn has_floor(situation: &Situation) -> bool {
    situation.placement != Placement::Same && situation.connections == 1
}

type Column = (&'static str, Box<dyn Fn(&Row) -> String>);

/// What is worth a column: in 80 characters, or everything.
fn columns(rows: &[&Row], style: Style) -> Vec<Column> {
    let situation = &rows[0].cell.situation;
    let executions = rows.iter().any(|row| row.execution_ns.is_some());
    let calls = executions && rows.iter().any(|row| row.cell.way.cache.is_some());
    let copies = has_floor(situation) && rows.iter().any(|row| row.ratio_copy_floor.is_some());
    let all = style != Style::Plain;
    let mut columns: Vec<Column> = Vec::new();
    let mut column = |shown: bool, name, text: fn(&Row) -> Option<String>| {
        if shown {
            columns.push((name, Box::new(move |row: &Row| text(row).unwrap_or_else(dash))));
        }
    };
    column(true, "p50", |row| row.p50_ns.map(whole));
    column(true, "p99", |row| row.p99_ns.map(whole));
    column(all || !executions && !copies, "p99.9", |row| row.p999_ns.map(whole));
    column(all, "mean", |row| row.mean_ns.map(nanos));
    column(all, "calls/s", |row| row.calls_per_s.map(count));
    column(true, "cpu", |row| row.client_cpu_ns.zip(row.host_cpu_ns).map(|(client, host)| nanos(client + host)));
    column(all, "switches", |row| {
        row.client_switches.zip(row.host_switches).map(|(client, host)| format!("{:.2}", client + host))
    });
    column(has_floor(situation) && (all || !executions), "× floor", |row| {
        with_bounds(row.ratio_floor, row.ratio_floor_low, row.ratio_floor_high)
    });
    column(copies, "× copy", |row| row.ratio_copy_floor.map(ratio_text));
    column(true, "× uds", |row| with_bounds(row.ratio_uds, row.ratio_uds_low, row.ratio_uds_high));
    column(executions, "execution", |row| row.execution_ns.map(nanos));
    column(calls, "calls", |row| row.execution_calls.map(|calls| format!("{calls:.1}")));
    columns
}

fn table(rows: &[&Row], style: Style) -> Table {
    let columns = columns(rows, style);
    let mut table = Table::new();
    let preset = if style == Style::Markdown { presets::ASCII_MARKDOWN } else { presets::NOTHING };
    table.load_style(preset).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(std::iter::once("way").chain(columns.iter().map(|(name, _)| *name)));
    for row in rows {
        let mut cells = vec![way(row, rows)];
        match row.slices {
            0 => cells.push("failed".to_owned()),
            _ => cells.extend(columns.iter().map(|(_, text)| text(row))),
        }
        table.add_row(cells);
    }
    for column in 1..=columns.len() {
        table.column_mut(column).expect("a column of the header").set_cell_alignment(CellAlignment::Right);
    }
    if style == Style::Plain {
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
    }
    table
}

/// A ratio, and how far its bounds are from it at most.
fn with_bounds(ratio: Option<f64>, low: Option<f64>, high: Option<f64>) -> Option<String> {
    let ratio = ratio?;
    let Some((low, high)) = low.zip(high) else { return Some(ratio_text(ratio)) };
    let percent = (high / ratio - 1.0).max(1.0 - low / ratio) * 100.0;
    Some(format!("{} ±{percent:.0}%", ratio_text(ratio)))
}

/// The way of a row, with what tells it from others of the same name.
fn way(row: &Row, rows: &[&Row]) -> String {
    let way = row.cell.way;
    let mut text = way.to_string();
    let others = || {
        rows.iter().map(|row| row.cell.way).filter(|other| (other.transport, other.wait) == (way.transport, way.wait))
    };
    if let (Some(spin), Some(yields)) = (way.spin_us, way.yield_us)
        && others().any(|other| (other.spin_us, other.yield_us) != (way.spin_us, way.yield_us))
    {
        let _ = write!(text, " {spin}+{yields} µs");
    }
    if let Some(ring) = way.ring_kib
        && others().any(|other| other.ring_kib != way.ring_kib)
    {
        let _ = write!(text, " {ring} KiB");
    }
    if let Some(page) = way.cache {
        let _ = write!(text, " cache {page}");
    }
    text
}

fn legend(report: &Report, style: Style, left_out: usize, out: &mut String) {
    let _ = writeln!(
        out,
        "Times are of one call and its answer between two processes. p50 to p99.9\n\
         include {:.0} ns for the clock, which ratios leave out. cpu: of both processes,\n\
         a call. × floor: to a cache line that bounces between the same two cores,\n\
         right before and right after. × uds: to the Unix socket that sleeps (park), as\n\
         today, at the same distance in the same round. ±: no further away are the\n\
         bounds of 95 of 100 medians, drawn over rounds and slices (bootstrap).",
        report.timer_ns,
    );
    if style != Style::Plain {
        let _ = writeln!(out, "mean: of calls timed in batches. switches: of both processes, a call.");
    }
    if report.rows.iter().any(|row| row.ratio_copy_floor.is_some() && has_floor(&row.cell.situation)) {
        let _ = writeln!(out, "× copy: to copying the bytes into shared memory on one core, out on the other.");
    }
    if report.rows.iter().any(|row| row.cell.way.cache.is_some() && row.execution_calls.is_some()) {
        let _ = writeln!(out, "execution: a whole one, connecting included. calls: what of it came to the host.");
    }
    if report.beside > 0 {
        let s = if report.beside == 1 { "" } else { "s" };
        let _ = writeln!(out, "Beside them {} thread{s} for each core computed all the while.", report.beside);
    }
    let slices: usize = report.rows.iter().map(|row| row.slices).sum();
    let cells = report.rows.chunk_by(|a, b| a.cell == b.cell);
    let moved: usize = cells.clone().map(|rows| rows[0].moved).sum();
    if moved > 0 {
        let _ = writeln!(out, "Of {} slices {moved} are left out because the cores moved meanwhile.", slices + moved);
    }
    if left_out > 0 {
        let percent = WORTH_SHOWING * 100.0;
        let _ = writeln!(
            out,
            "Not shown, with under {percent:.0} % of the slices of their workload and placement:\n\
             {left_out} tables; --json has them."
        );
    }
    let _ =
        writeln!(out, "{}; {} rounds, seed {}, {:.0} s.", report.machine, report.rounds, report.seed, report.took_s);
    for row in report.rows.iter().filter(|row| row.slices == 0 && row.errors == 0) {
        let _ = writeln!(out, "NOT MEASURED, the cores moved every time: {}", row.cell);
    }
    for row in cells.map(|rows| &rows[0]).filter(|row| row.errors > 0) {
        let error = row.error.as_deref().unwrap_or("unknown");
        let _ = writeln!(out, "FAILED in {} of {} rounds: {}: {error}", row.errors, report.rounds, row.cell);
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn whole(ns: u64) -> String {
    nanos(ns as f64)
}

/// A time with three significant digits.
pub(super) fn nanos(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "µs"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let digits = match value {
        value if value >= 99.95 || unit == "ns" => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

pub(super) fn count(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

pub(super) fn ratio_text(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 99.95 => format!("{ratio:.0}"),
        ratio if ratio >= 9.995 => format!("{ratio:.1}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.4}"),
    }
}

/// The share of a situation's slices that makes a distance worth a table.
const WORTH_SHOWING: f64 = 0.15;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::machine::Machine;
    use crate::lab::rows::tests::{cells, sample};
    use crate::lab::rows::{Failure, Sample, rows};

    #[test]
    fn three_significant_digits() {
        for (ns, text) in
            [(0.0, "0 ns"), (141.4, "141 ns"), (1_234.0, "1.23 µs"), (54_321.0, "54.3 µs"), (8e6, "8.00 ms")]
        {
            assert_eq!(nanos(ns), text);
        }
        assert_eq!(
            (ratio_text(0.0023), ratio_text(1.234), ratio_text(430.4)),
            ("0.0023".into(), "1.23".into(), "430".into())
        );
    }
    #[test]
    fn a_distance_that_was_hardly_met_is_left_out_and_that_is_said() {
        let cells = cells(Placement::Split);
        let near = (0..20).map(|at| sample(at % 2, 0, 1000, [70.0, 70.0]));
        let far = (0..4).map(|at| sample(at % 2, 0, 2000, [400.0, 400.0]));
        let few = far.clone().take(3);
        let render = |samples: Vec<Sample>, style| {
            let failure = Failure { cell: 1, error: "gone".to_owned() };
            let rows = rows(&cells, &samples, &[failure]);
            let machine = Machine::look();
            render(
                &Report { command: vec![], machine, seed: 1, rounds: 1, took_s: 1.0, beside: 0, timer_ns: 30.0, rows },
                style,
            )
        };
        let shown = render(near.clone().chain(far).collect(), Style::Plain);
        assert!(
            shown.contains("read:32, a core each, near cores (floor 70 ns, copy floor 700 ns, slices a way: 10)"),
            "{shown}"
        );
        assert!(
            shown.contains("far cores (floor 400 ns, copy floor 4.00 µs, slices a way: 2)")
                && !shown.contains("Not shown"),
            "{shown}"
        );
        assert!(shown.contains("FAILED in 1 of 1 rounds: shm spin: read:32, a core each: gone"), "{shown}");
        let shown = render(near.clone().chain(few.clone()).collect(), Style::Markdown);
        assert!(!shown.contains("far cores") && shown.contains("placement:\n1 tables; --json has them."), "{shown}");
        let shown = render(vec![sample(0, 0, 1000, [70.0, 400.0])], Style::Plain);
        assert!(shown.contains("NOT MEASURED, the cores moved every time: uds park: read:32"), "{shown}");
        assert!(shown.starts_with("read:32, a core each (slices a way: 0)"), "what failed is shown: {shown}");
        assert!(!shown.contains("\n uds park"), "{shown}");
        let shown = render(near.chain(few).collect(), Style::Markdown);
        assert!(shown.starts_with("### read:32") && shown.contains("\n| way "), "{shown}");
        assert!(shown.lines().all(|line| line.chars().count() <= 120), "{shown}");
    }
}
