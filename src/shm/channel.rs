//! [`Channel`]: one end of a connection, both rings and the doorbell together, without any waiting.
//!
//! Here the first lie of the peer becomes the last: it poisons the connection for both directions, and every later call
//! says so again.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::doorbell::{Doorbell, Heard, Sleep};
use super::layout::FINISHED;
use super::mapping::Mapping;
use super::ring::{Consumer, Producer, RingFault};
use super::segment::Handle;
use crate::peer::{Peer, TransportKind};
use crate::sync::atomic::Ordering::{Acquire, Release};

/// What the blocking and the async stream have in common. Nothing in here blocks, except [`sleep`](Self::sleep).
#[derive(Debug)]
pub(crate) struct Channel {
    pub(super) producer: Producer,
    pub(super) consumer: Consumer,
    pub(super) bell: Doorbell,
    pub(super) ours: Arc<Mapping>,
    pub(super) theirs: Arc<Mapping>,
    pub(super) peer: Peer,
    pub(super) kind: TransportKind,
    vain: Vain,
    fault: Option<RingFault>,
    /// The kernel said that the peer's end of the socket is closed: nothing more will be published.
    gone: bool,
    /// The peer promised to write no more. It may still read.
    peer_finished: bool,
    /// We promised to write no more.
    finished: bool,
    /// Removed with the connection, unless the peer has removed it when it had mapped the segment, as it should.
    #[cfg(feature = "shm-named")]
    name: Option<super::segment::Name>,
}

/// What a try to read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// So many bytes; at least one.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl Channel {
    pub(super) fn new(
        producer: Producer,
        consumer: Consumer,
        bell: Doorbell,
        (ours, theirs): (Arc<Mapping>, Arc<Mapping>),
        peer: Peer,
        kind: TransportKind,
    ) -> Self {
        Self {
            producer,
            consumer,
            bell,
            ours,
            theirs,
            peer,
            kind,
            vain: Vain::default(),
            fault: None,
            gone: false,
            peer_finished: false,
            finished: false,
            #[cfg(feature = "shm-named")]
            name: None,
        }
    }

    /// Keeps a name as long as the peer may still have to open it. A descriptor was sent and may go.
    pub(super) fn keeping(#[allow(unused_mut, reason = "named segments")] mut self, handle: Handle) -> Self {
        match handle {
            Handle::Descriptor(_) => {}
            #[cfg(feature = "shm-named")]
            Handle::Name(name) => self.name = Some(name),
        }
        self
    }

    /// Copies out what is there.
    #[inline]
    pub(crate) fn try_read(&mut self, out: &mut [u8]) -> io::Result<Tried> {
        self.check()?;
        let read = match self.consumer.read(out) {
            Ok(read) => read,
            Err(fault) => return Err(self.poison(fault)),
        };
        if read.released {
            self.bell.ring();
        }
        match read.bytes {
            // Whatever was published before the peer went was in the ring by the time its going became known.
            0 if self.gone || self.peer_finished => Ok(Tried::End),
            0 => Ok(Tried::Nothing),
            n => Ok(Tried::Bytes(n)),
        }
    }

    /// Takes as much as there is room for, 0 if there is none now.
    #[inline]
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        if self.gone || self.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let wrote = match self.producer.write(bytes) {
            Ok(wrote) => wrote,
            Err(fault) => return Err(self.poison(fault)),
        };
        if wrote.published {
            self.bell.ring();
        }
        Ok(wrote.taken)
    }

    /// Makes everything written visible, and wakes the peer if it sleeps.
    #[inline]
    pub(crate) fn publish(&mut self) {
        if self.producer.publish() {
            self.bell.ring();
        }
    }

    /// [`publish`](Self::publish), and an error if nobody is there to read it or the connection is poisoned.
    #[inline]
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.publish();
        self.check()?;
        if self.gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Announces that nothing more will be written; the peer reads the end of the stream after what was written.
    pub(crate) fn finish(&mut self) {
        if !self.finished {
            self.producer.publish();
            self.finished = true;
            // EDGE finished: pairs with the Acquire load in `learn_finished`; what was published lies before it.
            self.ours.store(FINISHED, 1, Release);
            self.bell.ring();
        }
    }

    /// Asks the kernel whether the peer is still there or rang, and the peer whether it is finished. A system call.
    pub(crate) fn look(&mut self) -> io::Result<Heard> {
        self.learn_finished();
        let heard = if self.gone { Heard::Gone } else { self.bell.look()? };
        self.note(heard);
        Ok(heard)
    }

    /// Arms the bell and looks once more. Only after `true` may the caller sleep; either way it
    /// [disarms](Self::disarm) when nobody of this end sleeps any more.
    pub(crate) fn arm_unless(&mut self, wanted: Wanted, how: Sleep) -> io::Result<bool> {
        self.check()?;
        self.bell.arm(how);
        let there = match wanted {
            // A peer that finished before we armed did not ring.
            Wanted::Bytes => self.consumer.has_bytes().map(|bytes| bytes || self.learn_finished()),
            Wanted::Room => self.producer.has_room(),
        };
        let there = there.map_err(|fault| self.poison(fault))?;
        Ok(!there && !self.gone)
    }

    pub(crate) fn disarm(&mut self) {
        self.bell.disarm();
    }

    /// Sleeps after [`arm_unless`](Self::arm_unless) said so; the blocking face only.
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let heard = self.bell.sleep(timeout)?;
        self.note(heard);
        Ok(())
    }

    /// How long the caller should wait, deaf to the bell, before it arms it again: the peer has rung in vain too often.
    pub(crate) fn rest(&mut self) -> Option<Duration> {
        std::mem::take(&mut self.vain.rest).then_some(REST)
    }

    fn note(&mut self, heard: Heard) {
        self.gone = heard == Heard::Gone;
        if heard == Heard::Ring {
            self.vain.rung([self.consumer.position(), self.producer.position()]);
        }
    }

    fn learn_finished(&mut self) -> bool {
        // EDGE finished: pairs with the Release store in `finish`.
        self.peer_finished = self.peer_finished || self.theirs.load(FINISHED, Acquire) != 0;
        self.peer_finished
    }

    #[inline]
    fn check(&self) -> io::Result<()> {
        match self.fault {
            None => Ok(()),
            Some(fault) => Err(invalid_data(fault)),
        }
    }

    #[cold]
    fn poison(&mut self, fault: RingFault) -> io::Error {
        self.fault = Some(fault);
        self.bell.hang_up();
        invalid_data(fault)
    }
}

/// Rings in a row between which nothing was read or written. A peer that means well causes some: it rings late, or for who waits for
/// the other direction. One that rings without end would have us wake without end.
#[derive(Debug, Default)]
struct Vain {
    rings: u32,
    /// Where both rings were when it last rang.
    positions: [u64; 2],
    rest: bool,
}

impl Vain {
    fn rung(&mut self, positions: [u64; 2]) {
        self.rings = if positions == self.positions { self.rings.saturating_add(1) } else { 0 };
        self.positions = positions;
        self.rest = self.rings > PATIENCE;
    }
}

/// A peer of this crate rings in vain a handful of times at most, another perhaps for each record that it reads.
const PATIENCE: u32 = 256;
/// Makes a storm a few hundred wake-ups a second, and a timeout late by no more than that.
const REST: Duration = Duration::from_millis(5);

/// What a sleeper waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Bytes,
    Room,
}

#[cold]
fn invalid_data(fault: RingFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}

impl Drop for Channel {
    /// What was written is published, as far as it lies in the ring: it does, whole. Then the socket closes, and that is
    /// what the peer hears.
    fn drop(&mut self) {
        if self.fault.is_none() {
            self.publish();
        }
    }
}
