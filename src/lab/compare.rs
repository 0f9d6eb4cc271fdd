//! `lab compare`: every cell in every round, each time with fresh processes, next to the floor of that moment.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::machine::Machine;
use super::matrix::{Cell, HostKind, Placement, Situation, Transport, Wait, Way, Workload, ring};
use super::process::{Usage, Worker, cores};
use super::replay::progress;
use super::rows::{Row, Sample, rows};
use super::slice::Measured;
use super::stats::{median, shuffled};
use super::table;
use super::trace::Trace;
use super::worker::{ClientJob, HostJob, TraceRef};

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
    /// What GenVM does: read:BYTES, write:BYTES, trace:NAME, ping:BYTES (no protocol), connect (with the first answer)
    /// [default: read:32,write:32,read:4096,read:65536,trace:erc20,trace:storage,trace:llm_erc20]
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Which cores the two processes get
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Placement::Split, Placement::Same])]
    placements: Vec<Placement>,
    /// Microseconds for which GenVM computes between two calls
    #[arg(long, value_delimiter = ',', default_values_t = [0], value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    think: Vec<u64>,
    /// Reads on their way at once, on one connection
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: Vec<u32>,
    /// Microseconds that the adaptive wait spins [default: the library's]
    #[arg(long, value_name = "MICROSECONDS", requires = "yield_us", value_parser = micros)]
    spin_us: Option<f64>,
    /// Microseconds for which the adaptive wait yields after that [default: the library's]
    #[arg(long, value_name = "MICROSECONDS", requires = "spin_us", value_parser = micros)]
    yield_us: Option<f64>,
    /// Size of each ring of shared memory, in KiB [default: the library's]
    #[arg(long, value_name = "KIB", value_parser = ring_kib)]
    ring_kib: Option<u32>,
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
        if let Workload::Trace(name) = &cell.situation.workload
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
            let result = lab.measure(&cells[cell], left);
            if interrupted.load(Ordering::SeqCst) {
                break 'rounds; // what a signal to the whole group has cut short is no measurement
            }
            samples.push(Sample { cell, round, result });
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    drop(directory);

    let timer_ns =
        median(&mut samples.iter().filter_map(|s| Some(s.result.as_ref().ok()?.0.timer_ns)).collect::<Vec<_>>());
    let rows = rows(&cells, &samples);
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
    for workload in &workloads {
        for &placement in &args.placements {
            for &think_us in &args.think {
                for &in_flight in &args.in_flight {
                    if in_flight > 1 && !workload.pipelines() {
                        continue; // one after another is all that these can do
                    }
                    let situation = Situation { workload: workload.clone(), placement, think_us, in_flight };
                    cells.extend(ways(args).map(|way| Cell { way, situation: situation.clone() }));
                }
            }
        }
    }
    let mut once: Vec<Cell> = Vec::new();
    cells.retain(|cell| !once.contains(cell) && (once.push(cell.clone()), true).1);
    if cells.is_empty() {
        bail!("only reads can have several calls on their way; nothing is left to measure");
    }
    Ok(cells)
}

fn ways(args: &CompareArgs) -> impl Iterator<Item = Way> {
    let one = |host, transport, wait: Wait| {
        let adaptive = wait == Wait::Adaptive;
        let memory = matches!(transport, Transport::Shm | Transport::ShmNamed);
        Way {
            transport,
            wait,
            host,
            spin_us: args.spin_us.filter(|_| adaptive),
            yield_us: args.yield_us.filter(|_| adaptive),
            ring_kib: args.ring_kib.filter(|_| memory),
        }
    };
    args.hosts.iter().flat_map(move |&host| {
        let transports = args.transports.iter();
        transports.flat_map(move |&transport| args.waits.iter().map(move |&wait| one(host, transport, wait)))
    })
}

fn micros(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|us| (0.0..=1e6).contains(us))
        .ok_or_else(|| format!("`{text}` is no number up to a million"))
}

fn ring_kib(text: &str) -> Result<u32, String> {
    let kib = text.parse().ok().filter(|kib| ring(*kib).is_some());
    kib.ok_or_else(|| format!("`{text}` is no size of a ring: a power of two from 4 to 1048576 KiB"))
}

struct Lab<'a> {
    cores: Vec<usize>,
    directory: &'a Path,
    trace_file: Option<&'a Path>,
    file_stem: Option<String>,
}

impl Lab<'_> {
    /// One cell, with processes of its own, in about `time` altogether.
    fn measure(&self, cell: &Cell, time: Duration) -> Result<(Measured, Usage)> {
        let started = Instant::now();
        let Cell { way, situation } = cell;
        let (host_core, client_core) = situation.cores(&self.cores);
        let trace = match &situation.workload {
            Workload::Trace(name) => {
                let file = self.trace_file.filter(|_| self.file_stem.as_deref() == Some(name));
                Some(TraceRef { name: name.clone(), file: file.map(Path::to_owned) })
            }
            _ => None,
        };
        let (address, directory) = (way.transport.address(self.directory), self.directory.to_owned());
        let echo = matches!(situation.workload, Workload::Ping(_));
        let mut server = Worker::start(
            "worker-host",
            &HostJob { address, way: *way, core: host_core, echo, trace: trace.clone(), directory },
        )?;
        let address: String = server.hear()?;
        // Starting and checking are measured by doing them: about as long again goes to ending.
        let time = time.mul_f64(0.9).saturating_sub(started.elapsed() * 2).max(SHORTEST);
        let job = ClientJob {
            address,
            way: *way,
            core: client_core,
            floor: self.cores.first().copied().zip(self.cores.last().copied()),
            workload: situation.workload.clone(),
            in_flight: situation.in_flight,
            trace,
            think: situation.think(),
            time,
        };
        let mut client = Worker::start("worker-client", &job)?;
        client.hear::<()>()?;
        let before: Usage = server.ask("usage")?;
        let measured: Measured = client.ask("go")?;
        let after: Usage = server.ask("usage")?;
        Ok((measured, after.since(before)))
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
