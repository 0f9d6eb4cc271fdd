//! What is compared: a [`Cell`] is one combination of transport, waiting, host, workload, placement and think time.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::trace::Trace;
use crate::WaitStrategy;

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
}

impl Transport {
    /// An address of this kind for a host whose files may go into `directory`.
    pub(super) fn address(self, directory: &Path) -> String {
        let path = directory.join("host.sock");
        match self {
            Self::Uds => format!("unix://{}", path.display()),
            Self::Shm => format!("shm://{}", path.display()),
            Self::ShmNamed => format!("shm-named://{}", path.display()),
            Self::Tcp => "tcp://127.0.0.1:0".to_owned(),
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
    /// `trace:NAME`: recorded executions.
    Trace(String),
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
            Some(("trace", name)) if !name.is_empty() => Ok(Self::Trace(name.to_owned())),
            _ => {
                let traces: Vec<_> = Trace::names().map(|name| format!("trace:{name}")).collect();
                Err(format!("unknown workload; known: read:BYTES, write:BYTES, {}", traces.join(", ")))
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
            Self::Trace(name) => f.pad(&format!("trace:{name}")),
        }
    }
}

/// One thing that is measured, again in every round.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) transport: Transport,
    pub(super) wait: Wait,
    pub(super) host: HostKind,
    pub(super) workload: Workload,
    pub(super) placement: Placement,
    pub(super) think_us: u64,
}

impl Cell {
    pub(super) fn think(&self) -> Duration {
        Duration::from_micros(self.think_us)
    }

    /// What today's way costs in the same situation: the Unix socket, sleeping at once.
    pub(super) fn is_baseline_of(&self, other: &Self) -> bool {
        *self == Self { transport: Transport::Uds, wait: Wait::Park, ..other.clone() }
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
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, wait, host, workload, placement, think_us } = self;
        write!(f, "{transport} {wait} {host} {workload} {placement} think {think_us} µs")
    }
}

/// More than any recorded call; the protocol's own limit is four times this.
const MAX_SIZE: u32 = 16 << 20;
