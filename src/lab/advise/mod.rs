//! `lab advise`: whether another way to reach the host would pay, for executions that were counted or recorded, by the costs of a
//! recorded directory. Nothing is measured here, and nothing is concluded from too little unless that is asked for.
//!
//! | file | what it does |
//! | --- | --- |
//! | `profile` | what an execution asks of its host: from snapshots, or from a trace |
//! | `costs` | what a call costs each way, from recorded rows |
//! | `model` | what an execution would take each way |
//! | `calibrate` | costs that only whole executions show |
//! | `advice` | what pays, from where on, and one recommendation |
//! | `show` | that for people |
//! | `check` | the model against what was measured |

mod advice;
mod calibrate;
mod check;
mod costs;
mod model;
mod profile;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::machine::Machine;
use super::report::{self, Record};
use super::show::say;
use super::trace::Trace;
use advice::{Advice, Asked};
use profile::Profile;

/// Takes snapshots that executions appended to a file (feature `metrics` of the library), or a recorded trace.
#[derive(Debug, Args)]
pub(super) struct AdviseArgs {
    /// Files of snapshots, folders of such files, or - for standard input
    #[arg(value_name = "SNAPSHOTS", required_unless_present_any = ["trace", "check"])]
    snapshots: Vec<PathBuf>,
    /// A recorded trace instead, by name
    #[arg(long, value_name = "NAME", conflicts_with = "snapshots")]
    trace: Option<String>,
    /// Milliseconds that an execution takes by itself, beside waiting for its host: start-up and computing. Snapshots know what passed
    /// since their client was made, a trace nothing. A WebAssembly contract has 6.3 ms of start-up; Python adds an interpreter's
    #[arg(long, value_name = "MS", value_parser = number, required_unless_present_any = ["snapshots", "check"])]
    own_ms: Option<f64>,
    /// A directory that `record` made on this machine
    #[arg(long, value_name = "DIR")]
    results: PathBuf,
    /// What share of an execution's time, in percent, a choice has to save to be worth making
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    share: f64,
    /// Microseconds of computing between two calls [default: none for a trace, the average for snapshots]
    #[arg(long, value_name = "US", value_parser = number)]
    think_us: Option<f64>,
    /// Executions at once for each core; a half is a core for either end, as the costs are measured
    #[arg(long, value_name = "N", default_value_t = 0.5, value_parser = parallel)]
    parallel: f64,
    /// What share of all calls, in percent, a cache of pages would save, for snapshots; a trace is asked itself
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "trace")]
    cached: Option<f64>,
    /// What share of all calls, in percent, could go out 16 at a time; a trace is asked itself: reads that follow each other
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "trace")]
    batched: Option<f64>,
    /// Although the results are of another machine
    #[arg(long)]
    other_machine: bool,
    /// Conclude from fewer than five snapshots
    #[arg(long)]
    few: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Draw into this SVG file from how many calls on what pays, over an execution's own time
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Compare what the model says of every recorded trace with what was measured; exit code 1 if it is too far off
    #[arg(long, conflicts_with_all = ["snapshots", "trace", "json", "plot", "own_ms", "think_us", "parallel", "cached", "batched", "few"])]
    check: bool,
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1e7).contains(&number) => Ok(number),
        _ => Err(format!("`{text}` is no time: 0 to 10000000")),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("`{text}` is no share: 0 to 100 percent")),
    }
}

fn parallel(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(n) if (0.01..=1e4).contains(&n) => Ok(n),
        _ => Err(format!("`{text}` is no number of executions: 0.01 to 10000")),
    }
}

/// The verb.
pub(super) fn run(args: &AdviseArgs) -> Result<ExitCode> {
    let record = Record::read(&args.results)?.at_one_speed();
    if !args.other_machine && !args.check {
        let here = Machine::look();
        let (then, now) = ((record.fact("cpu"), record.fact("cores")), (here.cpu.as_str(), here.cores.to_string()));
        ensure!(
            then == (Some(now.0), Some(&now.1)),
            "{} is of another machine ({}, {} cores; this one is {}, {}), and costs do not travel; --other-machine concludes all \
             the same",
            args.results.display(),
            then.0.unwrap_or("unknown"),
            then.1.unwrap_or("?"),
            now.0,
            now.1,
        );
    }
    let (costs, share) = (calibrate::costs(&record)?, args.share / 100.0);
    if args.check {
        let checked = check::check(&record, &costs, share)?;
        say(&checked.to_string())?;
        return Ok(if checked.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let profile = profile(args)?;
    let own_ns = profile.own_ns.context("the execution's own time is not known: --own-ms")?;
    let asked = Asked { own_ns, parallel: args.parallel, share };
    let advice = Advice::of(&profile, &costs, asked)?;
    if let Some(file) = &args.plot {
        let svg = report::draw(&show::chart(&profile, &costs, asked))?;
        std::fs::write(file, svg).with_context(|| format!("cannot write {}", file.display()))?;
    }
    say(&if args.json { serde_json::to_string_pretty(&advice)? + "\n" } else { advice.to_string() })?;
    Ok(ExitCode::SUCCESS)
}

/// What is asked about, with what the arguments know better.
fn profile(args: &AdviseArgs) -> Result<Profile> {
    let mut profile = match &args.trace {
        Some(name) => Profile::of_trace(&Trace::built_in(name)?)?,
        None => Profile::of_snapshots(&snapshots(&args.snapshots)?)?,
    };
    ensure!(
        args.few || args.trace.is_some() || profile.executions >= FEWEST,
        "{} executions are too few to conclude from: {FEWEST} at least, or --few",
        profile.executions
    );
    if let Some(ms) = args.own_ms {
        profile.own_ns = Some(ms * 1e6);
    }
    if let Some(us) = args.think_us {
        profile.think_us = us;
    }
    if let Some(percent) = args.cached {
        profile.cache_saves(percent / 100.0);
    }
    if let Some(percent) = args.batched {
        profile.batch(percent / 100.0);
    }
    Ok(profile.merged())
}

/// All snapshots of files, of the files in folders, of standard input.
fn snapshots(paths: &[PathBuf]) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for path in paths {
        let place = || format!("cannot read {}", path.display());
        if path == Path::new("-") {
            parse(&std::io::read_to_string(std::io::stdin())?, "standard input", &mut all)?;
        } else if path.is_dir() {
            let entries =
                std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>).with_context(place)?;
            let mut files: Vec<_> = entries.iter().map(std::fs::DirEntry::path).filter(|file| file.is_file()).collect();
            files.sort();
            files.iter().try_for_each(|file| read(file, &mut all))?;
        } else {
            read(path, &mut all)?;
        }
    }
    if all.is_empty() {
        bail!("no snapshot in {}", paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "));
    }
    Ok(all)
}

fn read(path: &Path, all: &mut Vec<Value>) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text, &path.display().to_string(), all)
}

fn parse(text: &str, name: &str, all: &mut Vec<Value>) -> Result<()> {
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        all.push(serde_json::from_str(line).with_context(|| format!("{name}, line {}: no snapshot", number + 1))?);
    }
    Ok(())
}

/// Executions that a conclusion needs.
const FEWEST: usize = 5;
