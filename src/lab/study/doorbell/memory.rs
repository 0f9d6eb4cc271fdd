//! [`Page`]: a page of a memfd that both processes map, as words, a futex among them, or as the place of a `raw_sync`
//! event.
#![allow(unsafe_code, reason = "maps memory, and raw_sync places its objects at raw addresses")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use raw_sync::Timeout;
use raw_sync::events::{Event, EventImpl, EventInit, EventState};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::thread::futex;

/// Zeroed memory without a name: two [`Page`]s.
pub(in crate::lab) fn two_pages() -> io::Result<OwnedFd> {
    let memory = memfd_create("transport-lab", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, 2 * PAGE as u64)?;
    Ok(memory)
}

/// A mapped page. Nobody resizes the memory behind it: only the two processes of a cell have it.
#[derive(Debug)]
pub(in crate::lab) struct Page {
    base: NonNull<u8>,
    writable: bool,
}

// SAFETY: the word is touched by atomics only, from whatever thread; events keep their page to themselves.
unsafe impl Sync for Page {}

impl Page {
    /// Maps page `number` of what [`two_pages`] made.
    pub(in crate::lab) fn map(memory: impl AsFd, number: u64, writable: bool) -> io::Result<Self> {
        assert!(number < 2, "page {number} of two");
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: a new mapping at an address that the kernel chooses overlaps nothing of ours.
        let base = unsafe { mmap(ptr::null_mut(), PAGE, protection, MapFlags::SHARED, memory, number * PAGE as u64)? };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { base, writable })
    }

    pub(in crate::lab) fn load(&self, word: usize) -> u32 {
        self.word(word).load(Ordering::SeqCst)
    }

    pub(in crate::lab) fn store(&self, word: usize, value: u32) {
        assert!(self.writable, "store into the peer's page");
        self.word(word).store(value, Ordering::SeqCst);
    }

    /// Sleeps while the first word is `seen`, until woken, at most for `timeout`: `FUTEX_WAIT`. Needs to read the page only.
    pub(in crate::lab) fn sleep(&self, seen: u32, timeout: Option<Duration>) -> rustix::io::Result<()> {
        let timeout = timeout.map(|time| futex::Timespec::try_from(time).map_err(|_| Errno::INVAL)).transpose()?;
        // Not PRIVATE: the kernel finds the sleeper by the page of the memfd, whatever each process maps it as.
        futex::wait(self.word(0), futex::Flags::empty(), seen, timeout.as_ref())
    }

    /// Wakes who sleeps there and says how many did: `FUTEX_WAKE`. Needs to read the page only.
    pub(in crate::lab) fn wake(&self) -> rustix::io::Result<usize> {
        futex::wake(self.word(0), futex::Flags::empty(), 1)
    }

    fn word(&self, number: usize) -> &AtomicU32 {
        assert!(number < PAGE / APART, "word {number} of {}", PAGE / APART);
        // SAFETY: in bounds, as just checked, and aligned, because mappings start on pages; it lives as long as `self` and is
        // touched by atomics only. Where the page is mapped read-only, `store` refuses.
        unsafe { AtomicU32::from_ptr(self.base.as_ptr().add(number * APART).cast()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: `base` is what mmap gave us, and nothing borrows from a mapping beyond its life.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), PAGE) };
    }
}

/// A `raw_sync` event that resets itself when it is heard.
pub(super) struct PlacedEvent {
    event: Box<dyn EventImpl>,
    /// Keeps the memory of `event`, which does not touch it when it is dropped.
    _page: Page,
}

impl PlacedEvent {
    /// A new event at the start of a page; nobody else may use that page yet.
    pub(super) fn create(page: Page) -> io::Result<Self> {
        assert!(page.writable, "an event in the peer's page");
        // SAFETY: a writable page, aligned beyond need and large enough (checked below: it is a few dozen bytes), which `_page`
        // keeps mapped and in which nothing else lies.
        let (event, size) = unsafe { Event::new(page.base.as_ptr(), true) }.map_err(foreign)?;
        assert!(size <= PAGE, "a raw_sync event takes {size} bytes here");
        Ok(Self { event, _page: page })
    }

    /// The event that was created at the start of a page. Writable as well: its mutex and its flag are written by both sides.
    pub(super) fn existing(page: Page) -> io::Result<Self> {
        assert!(page.writable, "an event needs a page that can be written");
        // SAFETY: as above; `Kind::open` has created the event in the near process before the far one exists.
        let (event, _) = unsafe { Event::from_existing(page.base.as_ptr()) }.map_err(foreign)?;
        Ok(Self { event, _page: page })
    }

    pub(super) fn set(&self) -> io::Result<()> {
        self.event.set(EventState::Signaled).map_err(foreign)
    }

    /// Whether it was set within `slice`.
    pub(super) fn wait(&self, slice: Duration) -> bool {
        self.event.wait(Timeout::Val(slice)).is_ok()
    }
}

fn foreign(error: Box<dyn std::error::Error>) -> io::Error {
    io::Error::other(error.to_string())
}

const PAGE: usize = 4096;
/// Words have lines of their own, with the one that the prefetcher brings along.
const APART: usize = 128;

#[cfg(test)]
mod tests {
    use rustix::fs::{SealFlags, fcntl_add_seals};

    use super::*;

    /// One page as its owner maps it and as the peer does, sealed as the segments of `shm://` are.
    fn sealed() -> (Page, Page) {
        let memory = two_pages().expect("memfd");
        let ours = Page::map(&memory, 0, true).expect("mmap");
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        fcntl_add_seals(&memory, seals).expect("seals");
        assert!(Page::map(&memory, 0, true).is_err(), "sealed");
        (ours, Page::map(&memory, 0, false).expect("mmap"))
    }

    #[test]
    fn a_futex_can_be_woken_and_slept_on_through_a_read_only_mapping() {
        let (ours, theirs) = sealed();
        for (sleeper, waker) in [(&ours, &theirs), (&theirs, &ours)] {
            std::thread::scope(|scope| {
                let sleeping = scope.spawn(|| sleeper.sleep(0, Some(Duration::from_secs(60))));
                while waker.wake().expect("FUTEX_WAKE") == 0 {
                    std::thread::yield_now();
                }
                assert_eq!(sleeping.join().expect("no panic"), Ok(()));
            });
        }
    }

    #[test]
    fn a_wake_alone_is_lost_and_a_counted_one_is_not() {
        let (ours, theirs) = sealed();
        let soon = Some(Duration::from_millis(20));
        // The sleeper has looked, the ringer can only wake, the sleeper goes to sleep: next to its work.
        let seen = ours.load(0);
        assert_eq!(theirs.wake(), Ok(0));
        assert_eq!(ours.sleep(seen, soon), Err(Errno::TIMEDOUT));
        // The same with a word that the ringer writes and the sleeper reads.
        let seen = theirs.load(0);
        ours.store(0, seen + 1);
        assert_eq!(ours.wake(), Ok(0));
        assert_eq!(theirs.sleep(seen, soon), Err(Errno::AGAIN));
    }
}
