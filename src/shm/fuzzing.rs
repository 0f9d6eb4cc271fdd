//! What the fuzz targets `ring` and `greeting` do with their input: they need what is private in here. Compiled for tests and
//! under `--cfg genvm_fuzz` only.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::channel::{Channel, Tried, Wanted};
use super::doorbell::{Doorbell, Heard, Sleep};
use super::handshake::{GREETING_LEN, Greeting};
use super::layout::{BELL, CONSUMED, FINISHED, HEADER, LINE, POSITION_MASK, RING, lines, segment_len};
use super::life::Life;
use super::mapping::Mapping;
use super::rendezvous::{BlockingIo, Terms, answer, block_on, greet};
use super::ring::{Consumer, Producer, RingFault};
use super::segment::{Handle, Segment, SegmentKind, open_sealed};
use crate::error::UpgradeError;
use crate::options::RingCapacity;
use crate::peer::{Peer, TransportKind};
use crate::sync::atomic::Ordering::Relaxed;

/// Both ends of a connection, and somebody who stores what the input says into any word of either segment between their steps.
///
/// Nothing panics, every error is of a documented kind, and as long as nothing but a bell was touched, bytes arrive as they were
/// sent, all that were published.
pub fn ring(input: &[u8]) {
    let mut input = Input(input);
    let Some(setup) = input.byte() else { return };
    let starts = [1, 62, POSITION_MASK, POSITION_MASK - 70].map(|start| start & POSITION_MASK);
    let starts = [starts[usize::from(setup & 3)], starts[usize::from(setup >> 2 & 3)]];
    let capacity = [RingCapacity::MIN, RingCapacity::new(16 << 10).expect("a capacity")][usize::from(setup >> 4 & 1)];
    let mut ends = connection(capacity, starts);
    let mut lied = false;
    let mut out = [0; MOST];
    while let Some(step) = input.byte() {
        let [a, b] = &mut ends;
        let (us, them) = if step & 1 == 0 { (a, b) } else { (b, a) };
        let done = match step >> 1 & 7 {
            0 | 1 => us.write(input.size(), lied),
            2 => us.read(&mut out[..input.size()], them, lied),
            3 => {
                us.channel.publish();
                us.visible = us.sent.len();
                us.channel.flush()
            }
            4 => us.arm(if step & 16 == 0 { Wanted::Bytes } else { Wanted::Room }, them, lied),
            5 => {
                us.channel.disarm();
                us.channel.look().map(|heard| assert!(heard != Heard::Gone || lied))
            }
            6 if step & 16 != 0 => {
                us.channel.finish();
                us.finished = true;
                us.visible = us.sent.len();
                Ok(())
            }
            _ => {
                let (offset, value) = input.lie(capacity, starts);
                us.memory.store(offset, value, Relaxed);
                lied |= offset != BELL;
                Ok(())
            }
        };
        if let Err(error) = done {
            check(&error, us, lied);
        }
    }
}

/// One end, and what is known of the bytes that it sends.
struct End {
    channel: Channel,
    memory: Arc<Mapping>,
    /// Taken from us and not read by the other end.
    sent: VecDeque<u8>,
    /// How many of these the other end must see.
    visible: usize,
    next: u8,
    finished: bool,
}

impl End {
    fn write(&mut self, size: usize, lied: bool) -> io::Result<()> {
        let bytes = &BYTES[self.next.into()..][..size];
        self.next = self.next.wrapping_add(17);
        let taken = self.channel.try_write(bytes)?;
        assert!(taken <= size);
        if !lied {
            assert!(taken > 0 || !self.sent.is_empty(), "an empty ring is full");
            self.sent.extend(&bytes[..taken]);
        }
        Ok(())
    }

    fn read(&mut self, out: &mut [u8], them: &mut Self, lied: bool) -> io::Result<()> {
        match self.channel.try_read(out)? {
            Tried::Bytes(n) => {
                assert!(0 < n && n <= out.len());
                if !lied {
                    let (front, back) = them.sent.as_slices();
                    let (first, rest) = out[..n].split_at(n.min(front.len()));
                    assert!(front.starts_with(first) && back.starts_with(rest));
                    them.sent.drain(..n);
                    them.visible = them.visible.saturating_sub(n);
                }
            }
            Tried::Nothing => assert!(lied || them.visible == 0),
            Tried::End => assert!(lied || them.finished && them.sent.is_empty()),
        }
        Ok(())
    }

    fn arm(&mut self, wanted: Wanted, them: &Self, lied: bool) -> io::Result<()> {
        let may_sleep = self.channel.arm_unless(wanted, Sleep::Blocking)?;
        let nothing_to_do = match wanted {
            Wanted::Bytes => them.visible == 0,
            Wanted::Room => !self.sent.is_empty(),
        };
        assert!(!may_sleep || nothing_to_do || lied);
        Ok(())
    }
}

/// A fault is the answer to a lie, a broken pipe to one's own end or the other's hanging up on a liar; there is nothing else.
fn check(error: &io::Error, us: &End, lied: bool) {
    let fault = error.get_ref().and_then(|source| source.downcast_ref::<RingFault>());
    match error.kind() {
        io::ErrorKind::InvalidData => assert!(lied && fault.is_some(), "{error}"),
        io::ErrorKind::BrokenPipe => assert!(lied || us.finished, "{error}"),
        _ => panic!("{error}"),
    }
}

/// Two ends in one process, on sealed segments that each can write only its own of.
fn connection(capacity: RingCapacity, starts: [u64; 2]) -> [End; 2] {
    let (a, b) = UnixStream::pair().expect("a pair");
    let [(a_segment, a_seen), (b_segment, b_seen)] = segments(capacity);
    let end = |socket: UnixStream, ours: Arc<Mapping>, theirs: Arc<Mapping>, starts: [u64; 2]| {
        let consumer = Consumer::new(ours.clone(), theirs.clone(), capacity, starts[1]);
        let producer = Producer::new(ours.clone(), theirs.clone(), capacity, starts[0]);
        let bell = Doorbell::new(Arc::new(OwnedFd::from(socket)), Life::UNKNOWN, (ours.clone(), theirs.clone()), true);
        let peer = Peer::Unknown;
        let channel = Channel::new(producer, consumer, bell, (ours.clone(), theirs), peer, TransportKind::Shm);
        End { channel, memory: ours, sent: VecDeque::new(), visible: 0, next: 0, finished: false }
    };
    [end(a, a_segment, b_seen, starts), end(b, b_segment, a_seen, [starts[1], starts[0]])]
}

/// A segment as its owner has it, and as the peer does.
type Shared = (Arc<Mapping>, Arc<Mapping>);

/// Two fresh segments: wiped ones of earlier runs, because making them takes longer than all the rest.
fn segments(capacity: RingCapacity) -> [Shared; 2] {
    thread_local! {
        static KEPT: RefCell<Vec<(RingCapacity, [Shared; 2])>> = const { RefCell::new(Vec::new()) };
    }
    let kept = KEPT.with_borrow(|kept| kept.iter().find(|(of, _)| *of == capacity).map(|(_, both)| both.clone()));
    if let Some(both) = kept {
        both.iter().for_each(|(memory, _)| memory.copy_in(0, &vec![0; memory.len()]));
        return both;
    }
    let both = [(); 2].map(|()| {
        let segment = Segment::create(SegmentKind::Sealed, capacity).expect("a segment");
        let seen = open_sealed(descriptor(segment.handle), capacity).expect("a sound one");
        (segment.memory, Arc::new(seen))
    });
    KEPT.with_borrow_mut(|kept| kept.push((capacity, both.clone())));
    both
}

fn descriptor(handle: Handle) -> OwnedFd {
    match handle {
        Handle::Descriptor(fd) => fd,
        #[cfg(feature = "shm-named")]
        Handle::Name(_) => unreachable!("sealed segments have none"),
    }
}

/// A greeting or an answer with the input's bits flipped, cut where it says, with any descriptors: it is taken if nothing is
/// wrong with it, and an error of the right kind otherwise. What decodes is encoded to the same bytes.
pub fn greeting(input: &[u8]) {
    let mut input = Input(input);
    let [Some(how), Some(cut)] = [input.byte(), input.byte()] else { return };
    let (kind, never_sleeps, capacity) = (SegmentKind::Sealed, false, RingCapacity::MIN);
    let mut bytes = Greeting { kind, never_sleeps, capacity, start: 1, name: String::new() }.encode();
    bytes.iter_mut().zip(input.0).for_each(|(byte, flip)| *byte ^= flip);
    let decoded = Greeting::decode(&bytes);
    if let Ok(greeting) = &decoded {
        assert_eq!(greeting.encode(), bytes);
    }
    let cut = GREETING_LEN.saturating_sub(usize::from(cut));
    let agreed = decoded.ok().filter(|greeting| cut == GREETING_LEN && greeting.kind == SegmentKind::Sealed);

    let capacity = agreed.as_ref().map_or(RingCapacity::MIN, |greeting| greeting.capacity);
    let other = if capacity == RingCapacity::MIN { RingCapacity::DEFAULT } else { RingCapacity::MIN };
    let sealed = |capacity| descriptor(Segment::create(SegmentKind::Sealed, capacity).expect("a segment").handle);
    let descriptors: Vec<OwnedFd> = match how >> 1 & 7 {
        0..4 => vec![sealed(capacity)],
        4 => vec![],
        5 => vec![sealed(capacity), sealed(capacity)],
        6 => vec![sealed(other)],
        _ => vec![UnixStream::pair().expect("a pair").0.into()],
    };
    let sound = agreed.is_some() && how >> 1 & 7 < 4;

    // All that the peer says is there before we look, so nothing has to be waited for.
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    say(&theirs, &bytes[..cut], &descriptors);
    theirs.shutdown(Shutdown::Write).expect("shutdown");
    let io = BlockingIo::new(Arc::new(ours.into()), Duration::from_secs(10));
    let terms = Terms { kind: SegmentKind::Sealed, capacity: RingCapacity::MIN, never_sleeps: false };
    let peer = Peer::Unknown;
    let result = if how & 1 == 0 { block_on(answer(&io, &peer, &terms)) } else { block_on(greet(&io, &peer, &terms)) };
    match result {
        Ok(mut channel) => {
            assert!(sound);
            assert_eq!(channel.try_read(&mut [0]).expect("no lie yet"), Tried::Nothing);
            assert_eq!(channel.look().expect("a look"), Heard::Gone);
        }
        Err(UpgradeError::Io { what, source }) => panic!("{what}: {source}"),
        Err(error) => assert!(!sound && !matches!(error, UpgradeError::TimedOut(_)), "{error}"),
    }
}

fn say(socket: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    assert_eq!(sent, Ok(bytes.len()));
}

/// The fuzzer's bytes, read as decisions.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.0.split_off_first().copied()
    }

    /// Zeros at the end.
    fn number(&mut self, bytes: usize) -> u64 {
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte().unwrap_or(0)))
    }

    /// Of a read or a write: never zero, mostly small.
    fn size(&mut self) -> usize {
        match self.byte().unwrap_or(0) {
            small @ 0..224 => usize::from(small) + 1,
            large => (usize::from(large) - 223) * MOST / 32,
        }
    }

    /// A word, and what to store there: something that is nearly right, or anything.
    fn lie(&mut self, capacity: RingCapacity, starts: [u64; 2]) -> (usize, u64) {
        let how = self.byte().unwrap_or(0);
        let delta = self.number(1) as i8;
        let near = |lines: i8| starts[usize::from(how >> 3 & 1)].wrapping_add_signed(lines.into()) & POSITION_MASK;
        let header = |position: u64| RING + (position % lines(capacity)) as usize * LINE;
        match how & 7 {
            0 => (BELL, self.number(8)),
            1 => (FINISHED, self.number(8)),
            2 => (CONSUMED, near(delta)),
            3 => (CONSUMED, self.number(8)),
            4 | 5 => (header(near(delta / 8)), near(delta / 8) << 16 | self.number(2)),
            6 => (header(near(delta / 8)), self.number(8)),
            _ => ((self.number(2) as usize * HEADER) % segment_len(capacity), self.number(8)),
        }
    }
}

/// The longest read or write: more than the longest record.
const MOST: usize = 9000;

/// What is written starts anywhere in the first 256 of these. Ready-made and compared as a whole: a loop over bytes is counted byte by byte,
/// and took most of the time.
static BYTES: [u8; 256 + MOST] = {
    let mut bytes = [0; 256 + MOST];
    let (mut at, mut state) = (0, 1u32);
    while at < bytes.len() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes[at] = (state >> 24) as u8;
        at += 1;
    }
    bytes
};
