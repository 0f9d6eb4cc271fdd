//! The GenVM side's work: what is done between two floor probes, over and over.
//!
//! Each kind proves before it is measured that the right bytes come back.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::data;
use super::matrix::Workload;
use super::model::Model;
use super::player::{MODE, Player};
use super::stats::Latencies;
use super::trace::Trace;
use super::worker::ClientJob;
use crate::protocol::{HostClient, Limits, Request, Revision, SlotId};
use crate::{BlockingStream, ConnectOptions, connect};

type Stream = Box<dyn BlockingStream>;
type Client = HostClient<Stream>;

/// Something that makes calls until time is up.
pub(super) trait Work {
    /// Before each slice: connects, so that a host which spins was alone while the floor was probed.
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    /// After each slice: nothing of ours is connected any more.
    fn close(&mut self) {}

    /// Makes calls for about `time`, at least one; times each if asked to. Returns how many, and how long they took together.
    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)>;

    /// Proves after measuring what could not be proved before.
    fn check(&mut self) -> Result<()> {
        Ok(())
    }

    /// Times of whole executions since the last call, in nanoseconds.
    fn executions(&mut self) -> Vec<f64> {
        Vec::new()
    }
}

/// What a job asks for.
pub(super) fn work<'a>(line: Line<'a>, trace: Option<&'a Trace>) -> Result<Box<dyn Work + 'a>> {
    Ok(match (&line.job.workload, trace) {
        (Workload::Trace(_), Some(trace)) => Box::new(Executions::new(line, trace)?),
        (Workload::Trace(_), None) => bail!("a trace workload without a trace"),
        (Workload::Ping(len), _) => Box::new(Ping { line, stream: None, buffer: vec![0xa5; *len as usize] }),
        (Workload::Connect, _) => Box::new(Connects { line }),
        (Workload::Read(_), _) if line.job.in_flight > 1 => Box::new(Pipelined(Single::new(line)?)),
        (Workload::Read(_) | Workload::Write(_), _) => Box::new(Single::new(line)?),
    })
}

/// How to reach the host.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) job: &'a ClientJob,
    pub(super) options: &'a ConnectOptions,
}

impl Line<'_> {
    fn stream(&self) -> Result<Stream> {
        Ok(connect(&self.job.address, self.options)?)
    }

    fn connect(&self) -> Result<Client> {
        self.stream().map(HostClient::new)
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

    /// Calls for about `time`, of which each is `calls` of the protocol's.
    fn repeat(
        &self,
        time: Duration,
        latencies: Option<&mut Latencies>,
        calls: u64,
        mut call: impl FnMut() -> Result<()>,
    ) -> Result<(u64, Duration)> {
        let started = Instant::now();
        let (mut made, mut took) = (0, Duration::ZERO);
        match latencies {
            Some(latencies) => {
                while made == 0 || started.elapsed() < time {
                    self.think();
                    let before = Instant::now();
                    call()?;
                    let latency = before.elapsed();
                    latencies.record(latency / calls as u32);
                    took += latency;
                    made += calls;
                }
            }
            None => {
                let mut batch = 1;
                while made == 0 || started.elapsed() < time {
                    let before = Instant::now();
                    for _ in 0..batch {
                        self.think();
                        call()?;
                    }
                    let elapsed = before.elapsed();
                    took += elapsed;
                    made += batch * calls;
                    // Batches of about half a millisecond.
                    batch = if elapsed < Duration::from_micros(250) { batch * 2 } else { batch };
                }
            }
        }
        Ok((made, took))
    }
}

/// `read:N` and `write:N`: the same call on a few slots in turn. Each connection is an execution of its own, whose slots it
/// fills first.
struct Single<'a> {
    line: Line<'a>,
    client: Option<Client>,
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
            _ => bail!("no single call"),
        };
        let slots = (0..SLOTS).map(data::slot).collect();
        let mut single = Self { line, client: None, slots, next: 0, writes, buffer: vec![0; len as usize] };
        single.open()?;
        single.check()?;
        Ok(single)
    }

    fn client(&mut self) -> Result<&mut Client> {
        self.client.as_mut().ok_or_else(|| anyhow::anyhow!("not connected"))
    }
}

impl Work for Single<'_> {
    fn open(&mut self) -> Result<()> {
        let mut client = self.line.connect()?;
        // The host takes the account of the first read for the running contract.
        client.storage_read(MODE, &data::account(0), &self.slots[0], 0, &mut [0])?;
        for (number, slot) in self.slots.iter().enumerate() {
            data::payload(number, 0, &mut self.buffer);
            client.storage_write(slot, 0, &self.buffer)?;
        }
        (self.client, self.next) = (Some(client), 0);
        data::payload(0, 0, &mut self.buffer);
        Ok(())
    }

    fn close(&mut self) {
        self.client = None;
    }

    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)> {
        let Self { line, client: Some(client), slots, next, writes, buffer } = self else { bail!("not connected") };
        let account = data::account(0);
        line.repeat(time, latencies, 1, || {
            let slot = &slots[*next % SLOTS as usize];
            *next += 1;
            if *writes {
                client.storage_write(slot, 0, buffer)?;
            } else {
                client.storage_read(MODE, &account, slot, 0, buffer)?;
            }
            Ok(())
        })
    }

    /// Every slot has what belongs there.
    fn check(&mut self) -> Result<()> {
        if self.client.is_none() {
            self.open()?;
        }
        let (mut got, mut expected) = (vec![0; self.buffer.len()], vec![0; self.buffer.len()]);
        for number in 0..self.slots.len() {
            // Measured writes all carry what slot 0 starts with.
            data::payload(if self.writes && number < self.next { 0 } else { number }, 0, &mut expected);
            let slot = self.slots[number];
            self.client()?.storage_read(MODE, &data::account(0), &slot, 0, &mut got)?;
            ensure!(got == expected, "slot {number} does not contain what was written");
        }
        self.client = None;
        Ok(())
    }
}

/// Several reads on their way at once, on one connection. Requests leave in one write; every answer is checked.
struct Pipelined<'a>(Single<'a>);

impl Work for Pipelined<'_> {
    fn open(&mut self) -> Result<()> {
        self.0.open()
    }

    fn close(&mut self) {
        self.0.close();
    }

    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)> {
        let Single { line, client: Some(client), slots, buffer, .. } = &mut self.0 else { bail!("not connected") };
        let (in_flight, len) = (line.job.in_flight, buffer.len());
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        for number in 0..in_flight as usize {
            let slot = slots[number % SLOTS as usize];
            let request =
                Request::StorageRead { mode: MODE, account: data::account(0), slot, index: 0, length: len as u32 };
            request.encode(Revision::One, &Limits::DEFAULT, &mut requests)?;
            data::payload(number % SLOTS as usize, 0, buffer);
            expected.push(0);
            expected.extend_from_slice(buffer);
        }
        let mut answers = vec![0; expected.len()];
        let stream = client.get_mut();
        line.repeat(time, latencies, in_flight.into(), || {
            stream.write_all(&requests)?;
            stream.flush()?;
            stream.read_exact(&mut answers)?;
            ensure!(answers == expected, "the answers are not those to these requests in this order");
            Ok(())
        })
    }

    fn check(&mut self) -> Result<()> {
        self.0.check()
    }
}

/// `ping:N`: the streams alone.
struct Ping<'a> {
    line: Line<'a>,
    stream: Option<Stream>,
    buffer: Vec<u8>,
}

impl Work for Ping<'_> {
    fn open(&mut self) -> Result<()> {
        self.stream = Some(self.line.stream()?);
        Ok(())
    }

    fn close(&mut self) {
        self.stream = None;
    }

    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)> {
        let Self { line, stream: Some(stream), buffer } = self else { bail!("not connected") };
        let (mut count, mut answer) = (0u8, vec![0; buffer.len()]);
        line.repeat(time, latencies, 1, || {
            count = count.wrapping_add(1);
            buffer[0] = count;
            stream.write_all(buffer)?;
            stream.flush()?;
            stream.read_exact(&mut answer)?;
            ensure!(answer[0] == count && answer.last() == buffer.last(), "another ping came back");
            Ok(())
        })
    }
}

/// `connect`: a connection, its first answer, its end.
struct Connects<'a> {
    line: Line<'a>,
}

impl Work for Connects<'_> {
    fn run(&mut self, time: Duration, latencies: Option<&mut Latencies>) -> Result<(u64, Duration)> {
        self.line.repeat(time, latencies, 1, || {
            let mut answer = [1; 32];
            self.line.connect()?.storage_read(MODE, &data::account(0), &data::slot(0), 0, &mut answer)?;
            ensure!(answer == [0; 32], "a fresh slot is not zero");
            Ok(())
        })
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

/// As many as to leave the first-level cache of neither process.
const SLOTS: u32 = 16;
const SAMPLE_CALLS: usize = 600;
