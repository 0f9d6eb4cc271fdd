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
//! # Where to start
//!
//! | role | start with |
//! | --- | --- |
//! | GenVM, or whatever calls a host | [`connect`] or [`connect_async`], then [`protocol::HostClient`]; [`storage::PageCache`] makes fewer calls, [`protocol::Batch`] several at once |
//! | a host | [`listen`], then [`protocol::serve_blocking`] or [`protocol::serve`] with a [handler](protocol::HostHandler), or with the ready-made [`protocol::HostState`] |
//! | a transport of somebody else's | the traits in [`transport`], added with [`Transports::with`](connection::Transports::with) |
//! | whoever decides | `cargo lab compare`, and the pages in `results/` and `docs/` of the repository |
//!
//! Which transport carries the bytes is chosen by [`Address`], how ends wait by [`WaitStrategy`], and everything else by
//! [`ConnectOptions`] and [`ListenOptions`].
//!
//! ```no_run
//! use genvm_transport::protocol::{Account, HostClient, SlotId, StorageMode};
//!
//! // GenVM's side.
//! let stream = genvm_transport::connect("unix:///run/host.sock", &Default::default())?;
//! let mut host = HostClient::new(stream);
//! let mut value = [0; 32];
//! host.storage_read(StorageMode::Default, &Account([1; 20]), &SlotId([2; 32]), 0, &mut value)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```no_run
//! use genvm_transport::protocol::{Environment, HostState, Protocol, serve_blocking};
//!
//! // The host's side, a thread a connection.
//! let listener = genvm_transport::listen("unix:///run/host.sock", &Default::default())?;
//! let state = HostState::new();
//! loop {
//!     let mut stream = match listener.accept() {
//!         Err(error) if !error.is_fatal() => continue, // a client that was refused, say
//!         accepted => accepted?,
//!     };
//!     let mut execution = state.begin(Environment::default());
//!     std::thread::spawn(move || serve_blocking(&mut stream, &mut execution, &Protocol::ONE));
//! }
//! # #[allow(unreachable_code)]
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | brings |
//! | --- | --- |
//! | `uds` (default) | `unix://path`, `fd://N` |
//! | `shm` | `shm://path`: rings in sealed memfds; Linux |
//! | `shm-named` | `shm-named://path`: the same on named segments, for peers that trust each other |
//! | `tcp` | `tcp://host:port` |
//! | `prefer-shm` | `unix://` asks for shared memory first and falls back |
//! | `metrics` | `metrics`: what a client's calls cost |
//! | `capi` | functions for C, `include/genvm_transport.h` |
//! | `lab`, `peers` | the measuring lab and its binary; never in GenVM's tree |
//!
//! Nothing here panics on what a peer sends, and no error of one connection reaches another. Blocking calls end by their timeouts or
//! the peer's end; futures may be dropped at any time, and each says what that does.
//!
//! [`connect`]: connection::connect
//! [`listen`]: connection::listen

pub mod address;
#[cfg(feature = "capi")]
pub mod capi;
pub mod connection;
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
