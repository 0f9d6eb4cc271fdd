//! `lab replay`: plays recorded executions against any host, and compares what it reads.

use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::host::Failed;
use super::matrix::Wait;
use super::model::Model;
use super::player::{Player, Verified};
use super::stats::Latencies;
use super::table::nanos;
use super::trace::Trace;
use crate::protocol::HostClient;
use crate::{ConnectOptions, connect};

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The host: unix:///path, shm:///path, shm-named:///path or tcp://host:port
    #[arg(long, value_name = "ADDRESS")]
    connect: String,
    /// A trace that is built in
    #[arg(long, value_name = "NAME", required_unless_present = "trace_file")]
    trace: Option<String>,
    /// A trace from a CSV file, plain or gzip
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    trace_file: Option<PathBuf>,
    /// Only these executions, the end not included [default: all]
    #[arg(long, value_name = "A..B", value_parser = range)]
    executions: Option<Range<usize>>,
    /// Compare every byte read with a model of the state
    #[arg(long)]
    verify: bool,
    /// The host was seeded with this trace (lab host --seed-trace) and has served nobody since
    #[arg(long)]
    seeded: bool,
    /// What the host does with the writes of executions that did not return
    #[arg(long, value_enum, default_value_t = Failed::Drop)]
    failed: Failed,
    /// How this end waits
    #[arg(long, value_enum, default_value_t = Wait::Adaptive)]
    wait: Wait,
}

/// The verb. An error says which execution and call.
pub(super) fn run(args: ReplayArgs) -> Result<()> {
    let trace = Trace::load(args.trace.as_deref(), args.trace_file.as_deref())?;
    let executions = args.executions.unwrap_or(0..trace.executions.len());
    ensure!(
        executions.start < executions.end && executions.end <= trace.executions.len(),
        "{} has executions 0..{}",
        trace.name,
        trace.executions.len()
    );
    let options = ConnectOptions::default().with_wait(args.wait.strategy());
    let mut model = Model::new(args.failed == Failed::Keep);
    if args.seeded {
        model.seed(&trace);
    }
    let mut player = Player::new(&trace);
    let (mut total, mut latencies) = (Verified::default(), Latencies::default());
    let progress = progress(executions.len() as u64, "executions");
    let (started, count) = (Instant::now(), executions.len());
    for execution in executions {
        let stream = connect(&args.connect, &options).with_context(|| format!("execution {execution}"))?;
        let mut client = HostClient::new(stream);
        if args.verify {
            let verified = player.verify(&mut client, execution, &mut model, args.seeded)?;
            total.calls += verified.calls;
            total.reads += verified.reads;
            total.bytes += verified.bytes;
            total.replies += verified.replies;
            total.statuses += verified.statuses;
        } else {
            for at in 0..trace.executions[execution].calls.len() {
                player.prepare(execution, at);
                let before = Instant::now();
                if let Err(error) = player.perform(&mut client, execution, at) {
                    let method = trace.executions[execution].calls[at].method();
                    bail!("execution {execution}, call {at} ({method}): {error}");
                }
                latencies.record(before.elapsed());
                total.calls += 1;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    let wall = started.elapsed();
    println!("{}: {count} executions, {} calls in {wall:.2?} over {}", trace.name, total.calls, args.connect);
    if args.verify {
        println!("verified: {} reads, {} bytes, {} other answers", total.reads, total.bytes, total.replies);
        if total.statuses > 0 {
            println!("answered with a status: {} calls beside reads and writes", total.statuses);
        }
    } else {
        let percentiles = [50.0, 99.0].map(|percent| nanos(latencies.percentile(percent) as f64));
        println!("a call: p50 {}, p99 {}, max {}", percentiles[0], percentiles[1], nanos(latencies.max() as f64));
    }
    Ok(())
}

/// A bar on standard error, if that is a terminal.
pub(super) fn progress(length: u64, unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = format!("{{elapsed_precise}} [{{wide_bar}}] {{pos}}/{{len}} {unit}, {{eta}} left  {{msg}}");
    let style = ProgressStyle::with_template(&template).map(|style| style.progress_chars("=> "));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn range(text: &str) -> Result<Range<usize>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    ends.ok_or_else(|| format!("`{text}` is no range such as 0..100"))
}
