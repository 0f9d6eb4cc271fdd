//! What a caller may choose when it connects or listens. Every field has a default that is right for GenVM.
//!
//! Not chosen here: the transport, which the [`Address`](crate::Address) names, and what is spoken over it, which a
//! [`Protocol`](crate::protocol::Protocol) says. Nothing is read from the environment or from files.

use std::time::Duration;

use crate::peer::Peer;
use crate::wait::WaitStrategy;

/// Choices that hold for one stream, whichever side opened it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamOptions {
    /// How this end waits; the peer chooses for itself. Default: [`WaitStrategy::ADAPTIVE`] for shared memory,
    /// [`WaitStrategy::Park`] for sockets, as hosts wait today.
    pub wait: Option<WaitStrategy>,
    /// How long a `read` may wait before it fails with `TimedOut`. Default: for ever, as GenVM reads today.
    /// Applies to the blocking face; async callers use their runtime's timeout.
    pub read_timeout: Option<Duration>,
    /// How long a `write` or `flush` may wait before it fails with `TimedOut`. Default: for ever. Blocking face only.
    pub write_timeout: Option<Duration>,
    /// Size of the shared-memory ring that **this** end writes into; the peer's ring has the size that the peer chose.
    pub ring_capacity: RingCapacity,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { wait: None, read_timeout: None, write_timeout: None, ring_capacity: RingCapacity::DEFAULT }
    }
}

/// Choices of the connecting end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// Choices for the stream that comes out.
    pub stream: StreamOptions,
    /// How long connecting, including the upgrade to shared memory and a fall-back, may take. Default: 5 s. A blocking `tcp://` connect
    /// to a host's name cannot interrupt the system's resolver and may take longer.
    pub timeout: Duration,
    /// How long of that a host may take over the upgrade to shared memory. Default: 1 s.
    pub handshake_timeout: Duration,
    /// What to do when a host does not offer shared memory. Default: [`Fallback::Fail`] for `shm://` addresses; a
    /// `unix://` address under the feature `prefer-shm` always falls back.
    pub fallback: Fallback,
    /// Whether a `unix://` address under the feature `prefer-shm` asks for shared memory first (default: yes). Without the feature
    /// none does.
    pub upgrades: bool,
    /// Whose host we accept. Default: [`PeerPolicy::Any`], because whoever owns the path decided.
    pub allowed_peers: PeerPolicy,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            stream: StreamOptions::default(),
            timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(1),
            fallback: Fallback::Fail,
            upgrades: true,
            allowed_peers: PeerPolicy::Any,
        }
    }
}

impl ConnectOptions {
    /// The defaults with another [wait strategy](StreamOptions::wait).
    #[must_use]
    pub fn with_wait(mut self, wait: WaitStrategy) -> Self {
        self.stream.wait = Some(wait);
        self
    }
}

/// What a client of `shm://` does when the host does not offer shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fallback {
    /// Fail with [`ConnectError::Upgrade`](crate::ConnectError::Upgrade).
    #[default]
    Fail,
    /// Connect once more and use the plain Unix socket.
    Plain,
}

/// Choices of the listening end.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Choices for each accepted stream.
    pub stream: StreamOptions,
    /// Who may connect, asked of the kernel before a byte is read. Default: [`PeerPolicy::SameUser`].
    pub allowed_peers: PeerPolicy,
    /// Permission bits of the socket file. Default: `0o600`.
    pub socket_mode: u32,
    /// Permission bits of the socket's directory, if the listener has to create it. Default: `0o700`.
    pub directory_mode: u32,
    /// How long a client that began an upgrade to shared memory may take over it. Default: 1 s.
    pub handshake_timeout: Duration,
    /// Whether a `unix://` listener serves clients that ask for shared memory as well (feature `shm`; default: yes).
    /// Such a listener learns from a client's first byte what it is: the connecting side has to speak first, as
    /// GenVM does. Switch it off for other protocols.
    pub upgrades: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            stream: StreamOptions::default(),
            allowed_peers: PeerPolicy::SameUser,
            socket_mode: 0o600,
            directory_mode: 0o700,
            handshake_timeout: Duration::from_secs(1),
            upgrades: true,
        }
    }
}

impl ListenOptions {
    /// The defaults with another [wait strategy](StreamOptions::wait).
    #[must_use]
    pub fn with_wait(mut self, wait: WaitStrategy) -> Self {
        self.stream.wait = Some(wait);
        self
    }
}

/// Which processes may be at the other end of a Unix socket, by the user id that the kernel reports.
/// TCP peers have none: only [`Any`](Self::Any) lets them in, and TCP listeners ignore the default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PeerPolicy {
    /// Processes of this process's effective user.
    #[default]
    SameUser,
    /// Processes of these users.
    Users(Vec<u32>),
    /// Everybody.
    Any,
}

impl PeerPolicy {
    /// Whether `peer` may come in.
    pub fn allows(&self, peer: &Peer) -> bool {
        let uid = match peer {
            Peer::Process { uid, .. } => Some(*uid),
            _ => None,
        };
        match self {
            Self::Any => true,
            #[cfg(unix)]
            Self::SameUser => uid == Some(rustix::process::geteuid().as_raw()),
            #[cfg(not(unix))]
            Self::SameUser => uid.is_some(),
            Self::Users(allowed) => uid.is_some_and(|uid| allowed.contains(&uid)),
        }
    }
}

/// Bytes of a shared-memory ring: a power of two between 4 KiB and 1 GiB. It could not be built otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RingCapacity(u32);

impl RingCapacity {
    /// 4 KiB.
    pub const MIN: Self = Self(4 << 10);
    /// 128 KiB: the smallest in which a value of 64 KiB has room at once. In a smaller one its writer waits for its reader half-way;
    /// with ends that sleep that is two more wake-ups (`results/`).
    pub const DEFAULT: Self = Self(128 << 10);
    /// 1 GiB.
    pub const MAX: Self = Self(1 << 30);

    /// `bytes` as a capacity; `None` unless it is a power of two between [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(&bytes)).then_some(Self(bytes))
    }

    /// A ring for the model checker.
    #[cfg(all(test, genvm_loom))]
    pub(crate) const fn of_model(bytes: u32) -> Self {
        Self(bytes)
    }

    /// The capacity in bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for RingCapacity {
    fn default() -> Self {
        Self::DEFAULT
    }
}
