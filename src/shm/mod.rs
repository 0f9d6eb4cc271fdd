//! Shared memory: [`ShmTransport`], `shm://` and `shm-named://`. Experimental.
//!
//! Two segments, one written by each end, carry a [ring](RingFault) of byte records each way; the Unix socket over which
//! they were agreed on stays open as the doorbell and as the witness of the peer's life, beside a pidfd of the process that
//! connected, or began to listen, because a child that it forked can hold a socket open. While both ends are awake a call
//! makes no system call; a small one moves three cache lines, two with the request and one with the answer.
//!
//! | file | what it does |
//! | --- | --- |
//! | `layout` | where everything lies in a segment |
//! | `mapping` | touching shared memory, by checked offsets only |
//! | `segment` | sealed memfds and named segments, made and checked |
//! | `ring` | records: producer and consumer, no waiting |
//! | `doorbell` (`event`) | arming, ringing, sleeping; does not know the ring |
//! | `life` | the peer's process, which can end before its socket does |
//! | `channel` | both rings and the bell of one end |
//! | `handshake` | the upgrade greeting as bytes, no I/O |
//! | `rendezvous` | the upgrade on a socket |
//! | `blocking`, `asynchronous` | the two faces |
//! | `accepted` | one address for plain and upgraded clients |
//!
//! It does not grow a ring, share one between connections, or leave its peer for the plain socket by itself: that is asked for by
//! [`Fallback`] or the feature `prefer-shm`, before the first byte.
//!
//! # Choosing between the two
//!
//! `shm://` uses sealed memfds (Linux 5.1): each end can write its own segment only, so a hostile peer can neither crash
//! nor corrupt us, and nothing outlives a killed process. `shm-named://` (feature `shm-named`) uses named segments with
//! `raw_sync` events and runs where there are no memfds; both ends can write both segments and truncate them, a peer
//! killed at the wrong instruction can hang us, and a name can survive it: only for peers that trust each other.

mod accepted;
mod asynchronous;
mod blocking;
mod channel;
#[cfg(all(test, not(genvm_loom)))]
mod documented;
mod doorbell;
#[cfg(feature = "shm-named")]
mod event;
#[cfg(any(all(test, not(genvm_loom)), genvm_fuzz))]
pub(crate) mod fuzzing;
mod handshake;
mod layout;
mod life;
mod mapping;
#[cfg(all(test, genvm_loom))]
mod orders;
mod rendezvous;
mod ring;
mod segment;
#[cfg(all(test, not(genvm_loom)))]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

pub(crate) use accepted::Rendezvous;
pub use asynchronous::AsyncShmStream;
pub use blocking::ShmStream;
pub use ring::RingFault;

use crate::address::Address;
use crate::error::{ConnectError, ListenError, TransportError, UpgradeError};
use crate::options::{ConnectOptions, Fallback, ListenOptions};
use crate::peer::TransportKind;
use crate::socket::{self, AsyncSocketStream, SocketStream, UnixSocketListener};
use crate::transport::{AsyncStream, BlockingStream, Listener, Transport};
use rendezvous::{AsyncIo, BlockingIo, Terms, block_on, timed};
pub(crate) use segment::SegmentKind;

/// Shared memory, agreed on over a Unix socket.
///
/// Its listener serves plain clients at the same address. One at `shm-named://` also serves clients of `shm://`, but not the
/// other way round: the weaker kind of segment is the host's to allow, not a client's to choose.
#[derive(Debug, Clone, Copy)]
pub struct ShmTransport {
    kind: SegmentKind,
}

impl ShmTransport {
    /// `shm://`: sealed memfds.
    pub fn sealed() -> Self {
        Self { kind: SegmentKind::Sealed }
    }

    /// `shm-named://`: named segments, for peers that trust each other.
    #[cfg(feature = "shm-named")]
    pub fn named() -> Self {
        Self { kind: SegmentKind::Named }
    }

    fn terms(&self, options: &ConnectOptions) -> Terms {
        Terms::new(self.kind, &options.stream, options.stream.wait.unwrap_or_default())
    }

    fn path<'a>(&self, address: &'a Address) -> Result<&'a std::path::Path, TransportError> {
        address.path().ok_or_else(|| TransportError::Unsupported {
            scheme: address.scheme().to_owned(),
            what: "has no path to meet at",
        })
    }
}

#[async_trait]
impl Transport for ShmTransport {
    fn scheme(&self) -> &str {
        match self.kind {
            SegmentKind::Sealed => "shm",
            SegmentKind::Named => "shm-named",
        }
    }

    fn connect(&self, address: &Address, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError> {
        let (path, started) = (self.path(address)?, Instant::now());
        let (fd, peer) = socket::connect_unix(address, path, options, started)?;
        let patience = patience(options, started);
        let io = BlockingIo::new(Arc::new(fd), patience);
        match block_on(rendezvous::greet(&io, &peer, &self.terms(options))) {
            Ok(channel) => Ok(Box::new(ShmStream::new(channel, &options.stream))),
            Err(UpgradeError::TimedOut(_)) if patience < options.handshake_timeout => Err(timed_out(address, options)),
            Err(error) if falls_back(options, &error) => {
                drop(io);
                let (fd, peer) = socket::connect_unix(address, path, options, started)?;
                Ok(Box::new(SocketStream::new(fd, peer, TransportKind::Unix, &options.stream).fallen_back()))
            }
            Err(source) => Err(ConnectError::Upgrade { address: address.clone(), source }),
        }
    }

    async fn connect_async(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn AsyncStream>, ConnectError> {
        let (path, started) = (self.path(address)?, Instant::now());
        let io_error = |source| ConnectError::Io { address: address.clone(), source };
        let (fd, peer) = socket::connect_unix_async(address, path, options, started).await?;
        let patience = patience(options, started);
        let io = AsyncIo::new(fd).map_err(io_error)?;
        match timed(patience, rendezvous::greet(&io, &peer, &self.terms(options))).await {
            Ok(channel) => Ok(Box::new(AsyncShmStream::new(channel, io.0, &options.stream).map_err(io_error)?)),
            Err(UpgradeError::TimedOut(_)) if patience < options.handshake_timeout => Err(timed_out(address, options)),
            Err(error) if falls_back(options, &error) => {
                drop(io);
                let (fd, peer) = socket::connect_unix_async(address, path, options, started).await?;
                let stream = AsyncSocketStream::new(fd, peer, TransportKind::Unix, &options.stream);
                Ok(Box::new(stream.map_err(io_error)?))
            }
            Err(source) => Err(ConnectError::Upgrade { address: address.clone(), source }),
        }
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
        let socket = UnixSocketListener::bind(address, self.path(address)?, options)?;
        Ok(Box::new(Rendezvous::new(socket, self.kind, options)))
    }
}

/// How long an upgrade may take when connecting began at `started`.
fn patience(options: &ConnectOptions, started: Instant) -> Duration {
    options.handshake_timeout.min(options.timeout.saturating_sub(started.elapsed()))
}

fn timed_out(address: &Address, options: &ConnectOptions) -> ConnectError {
    ConnectError::TimedOut { address: address.clone(), after: options.timeout }
}

/// A host that does not know the upgrade, or says no, may be spoken to plainly. One that offers something unsound may not.
fn falls_back(options: &ConnectOptions, error: &UpgradeError) -> bool {
    options.fallback == Fallback::Plain && !matches!(error, UpgradeError::Segment(_) | UpgradeError::Field { .. })
}
