//! The GenVM host protocol, both ends of it.
//!
//! GenVM asks, the host answers, strictly in order on one byte stream: a request is a method id and that method's
//! fields, an answer a status byte and what was asked for. There is no framing and no greeting; which [`Protocol`] is spoken both
//! ends have to be told.
//!
//! - [`HostClient`] is GenVM's end, over any `Read + Write`.
//! - [`serve_blocking`] and [`serve()`] are the host's end: they decode requests and put them to a
//!   [`BlockingHostHandler`] or a [`HostHandler`].
//! - [`HostState`] is a complete in-memory host that implements both.
//! - [`Batch`] makes many calls at once, [`SharedClient`] is one connection for several threads, [`RoutedClient`] several hosts.
//! - [`Request`] and [`decode`] are the bytes alone, without I/O.
//!
//! # Trust
//!
//! Neither end believes the other. Unknown bytes are a [`ProtocolError`] that names method and field; lengths are held
//! against [`Limits`] before anything they announce is awaited, and memory grows only with what has arrived. After such
//! an error the connection is dead: there is no way to find the next message.
//!
//! # What may grow
//!
//! Methods, statuses, revisions and whatever is chosen or fails: these enums and structs are `#[non_exhaustive]`. The modes and codes that a
//! handler has to tell apart, and the fields of a message, belong to the wire: the compiler shall say where a new one is missing.
//!
//! # What it does not do
//!
//! It does not choose or open streams ([`connect`](crate::connect), [`listen`](crate::listen)), retry, reconnect or time
//! out (the stream does, or the caller drops the future).

mod batch;
mod buffer;
mod client;
mod codec;
mod error;
mod handler;
mod limits;
#[cfg(feature = "metrics")]
pub(crate) mod meter;
mod method;
mod parts;
mod reply;
mod routed;
mod serve;
mod shared;
mod state;
mod terms;
mod types;
mod window;

pub use batch::{Batch, SlotRead};
pub use client::HostClient;
pub(crate) use codec::check_place;
pub use codec::{Decoded, MAX_FUEL_AS_GEN, Request, decode};
pub use error::{Answer, CallError, HandlerError, ProtocolError, ServeError};
pub use handler::{BlockingHostHandler, HostHandler};
pub use limits::Limits;
pub use method::{Method, Revision};
pub(crate) use parts::parts;
pub use reply::Reply;
pub use routed::RoutedClient;
pub use serve::{Served, serve, serve_blocking};
pub use shared::SharedClient;
pub use state::{
    Delta, Deployment, Environment, EthReplies, EthSend, Event, Execution, HostState, Message, NondetResult, Outcome,
    Role,
};
pub use terms::Protocol;
pub use types::{Account, LeaderResult, ResultCode, SlotId, Status, StorageMode, U256, UnknownByte};
