//! [`AsyncShmStream`]: the tokio face of a shared-memory connection.
//!
//! Waiting is cooperative: a few polls in place, then the task wakes itself and lets others run until its budget is used up,
//! then it arms the doorbell and awaits the socket. It never blocks the runtime; where the strategy yields the processor, the
//! runtime's thread yields it, since the peer may have nowhere else to run.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};

use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::Sleep as Timer;

use super::channel::{Channel, Tried, Wanted};
use super::doorbell::{Heard, Sleep};
use crate::options::StreamOptions;
use crate::peer::{Peer, TransportKind};
use crate::transport::AsyncStream;
use crate::wait::{Backoff, Step, Streak, WaitStrategy, one_core};

/// A connected shared-memory stream for a tokio task.
///
/// # Cancel safety
/// Reads and writes are as cancel safe as those of tokio's sockets: what a dropped future was given is nowhere lost.
#[derive(Debug)]
pub struct AsyncShmStream {
    socket: Arc<UnixStream>,
    /// The peer's process: readable, for good, when it is dead.
    life: Option<AsyncFd<Arc<OwnedFd>>>,
    channel: Channel,
    wait: WaitStrategy,
    alone: bool,
    reading: Waiting,
    writing: Waiting,
    wakers: Arc<Wakers>,
    /// A waker made of `wakers`: the socket has a place for one, and reader and writer may be two tasks.
    both: Waker,
    /// From a peer that rings in vain: until then nobody listens.
    rest: Option<Pin<Box<Timer>>>,
    streak: Streak,
}

/// A wait of one direction, across polls.
#[derive(Debug, Default)]
struct Waiting {
    backoff: Option<Backoff>,
    parked: bool,
}

impl AsyncShmStream {
    /// `socket` is the one that the channel's doorbell rings through. Must run on a tokio runtime with I/O and time enabled.
    pub(crate) fn new(channel: Channel, socket: Arc<UnixStream>, options: &StreamOptions) -> io::Result<Self> {
        let wakers = Arc::new(Wakers::default());
        Ok(Self {
            life: channel.bell.life().watched()?,
            socket,
            alone: one_core(&channel.peer),
            channel,
            wait: options.wait.unwrap_or_default(),
            reading: Waiting::default(),
            writing: Waiting::default(),
            both: Waker::from(wakers.clone()),
            wakers,
            rest: None,
            streak: Streak::default(),
        })
    }

    /// Tries until `attempt` has something or a wake-up is arranged.
    fn poll_until<T>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: Wanted,
        mut attempt: impl FnMut(&mut Channel) -> io::Result<Option<T>>,
    ) -> Poll<io::Result<T>> {
        if self.streak.is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(done) = attempt(&mut self.channel)? {
                self.streak.ready();
                self.stop_waiting(wanted);
                return Poll::Ready(Ok(done));
            }
            if self.poll_wait(cx, wanted)?.is_pending() {
                self.streak.waited();
                return Poll::Pending;
            }
        }
    }

    /// After a fruitless try: `Ready` to try again at once, `Pending` once a wake-up is arranged.
    fn poll_wait(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<io::Result<()>> {
        let (wait, alone) = (self.wait, self.alone);
        let backoff = self.waiting(wanted).backoff.get_or_insert_with(|| Backoff::new(wait, alone));
        let (step, fresh, check_peer) = (backoff.step(), backoff.is_fresh(), backoff.check_peer());
        if step == Step::Yield {
            backoff.yield_core();
        }
        if check_peer && self.channel.look()? == Heard::Ring {
            // That byte may have been meant for the other direction, which then never hears of it.
            self.wakers.wake_by_ref();
        }
        match step {
            Step::Poll if fresh => Poll::Ready(Ok(())),
            Step::Poll | Step::Yield => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Step::Park => self.poll_park(cx, wanted),
        }
    }

    fn poll_park(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<io::Result<()>> {
        self.wakers.set(wanted, cx.waker());
        self.waiting(wanted).parked = true;
        let mut both = Context::from_waker(&self.both);
        if let Some(rest) = self.channel.rest() {
            self.rest = Some(Box::pin(tokio::time::sleep(rest)));
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(&mut both));
            self.rest = None;
        }
        if !self.channel.arm_unless(wanted, Sleep::Async)? {
            return Poll::Ready(Ok(()));
        }
        if let Some(life) = &self.life
            && life.poll_read_ready(&mut both)?.is_ready()
        {
            return Poll::Ready(self.channel.look().map(drop));
        }
        loop {
            ready!(self.socket.poll_read_ready(&mut both))?;
            // `WouldBlock` makes tokio forget the readiness, and the next round registers the waker.
            let heard = self.socket.try_io(Interest::READABLE, || match self.channel.look()? {
                Heard::Nothing => Err(io::ErrorKind::WouldBlock.into()),
                Heard::Ring | Heard::Gone => Ok(()),
            });
            match heard {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                heard => return Poll::Ready(heard),
            }
        }
    }

    /// The bell stays armed as long as the other direction sleeps.
    fn stop_waiting(&mut self, wanted: Wanted) {
        *self.waiting(wanted) = Waiting::default();
        if !self.reading.parked && !self.writing.parked {
            self.channel.disarm();
        }
    }

    fn waiting(&mut self, wanted: Wanted) -> &mut Waiting {
        match wanted {
            Wanted::Bytes => &mut self.reading,
            Wanted::Room => &mut self.writing,
        }
    }
}

impl AsyncRead for AsyncShmStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        this.channel.publish();
        let n =
            ready!(this.poll_until(cx, Wanted::Bytes, |channel| match channel.try_read(out.initialize_unfilled())? {
                Tried::Bytes(n) => Ok(Some(n)),
                Tried::End => Ok(Some(0)),
                Tried::Nothing => Ok(None),
            }))?;
        out.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for AsyncShmStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.get_mut().poll_until(cx, Wanted::Room, |channel| match channel.try_write(bytes)? {
            0 => Ok(None),
            n => Ok(Some(n)),
        })
    }

    /// Never waits: what was written lies in the ring already.
    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.channel.flush())
    }

    /// The peer reads the end of the stream after what was written, and may still write.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.channel.finish();
        Poll::Ready(Ok(()))
    }
}

impl AsyncStream for AsyncShmStream {
    fn peer(&self) -> &Peer {
        &self.channel.peer
    }

    fn kind(&self) -> TransportKind {
        self.channel.kind
    }
}

/// Who waits in which direction. Waking it wakes both: neither the doorbell nor a first byte says for whom it is.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<[Option<Waker>; 2]>);

impl Wakers {
    pub(super) fn set(&self, wanted: Wanted, waker: &Waker) {
        let place = &mut self.0.lock()[wanted as usize];
        match place {
            Some(old) => old.clone_from(waker),
            None => *place = Some(waker.clone()),
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = std::mem::take(&mut *self.0.lock());
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
