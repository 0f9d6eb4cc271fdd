//! [`SparseBytes`]: the bytes of one slot, 4 GiB of zeros with something written in places. [`Ranges`]: which places.

use std::collections::BTreeMap;

/// A sparse byte array of 2^32 bytes. A write takes memory for what it touches, in units of at most 4 KiB.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseBytes {
    /// The first page, as far as it was written: nearly every slot is shorter than this.
    head: Vec<u8>,
    /// All other pages, by number.
    pages: BTreeMap<u32, Box<[u8; PAGE]>>,
}

impl SparseBytes {
    /// Copies out; what was never written is zero. `index + out.len()` is at most 2^32.
    #[inline]
    pub(super) fn read(&self, index: u32, out: &mut [u8]) {
        let start = index as usize;
        if let Some(found) = self.head.get(start..).and_then(|head| head.get(..out.len())) {
            out.copy_from_slice(found);
        } else {
            self.read_across(start, out);
        }
    }

    fn read_across(&self, index: usize, out: &mut [u8]) {
        for (page, at, part) in parts(index, out.len()) {
            let out = &mut out[part];
            let found = match page {
                0 => self.head.get(at..).unwrap_or_default(),
                page => self.pages.get(&page).map_or(&[][..], |page| &page[at..]),
            };
            let n = found.len().min(out.len());
            out[..n].copy_from_slice(&found[..n]);
            out[n..].fill(0);
        }
    }

    /// `index + data.len()` is at most 2^32.
    pub(super) fn write(&mut self, index: u32, data: &[u8]) {
        for (page, at, part) in parts(index as usize, data.len()) {
            let data = &data[part];
            let place = match page {
                0 => {
                    if self.head.len() < at + data.len() {
                        self.head.resize(at + data.len(), 0);
                    }
                    &mut self.head[..]
                }
                page => &mut self.pages.entry(page).or_insert_with(|| Box::new([0; PAGE]))[..],
            };
            place[at..at + data.len()].copy_from_slice(data);
        }
    }
}

/// The pages that `len` bytes at `index` touch: page number, offset in it, and which of the bytes.
fn parts(index: usize, len: usize) -> impl Iterator<Item = (u32, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let (page, at) = ((index + done) / PAGE, (index + done) % PAGE);
        let part = done..len.min(done + PAGE - at);
        done = part.end;
        (!part.is_empty()).then_some((page as u32, at, part))
    })
}

const PAGE: usize = 4096;

/// Ranges of a slot, sorted, coalesced where they touch.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds `start..end`.
    pub(super) fn insert(&mut self, mut start: u64, mut end: u64) {
        if start == end {
            return;
        }
        while let Some((&from, &to)) = self.0.range(..=end).next_back()
            && to >= start
        {
            start = start.min(from);
            end = end.max(to);
            self.0.remove(&from);
        }
        self.0.insert(start, end);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = std::ops::Range<u64>> {
        self.0.iter().map(|(from, to)| *from..*to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_byte_costs_a_page() {
        let mut bytes = SparseBytes::default();
        bytes.write(u32::MAX, &[9]);
        assert_eq!((bytes.head.capacity(), bytes.pages.len()), (0, 1));
        let mut out = [1; 3];
        bytes.read(u32::MAX - 2, &mut out);
        assert_eq!(out, [0, 0, 9]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Against a map of single bytes: any alignment, across pages, near both ends.
        #[test]
        fn reads_what_was_written(
            steps in prop::collection::vec((any::<bool>(), prop_oneof![0u32..9000, (u32::MAX - 9000)..], 0usize..9000, any::<u8>()), 1..40)
        ) {
            let (mut bytes, mut ranges) = (SparseBytes::default(), Ranges::default());
            let mut model = BTreeMap::<u64, u8>::new();
            for (write, index, len, value) in steps {
                let len = len.min((1usize << 32) - index as usize);
                let places = u64::from(index)..u64::from(index) + len as u64;
                if write {
                    bytes.write(index, &vec![value; len]);
                    ranges.insert(places.start, places.end);
                    model.extend(places.map(|place| (place, value)));
                } else {
                    let mut out = vec![0xaa; len];
                    bytes.read(index, &mut out);
                    prop_assert!(places.map(|place| model.get(&place).copied().unwrap_or(0)).eq(out));
                }
            }
            prop_assert!(ranges.iter().flatten().eq(model.keys().copied()));
            let ends: Vec<_> = ranges.iter().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
