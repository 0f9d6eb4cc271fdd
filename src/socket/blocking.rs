//! [`SocketStream`]: the blocking face of a connected stream socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::{Deadline, checked_timeout, failure, poll};
use crate::options::StreamOptions;
use crate::peer::{Peer, TransportKind};
use crate::transport::BlockingStream;
use crate::wait::{Backoff, Step, WaitStrategy, one_core, unless_crowded};

/// A connected stream socket for a thread that may block. Unbuffered: every write is one `send`, every read one `recv`.
///
/// While it polls, as [`WaitStrategy`] says, it asks the kernel without waiting; to sleep, it makes one blocking call.
#[derive(Debug)]
pub(crate) struct SocketStream {
    fd: OwnedFd,
    peer: Peer,
    kind: TransportKind,
    wait: WaitStrategy,
    alone: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    sleeps: u64,
    fell_back: bool,
}

impl SocketStream {
    pub(crate) fn new(fd: OwnedFd, peer: Peer, kind: TransportKind, options: &StreamOptions) -> Self {
        Self {
            fd,
            alone: one_core(&peer),
            peer,
            kind,
            wait: options.wait.unwrap_or(WaitStrategy::Park),
            read_timeout: options.read_timeout,
            write_timeout: options.write_timeout,
            sleeps: 0,
            fell_back: false,
        }
    }

    /// The same, as what became of asking for shared memory.
    #[cfg(feature = "shm")]
    pub(crate) fn fallen_back(self) -> Self {
        Self { fell_back: true, ..self }
    }

    /// Repeats `io` until it has done something; its second argument says whether it may sleep in the kernel.
    #[inline]
    fn transfer(
        &mut self,
        wanted: PollFlags,
        timeout: Option<Duration>,
        mut io: impl FnMut(BorrowedFd<'_>, bool) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut backoff = Backoff::new(unless_crowded(self.wait), self.alone);
        let mut deadline = Deadline::new(timeout);
        // With a timeout the kernel is asked to wait by `poll`, which takes one; without, by the call itself.
        let mut sleep = self.wait == WaitStrategy::Park && timeout.is_none();
        loop {
            self.sleeps += u64::from(sleep);
            match io(self.fd.as_fd(), sleep) {
                Ok(n) => return Ok(n),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(failure(error.into(), wanted)),
            }
            match backoff.step() {
                Step::Poll => {}
                Step::Yield => {
                    // Each time: others on this core may keep it for as long as they like.
                    deadline.left()?;
                    backoff.yield_core();
                }
                Step::Park if timeout.is_none() && !sleep => sleep = true,
                // Here too after a signal, or if an inherited descriptor turns out to be non-blocking.
                Step::Park => {
                    self.sleeps += 1;
                    poll(&self.fd, wanted, deadline.left()?)?;
                }
            }
            if backoff.check_peer() {
                deadline.left()?;
            }
        }
    }
}

impl Read for SocketStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        self.transfer(PollFlags::IN, self.read_timeout, |fd, sleep| {
            let flags = if sleep { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
            rustix::net::recv(fd, &mut *out, flags).map(|(n, _)| n)
        })
    }
}

impl Write for SocketStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.transfer(PollFlags::OUT, self.write_timeout, |fd, sleep| {
            let flags = if sleep { SendFlags::empty() } else { SendFlags::DONTWAIT };
            rustix::net::send(fd, bytes, flags | SendFlags::NOSIGNAL)
        })
    }

    /// Nothing is held back.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlockingStream for SocketStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout = checked_timeout(timeout)?;
        Ok(())
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout = checked_timeout(timeout)?;
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn kind(&self) -> TransportKind {
        self.kind
    }

    fn send_capacity(&self) -> usize {
        // The kernel admits a write as long as less than this is used up.
        rustix::net::sockopt::socket_send_buffer_size(&self.fd).unwrap_or(4096)
    }

    fn sleeps(&self) -> Option<u64> {
        Some(self.sleeps)
    }

    fn fell_back(&self) -> bool {
        self.fell_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_looked_at_between_yields() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let options = StreamOptions { wait: Some(WaitStrategy::Spin), ..StreamOptions::default() };
        let mut stream = SocketStream::new(ours.into(), Peer::Unknown, TransportKind::Unix, &options);
        stream.alone = true;
        let mut tries = 0;
        let nothing = |_: BorrowedFd<'_>, _| {
            tries += 1;
            Err(Errno::AGAIN)
        };
        let error = stream.transfer(PollFlags::IN, Some(Duration::from_nanos(1)), nothing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(tries < 5, "{tries}");
    }
}
