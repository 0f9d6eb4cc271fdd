//! The contract of every transport: [`Transport`], [`Listener`], [`BlockingStream`], [`AsyncStream`].
//!
//! What is pluggable is an **ordered byte stream**. Choosing, connecting and accepting happen once per execution and go
//! through these traits; reading and writing are plain `std::io` and `tokio::io`.
//!
//! # The twelve promises
//!
//! `tests/conformance` holds every transport to them; a third party's transport can be put through the same suite.
//!
//! 1. Bytes arrive once, in order, unchanged. Write boundaries are not kept.
//! 2. `write` takes at least one byte of a non-empty buffer, or waits. With an empty buffer `read` and `write` do nothing.
//! 3. After `flush` the peer can read everything written before, and is awake if it slept.
//! 4. `read` publishes what this end wrote before it waits: GenVM writes and then reads with no flush in between.
//! 5. `read` returns 0 only after the peer closed (or died) and everything it published was read.
//! 6. Writing to a peer that is gone is `BrokenPipe`; a killed peer is noticed in bounded time; nothing hangs.
//! 7. An expired timeout is `TimedOut`, and the stream stays usable: no byte was lost or repeated.
//! 8. A dropped future loses and repeats no byte.
//! 9. No socket file, shared-memory name or descriptor is left behind after a close. What a SIGKILLed process can leave
//!    is its socket file, which the next listener replaces.
//! 10. Nonsense from the peer is `InvalidData`, never a panic, a hang or an access out of bounds.
//! 11. One listener serves many connections, and both faces.
//! 12. [`peer`](BlockingStream::peer) is what the kernel says, not what the peer says.
//!
//! A blocking end and an async end of the same transport understand each other. The **connecting side speaks first**:
//! a listener may learn from the first byte what its client wants.
//!
//! # Errors of the data path
//!
//! | kind | meaning | stream afterwards |
//! | --- | --- | --- |
//! | `TimedOut` | the read or write timeout expired | usable |
//! | `BrokenPipe` | written to a peer that is gone | dead |
//! | `ConnectionReset` | a socket's peer went away with our bytes unread, or the network lost it | dead |
//! | `ConnectionAborted` | an accepted client ended, or took too long, in the middle of its upgrade to shared memory | dead |
//! | `InvalidData` | the peer broke the protocol of the transport; the source says how | dead |
//! | others | the system refused (memory, descriptors, …) | dead |
//!
//! `Interrupted` is never returned: a signal restarts the wait with the time that is left. A `write` may hold bytes back
//! until `flush`, `read`, or until enough have come together. Dropping a stream publishes what was written (as far as
//! there is room without waiting) and closes it.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::address::Address;
use crate::error::{AcceptError, ConnectError, ListenError};
use crate::options::{ConnectOptions, ListenOptions};
use crate::peer::{Peer, TransportKind};

/// A way to connect to a host and to be one. Dyn-compatible; add your own with [`Transports::with`](crate::Transports::with).
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync {
    /// The address scheme that this transport answers to, such as `unix`.
    fn scheme(&self) -> &str;

    /// Connects, for a blocking caller. Needs no async runtime; blocks up to [`ConnectOptions::timeout`].
    ///
    /// # Errors
    /// Nobody is there, or may not be reached, or not in time; an upgrade to shared memory failed and may not fall back; the address is
    /// not one of this transport's. Nothing is left open.
    fn connect(&self, address: &Address, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError>;

    /// Connects, for a tokio task. Must run on a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Dropping the future abandons the connection and leaves nothing behind.
    async fn connect_async(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn AsyncStream>, ConnectError>;

    /// Starts listening. Needs no async runtime, does not block beyond short waits for a file lock.
    ///
    /// # Errors
    /// Somebody else listens there, the place cannot be listened at, or the system says no. Nothing is left behind.
    fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError>;
}

/// A listening host. Serves blocking and async callers, at the same time if they like. Dropping it stops listening and
/// removes the socket file; accepted streams live on.
#[async_trait]
pub trait Listener: fmt::Debug + Send + Sync {
    /// Waits for the next client. When descriptors run out it waits for some to come free rather than failing.
    ///
    /// # Errors
    /// [`Closed`](AcceptError::Closed) once the listener is closed; of others [`is_fatal`](AcceptError::is_fatal) says whether accepting may go
    /// on, as it may after a client that was refused.
    fn accept(&self) -> Result<Box<dyn BlockingStream>, AcceptError>;

    /// Waits for the next client, on a tokio runtime.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection is lost.
    async fn accept_async(&self) -> Result<Box<dyn AsyncStream>, AcceptError>;

    /// Where it listens, as a client would write it. A TCP port that was 0 is the real one here.
    fn address(&self) -> &Address;

    /// Stops listening: every waiting and later accept fails with [`AcceptError::Closed`]. May be called from any thread.
    fn close(&self);
}

/// A connected stream for a thread that may block. `impl Sock for Box<dyn BlockingStream> {}` is all GenVM needs.
pub trait BlockingStream: Read + Write + Send + Sync + fmt::Debug {
    /// How long a `read` may wait; `None` for ever.
    ///
    /// # Errors
    /// A zero duration is `InvalidInput`, as in std; otherwise what the system says.
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// How long a `write` or `flush` may wait; `None` for ever.
    ///
    /// # Errors
    /// As [`set_read_timeout`](Self::set_read_timeout).
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// Who is at the other end, from the kernel.
    fn peer(&self) -> &Peer;

    /// What carries the bytes. On a listener that serves several kinds, `Unix` until the client has shown what it is.
    fn kind(&self) -> TransportKind;

    /// How much memory lies between this end and the peer, in bytes: while the peer reads nothing, a write waits only if twice its
    /// length and 2 KiB, added up over this and all writes before it that were not read, come to more. What is promised here is what
    /// keeps a [`Batch`](crate::protocol::Batch) from waiting for a peer that waits for it.
    ///
    /// The default is what the smallest socket of any platform has.
    fn send_capacity(&self) -> usize {
        4096
    }

    /// How often this end handed itself to the kernel to wait for the peer, if that is counted: what polled all the time never did, what
    /// sleeps at once on a socket does with every read and write.
    fn sleeps(&self) -> Option<u64> {
        None
    }

    /// Whether shared memory was asked for, and this plain socket is what came of it ([`Fallback`](crate::options::Fallback),
    /// `prefer-shm`).
    fn fell_back(&self) -> bool {
        false
    }
}

/// A connected stream for a tokio task.
pub trait AsyncStream: AsyncRead + AsyncWrite + Unpin + Send + fmt::Debug {
    /// Who is at the other end, from the kernel.
    fn peer(&self) -> &Peer;

    /// What carries the bytes. On a listener that serves several kinds, `Unix` until the client has shown what it is.
    fn kind(&self) -> TransportKind;
}

impl<S: BlockingStream + ?Sized> BlockingStream for Box<S> {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        (**self).set_read_timeout(timeout)
    }
    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        (**self).set_write_timeout(timeout)
    }
    fn peer(&self) -> &Peer {
        (**self).peer()
    }
    fn kind(&self) -> TransportKind {
        (**self).kind()
    }
    fn send_capacity(&self) -> usize {
        (**self).send_capacity()
    }
    fn sleeps(&self) -> Option<u64> {
        (**self).sleeps()
    }
    fn fell_back(&self) -> bool {
        (**self).fell_back()
    }
}

impl<S: AsyncStream + ?Sized> AsyncStream for Box<S> {
    fn peer(&self) -> &Peer {
        (**self).peer()
    }
    fn kind(&self) -> TransportKind {
        (**self).kind()
    }
}
