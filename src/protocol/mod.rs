//! The GenVM host protocol, both ends of it, over any ordered byte stream.
//!
//! GenVM asks, the host answers, strictly in order: there is no framing, no request id and no greeting, and the first byte that
//! GenVM writes is a method id. [`HostClient`] asks; [`serve_blocking`] and [`serve`] answer with what a handler knows;
//! [`HostState`] is a handler that keeps everything in memory.
//!
//! Not one byte differs from what GenVM and its hosts speak today, so either end may be somebody else's. Nothing is allocated
//! from a length alone, and bytes that mean nothing are typed errors that say which method, which field and what was read.

mod client;
mod error;
mod handler;
mod input;
mod method;
mod request;
mod serve;
mod state;
mod types;

pub use client::HostClient;
pub use error::{Answer, CallError, HandlerError, ProtocolError, ServeError};
pub use handler::{BlockingHostHandler, HostHandler, Immediate};
pub use method::{Method, Revision};
pub use request::{Decoded, Request};
pub use serve::{Served, serve, serve_blocking};
pub use state::{Deployment, Environment, Event, Execution, HostState, Message, Outcome, Role, Write};
pub use types::{Account, LeaderResult, Limits, ResultCode, SlotId, Status, StorageMode, U256};
