//! Waking a peer that sleeps: [`Doorbell`].
//!
//! An end that is about to sleep **arms** its bell (a word in its own segment), looks once more whether there is work, and
//! only then sleeps. An end that has published something looks at the peer's bell and **rings** if it is armed. Neither
//! happens while both are awake, except for the look. This module does **not** know the ring.
//!
//! Two threads of two processes, each storing its own word and then loading the other's, need a full fence between the
//! two: without it both loads may see the past, and the sleeper sleeps for ever next to its data.
//!
//! ```text
//! sleeper: BELL = armed;   fence;  anything in the ring? → no → sleep on the socket
//! ringer:  ring = record;  fence;  BELL armed?           → yes → one byte into the socket
//! ```
//!
//! The bell is the rendezvous socket: one byte rings, end of file says that the peer is gone, tokio can await it. The word
//! counts arms, so that a sleeper is rung once an arm however much is published before it is awake.
//!
//! A child that the peer forked may hold the socket open beyond the peer's death, and nothing would ever be read from it. So
//! every look at the socket that finds nothing is a look at [`Life`], too.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::layout::BELL;
use super::life::Life;
use super::mapping::Mapping;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::full_fence;

/// What carries a ring to a sleeper. Only sleepers and those who wake them touch it.
pub(crate) trait Socket: std::fmt::Debug + Send + Sync {
    /// Sends a byte, unless there are as many on their way as it holds. Who cannot ring for another reason hangs up: the sleeper would
    /// never hear of what was published.
    fn ring(&self);
    /// Takes bytes that rang; if there are none, waits for one, up to the socket's own timeout, or says so.
    fn hear(&self, wait: bool) -> io::Result<Heard>;
    /// Waits until `hear` would not wait, or the peer is dead, up to `timeout`.
    fn wait(&self, life: &Life, timeout: Option<Duration>) -> io::Result<()>;
    /// Ends the connection for both sides.
    fn hang_up(&self);
}

/// The rendezvous socket, as a thread's descriptor or as a tokio stream.
impl<T: AsFd + std::fmt::Debug + Send + Sync> Socket for T {
    fn ring(&self) {
        loop {
            match rustix::net::send(self, &[1], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                // A full buffer holds bytes that ring already; a peer that is gone is noticed by the next look.
                Ok(_) | Err(Errno::AGAIN | Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return,
                // No memory for it, or a filter of system calls that came after connecting.
                Err(_) => return self.hang_up(),
            }
        }
    }

    fn hear(&self, wait: bool) -> io::Result<Heard> {
        let flags = if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        // Bytes that ring may have piled up; what is left over rings once more, which is harmless.
        let mut bytes = [MaybeUninit::<u8>::uninit(); 1024];
        match rustix::net::recv(self, &mut bytes[..], flags) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => Ok(Heard::Gone),
            Ok(_) => Ok(Heard::Ring),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Heard::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&self, life: &Life, timeout: Option<Duration>) -> io::Result<()> {
        let socket = PollFd::new(self, PollFlags::IN);
        match life.pidfd() {
            Some(pidfd) => crate::socket::poll_any(&mut [socket, PollFd::new(pidfd, PollFlags::IN)], timeout),
            None => crate::socket::poll_any(&mut [socket], timeout),
        }
    }

    fn hang_up(&self) {
        let _ = rustix::net::shutdown(self, rustix::net::Shutdown::Both);
    }
}

/// One end's bell and its way to ring the peer's.
#[derive(Debug)]
pub(crate) struct Doorbell {
    socket: Arc<dyn Socket>,
    life: Life,
    ours: Arc<Mapping>,
    theirs: Arc<Mapping>,
    /// Our word: a count of arms, shifted; the low bits are flags.
    word: u64,
    /// The peer's word that we rang for last.
    rung: u64,
    /// A peer that declared to spin for ever never arms: no fence, no look.
    peer_sleeps: bool,
    #[cfg(feature = "shm-named")]
    events: Option<super::event::Events>,
}

pub(super) const ARMED: u64 = 1;
/// The sleeper waits on its event and not on the socket.
#[cfg(feature = "shm-named")]
pub(super) const BY_EVENT: u64 = 2;
pub(super) const ONE_ARM: u64 = 4;

/// What the socket said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing; the peer lives.
    Nothing,
    /// The peer rang.
    Ring,
    /// The peer closed, or died: the kernel says so, of the socket or of the process.
    Gone,
}

impl Doorbell {
    pub(crate) fn new(
        socket: Arc<dyn Socket>,
        life: Life,
        (ours, theirs): (Arc<Mapping>, Arc<Mapping>),
        peer_sleeps: bool,
    ) -> Self {
        Self {
            socket,
            life,
            ours,
            theirs,
            word: 0,
            rung: 0,
            peer_sleeps,
            #[cfg(feature = "shm-named")]
            events: None,
        }
    }

    /// From now on a blocking sleeper of this end waits on its `raw_sync` event, and the peer's is rung when it does.
    #[cfg(feature = "shm-named")]
    pub(crate) fn use_events(&mut self, events: super::event::Events) {
        self.events = Some(events);
    }

    /// Announces that we are about to sleep. The caller then looks for work once more: what was published before this
    /// call's fence is seen by that look, what is published after it rings.
    pub(crate) fn arm(&mut self, how: Sleep) {
        self.word = (self.word & !(ONE_ARM - 1)).wrapping_add(ONE_ARM) | ARMED | self.flags(how);
        self.ours.store(BELL, self.word, Relaxed);
        // EDGE sleep: pairs with the fence in `ring`.
        full_fence();
    }

    /// Announces that we are awake.
    pub(crate) fn disarm(&mut self) {
        if self.is_armed() {
            self.word &= !(ONE_ARM - 1);
            self.ours.store(BELL, self.word, Relaxed);
        }
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.word & ARMED != 0
    }

    /// Wakes the peer if it sleeps. Call it after each publication.
    #[inline]
    pub(crate) fn ring(&mut self) {
        if !self.peer_sleeps {
            return;
        }
        // EDGE sleep: pairs with the fence in `arm`.
        full_fence();
        let word = self.theirs.load(BELL, Relaxed);
        if word & ARMED != 0 && word != self.rung {
            self.rung = word;
            self.really_ring(word);
        }
    }

    /// Sleeps until rung, or until the peer is gone, or up to `timeout` (`None`: for ever).
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<Heard> {
        #[cfg(feature = "shm-named")]
        if let Some(events) = &self.events {
            events.wait(timeout);
            return self.look();
        }
        // One system call, as a socket would take, unless it takes long.
        if timeout.is_none() {
            let heard = self.socket.hear(true)?;
            if heard != Heard::Nothing {
                return Ok(heard);
            }
        }
        self.socket.wait(&self.life, timeout)?;
        self.look()
    }

    /// Takes bytes that rang out of the socket, without waiting.
    pub(crate) fn look(&mut self) -> io::Result<Heard> {
        match self.socket.hear(false)? {
            // After this look nothing new is in the ring: who is dead published it before.
            Heard::Nothing if self.life.is_over() => Ok(Heard::Gone),
            heard => Ok(heard),
        }
    }

    /// The peer's life, for a task to await the end of.
    pub(crate) fn life(&self) -> &Life {
        &self.life
    }

    /// Ends the connection for both sides, for good.
    pub(crate) fn hang_up(&self) {
        self.socket.hang_up();
    }

    #[cold]
    fn really_ring(&mut self, word: u64) {
        #[cfg(feature = "shm-named")]
        if word & BY_EVENT != 0 {
            if let Some(events) = &self.events {
                events.ring();
            }
            return;
        }
        #[cfg(not(feature = "shm-named"))]
        let _ = word;
        self.socket.ring();
    }

    fn flags(&self, how: Sleep) -> u64 {
        match how {
            #[cfg(feature = "shm-named")]
            Sleep::Blocking if self.events.is_some() => BY_EVENT,
            Sleep::Blocking | Sleep::Async => 0,
        }
    }
}

/// Which face is about to sleep: a `raw_sync` event can wake a thread, but no task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sleep {
    Blocking,
    Async,
}

#[cfg(all(test, target_os = "linux", not(genvm_loom)))]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    #[test]
    fn who_cannot_ring_hangs_up() {
        // Nobody is there: an error that a stream's socket never gives.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        drop(theirs);
        let is_hung_up = || {
            let mut sockets = [PollFd::new(&ours, PollFlags::RDHUP)];
            rustix::event::poll(&mut sockets, Some(&Default::default())).unwrap();
            sockets[0].revents().contains(PollFlags::HUP)
        };
        assert!(!is_hung_up());
        ours.ring();
        assert!(is_hung_up());
    }

    #[test]
    fn a_socket_full_of_rings_is_rung() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (0..10_000).for_each(|_| ours.ring());
        assert_eq!((ours.hear(false).unwrap(), theirs.hear(false).unwrap()), (Heard::Nothing, Heard::Ring));
    }
}
