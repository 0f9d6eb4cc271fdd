//! One storage slot: 2^32 bytes, almost all of them zeros that nobody wrote.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::protocol::parts;

/// A sparse byte array. Memory follows the pages written, not the highest index; a clone shares its pages until one
/// side writes to them.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// Page 0, only as long as it was written: most slots are some dozens of bytes.
    head: Vec<u8>,
    /// The other pages that were written.
    pages: BTreeMap<u32, Arc<[u8; PAGE]>>,
}

impl Slot {
    /// Fills `out` with the bytes from `index` on.
    #[inline]
    pub(super) fn read(&self, index: u32, out: &mut [u8]) {
        // Nearly every read lies within what was written of page 0.
        let end = (index as usize).checked_add(out.len());
        match end.and_then(|end| self.head.get(index as usize..end)) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => self.read_pages(index, out),
        }
    }

    fn read_pages(&self, index: u32, out: &mut [u8]) {
        for (page, offset, range) in parts(index, out.len(), PAGE) {
            let out = &mut out[range];
            let bytes = self.page(page).get(offset..).unwrap_or_default();
            let written = bytes.len().min(out.len());
            out[..written].copy_from_slice(&bytes[..written]);
            out[written..].fill(0);
        }
    }

    /// Writes `data` from `index` on.
    pub(super) fn write(&mut self, index: u32, data: &[u8]) {
        for (page, offset, range) in parts(index, data.len(), PAGE) {
            let end = offset + range.len();
            let bytes = if page == 0 {
                if self.head.len() < end {
                    self.head.resize(end, 0);
                }
                &mut self.head[..]
            } else {
                &mut Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE])))[..]
            };
            bytes[offset..end].copy_from_slice(&data[range]);
        }
    }

    fn page(&self, page: u32) -> &[u8] {
        match page {
            0 => &self.head,
            _ => self.pages.get(&page).map_or(&[], |page| &page[..]),
        }
    }
}

const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_written_reads_as_zeros() {
        let mut out = [1; 100];
        Slot::default().read(u32::MAX - 99, &mut out);
        assert_eq!(out, [0; 100]);
    }

    #[test]
    fn the_last_byte_costs_one_page() {
        let mut slot = Slot::default();
        slot.write(u32::MAX, &[7]);
        assert_eq!((slot.head.len(), slot.pages.len()), (0, 1));
        let mut out = [1; 2];
        slot.read(u32::MAX - 1, &mut out);
        assert_eq!(out, [0, 7]);
    }

    #[test]
    fn accesses_cross_pages() {
        let mut slot = Slot::default();
        let data: Vec<u8> = (0..3 * PAGE).map(|i| i as u8 | 1).collect();
        slot.write(100, &data);
        let mut out = vec![1; data.len() + 200];
        slot.read(0, &mut out);
        assert_eq!(out[..100], [0; 100]);
        assert_eq!(out[100..][..data.len()], data);
        assert_eq!(out[100 + data.len()..], [0; 100]);
    }

    #[test]
    fn a_clone_does_not_see_later_writes() {
        let mut slot = Slot::default();
        slot.write(4090, b"0123456789");
        let before = slot.clone();
        slot.write(4090, b"abcdefghij");
        let mut out = [0; 10];
        before.read(4090, &mut out);
        assert_eq!(&out, b"0123456789");
    }
}
