//! The table of `lab study doorbell`, for people, and the same as CSV.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::pair::{Answer, Pattern, THINK};
use super::{Death, MOURNING, Report, Row};
use crate::lab::matrix::Placement;
use crate::lab::show::say;
use crate::lab::stats::Latencies;
use crate::lab::table::{nanos, ratio_text};

/// Prints the table and what one has to know to read it.
pub(super) fn print(report: &Report, took: Duration) -> io::Result<()> {
    say(&render(report, took))
}

fn render(report: &Report, took: Duration) -> String {
    let mut out = String::new();
    let answered = |row: &&Row| row.cell.pattern != Pattern::Unheard;
    let rows: Vec<_> = report.rows.iter().filter(answered).collect();
    let think = THINK.as_millis();
    for block in rows.chunk_by(|a, b| (a.cell.pattern, a.cell.placement) == (b.cell.pattern, b.cell.placement)) {
        let what = match block[0].cell.pattern {
            Pattern::Parked => format!("{think} ms of thinking before each ring"),
            Pattern::Armed => format!("{think} ms of thinking, a flag says who sleeps"),
            Pattern::Polled => {
                format!("{think} ms of thinking, a flag says who sleeps, the ringer polls for the answer")
            }
            _ => "ring after ring".to_owned(),
        };
        let place = if block[0].cell.placement == Placement::Split { "a core each" } else { "both on one core" };
        let _ = writeln!(out, "{what}, {place}\n{}\n", round_trips(block));
    }
    let _ = writeln!(out, "what else there is to know\n{}\n", facts(report));
    legend(report, took, &mut out);
    // The last column is padded as well.
    out.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn round_trips(rows: &[&Row]) -> Table {
    let header = ["bell", "p50", "p99", "max", "× socket", "in ring()", "cpu", "its peer", "switches"];
    let lines = rows.iter().map(|row| {
        let mut cells = vec![row.cell.bell.name().to_owned()];
        if row.trips.count() == 0 {
            cells.push("failed".to_owned());
            return cells;
        }
        cells.extend([row.trips.percentile(50.0), row.trips.percentile(99.0), row.trips.max()].map(time));
        let bounds = row.ratio.map(|ratios| ratios.map(short));
        cells.push(bounds.map_or_else(dash, |[low, median, high]| format!("{median} ({low}–{high})")));
        cells.push(time(row.rings.percentile(50.0)));
        cells.extend([row.near_cpu_ns, row.far_cpu_ns].map(nanos));
        cells.push(format!("{:.1}+{:.1}", row.near_switches, row.far_switches));
        cells
    });
    table(&header, lines, CellAlignment::Right)
}

fn facts(report: &Report) -> Table {
    let header = ["bell", "unheard ring", "wait on killed", "ring to killed", "tokio", "read-only", "fds", "portable"];
    let lines = report.deaths.iter().map(|death| {
        let Death { bell, wait, ring } = death;
        let unheard = |row: &&Row| row.cell.bell == *bell && row.cell.pattern == Pattern::Unheard && row.count > 0;
        let unheard = report.rows.iter().find(unheard).map_or_else(dash, |row| time(row.rings.percentile(50.0)));
        let known = bell.known().map(str::to_owned);
        let heard = match wait {
            Ok(Answer::Told { after_ns }) => format!("ends, {}", time(*after_ns)),
            other => word(other).to_owned(),
        };
        [bell.name().to_owned(), unheard, heard, word(ring).to_owned()].into_iter().chain(known).collect()
    });
    table(&header, lines, CellAlignment::Left)
}

fn legend(report: &Report, took: Duration, out: &mut String) {
    let floors: Vec<f64> = report.rows.iter().filter_map(|row| row.floor_ns).collect();
    let floor = match (floors.iter().copied().reduce(f64::min), floors.iter().copied().reduce(f64::max)) {
        (Some(low), Some(high)) => {
            let moved: u32 = report.rows.iter().map(|row| row.moved).sum();
            let split = floors.len() as u32 * report.rounds;
            format!(
                "Floor around the cells with a core each: {low:.0} to {high:.0} ns; it moved in {moved} of {split} of them.\n"
            )
        }
        _ => String::new(),
    };
    let _ = write!(
        out,
        "Round trips between two processes: ring, the peer wakes up and rings back, we wake up.\n\
         × socket: p50 against the socket's in the same round, median and quartiles; rounds: {}.\n\
         A flag says who sleeps: only a sleeper is rung, as in shm://; who polls for its answer never is.\n\
         In ring(): the p50 of what the ringer spends there; on one core the peer may run meanwhile.\n\
         Cpu, its peer, switches: of each process a round trip, thinking not included.\n\
         Unheard ring: p50 while nobody sleeps at the bell. Killed: the peer, in its sleep.\n\
         Hangs: for {} s at least. Read-only: works where each end can only read what the other writes.\n\
         Fds: beyond the rendezvous socket. Raw_sync waits in slices of 100 ms, as in shm-named://.\n\
         {floor}{}; seed {}, {:.0} s.\n",
        report.rounds,
        MOURNING.as_secs(),
        report.machine,
        report.seed,
        took.as_secs_f64(),
    );
    for row in report.rows.iter().filter(|row| row.errors > 0) {
        let error = row.error.as_deref().unwrap_or("unknown");
        let _ = writeln!(out, "FAILED in {} of {} rounds: {}: {error}", row.errors, report.rounds, row.cell);
    }
    for Death { bell, wait, ring } in &report.deaths {
        for error in [wait, ring].into_iter().filter_map(|result| result.as_ref().err()) {
            let _ = writeln!(out, "FAILED: {}, peer killed: {}", bell.name(), crate::lab::cli::explain(error));
        }
    }
}

fn table(header: &[&str], lines: impl Iterator<Item = Vec<String>>, alignment: CellAlignment) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    table.add_rows(lines);
    for column in 1..header.len() {
        table.column_mut(column).expect("a column of the header").set_cell_alignment(alignment);
    }
    table
}

/// Everything that was measured, one line a row, after comments that say where and how.
pub(super) fn csv(report: &Report) -> String {
    let mut out = String::new();
    let command: Vec<_> = std::env::args().skip(1).collect();
    let commit = report.machine.commit.as_deref().unwrap_or("unknown");
    let _ = writeln!(out, "# transport-lab {}; seed {}; commit {commit}", command.join(" "), report.seed);
    let _ = writeln!(out, "# {}", report.machine);
    let _ = writeln!(out, "{CSV_HEADER}");
    for row in &report.rows {
        let percentiles = |latencies: &Latencies, percents: &[f64]| -> Vec<String> {
            let some = latencies.count() > 0;
            let value = |&percent| if some { latencies.percentile(percent).to_string() } else { String::new() };
            percents.iter().map(value).collect()
        };
        let mut fields = vec![row.cell.bell.name().to_owned(), pattern(row.cell.pattern).to_owned()];
        fields.push(if row.cell.pattern == Pattern::Unheard { String::new() } else { row.cell.placement.to_string() });
        fields.push(row.count.to_string());
        fields.extend(percentiles(&row.trips, &[50.0, 99.0, 100.0]));
        fields.extend(percentiles(&row.rings, &[50.0, 99.0, 100.0]));
        let used = [row.near_cpu_ns, row.far_cpu_ns, row.near_switches, row.far_switches];
        let used_known = row.trips.count() > 0;
        fields.extend(used.map(|value| if used_known { format!("{value:.2}") } else { String::new() }));
        fields.extend(row.ratio.map_or_else(Default::default, |ratio| ratio.map(|ratio| format!("{ratio:.4}"))));
        fields.push(row.floor_ns.map_or_else(String::new, |floor| format!("{floor:.1}")));
        fields.extend([row.moved, row.errors].map(|number| number.to_string()));
        let death = report.deaths.iter().find(|death| death.bell == row.cell.bell);
        let killed = |of: fn(&Death) -> &Result<Answer>| death.map_or("", |death| word(of(death))).to_owned();
        fields.extend([killed(|death| &death.wait), killed(|death| &death.ring)]);
        let error = row.error.as_deref().unwrap_or("").replace('"', "'").replace('\n', " ");
        let _ = writeln!(out, "{},\"{error}\"", fields.join(","));
    }
    out
}

fn pattern(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::PingPong => "ping-pong",
        Pattern::Parked => "parked",
        Pattern::Armed => "armed",
        Pattern::Polled => "polled",
        Pattern::Unheard => "unheard",
        Pattern::WaitOnKilled => "wait-on-killed",
        Pattern::RingKilled => "ring-killed",
    }
}

fn word(answer: &Result<Answer>) -> &'static str {
    match answer {
        Ok(Answer::Told { .. }) => "error",
        Ok(Answer::Unnoticed) => "nothing",
        Ok(Answer::Hung) => "hangs",
        Ok(Answer::Measured(_)) | Err(_) => "failed",
    }
}

fn time(ns: u64) -> String {
    nanos(ns as f64)
}

/// In four characters, whatever a busy machine makes of it: the lines have no room for more.
fn short(ratio: f64) -> String {
    if ratio < 0.1 { format!("{ratio:.2}") } else { ratio_text(ratio) }
}

fn dash() -> String {
    "–".to_owned()
}

const CSV_HEADER: &str = "bell,pattern,placement,count,p50_ns,p99_ns,max_ns,ring_p50_ns,ring_p99_ns,ring_max_ns,\
                          near_cpu_ns,far_cpu_ns,near_switches,far_switches,ratio_q1,ratio,ratio_q3,floor_ns,moved,\
                          errors,wait_on_killed,ring_killed,error";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_of_a_busy_machine_are_as_short_as_others() {
        assert_eq!([0.031, 1.0, 36.94, 812.3].map(short), ["0.03", "1.00", "36.9", "812"]);
    }
}
