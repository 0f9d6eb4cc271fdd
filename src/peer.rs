//! Who is at the other end of a stream, and what carries its bytes: [`Peer`], [`TransportKind`].
//!
//! Values only. Nothing in here asks the kernel; whoever opens a stream does, once.

use std::fmt;
use std::net::SocketAddr;

/// What carries the bytes of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportKind {
    /// A Unix-domain socket.
    Unix,
    /// Shared memory, sealed memfds.
    Shm,
    /// Shared memory, named segments.
    ShmNamed,
    /// TCP.
    Tcp,
    /// A transport of somebody else's.
    Custom(&'static str),
}

impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unix => "unix",
            Self::Shm => "shm",
            Self::ShmNamed => "shm-named",
            Self::Tcp => "tcp",
            Self::Custom(name) => name,
        })
    }
}

/// Who is at the other end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Peer {
    /// A process of this machine, as the kernel recorded it when the connection was made.
    Process {
        /// Process id, seen from our pid namespace; `None` where the kernel does not tell (macOS, other namespaces).
        pid: Option<i32>,
        /// Effective user id.
        uid: u32,
        /// Effective group id.
        gid: u32,
    },
    /// A network address.
    Network(SocketAddr),
    /// Not known: an inherited descriptor that is no Unix or TCP socket, or somebody else's transport.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid: Some(pid), uid, gid } => write!(f, "process {pid} (uid {uid}, gid {gid})"),
            Self::Process { pid: None, uid, gid } => write!(f, "a process of uid {uid}, gid {gid}"),
            Self::Network(address) => write!(f, "{address}"),
            Self::Unknown => f.write_str("an unknown peer"),
        }
    }
}
