//! The memory of a [`Mapping`] under the model checker: loom's words in place of mapped pages.
//!
//! Payload is copied word by word, Relaxed, so that a reader is given every value that the orderings around the copy allow it to
//! see: the payload before this one, if the record-visible edge is missing. Copying also touches a cell beside each word, whose
//! accesses have to be ordered: the room-visible edge keeps a writer from what is being read, and no load sees the future. Between
//! ends that obey the protocol there is no other race on payload.

use std::ops::Range;
use std::ptr::NonNull;

use loom::cell::UnsafeCell;

use super::super::layout::{BELL, CONSUMED, FINISHED, RING};
use super::{AtomicU64, Backing, Mapping, Ordering::Relaxed, WORD, out_of_bounds};

/// The words that a segment has: three of its header and those of its ring.
pub(super) type Words = Box<[Word]>;

#[derive(Debug)]
pub(super) struct Word {
    value: AtomicU64,
    copied: UnsafeCell<()>,
}

impl Mapping {
    /// Fresh memory. Only within a model.
    pub(crate) fn anonymous(len: usize) -> Self {
        let words = (0..3 + (len - RING) / WORD)
            .map(|_| Word { value: AtomicU64::new(0), copied: UnsafeCell::new(()) })
            .collect();
        Self { base: NonNull::dangling(), len, writable: true, backing: Backing::Model(words) }
    }

    pub(crate) fn prefetch(&self, _: usize) {}

    pub(crate) fn prefetch_to_write(&self, _: usize) {}

    pub(super) fn copy_in_words(&self, offset: usize, from: &[u8]) {
        self.copy_in(offset, from);
    }

    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "copy into the peer's segment");
        self.each_word(offset, from.len(), |word, within, of_copy| {
            word.copied.with_mut(|_| {});
            let mut bytes = if within.len() == WORD { [0; WORD] } else { word.value.load(Relaxed).to_ne_bytes() };
            bytes[within].copy_from_slice(&from[of_copy]);
            word.value.store(u64::from_ne_bytes(bytes), Relaxed);
        });
    }

    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.each_word(offset, to.len(), |word, within, of_copy| {
            word.copied.with(|_| {});
            to[of_copy].copy_from_slice(&word.value.load(Relaxed).to_ne_bytes()[within]);
        });
    }

    pub(super) fn word(&self, offset: usize) -> &AtomicU64 {
        &self.place(offset).value
    }

    fn place(&self, offset: usize) -> &Word {
        assert!(offset.is_multiple_of(WORD), "unaligned word");
        if offset >= self.len {
            out_of_bounds(offset, WORD, self.len);
        }
        let Backing::Model(words) = &self.backing else { unreachable!("nothing else is made in a model") };
        &words[match offset {
            BELL => 0,
            FINISHED => 1,
            CONSUMED => 2,
            ring => 3 + (ring - RING) / WORD,
        }]
    }

    /// The words under `len` bytes at `offset`, each with the bytes of it that are meant, within the word and within the whole.
    fn each_word(&self, offset: usize, len: usize, mut f: impl FnMut(&Word, Range<usize>, Range<usize>)) {
        let mut done = 0;
        while done < len {
            let start = (offset + done) % WORD;
            let n = (WORD - start).min(len - done);
            f(self.place(offset + done - start), start..start + n, done..done + n);
            done += n;
        }
    }
}
