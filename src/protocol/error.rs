//! What can go wrong between GenVM and its host: one enum for the bytes ([`ProtocolError`]), one for a call
//! ([`CallError`]), one for serving ([`ServeError`]), and what a handler may say ([`HandlerError`]).

use std::error::Error;
use std::io;
use std::str::Utf8Error;

use super::method::{Method, Revision};
use super::types::{Status, U256, UnknownByte};

/// Bytes that the protocol gives no meaning, by method and field. A connection that carried them is lost: nobody knows
/// where the next message would begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The first byte of a request names no method.
    #[error("{id} is no method id of revision {revision} (known: 0 to {})", revision.methods().len() - 1)]
    UnknownMethod {
        /// What was read.
        id: u8,
        /// The revision spoken.
        revision: Revision,
    },
    /// The revision spoken does not have the method.
    #[error("revision {revision} has no `{method}`")]
    NotInRevision {
        /// The method.
        method: Method,
        /// The revision spoken.
        revision: Revision,
    },
    /// A byte stands for nothing in its enum.
    #[error("`{method}`, {field}: {source}")]
    UnknownByte {
        /// In which method.
        method: Method,
        /// In which of its fields.
        field: &'static str,
        /// What was read, and what was expected.
        source: UnknownByte,
    },
    /// A length is beyond what [`Limits`](super::Limits) or the field's own width allows.
    #[error("`{method}`, {field}: length {length}, at most {limit} allowed")]
    TooLong {
        /// In which method.
        method: Method,
        /// In which of its fields.
        field: &'static str,
        /// The length announced or asked for.
        length: u64,
        /// The longest allowed.
        limit: u64,
    },
    /// A slice that begins with a result code is empty.
    #[error("`{method}`, {field}: empty, expected a result code first")]
    NoResultCode {
        /// In which method.
        method: Method,
        /// In which of its fields.
        field: &'static str,
    },
    /// A storage access goes beyond the last byte of a slot.
    #[error("`{method}`: index {index} + length {length} goes beyond the 2^32 bytes of a slot")]
    BeyondSlot {
        /// In which method.
        method: Method,
        /// Where the access starts.
        index: u32,
        /// How long it is.
        length: u32,
    },
    /// A text is not UTF-8.
    #[error("`{method}`, {field}: not UTF-8: {source}")]
    NotUtf8 {
        /// In which method.
        method: Method,
        /// In which of its fields.
        field: &'static str,
        /// Where it stops being UTF-8.
        source: Utf8Error,
    },
    /// A number is larger than the protocol allows.
    #[error("`{method}`, {field}: {value}, at most {limit} allowed")]
    TooLarge {
        /// In which method.
        method: Method,
        /// In which of its fields.
        field: &'static str,
        /// What was read, or was to be sent.
        value: U256,
        /// The largest allowed.
        limit: u64,
    },
    /// The client did not begin as was agreed.
    #[error("of the {expected} hello bytes agreed on {matched} came")]
    Hello {
        /// How many there are.
        expected: usize,
        /// How many of them came, before others or none did.
        matched: usize,
    },
    /// The stream ended inside a message.
    #[error("`{method}`, {field}: the stream ended with at least {missing} bytes missing")]
    Truncated {
        /// In which method.
        method: Method,
        /// In which of its fields.
        field: &'static str,
        /// How many bytes the field still lacked.
        missing: u64,
    },
    /// The host sent more than the answer to what it was asked. Noticed where only the host knows how long an answer is. Where it
    /// is known, not a byte more is read, and what follows is taken for the next answer.
    #[error("`{method}`: {bytes} bytes follow the answer, expected none")]
    Surplus {
        /// In which method.
        method: Method,
        /// How many bytes were there already.
        bytes: u64,
    },
}

/// Why a call to the host gave no answer. Unless [`is_fatal`](Self::is_fatal), the connection is as good as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The host said no.
    #[error("`{method}`: the host answered {status}")]
    Status {
        /// The call.
        method: Method,
        /// The host's answer: anything but [`Status::Ok`].
        status: Status,
    },
    /// The arguments cannot be sent: too long, beyond a slot's end. Nothing was written.
    #[error("not sent: {source}")]
    Refused {
        /// The call.
        method: Method,
        /// What is wrong with it.
        source: ProtocolError,
    },
    /// The stream failed or timed out. Every later call is [`Dead`](Self::Dead): the answer may yet arrive, and would
    /// be taken for another call's.
    #[error("`{method}`: {source}")]
    Io {
        /// The call.
        method: Method,
        /// What the stream said.
        source: io::Error,
    },
    /// The host's answer is none, or it closed the connection before the answer was complete. Every later call is
    /// [`Dead`](Self::Dead).
    #[error("the host broke the protocol: {source}")]
    Protocol {
        /// The call.
        method: Method,
        /// How.
        source: ProtocolError,
    },
    /// An earlier call lost the connection. Nothing was written.
    #[error("`{method}`: an earlier call lost the connection")]
    Dead {
        /// The call.
        method: Method,
    },
}

impl CallError {
    /// Whether the connection is lost.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Status { .. } | Self::Refused { .. } => false,
            Self::Io { .. } | Self::Protocol { .. } | Self::Dead { .. } => true,
        }
    }

    /// The status, if the host gave one.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What a handler says instead of an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// Tell GenVM; the connection goes on. Never [`Status::Ok`].
    #[error("answered {0}")]
    Status(Status),
    /// The host cannot go on; the connection ends and GenVM sees it closed.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl HandlerError {
    /// [`Failed`](Self::Failed) with an error, or just a text.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Status> for HandlerError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// What a handler gives for a call.
pub type Answer<T> = Result<T, HandlerError>;

/// Why serving a connection ended early. The connection cannot be used further.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
    /// GenVM sent what is no request, or ended inside one.
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    /// The handler failed, or its answer cannot be sent.
    #[error("`{method}`: the handler failed: {source}")]
    Handler {
        /// The call.
        method: Method,
        /// What the handler said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The handler gave a status where the protocol has no place for it: [`Status::Ok`] as an error, any status for a
    /// method whose answer has none, or one after the first piece of a large `storage_read` had been answered.
    #[error("`{method}`: the handler answered {status}, which cannot be sent there")]
    Unanswerable {
        /// The call.
        method: Method,
        /// What the handler said.
        status: Status,
    },
}
