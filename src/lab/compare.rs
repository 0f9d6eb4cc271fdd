//! `lab compare`: every cell in every round, next to its rivals and to the floor of that moment.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use super::baseline::Baseline;
use super::machine::Machine;
use super::matrix::{Cell, HostKind, Placement, Situation, Transport, Wait, Way, Workload, ring};
use super::neighbours::Neighbours;
use super::process::cores;
use super::replay::progress;
use super::rows::{Row, rows};
use super::show::{self, Format};
use super::stats::{median, shuffled};
use super::trace::Trace;
use super::visit::Visits;
use super::worker::Home;
use crate::storage::PageSize;
use crate::{RingCapacity, WaitStrategy};

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
    /// What GenVM does: read:BYTES, write:BYTES, ping:BYTES (the bare stream), connect, trace:NAME
    /// [default: read:32,write:32,read:4096,read:65536,trace:erc20,trace:storage,trace:llm_erc20]
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Which cores the two processes get
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Placement::Split, Placement::Same])]
    placements: Vec<Placement>,
    /// Microseconds for which GenVM computes between two calls
    #[arg(long, value_delimiter = ',', default_values_t = [0], value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    think: Vec<u64>,
    /// Reads that go out before the first is answered: read:BYTES, and reads that follow each other in a trace
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: Vec<u32>,
    /// Connections at once, a thread of GenVM's side each
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: Vec<u32>,
    /// Threads for each core that compute all the while, as other executions on a busy machine do
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "baseline", value_parser = clap::value_parser!(u32).range(..=256))]
    beside: u32,
    /// An execution trace from a CSV file, as the workload trace:STEM
    #[arg(long, value_name = "FILE")]
    trace_file: Option<PathBuf>,
    /// Microseconds for which the adaptive wait polls [default: the library's]
    #[arg(long, value_name = "US", value_delimiter = ',', value_parser = micros)]
    spin_us: Vec<f64>,
    /// Microseconds for which it then yields the processor between polls [default: the library's]
    #[arg(long, value_name = "US", value_delimiter = ',', value_parser = micros)]
    yield_us: Vec<f64>,
    /// KiB of each ring of shared memory, a power of two [default: the library's]
    #[arg(long, value_name = "KIB", value_delimiter = ',', value_parser = ring_kib)]
    ring_kib: Vec<u32>,
    /// Executions through a cache of storage pages of so many bytes, a power of two from 32 to 4096, with writes deferred; 0 for none
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [0], value_parser = page)]
    cache: Vec<u32>,
    /// Few workloads, two rounds, at most 25 s
    #[arg(long)]
    quick: bool,
    /// Seconds that the whole run may take [default: 85, quick: 20]
    #[arg(long, value_name = "SECONDS")]
    time: Option<u64>,
    /// Rounds; every cell is measured in each [default: 5, quick: 2]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Seed of the order in which cells are measured [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write every row, the machine and the command to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write every row to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the latencies of every row to this file, as buckets of two digits
    #[arg(long, value_name = "FILE")]
    histograms: Option<PathBuf>,
    /// Ask whether this build is slower than what was recorded in a directory by `record`, or in a file by --json; exit code 3 if so
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    /// By how many percent something has to be slower to count
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, requires = "baseline", value_parser = percent)]
    tolerance: f64,
    /// Although the baseline is of another machine
    #[arg(long, requires = "baseline")]
    other_machine: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err(format!("`{text}` is no tolerance: 0 to 1000 percent")),
    }
}

fn micros(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(us) if (0.0..=1e6).contains(&us) => Ok(us),
        _ => Err(format!("`{text}` is no time: 0 to 1000000 µs")),
    }
}

fn page(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|&bytes| bytes == 0 || PageSize::new(bytes).is_some());
    size.ok_or_else(|| format!("`{text}` is no page: 0 or a power of two from 32 to 4096"))
}

pub(super) fn ring_kib(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|&kib| ring(kib).is_some());
    size.ok_or_else(|| format!("`{text}` is no ring: a power of two from 4 to 1048576"))
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) command: Vec<String>,
    pub(super) machine: Machine,
    pub(super) seed: u64,
    /// Those that were begun.
    pub(super) rounds: u32,
    pub(super) took_s: f64,
    /// Threads for each core that computed meanwhile.
    pub(super) beside: u32,
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
    /// Everything was measured, and something was slower than it used to be.
    Slower,
    /// By a signal.
    Interrupted,
}

/// The verb.
pub(super) fn run(args: CompareArgs) -> Result<Ended> {
    let cells = cells(&args)?;
    let directory = Home::new()?;
    let traces = traces(&cells, args.trace_file.as_deref(), directory.path())?;
    let baseline = match &args.baseline {
        Some(path) => Some(Baseline::read(path, &Machine::look(), args.other_machine)?),
        None => None,
    };
    // Opened first: a result that cannot be written is not worth measuring.
    let [json, csv, histograms] = [&args.json, &args.csv, &args.histograms].map(|path| path.as_deref().map(Sink::open));
    let (json, csv, histograms) = (json.transpose()?, csv.transpose()?, histograms.transpose()?);
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 5 });
    let budget = Duration::from_secs(args.time.unwrap_or(if args.quick { 20 } else { 85 }));
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64 % 1_000_000)
    });

    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        // At the first one what was measured is shown. The workers end when their input does.
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot handle signals")?;
    let mut visits = Visits {
        cells: &cells,
        cores: cores(),
        directory: directory.path(),
        traces,
        interrupted: &interrupted,
        samples: Vec::new(),
        failures: Vec::new(),
    };

    let neighbours = Neighbours::start(args.beside * cores().len() as u32)?;
    let started = Instant::now();
    // Cells of one situation come one after another.
    let groups: Vec<Vec<usize>> = (0..cells.len())
        .collect::<Vec<_>>()
        .chunk_by(|&a, &b| cells[a].situation == cells[b].situation)
        .map(<[usize]>::to_vec)
        .collect();
    let mut left = cells.len() as u32 * rounds;
    let progress = progress(left.into(), "cells");
    let mut begun = 0;
    'rounds: for round in 0..rounds {
        if round > 0 && started.elapsed() >= budget {
            break;
        }
        begun += 1;
        let seed = seed.wrapping_add(u64::from(round) << 32);
        for group in shuffled(groups.len(), seed) {
            let cells = &groups[group];
            progress.set_message(visits.cells[cells[0]].situation.to_string());
            // What is left, shared among what is left: slow cells make the later ones shorter.
            let time = budget.saturating_sub(started.elapsed()) * cells.len() as u32 / left;
            visits.visit(cells, round, seed ^ (group as u64) << 20, time);
            if interrupted.load(Ordering::SeqCst) {
                break 'rounds;
            }
            left -= cells.len() as u32;
            progress.inc(cells.len() as u64);
        }
    }
    progress.finish_and_clear();
    let Visits { samples, failures, .. } = visits;
    drop((directory, neighbours));

    let report = Report {
        command: command(),
        machine: Machine::look(),
        seed,
        rounds: begun,
        took_s: started.elapsed().as_secs_f64(),
        beside: args.beside,
        timer_ns: median(&mut samples.iter().map(|sample| sample.slice.clock_ns).collect::<Vec<_>>()),
        rows: rows(&cells, &samples, &failures),
    };
    show::print(&report, args.format)?;
    json.map_or(Ok(()), |sink| sink.write(&(serde_json::to_string_pretty(&report)? + "\n")))?;
    csv.map_or(Ok(()), |sink| sink.write(&show::csv(&report.rows)?))?;
    histograms.map_or(Ok(()), |sink| sink.write(&show::histograms(&report.rows)))?;
    if interrupted.load(Ordering::SeqCst) {
        eprintln!("interrupted in round {begun} of {rounds}: {} slices were finished", samples.len());
        return Ok(Ended::Interrupted);
    }
    if !failures.is_empty() {
        return Ok(Ended::Failed);
    }
    let slower = match baseline {
        Some(baseline) => {
            let judged = baseline.judge(&report.rows, args.tolerance / 100.0)?;
            eprint!("{judged}");
            judged.slower()
        }
        None => false,
    };
    Ok(if slower { Ended::Slower } else { Ended::Measured })
}

/// A file that a result goes to.
struct Sink<'a> {
    file: File,
    path: &'a Path,
}

impl<'a> Sink<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, path })
    }

    fn write(mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What we were asked, by the name of the program: in which folder it lies is nobody's business.
fn command() -> Vec<String> {
    let mut arguments: Vec<_> = std::env::args().collect();
    if let Some(program) = arguments.first_mut() {
        *program = Path::new(program).file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    }
    arguments
}

/// A sample of each trace, in a file: all workers load it in every round, and the whole of some takes them longer than measuring.
fn traces(cells: &[Cell], file: Option<&Path>, directory: &Path) -> Result<HashMap<String, PathBuf>> {
    let given = file.map(Trace::from_file).transpose()?;
    if let Some(Trace { name, .. }) = &given {
        let wanted = |cell: &Cell| matches!(&cell.situation.workload, Workload::Trace(wanted) if wanted == name);
        ensure!(cells.iter().any(wanted), "nothing plays the trace of --trace-file; add --workloads trace:{name}");
    }
    let mut traces = HashMap::new();
    for cell in cells {
        if let Workload::Trace(name) = &cell.situation.workload
            && !traces.contains_key(name)
        {
            let sample = match &given {
                Some(given) if given.name == *name => given.measured(),
                _ => Trace::built_in(name)?.measured(),
            };
            let directory = directory.join(format!("trace-{}", traces.len()));
            std::fs::create_dir(&directory)?;
            traces.insert(name.clone(), sample.save(&directory)?);
        }
    }
    Ok(traces)
}

/// Every combination that was asked for and makes sense, once; situation by situation.
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
    let ways = ways(args);
    for &transport in &args.transports {
        ensure!(
            ways.iter().any(|way| way.transport == transport),
            "{transport} does not wait like that; add --waits park"
        );
        let ping = args.workloads.iter().any(|workload| matches!(workload, Workload::Ping(_)));
        ensure!(!ping || transport.is_ours(), "{transport} carries calls, no bytes: there is no ping over it");
    }
    ensure!(
        args.spin_us.is_empty() && args.yield_us.is_empty() || ways.iter().any(|way| way.spin_us.is_some()),
        "no way that was asked for has a budget; --spin-us and --yield-us are for --waits adaptive"
    );
    ensure!(
        args.ring_kib.is_empty() || ways.iter().any(|way| way.ring_kib.is_some()),
        "no transport that was asked for has rings; --ring-kib is for --transports shm"
    );
    let mut situations: Vec<Situation> = Vec::new();
    for workload in workloads {
        let in_flight: Vec<u32> = args.in_flight.iter().copied().filter(|n| *n == 1 || workload.pipelines()).collect();
        // Of the default workloads those are left out that cannot be what was asked for.
        ensure!(
            !in_flight.is_empty() || args.workloads.is_empty(),
            "{workload} has one call in flight; more work with read:BYTES and trace:NAME"
        );
        for &placement in &args.placements {
            for &think_us in &args.think {
                for &in_flight in &in_flight {
                    for &connections in &args.connections {
                        let workload = workload.clone();
                        let situation = Situation { workload, placement, think_us, in_flight, connections };
                        if !situations.contains(&situation) {
                            situations.push(situation);
                        }
                    }
                }
            }
        }
    }
    let most = situations.iter().map(|situation| situation.in_flight).max().unwrap_or(1);
    if let Some(kib) = args.ring_kib.iter().find(|kib| **kib * 1024 < most * ROOM_IN_FLIGHT) {
        bail!("{most} requests in flight need a ring of {} KiB, not {kib}", (most * ROOM_IN_FLIGHT).div_ceil(1024));
    }
    let cell = |situation: &Situation, way: &Way| Cell { way: *way, situation: situation.clone() };
    let pairs = situations.iter().flat_map(|situation| ways.iter().map(move |way| (situation, way)));
    let cells: Vec<_> = pairs
        // A cache changes executions only.
        .filter(|(situation, way)| way.cache.is_none() || matches!(situation.workload, Workload::Trace(_)))
        // Behind a cache there are no runs of reads to send together.
        .filter(|(situation, way)| way.cache.is_none() || situation.in_flight == 1)
        .map(|(situation, way)| cell(situation, way))
        .collect();
    ensure!(
        !cells.is_empty(),
        "a cache changes executions with one call in flight; add --cache 0, or a workload trace:NAME with --in-flight 1"
    );
    let lost = situations.iter().filter(|situation| !cells.iter().any(|cell| cell.situation == **situation));
    let lost: Vec<_> = lost.map(Situation::to_string).collect();
    if !lost.is_empty() {
        eprintln!("left out, because a cache changes executions only; add --cache 0: {}", lost.join("; "));
    }
    Ok(cells)
}

/// Every way that was asked for, with the budgets and sizes that matter to it.
fn ways(args: &CompareArgs) -> Vec<Way> {
    let WaitStrategy::Adaptive { spin, yield_for, .. } = WaitStrategy::ADAPTIVE else {
        unreachable!("its name says so")
    };
    let some = |asked: &[f64], default: Duration| match asked {
        [] => vec![Some(default.as_nanos() as f64 / 1e3)],
        asked => asked.iter().copied().map(Some).collect(),
    };
    let budgets = (some(&args.spin_us, spin), some(&args.yield_us, yield_for));
    let rings = match &args.ring_kib[..] {
        [] => vec![Some(RingCapacity::DEFAULT.bytes() / 1024)],
        asked => asked.iter().copied().map(Some).collect(),
    };
    let (no_budgets, no_rings) = ((vec![None], vec![None]), vec![None]);
    let mut ways = Vec::new();
    for &host in &args.hosts {
        // A library's host is what it is.
        for &transport in args.transports.iter().filter(|transport| transport.is_ours() || host == args.hosts[0]) {
            let rings = if transport.has_rings() { &rings } else { &no_rings };
            for &wait in args.waits.iter().filter(|wait| transport.waits(**wait)) {
                let (spins, yields) = if wait == Wait::Adaptive { &budgets } else { &no_budgets };
                for &ring_kib in rings {
                    for &spin_us in spins {
                        for &yield_us in yields {
                            for &cache in &args.cache {
                                let cache = (cache > 0).then_some(cache);
                                let way = Way { transport, wait, host, spin_us, yield_us, ring_kib, cache };
                                if !ways.contains(&way) {
                                    ways.push(way);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    ways
}

/// Bytes of a ring for each request in flight, so that sending never waits for room: 62, their header, and the rest of their line.
const ROOM_IN_FLIGHT: u32 = 128;
