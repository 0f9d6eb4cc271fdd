//! [`Lines`]: pages that were read, a bounded number of bytes of them. Knows no host and no writes.
//!
//! Pages are kept in lines: aligned stretches of a slot, of 512 bytes or one larger page, of which each page is there or
//! not. A read of any length then looks up one line for 512 bytes, not one page for 32.

use std::hash::{Hash, Hasher};

use super::{Map, PageSize};
use crate::protocol::{Account, SlotId, StorageMode};

/// Which line of which storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineKey {
    pub(super) slot: SlotId,
    pub(super) account: Account,
    pub(super) mode: StorageMode,
    /// Its number in the slot.
    pub(super) line: u32,
}

impl Hash for LineKey {
    /// All fields in words: foldhash takes those inline, and slices with a call.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slot.0.as_chunks().0.iter().for_each(|word| state.write_u64(u64::from_le_bytes(*word)));
        self.account.0.as_chunks().0.iter().for_each(|word| state.write_u32(u32::from_le_bytes(*word)));
        state.write_u64(u64::from(self.line) << 8 | self.mode as u64);
    }
}

/// Lines in frames of one size. When all frames are taken, the clock's hand goes round and takes the first one whose line
/// was not used since it last came by (second chance). A new line counts as unused until it is used again, so one long
/// read of something that is read once does not push out what is read often.
pub(super) struct Lines {
    /// Bytes of a page.
    page: usize,
    /// Bytes of a line.
    line: usize,
    /// How many frames there may be.
    most: usize,
    index: Map<LineKey, Line>,
    /// Which line each frame holds.
    frames: Vec<LineKey>,
    /// The frames' bytes, one after another.
    bytes: Vec<u8>,
    hand: usize,
}

struct Line {
    frame: u32,
    /// Bit `i`: whether page `i` of the line is there.
    present: u32,
    used: bool,
}

impl Lines {
    /// Room for `limit` bytes of lines. Memory follows the lines that are there.
    pub(super) fn new(page: PageSize, limit: usize) -> Self {
        let page = page.bytes() as usize;
        let line = page.max(LINE);
        let most = (limit / line).min(u32::MAX as usize);
        Self { page, line, most, index: Map::default(), frames: Vec::new(), bytes: Vec::new(), hand: 0 }
    }

    /// Bytes of a page.
    pub(super) fn page(&self) -> usize {
        self.page
    }

    /// Bytes of a line.
    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// How many bytes there may be.
    pub(super) fn limit(&self) -> usize {
        self.most * self.line
    }

    /// Whether all lines with one of `length` bytes from `index` on can be there at a time.
    pub(super) fn could_hold(&self, index: u32, length: usize) -> bool {
        length <= self.limit() && (index as usize & (self.line - 1)) + length <= self.limit()
    }

    /// The pages of a line, as bits, that have one of `length` bytes from `offset` on. `length` is not 0.
    pub(super) fn pages(&self, offset: usize, length: usize) -> u32 {
        let shift = self.page.trailing_zeros();
        let (first, last) = (offset >> shift, (offset + length - 1) >> shift);
        (u32::MAX >> (31 - (last - first))) << first
    }

    /// A line with at least one page, which of its pages are there, and its bytes; those of other pages are arbitrary and
    /// may be written to. The line counts as used.
    #[inline]
    pub(super) fn get(&mut self, key: &LineKey) -> Option<(u32, &mut [u8])> {
        let line = self.index.get_mut(key)?;
        line.used = true;
        Some((line.present, &mut self.bytes[line.frame as usize * self.line..][..self.line]))
    }

    /// Whether any of `pages` of a line is there.
    pub(super) fn any(&self, key: &LineKey, pages: u32) -> bool {
        self.index.get(key).is_some_and(|line| line.present & pages != 0)
    }

    /// Puts whole pages there, from `offset` in the line on. There has to be room for a line at all.
    pub(super) fn insert(&mut self, key: LineKey, offset: usize, bytes: &[u8]) {
        let pages = self.pages(offset, bytes.len());
        let frame = match self.index.get_mut(&key) {
            Some(line) => {
                line.present |= pages;
                line.frame
            }
            None => {
                let frame = self.take_frame(key);
                self.index.insert(key, Line { frame, present: pages, used: false });
                frame
            }
        };
        self.bytes[frame as usize * self.line + offset..][..bytes.len()].copy_from_slice(bytes);
    }

    /// A frame for a line that has none: a new one, or another line's.
    fn take_frame(&mut self, key: LineKey) -> u32 {
        let frames = self.frames.len();
        if frames < self.most {
            if frames == self.frames.capacity() {
                // By doubling, but not beyond the bound.
                let more = frames.max(FIRST).min(self.most - frames);
                self.frames.reserve_exact(more);
                self.bytes.reserve_exact(more * self.line);
            }
            self.frames.push(key);
            self.bytes.resize(self.bytes.len() + self.line, 0);
            return frames as u32;
        }
        loop {
            let at = self.hand;
            self.hand = (at + 1) % frames;
            let line = self.index.get_mut(&self.frames[at]).expect("a frame's line is in the index");
            if !std::mem::take(&mut line.used) {
                self.index.remove(&std::mem::replace(&mut self.frames[at], key));
                return at as u32;
            }
        }
    }
}

/// Bytes of a line of small pages. Most slots that contracts use are shorter; larger lines would waste memory on them.
const LINE: usize = 512;

/// How many frames are made at first.
const FIRST: usize = 16;

const _: () = assert!(LINE / PageSize::MIN.bytes() as usize <= u32::BITS as usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn key(line: u32) -> LineKey {
        LineKey { slot: SlotId([1; 32]), account: Account([2; 20]), mode: StorageMode::Default, line }
    }

    fn lines(count: usize) -> Lines {
        Lines::new(PageSize::MIN, count * LINE)
    }

    fn there(lines: &Lines) -> Vec<u32> {
        (0..100).filter(|line| lines.any(&key(*line), u32::MAX)).collect()
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let mut lines = lines(100);
        let keys = [
            key(0),
            key(1),
            LineKey { mode: StorageMode::LatestFinal, ..key(0) },
            LineKey { mode: StorageMode::LatestNonFinal, ..key(0) },
            LineKey { account: Account([3; 20]), ..key(0) },
            LineKey { slot: SlotId([3; 32]), ..key(0) },
        ];
        for (at, key) in keys.into_iter().enumerate() {
            lines.insert(key, 0, &[at as u8; LINE]);
        }
        for (at, key) in keys.into_iter().enumerate() {
            let (present, bytes) = lines.get(&key).unwrap();
            assert_eq!((present, &*bytes), (0xffff, &[at as u8; LINE][..]));
        }
    }

    #[test]
    fn pages_come_one_by_one_into_a_line() {
        let mut lines = lines(100);
        lines.insert(key(0), 64, &[1; 32]);
        lines.insert(key(0), 448, &[2; 64]);
        let (present, bytes) = lines.get(&key(0)).unwrap();
        assert_eq!(present, 1 << 2 | 0b11 << 14);
        assert_eq!((&bytes[64..96], &bytes[448..]), (&[1; 32][..], &[2; 64][..]));
        assert!(lines.any(&key(0), 1 << 2 | 1) && !lines.any(&key(0), 1 << 3 | 1) && !lines.any(&key(1), u32::MAX));
        // A line of another size is one page.
        let mut large = Lines::new(PageSize::MAX, 1 << 20);
        large.insert(key(0), 0, &[3; 4096]);
        assert_eq!(large.get(&key(0)).unwrap().0, 1);
    }

    #[test]
    fn pages_touched_are_bits() {
        let lines = lines(1);
        let bits =
            [(0, 1), (31, 1), (31, 2), (32, 32), (480, 32), (0, 512)].map(|(at, length)| lines.pages(at, length));
        assert_eq!(bits, [1, 1, 0b11, 0b10, 1 << 15, 0xffff]);
    }

    #[test]
    fn what_was_used_gets_a_second_chance() {
        let mut lines = lines(4);
        for line in 0..4 {
            lines.insert(key(line), 0, &[line as u8; LINE]);
        }
        for line in [0, 2] {
            lines.get(&key(line)).unwrap();
        }
        lines.insert(key(10), 0, &[10; LINE]);
        lines.insert(key(11), 0, &[11; LINE]);
        assert_eq!(there(&lines), [0, 2, 10, 11]);
        // The hand is behind 11 and starts over: 0 has had its chance.
        lines.insert(key(12), 0, &[12; LINE]);
        assert_eq!(there(&lines), [2, 10, 11, 12]);
        for line in [2, 10, 11, 12] {
            assert_eq!(lines.get(&key(line)).unwrap(), (0xffff, &mut [line as u8; LINE][..]));
        }
        // All were used: a round takes the marks off, and one of them goes.
        lines.insert(key(13), 0, &[13; LINE]);
        assert!(there(&lines).len() == 4 && there(&lines).contains(&13));
    }

    #[test]
    fn a_frame_forgets_the_pages_of_its_last_line() {
        let mut lines = lines(1);
        lines.insert(key(0), 0, &[1; LINE]);
        lines.insert(key(1), 32, &[2; 32]);
        assert_eq!(lines.get(&key(1)).unwrap().0, 0b10);
    }

    #[test]
    fn one_long_scan_does_not_push_out_what_is_used() {
        let mut lines = lines(8);
        lines.insert(key(0), 0, &[0; LINE]);
        for line in 1..90 {
            lines.get(&key(0)).unwrap();
            lines.insert(key(line), 0, &[0; LINE]);
        }
        assert!(there(&lines).contains(&0));
        assert_eq!(there(&lines).len(), 8);
    }

    #[test]
    fn memory_follows_the_lines_and_stops_at_the_bound() {
        let mut lines = Lines::new(PageSize::MIN, 1000 * LINE + 511);
        assert_eq!(lines.bytes.capacity(), 0);
        for line in 0..5000 {
            lines.insert(key(line), 0, &[0; LINE]);
            assert!(lines.bytes.capacity() <= 2 * lines.bytes.len().max(FIRST * LINE));
        }
        assert_eq!((lines.frames.len(), lines.frames.capacity(), lines.index.len()), (1000, 1000, 1000));
        assert_eq!(lines.bytes.capacity(), 1000 * LINE);
    }
}
