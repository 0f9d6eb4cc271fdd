//! The two measured processes: a host, and the GenVM side. They take a job as a line of JSON and answer in lines.

use std::io::BufRead;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::data;
use super::host::{World, serve_all};
use super::matrix::{HostKind, Wait, Workload};
use super::model::Model;
use super::player::{MODE, Player};
use super::process::{Usage, pin, tell};
use super::stats::{Buckets, Latencies, median, timer_overhead};
use super::trace::Trace;
use crate::protocol::{HostClient, SlotId};
use crate::{BlockingStream, ConnectOptions, ListenOptions, Listener, connect, listen};

/// Which trace a worker loads for itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TraceRef {
    pub(super) name: String,
    pub(super) file: Option<std::path::PathBuf>,
}

impl TraceRef {
    fn load(&self) -> Result<Trace> {
        Trace::load(Some(&self.name), self.file.as_deref())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostJob {
    pub(super) address: String,
    pub(super) wait: Wait,
    pub(super) host: HostKind,
    pub(super) core: Option<usize>,
    pub(super) trace: Option<TraceRef>,
    /// Where the socket is; removed if whoever started us goes without stopping us.
    pub(super) directory: std::path::PathBuf,
}

/// The measured host: says its address, then its [`Usage`] whenever it is asked.
pub(super) fn host() -> ! {
    let orphaned = Arc::new(OnceLock::new());
    let lines = lines(orphaned.clone());
    let started = (|| {
        let job: HostJob = job(&lines)?;
        let _ = orphaned.set(job.directory);
        pin(job.core);
        let trace = job.trace.as_ref().map(TraceRef::load).transpose()?;
        let listener = listen(&job.address, &ListenOptions::default().with_wait(job.wait.strategy()))?;
        Ok((Arc::<dyn Listener>::from(listener), job.host, Arc::new(World::new(trace, false, 0))))
    })();
    match started {
        Err(error) => tell::<String>(Err(error)),
        Ok((listener, kind, world)) => {
            let address = listener.address().to_string();
            std::thread::spawn(move || {
                if let Err(error) = serve_all(listener, kind, world, |error| eprintln!("host: {error}")) {
                    eprintln!("host: {error:#}");
                }
            });
            tell(Ok(address));
        }
    }
    for _ in lines {
        tell(Ok(Usage::now()));
    }
    unreachable!("the end of the input ends the process")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ClientJob {
    pub(super) address: String,
    pub(super) wait: Wait,
    pub(super) core: Option<usize>,
    pub(super) workload: Workload,
    pub(super) trace: Option<TraceRef>,
    pub(super) think: Duration,
    /// How long to measure, warm-up not included.
    pub(super) time: Duration,
}

/// What the GenVM side measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Calls that were timed one by one: their latencies, a clock reading included.
    pub(super) latencies: Buckets,
    /// Mean over calls that were timed as batches; of the single ones where there is think time between.
    pub(super) mean_ns: f64,
    /// All calls, timed and not.
    pub(super) calls: u64,
    /// Median time of a whole execution, connecting included; traces only.
    pub(super) execution_ns: Option<f64>,
    /// What reading the clock costs.
    pub(super) timer_ns: f64,
    pub(super) usage: Usage,
}

/// The GenVM side: checks that the right bytes come back, says so, and measures when told to.
pub(super) fn client() -> ! {
    let lines = lines(Arc::default());
    let started = (|| {
        let job: ClientJob = job(&lines)?;
        pin(job.core);
        let options = ConnectOptions::default().with_wait(job.wait.strategy());
        let trace = job.trace.as_ref().map(TraceRef::load).transpose()?;
        Ok((job, options, trace))
    })();
    match started {
        Err(error) => tell::<()>(Err(error)),
        Ok((job, options, trace)) => {
            let line = Line { job: &job, options: &options };
            let result = match (&job.workload, &trace) {
                (Workload::Trace(_), Some(trace)) => {
                    Executions::new(line, trace).map(|work| measure(work, &job, &lines))
                }
                (Workload::Trace(_), None) => Err(anyhow::anyhow!("a trace workload without a trace")),
                _ => Single::new(line).map(|work| measure(work, &job, &lines)),
            };
            if let Err(error) = result {
                tell::<()>(Err(error));
            }
        }
    }
    // What happens next is up to whoever started us.
    lines.iter().for_each(drop);
    unreachable!("the end of the input ends the process")
}

/// Something that makes calls until time is up.
trait Work {
    /// Makes calls for about `time`, at least one; times each if asked to. Returns how many, and how long they took together.
    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)>;

    /// Proves after measuring what could not be proved before.
    fn check(&mut self) -> Result<()>;

    /// Times of whole executions so far, in nanoseconds.
    fn executions(&mut self) -> Vec<f64>;
}

fn measure(mut work: impl Work, job: &ClientJob, lines: &Receiver<String>) {
    tell(work.run(job.time.div_f64(WARM_UP), None).map(drop));
    if lines.recv().is_err() {
        return;
    }
    tell((|| {
        work.executions();
        let before = Usage::now();
        let mut latencies = Latencies::default();
        let (timed, took) = work.run(job.time / 2, Some(&mut latencies))?;
        let (untimed, mean_ns) = match job.think.is_zero() {
            true => {
                let (calls, took) = work.run(job.time / 2, None)?;
                (calls, took.as_nanos() as f64 / calls as f64)
            }
            false => (0, took.as_nanos() as f64 / timed as f64),
        };
        let usage = Usage::now().since(before);
        work.check()?;
        let mut executions = work.executions();
        Ok(Measured {
            latencies: latencies.buckets(),
            mean_ns,
            calls: timed + untimed,
            execution_ns: (!executions.is_empty()).then(|| median(&mut executions)),
            timer_ns: timer_overhead(),
            usage,
        })
    })());
}

/// How to reach the host.
#[derive(Clone, Copy)]
struct Line<'a> {
    job: &'a ClientJob,
    options: &'a ConnectOptions,
}

type Client = HostClient<Box<dyn BlockingStream>>;

impl Line<'_> {
    fn connect(&self) -> Result<Client> {
        Ok(HostClient::new(connect(&self.job.address, self.options)?))
    }

    /// GenVM computes.
    fn think(&self) {
        if !self.job.think.is_zero() {
            let started = Instant::now();
            while started.elapsed() < self.job.think {
                std::hint::spin_loop();
            }
        }
    }
}

/// `read:N` and `write:N`: one connection, the same call on a few slots in turn.
struct Single<'a> {
    line: Line<'a>,
    client: Client,
    slots: Vec<SlotId>,
    next: usize,
    writes: bool,
    buffer: Vec<u8>,
}

impl<'a> Single<'a> {
    fn new(line: Line<'a>) -> Result<Self> {
        let (len, writes) = match line.job.workload {
            Workload::Read(len) => (len, false),
            Workload::Write(len) => (len, true),
            Workload::Trace(_) => bail!("a trace is no single call"),
        };
        let slots = (0..SLOTS).map(data::slot).collect();
        let mut single = Self { client: line.connect()?, line, slots, next: 0, writes, buffer: vec![0; len as usize] };
        for slot in 0..SLOTS as usize {
            data::payload(slot, 0, &mut single.buffer);
            single.client.storage_write(&single.slots[slot], 0, &single.buffer)?;
        }
        single.check()?;
        data::payload(0, 0, &mut single.buffer);
        Ok(single)
    }

    #[inline]
    fn call(&mut self) -> Result<()> {
        let slot = &self.slots[self.next % SLOTS as usize];
        self.next += 1;
        if self.writes {
            self.client.storage_write(slot, 0, &self.buffer)?;
        } else {
            self.client.storage_read(MODE, &data_account(), slot, 0, &mut self.buffer)?;
        }
        Ok(())
    }
}

impl Work for Single<'_> {
    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)> {
        let started = Instant::now();
        let (mut calls, mut took) = (0, Duration::ZERO);
        match latencies {
            Some(latencies) => {
                while calls == 0 || started.elapsed() < time {
                    self.line.think();
                    let before = Instant::now();
                    self.call()?;
                    let latency = before.elapsed();
                    latencies.record(latency);
                    took += latency;
                    calls += 1;
                }
            }
            None => {
                let mut batch = 1;
                while calls == 0 || started.elapsed() < time {
                    let before = Instant::now();
                    for _ in 0..batch {
                        self.line.think();
                        self.call()?;
                    }
                    let elapsed = before.elapsed();
                    took += elapsed;
                    calls += batch;
                    // Batches of about half a millisecond.
                    batch = if elapsed < Duration::from_micros(250) { batch * 2 } else { batch };
                }
            }
        }
        Ok((calls, took))
    }

    /// Every slot has what belongs there.
    fn check(&mut self) -> Result<()> {
        let expected = |slot: usize, len: usize, written: bool| {
            let mut bytes = vec![0; len];
            // Measured writes all carry what slot 0 starts with.
            data::payload(if written { 0 } else { slot }, 0, &mut bytes);
            bytes
        };
        let account = data_account();
        for slot in 0..SLOTS as usize {
            let mut got = vec![0; self.buffer.len()];
            self.client.storage_read(MODE, &account, &self.slots[slot], 0, &mut got)?;
            let written = self.writes && slot < self.next;
            ensure!(got == expected(slot, got.len(), written), "slot {slot} does not contain what was written");
        }
        Ok(())
    }

    fn executions(&mut self) -> Vec<f64> {
        Vec::new()
    }
}

/// `trace:NAME`: a fixed sample of the executions, over and over, one connection each.
struct Executions<'a> {
    line: Line<'a>,
    player: Player<'a>,
    sample: Vec<usize>,
    next: usize,
    times: Vec<f64>,
}

impl<'a> Executions<'a> {
    fn new(line: Line<'a>, trace: &'a Trace) -> Result<Self> {
        let sample = sample(trace);
        let mut player = Player::new(trace);
        let mut model = Model::new(false);
        model.seed(trace);
        for &execution in &sample {
            // The host's environments go by the number of the connection, ours by the sample: contents beside storage differ.
            player.verify(&mut line.connect()?, execution, &mut model, false)?;
        }
        Ok(Self { line, player, sample, next: 0, times: Vec::new() })
    }
}

impl Work for Executions<'_> {
    fn run(&mut self, time: Duration, mut latencies: Option<&mut Latencies>) -> Result<(u64, Duration)> {
        let started = Instant::now();
        let (mut calls, mut took) = (0u64, Duration::ZERO);
        'time: while calls == 0 || started.elapsed() < time {
            let execution = self.sample[self.next % self.sample.len()];
            self.next += 1;
            let begun = Instant::now();
            let mut client = self.line.connect()?;
            let connected = Instant::now();
            for at in 0..self.player.trace.executions[execution].calls.len() {
                self.player.prepare(execution, at);
                self.line.think();
                match &mut latencies {
                    Some(latencies) => {
                        let before = Instant::now();
                        self.player.perform(&mut client, execution, at)?;
                        let latency = before.elapsed();
                        latencies.record(latency);
                        took += latency;
                        calls += 1;
                        if started.elapsed() >= time {
                            break 'time; // the host takes a connection that ends between calls as it is
                        }
                    }
                    None => {
                        self.player.perform(&mut client, execution, at)?;
                        calls += 1;
                    }
                }
            }
            if latencies.is_none() {
                took += connected.elapsed();
                self.times.push(begun.elapsed().as_nanos() as f64);
            }
        }
        Ok((calls, took))
    }

    fn check(&mut self) -> Result<()> {
        Ok(()) // `new` has verified the sample, byte by byte
    }

    fn executions(&mut self) -> Vec<f64> {
        std::mem::take(&mut self.times)
    }
}

/// Executions spread evenly over a trace, few enough for the slowest way to play them in a tenth of a second or so.
fn sample(trace: &Trace) -> Vec<usize> {
    let mut sample = Vec::new();
    let mut calls = 0;
    // Halving steps: the middle, the quarters, the eighths, …
    let mut step = trace.executions.len().next_power_of_two();
    while step > 0 && calls < SAMPLE_CALLS {
        for at in (step / 2..trace.executions.len()).step_by(step) {
            if calls >= SAMPLE_CALLS {
                break;
            }
            if !sample.contains(&at) {
                calls += trace.executions[at].calls.len();
                sample.push(at);
            }
        }
        step /= 2;
    }
    sample.sort_unstable();
    sample
}

fn data_account() -> crate::protocol::Account {
    data::account(0)
}

/// The lines of our input, from a thread of their own: when they end, whoever started us is gone, and so are we, and so is the
/// directory that it can no longer remove.
fn lines(directory: Arc<OnceLock<std::path::PathBuf>>) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        if let Some(directory) = directory.get() {
            let _ = std::fs::remove_dir_all(directory);
        }
        std::process::exit(0);
    });
    receive
}

fn job<T: DeserializeOwned>(lines: &Receiver<String>) -> Result<T> {
    let line = lines.recv().context("no job")?;
    Ok(serde_json::from_str(&line)?)
}

/// As many as to leave the first-level cache of neither process.
const SLOTS: u32 = 16;
const SAMPLE_CALLS: usize = 600;
/// The warm-up takes this part of the time.
const WARM_UP: f64 = 8.0;
