//! Errors of choosing, connecting, listening and accepting: one enum per operation, each variant something that a
//! caller can act on. Reading and writing fail with `io::Error`; its kinds are listed in [`transport`](crate::transport).
//! Errors of the host protocol are [its own](crate::protocol).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::{Address, AddressError};
use crate::peer::Peer;

/// Why there is no transport for an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The transport exists but was not compiled in.
    #[error("`{scheme}://` needs the cargo feature `{feature}`, which this build does not have")]
    NotCompiled {
        /// The address's scheme.
        scheme: String,
        /// The feature of this crate that brings it.
        feature: &'static str,
    },
    /// No transport of that scheme is known.
    #[error("no transport for `{scheme}://`; known here: {}", known.join(", "))]
    Unknown {
        /// The address's scheme.
        scheme: String,
        /// The schemes that would have worked.
        known: Vec<String>,
    },
    /// The transport exists, but not for this operation or on this platform.
    #[error("`{scheme}://` {what}")]
    Unsupported {
        /// The address's scheme.
        scheme: String,
        /// A phrase such as "cannot be listened on".
        what: &'static str,
    },
}

/// Why connecting failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no such transport in this build.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The system refused: nobody listens (`ConnectionRefused`, `NotFound`), no permission, no descriptors, …
    #[error("cannot connect to {address}: {source}")]
    Io {
        /// Where to.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The listener did not take the connection, or did not answer, in time.
    #[error("{address} did not answer within {after:?}")]
    TimedOut {
        /// Where to.
        address: Address,
        /// [`ConnectOptions::timeout`](crate::ConnectOptions::timeout)
        after: Duration,
    },
    /// The process at the other end is not one that [`allowed_peers`](crate::ConnectOptions::allowed_peers) lets in.
    #[error("the host at {address} is {peer}, which is not allowed")]
    PeerNotAllowed {
        /// Where to.
        address: Address,
        /// Who it is.
        peer: Peer,
    },
    /// The host does not offer shared memory, or what it offered is not sound.
    #[error("{address} is served, but not over shared memory: {source}")]
    Upgrade {
        /// Where to.
        address: Address,
        /// What went wrong.
        source: UpgradeError,
    },
}

/// Why the two ends did not agree on shared memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The peer closed the connection instead of answering: a host that does not know the upgrade does this.
    #[error("the peer closed the connection instead of answering the upgrade request (an older host?)")]
    Closed,
    /// The peer did not finish the handshake in time.
    #[error("the peer did not finish the upgrade within {0:?}")]
    TimedOut(Duration),
    /// The peer sent something else than a greeting.
    #[error("the peer's greeting starts with {seen:02x?}, expected {expected:02x?}")]
    Magic {
        /// What it sent.
        seen: [u8; 8],
        /// What a greeting starts with.
        expected: [u8; 8],
    },
    /// The peer speaks another version.
    #[error("the peer speaks version {seen} of the upgrade, this build speaks {ours}")]
    Version {
        /// Its version.
        seen: u16,
        /// Ours.
        ours: u16,
    },
    /// One of the two ends will not have it.
    #[error("the upgrade was refused: {0}")]
    Refused(&'static str),
    /// A field of the greeting is outside its range.
    #[error("the peer's greeting says {field} = {seen}, expected {expected}")]
    Field {
        /// The field's name in the protocol's documentation.
        field: &'static str,
        /// What it sent.
        seen: u64,
        /// What is allowed.
        expected: &'static str,
    },
    /// The shared-memory object is not what the protocol demands.
    #[error("the peer's segment is not sound: {0}")]
    Segment(String),
    /// The system refused us memory, a descriptor or the socket.
    #[error("{what}: {source}")]
    Io {
        /// What we were doing.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why listening failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The text is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There is no such transport in this build.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Somebody listens there; it was left alone.
    #[error("{address} is in use: somebody listens there")]
    InUse {
        /// Where.
        address: Address,
    },
    /// There is a file at the path that is no socket; it was left alone.
    #[error("{} exists and is no socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {address}: {what}: {source}")]
    Io {
        /// Where.
        address: Address,
        /// What we were doing.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why accepting a connection failed. Unless [`is_fatal`](Self::is_fatal), accept again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Somebody connected whom [`allowed_peers`](crate::ListenOptions::allowed_peers) keeps out; the connection is
    /// closed and nothing of it was read.
    #[error("refused a connection from {0}")]
    PeerNotAllowed(Peer),
    /// [`Listener::close`](crate::Listener::close) was called.
    #[error("the listener was closed")]
    Closed,
    /// A connection was there, but the system refused to set it up: that client is lost, the listener is not.
    #[error("lost a connection while setting it up: {0}")]
    Connection(#[source] io::Error),
    /// The system refused.
    #[error("cannot accept: {0}")]
    Io(#[from] io::Error),
}

impl AcceptError {
    /// Whether accepting again is pointless.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::PeerNotAllowed(_) | Self::Connection(_) => false,
            Self::Closed => true,
            Self::Io(error) => !matches!(
                error.kind(),
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted | io::ErrorKind::TimedOut
            ),
        }
    }
}
