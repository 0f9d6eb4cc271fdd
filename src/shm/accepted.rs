//! What a host accepts where plain and upgraded clients share one address: [`Rendezvous`], the listener, and streams that
//! learn from a client's first byte what it is.
//!
//! The deciding is part of the first read or write of each connection, in its own thread or task: a client that connects
//! and stays silent, or dawdles over its greeting, holds up nobody else, and the listener keeps no list of undecided ones.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use async_trait::async_trait;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::asynchronous::{AsyncShmStream, Wakers};
use super::blocking::ShmStream;
use super::channel::Wanted;
use super::handshake::MAGIC;
use super::rendezvous::{self, AsyncIo, BlockingIo, Io, Terms, block_on, timed};
use super::segment::SegmentKind;
use crate::address::Address;
use crate::error::{AcceptError, UpgradeError};
use crate::options::{ListenOptions, StreamOptions};
use crate::peer::{Peer, TransportKind};
use crate::socket::{AsyncSocketStream, Deadline, SocketStream, UnixSocketListener, checked_timeout};
use crate::transport::{AsyncStream, BlockingStream, Listener};

/// A listener that serves plain and upgraded clients at one address.
#[derive(Debug)]
pub(crate) struct Rendezvous {
    socket: UnixSocketListener,
    config: Arc<Config>,
}

#[derive(Debug)]
struct Config {
    /// The weakest kind of segment that clients may choose.
    kind: SegmentKind,
    stream: StreamOptions,
    handshake_timeout: Duration,
}

impl Config {
    fn terms(&self) -> Terms {
        Terms::new(self.kind, &self.stream, self.stream.wait.unwrap_or_default())
    }
}

impl Rendezvous {
    pub(crate) fn new(socket: UnixSocketListener, kind: SegmentKind, options: &ListenOptions) -> Self {
        let config = Config { kind, stream: options.stream.clone(), handshake_timeout: options.handshake_timeout };
        Self { socket, config: Arc::new(config) }
    }
}

#[async_trait]
impl Listener for Rendezvous {
    fn accept(&self) -> Result<Box<dyn BlockingStream>, AcceptError> {
        let (fd, peer) = self.socket.accept()?;
        Ok(Box::new(Accepted {
            state: State::Undecided {
                fd,
                read_timeout: self.config.stream.read_timeout,
                write_timeout: self.config.stream.write_timeout,
            },
            peer,
            config: self.config.clone(),
        }))
    }

    async fn accept_async(&self) -> Result<Box<dyn AsyncStream>, AcceptError> {
        let (fd, peer) = self.socket.accept_async().await?;
        let io = AsyncIo::new(fd).map_err(AcceptError::Connection)?;
        Ok(Box::new(AsyncAccepted {
            state: AsyncState::Undecided(Undecided::new(io, peer.clone(), self.config.clone())),
            peer,
        }))
    }

    fn address(&self) -> &Address {
        self.socket.address()
    }

    fn close(&self) {
        self.socket.close();
    }
}

/// An accepted connection of the blocking face.
#[derive(Debug)]
struct Accepted {
    state: State,
    peer: Peer,
    config: Arc<Config>,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one a connection, and boxed as a whole")]
enum State {
    /// The client has not shown what it is.
    Undecided {
        fd: OwnedFd,
        read_timeout: Option<Duration>,
        write_timeout: Option<Duration>,
    },
    Plain(SocketStream),
    Shm(ShmStream),
    /// The upgrade failed, and the first caller was told why.
    Failed,
}

impl Accepted {
    /// The stream, once the client has shown what it is; waits for that up to the timeout of the direction that is wanted.
    #[inline]
    fn decided(&mut self, wanted: Wanted) -> io::Result<&mut dyn BlockingStream> {
        if let State::Undecided { .. } = self.state {
            self.decide(wanted)?;
        }
        self.stream()
    }

    #[inline]
    fn stream(&mut self) -> io::Result<&mut dyn BlockingStream> {
        match &mut self.state {
            State::Shm(stream) => Ok(stream),
            State::Plain(stream) => Ok(stream),
            State::Undecided { .. } | State::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    #[cold]
    fn decide(&mut self, wanted: Wanted) -> io::Result<()> {
        let State::Undecided { fd, read_timeout, write_timeout } = &self.state else { return Ok(()) };
        let mut deadline = Deadline::new(match wanted {
            Wanted::Bytes => *read_timeout,
            Wanted::Room => *write_timeout,
        });
        let greets = loop {
            if let Some(greets) = first_byte(fd)? {
                break greets;
            }
            crate::socket::poll(fd, PollFlags::IN, deadline.left()?)?;
        };
        let (read_timeout, write_timeout) = (*read_timeout, *write_timeout);
        let options = StreamOptions { read_timeout, write_timeout, ..self.config.stream.clone() };
        let State::Undecided { fd, .. } = std::mem::replace(&mut self.state, State::Failed) else { unreachable!() };
        self.state = if greets {
            let io = BlockingIo::new(Arc::new(fd), self.config.handshake_timeout);
            let channel = block_on(rendezvous::answer(&io, &self.peer, &self.config.terms())).map_err(failed)?;
            State::Shm(ShmStream::new(channel, &options))
        } else {
            State::Plain(SocketStream::new(fd, self.peer.clone(), TransportKind::Unix, &options))
        };
        Ok(())
    }
}

impl Read for Accepted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Shm(stream) => stream.read(out), // one indirection less where nanoseconds count
            _ if out.is_empty() => Ok(0),
            _ => self.decided(Wanted::Bytes)?.read(out),
        }
    }
}

impl Write for Accepted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Shm(stream) => stream.write(bytes),
            _ if bytes.is_empty() => Ok(0),
            _ => self.decided(Wanted::Room)?.write(bytes),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.state {
            State::Shm(stream) => stream.write_all(bytes),
            _ if bytes.is_empty() => Ok(()),
            _ => self.decided(Wanted::Room)?.write_all(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Shm(stream) => stream.flush(),
            State::Undecided { .. } => Ok(()), // nothing was written
            _ => self.stream()?.flush(),
        }
    }
}

impl BlockingStream for Accepted {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &mut self.state {
            State::Undecided { read_timeout, .. } => {
                *read_timeout = checked_timeout(timeout)?;
                Ok(())
            }
            _ => self.stream()?.set_read_timeout(timeout),
        }
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match &mut self.state {
            State::Undecided { write_timeout, .. } => {
                *write_timeout = checked_timeout(timeout)?;
                Ok(())
            }
            _ => self.stream()?.set_write_timeout(timeout),
        }
    }

    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn kind(&self) -> TransportKind {
        match &self.state {
            State::Shm(stream) => stream.kind(),
            _ => TransportKind::Unix,
        }
    }
    fn send_capacity(&self) -> usize {
        match &self.state {
            State::Shm(stream) => stream.send_capacity(),
            State::Plain(stream) => stream.send_capacity(),
            _ => 4096, // whatever it turns out to be has this much
        }
    }

    fn sleeps(&self) -> Option<u64> {
        match &self.state {
            State::Shm(stream) => stream.sleeps(),
            State::Plain(stream) => stream.sleeps(),
            _ => Some(0),
        }
    }
}

/// An accepted connection of the async face.
struct AsyncAccepted {
    state: AsyncState,
    peer: Peer,
}

#[allow(clippy::large_enum_variant, reason = "one a connection, and boxed as a whole")]
enum AsyncState {
    Undecided(Undecided),
    Plain(AsyncSocketStream),
    Shm(AsyncShmStream),
    Failed,
}

/// The client has not shown what it is.
struct Undecided {
    /// Owns the socket, and keeps the last waker that it was polled with.
    decision: Pin<Box<dyn Future<Output = io::Result<AsyncState>> + Send>>,
    socket: Weak<UnixStream>,
    wakers: Arc<Wakers>,
    /// A waker made of `wakers`: reader and writer may be two tasks, and both wait for the decision.
    both: Waker,
}

impl Undecided {
    fn new(io: AsyncIo, peer: Peer, config: Arc<Config>) -> Self {
        let wakers = Arc::new(Wakers::default());
        Self {
            socket: Arc::downgrade(&io.0),
            decision: Box::pin(decide_async(io, peer, config)),
            both: Waker::from(wakers.clone()),
            wakers,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<io::Result<AsyncState>> {
        self.wakers.set(wanted, cx.waker());
        let decided = ready!(self.decision.as_mut().poll(&mut Context::from_waker(&self.both)));
        // Whoever else waits is to wait for the stream from now on.
        self.both.wake_by_ref();
        Poll::Ready(decided)
    }
}

impl AsyncAccepted {
    #[cold]
    fn poll_decide(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<io::Result<()>> {
        let AsyncState::Undecided(undecided) = &mut self.state else { return Poll::Ready(Ok(())) };
        let decided = ready!(undecided.poll(cx, wanted));
        self.state = AsyncState::Failed;
        self.state = decided?;
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn stream(&mut self) -> io::Result<Pin<&mut dyn AsyncStream>> {
        match &mut self.state {
            AsyncState::Shm(stream) => Ok(Pin::new(stream)),
            AsyncState::Plain(stream) => Ok(Pin::new(stream)),
            AsyncState::Undecided(_) | AsyncState::Failed => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl AsyncRead for AsyncAccepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let AsyncState::Undecided(_) = self.state {
            if out.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_decide(cx, Wanted::Bytes))?;
        }
        self.stream()?.poll_read(cx, out)
    }
}

impl AsyncWrite for AsyncAccepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let AsyncState::Undecided(_) = self.state {
            if bytes.is_empty() {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_decide(cx, Wanted::Room))?;
        }
        self.stream()?.poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.state {
            AsyncState::Undecided(_) => Poll::Ready(Ok(())), // nothing was written
            _ => self.stream()?.poll_flush(cx),
        }
    }

    /// A client that has not shown what it is hears the end at once, and may still speak plainly; one that greets then gets no answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.state {
            AsyncState::Undecided(undecided) => {
                // The decision has it until it is made.
                let shut = undecided.socket.upgrade().map(|socket| rustix::net::shutdown(&*socket, Shutdown::Write));
                Poll::Ready(shut.unwrap_or(Ok(())).map_err(io::Error::from))
            }
            _ => self.stream()?.poll_shutdown(cx),
        }
    }
}

impl AsyncStream for AsyncAccepted {
    fn peer(&self) -> &Peer {
        &self.peer
    }

    fn kind(&self) -> TransportKind {
        match &self.state {
            AsyncState::Shm(stream) => stream.kind(),
            _ => TransportKind::Unix,
        }
    }
}

impl std::fmt::Debug for AsyncAccepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncAccepted").field("kind", &self.kind()).field("peer", &self.peer).finish_non_exhaustive()
    }
}

async fn decide_async(io: AsyncIo, peer: Peer, config: Arc<Config>) -> io::Result<AsyncState> {
    let greets = io.ready(rendezvous::Wanted::Read, peek).await.map_err(failed)?;
    if greets {
        let terms = config.terms();
        let channel = timed(config.handshake_timeout, rendezvous::answer(&io, &peer, &terms)).await.map_err(failed)?;
        return AsyncShmStream::new(channel, io.0, &config.stream).map(AsyncState::Shm);
    }
    let fd = OwnedFd::from(Arc::into_inner(io.0).expect("the only owner").into_std()?);
    Ok(AsyncState::Plain(AsyncSocketStream::new(fd, peer, TransportKind::Unix, &config.stream)?))
}

/// Whether the client greets, from its first byte, which stays where it is; `None` while there is none.
fn first_byte(fd: &OwnedFd) -> io::Result<Option<bool>> {
    match peek(fd.as_fd()) {
        Ok(greets) => Ok(Some(greets)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// End of file counts as plain: the plain stream reports it.
fn peek(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut byte = [0u8];
    let (n, _) = rustix::net::recv(fd, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(n == 1 && byte[0] == MAGIC[0])
}

/// A failed upgrade as the data path reports it.
fn failed(error: UpgradeError) -> io::Error {
    let kind = match &error {
        UpgradeError::Io { source, .. } => source.kind(),
        // The client is gone or of no use; `TimedOut` would promise that the stream stays usable.
        UpgradeError::Closed | UpgradeError::TimedOut(_) => io::ErrorKind::ConnectionAborted,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
