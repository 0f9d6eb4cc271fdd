//! [`Executions`]: the workload `trace:NAME`, whole recorded executions over and over again.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::calls::Calls;
use super::data;
use super::line::{Client, Executed, Line};
use super::model::Model;
use super::player::{Played, Player};
use super::stats::Latencies;
use super::trace::{Call, Trace};
use super::workload::Work;
use crate::protocol::ResultCode;
use crate::storage::PageCache;

/// `trace:NAME`: executions one after another and over again, one connection each. A step is a whole execution. The host gives each
/// connection what the next execution may know, so all of them are played in order, also from slice to slice; where several connections
/// play at once, that order is not known, and some are answered as another execution.
pub(super) struct Executions<'t> {
    line: Line,
    player: Player<'t>,
    /// Executions that were played.
    played: usize,
    round: usize,
    /// With which the last slice began.
    began: Option<usize>,
    alone: bool,
    /// Reads that go out together at most.
    in_flight: usize,
}

impl<'t> Executions<'t> {
    /// Of so many `connections` at once to a host that has served whole rounds of the trace.
    pub(super) fn new(line: Line, trace: &'t Trace, connections: u32, round: u32) -> Self {
        let (player, alone) = (Player::new(trace), connections == 1);
        Self { line, player, played: 0, round: round as usize, began: None, alone, in_flight: 1 }
    }

    /// The same with up to so many reads on their way at once, where that many follow each other.
    pub(super) fn in_flight(self, calls: u32) -> Self {
        Self { in_flight: calls as usize, ..self }
    }

    /// Proves every byte, on a host that was seeded with the trace and has served nobody yet.
    pub(super) fn verify(line: &Line, trace: &Trace, in_flight: u32) -> Result<()> {
        let (mut player, mut model) = (Player::new(trace), Model::new(false));
        model.seed(trace);
        for execution in 0..trace.executions.len() {
            let mut client = line.client()?;
            match &line.cache {
                None if in_flight > 1 => prove_batches(&mut player, &mut client, execution, &mut model, in_flight)?,
                None => player.verify(&mut client, execution, &mut model, true).map(drop)?,
                Some(options) => {
                    let account = data::account(trace.executions[execution].account);
                    let mut storage = PageCache::new(client, account, options.clone());
                    player.verify(&mut storage, execution, &mut model, true).map(drop)?
                }
            };
        }
        Ok(())
    }

    fn play(&mut self, calls: &mut impl Calls, execution: usize, mut latencies: Option<&mut Latencies>) -> Result<()> {
        for at in 0..self.player.trace.executions[execution].calls.len() {
            self.player.prepare(execution, at);
            let (player, mut played) = (&mut self.player, Played::Done);
            self.line.call(latencies.as_deref_mut(), |_| {
                played = player.perform(calls, execution, at)?;
                Ok(())
            })?;
            ensure!(
                !self.alone || self.player.is_answer(execution, at, &played),
                "execution {execution}, call {at}: another answer"
            );
        }
        Ok(())
    }

    fn play_batches(
        &mut self,
        client: &mut Client,
        execution: usize,
        mut latencies: Option<&mut Latencies>,
    ) -> Result<()> {
        let (mut at, player) = (0, &mut self.player);
        while at < player.trace.executions[execution].calls.len() {
            let run = player.run(execution, at, self.in_flight);
            at = run.end;
            self.line.think();
            player.prepare(execution, run.start);
            let before = latencies.is_some().then(Instant::now);
            let played = match run.len() {
                1 => player.perform(client, execution, run.start)?,
                _ => player.read_together(client, execution, run.clone()).map(|()| Played::Read)?,
            };
            if let (Some(latencies), Some(before)) = (latencies.as_deref_mut(), before) {
                latencies.record_batch(before.elapsed(), run.len() as u32);
            }
            ensure!(
                !self.alone || player.is_answer(execution, run.start, &played),
                "execution {execution}, call {at}: another answer"
            );
        }
        Ok(())
    }
}

/// Plays an execution in batches and compares every byte read with `model`.
fn prove_batches(
    player: &mut Player<'_>,
    client: &mut Client,
    execution: usize,
    model: &mut Model,
    in_flight: u32,
) -> Result<()> {
    let recorded = &player.trace.executions[execution];
    let mut at = 0;
    while at < recorded.calls.len() {
        let run = player.run(execution, at, in_flight as usize);
        at = run.end;
        if let Call::Read { .. } = recorded.calls[run.start] {
            player.read_together(client, execution, run.clone())?;
            let expected = recorded.calls[run.clone()].iter().flat_map(|call| match *call {
                Call::Read { mode, account, slot, index, len } => model.read(mode, account, slot, index, len),
                _ => Vec::new(),
            });
            let place = || format!("execution {execution}, calls {run:?} together: other bytes than were written");
            ensure!(expected.eq(player.bytes().iter().copied()), "{}", place());
            continue;
        }
        player.prepare(execution, run.start);
        player.perform(client, execution, run.start)?;
        if let Call::Write { slot, index, .. } = recorded.calls[run.start] {
            model.write(recorded.account, slot, index, player.bytes());
        }
    }
    model.end(recorded.result == ResultCode::Return);
    Ok(())
}

impl Work for Executions<'_> {
    /// Each slice begins with another execution than the last one, so that each comes behind the warm-up, wherever that ends; and so does
    /// each round.
    fn open(&mut self) -> Result<()> {
        let all = self.player.trace.executions.len();
        let skip = match self.began {
            None => self.round % all,
            Some(began) => usize::from(all > 1 && began == self.played % all),
        };
        (0..skip).try_for_each(|_| self.step(None).map(drop))?;
        self.beside(); // of no slice
        self.began = Some(self.played % all);
        Ok(())
    }

    fn step(&mut self, latencies: Option<&mut Latencies>) -> Result<u64> {
        let execution = self.played % self.player.trace.executions.len();
        self.played += 1;
        let begun = Instant::now();
        let mut client = self.line.client()?;
        self.line.beside.connecting += begun.elapsed();
        let recorded = &self.player.trace.executions[execution];
        let calls = recorded.calls.len();
        let mut cached = None; // ends its connection where a client does: after the clock was read
        match self.line.cache.clone() {
            None if self.in_flight > 1 => self.play_batches(&mut client, execution, latencies)?,
            None => self.play(&mut client, execution, latencies)?,
            Some(options) => {
                let storage = PageCache::new(client, data::account(recorded.account), options);
                self.play(cached.insert(storage), execution, latencies)?;
            }
        }
        let ns = begun.elapsed().as_nanos() as f64;
        let calls = calls as u64;
        let saved = cached.map_or(0, |storage| storage.stats().calls_saved());
        self.line.beside.executions.push(Executed { number: execution, ns, calls: calls - saved });
        Ok(calls)
    }

    fn round(&self) -> u64 {
        self.player.trace.executions.len() as u64
    }

    fn close(&mut self) -> Result<()> {
        Ok(()) // `verify` has proved every byte
    }

    fn line(&mut self) -> &mut Line {
        &mut self.line
    }
}
