//! Where everything lies in a segment, and how long a record may be. Numbers only.
//!
//! Each end owns one segment; it alone writes into it, the peer maps it read-only.
//!
//! | offset | size | what | written |
//! | ---: | ---: | --- | --- |
//! | 0 | 8 | `BELL`: whether the owner sleeps, see [`doorbell`](super::doorbell) | when the owner goes to sleep or wakes |
//! | 64 | 8 | `FINISHED`: 1 once the owner will write no more | once |
//! | 128 | 8 | `CONSUMED`: how far the owner has read the *peer's* ring, in lines | every quarter of that ring |
//! | 256 | 256 | `EVENT`: a `raw_sync` event (named segments only) | by `raw_sync` |
//! | 4096 | capacity | `RING`: the records that the owner writes | with every record |
//!
//! `BELL` and `CONSUMED` are read by the peer at different times, hence lines (and prefetch pairs of lines) of their own.

use crate::options::RingCapacity;

/// Version of the greeting, the segment and the ring together. Any change to one of them raises it.
pub(crate) const VERSION: u16 = 1;

pub(crate) const BELL: usize = 0;
pub(crate) const FINISHED: usize = 64;
pub(crate) const CONSUMED: usize = 128;
#[cfg(feature = "shm-named")]
pub(crate) const EVENT: usize = 256;
#[cfg(feature = "shm-named")]
pub(crate) const EVENT_SIZE: usize = 256;
pub(crate) const RING: usize = 4096;

/// Records start on lines; this is also the unit of every position. The model checker tries the orders of all accesses, hence
/// its lines of two words.
pub(crate) const LINE: usize = if cfg!(genvm_loom) { 16 } else { 64 };
/// The word in front of a record's payload: 48 bits of position, 16 bits of payload length.
pub(crate) const HEADER: usize = 8;
/// Positions count lines modulo 2^48.
pub(crate) const POSITION_BITS: u32 = 48;
pub(crate) const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;

const _: () = assert!(CONSUMED - BELL >= 128 && RING - CONSUMED >= 128);
#[cfg(feature = "shm-named")]
const _: () = assert!(EVENT - CONSUMED >= 128 && EVENT + EVENT_SIZE <= RING);
const _: () = assert!(RING.is_multiple_of(LINE) && HEADER == size_of::<u64>());
const _: () = assert!((RingCapacity::MAX.bytes() as u64 / LINE as u64) < 1 << (POSITION_BITS - 2));

/// Size of the whole segment for a ring of `capacity`.
pub(crate) const fn segment_len(capacity: RingCapacity) -> usize {
    RING + capacity.bytes() as usize
}

/// Lines of a ring of `capacity`.
pub(crate) const fn lines(capacity: RingCapacity) -> u64 {
    capacity.bytes() as u64 / LINE as u64
}

/// The longest record, in lines: 8 KiB, so that the reader of a large write copies while the writer still writes, and
/// at most a quarter of the ring, so that both have something to do.
pub(crate) const fn max_record_lines(capacity: RingCapacity) -> u64 {
    let quarter = lines(capacity) / 4;
    if quarter < 128 { quarter } else { 128 }
}

const _: () = assert!(128 * LINE <= u16::MAX as usize);
