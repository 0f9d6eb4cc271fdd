//! Ways to wake another process behind one interface, [`Bell`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use serde::{Deserialize, Serialize};

use super::memory::{Page, PlacedEvent, two_pages};

/// One end of a pair of doorbells. A ring is never lost: it ends the wait that is going on, or the next one.
pub(super) trait Bell {
    /// Wakes the peer.
    fn ring(&self) -> io::Result<()>;

    /// Sleeps until the peer has rung since the last wait ended.
    fn wait(&mut self) -> io::Result<Heard>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The peer rang, so often as far as the mechanism counts.
    Rung(u64),
    /// The peer is gone.
    Gone,
}

/// A mechanism, and how its sleeper waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Socket,
    SocketPoll,
    Eventfd,
    EventfdPoll,
    Futex,
    RawSync,
}

/// Which process of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Near,
    Far,
}

impl Side {
    /// Which page is ours and which one is the peer's, where memory is shared.
    pub(super) fn pages(self) -> (u64, u64) {
        match self {
            Self::Near => (0, 1),
            Self::Far => (1, 0),
        }
    }
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Socket, Self::SocketPoll, Self::Eventfd, Self::EventfdPoll, Self::Futex, Self::RawSync];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::SocketPoll => "socket poll",
            Self::Eventfd => "eventfd",
            Self::EventfdPoll => "eventfd poll",
            Self::Futex => "futex",
            Self::RawSync => "raw_sync",
        }
    }

    /// What is known of it without measuring: how a tokio task awaits it; whether it works where each end can only read what the
    /// other one writes; descriptors that a connection needs at each end beyond the rendezvous socket; where it exists.
    pub(super) fn known(self) -> [&'static str; 4] {
        match self {
            Self::Socket | Self::SocketPoll => ["yes", "no memory", "0", "Unix"],
            Self::Eventfd | Self::EventfdPoll => ["AsyncFd", "no memory", "2", "Linux, BSD"],
            Self::Futex => ["no", "yes", "0", "Linux"],
            Self::RawSync => ["no", "no", "0", "Unix, Windows"],
        }
    }

    /// The descriptors of a new pair, for the near and for the far end.
    pub(super) fn create(self) -> io::Result<(Vec<OwnedFd>, Vec<OwnedFd>)> {
        match self {
            Self::Socket | Self::SocketPoll => {
                let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
                Ok((vec![near], vec![far]))
            }
            Self::Eventfd => {
                let (for_near, for_far) = (eventfd(0, EventfdFlags::CLOEXEC)?, eventfd(0, EventfdFlags::CLOEXEC)?);
                let far = vec![for_far.try_clone()?, for_near.try_clone()?];
                Ok((vec![for_near, for_far], far))
            }
            Self::EventfdPoll => {
                let ((mut near, mut far), sockets) = (Self::Eventfd.create()?, Self::Socket.create()?);
                near.extend(sockets.0);
                far.extend(sockets.1);
                Ok((near, far))
            }
            Self::Futex | Self::RawSync => {
                let memory = two_pages()?;
                Ok((vec![memory.try_clone()?], vec![memory]))
            }
        }
    }

    /// One end of a pair. The near one has to be opened first: it creates what lies in the memory.
    pub(super) fn open(self, side: Side, descriptors: Vec<OwnedFd>) -> Result<Box<dyn Bell>> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().with_context(|| format!("too few descriptors for {}", self.name()));
        let (ours, theirs) = side.pages();
        Ok(match self {
            Self::Socket => Box::new(Socket(next()?)),
            Self::SocketPoll => Box::new(SocketPoll(Socket(next()?))),
            Self::Eventfd => Box::new(Eventfd { ours: next()?, theirs: next()? }),
            Self::EventfdPoll => {
                let events = Eventfd { ours: next()?, theirs: next()? };
                Box::new(EventfdPoll { events, socket: next()? })
            }
            Self::Futex => {
                let memory = next()?;
                // As with sealed segments: each end writes into its own page and can only read the other.
                let (ours, theirs) = (Page::map(&memory, ours, true)?, Page::map(&memory, theirs, false)?);
                Box::new(Futex { heard: theirs.load(0), ours, theirs })
            }
            Self::RawSync => {
                let memory = next()?;
                let place = if side == Side::Near { PlacedEvent::create } else { PlacedEvent::existing };
                Box::new(RawSync {
                    ours: place(Page::map(&memory, ours, true)?)?,
                    theirs: place(Page::map(&memory, theirs, true)?)?,
                })
            }
        })
    }
}

/// One byte over a Unix stream socket, read by a `recv` that blocks.
struct Socket(OwnedFd);

impl Socket {
    fn receive(&self, flags: RecvFlags) -> rustix::io::Result<Heard> {
        let mut bytes = [0; 64];
        match retry_on_intr(|| recv(&self.0, &mut bytes[..], flags)) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Ok(Heard::Gone),
            Ok((bytes, _)) => Ok(Heard::Rung(bytes as u64)),
            Err(error) => Err(error),
        }
    }
}

impl Bell for Socket {
    fn ring(&self) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match retry_on_intr(|| send(&self.0, &[1], flags)) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()), // a full buffer holds bytes that ring already
            Err(error) => Err(error.into()),
        }
    }

    fn wait(&mut self) -> io::Result<Heard> {
        Ok(self.receive(RecvFlags::empty())?)
    }
}

/// The same, waited for by `poll`. Taking a byte out tells the ringer's socket that there is room again, and Linux wakes for that
/// whoever blocks in `recv` there, which is the ringer in its next sleep; a `poll` for input only sleeps on. One system call more
/// buys one wake-up less.
struct SocketPoll(Socket);

impl Bell for SocketPoll {
    fn ring(&self) -> io::Result<()> {
        self.0.ring()
    }

    fn wait(&mut self) -> io::Result<Heard> {
        loop {
            retry_on_intr(|| poll(&mut [PollFd::new(&self.0.0, PollFlags::IN)], None))?;
            match self.0.receive(RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => {}
                heard => return Ok(heard?),
            }
        }
    }
}

/// An eventfd for each direction.
struct Eventfd {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Bell for Eventfd {
    fn ring(&self) -> io::Result<()> {
        retry_on_intr(|| rustix::io::write(self.theirs.as_fd(), &1u64.to_ne_bytes()))?;
        Ok(())
    }

    fn wait(&mut self) -> io::Result<Heard> {
        let mut count = [0; 8];
        retry_on_intr(|| rustix::io::read(self.ours.as_fd(), &mut count))?;
        Ok(Heard::Rung(u64::from_ne_bytes(count)))
    }
}

/// The same, but the sleeper waits for it and for the end of the rendezvous socket: an eventfd that tells of the peer's death.
struct EventfdPoll {
    events: Eventfd,
    socket: OwnedFd,
}

impl Bell for EventfdPoll {
    fn ring(&self) -> io::Result<()> {
        self.events.ring()
    }

    fn wait(&mut self) -> io::Result<Heard> {
        let [rung, gone] = {
            let mut polled =
                [PollFd::new(&self.events.ours, PollFlags::IN), PollFd::new(&self.socket, PollFlags::empty())];
            retry_on_intr(|| poll(&mut polled, None))?;
            polled.map(|polled| !polled.revents().is_empty())
        };
        if gone && !rung { Ok(Heard::Gone) } else { self.events.wait() }
    }
}

/// A count of rings in the *ringer's* page; the sleeper has it mapped read-only and sleeps while the count is the one that it
/// knows. `FUTEX_WAKE` works on a read-only mapping as well, so a ringer could wake a sleeper on the sleeper's own word. But it
/// could not change that word, and a wake between the sleeper's last look and its `FUTEX_WAIT` would be lost.
struct Futex {
    ours: Page,
    theirs: Page,
    heard: u32,
}

impl Bell for Futex {
    fn ring(&self) -> io::Result<()> {
        self.ours.store(0, self.ours.load(0).wrapping_add(1));
        self.ours.wake()?;
        Ok(())
    }

    fn wait(&mut self) -> io::Result<Heard> {
        loop {
            let rings = self.theirs.load(0).wrapping_sub(self.heard);
            if rings != 0 {
                self.heard = self.heard.wrapping_add(rings);
                return Ok(Heard::Rung(rings.into()));
            }
            match self.theirs.sleep(self.heard, None) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A `raw_sync` event for each direction, waited for in slices: what `shm-named://` does.
struct RawSync {
    ours: PlacedEvent,
    theirs: PlacedEvent,
}

impl Bell for RawSync {
    fn ring(&self) -> io::Result<()> {
        self.theirs.set()
    }

    fn wait(&mut self) -> io::Result<Heard> {
        loop {
            // Beyond the next second the crate's deadline overflows and the wait returns at once. It looks at the clock itself, a
            // little later than we do: without the margin it would spin through the last slice of each second.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
            let left_of_second = Duration::from_nanos(u64::from(1_000_000_000 - now));
            if self.ours.wait(SLICE.min(left_of_second.saturating_sub(MARGIN))) {
                return Ok(Heard::Rung(1));
            }
        }
    }
}

/// Expects a ring, not the end of the peer.
pub(super) fn rung(heard: Heard) -> Result<u64> {
    match heard {
        Heard::Rung(times) => Ok(times),
        Heard::Gone => bail!("the other process is gone"),
    }
}

const SLICE: Duration = Duration::from_millis(100);
const MARGIN: Duration = Duration::from_micros(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_wait_ends_it_and_nothing_is_left_over() {
        for kind in Kind::ALL {
            let (near, far) = kind.create().expect("descriptors");
            let mut near = kind.open(Side::Near, near).expect("near");
            let mut far = kind.open(Side::Far, far).expect("far");
            for rings in [1, 3, 1] {
                (0..rings).for_each(|_| near.ring().expect("ring"));
                let counted = if kind == Kind::RawSync { 1 } else { rings };
                assert_eq!(far.wait().expect("wait"), Heard::Rung(counted), "{kind:?}");
                far.ring().expect("ring");
                assert_eq!(near.wait().expect("wait"), Heard::Rung(1), "{kind:?}");
            }
        }
    }

    #[test]
    fn where_a_socket_is_waited_for_the_peers_end_is_told() {
        for kind in [Kind::Socket, Kind::SocketPoll, Kind::EventfdPoll] {
            let (near, far) = kind.create().expect("descriptors");
            let mut near = kind.open(Side::Near, near).expect("near");
            drop(far);
            assert_eq!(near.wait().expect("wait"), Heard::Gone);
            // An eventfd takes the ring and says nothing.
            assert_eq!(near.ring().is_err(), kind != Kind::EventfdPoll, "{kind:?}");
        }
    }
}
