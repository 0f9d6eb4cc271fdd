//! [`parts`]: a place in a slot, cut into pages. The in-memory host keeps a slot so, and a cache in front of a host.

use std::ops::Range;

/// Cuts `length` bytes from `index` on at multiples of `size`, a power of two: the number of the part, the offset in it,
/// and which of the `length` bytes lie there. The caller has checked that they do not go beyond 2^32.
#[inline]
pub(crate) fn parts(index: u32, length: usize, size: usize) -> impl Iterator<Item = (u32, usize, Range<usize>)> {
    debug_assert!(size.is_power_of_two());
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = u64::from(index) + done as u64;
        let offset = at as usize & (size - 1);
        let range = done..length.min(done + size - offset);
        done = range.end;
        (!range.is_empty()).then_some(((at >> size.trailing_zeros()) as u32, offset, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_meet_without_gaps_up_to_the_last_byte() {
        for (index, length) in [(0, 0), (0, 1), (31, 2), (32, 64), (u32::MAX - 40, 41), (u32::MAX, 1)] {
            let mut at = u64::from(index);
            for (part, offset, range) in parts(index, length, 32) {
                assert_eq!(u64::from(part) * 32 + offset as u64, at);
                assert_eq!(u64::from(index) + range.start as u64, at);
                assert!(!range.is_empty() && offset + range.len() <= 32);
                at += range.len() as u64;
            }
            assert_eq!(at, u64::from(index) + length as u64);
        }
    }
}
