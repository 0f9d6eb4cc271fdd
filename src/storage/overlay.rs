//! [`Overlay`]: which bytes of its own storage the execution has written, and what they are, byte by byte.

use super::Map;
use crate::protocol::{Delta, SlotId, parts};

/// Deferred writes, in aligned pieces of 64 bytes.
#[derive(Default)]
pub(super) struct Overlay {
    pieces: Map<(SlotId, u32), Piece>,
}

struct Piece {
    /// Bit `i`: whether byte `i` was written. Never 0.
    written: u64,
    bytes: [u8; PIECE],
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many bytes the pieces have that are kept.
    pub(super) fn size(&self) -> usize {
        self.pieces.len() * PIECE
    }

    /// How many bytes a write would add to the [`size`](Self::size).
    pub(super) fn growth(&self, slot: &SlotId, index: u32, length: usize) -> usize {
        let missing = |part: &u32| !self.pieces.contains_key(&(*slot, *part));
        parts(index, length, PIECE).map(|(part, ..)| part).filter(missing).count() * PIECE
    }

    pub(super) fn write(&mut self, slot: &SlotId, index: u32, data: &[u8]) {
        for (part, offset, range) in parts(index, data.len(), PIECE) {
            let piece = self.pieces.entry((*slot, part)).or_insert(Piece { written: 0, bytes: [0; PIECE] });
            piece.written |= mask(offset, range.len());
            piece.bytes[offset..][..range.len()].copy_from_slice(&data[range]);
        }
    }

    /// Fills `out` if every byte of it was written.
    pub(super) fn read(&self, slot: &SlotId, index: u32, out: &mut [u8]) -> bool {
        !self.is_empty()
            && parts(index, out.len(), PIECE).all(|(part, offset, range)| {
                let wanted = mask(offset, range.len());
                let piece = self.pieces.get(&(*slot, part)).filter(|piece| piece.written & wanted == wanted);
                piece.map(|piece| out[range.clone()].copy_from_slice(&piece.bytes[offset..][..range.len()])).is_some()
            })
    }

    /// Puts what was written over `bytes`, which the host has from `index` on.
    pub(super) fn apply(&self, slot: &SlotId, index: u32, bytes: &mut [u8]) {
        if self.is_empty() {
            return;
        }
        for (part, offset, range) in parts(index, bytes.len(), PIECE) {
            if let Some(piece) = self.pieces.get(&(*slot, part)) {
                let bytes = &mut bytes[range.clone()];
                for (start, length) in runs(piece.written & mask(offset, range.len())) {
                    bytes[start - offset..][..length].copy_from_slice(&piece.bytes[start..][..length]);
                }
            }
        }
    }

    /// Forgets bytes, whether they were written or not.
    pub(super) fn forget(&mut self, slot: &SlotId, index: u32, length: usize) {
        for (part, offset, range) in parts(index, length, PIECE) {
            if let Some(piece) = self.pieces.get_mut(&(*slot, part)) {
                piece.written &= !mask(offset, range.len());
                if piece.written == 0 {
                    self.pieces.remove(&(*slot, part));
                }
            }
        }
    }

    /// Sorted by slot and index; what touches is one.
    pub(super) fn deltas(&self) -> Vec<Delta> {
        let mut pieces: Vec<_> = self.pieces.iter().collect();
        pieces.sort_unstable_by_key(|(place, _)| **place);
        let mut deltas: Vec<Delta> = Vec::new();
        for ((slot, part), piece) in pieces {
            for (start, length) in runs(piece.written) {
                let index = part * PIECE as u32 + start as u32;
                let data = &piece.bytes[start..][..length];
                match deltas.last_mut() {
                    Some(last) if last.slot == *slot && end(last) == u64::from(index) => {
                        last.data.extend_from_slice(data)
                    }
                    _ => deltas.push(Delta { slot: *slot, index, data: data.to_vec() }),
                }
            }
        }
        deltas
    }
}

fn end(delta: &Delta) -> u64 {
    u64::from(delta.index) + delta.data.len() as u64
}

/// `length` bits from `offset` on; at least one, at most up to the last.
fn mask(offset: usize, length: usize) -> u64 {
    (u64::MAX >> (PIECE - length)) << offset
}

/// The runs of ones in `bits`, from the lowest: where each starts and how long it is.
fn runs(mut bits: u64) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let start = bits.trailing_zeros();
        (bits != 0).then(|| {
            let length = (bits >> start).trailing_ones();
            bits &= !mask(start as usize, length as usize);
            (start as usize, length as usize)
        })
    })
}

/// As many bytes as a mask has bits.
const PIECE: usize = u64::BITS as usize;

#[cfg(test)]
mod tests {
    use super::*;

    const A: SlotId = SlotId([1; 32]);
    const B: SlotId = SlotId([2; 32]);

    fn delta(slot: SlotId, index: u32, data: &[u8]) -> Delta {
        Delta { slot, index, data: data.to_vec() }
    }

    #[test]
    fn runs_are_found_at_both_ends() {
        assert_eq!(runs(0).count(), 0);
        assert_eq!(runs(u64::MAX).collect::<Vec<_>>(), [(0, 64)]);
        assert_eq!(runs(1 << 63 | 0b1101).collect::<Vec<_>>(), [(0, 1), (2, 2), (63, 1)]);
    }

    #[test]
    fn deltas_are_sorted_and_joined_across_pieces() {
        let mut overlay = Overlay::default();
        overlay.write(&B, 60, &[1; 10]);
        overlay.write(&A, u32::MAX, &[2]);
        overlay.write(&B, 70, &[3; 60]);
        overlay.write(&B, 131, &[4]);
        overlay.write(&A, 0, &[]);
        overlay.write(&A, u32::MAX - 1, &[5]);
        overlay.write(&B, 65, &[6; 2]);
        let joined = [&[1; 5][..], &[6; 2], &[1; 3], &[3; 60]].concat();
        assert_eq!(overlay.deltas(), [delta(A, u32::MAX - 1, &[5, 2]), delta(B, 60, &joined), delta(B, 131, &[4])]);
    }

    #[test]
    fn the_end_of_one_slot_does_not_join_the_start_of_the_next() {
        let mut overlay = Overlay::default();
        overlay.write(&A, u32::MAX, &[1]);
        overlay.write(&B, 0, &[2]);
        assert_eq!(overlay.deltas(), [delta(A, u32::MAX, &[1]), delta(B, 0, &[2])]);
    }

    #[test]
    fn reads_only_what_is_all_there_and_applies_what_is() {
        let mut overlay = Overlay::default();
        assert!(!overlay.read(&A, 0, &mut []), "an empty overlay has nothing to say");
        overlay.write(&A, 10, &[7; 100]);
        let mut out = [0; 100];
        assert!(overlay.read(&A, 10, &mut out));
        assert_eq!(out, [7; 100]);
        for (slot, index) in [(A, 9), (A, 11), (B, 10)] {
            assert!(!overlay.read(&slot, index, &mut out));
        }
        let mut bytes = [1; 120];
        overlay.apply(&A, 0, &mut bytes);
        assert_eq!((&bytes[..10], &bytes[10..110], &bytes[110..]), (&[1; 10][..], &[7; 100][..], &[1; 10][..]));
    }

    #[test]
    fn what_is_forgotten_leaves_no_room_taken() {
        let mut overlay = Overlay::default();
        overlay.write(&A, 0, &[7; 200]);
        assert_eq!((overlay.size(), overlay.growth(&A, 100, 200), overlay.growth(&B, 63, 2)), (256, 64, 128));
        overlay.forget(&A, 0, 130);
        assert_eq!((overlay.size(), overlay.deltas()), (128, vec![delta(A, 130, &[7; 70])]));
        overlay.forget(&A, 100, 1000);
        assert!(overlay.is_empty());
    }
}
