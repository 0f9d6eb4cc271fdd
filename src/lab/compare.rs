//! `lab compare`: every cell in every round, each time with fresh processes, next to the floor of that moment.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::floor;
use super::machine::Machine;
use super::matrix::{Cell, HostKind, Placement, Transport, Wait, Workload};
use super::process::{Usage, Worker, cores};
use super::replay::progress;
use super::stats::{Latencies, median, shuffled};
use super::table;
use super::trace::Trace;
use super::worker::{ClientJob, HostJob, Measured, TraceRef};

/// The defaults show today's way and its two rivals on single calls and on three kinds of execution: many small reads (`erc20`),
/// the smallest contract (`storage`), whole-table rewrites (`llm_erc20`). Everything else is a flag away.
#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// Transports to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Transport::Uds, Transport::Shm])]
    transports: Vec<Transport>,
    /// How both ends wait
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Wait::Park, Wait::Adaptive, Wait::Spin])]
    waits: Vec<Wait>,
    /// What serves a connection
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [HostKind::Thread])]
    hosts: Vec<HostKind>,
    /// What GenVM does: read:BYTES, write:BYTES, trace:NAME
    /// [default: read:32,write:32,read:4096,read:65536,trace:erc20,trace:storage,trace:llm_erc20]
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Which cores the two processes get
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Placement::Split, Placement::Same])]
    placements: Vec<Placement>,
    /// Microseconds for which GenVM computes between two calls
    #[arg(long, value_delimiter = ',', default_values_t = [0], value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    think: Vec<u64>,
    /// An execution trace from a CSV file, as the workload trace:STEM
    #[arg(long, value_name = "FILE")]
    trace_file: Option<PathBuf>,
    /// Few workloads, two rounds, at most 25 s
    #[arg(long)]
    quick: bool,
    /// Seconds that the whole run may take [default: 85, quick: 20]
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Rounds; every cell is measured once in each [default: 5, quick: 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seed of the order in which cells are measured [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Write every row, the machine and the command to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A line of the result: one cell over all rounds. Times in nanoseconds; CPU time and switches a call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    pub(super) cell: Cell,
    pub(super) in_flight: u32,
    pub(super) calls: u64,
    pub(super) p50_ns: Option<u64>,
    pub(super) p90_ns: Option<u64>,
    pub(super) p99_ns: Option<u64>,
    pub(super) p999_ns: Option<u64>,
    pub(super) max_ns: Option<u64>,
    pub(super) mean_ns: Option<f64>,
    pub(super) floor_ns: Option<f64>,
    pub(super) ratio_floor: Option<f64>,
    pub(super) ratio_uds: Option<f64>,
    pub(super) client_cpu_ns: Option<f64>,
    pub(super) host_cpu_ns: Option<f64>,
    pub(super) client_switches: Option<f64>,
    pub(super) host_switches: Option<f64>,
    /// Rounds that failed.
    pub(super) errors: u32,
    /// Why the first of them did.
    pub(super) error: Option<String>,
    /// Median time of a whole execution, connecting included.
    pub(super) execution_ns: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: Vec<String>,
    pub(super) machine: Machine,
    pub(super) seed: u64,
    pub(super) rounds: u32,
    /// What reading the clock costs: a part of every percentile, taken off before ratios are formed.
    pub(super) timer_ns: f64,
    pub(super) rows: Vec<Row>,
}

/// A cell in a round.
#[derive(Debug)]
struct Sample {
    cell: usize,
    round: u32,
    floor: Option<f64>,
    result: Result<(Measured, Usage)>,
}

/// How a comparison ended, if it came to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Everything was measured.
    Measured,
    /// Something that was to be measured failed.
    Failed,
    /// By a signal.
    Interrupted,
}

/// The verb.
pub(super) fn run(args: CompareArgs) -> Result<Ended> {
    let cells = cells(&args)?;
    let file_stem = args.trace_file.as_deref().map(Trace::from_file).transpose()?.map(|trace| trace.name);
    for cell in &cells {
        if let Workload::Trace(name) = &cell.workload
            && file_stem.as_deref() != Some(name)
        {
            Trace::built_in(name)?;
        }
    }
    // Opened first: a result that cannot be written is not worth measuring.
    let json = args.json.as_deref().map(|path| Ok::<_, anyhow::Error>((File::create(path)?, path))).transpose();
    let json =
        json.with_context(|| format!("cannot write {}", args.json.as_deref().unwrap_or(Path::new("")).display()))?;
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 5 });
    let budget = Duration::from_secs(args.time.unwrap_or(if args.quick { 20 } else { 85 }));
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64 % 1_000_000)
    });

    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst)).context("cannot handle signals")?;
    let directory = tempfile::Builder::new().prefix("transport-lab-").tempdir()?;
    let lab = Lab { cores: cores(), directory: directory.path(), trace_file: args.trace_file.as_deref(), file_stem };

    let started = Instant::now();
    let runs = cells.len() as u32 * rounds;
    let progress = progress(runs.into(), "cells");
    let mut samples = Vec::with_capacity(runs as usize);
    'rounds: for round in 0..rounds {
        for cell in shuffled(cells.len(), seed.wrapping_add(u64::from(round) << 32)) {
            // What is left, shared among what is left: slow cells make the later ones shorter.
            let left = budget.saturating_sub(started.elapsed()) / (runs - samples.len() as u32);
            progress.set_message(cells[cell].to_string());
            let floor = lab.floor();
            let result = lab.measure(&cells[cell], left);
            if interrupted.load(Ordering::SeqCst) {
                break 'rounds; // what a signal to the whole group has cut short is no measurement
            }
            samples.push(Sample { cell, round, floor, result });
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    drop(directory);

    let timer_ns =
        median(&mut samples.iter().filter_map(|s| Some(s.result.as_ref().ok()?.0.timer_ns)).collect::<Vec<_>>());
    let mut rows = rows(&cells, &samples, timer_ns);
    rows.retain(|row| row.calls > 0 || row.errors > 0); // an interrupted run has not come to all of them
    let report = Report { command: std::env::args().collect(), machine: Machine::look(), seed, rounds, timer_ns, rows };
    table::print(&report, started.elapsed())?;
    if let Some((mut file, path)) = json {
        let text = serde_json::to_string_pretty(&report)?;
        writeln!(file, "{text}").with_context(|| format!("cannot write {}", path.display()))?;
    }
    if interrupted.load(Ordering::SeqCst) {
        eprintln!("interrupted: {} of {runs} measurements were finished", samples.len());
        return Ok(Ended::Interrupted);
    }
    Ok(if report.rows.iter().all(|row| row.errors == 0) { Ended::Measured } else { Ended::Failed })
}

/// Every combination that was asked for, once.
fn cells(args: &CompareArgs) -> Result<Vec<Cell>> {
    let default = if args.quick {
        "read:32,write:32,trace:storage"
    } else {
        "read:32,write:32,read:4096,read:65536,trace:erc20,trace:storage,trace:llm_erc20"
    };
    let workloads = match &args.workloads[..] {
        [] => default.split(',').map(|name| name.parse().expect("a default")).collect(),
        asked => asked.to_vec(),
    };
    if args.placements.contains(&Placement::Split) && cores().len() < 2 {
        bail!("this process may use one core only, so nothing can be split; choose --placements same");
    }
    let mut cells = Vec::new();
    let mut seen = HashSet::new();
    for workload in &workloads {
        for &placement in &args.placements {
            for &think_us in &args.think {
                for &host in &args.hosts {
                    for &transport in &args.transports {
                        for &wait in &args.waits {
                            let cell = Cell { transport, wait, host, workload: workload.clone(), placement, think_us };
                            if seen.insert(cell.clone()) {
                                cells.push(cell);
                            }
                        }
                    }
                }
            }
        }
    }
    Ok(cells)
}

struct Lab<'a> {
    cores: Vec<usize>,
    directory: &'a Path,
    trace_file: Option<&'a Path>,
    file_stem: Option<String>,
}

impl Lab<'_> {
    fn floor(&self) -> Option<f64> {
        let (first, last) = (*self.cores.first()?, *self.cores.last()?);
        floor::measure(first, last, FLOOR_TIME)
    }

    /// One cell, with processes of its own, in about `time` altogether.
    fn measure(&self, cell: &Cell, time: Duration) -> Result<(Measured, Usage)> {
        let started = Instant::now();
        let (host_core, client_core) = cell.cores(&self.cores);
        let trace = match &cell.workload {
            Workload::Trace(name) => {
                let file = self.trace_file.filter(|_| self.file_stem.as_deref() == Some(name));
                Some(TraceRef { name: name.clone(), file: file.map(Path::to_owned) })
            }
            _ => None,
        };
        let &Cell { wait, host, .. } = cell;
        let (address, directory) = (cell.transport.address(self.directory), self.directory.to_owned());
        let mut server = Worker::start(
            "worker-host",
            &HostJob { address, wait, host, core: host_core, trace: trace.clone(), directory },
        )?;
        let address: String = server.hear()?;
        let workload = cell.workload.clone();
        let think = cell.think();
        // Starting, checking and warming up are measured by doing them: about as long again goes to ending.
        let time = time.mul_f64(0.8).saturating_sub(started.elapsed() * 2).max(SHORTEST);
        let job = ClientJob { address, wait, core: client_core, workload, trace, think, time };
        let mut client = Worker::start("worker-client", &job)?;
        client.hear::<()>()?;
        let before: Usage = server.ask("usage")?;
        let measured: Measured = client.ask("go")?;
        let after: Usage = server.ask("usage")?;
        Ok((measured, after.since(before)))
    }
}

/// One row a cell: percentiles of the merged histogram, ratios as medians of what each round says of itself.
fn rows(cells: &[Cell], samples: &[Sample], timer_ns: f64) -> Vec<Row> {
    let p50 = |measured: &Measured| {
        let mut latencies = Latencies::default();
        latencies.merge(&measured.latencies);
        (latencies.percentile(50.0) as f64 - timer_ns).max(1.0)
    };
    let ok = |sample: &Sample| sample.result.as_ref().ok().map(|(measured, _)| p50(measured));
    let of = |cell: usize| samples.iter().filter(move |sample| sample.cell == cell);
    let rows = cells.iter().enumerate().map(|(number, cell)| {
        let done: Vec<_> = of(number).filter_map(|sample| sample.result.as_ref().ok()).collect();
        let mut latencies = Latencies::default();
        done.iter().for_each(|(measured, _)| latencies.merge(&measured.latencies));
        let calls: u64 = done.iter().map(|(measured, _)| measured.calls).sum();
        let some = |value: u64| (latencies.count() > 0).then_some(value);
        let a_call = |total: i64| (calls > 0).then(|| total as f64 / calls as f64);
        let median_of = |mut values: Vec<f64>| (!values.is_empty()).then(|| median(&mut values));
        let baseline = cells.iter().position(|other| other.is_baseline_of(cell));
        let ratios_uds = of(number).filter_map(|sample| {
            let baseline = of(baseline?).find(|other| other.round == sample.round)?;
            Some(ok(sample)? / ok(baseline)?)
        });
        Row {
            cell: cell.clone(),
            in_flight: 1,
            calls,
            p50_ns: some(latencies.percentile(50.0)),
            p90_ns: some(latencies.percentile(90.0)),
            p99_ns: some(latencies.percentile(99.0)),
            p999_ns: some(latencies.percentile(99.9)),
            max_ns: some(latencies.max()),
            mean_ns: median_of(done.iter().map(|(measured, _)| measured.mean_ns).collect()),
            floor_ns: median_of(of(number).filter_map(|sample| sample.floor).collect()),
            ratio_floor: median_of(of(number).filter_map(|sample| Some(ok(sample)? / sample.floor?)).collect()),
            ratio_uds: median_of(ratios_uds.collect()),
            client_cpu_ns: a_call(done.iter().map(|(measured, _)| measured.usage.cpu_ns).sum()),
            host_cpu_ns: a_call(done.iter().map(|(_, usage)| usage.cpu_ns).sum()),
            client_switches: a_call(done.iter().map(|(measured, _)| measured.usage.switches).sum()),
            host_switches: a_call(done.iter().map(|(_, usage)| usage.switches).sum()),
            errors: of(number).filter(|sample| sample.result.is_err()).count() as u32,
            error: of(number).find_map(|sample| sample.result.as_ref().err().map(super::cli::explain)),
            execution_ns: median_of(done.iter().filter_map(|(measured, _)| measured.execution_ns).collect()),
        }
    });
    rows.collect()
}

const FLOOR_TIME: Duration = Duration::from_millis(4);
const SHORTEST: Duration = Duration::from_millis(10);
