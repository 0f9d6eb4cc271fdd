//! A single-producer, single-consumer ring of byte records in shared memory: [`Producer`] and [`Consumer`].
//!
//! It does **not** wait, wake or know a socket: [`blocking`](super::blocking) and [`asynchronous`](super::asynchronous)
//! wait, [`doorbell`](super::doorbell) wakes. It carries a byte stream: a record is a unit of publication, not a message.
//!
//! A record starts on a 64-byte line. Its first word is `position << 16 | length` and is stored last; the payload follows
//! in the same line, so that one line carries a message of up to 56 bytes together with its signal. The position counts lines from a
//! random start that only the two ends know. The consumer polls for exactly the position that it expects next: nothing has
//! to be cleared, the consumer writes nothing into the producer's memory, and left-over payload of an earlier lap, which a
//! contract may have chosen, cannot pass for a record except by guessing 48 bits. Records never wrap: at the end of the
//! ring one is cut short and the stream goes on in the next.
//!
//! Two edges order everything:
//!
//! - **record-visible**: the producer's Release store of the header word pairs with the consumer's Acquire load of it. Before
//!   it the payload is written, after it the payload is read.
//! - **room-visible**: the consumer's Release store of `CONSUMED` pairs with the producer's Acquire load of it. Before it
//!   the payload was copied out, after it the lines are written anew.

use std::sync::Arc;

use super::layout::{self, CONSUMED, HEADER, LINE, POSITION_MASK, RING};
use super::mapping::Mapping;
use crate::options::RingCapacity;
use crate::sync::atomic::Ordering::{Acquire, Release};

/// The peer wrote something that the protocol of the ring does not allow. The connection is of no use afterwards.
///
/// On the data path it is the source of an [`io::Error`](std::io::Error) of kind `InvalidData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingFault {
    /// A record's length is 0, or more than a record may have at its place.
    #[error("a record at line {position} claims {seen} bytes, allowed are 1 to {max}")]
    Length {
        /// Position of the record, in lines.
        position: u64,
        /// What the header says.
        seen: u64,
        /// The longest payload allowed there.
        max: u64,
    },
    /// The consumer claims to have read what was never written, or to have un-read something.
    #[error("the peer claims to have read up to line {seen}; known before: {known}, written: {written}")]
    Consumed {
        /// What it claims.
        seen: u64,
        /// The last claim that was checked.
        known: u64,
        /// Up to where we have published.
        written: u64,
    },
}

/// The writing side of a ring that lies in this end's own segment.
#[derive(Debug)]
pub(crate) struct Producer {
    /// Our segment: the ring that we write.
    ours: Arc<Mapping>,
    /// The peer's segment: how far it has read.
    theirs: Arc<Mapping>,
    /// Where the open record starts; everything before is published.
    position: u64,
    /// Payload bytes in the open record, those in `first` included.
    staged: usize,
    /// Payload bytes that the open record can take; 0 while it is not known whether there is room for one.
    limit: usize,
    /// Free lines from `position` on, up to the end of the ring at most: as many as are known without another look.
    ready: u64,
    /// The last checked `CONSUMED`; looked up again only when `ready` is used up.
    consumed: u64,
    lines: u64,
    max_record_lines: u64,
    /// The first lines of the open record. The consumer polls them, and would take them away again and again if they were
    /// written before the header is; so they stay here until `publish` writes all of them at once. Beyond what is staged they hold
    /// bytes of earlier records, which the peer has had before, or zeros.
    first: FirstLines,
}

impl Producer {
    /// `start` is the position agreed on in the handshake; both segments are fresh.
    pub(crate) fn new(ours: Arc<Mapping>, theirs: Arc<Mapping>, capacity: RingCapacity, start: u64) -> Self {
        assert!(ours.len() >= layout::segment_len(capacity) && start <= POSITION_MASK);
        Self {
            ours,
            theirs,
            position: start,
            staged: 0,
            limit: 0,
            ready: 0,
            consumed: start,
            lines: layout::lines(capacity),
            max_record_lines: layout::max_record_lines(capacity),
            first: FirstLines([0; STAGED]),
        }
    }

    /// Bytes of the ring, headers included.
    pub(crate) fn capacity(&self) -> usize {
        self.lines as usize * LINE
    }

    /// Up to where everything is published.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes as much of `bytes` as there is room for, 0 if there is none. Full records are published on the way; the rest
    /// stays invisible until [`publish`](Self::publish).
    #[inline]
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<Wrote, RingFault> {
        if bytes.len() < self.limit - self.staged {
            self.stage(bytes);
            return Ok(Wrote { taken: bytes.len(), published: false });
        }
        self.write_pieces(bytes)
    }

    #[inline(never)]
    fn write_pieces(&mut self, bytes: &[u8]) -> Result<Wrote, RingFault> {
        let mut wrote = Wrote { taken: 0, published: false };
        while wrote.taken < bytes.len() {
            if self.limit == 0 && !self.open()? {
                break;
            }
            let n = (self.limit - self.staged).min(bytes.len() - wrote.taken);
            self.stage(&bytes[wrote.taken..wrote.taken + n]);
            wrote.taken += n;
            if self.staged == self.limit {
                wrote.published |= self.publish();
            }
        }
        Ok(wrote)
    }

    /// Makes everything written visible. Says whether there was anything.
    #[inline]
    pub(crate) fn publish(&mut self) -> bool {
        let there_is = self.staged > 0;
        if there_is {
            self.publish_staged();
        }
        there_is
    }

    fn publish_staged(&mut self) {
        let header = self.position << 16 | self.staged as u64;
        // EDGE record-visible: pairs with the Acquire load in `Consumer::has_bytes`. Whole lines whatever is staged: a known
        // number of words is a few instructions.
        if self.staged <= LINE - HEADER {
            self.ours.publish_lines(self.offset(), &self.first.0[..LINE], header);
        } else {
            self.ours.publish_lines(self.offset(), &self.first.0, header);
        }
        let lines = record_lines(self.staged);
        self.position = (self.position + lines) & POSITION_MASK;
        self.ready -= lines;
        self.staged = 0;
        self.limit = if self.ready >= self.max_record_lines { payload(self.max_record_lines) } else { 0 };
    }

    /// Whether `write` would take at least one byte.
    pub(crate) fn has_room(&mut self) -> Result<bool, RingFault> {
        Ok(self.limit > self.staged || self.open()?)
    }

    /// Appends to the open record, which has room for it.
    #[inline]
    fn stage(&mut self, bytes: &[u8]) {
        let at = HEADER + self.staged;
        if self.staged == 0 {
            // The other end has these lines, and they are on their way by the time that `publish` writes them. The one that it polls
            // comes last: every look at it takes it away again.
            if at + bytes.len() > LINE {
                self.ours.prefetch_to_write(self.offset() + LINE);
            }
            self.ours.prefetch_to_write(self.offset());
        }
        self.staged += bytes.len();
        match self.first.0.get_mut(at..at + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => return self.stage_beyond(at, bytes),
        }
        // A word that is loaded whole waits for the cache if it was stored in parts. So the last one is stored once more, whole.
        let parts = (at + bytes.len()) % WORD;
        if let Some(last) = bytes.last_chunk()
            && let Some(word) = self.first.0.as_chunks_mut().0.get_mut((at + bytes.len()) / WORD)
            && parts > 0
        {
            *word = (u64::from_le_bytes(*last) >> (8 * (WORD - parts))).to_le_bytes();
        }
    }

    /// [`stage`](Self::stage) of what goes beyond the first lines: the rest has its place in the ring.
    fn stage_beyond(&mut self, at: usize, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(STAGED.saturating_sub(at));
        self.first.0[STAGED - first.len()..].copy_from_slice(first);
        self.ours.copy_in(self.offset() + at + first.len(), rest);
    }

    /// Finds room for the record that starts where the last one ended, unless it is open already. Says whether there was any.
    /// Looks at the peer's word only when the last known value leaves too few lines for the longest record.
    #[cold]
    fn open(&mut self) -> Result<bool, RingFault> {
        if self.free() < self.max_record_lines {
            // EDGE room-visible: pairs with the Release store in `Consumer::release`.
            let seen = self.theirs.load(CONSUMED, Acquire);
            let ahead = seen.wrapping_sub(self.consumed) & POSITION_MASK;
            let used = self.position.wrapping_sub(self.consumed) & POSITION_MASK;
            // Zero is fresh memory, unless the positions have come round to it: a host may write before its client has got so far
            // as to say where it starts.
            if seen != 0 || ahead <= used {
                if seen > POSITION_MASK || ahead > used {
                    return Err(RingFault::Consumed { seen, known: self.consumed, written: self.position });
                }
                self.consumed = seen;
            }
        }
        let to_end = self.lines - (self.position & (self.lines - 1));
        self.ready = self.free().min(to_end);
        if self.staged == 0 {
            self.limit = payload(self.ready.min(self.max_record_lines));
        }
        Ok(self.limit > self.staged)
    }

    /// Free lines, as far as is known.
    fn free(&self) -> u64 {
        self.lines - (self.position.wrapping_sub(self.consumed) & POSITION_MASK)
    }

    #[inline]
    fn offset(&self) -> usize {
        RING + (self.position & (self.lines - 1)) as usize * LINE
    }
}

/// Bytes of an open record that stay private until it is published: two lines, enough for the requests and answers that there
/// are most of.
const STAGED: usize = 2 * LINE;

#[derive(Debug)]
#[repr(align(64))]
struct FirstLines([u8; STAGED]);

const WORD: usize = size_of::<u64>();

/// What [`Producer::write`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrote {
    /// Bytes taken.
    pub(crate) taken: usize,
    /// Whether some of them became visible, so that the doorbell is due.
    pub(crate) published: bool,
}

/// The reading side of a ring that lies in the peer's segment.
#[derive(Debug)]
pub(crate) struct Consumer {
    /// Our segment: where we say how far we have read.
    ours: Arc<Mapping>,
    /// The peer's segment: the ring that we read.
    theirs: Arc<Mapping>,
    lines: u64,
    max_record_lines: u64,
    /// The record that is being read, or expected next.
    position: u64,
    /// What we last said in `CONSUMED`.
    released: u64,
    /// Checked payload length of the record at `position`; 0 while it has not been seen.
    length: usize,
    /// How much of it was copied out.
    taken: usize,
}

impl Consumer {
    /// `capacity` and `start` are the peer's, checked in the handshake.
    pub(crate) fn new(ours: Arc<Mapping>, theirs: Arc<Mapping>, capacity: RingCapacity, start: u64) -> Self {
        assert!(theirs.len() >= layout::segment_len(capacity) && start <= POSITION_MASK);
        // Nobody reads this word before the handshake is over.
        ours.store(CONSUMED, start, Release);
        Self {
            ours,
            theirs,
            lines: layout::lines(capacity),
            max_record_lines: layout::max_record_lines(capacity),
            position: start,
            released: start,
            length: 0,
            taken: 0,
        }
    }

    /// Where the record is that is read, or expected next.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Copies out what is there, up to the end of a record or the size of `out`; 0 if there is nothing.
    ///
    /// It does not look at the next record: nearly always that has not been written, and the look would cost the transfer of
    /// a cache line in front of whatever the caller does with these bytes. But while there is nothing, it has the next two lines
    /// on their way: a request of more than 56 bytes lies on both, and fetching the second only after the first has been looked
    /// at would cost the transfer of a line on top.
    #[inline]
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<Read, RingFault> {
        if self.length == 0 {
            let next = (self.position + 1) & (self.lines - 1);
            self.theirs.prefetch(RING + next as usize * LINE);
            if !self.has_bytes()? {
                return Ok(Read { bytes: 0, released: false });
            }
        }
        let n = (self.length - self.taken).min(out.len());
        self.theirs.copy_out(self.offset() + HEADER + self.taken, &mut out[..n]);
        self.taken += n;
        let mut released = false;
        if self.taken == self.length {
            self.position = (self.position + record_lines(self.length)) & POSITION_MASK;
            self.length = 0;
            self.taken = 0;
            released = self.release();
        }
        Ok(Read { bytes: n, released })
    }

    /// Whether `read` would return at least one byte.
    #[inline]
    pub(crate) fn has_bytes(&mut self) -> Result<bool, RingFault> {
        if self.length > 0 {
            return Ok(true);
        }
        // EDGE record-visible: pairs with the Release store in `Producer::publish`. Read once, into a local.
        let header = self.theirs.load(self.offset(), Acquire);
        if header >> 16 != self.position {
            return Ok(false);
        }
        let length = header & 0xffff;
        let to_end = self.lines - (self.position & (self.lines - 1));
        let max = to_end.min(self.max_record_lines) * LINE as u64 - HEADER as u64;
        if length == 0 || length > max {
            return self.no_record(header, max);
        }
        self.length = length as usize;
        Ok(true)
    }

    #[cold]
    fn no_record(&self, header: u64, max: u64) -> Result<bool, RingFault> {
        // The one position that untouched memory, or a payload of zeros, can be mistaken for: it comes up once in 2^48.
        if header == 0 {
            return Ok(false);
        }
        Err(RingFault::Length { position: self.position, seen: header & 0xffff, max })
    }

    /// Says how far we have read, every quarter of the ring: rarely enough to cost nothing, often enough that a producer
    /// which sees a full ring has at least three quarters that we have yet to read, and thus will hear of.
    #[inline]
    fn release(&mut self) -> bool {
        if self.position.wrapping_sub(self.released) & POSITION_MASK < self.lines / 4 {
            return false;
        }
        // EDGE room-visible: pairs with the Acquire load in `Producer::open`.
        self.ours.store(CONSUMED, self.position, Release);
        self.released = self.position;
        true
    }

    #[inline]
    fn offset(&self) -> usize {
        RING + (self.position & (self.lines - 1)) as usize * LINE
    }
}

/// What [`Consumer::read`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Read {
    /// Bytes copied out.
    pub(crate) bytes: usize,
    /// Whether room was given back, so that the doorbell is due.
    pub(crate) released: bool,
}

/// Payload bytes that fit into a record of so many lines.
#[inline]
fn payload(lines: u64) -> usize {
    (lines as usize * LINE).saturating_sub(HEADER)
}

/// Lines that a record with `payload` bytes covers.
#[inline]
fn record_lines(payload: usize) -> u64 {
    (HEADER + payload).div_ceil(LINE) as u64
}
