//! Unix sockets (and what TCP shares with them), for the transports: binding and accepting, connecting, and the two faces of a
//! connected stream socket. Knows no shared memory and no protocol.

mod asynchronous;
mod blocking;
mod connect;
mod credentials;
mod file;
mod listener;
mod plain;

pub(crate) use asynchronous::AsyncSocketStream;
pub(crate) use blocking::SocketStream;
pub(crate) use connect::{admitted, connect_unix, connect_unix_async};
pub(crate) use listener::{Acceptor, UnixSocketListener};
pub(crate) use plain::SocketListener;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::peer::Peer;

/// Who is at the other end of a connected socket, from the kernel.
pub(crate) fn peer_of(fd: BorrowedFd<'_>) -> Peer {
    if let Ok(Some(name)) = rustix::net::getpeername(fd)
        && let Ok(address) = std::net::SocketAddr::try_from(name)
    {
        return Peer::Network(address);
    }
    credentials::peer(fd).unwrap_or(Peer::Unknown)
}

/// Makes a byte that was sent as urgent (`MSG_OOB`) a byte like any other. On a Unix socket it would else keep `poll` returning at once
/// with nothing there to be read, and whoever waits by both would run for ever.
pub(crate) fn inline_urgent(fd: impl AsFd) -> rustix::io::Result<()> {
    rustix::net::sockopt::set_socket_oobinline(fd, true)
}

/// Waits until `fd` has what `flags` ask for, or up to `timeout` (`None`: for ever). A signal ends the wait early.
pub(crate) fn poll(fd: impl AsFd, flags: PollFlags, timeout: Option<Duration>) -> io::Result<()> {
    poll_any(&mut [PollFd::new(&fd, flags)], timeout)
}

/// The same for the first of several descriptors.
pub(crate) fn poll_any(fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
    // A time too long for the kernel's type is as good as for ever.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the kernel says of a read or a write, as the contract's table has it. TCP tells a writer, too, that the connection was reset, and
/// both that a peer which acknowledges nothing any more "timed out": as `TimedOut` that would promise that the stream stays usable.
#[cold]
fn failure(error: io::Error, wanted: PollFlags) -> io::Error {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::TimedOut if wanted == PollFlags::OUT => {
            io::Error::new(io::ErrorKind::BrokenPipe, error)
        }
        io::ErrorKind::TimedOut => io::Error::new(io::ErrorKind::ConnectionReset, error),
        _ => error,
    }
}

/// A timeout that starts when it is first looked at, so that an operation which succeeds at once pays for no clock.
#[derive(Debug)]
pub(crate) struct Deadline {
    timeout: Option<Duration>,
    since: Option<Instant>,
}

impl Deadline {
    pub(crate) fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, since: None }
    }

    /// What is left, `None` for ever, or the error `TimedOut`.
    pub(crate) fn left(&mut self) -> io::Result<Option<Duration>> {
        let Some(timeout) = self.timeout else { return Ok(None) };
        let elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        match timeout.checked_sub(elapsed) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A timeout as a caller may set it: std's rule.
pub(crate) fn checked_timeout(timeout: Option<Duration>) -> io::Result<Option<Duration>> {
    match timeout {
        Some(Duration::ZERO) => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "a timeout of zero; None waits for ever"))
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_no_timeout() {
        let kind = |error: Errno, wanted| failure(error.into(), wanted).kind();
        for (error, reading, writing) in [
            (Errno::TIMEDOUT, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe),
            (Errno::CONNRESET, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe),
            (Errno::PIPE, io::ErrorKind::BrokenPipe, io::ErrorKind::BrokenPipe),
            (Errno::NOMEM, io::ErrorKind::OutOfMemory, io::ErrorKind::OutOfMemory),
        ] {
            assert_eq!((kind(error, PollFlags::IN), kind(error, PollFlags::OUT)), (reading, writing), "{error}");
        }
    }
}
