//! `lab study doorbell`: ways to wake a process that sleeps, measured against each other between two processes.
//!
//! The doorbell of `shm://` is a byte over the rendezvous socket. This study asks what that choice costs: the same round trip with
//! both ends asleep, over every mechanism behind one interface, in rounds of shuffled order; bare, and behind a flag as `shm://` has
//! it. It measures waking only; there is no ring and no payload here. What a mechanism does when the peer is killed is tried out, not looked up.
//!
//! | file | what it does |
//! | --- | --- |
//! | `bells` | the mechanisms behind one trait |
//! | `armed` | a flag in front of a bell |
//! | `memory` | shared pages for those that need them: the only unsafe code |
//! | `pair` | the two processes |
//! | `table` | how rows are shown |

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::bells::Kind;
use self::pair::{Answer, Job, Measured, Pattern};
use crate::lab::cli::explain;
use crate::lab::floor;
use crate::lab::machine::Machine;
use crate::lab::matrix::Placement;
use crate::lab::process::{Worker, cores};
use crate::lab::replay::progress;
use crate::lab::stats::{Latencies, median, shuffled};

mod armed;
mod bells;
pub(super) mod memory;
pub(super) mod pair;
mod table;

/// Ping-pong with both processes asleep, the same after a millisecond of thinking, and ringing alone; split and on one core.
#[derive(Debug, Args)]
pub(in crate::lab) struct DoorbellArgs {
    /// Rounds; every cell is measured once in each
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds that the whole run may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    time: u64,
    /// Seed of the order in which cells are measured [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Write every row to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    bell: Kind,
    pattern: Pattern,
    placement: Placement,
}

/// A cell over all rounds. Times in nanoseconds; CPU time and context switches a round trip (a ring, where nobody answers).
#[derive(Debug)]
struct Row {
    cell: Cell,
    count: u64,
    trips: Latencies,
    rings: Latencies,
    near_cpu_ns: f64,
    far_cpu_ns: f64,
    near_switches: f64,
    far_switches: f64,
    /// Against the socket in the same round: quartiles.
    ratio: Option<[f64; 3]>,
    floor_ns: Option<f64>,
    /// Rounds in which the two floors around the cell differ by more than half: the cores moved meanwhile.
    moved: u32,
    errors: u32,
    error: Option<String>,
}

/// What a mechanism does when the peer is killed.
#[derive(Debug)]
struct Death {
    bell: Kind,
    wait: Result<Answer>,
    ring: Result<Answer>,
}

#[derive(Debug)]
struct Report {
    machine: Machine,
    seed: u64,
    rounds: u32,
    rows: Vec<Row>,
    deaths: Vec<Death>,
}

/// A cell in a round, between two floors.
#[derive(Debug)]
struct Sample {
    cell: usize,
    round: u32,
    floors: Option<(f64, f64)>,
    result: Result<Measured>,
}

/// The verb.
pub(super) fn run(args: DoorbellArgs) -> Result<ExitCode> {
    // Opened first: a result that cannot be written is not worth measuring.
    let csv = args.csv.as_deref().map(|path| Ok::<_, anyhow::Error>((File::create(path)?, path))).transpose();
    let csv =
        csv.with_context(|| format!("cannot write {}", args.csv.as_deref().unwrap_or(Path::new("")).display()))?;
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64 % 1_000_000)
    });
    let started = Instant::now();
    let cores = cores();
    let cells = cells(cores.len());
    let deaths = Kind::ALL.map(|bell| Death {
        bell,
        wait: death(bell, Pattern::WaitOnKilled, &cores),
        ring: death(bell, Pattern::RingKilled, &cores),
    });

    let runs = cells.len() as u32 * args.rounds;
    let progress = progress(runs.into(), "cells");
    let mut samples = Vec::with_capacity(runs as usize);
    for round in 0..args.rounds {
        for cell in shuffled(cells.len(), seed.wrapping_add(u64::from(round) << 32)) {
            // What is left, shared among what is left: slow cells make the later ones shorter.
            let left = Duration::from_secs(args.time).saturating_sub(started.elapsed()) / (runs - samples.len() as u32);
            progress.set_message(cells[cell].to_string());
            let time = left.saturating_sub(STARTING).mul_f64(0.85).max(SHORTEST);
            let before = floor_of(&cells[cell], &cores);
            let result = measure(&cells[cell], time, &cores);
            let floors = before.zip(floor_of(&cells[cell], &cores));
            samples.push(Sample { cell, round, floors, result });
            progress.inc(1);
        }
    }
    progress.finish_and_clear();

    let report = Report {
        machine: Machine::look(),
        seed,
        rounds: args.rounds,
        rows: cells.iter().enumerate().map(|(number, _)| row(number, &cells, &samples)).collect(),
        deaths: deaths.into(),
    };
    table::print(&report, started.elapsed())?;
    if let Some((mut file, path)) = csv {
        file.write_all(table::csv(&report).as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failed = report.rows.iter().any(|row| row.errors > 0)
        || report.deaths.iter().any(|death| death.wait.is_err() || death.ring.is_err());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Every combination that makes a difference, grouped as the table shows them.
fn cells(cores: usize) -> Vec<Cell> {
    let placements: &[_] = if cores > 1 { &[Placement::Split, Placement::Same] } else { &[Placement::Same] };
    let mut groups: Vec<_> = [Pattern::PingPong, Pattern::Parked, Pattern::Armed, Pattern::Polled]
        .into_iter()
        .flat_map(|pattern| placements.iter().map(move |&placement| (pattern, placement)))
        // Polling for an answer that can only come from the same core is nothing to measure.
        .filter(|&group| group != (Pattern::Polled, Placement::Same))
        .collect();
    groups.push((Pattern::Unheard, Placement::Same));
    let cell = |(pattern, placement), bell| Cell { bell, pattern, placement };
    groups.into_iter().flat_map(|group| Kind::ALL.map(|bell| cell(group, bell))).collect()
}

fn floor_of(cell: &Cell, cores: &[usize]) -> Option<f64> {
    match cell.placement {
        Placement::Split => floor::measure(*cores.first()?, *cores.last()?, None).map(|floor| floor.line),
        _ => None,
    }
}

/// One cell, with processes of its own.
fn measure(cell: &Cell, time: Duration, cores: &[usize]) -> Result<Measured> {
    let near = cores.first().copied();
    let far = if cell.placement == Placement::Split { cores.last().copied() } else { near };
    let patience = time * 2 + PATIENCE;
    match ask(&Job { bell: cell.bell, pattern: cell.pattern, near, far, time, patience })? {
        Answer::Measured(measured) => Ok(measured),
        Answer::Hung => bail!("hung: nothing for {:.0} s", patience.as_secs_f64()),
        other => bail!("expected a measurement, got {other:?}"),
    }
}

fn death(bell: Kind, pattern: Pattern, cores: &[usize]) -> Result<Answer> {
    let (near, far) = (cores.first().copied(), cores.last().copied());
    ask(&Job { bell, pattern, near, far, time: Duration::ZERO, patience: MOURNING })
}

fn ask(job: &Job) -> Result<Answer> {
    Worker::start("bell-near", job)?.hear()
}

/// Percentiles of the merged histogram; ratios of what each round says of itself.
fn row(number: usize, cells: &[Cell], samples: &[Sample]) -> Row {
    let cell = cells[number];
    let of = |number: usize| samples.iter().filter(move |sample| sample.cell == number);
    let done: Vec<_> = of(number).filter_map(|sample| sample.result.as_ref().ok()).collect();
    let (mut trips, mut rings) = (Latencies::default(), Latencies::default());
    for measured in &done {
        trips.merge(&measured.trips);
        rings.merge(&measured.rings);
    }
    let count: u64 = done.iter().map(|measured| measured.count).sum();
    let each = |of: fn(&Measured) -> i64| done.iter().map(|measured| of(measured)).sum::<i64>() as f64 / count as f64;
    let socket = cells.iter().position(|other| *other == Cell { bell: Kind::Socket, ..cell });
    let mut ratios: Vec<f64> = of(number)
        .filter_map(|sample| {
            let socket = of(socket?).find(|other| other.round == sample.round)?;
            Some(p50(sample.result.as_ref().ok()?) / p50(socket.result.as_ref().ok()?))
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let quartile = |quarter: usize| ratios[((ratios.len() - 1) * quarter + 2) / 4];
    let floors: Vec<_> = of(number).filter_map(|sample| sample.floors).collect();
    Row {
        cell,
        count,
        trips,
        rings,
        near_cpu_ns: each(|measured| measured.near.cpu_ns),
        far_cpu_ns: each(|measured| measured.far.cpu_ns),
        near_switches: each(|measured| measured.near.switches),
        far_switches: each(|measured| measured.far.switches),
        ratio: (!ratios.is_empty()).then(|| [quartile(1), median(&mut ratios.clone()), quartile(3)]),
        floor_ns: (!floors.is_empty())
            .then(|| median(&mut floors.iter().flat_map(|&(before, after)| [before, after]).collect::<Vec<_>>())),
        moved: floors.iter().filter(|(before, after)| before.max(*after) > 1.5 * before.min(*after)).count() as u32,
        errors: of(number).filter(|sample| sample.result.is_err()).count() as u32,
        error: of(number).find_map(|sample| sample.result.as_ref().err().map(explain)),
    }
}

/// What cells are compared by: the round trip, and the ring where there is none.
fn p50(measured: &Measured) -> f64 {
    let mut latencies = Latencies::default();
    latencies.merge(&measured.trips);
    if latencies.count() == 0 {
        latencies.merge(&measured.rings);
    }
    latencies.percentile(50.0) as f64
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} {}", self.bell.name(), self.pattern, self.placement)
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
/// About what starting two processes and two floors take, before anything is measured.
const STARTING: Duration = Duration::from_millis(25);
/// How long a cell may take beyond its time before it counts as hung: far beyond any stall of a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a mechanism gets to notice that the peer was killed, starting included.
const MOURNING: Duration = Duration::from_secs(1);
