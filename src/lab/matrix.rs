//! What is compared: a [`Cell`] is a [`Way`] to reach a host in a [`Situation`], the same for every way.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::trace::Trace;
use crate::{RingCapacity, StreamOptions, WaitStrategy};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Transport {
    /// Unix-domain socket
    Uds,
    /// Shared memory, sealed memfds
    Shm,
    /// Shared memory, named segments and raw_sync events
    ShmNamed,
    /// TCP over loopback
    Tcp,
    /// Unix-domain socket, with GenVM's present client: a new buffer of 8 KiB at each turn from writing to reading
    Genvm,
    /// REST over HTTP/1.1 with keep-alive, over a Unix-domain socket; sleeping only
    HttpUds,
    /// The same over TCP
    HttpTcp,
    /// iceoryx2, request and response in shared memory; polled, or sleeping on its events
    #[cfg(feature = "peers")]
    Iceoryx2,
    /// ipc-channel, a channel of bytes each way; polled or sleeping
    #[cfg(feature = "peers")]
    IpcChannel,
    /// interprocess, its local sockets; polled or sleeping
    #[cfg(feature = "peers")]
    Interprocess,
    /// tarpc over a Unix-domain socket with bincode; sleeping only
    #[cfg(feature = "peers")]
    Tarpc,
}

impl Transport {
    pub(super) fn has_rings(self) -> bool {
        matches!(self, Self::Shm | Self::ShmNamed)
    }

    /// Whether it is one of this crate's, with GenVM's client or ours: it carries any bytes, and waits as it is told to.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Uds | Self::Shm | Self::ShmNamed | Self::Tcp | Self::Genvm)
    }

    /// Whether it can wait as `wait` says: a library waits in its own way, which is to sleep, or polls.
    pub(super) fn waits(self, wait: Wait) -> bool {
        match self {
            #[cfg(feature = "peers")]
            Self::Iceoryx2 | Self::IpcChannel | Self::Interprocess => wait != Wait::Adaptive,
            _ => self.is_ours() || wait == Wait::Park,
        }
    }

    /// An address of this kind for a host whose socket may be at `path`.
    pub(super) fn address(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Uds | Self::Genvm => format!("unix://{path}"),
            Self::Shm => format!("shm://{path}"),
            Self::ShmNamed => format!("shm-named://{path}"),
            Self::Tcp => "tcp://127.0.0.1:0".to_owned(),
            Self::HttpUds => format!("http+unix://{path}"),
            Self::HttpTcp => "http://127.0.0.1:0".to_owned(),
            #[cfg(feature = "peers")]
            Self::Iceoryx2 | Self::IpcChannel | Self::Interprocess | Self::Tarpc => path.to_string(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wait {
    /// Sleep at once
    Park,
    /// Poll, then yield, then sleep
    Adaptive,
    /// Poll for ever
    Spin,
}

impl Wait {
    /// As the library does it by default.
    pub(super) fn strategy(self) -> WaitStrategy {
        match self {
            Self::Park => WaitStrategy::Park,
            Self::Adaptive => WaitStrategy::ADAPTIVE,
            Self::Spin => WaitStrategy::Spin,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HostKind {
    /// A blocking thread a connection
    Thread,
    /// A tokio task a connection
    Tokio,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Placement {
    /// Host and GenVM side on a core each
    Split,
    /// Both on one core
    Same,
    /// Where the scheduler puts them
    Free,
}

macro_rules! display_as_value {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.to_possible_value().expect("no value is skipped").get_name())
            }
        }
    )*};
}
display_as_value!(Transport, Wait, HostKind, Placement);

/// What GenVM does.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) enum Workload {
    /// `read:N`: reads of N bytes.
    Read(u32),
    /// `write:N`: writes of N bytes.
    Write(u32),
    /// `ping:N`: N bytes out and N bytes back over the bare stream, without the protocol.
    Ping(u32),
    /// `connect`: a connection, its first read of 32 bytes, and its end.
    Connect,
    /// `trace:NAME`: recorded executions.
    Trace(String),
}

impl Workload {
    /// Whether it can have several calls on their way at once.
    pub(super) fn pipelines(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Trace(_))
    }

    /// Bytes that every call has to copy, if copying them is what takes the time.
    pub(super) fn bulk(&self) -> Option<usize> {
        match *self {
            Self::Read(n) | Self::Write(n) if n >= BULK => Some(n as usize),
            _ => None,
        }
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size = |text: &str| match text.parse() {
            Ok(size @ 1..=MAX_SIZE) => Ok(size),
            _ => Err(format!("`{text}` is no size: 1 to {MAX_SIZE} bytes")),
        };
        match text.split_once(':') {
            Some(("read", n)) => size(n).map(Self::Read),
            Some(("write", n)) => size(n).map(Self::Write),
            Some(("ping", n)) => size(n).map(Self::Ping),
            None if text == "connect" => Ok(Self::Connect),
            Some(("trace", name)) if !name.is_empty() => Ok(Self::Trace(name.to_owned())),
            _ => {
                let traces: Vec<_> = Trace::names().map(|name| format!("trace:{name}")).collect();
                Err(format!(
                    "unknown workload; known: read:BYTES, write:BYTES, ping:BYTES, connect, {}",
                    traces.join(", ")
                ))
            }
        }
    }
}

impl TryFrom<String> for Workload {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Workload> for String {
    fn from(workload: Workload) -> Self {
        workload.to_string()
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(n) => f.pad(&format!("read:{n}")),
            Self::Write(n) => f.pad(&format!("write:{n}")),
            Self::Ping(n) => f.pad(&format!("ping:{n}")),
            Self::Connect => f.pad("connect"),
            Self::Trace(name) => f.pad(&format!("trace:{name}")),
        }
    }
}

/// How GenVM reaches its host: what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Way {
    pub(super) transport: Transport,
    pub(super) wait: Wait,
    pub(super) host: HostKind,
    /// Budgets of the adaptive wait at both ends.
    pub(super) spin_us: Option<f64>,
    pub(super) yield_us: Option<f64>,
    /// Size of each ring of shared memory.
    pub(super) ring_kib: Option<u32>,
    /// Bytes of a page of a cache in front of the client, with writes deferred; executions only.
    pub(super) cache: Option<u32>,
}

impl Way {
    /// Today's way: the Unix socket, sleeping at once.
    pub(super) fn today(host: HostKind) -> Self {
        let (spin_us, yield_us, ring_kib, cache) = (None, None, None, None);
        Self { transport: Transport::Uds, wait: Wait::Park, host, spin_us, yield_us, ring_kib, cache }
    }

    /// What both ends ask of their streams.
    pub(super) fn stream_options(&self) -> StreamOptions {
        let mut options = StreamOptions::default();
        let micros = |us: f64| Duration::from_nanos((us * 1e3) as u64);
        options.wait = Some(match (self.wait, self.spin_us, self.yield_us) {
            (Wait::Adaptive, Some(spin), Some(yield_for)) => {
                WaitStrategy::Adaptive { spin: micros(spin), yield_for: micros(yield_for) }
            }
            (wait, ..) => wait.strategy(),
        });
        if let Some(capacity) = self.ring_kib.and_then(ring) {
            options.ring_capacity = capacity;
        }
        options
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.wait)?;
        if self.host == HostKind::Tokio { write!(f, " tokio") } else { Ok(()) }
    }
}

/// Where it has to show what it can: what ways are compared in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Situation {
    pub(super) workload: Workload,
    pub(super) placement: Placement,
    pub(super) think_us: u64,
    /// Calls on their way at once, on one connection.
    pub(super) in_flight: u32,
    /// Connections at once.
    pub(super) connections: u32,
}

impl Situation {
    pub(super) fn think(&self) -> Duration {
        Duration::from_micros(self.think_us)
    }

    /// Cores of host and GenVM side.
    pub(super) fn cores(&self, cores: &[usize]) -> (Option<usize>, Option<usize>) {
        let (first, last) = (cores.first().copied(), cores.last().copied());
        match self.placement {
            Placement::Split => (last, first),
            Placement::Same => (first, first),
            Placement::Free => (None, None),
        }
    }

    /// Whether the distance between two known cores is a part of every call.
    pub(super) fn has_distance(&self) -> bool {
        self.placement == Placement::Split && self.connections == 1
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, ", self.workload)?;
        f.write_str(match self.placement {
            Placement::Split => "a core each",
            Placement::Same => "both on one core",
            Placement::Free => "placed by the scheduler",
        })?;
        if self.think_us > 0 {
            write!(f, ", {} µs of thinking between calls", self.think_us)?;
        }
        if self.in_flight > 1 {
            write!(f, ", {} in flight", self.in_flight)?;
        }
        if self.connections > 1 {
            write!(f, ", {} connections", self.connections)?;
        }
        Ok(())
    }
}

/// One thing that is measured, again in every round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    #[serde(flatten)]
    pub(super) way: Way,
    #[serde(flatten)]
    pub(super) situation: Situation,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.way, self.situation)
    }
}

/// How far apart the two cores were, by the time that a cache line took between them and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Distance {
    /// Two threads of one core
    Siblings,
    /// Cores that share a cache
    Near,
    /// Cores that do not
    Far,
}

impl Distance {
    pub(super) fn of(floor_ns: f64) -> Self {
        match floor_ns {
            ns if ns < 50.0 => Self::Siblings,
            ns if ns < 250.0 => Self::Near,
            _ => Self::Far,
        }
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Siblings => "sibling threads",
            Self::Near => "near cores",
            Self::Far => "far cores",
        })
    }
}

/// A ring of so many KiB, if there can be one.
pub(super) fn ring(kib: u32) -> Option<RingCapacity> {
    RingCapacity::new(kib.checked_mul(1024)?)
}

/// More than any recorded call; the protocol's own limit is four times this.
const MAX_SIZE: u32 = 16 << 20;
/// From here on copying takes longer than passing a line.
const BULK: u32 = 4096;
