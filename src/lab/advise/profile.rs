//! [`Profile`]: what an execution asks of its host, on average: so many calls of such sizes, and what would be left of them.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::data;
use crate::lab::player::Player;
use crate::lab::serving::World;
use crate::lab::trace::{Call, Trace};
use crate::protocol::{HostClient, Method, Protocol, serve_blocking};
use crate::storage::{CacheOptions, PageCache, PageSize, WriteMode};

/// Calls of one size, so many in an execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    pub(super) bytes: f64,
    pub(super) calls: f64,
    /// How many of them go out together.
    pub(super) together: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) name: String,
    pub(super) executions: usize,
    /// All calls that it waits for, as they are made today.
    pub(super) loads: Vec<Load>,
    /// Those that a cache of pages leaves, if that is known.
    pub(super) cached: Option<Vec<Load>>,
    /// Those that can go out together do, if it is known which.
    pub(super) batched: Option<Vec<Load>>,
    /// Nanoseconds that an execution takes beside waiting for its host, if that is known.
    pub(super) own_ns: Option<f64>,
    /// Microseconds that pass between two calls.
    pub(super) think_us: f64,
    /// Nanoseconds that it was seen to wait, and over what.
    pub(super) seen: Option<(f64, String)>,
}

impl Profile {
    pub(super) fn calls(&self) -> f64 {
        calls(&self.loads)
    }

    /// Of all executions of a trace.
    pub(super) fn of_trace(trace: &Trace) -> Result<Self> {
        let player = Player::new(trace);
        let each = 1.0 / trace.executions.len() as f64;
        let (mut loads, mut batched) = (Vec::new(), Vec::new());
        for (number, execution) in trace.executions.iter().enumerate() {
            let waits = |call: &&Call| waits(call.method().name());
            let load = |call: &Call, together| Load { bytes: size(call), calls: each, together };
            loads.extend(execution.calls.iter().filter(waits).map(|call| load(call, 1.0)));
            let mut at = 0;
            while at < execution.calls.len() {
                let run = player.run(number, at, TOGETHER as usize);
                at = run.end;
                let together = run.len() as f64;
                batched.extend(execution.calls[run].iter().filter(waits).map(|call| load(call, together)));
            }
        }
        Ok(Self {
            name: format!("trace {}", trace.name),
            executions: trace.executions.len(),
            loads,
            cached: Some(cached(trace)?),
            batched: Some(batched),
            own_ns: None,
            think_us: 0.0,
            seen: None,
        })
    }

    /// The average of snapshots of the library's feature `metrics`.
    pub(super) fn of_snapshots(snapshots: &[Value]) -> Result<Self> {
        let executions = snapshots.len();
        let share = 1.0 / executions as f64;
        let (mut loads, mut waiting, mut elapsed) = (Vec::new(), 0.0, 0.0);
        for (number, snapshot) in snapshots.iter().enumerate() {
            let place = || format!("snapshot {}", number + 1);
            let field = |value: &Value, name: &str| {
                value[name].as_f64().with_context(|| format!("{}: no number `{name}`", place()))
            };
            let methods = snapshot["methods"].as_object().with_context(|| format!("{}: no `methods`", place()))?;
            for (_, method) in methods.iter().filter(|(name, _)| waits(name)) {
                let calls = field(method, "calls")?;
                if calls > 0.0 {
                    let sent = field(method, "sent_bytes")? - SENT_AROUND * calls;
                    let bytes = sent.max(field(method, "received_bytes")? - calls).max(calls) / calls;
                    loads.push(Load { bytes, calls: calls * share, together: 1.0 });
                }
            }
            waiting += field(snapshot, "waiting_ns")? * share;
            elapsed += field(snapshot, "elapsed_ns")? * share;
        }
        ensure!(calls(&loads) > 0.0, "no snapshot counts a call");
        let mut kinds: Vec<_> = snapshots.iter().map(|one| one["transport"].as_str().unwrap_or("unknown")).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let own = (elapsed - waiting).max(0.0);
        Ok(Self {
            name: format!("{executions} snapshots"),
            executions,
            think_us: own / calls(&loads) / 1e3,
            loads,
            cached: None,
            batched: None,
            own_ns: Some(own),
            seen: Some((waiting, kinds.join(", "))),
        })
    }

    /// A cache is said to save such a share of all calls.
    pub(super) fn cache_saves(&mut self, share: f64) {
        let left = |load: &Load| Load { calls: load.calls * (1.0 - share), ..*load };
        self.cached = Some(self.loads.iter().map(left).collect());
    }

    /// Such a share of all calls is said to be able to go out together.
    pub(super) fn batch(&mut self, share: f64) {
        let parts = |load: &Load| {
            let together = Load { calls: load.calls * share, together: TOGETHER, ..*load };
            [together, Load { calls: load.calls * (1.0 - share), ..*load }]
        };
        self.batched = Some(self.loads.iter().flat_map(parts).filter(|load| load.calls > 0.0).collect());
    }

    /// The same kind of execution with `factor` times as many calls.
    pub(super) fn scaled(&self, factor: f64) -> Self {
        let scale = |loads: &Vec<Load>| -> Vec<Load> {
            loads.iter().map(|load| Load { calls: load.calls * factor, ..*load }).collect()
        };
        let (loads, cached, batched) =
            (scale(&self.loads), self.cached.as_ref().map(scale), self.batched.as_ref().map(scale));
        Self { loads, cached, batched, ..self.clone() }
    }

    /// Loads of the same size become one.
    pub(super) fn merged(self) -> Self {
        let merge = |loads: Vec<Load>| {
            let mut merged: Vec<Load> = Vec::new();
            for load in loads {
                let same = merged.iter_mut().find(|known| (known.bytes, known.together) == (load.bytes, load.together));
                match same {
                    Some(known) => known.calls += load.calls,
                    None => merged.push(load),
                }
            }
            merged
        };
        Self { loads: merge(self.loads), cached: self.cached.map(merge), batched: self.batched.map(merge), ..self }
    }
}

/// What all of them carry together.
pub(super) fn bytes(loads: &[Load]) -> f64 {
    loads.iter().map(|load| load.calls * load.bytes).sum()
}

pub(super) fn calls(loads: &[Load]) -> f64 {
    loads.iter().map(|load| load.calls).sum()
}

/// Whether GenVM waits for the answer of a method: it does for all but one, which has none.
fn waits(method: &str) -> bool {
    method != Method::ConsumeFuel.name()
}

/// The data that a call carries, there or back.
fn size(call: &Call) -> f64 {
    match *call {
        Call::Read { len, .. } | Call::Write { len, .. } => f64::from(len),
        Call::Other { len, reply, .. } => f64::from(len.max(reply)),
    }
}

/// What comes to the host of each execution with a cache of pages: they are played, in this process.
fn cached(trace: &Trace) -> Result<Vec<Load>> {
    let each = 1.0 / trace.executions.len() as f64;
    let world = Arc::new(World::new(Some(trace.clone()), false, 0));
    let (mut player, mut loads) = (Player::new(trace), Vec::new());
    for (number, execution) in trace.executions.iter().enumerate() {
        let (genvm, mut node) = UnixStream::pair()?;
        let world = world.clone();
        let host = thread::spawn(move || serve_blocking(&mut node, &mut world.execution(), &Protocol::ONE).map(drop));
        let options = CacheOptions::default()
            .with_page_size(PageSize::new(PAGE).context("a page")?)
            .with_writes(WriteMode::Deferred);
        let mut storage = PageCache::new(HostClient::new(genvm), data::account(execution.account), options);
        for at in 0..execution.calls.len() {
            player.prepare(number, at);
            player.perform(&mut storage, number, at)?;
        }
        let stats = storage.stats();
        drop(storage);
        host.join().ok().context("the host panicked")??;
        let mean = |bytes: u64, calls: u64| bytes as f64 / calls.max(1) as f64;
        let storage = [(stats.host_bytes_read, stats.host_reads), (stats.host_bytes_written, stats.host_writes)];
        loads.extend(storage.map(|(bytes, calls)| (mean(bytes, calls), calls as f64 * each)));
        let waiting = execution.calls.iter().filter(|call| waits(call.method().name()));
        let others = waiting.filter(|call| matches!(call, Call::Other { .. }));
        loads.extend(others.map(|call| (size(call), each)));
    }
    let loads = loads.into_iter().map(|(bytes, calls)| Load { bytes, calls, together: 1.0 });
    Ok(loads.filter(|load| load.calls > 0.0).collect())
}

/// Bytes of a page, as the tables of results have them beside each other.
pub(super) const PAGE: u32 = 256;
/// Reads that go out together at most, where it is not known better.
pub(super) const TOGETHER: f64 = 16.0;
/// What a storage call sends beside its data; other calls send less, which makes them look a little smaller than they are.
const SENT_AROUND: f64 = 62.0;
