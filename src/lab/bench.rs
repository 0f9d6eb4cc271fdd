//! The doorway of the suites in `benches/`, not a part of the API: a [`Case`] is a cell of `lab compare` by the lab's own names, and
//! [`Peers`] are the lab's two processes that measure it, in the lab's placement. How many rounds of calls are timed, and what is
//! concluded from that, is up to the suite.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::ValueEnum;

use super::matrix::{HostKind, Placement, Situation, Transport, Wait, Way, Workload};
use super::process::{self, Worker};
use super::trace::Trace;
use super::worker::{Home, Job};
use crate::RingCapacity;

/// What is measured. Host and GenVM side have a core each, if there are two.
#[derive(Debug, Clone)]
pub struct Case {
    way: Way,
    situation: Situation,
}

impl Case {
    /// `workload` over `transport` while both ends wait as `wait` says, all as `lab compare` calls them.
    ///
    /// # Errors
    /// A name is not known.
    pub fn new(transport: &str, wait: &str, workload: &str) -> Result<Self> {
        let transport = Transport::from_str(transport, false).map_err(|error| anyhow!("{transport}: {error}"))?;
        let wait = Wait::from_str(wait, false).map_err(|error| anyhow!("{wait}: {error}"))?;
        let ring_kib = transport.has_rings().then_some(RingCapacity::DEFAULT.bytes() / 1024);
        let placement = if process::cores().len() > 1 { Placement::Split } else { Placement::Same };
        Ok(Self {
            way: Way { transport, wait, ring_kib, ..Way::today(HostKind::Thread) },
            situation: Situation {
                workload: workload.parse().map_err(|error: String| anyhow!("{workload}: {error}"))?,
                placement,
                think_us: 0,
                in_flight: 1,
                connections: 1,
            },
        })
    }

    /// The same with so many calls on their way at once. They are one round together.
    #[must_use]
    pub fn in_flight(mut self, calls: u32) -> Self {
        self.situation.in_flight = calls;
        self
    }

    /// The same with so many microseconds of computing between calls, which are not timed.
    #[must_use]
    pub fn thinking(mut self, us: u64) -> Self {
        self.situation.think_us = us;
        self
    }

    /// The same with a cache of storage pages of so many bytes in front of the client.
    #[must_use]
    pub fn cached(mut self, page: u32) -> Self {
        self.way.cache = Some(page);
        self
    }

    /// Calls of a round.
    ///
    /// # Errors
    /// There is no such trace.
    pub fn calls(&self) -> Result<u64> {
        Ok(match &self.situation.workload {
            Workload::Trace(name) => {
                let executions = Trace::built_in(name)?.measured().executions;
                executions.iter().map(|execution| execution.calls.len() as u64).sum()
            }
            _ => self.situation.in_flight.into(),
        })
    }

    /// Starts both processes from `program`, a `transport-lab`, and returns once they have proved that the right bytes come back.
    ///
    /// # Errors
    /// A process does not start, cannot connect, or reads other bytes than were written.
    pub fn start(&self, program: &Path) -> Result<Peers> {
        let directory = Home::new()?;
        let Self { way, situation } = self.clone();
        let trace = match &situation.workload {
            Workload::Trace(name) => Some(Trace::built_in(name)?.measured().save(directory.path())?),
            _ => None,
        };
        let (core, client_core) = situation.cores(&process::cores());
        let address = way.transport.address(&directory.path().join("host.sock"));
        let job = Job { address, way, situation, core, round: 0, trace, directory: directory.path().to_owned() };
        let mut host = Worker::of(program, "worker-host", &job)?;
        let job = Job { address: host.hear()?, core: client_core, ..job };
        let mut client = Worker::of(program, "worker-client", &job)?;
        client.hear::<()>()?;
        client.ask::<()>("check")?;
        client.ask::<()>("open")?;
        Ok(Peers { client, _host: host, _directory: directory })
    }
}

/// A host and a GenVM side with an open connection, each a process; they end with the value.
#[derive(Debug)]
pub struct Peers {
    client: Worker,
    _host: Worker,
    /// Where the socket is; goes last.
    _directory: Home,
}

impl Peers {
    /// What so many rounds take, after half a millisecond of them that is not timed. A round is a call, all calls in flight, or all
    /// executions that `lab compare` plays of a trace, connecting included.
    ///
    /// # Errors
    /// A call fails.
    pub fn time(&mut self, rounds: u64) -> Result<Duration> {
        let nanos: f64 = self.client.ask(&format!("time {rounds}"))?;
        Ok(Duration::from_nanos(nanos as u64))
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// The last call did not do what it should.
    pub fn close(mut self) -> Result<()> {
        self.client.ask("close")
    }
}

/// Every transport of the lab with every wait strategy that it has.
pub fn ways() -> Vec<(String, String)> {
    let waits = |transport: &Transport| {
        let transport = *transport;
        Wait::value_variants().iter().filter(move |wait| transport.waits(**wait)).map(move |wait| (transport, *wait))
    };
    let ways = Transport::value_variants().iter().flat_map(waits);
    ways.map(|(transport, wait)| (transport.to_string(), wait.to_string())).collect()
}

/// Keeps the calling thread on the core that the GenVM side has.
pub fn pin_genvm() {
    process::pin(process::cores().first().copied());
}

/// Keeps the calling thread on the core that the host has.
pub fn pin_host() {
    process::pin(process::cores().last().copied());
}
