//! A `storage_read` that the page cache answers by itself: no call, no other process, one thread.
//! `cargo bench --bench storage_hit`

mod support;

use std::os::unix::net::UnixStream;
use std::thread;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use genvm_transport::protocol::{
    Account, Environment, HostClient, HostState, Protocol, SlotId, StorageMode, serve_blocking,
};
use genvm_transport::storage::{CacheOptions, PageCache, PageSize};

const ACCOUNT: Account = Account([1; 20]);

/// As many slots as a large execution reads, so that not all is in the nearest cache.
const SLOTS: usize = 256;

fn slot(number: usize) -> SlotId {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    SlotId(id)
}

fn hit(criterion: &mut Criterion) {
    for page_size in [32, 256, 4096] {
        let mut group = support::group(criterion, format!("storage_hit/page {page_size}"));
        for length in [4, 32, 512, 4096] {
            let state = HostState::new();
            for number in 0..SLOTS {
                state.set_storage(&ACCOUNT, &slot(number), 0, &[number as u8; 4200]);
            }
            let (genvm, mut node) = UnixStream::pair().expect("a pair");
            let mut execution = state.begin(Environment { account: ACCOUNT, ..Environment::default() });
            let host = thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
            let mut options = CacheOptions::default().with_page_size(PageSize::new(page_size).expect("a page size"));
            options.max_cached = 8 << 20;
            let mut storage = PageCache::new(HostClient::new(genvm), ACCOUNT, options);
            let mut out = vec![0; length];
            for number in 0..SLOTS {
                storage.storage_read(StorageMode::Default, &ACCOUNT, &slot(number), 24, &mut out).expect("a call");
                assert_eq!(out, vec![number as u8; length]);
            }
            let calls = storage.stats().host_reads;
            let mut number = 0;
            group.throughput(Throughput::Bytes(length as u64));
            // From byte 24 on: 4 bytes lie in one page of 32, 32 bytes in two.
            group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
                bencher.iter(|| {
                    number = (number + 1) % SLOTS;
                    storage.storage_read(StorageMode::Default, &ACCOUNT, &slot(number), 24, &mut out).expect("a hit");
                });
            });
            assert_eq!(storage.stats().host_reads, calls, "all were hits");
            drop(storage);
            host.join().expect("no panic").expect("served");
        }
        group.finish();
    }
}

criterion_group!(benches, hit);
criterion_main!(benches);
