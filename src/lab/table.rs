//! The table of `lab compare`, for people: one block a workload and placement, one line a way.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::compare::Report;
use super::rows::Row;

/// Prints the table and what one has to know to read it.
pub(super) fn print(report: &Report, took: Duration) -> io::Result<()> {
    let text = render(report, took);
    match io::stdout().write_all(text.as_bytes()) {
        // `| head` is no error of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

fn render(report: &Report, took: Duration) -> String {
    let mut out = String::new();
    let mut groups: Vec<Vec<&Row>> = Vec::new();
    for row in &report.rows {
        let alike =
            |group: &&mut Vec<&Row>| group[0].cell.situation == row.cell.situation && group[0].distance == row.distance;
        match groups.iter_mut().find(alike) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    // By situation in the order asked for, then from near to far.
    let place = |row: &Row| report.rows.iter().position(|other| other.cell.situation == row.cell.situation);
    groups.sort_by_key(|group| (place(group[0]), group[0].distance));
    let slices = |group: &[&Row]| group.iter().map(|row| row.slices).sum::<usize>();
    let mut left_out = Vec::new();
    for group in &groups {
        let situation = &group[0].cell.situation;
        let all = groups.iter().filter(|other| other[0].cell.situation == *situation).map(|other| slices(other));
        let title = match group[0].distance {
            Some(distance) => format!("{situation}, {distance}"),
            None => situation.to_string(),
        };
        if slices(group) * LEFT_OUT < all.sum() {
            left_out.push(title);
            continue;
        }
        let _ = writeln!(out, "{title}\n{}\n", block(group));
    }
    if !left_out.is_empty() {
        let _ = writeln!(out, "Seen too rarely to be shown (--json has them): {}.\n", left_out.join("; "));
    }
    legend(report, took, &mut out);
    out
}

fn block(rows: &[&Row]) -> Table {
    let executions = rows.iter().any(|row| row.execution_ns.is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let copies = rows.iter().any(|row| row.copy_floor_ns.is_some());
    let mut header = vec!["way", "p50", "p90", "p99", "p99.9", "max", "mean", "calls/s", "cpu", "host cpu", "switches"];
    header.extend(["× floor", "× uds"]);
    if copies {
        header.push("× copy");
    }
    if executions {
        header.push("execution");
    }
    let columns = header.len();
    table.set_header(header);
    for row in rows {
        let mut cells = vec![row.cell.way.to_string()];
        if row.p50_ns.is_none() {
            cells.push("failed".to_owned());
        } else {
            cells.extend(
                [row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns].map(|ns| time(ns.map(|ns| ns as f64))),
            );
            cells.push(time(row.mean_ns));
            cells.push(row.mean_ns.map_or_else(dash, |ns| count(1e9 / ns)));
            cells.extend([row.client_cpu_ns, row.host_cpu_ns].map(time));
            let switches = row.client_switches.zip(row.host_switches).map(|(client, host)| client + host);
            cells.push(switches.map_or_else(dash, |n| format!("{n:.2}")));
            cells.extend([row.ratio_floor, row.ratio_uds].map(|ratio| ratio.map_or_else(dash, ratio_text)));
            if copies {
                cells.push(row.ratio_copy_floor.map_or_else(dash, ratio_text));
            }
            if executions {
                cells.push(time(row.execution_ns));
            }
        }
        table.add_row(cells);
    }
    for column in 1..columns {
        table.column_mut(column).expect("a column of the header").set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn legend(report: &Report, took: Duration, out: &mut String) {
    let floors: Vec<f64> = report.rows.iter().filter_map(|row| row.floor_ns).collect();
    let floor = match (floors.iter().copied().reduce(f64::min), floors.iter().copied().reduce(f64::max)) {
        (Some(low), Some(high)) => {
            format!("floor: one cache line between two cores and back, {low:.0} to {high:.0} ns here")
        }
        _ => "no floor: this process may use one core only".to_owned(),
    };
    let apart = || report.rows.iter().filter(|row| row.cell.situation.has_distance());
    let mut cells: Vec<_> = apart().map(|row| (&row.cell, row.moved)).collect();
    cells.dedup();
    let moved: usize = cells.iter().map(|(_, moved)| moved).sum();
    let slices = moved + apart().map(|row| row.slices).sum::<usize>();
    let _ = writeln!(
        out,
        "Times are round trips of one call, host and GenVM side being two processes; p50 to max include {:.0} ns for the\n\
         clock, which the ratios leave out; mean is over untimed batches. cpu, host cpu and switches (of both) are a call.\n\
         {floor}.\n\
         Each slice of some milliseconds lies between two probes of the floor; where they differ by more than a quarter, the\n\
         cores were moved meanwhile, and the slice is left out: {moved} of {slices} that have a core each.\n\
         × floor, × copy: against the floor, and that of copying as many bytes, beside the slice. × uds: against the Unix socket\n\
         that sleeps (park), as today, in the same round. Ratios are medians over {} rounds.\n\
         {}; seed {}, {:.0} s.",
        report.timer_ns,
        report.rounds,
        report.machine,
        report.seed,
        took.as_secs_f64(),
    );
    for row in report.rows.iter().filter(|row| row.errors > 0) {
        let error = row.error.as_deref().unwrap_or("unknown");
        let _ = writeln!(out, "FAILED in {} of {} rounds: {}: {error}", row.errors, report.rounds, row.cell);
    }
}

fn time(ns: Option<f64>) -> String {
    ns.map_or_else(dash, nanos)
}

fn dash() -> String {
    "–".to_owned()
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

fn count(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.1} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

fn ratio_text(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 99.95 => format!("{ratio:.0}"),
        ratio if ratio >= 9.995 => format!("{ratio:.1}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.4}"),
    }
}

/// A distance that less than one slice in so many of a situation was at is no picture of it.
const LEFT_OUT: usize = 7;

#[cfg(test)]
mod tests {
    use super::*;

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
}
