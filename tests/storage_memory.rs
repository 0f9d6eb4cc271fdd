//! What `PageCache` allocates: nothing for a hit, and a bounded amount whatever is read and written.
#![allow(unsafe_code)] // an allocator that counts
#![cfg(unix)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::thread;

use genvm_transport::protocol::*;
use genvm_transport::storage::{CacheOptions, PageCache, StorageError, WriteMode};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(change: isize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + usize::from(change > 0));
    HELD.set(HELD.get() + change);
    MOST.set(MOST.get().max(HELD.get()));
}

// SAFETY: hands every request to `System` unchanged; the counters are plain thread-locals that do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are `System`'s, where `pointer` came from.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is copied, both are there.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's promises are `System`'s, where `pointer` came from.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ACCOUNT: Account = Account([1; 20]);

fn slot(number: u32) -> SlotId {
    let mut id = [0; 32];
    id[..4].copy_from_slice(&number.to_le_bytes());
    SlotId(id)
}

/// Runs `work` on a cache over a host; the counters are this thread's, the host has its own.
fn with_storage(options: CacheOptions, work: impl FnOnce(&mut PageCache<UnixStream>)) {
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    let host = thread::spawn(move || {
        let mut execution = HostState::new().begin(Environment { account: ACCOUNT, ..Environment::default() });
        serve_blocking(&mut node, &mut execution, &Protocol::ONE).expect("served");
    });
    let mut storage = PageCache::new(HostClient::new(genvm), ACCOUNT, options);
    work(&mut storage);
    drop(storage);
    host.join().expect("no panic");
}

#[test]
fn a_hit_allocates_nothing() {
    for writes in [WriteMode::Through, WriteMode::Deferred] {
        with_storage(CacheOptions::default().with_writes(writes), |storage| {
            let mut out = [0; 700];
            let mut pass = |write: bool| {
                for number in 0..50 {
                    storage.storage_read(StorageMode::Default, &ACCOUNT, &slot(number), 7, &mut out).expect("a read");
                    if write {
                        storage.storage_write(&slot(number), 100, &[1; 40]).expect("a write");
                        storage.storage_write(&slot(number), 5000, &[1; 40]).expect("a write");
                    }
                    storage
                        .storage_read(StorageMode::Default, &ACCOUNT, &slot(number), 90, &mut out[..60])
                        .expect("a hit");
                }
            };
            pass(true);
            ALLOCATIONS.set(0);
            // Over bytes that were written as well, and in place.
            pass(writes == WriteMode::Deferred);
            assert_eq!(ALLOCATIONS.get(), 0);
            let calls = storage.stats().host_reads;
            // From the deferred writes alone.
            if writes == WriteMode::Deferred {
                storage.storage_read(StorageMode::Default, &ACCOUNT, &slot(1), 5003, &mut out[..20]).expect("a hit");
                assert_eq!((ALLOCATIONS.get(), calls, &out[..20]), (0, storage.stats().host_reads, &[1; 20][..]));
            }
        });
    }
}

#[test]
fn memory_is_bounded_whatever_is_read() {
    const BOUND: usize = 64 << 10;
    let mut options = CacheOptions::default();
    options.read_ahead = 3;
    options.max_cached = BOUND;
    with_storage(options, |storage| {
        let before = HELD.get();
        MOST.set(before);
        let mut out = [0; 100];
        for number in 0..20_000 {
            let index = number % 7 * 400;
            storage.storage_read(StorageMode::Default, &ACCOUNT, &slot(number), index, &mut out).expect("a read");
        }
        let most = (MOST.get() - before) as usize;
        assert!((BOUND..3 * BOUND).contains(&most), "{most} bytes");
    });
}

#[test]
fn memory_is_bounded_whatever_is_written() {
    const BOUND: usize = 64 << 10;
    let mut options = CacheOptions::default().with_writes(WriteMode::Deferred);
    options.max_deferred = BOUND;
    with_storage(options, |storage| {
        let before = HELD.get();
        MOST.set(before);
        let mut kept = 0;
        for number in 0..5000 {
            match storage.storage_write(&slot(number), 4096, &[1]) {
                Ok(()) => kept += 1,
                Err(StorageError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(kept, BOUND / 64);
        let most = (MOST.get() - before) as usize;
        assert!((BOUND..8 * BOUND).contains(&most), "{most} bytes");
    });
}
