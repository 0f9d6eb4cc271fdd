//! The byte stream between GenVM and its host.
//!
//! GenVM runs one process per contract execution; each asks its **host** (the blockchain node) for storage,
//! calldata, balances and leader results over one ordered byte stream. This crate is that stream, twice: a
//! production Unix-domain socket that is byte-compatible with every existing host, and an experimental
//! shared-memory ring that drops in at the same place. On top of either: the host protocol, both ends of it.
//!
//! ```text
//!  GenVM process (one per execution)                       host process (the node)
//!  ┌──────────────────────────────┐                        ┌──────────────────────────────┐
//!  │ wasm host function           │                        │ handler (state, deltas, …)   │
//!  │   └ HostClient (protocol)    │                        │   └ serve loop (protocol)    │
//!  │       └ BlockingStream       │ ══ unix:// or shm:// ══ │       └ Blocking-/AsyncStream│
//!  └──────────────────────────────┘                        └──────────────────────────────┘
//! ```
//!
//! It does **not** frame, multiplex, encrypt or reconnect: the bytes written are the bytes that come out, one
//! connection is one execution, and whoever may open the socket file is trusted as far as [`PeerPolicy`] says.
//!
//! Start with [`connect`] and [`listen`], which choose the transport by [`Address`]; [`transport`] is the contract
//! that every transport keeps; [`protocol`] speaks to hosts and serves GenVMs; [`storage`] makes fewer calls of them.
//!
//! [`connect`]: connection::connect
//! [`listen`]: connection::listen

pub mod address;
#[cfg(feature = "capi")]
pub mod capi;
pub mod connection;
#[cfg(any(feature = "metrics", all(unix, feature = "shm")))]
mod counts;
pub mod error;
#[cfg(all(unix, feature = "uds"))]
pub mod fd;
/// The doorway of the fuzz targets in `fuzz/`. Not part of the API.
#[cfg(genvm_fuzz)]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::shm::fuzzing::{greeting, ring};
}
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod options;
pub mod peer;
pub mod protocol;
#[cfg(all(unix, feature = "shm"))]
pub mod shm;
#[cfg(all(unix, any(feature = "uds", feature = "shm", feature = "tcp")))]
#[cfg_attr(
    not(all(feature = "uds", feature = "tcp")),
    allow(dead_code, unused_imports, reason = "each transport uses a part")
)]
mod socket;
pub mod storage;
#[cfg(all(unix, feature = "shm"))]
mod sync;
#[cfg(all(unix, feature = "tcp"))]
pub mod tcp;
pub mod transport;
#[cfg(all(unix, feature = "uds"))]
pub mod uds;
pub mod wait;

pub use address::Address;
pub use connection::{Transports, connect, connect_async, listen};
pub use error::{AcceptError, ConnectError, ListenError};
pub use options::{ConnectOptions, ListenOptions, PeerPolicy, RingCapacity, StreamOptions};
pub use peer::{Peer, TransportKind};
pub use transport::{AsyncStream, BlockingStream, Listener, Transport};
pub use wait::WaitStrategy;
