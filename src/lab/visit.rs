//! A visit: all ways in one [`Situation`], side by side. Their processes are started together and take turns, a [`Slice`] each, so
//! that every way meets the same machine; whoever has no turn has no connection, and sleeps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::cli::explain;
use super::floor::{self, Floor};
use super::matrix::{Cell, Situation, Workload};
use super::process::{Ticks, Usage, Worker};
use super::rows::{Failure, Sample};
use super::slice::Slice;
use super::stats::shuffled;
use super::worker::Job;

/// What every visit needs, and what they all have brought.
#[derive(Debug)]
pub(super) struct Visits<'a> {
    pub(super) cells: &'a [Cell],
    pub(super) cores: Vec<usize>,
    /// Where the sockets are.
    pub(super) directory: &'a Path,
    /// Where the sample of each trace is.
    pub(super) traces: HashMap<String, PathBuf>,
    pub(super) interrupted: &'a AtomicBool,
    pub(super) samples: Vec<Sample>,
    pub(super) failures: Vec<Failure>,
}

impl Visits<'_> {
    /// Measures `cells`, which have their situation in common, in about `time` altogether, but each at least once.
    pub(super) fn visit(&mut self, cells: &[usize], round: u32, seed: u64, time: Duration) {
        let until = Instant::now() + time;
        let situation = self.cells[cells[0]].situation.clone();
        let mut pairs = self.start(cells, round);
        let mut before = self.look(&situation);
        let mut pass = 0;
        while !pairs.is_empty() && (pass == 0 || Instant::now() < until) {
            let mut broken = Vec::new();
            for turn in shuffled(pairs.len(), seed.wrapping_add(pass)) {
                if pass > 0 && Instant::now() >= until || self.interrupted.load(Ordering::SeqCst) {
                    return;
                }
                let (cell, pair) = &mut pairs[turn];
                match pair.slice() {
                    Ok((slice, host)) => {
                        let after = self.look(&situation);
                        let floors = before.floor.zip(after.floor).map(|(before, after)| [before, after]);
                        let ticks = after.ticks.since(before.ticks);
                        self.samples.push(Sample { cell: *cell, round, slice, host, floors, ticks });
                        before = after;
                    }
                    Err(error) => {
                        self.failures.push(Failure { cell: *cell, error: explain(&error) });
                        broken.push(turn);
                    }
                }
            }
            broken.sort_unstable();
            broken.into_iter().rev().for_each(|turn| drop(pairs.remove(turn)));
            pass += 1;
        }
    }

    /// A pair of processes for each cell; those that cannot be are failures.
    fn start(&mut self, cells: &[usize], round: u32) -> Vec<(usize, Pair)> {
        let jobs = cells.iter().map(|&number| self.job(number, round)).collect::<Vec<_>>();
        // Loading goes on in all of them at once; checking, where both ends may spin, in one pair after another.
        let hosts: Vec<_> = jobs.iter().map(|(host, _)| Worker::start("worker-host", host)).collect();
        let clients = hosts.into_iter().zip(jobs).map(|(host, (_, mut job))| {
            let mut host = host?;
            job.address = host.hear()?;
            Ok(Pair { host, client: Worker::start("worker-client", &job)? })
        });
        let pairs: Vec<Result<Pair>> = clients.collect();
        let mut started = Vec::new();
        for (pair, &cell) in pairs.into_iter().zip(cells) {
            if self.interrupted.load(Ordering::SeqCst) {
                break;
            }
            match pair.and_then(Pair::checked) {
                Ok(pair) => started.push((cell, pair)),
                Err(error) => self.failures.push(Failure { cell, error: explain(&error) }),
            }
        }
        started
    }

    /// What host and client of a cell have to know; the client also the host's address.
    fn job(&self, number: usize, round: u32) -> (Job, Job) {
        let Cell { way, situation } = self.cells[number].clone();
        let (host, client) = situation.cores(&self.cores);
        let trace = match &situation.workload {
            Workload::Trace(name) => self.traces.get(name).cloned(),
            _ => None,
        };
        let address = way.transport.address(&self.directory.join(format!("{number}.sock")));
        let directory = self.directory.to_owned();
        let job = Job { address, way, situation, core: host, round, trace, directory };
        (job.clone(), Job { core: client, ..job })
    }

    /// What the machine is like now.
    fn look(&self, situation: &Situation) -> Look {
        let ends = self.cores.first().zip(self.cores.last());
        let floor = ends.and_then(|(&first, &last)| floor::measure(first, last, situation.workload.bulk()));
        Look { floor, ticks: Ticks::now() }
    }
}

#[derive(Debug, Clone, Copy)]
struct Look {
    floor: Option<Floor>,
    ticks: Ticks,
}

/// Host and GenVM side of a cell.
#[derive(Debug)]
struct Pair {
    host: Worker,
    client: Worker,
}

impl Pair {
    /// Once it has proved that the right bytes come back.
    fn checked(mut self) -> Result<Self> {
        self.client.hear::<()>()?;
        self.client.ask::<()>("check")?;
        Ok(self)
    }

    /// A slice, and what the host has used for it.
    fn slice(&mut self) -> Result<(Slice, Usage)> {
        self.client.ask::<()>("open")?;
        let before: Usage = self.host.ask("usage")?;
        self.client.ask::<()>("run")?;
        // At once: a host that polls goes on using its core.
        let after: Usage = self.host.ask("usage")?;
        let slice = self.client.ask("slice")?;
        self.client.ask::<()>("close")?;
        Ok((slice, after.since(before)))
    }
}
