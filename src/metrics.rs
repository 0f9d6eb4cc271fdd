//! What an execution's calls to its host cost (feature `metrics`): counted in the client as they are made, taken as a [`Snapshot`].
//!
//! A snapshot goes where it is wanted: appended to a file as a line of JSON ([`Snapshot::append_to`]), since GenVM is a process an
//! execution and has no port to be asked at; or through the `metrics` facade ([`Snapshot::publish`]) to whatever recorder
//! the process has installed, such as a Prometheus exporter.
//!
//! It draws no conclusions, samples nothing, and starts no thread. A call to a host that answers at once takes 27 ns longer with it,
//! of which two looks at the clock take 23 (`cargo bench --bench metering`, without and with the feature); a hot read over shared
//! memory 12 to 21, because a call is entered while its successor is on its way (`benches/metering.sh`: medians of 24, 38 and 30 pairs of
//! runs were 18, 21 and 12 ns, on an AMD EPYC in a virtual machine, far cores). Without the feature nothing is counted, and a client is as
//! large and as fast as if this module did not exist.
//!
//! ```
//! # use std::{os::unix::net::UnixStream, thread};
//! # use genvm_transport::protocol::*;
//! # let (genvm, mut node) = UnixStream::pair()?;
//! # thread::spawn(move || serve_blocking(&mut node, &mut HostState::new().begin(Environment::default()), &Protocol::ONE));
//! use genvm_transport::metrics::Snapshot;
//!
//! let mut client = HostClient::new(genvm);
//! client.get_balance(&Account([1; 20]))?;
//! let snapshot = Snapshot::of(&client);
//! assert_eq!(snapshot.methods["get_balance"].calls, 1);
//! assert!(snapshot.waiting_ns <= snapshot.elapsed_ns);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use metrics::{counter, gauge, histogram};
use serde::{Deserialize, Serialize};

use crate::peer::TransportKind;
use crate::protocol::{HostClient, Method, Revision, Status};
use crate::transport::BlockingStream;

/// What a client has done from its making to now. Times in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// What carries the bytes, if [known](Self::with_stream).
    pub transport: Option<String>,
    /// How often the client's end went to sleep in a call, if known: over as many calls, the share that was not hot.
    pub sleeps: Option<u64>,
    /// 1 if client and host agreed on shared memory, if [known](Self::with_stream).
    #[serde(default)]
    pub upgrades: u64,
    /// 1 if the client asked for shared memory and has the plain socket instead ([`Fallback`](crate::options::Fallback), `prefer-shm`),
    /// if known.
    #[serde(default)]
    pub fall_backs: u64,
    /// The revision of the protocol.
    pub revision: String,
    /// Since the client was made.
    pub elapsed_ns: u64,
    /// Of that, within calls; the rest GenVM computed.
    pub waiting_ns: u64,
    /// By the protocol's name for it; those that were called.
    pub methods: BTreeMap<String, MethodSnapshot>,
}

/// What became of the calls of one method.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodSnapshot {
    /// How many there were.
    pub calls: u64,
    /// How many were answered with which status, `ok` included.
    pub statuses: BTreeMap<String, u64>,
    /// How many lost the connection.
    pub lost: u64,
    /// Bytes of requests.
    pub sent_bytes: u64,
    /// Bytes of answers.
    pub received_bytes: u64,
    /// From writing a request to having its answer; of calls of a batch nothing, they have no time of their own.
    pub latency: LatencySnapshot,
}

/// A histogram with two significant digits, and what is asked of it most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // the names say it
pub struct LatencySnapshot {
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    /// Upper end and number of each bucket that is not empty, in rising order.
    pub buckets: Vec<(u64, u64)>,
}

impl Snapshot {
    /// What `client` has done so far.
    pub fn of<S>(client: &HostClient<S>) -> Self {
        let meter = client.meter();
        let (elapsed, tick_ns) = meter.elapsed();
        let nanos = |ticks: u64| (ticks as f64 * tick_ns) as u64;
        let elapsed_ns = elapsed.as_nanos() as u64;
        let methods = client.revision().methods().iter().filter_map(|&method: &Method| {
            let meter = meter.method(method)?;
            let statuses = STATUSES.iter().zip(meter.statuses).filter(|(_, calls)| *calls > 0);
            let percentile = |percent| nanos(meter.latency.value_at_percentile(percent));
            let buckets = meter.latency.iter_recorded();
            let snapshot = MethodSnapshot {
                calls: meter.calls,
                statuses: statuses.map(|(status, calls)| (status.name().to_owned(), calls)).collect(),
                lost: meter.lost,
                sent_bytes: meter.sent,
                received_bytes: meter.received,
                latency: LatencySnapshot {
                    p50_ns: percentile(50.0),
                    p90_ns: percentile(90.0),
                    p99_ns: percentile(99.0),
                    max_ns: nanos(meter.latency.max()),
                    buckets: buckets.map(|at| (nanos(at.value_iterated_to()), at.count_at_value())).collect(),
                },
            };
            Some((method.name().to_owned(), snapshot))
        });
        Self {
            transport: None,
            sleeps: None,
            upgrades: 0,
            fall_backs: 0,
            revision: client.revision().to_string(),
            elapsed_ns,
            waiting_ns: nanos(meter.waiting_ticks()).min(elapsed_ns),
            methods: methods.collect(),
        }
    }

    /// The same, with what the client's stream knows: what carries the bytes and how that came about, and how often it slept.
    #[must_use]
    pub fn with_stream(mut self, stream: &impl BlockingStream) -> Self {
        self.transport = Some(stream.kind().to_string());
        self.sleeps = stream.sleeps();
        self.upgrades = matches!(stream.kind(), TransportKind::Shm | TransportKind::ShmNamed).into();
        self.fall_backs = stream.fell_back().into();
        self
    }

    /// All calls together.
    pub fn calls(&self) -> u64 {
        self.methods.values().map(|method| method.calls).sum()
    }

    /// Appends it to a file, which is made if it does not exist, as a line of JSON: in one write, so that executions which end at the
    /// same time do not mix their lines.
    ///
    /// # Errors
    /// What the file system says. Blocks as long as it does.
    pub fn append_to(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let line = serde_json::to_string(self)? + "\n";
        OpenOptions::new().append(true).create(true).open(path)?.write_all(line.as_bytes())
    }

    /// Reads what was [appended](Self::append_to), oldest first.
    ///
    /// # Errors
    /// What the file system says; `InvalidData` with the number of the line that is no snapshot.
    pub fn read_from(path: impl AsRef<Path>) -> io::Result<Vec<Self>> {
        let lines = BufReader::new(File::open(path)?).lines();
        let parse = |(number, line): (usize, io::Result<String>)| {
            let error = |error| io::Error::new(io::ErrorKind::InvalidData, format!("line {}: {error}", number + 1));
            serde_json::from_str(&line?).map_err(error)
        };
        lines.enumerate().map(parse).collect()
    }

    /// Hands it to the recorder that the process has installed for the `metrics` facade; does nothing if there is none. Publish each
    /// execution once: what is counted adds up.
    ///
    /// | name | kind | labels |
    /// | --- | --- | --- |
    /// | `genvm_host_calls_total` | counter | `method`, `status` (a protocol's name, or `lost`), `transport` |
    /// | `genvm_host_sent_bytes_total`, `genvm_host_received_bytes_total` | counter | `method`, `transport` |
    /// | `genvm_host_call_seconds` | histogram | `method`, `transport` |
    /// | `genvm_host_waiting_seconds`, `genvm_host_elapsed_seconds` | histogram, an execution each | `transport` |
    /// | `genvm_host_sleeps_total` | counter | `transport` |
    /// | `genvm_host_upgrades_total`, `genvm_host_fall_backs_total` | counter | none |
    /// | `genvm_host_waiting_share` | gauge, of the last execution | `transport` |
    pub fn publish(&self) {
        let transport = self.transport.clone().unwrap_or_else(|| "unknown".to_owned());
        let seconds = |ns: u64| ns as f64 / 1e9;
        for (name, method) in &self.methods {
            let lost = (method.lost > 0).then(|| ("lost".to_owned(), method.lost));
            for (status, calls) in method.statuses.clone().into_iter().chain(lost) {
                let labels = [("method", name.clone()), ("status", status), ("transport", transport.clone())];
                counter!("genvm_host_calls_total", &labels).increment(calls);
            }
            let labels = [("method", name.clone()), ("transport", transport.clone())];
            counter!("genvm_host_sent_bytes_total", &labels).increment(method.sent_bytes);
            counter!("genvm_host_received_bytes_total", &labels).increment(method.received_bytes);
            let latency = histogram!("genvm_host_call_seconds", &labels);
            for &(ns, calls) in &method.latency.buckets {
                latency.record_many(seconds(ns), calls as usize);
            }
        }
        counter!("genvm_host_upgrades_total").increment(self.upgrades);
        counter!("genvm_host_fall_backs_total").increment(self.fall_backs);
        let labels = [("transport", transport)];
        histogram!("genvm_host_waiting_seconds", &labels).record(seconds(self.waiting_ns));
        histogram!("genvm_host_elapsed_seconds", &labels).record(seconds(self.elapsed_ns));
        if let Some(sleeps) = self.sleeps {
            counter!("genvm_host_sleeps_total", &labels).increment(sleeps);
        }
        if self.elapsed_ns > 0 {
            gauge!("genvm_host_waiting_share", &labels).set(self.waiting_ns as f64 / self.elapsed_ns as f64);
        }
    }
}

/// In the order of the enum, as they are counted.
const STATUSES: [Status; 6] =
    [Status::Ok, Status::Absent, Status::Forbidden, Status::IAmLeader, Status::OutOfStorageGas, Status::EvmReverted];

// The compiler tells when one is missing; that they are in order, this does.
const _: () = {
    let mut place = 0;
    while place < STATUSES.len() {
        assert!(STATUSES[place] as usize == place);
        place += 1;
    }
    assert!(Revision::One.statuses().len() <= STATUSES.len());
};
