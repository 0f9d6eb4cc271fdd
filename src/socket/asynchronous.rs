//! [`AsyncSocketStream`]: the tokio face of a connected stream socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::failure;
use crate::options::StreamOptions;
use crate::peer::{Peer, TransportKind};
use crate::transport::AsyncStream;
use crate::wait::{Backoff, Step, Streak, WaitStrategy, one_core, unless_crowded};

/// A connected stream socket for a tokio task.
///
/// With a polling [`WaitStrategy`] a read asks the kernel at once and, while its budget lasts, again whenever the runtime comes
/// round to this task; other tasks run in between. Then, and always when writing, it awaits readiness as tokio does.
#[derive(Debug)]
pub(crate) struct AsyncSocketStream {
    socket: Socket,
    peer: Peer,
    kind: TransportKind,
    wait: WaitStrategy,
    alone: bool,
    reading: Option<Backoff>,
    /// Of reads that bypass tokio's own budget.
    streak: Streak,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncSocketStream {
    /// Must run on a tokio runtime with I/O enabled.
    pub(crate) fn new(fd: OwnedFd, peer: Peer, kind: TransportKind, options: &StreamOptions) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        let socket = match peer {
            Peer::Network(_) => Socket::Tcp(TcpStream::from_std(fd.into())?),
            _ => Socket::Unix(UnixStream::from_std(fd.into())?),
        };
        let wait = options.wait.unwrap_or(WaitStrategy::Park);
        Ok(Self { socket, alone: one_core(&peer), peer, kind, wait, reading: None, streak: Streak::default() })
    }

    /// One look without waiting; `None` if the budget for looking is used up.
    fn poll_busy(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Option<Poll<io::Result<()>>> {
        if self.streak.is_over() {
            cx.waker().wake_by_ref();
            return Some(Poll::Pending);
        }
        loop {
            match rustix::net::recv(self.socket.fd(), out.initialize_unfilled(), RecvFlags::DONTWAIT) {
                Ok((n, _)) => {
                    out.advance(n);
                    self.reading = None;
                    self.streak.ready();
                    return Some(Poll::Ready(Ok(())));
                }
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Some(Poll::Ready(Err(failure(error.into(), PollFlags::IN)))),
            }
            self.streak.waited();
            let backoff = self.reading.get_or_insert_with(|| Backoff::new(unless_crowded(self.wait), self.alone));
            let step = backoff.step();
            return match step {
                Step::Park => None,
                Step::Poll | Step::Yield => {
                    if step == Step::Yield {
                        backoff.yield_core();
                    }
                    cx.waker().wake_by_ref();
                    Some(Poll::Pending)
                }
            };
        }
    }
}

impl AsyncRead for AsyncSocketStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.wait != WaitStrategy::Park
            && let Some(done) = this.poll_busy(cx, out)
        {
            return done;
        }
        let done = match &mut this.socket {
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, out),
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, out),
        };
        if done.is_ready() {
            this.reading = None;
        }
        done.map_err(|error| failure(error, PollFlags::IN))
    }
}

impl AsyncWrite for AsyncSocketStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let done = match &mut self.get_mut().socket {
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        done.map_err(|error| failure(error, PollFlags::OUT))
    }

    /// Nothing is held back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().socket {
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl AsyncStream for AsyncSocketStream {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn kind(&self) -> TransportKind {
        self.kind
    }
}

impl Socket {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
