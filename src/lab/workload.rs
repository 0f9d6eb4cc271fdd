//! What GenVM does, as [`Work`]: steps over the public API, each of which proves what it can without being slowed by it. When to
//! step, and what that took, is not decided here.

use std::io::{Read, Write};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::calls::Calls;
use super::data;
use super::line::{Beside, Client, Line, Storage, Stream};
use super::matrix::Workload;
use super::player::MODE;
use super::stats::Latencies;
use crate::protocol::{Account, HostClient, ResultCode, SlotId, SlotRead};

/// Calls of one kind, on a connection of their own or several after one another.
pub(super) trait Work: Send {
    /// Connects, if calls share a connection.
    fn open(&mut self) -> Result<()>;

    /// Touches on that connection whatever calls will touch, so that none of them is the first: slots, and the pages of rings.
    fn touch(&mut self) -> Result<()> {
        Ok(())
    }

    /// Makes a call, or as many as go together; times them if asked to. Returns how many.
    fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64>;

    /// Proves that the last call did what it should, and ends the connection.
    fn close(&mut self) -> Result<()>;

    /// How it reaches the host.
    fn line(&mut self) -> &mut Line;

    /// How many steps it takes until the next does what the first did.
    fn round(&self) -> u64 {
        1
    }

    /// Whether GenVM computes between calls.
    fn thinks(&mut self) -> bool {
        !self.line().think.is_zero()
    }

    /// What the steps since the last time did beside calling.
    fn beside(&mut self) -> Beside {
        std::mem::take(&mut self.line().beside)
    }
}

/// Writes what single calls will read, and proves slot by slot that it can be read back over another connection.
pub(super) fn prepare(line: &Line, workload: &Workload) -> Result<()> {
    let len = match *workload {
        Workload::Read(len) | Workload::Write(len) => len as usize,
        Workload::Connect => FIRST_READ,
        Workload::Ping(_) | Workload::Trace(_) => return Ok(()),
    };
    let mut client = line.client()?;
    let mut bytes = vec![0; len];
    for slot in 0..SLOTS {
        data::payload(slot, 0, &mut bytes);
        client.storage_write(&data::slot(slot as u32), 0, &bytes)?;
    }
    client.consume_result(ResultCode::Return, &[])?;
    let mut client = line.client()?;
    for slot in 0..SLOTS {
        client.storage_read(MODE, &data::account(0), &data::slot(slot as u32), 0, &mut bytes)?;
        prove(slot, &bytes)?;
    }
    Ok(())
}

/// Once around the ring there, and once around the ring back.
fn lap(client: &mut HostClient<impl Read + Write>, bytes: usize) -> Result<()> {
    if bytes > 0 {
        let mut bytes = vec![1; bytes];
        let slot = data::slot(SLOTS as u32);
        client.storage_write(&slot, 0, &bytes)?;
        client.storage_read(MODE, &data::account(0), &slot, 0, &mut bytes)?;
    }
    Ok(())
}

/// `bytes` are what belongs into a slot.
fn prove(slot: usize, bytes: &[u8]) -> Result<()> {
    let mut expected = vec![0; bytes.len()];
    data::payload(slot, 0, &mut expected);
    ensure!(bytes == expected, "slot {slot} does not contain what was written");
    Ok(())
}

fn slots() -> Vec<SlotId> {
    (0..SLOTS as u32).map(data::slot).collect()
}

fn opened<T>(open: &mut Option<T>) -> Result<&mut T> {
    open.as_mut().context("not connected")
}

fn read(calls: &mut impl Calls, account: &Account, slot: &SlotId, buffer: &mut [u8]) -> Result<()> {
    Ok(calls.read(MODE, account, slot, 0, buffer)?)
}

/// `read:N` and `write:N`: one connection, the same call on a few slots in turn.
pub(super) struct Single<C> {
    line: Line,
    connect: fn(&Line) -> Result<C>,
    client: Option<C>,
    account: Account,
    slots: Vec<SlotId>,
    /// The slot of the last call.
    at: usize,
    writes: bool,
    buffer: Vec<u8>,
}

impl Single<Client> {
    pub(super) fn new(line: Line, len: u32, writes: bool) -> Self {
        Self::connecting(line, Line::client, len, writes)
    }
}

impl Single<Storage> {
    /// Reads through a cache: once touched, every slot is in it.
    pub(super) fn cached(line: Line, len: u32) -> Self {
        Self::connecting(line, Line::storage, len, false)
    }
}

impl<C> Single<C> {
    fn connecting(line: Line, connect: fn(&Line) -> Result<C>, len: u32, writes: bool) -> Self {
        let buffer = vec![0; len as usize];
        Self { line, connect, client: None, account: data::account(0), slots: slots(), at: 0, writes, buffer }
    }
}

impl<C: Calls + Send> Work for Single<C> {
    fn open(&mut self) -> Result<()> {
        self.client = Some((self.connect)(&self.line)?);
        // What measured writes carry is in no slot before.
        data::payload(SLOTS, 0, &mut self.buffer);
        Ok(())
    }

    fn touch(&mut self) -> Result<()> {
        lap(opened(&mut self.client)?.client(), self.line.ring)?;
        let think = std::mem::take(&mut self.line.think);
        (0..SLOTS).try_for_each(|_| self.step(None).map(drop))?;
        self.line.think = think;
        Ok(())
    }

    #[inline]
    fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64> {
        self.at = (self.at + 1) % SLOTS;
        let (client, slot) = (opened(&mut self.client)?, &self.slots[self.at]);
        let (writes, account, buffer) = (self.writes, &self.account, &mut self.buffer);
        self.line.call(latencies, |_| match writes {
            true => Ok(client.write(slot, 0, buffer)?),
            false => read(client, account, slot, buffer),
        })
    }

    fn close(&mut self) -> Result<()> {
        let mut client = self.client.take();
        if self.writes {
            self.buffer.fill(0);
            read(opened(&mut client)?, &self.account, &self.slots[self.at], &mut self.buffer)?;
        }
        prove(if self.writes { SLOTS } else { self.at }, &self.buffer)
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}

/// `read:N`, several in flight, as one batch.
pub(super) struct Pipelined {
    line: Line,
    client: Option<Client>,
    slots: Vec<SlotId>,
    len: u32,
    answers: Vec<u8>,
}

impl Pipelined {
    pub(super) fn new(line: Line, len: u32, calls: u32) -> Self {
        Self { line, client: None, slots: slots(), len, answers: vec![0; calls as usize * len as usize] }
    }
}

impl Work for Pipelined {
    fn open(&mut self) -> Result<()> {
        self.client = Some(self.line.client()?);
        Ok(())
    }

    fn touch(&mut self) -> Result<()> {
        lap(opened(&mut self.client)?, self.line.ring)?;
        self.step(None).map(drop)
    }

    #[inline]
    fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64> {
        self.line.think();
        let client = opened(&mut self.client)?;
        let (mode, account) = (MODE, data::account(0));
        let before = latencies.is_some().then(Instant::now);
        let outs = self.answers.chunks_exact_mut(self.len as usize);
        let read = |(slot, out): (&SlotId, _)| SlotRead { mode, account, slot: *slot, index: 0, out };
        let mut reads: Vec<_> = self.slots.iter().cycle().zip(outs).map(read).collect();
        client.storage_read_many(&mut reads)?;
        let calls = reads.len() as u32;
        if let (Some(latencies), Some(before)) = (latencies, before) {
            latencies.record_batch(before.elapsed(), calls);
        }
        Ok(calls.into())
    }

    fn close(&mut self) -> Result<()> {
        self.client = None;
        let answers = self.answers.chunks_exact(self.len as usize);
        answers.enumerate().try_for_each(|(call, answer)| prove(call % SLOTS, answer))
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}

/// `ping:N`: N bytes out, N bytes back; the host echoes.
pub(super) struct Ping {
    line: Line,
    stream: Option<Stream>,
    out: Vec<u8>,
    back: Vec<u8>,
}

impl Ping {
    pub(super) fn new(line: Line, len: u32) -> Self {
        // The first byte is a method id and no greeting: the listener is one that upgrades.
        let out = (0..len).map(|at| (at % 251) as u8).collect();
        Self { line, stream: None, out, back: vec![0; len as usize] }
    }
}

impl Work for Ping {
    fn open(&mut self) -> Result<()> {
        self.stream = Some(self.line.stream()?);
        Ok(())
    }

    /// Several at once, so that going around takes few turns.
    fn touch(&mut self) -> Result<()> {
        let stream = opened(&mut self.stream)?;
        let burst = self.out.repeat((BURST / self.out.len()).max(1));
        let mut back = vec![0; burst.len()];
        for _ in 0..self.line.ring.div_ceil(burst.len()) {
            stream.write_all(&burst)?;
            stream.flush()?;
            stream.read_exact(&mut back)?;
        }
        ensure!(back == burst || self.line.ring == 0, "other bytes came back than were sent");
        Ok(())
    }

    #[inline]
    fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64> {
        let stream = opened(&mut self.stream)?;
        let (out, back) = (&self.out, &mut self.back);
        self.line.call(latencies, |_| {
            stream.write_all(out)?;
            stream.flush()?;
            Ok(stream.read_exact(back)?)
        })
    }

    fn close(&mut self) -> Result<()> {
        self.stream = None;
        ensure!(self.out == self.back, "other bytes came back than were sent");
        self.back.fill(0xff);
        Ok(())
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}

/// `connect`: a connection, its first answer, and its end.
pub(super) struct Connecting {
    line: Line,
    account: Account,
    slot: SlotId,
    buffer: Vec<u8>,
}

impl Connecting {
    pub(super) fn new(line: Line) -> Self {
        Self { line, account: data::account(0), slot: data::slot(0), buffer: vec![0; FIRST_READ] }
    }
}

impl Work for Connecting {
    fn open(&mut self) -> Result<()> {
        Ok(())
    }

    fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64> {
        let (account, slot, buffer) = (&self.account, &self.slot, &mut self.buffer);
        self.line.call(latencies, |line| read(&mut line.client()?, account, slot, buffer))
    }

    fn close(&mut self) -> Result<()> {
        prove(0, &self.buffer)?;
        self.buffer.fill(0);
        Ok(())
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}

/// As many as to leave the first-level cache of neither process.
const SLOTS: usize = 16;
/// What `connect` reads.
const FIRST_READ: usize = 32;
/// Fits into any ring and into any socket's buffer, so that sending it never waits for the echo to be read.
const BURST: usize = 2 << 10;
