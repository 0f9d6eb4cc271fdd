//! `lab replay`: plays recorded executions against any host, and compares what it reads.

use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::calls::Calls;
use super::data;
use super::host::{Failed, Spoken};
use super::matrix::Wait;
use super::model::Model;
use super::player::{Player, Verified};
use super::show::say;
use super::stats::Latencies;
use super::table::nanos;
use super::trace::Trace;
use crate::protocol::HostClient;
use crate::storage::{CacheOptions, CacheStats, PageCache, PageSize, WriteMode};
use crate::{BlockingStream, ConnectOptions, connect};

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
    #[arg(long, requires = "verify")]
    seeded: bool,
    /// What the host does with the writes of executions that did not return
    #[arg(long, value_enum, default_value_t = Failed::Drop, requires = "verify")]
    failed: Failed,
    /// How this end waits
    #[arg(long, value_enum, default_value_t = Wait::Adaptive)]
    wait: Wait,
    /// The revision of the protocol that the host speaks. At revision 2 those calls are left out which GenVM does not make then, and
    /// reads find what the host has without the execution's writes; a cache keeps those and shows them
    #[arg(long, value_enum, default_value_t = Spoken::One)]
    revision: Spoken,
    /// Append to this file what each execution's calls cost, as a line of JSON: for `advise`
    #[cfg(feature = "metrics")]
    #[arg(long, value_name = "FILE")]
    snapshots: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
}

#[derive(Debug, Args)]
struct CacheArgs {
    /// Play through a cache of storage pages of so many bytes: a power of two from 32 to 4096; 0 for none
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    cache: u32,
    /// When the cache sends writes on
    #[arg(long, value_enum, default_value_t = Writes::Through, requires = "cache")]
    cache_writes: Writes,
    /// How many pages more it reads when one is missing
    #[arg(long, value_name = "N", default_value_t = 0, requires = "cache")]
    cache_ahead: u32,
    /// Cache reads of the latest and the final state as well
    #[arg(long, requires = "cache")]
    cache_latest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Writes {
    /// At once
    Through,
    /// All together before the result
    Deferred,
}

impl CacheArgs {
    /// What the cache is to be, if there is to be one.
    fn options(&self) -> Result<Option<CacheOptions>> {
        if self.cache == 0 {
            return Ok(None);
        }
        let page_size = PageSize::new(self.cache)
            .with_context(|| format!("--cache {}: neither 0 nor a power of two from 32 to 4096", self.cache))?;
        let writes = match self.cache_writes {
            Writes::Through => WriteMode::Through,
            Writes::Deferred => WriteMode::Deferred,
        };
        let mut options = CacheOptions::default().with_page_size(page_size).with_writes(writes);
        options.read_ahead = self.cache_ahead;
        options.cache_latest = self.cache_latest;
        Ok(Some(options))
    }
}

/// The verb. An error says which execution and call.
pub(super) fn run(args: ReplayArgs) -> Result<()> {
    let trace = Trace::load(args.trace.as_deref(), args.trace_file.as_deref())?;
    let executions = args.executions.clone().unwrap_or(0..trace.executions.len());
    ensure!(
        executions.start < executions.end && executions.end <= trace.executions.len(),
        "{} has executions 0..{}",
        trace.name,
        trace.executions.len()
    );
    let count = executions.len();
    let started = Instant::now();
    let Replay { total, latencies, saved, .. } = play(&trace, executions, &args)?;
    let wall = started.elapsed();
    let mut out =
        format!("{}: {count} executions, {} calls in {wall:.2?} over {}\n", trace.name, total.calls, args.connect);
    if args.verify {
        out += &format!("verified: {} reads, {} bytes, {} other answers\n", total.reads, total.bytes, total.replies);
        if total.statuses > 0 {
            out += &format!("answered with a status: {} calls beside reads and writes\n", total.statuses);
        }
    } else {
        let percentiles = [50.0, 99.0].map(|percent| nanos(latencies.percentile(percent) as f64));
        out +=
            &format!("a call: p50 {}, p99 {}, max {}\n", percentiles[0], percentiles[1], nanos(latencies.max() as f64));
    }
    if args.cache.cache > 0 {
        out += &describe_saved(&saved, total.calls, count);
    }
    if total.left_out > 0 {
        out += &format!("left out: {} calls that GenVM does not make at revision 2\n", total.left_out);
    }
    Ok(say(&out)?)
}

/// Plays executions one after another, a connection each.
fn play<'t>(trace: &'t Trace, executions: Range<usize>, args: &ReplayArgs) -> Result<Replay<'t>> {
    let options = ConnectOptions::default().with_wait(args.wait.strategy());
    let cache = args.cache.options()?;
    let deferred = cache.as_ref().is_none_or(|options| options.writes == WriteMode::Deferred);
    ensure!(
        args.revision == Spoken::One || deferred,
        "revision 2 has no write to send through; add --cache-writes deferred"
    );
    let mut replay = Replay {
        model: Model::new(args.failed == Failed::Keep),
        player: Player::new(trace),
        verify: args.verify,
        seeded: args.seeded,
        total: Verified::default(),
        latencies: Latencies::default(),
        saved: CacheStats::default(),
    };
    if args.seeded {
        replay.model.seed(trace);
    }
    let progress = progress(executions.len() as u64, "executions");
    for execution in executions {
        let stream = connect(&args.connect, &options).with_context(|| format!("execution {execution}"))?;
        let mut client = HostClient::speaking(args.revision.protocol(), stream);
        match &cache {
            None => {
                replay.play(&mut client, execution)?;
                note(&client, args)?;
            }
            Some(options) => {
                let account = data::account(trace.executions[execution].account);
                let mut storage = PageCache::new(client, account, options.clone());
                replay.play(&mut storage, execution)?;
                replay.saved += storage.stats();
                note(storage.client_mut(), args)?;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(replay)
}

/// Keeps what the calls of an execution cost, if that was asked for.
#[cfg(feature = "metrics")]
fn note<S: BlockingStream>(client: &HostClient<S>, args: &ReplayArgs) -> Result<()> {
    let Some(file) = &args.snapshots else { return Ok(()) };
    let snapshot = crate::metrics::Snapshot::of(client).with_stream(client.get_ref());
    snapshot.append_to(file).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(not(feature = "metrics"))]
fn note<S: BlockingStream>(_: &HostClient<S>, _: &ReplayArgs) -> Result<()> {
    Ok(())
}

/// Means of an execution, with the cache and without.
fn describe_saved(stats: &CacheStats, calls: u64, executions: usize) -> String {
    let mean = |sum: u64| sum as f64 / executions as f64;
    let kib = |bytes: u64| mean(bytes) / 1024.0;
    format!(
        "an execution with the cache: {:.1} calls instead of {:.1}; {:.1} reads instead of {:.1}, {:.1} writes instead of \
         {:.1}; {:.2} KiB read instead of {:.2}, {:.2} written instead of {:.2}\n",
        mean(calls - stats.calls_saved()),
        mean(calls),
        mean(stats.host_reads),
        mean(stats.reads),
        mean(stats.host_writes),
        mean(stats.writes),
        kib(stats.host_bytes_read),
        kib(stats.bytes_read),
        kib(stats.host_bytes_written),
        kib(stats.bytes_written),
    )
}

/// What playing executions needs and brings, whatever they are played through.
struct Replay<'t> {
    model: Model,
    player: Player<'t>,
    verify: bool,
    seeded: bool,
    total: Verified,
    latencies: Latencies,
    saved: CacheStats,
}

impl Replay<'_> {
    fn play(&mut self, calls: &mut impl Calls, execution: usize) -> Result<()> {
        if self.verify {
            let verified = self.player.verify(calls, execution, &mut self.model, self.seeded)?;
            self.total.calls += verified.calls;
            self.total.left_out += verified.left_out;
            self.total.reads += verified.reads;
            self.total.bytes += verified.bytes;
            self.total.replies += verified.replies;
            self.total.statuses += verified.statuses;
            return Ok(());
        }
        let recorded = &self.player.trace.executions[execution].calls;
        for (at, call) in recorded.iter().enumerate() {
            if !calls.asks(call.method()) {
                self.total.left_out += 1;
                continue;
            }
            self.player.prepare(execution, at);
            let before = Instant::now();
            if let Err(error) = self.player.perform(calls, execution, at) {
                bail!("execution {execution}, call {at} ({}): {error}", call.method());
            }
            self.latencies.record(before.elapsed());
            self.total.calls += 1;
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::matrix::HostKind;
    use super::super::serving::{Service, World, serve_all};
    use super::*;
    use crate::{ListenOptions, Listener, listen};

    /// Plays a trace against a host of its own, each byte compared.
    fn verified(trace: &Trace, scheme: &str, revision: Spoken, seeded: bool, cache: CacheArgs) -> Verified {
        let directory = tempfile::tempdir().expect("a directory");
        let address = format!("{scheme}://{}/host.sock", directory.path().display());
        let listener: Arc<dyn Listener> = Arc::from(listen(&address, &ListenOptions::default()).expect("listen"));
        let world = World::new(seeded.then(|| trace.clone()), false, 0).speaking(revision.protocol());
        let service = Arc::new(Service::Host(world));
        let serving = listener.clone();
        let host = std::thread::spawn(move || serve_all(serving, HostKind::Thread, service, |error| panic!("{error}")));
        let args = ReplayArgs {
            connect: address,
            trace: None,
            trace_file: None,
            executions: None,
            verify: true,
            seeded,
            failed: Failed::Drop,
            wait: Wait::Adaptive,
            revision,
            #[cfg(feature = "metrics")]
            snapshots: None,
            cache,
        };
        let played = play(trace, 0..trace.executions.len(), &args);
        listener.close();
        host.join().expect("no panic").expect("served");
        match played {
            Ok(played) => played.total,
            Err(error) => panic!("{}, {scheme}, seeded: {seeded}, {:?}: {error:#}", trace.name, args.cache),
        }
    }

    #[test]
    fn the_start_of_every_trace_reads_the_same_bytes_however_it_is_played() {
        use Writes::{Deferred, Through};
        for name in Trace::names() {
            let mut trace = Trace::built_in(name).expect("a trace");
            // Up to the execution with call 2000.
            let (mut count, mut calls) = (0, 0);
            while count < trace.executions.len() && calls < 2000 {
                calls += trace.executions[count].calls.len() as u64;
                count += 1;
            }
            trace.executions.truncate(count);
            for (scheme, seeded, cache, cache_writes, cache_ahead, cache_latest) in [
                ("unix", true, 32, Through, 0, false),
                ("shm", false, 32, Deferred, 0, true),
                ("shm", true, 256, Deferred, 2, false),
                ("unix", false, 4096, Through, 1, true),
            ] {
                let cache = CacheArgs { cache, cache_writes, cache_ahead, cache_latest };
                assert_eq!(verified(&trace, scheme, Spoken::One, seeded, cache).calls, calls);
            }
            // Both transports and both revisions, with the cache and without.
            for (scheme, cache) in [("unix", 0), ("unix", 32), ("shm", 0), ("shm", 32)] {
                for revision in [Spoken::One, Spoken::Two] {
                    let cache = CacheArgs { cache, cache_writes: Deferred, cache_ahead: 0, cache_latest: false };
                    let verified = verified(&trace, scheme, revision, true, cache);
                    assert_eq!(verified.calls + verified.left_out, calls);
                    assert_eq!(verified.left_out > 0, revision == Spoken::Two, "{name}: {verified:?}");
                    assert!(verified.reads > 0, "{name}: {verified:?}");
                }
            }
        }
    }
}
