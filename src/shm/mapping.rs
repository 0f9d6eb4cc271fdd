//! [`Mapping`]: a block of memory shared with another process, reachable only by checked offsets.
//!
//! Every access is bounds-checked here, words are atomics, and payload is copied by raw pointers: no `&[u8]` or
//! `&mut [u8]` into shared memory ever exists, because the other process may write at any moment. This module does
//! **not** know what the words mean; [`ring`](super::ring) does.
#![allow(unsafe_code, reason = "maps memory and touches it through raw pointers; nothing else of the ring needs to")]

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags};

#[cfg(not(genvm_loom))]
use super::layout::LINE;
use crate::sync::atomic::{AtomicU64, Ordering};

#[cfg(genvm_loom)]
#[path = "model.rs"]
mod model;

/// A mapped block, writable or read-only.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    writable: bool,
    backing: Backing,
}

const WORD: usize = size_of::<u64>();

/// What has to be given back when the mapping goes.
enum Backing {
    Mapped,
    #[cfg(feature = "shm-named")]
    Named(#[allow(dead_code, reason = "held so that it unmaps when dropped")] shared_memory::Shmem),
    #[cfg(genvm_loom)]
    Model(model::Words),
}

// SAFETY: the block has no thread affinity; every access goes through atomics or raw copies at checked offsets.
unsafe impl Send for Mapping {}
// SAFETY: as above. `copy_in` takes `&self`, and its callers' `&mut` on the one producer keeps writers apart.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd`. The caller makes sure that the file is at least that long and cannot shrink (a sealed
    /// memfd); otherwise an access could end this process with SIGBUS.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, fd, 0)? };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { base, len, writable, backing: Backing::Mapped })
    }

    /// Anonymous memory shared with forked children only: for tests of the ring alone.
    #[cfg(all(test, not(genvm_loom)))]
    pub(crate) fn anonymous(len: usize) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `new`.
        let base = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::SHARED) };
        let base = NonNull::new(base.expect("mmap").cast()).expect("mmap returned null");
        Self { base, len, writable: true, backing: Backing::Mapped }
    }

    /// Takes over a mapping of the `shared_memory` crate. It is writable on both sides.
    #[cfg(feature = "shm-named")]
    pub(crate) fn named(memory: shared_memory::Shmem) -> io::Result<Self> {
        let base = NonNull::new(memory.as_ptr()).ok_or_else(|| io::Error::other("segment mapped at null"))?;
        // mmap returns whole pages; everything in here relies on words being aligned.
        if !base.cast::<u64>().is_aligned() {
            return Err(io::Error::other("segment mapped at an odd address"));
        }
        Ok(Self { base, len: memory.len(), writable: true, backing: Backing::Named(memory) })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn load(&self, offset: usize, order: Ordering) -> u64 {
        self.word(offset).load(order)
    }

    #[inline]
    pub(crate) fn store(&self, offset: usize, value: u64, order: Ordering) {
        assert!(self.writable, "store into the peer's segment");
        self.word(offset).store(value, order);
    }

    /// Writes `lines` from a line on, all but the first word of it, and that word last, with Release: who sees it there sees
    /// the rest.
    #[inline]
    pub(crate) fn publish_lines(&self, offset: usize, lines: &[u8], word: u64) {
        self.copy_in_words(offset + WORD, &lines[WORD..]);
        self.store(offset, word, Ordering::Release);
    }

    /// [`copy_in`](Self::copy_in) of whole words, one by one and from the last to the first: what was stored in words before is
    /// loaded without waiting for the cache, and a peer that polls the first line is left alone until the others are written.
    #[cfg(not(genvm_loom))]
    #[inline]
    fn copy_in_words(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "copy into the peer's segment");
        assert!(offset.is_multiple_of(WORD), "unaligned word");
        let to = self.range(offset, from.len()).cast::<u64>();
        for (at, word) in from.as_chunks().0.iter().enumerate().rev() {
            // SAFETY: in bounds and aligned, as just checked of the first word and of the length of all; for the rest see `word`.
            unsafe { AtomicU64::from_ptr(to.add(at)) }.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
    }

    /// Asks the processor to have a line ready that will be read soon.
    #[cfg(not(genvm_loom))]
    #[inline]
    pub(crate) fn prefetch(&self, offset: usize) {
        let _place = self.range(offset, 1);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; it reads nothing that the program could observe, and the address is within the mapping.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(_place.cast());
        }
    }

    /// Asks the processor to have a line ready that will be written soon: to take it from whoever has it now.
    #[cfg(not(genvm_loom))]
    #[inline]
    pub(crate) fn prefetch_to_write(&self, offset: usize) {
        ask_to_write(self.range(offset, 1));
    }

    /// Copies `from` into the block. The bytes become visible to the peer with the next release store.
    #[cfg(not(genvm_loom))]
    #[inline]
    pub(crate) fn copy_in(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "copy into the peer's segment");
        let to = self.range(offset, from.len());
        // SAFETY: `range` checked that the destination lies within the mapping, which is writable; `from` is private
        // memory, so the two do not overlap. Only one producer writes here; what a lying peer reads meanwhile is its
        // own loss.
        unsafe { copy::<true>(from.as_ptr(), to, from.len()) }
    }

    /// Copies bytes of the block out. A lying peer may change them meanwhile: the result is then arbitrary bytes, which
    /// is what a peer may send anyway.
    #[cfg(not(genvm_loom))]
    #[inline]
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.range(offset, to.len());
        // SAFETY: `range` checked that the source lies within the mapping; `to` is private memory, so the two do not
        // overlap; any byte pattern is a valid `u8`.
        unsafe { copy::<false>(from, to.as_mut_ptr(), to.len()) }
    }

    /// The address of `offset`, for foreign code that keeps an object of its own in there.
    #[cfg(feature = "shm-named")]
    pub(crate) fn address(&self, offset: usize, len: usize) -> *mut u8 {
        self.range(offset, len)
    }

    #[cfg(not(genvm_loom))]
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(WORD), "unaligned word");
        let word = self.range(offset, WORD).cast();
        // SAFETY: in bounds (`range`), aligned (`offset` is a multiple of 8 and mappings start on a page), alive as
        // long as `self`, and touched by atomics only, here and in the peer. An atomic may be shared with anybody.
        // The peer's segment is mapped read-only: `store` refuses it, and plain atomic loads are sound there.
        unsafe { AtomicU64::from_ptr(word) }
    }

    #[cfg(not(genvm_loom))]
    #[inline]
    fn range(&self, offset: usize, len: usize) -> *mut u8 {
        if offset > self.len || len > self.len - offset {
            out_of_bounds(offset, len, self.len);
        }
        // SAFETY: within the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset) }
    }
}

/// Copies in pieces that the C library copies by loads and stores. Longer ones it leaves to `rep movs`, which takes a tenth longer for
/// 64 KiB whose lines the other core has. If it `ASKS`, it first asks for all the lines of a piece that it is going to write: the other core
/// has had them since it read them a lap ago, and stores alone would take them back one after another, which takes longer than copying.
///
/// # Safety
/// As [`ptr::copy_nonoverlapping`].
#[cfg(not(genvm_loom))]
#[inline]
unsafe fn copy<const ASKS: bool>(from: *const u8, to: *mut u8, len: usize) {
    let at_once = if ASKS { LINE } else { PIECE };
    if len <= at_once {
        // SAFETY: what the caller vouches for.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
    } else {
        // SAFETY: what the caller vouches for.
        unsafe { copy_pieces::<ASKS>(from, to, len) };
    }
}

/// # Safety
/// As [`copy`].
#[cfg(not(genvm_loom))]
#[inline(never)]
unsafe fn copy_pieces<const ASKS: bool>(from: *const u8, to: *mut u8, len: usize) {
    for at in (0..len).step_by(PIECE) {
        let piece = PIECE.min(len - at);
        // A hint changes nothing that a fuzzer could find, but every turn of a loop is counted there.
        if ASKS && cfg!(not(genvm_fuzz)) {
            (at..at + piece).step_by(LINE).for_each(|line| ask_to_write(to.wrapping_add(line)));
        }
        // SAFETY: a part of what the caller vouches for.
        unsafe { ptr::copy_nonoverlapping(from.add(at), to.add(at), piece) };
    }
}

/// Asks the processor to have the line at `_place` ready for stores.
#[cfg(not(genvm_loom))]
#[inline]
fn ask_to_write(_place: *mut u8) {
    // `_mm_prefetch` only makes this instruction for processors of which the compiler was told; others that lack it do nothing.
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint; it changes nothing that the program could observe, and faults at no address.
    unsafe {
        core::arch::asm!("prefetchw byte ptr [{}]", in(reg) _place, options(nostack, preserves_flags));
    }
}

/// Where glibc changes its ways on x86-64 at the earliest.
#[cfg(not(genvm_loom))]
const PIECE: usize = 2 << 10;

/// Out of line: formatting in place would cost every access the spilling of its arguments.
#[cold]
#[inline(never)]
fn out_of_bounds(offset: usize, len: usize, of: usize) -> ! {
    panic!("{len} bytes at {offset} of {of}")
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match &self.backing {
            // SAFETY: `base` and `len` are what mmap gave us, and nothing borrows from a mapping beyond its life.
            Backing::Mapped => unsafe {
                let _ = rustix::mm::munmap(self.base.as_ptr().cast(), self.len);
            },
            #[cfg(feature = "shm-named")]
            Backing::Named(_) => {}
            #[cfg(genvm_loom)]
            Backing::Model(_) => {}
        }
    }
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mapped => "mapped",
            #[cfg(feature = "shm-named")]
            Self::Named(_) => "named",
            #[cfg(genvm_loom)]
            Self::Model(_) => "model",
        })
    }
}
