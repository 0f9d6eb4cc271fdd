//! What can go wrong in a conversation, seen from either end.

use std::error::Error;
use std::io;

use super::method::{Method, Revision};
use super::types::Status;

/// The peer said something that the protocol does not allow. Nothing after it can be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A byte where a method id is expected.
    #[error("unknown method id {id}; revision {revision:?} has {} methods", revision.methods().len())]
    UnknownMethod {
        /// The byte.
        id: u8,
        /// The revision that this end speaks.
        revision: Revision,
    },
    /// A byte that means nothing in its place.
    #[error("{method}: {field} is {seen}, expected {expected}")]
    Byte {
        /// In which method.
        method: Method,
        /// Which field.
        field: &'static str,
        /// What was read.
        seen: u8,
        /// What is allowed.
        expected: &'static str,
    },
    /// A length beyond [`Limits`](super::Limits).
    #[error("{method}: {field} is {seen} bytes long, the limit is {limit}")]
    TooLong {
        /// In which method.
        method: Method,
        /// Which field.
        field: &'static str,
        /// The length.
        seen: u64,
        /// The limit.
        limit: u64,
    },
    /// A range of a slot that ends beyond 2^32.
    #[error("{method}: index {index} and length {len} reach beyond 2^32")]
    Range {
        /// In which method.
        method: Method,
        /// Where it starts.
        index: u32,
        /// How long it is.
        len: u64,
    },
    /// A text that is not UTF-8.
    #[error("{method}: {field} is not UTF-8")]
    Text {
        /// In which method.
        method: Method,
        /// Which field.
        field: &'static str,
    },
    /// The stream ended inside of a message.
    #[error("the stream ended inside of {}, at {field}", method.map_or("a request", Method::name))]
    Truncated {
        /// In which method, if its id was there.
        method: Option<Method>,
        /// Which field was being read.
        field: &'static str,
    },
    /// The host sent bytes that nobody asked for.
    #[error("{method}: {bytes} bytes are there before anything was asked")]
    Unasked {
        /// What was about to be asked.
        method: Method,
        /// How many bytes.
        bytes: usize,
    },
    /// The method is not part of the revision that was chosen.
    #[error("{method} is not part of revision {revision:?}")]
    NotInRevision {
        /// The method.
        method: Method,
        /// The revision.
        revision: Revision,
    },
}

/// Why a call to the host failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The host said no. The connection stays usable.
    #[error("{method}: the host answered {status:?}")]
    Status {
        /// What was asked.
        method: Method,
        /// Its answer.
        status: Status,
    },
    /// The call was not made: an argument is outside of what the protocol can say. The connection stays usable.
    #[error(transparent)]
    Argument(ProtocolError),
    /// The stream failed. The client is dead: an answer may still come, and nobody would know to which call.
    #[error("{method}: {source}")]
    Io {
        /// What was asked.
        method: Method,
        /// What the stream said.
        source: io::Error,
    },
    /// The host's answer makes no sense. The client is dead.
    #[error(transparent)]
    Protocol(ProtocolError),
    /// An earlier call failed in a way that leaves the two ends without a common place in the stream.
    #[error("{method}: the connection is of no use since an earlier call failed")]
    Dead {
        /// What was asked.
        method: Method,
    },
}

/// Why serving a GenVM ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The stream failed.
    #[error("the stream to GenVM failed: {0}")]
    Io(#[from] io::Error),
    /// GenVM said something that makes no sense.
    #[error(transparent)]
    Protocol(#[from] ProtocolError),
    /// The handler gave up.
    #[error("{method}: the handler failed: {source}")]
    Handler {
        /// What it was asked.
        method: Method,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Why a handler has no answer.
#[derive(Debug)]
pub enum HandlerError {
    /// Say this to GenVM, and go on. [`Status::Ok`] is a handler's mistake and ends the connection.
    Status(Status),
    /// End the connection.
    Failed(Box<dyn Error + Send + Sync>),
}

impl From<Status> for HandlerError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl HandlerError {
    /// The connection ends with this as its reason.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// What a handler answers.
pub type Answer<T> = Result<T, HandlerError>;
