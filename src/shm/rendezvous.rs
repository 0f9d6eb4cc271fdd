//! The upgrade as it happens on a socket: who sends what when, for both ends and both faces.
//!
//! The steps are written once, as futures over [`Io`]; the blocking face waits inside `ready`, so that its future never
//! has to be polled twice. Nothing here outlives the handshake.

use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::channel::Channel;
use super::doorbell::{Doorbell, Socket};
use super::handshake::{GREETING_LEN, Greeting, MAGIC, Refusal, random_start};
use super::life::Life;
use super::ring::{Consumer, Producer};
use super::segment::{self, Handle, Segment, SegmentKind};
use crate::error::UpgradeError;
use crate::options::{RingCapacity, StreamOptions};
use crate::peer::{Peer, TransportKind};
use crate::wait::WaitStrategy;

/// What this end brings to an upgrade.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) kind: SegmentKind,
    pub(crate) capacity: RingCapacity,
    pub(crate) never_sleeps: bool,
}

impl Terms {
    pub(crate) fn new(kind: SegmentKind, options: &StreamOptions, wait: WaitStrategy) -> Self {
        Self { kind, capacity: options.ring_capacity, never_sleeps: !wait.sleeps() }
    }
}

/// Waiting for the socket, as one face does it.
pub(crate) trait Io: Sync {
    /// The socket as the doorbell wants it.
    fn socket(&self) -> io::Result<Arc<dyn Socket>>;
    /// Waits until `try_io`, which just said `AGAIN`, may say something else, and repeats it.
    fn ready<T: Send>(
        &self,
        wanted: Wanted,
        try_io: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T> + Send,
    ) -> impl Future<Output = Result<T, UpgradeError>> + Send;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Read,
    Write,
}

/// The client's part: greet, and take what the host answers.
pub(crate) async fn greet(io: &impl Io, peer: &Peer, terms: &Terms) -> Result<Channel, UpgradeError> {
    let ours = Offer::new(terms)?;
    send(io, &ours.greeting.encode(), ours.segment.handle.descriptor()).await?;
    let (answer, descriptor) = receive(io).await?;
    let theirs = Greeting::decode(&answer)?;
    if theirs.kind != terms.kind {
        return Err(UpgradeError::Field {
            field: "kind",
            seen: theirs.kind as u64,
            expected: "the kind that we asked for",
        });
    }
    // The host has mapped our segment: its handle is of no more use.
    agree(io, peer, ours, theirs, descriptor).map(|(channel, _handle)| channel)
}

/// The host's part, after a client's first byte has shown that it greets. The host takes the client's kind of segment, but
/// not a weaker one than its own terms name: with a named segment a client could end the host, truncating it.
pub(crate) async fn answer(io: &impl Io, peer: &Peer, terms: &Terms) -> Result<Channel, UpgradeError> {
    let agreed = async {
        let (greeting, descriptor) = receive(io).await?;
        let theirs = Greeting::decode(&greeting)?;
        if theirs.kind == SegmentKind::Named && terms.kind == SegmentKind::Sealed {
            return Err(UpgradeError::Refused("named segments are for clients of shm-named:// listeners"));
        }
        let ours = Offer::new(&Terms { kind: theirs.kind, ..terms.clone() })?;
        let greeting = ours.greeting.encode();
        Ok((agree(io, peer, ours, theirs, descriptor)?, greeting))
    };
    match agreed.await {
        Ok(((channel, handle), greeting)) => {
            send(io, &greeting, handle.descriptor()).await?;
            Ok(channel.keeping(handle))
        }
        Err(error) => {
            // Best effort: whoever broke the rules may not be reading.
            if !matches!(error, UpgradeError::Closed | UpgradeError::TimedOut(_)) {
                let _ = send(io, &Refusal::of(&error).encode(), None).await;
            }
            Err(error)
        }
    }
}

/// Our segment and what we say about it.
struct Offer {
    segment: Segment,
    greeting: Greeting,
    #[cfg(feature = "shm-named")]
    event: Option<super::event::OwnEvent>,
}

impl Offer {
    fn new(terms: &Terms) -> Result<Self, UpgradeError> {
        let start = random_start().map_err(|source| UpgradeError::Io { what: "cannot get random bytes", source })?;
        let segment = Segment::create(terms.kind, terms.capacity)?;
        #[cfg(feature = "shm-named")]
        let event = match terms.kind {
            SegmentKind::Sealed => None,
            SegmentKind::Named => Some(
                super::event::OwnEvent::create(&segment.memory)
                    .map_err(|source| UpgradeError::Io { what: "cannot create a raw_sync event", source })?,
            ),
        };
        let name = match &segment.handle {
            Handle::Descriptor(_) => String::new(),
            #[cfg(feature = "shm-named")]
            Handle::Name(name) => name.0.clone(),
        };
        let &Terms { kind, capacity, never_sleeps } = terms;
        Ok(Self {
            segment,
            greeting: Greeting { kind, never_sleeps, capacity, start, name },
            #[cfg(feature = "shm-named")]
            event,
        })
    }
}

/// Maps what the peer offers and puts both halves together. Gives our handle back: the peer may still need it.
fn agree(
    io: &impl Io,
    peer: &Peer,
    ours: Offer,
    theirs: Greeting,
    descriptor: Option<OwnedFd>,
) -> Result<(Channel, Handle), UpgradeError> {
    let memory = match (theirs.kind, descriptor) {
        (SegmentKind::Sealed, Some(fd)) => segment::open_sealed(fd, theirs.capacity)?,
        (SegmentKind::Sealed, None) => {
            return Err(UpgradeError::Segment("no descriptor came with the greeting".into()));
        }
        (SegmentKind::Named, Some(_)) => return Err(UpgradeError::Segment("a descriptor came with a name".into())),
        #[cfg(feature = "shm-named")]
        (SegmentKind::Named, None) => segment::open_named(&theirs.name, theirs.capacity)?,
        #[cfg(not(feature = "shm-named"))]
        (SegmentKind::Named, None) => return Err(UpgradeError::Refused("named segments need the feature `shm-named`")),
    };
    let (mine, memory) = (ours.segment.memory, Arc::new(memory));
    let producer = Producer::new(mine.clone(), memory.clone(), ours.greeting.capacity, ours.greeting.start);
    let consumer = Consumer::new(mine.clone(), memory.clone(), theirs.capacity, theirs.start);
    let life = Life::of(peer).map_err(|source| UpgradeError::Io { what: "cannot watch the peer's process", source })?;
    let socket = io.socket().map_err(|source| UpgradeError::Io { what: "cannot set the socket up", source })?;
    #[allow(unused_mut, reason = "named segments add their events")]
    let mut bell = Doorbell::new(socket, life, (mine.clone(), memory.clone()), !theirs.never_sleeps);
    #[cfg(feature = "shm-named")]
    if let Some(event) = ours.event {
        let events = super::event::Events::new(event, memory.clone())
            .map_err(|source| UpgradeError::Io { what: "cannot open the peer's raw_sync event", source })?;
        bell.use_events(events);
    }
    let kind = match theirs.kind {
        SegmentKind::Sealed => TransportKind::Shm,
        SegmentKind::Named => TransportKind::ShmNamed,
    };
    Ok((Channel::new(producer, consumer, bell, (mine, memory), peer.clone(), kind), ours.segment.handle))
}

/// Sends a greeting or an answer; the descriptor goes along with its first byte.
async fn send(
    io: &impl Io,
    bytes: &[u8; GREETING_LEN],
    descriptor: Option<BorrowedFd<'_>>,
) -> Result<(), UpgradeError> {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += io
            .ready(Wanted::Write, |fd| {
                let descriptors = [descriptor.unwrap_or(fd)];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if descriptor.is_some() && sent == 0 {
                    control.push(SendAncillaryMessage::ScmRights(&descriptors));
                }
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::sendmsg(fd, &[IoSlice::new(&bytes[sent..])], &mut control, flags)
            })
            .await?;
    }
    Ok(())
}

/// Receives exactly a greeting and at most one descriptor. Stops early at what cannot become one.
async fn receive(io: &impl Io) -> Result<([u8; GREETING_LEN], Option<OwnedFd>), UpgradeError> {
    let mut bytes = [0; GREETING_LEN];
    let mut filled = 0;
    let mut descriptors = Vec::new();
    while filled < bytes.len() {
        let (n, truncated, more) = io
            .ready(Wanted::Read, |fd| {
                // Room for more than the one that we want, so that a surplus is seen; what has no room, the kernel closes.
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
                let mut into = [IoSliceMut::new(&mut bytes[filled..])];
                let message = rustix::net::recvmsg(fd, &mut into, &mut control, flags)?;
                let mut fds = Vec::new();
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(rights) = part {
                        fds.extend(rights);
                    }
                }
                Ok((message.bytes, message.flags.contains(ReturnFlags::CTRUNC), fds))
            })
            .await?;
        if n == 0 {
            return Err(UpgradeError::Closed);
        }
        filled += n;
        if truncated && more.len() < ROOM {
            // There was room, and still the kernel kept one back: it had no number to give it.
            let source = Errno::MFILE.into();
            return Err(UpgradeError::Io { what: "cannot take the peer's descriptor", source });
        }
        descriptors.extend(more);
        if truncated || descriptors.len() > 1 {
            return Err(UpgradeError::Segment("more than one descriptor came with the greeting".into()));
        }
        let start = filled.min(MAGIC.len());
        if bytes[..start] != MAGIC[..start] {
            let mut seen = [0; 8];
            seen[..start].copy_from_slice(&bytes[..start]);
            return Err(UpgradeError::Magic { seen, expected: MAGIC });
        }
    }
    Ok((bytes, descriptors.pop()))
}

/// [`Io`] of a thread: waits in the kernel, up to a deadline.
#[derive(Debug)]
pub(crate) struct BlockingIo {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) started: Instant,
    pub(crate) timeout: Duration,
}

impl BlockingIo {
    pub(crate) fn new(fd: Arc<OwnedFd>, timeout: Duration) -> Self {
        Self { fd, started: Instant::now(), timeout }
    }
}

impl Io for BlockingIo {
    /// A sleeper hears it alone for so long, which takes one system call, before it watches the peer's process as well.
    fn socket(&self) -> io::Result<Arc<dyn Socket>> {
        set_socket_timeout(&self.fd, Timeout::Recv, Some(HEARS_ALONE))?;
        Ok(self.fd.clone())
    }

    async fn ready<T: Send>(
        &self,
        wanted: Wanted,
        mut try_io: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T> + Send,
    ) -> Result<T, UpgradeError> {
        let flags = if wanted == Wanted::Read { PollFlags::IN } else { PollFlags::OUT };
        loop {
            match outcome(try_io(self.fd.as_fd())) {
                Some(result) => return result,
                None => {
                    let left = self.timeout.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero());
                    let left = left.ok_or(UpgradeError::TimedOut(self.timeout))?;
                    crate::socket::poll(&self.fd, flags, Some(left))
                        .map_err(|source| UpgradeError::Io { what: "poll", source })?;
                }
            }
        }
    }
}

/// Runs a handshake of the blocking face.
pub(crate) fn block_on<T>(handshake: impl Future<Output = T>) -> T {
    match pin!(handshake).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("the blocking face waits inside `ready`"),
    }
}

/// [`Io`] of a task. The deadline is the caller's: [`timed`].
#[derive(Debug)]
pub(crate) struct AsyncIo(pub(crate) Arc<UnixStream>);

impl AsyncIo {
    /// Must run on a tokio runtime with I/O enabled.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let stream = std::os::unix::net::UnixStream::from(fd);
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(|stream| Self(Arc::new(stream)))
    }
}

impl Io for AsyncIo {
    fn socket(&self) -> io::Result<Arc<dyn Socket>> {
        Ok(self.0.clone())
    }

    async fn ready<T: Send>(
        &self,
        wanted: Wanted,
        mut try_io: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<T> + Send,
    ) -> Result<T, UpgradeError> {
        let interest = if wanted == Wanted::Read { Interest::READABLE } else { Interest::WRITABLE };
        let done = self.0.async_io(interest, || match outcome(try_io(self.0.as_fd())) {
            Some(result) => Ok(result),
            None => Err(io::ErrorKind::WouldBlock.into()),
        });
        done.await.unwrap_or_else(|source| Err(UpgradeError::Io { what: "waiting for the socket", source }))
    }
}

/// A handshake of the async face, up to `timeout`.
pub(crate) async fn timed<T>(
    timeout: Duration,
    handshake: impl Future<Output = Result<T, UpgradeError>>,
) -> Result<T, UpgradeError> {
    tokio::time::timeout(timeout, handshake).await.unwrap_or(Err(UpgradeError::TimedOut(timeout)))
}

/// `None` for "not now".
fn outcome<T>(result: rustix::io::Result<T>) -> Option<Result<T, UpgradeError>> {
    match result {
        Ok(value) => Some(Ok(value)),
        Err(Errno::AGAIN | Errno::INTR) => None,
        Err(Errno::CONNRESET | Errno::PIPE) => Some(Err(UpgradeError::Closed)),
        Err(error) => {
            Some(Err(UpgradeError::Io { what: "the socket failed during the upgrade", source: error.into() }))
        }
    }
}

/// Descriptors that a greeting may come with before the kernel has to close some.
const ROOM: usize = 4;
const HEARS_ALONE: Duration = Duration::from_millis(50);
