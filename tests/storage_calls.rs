//! Which calls `PageCache` makes, seen from a host written by hand: places, lengths, order, and what it makes of errors.
#![cfg(unix)]

mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use genvm_transport::protocol::{
    Account, CallError, Decoded, Delta, Environment, HostClient, HostState, Limits, Method, Protocol, ProtocolError,
    Request, ResultCode, Revision, Served, SlotId, Status, StorageMode, decode, serve_blocking,
};
use genvm_transport::storage::{CacheOptions, PageCache, PageSize, StorageError, WriteMode};

const OWN: Account = Account([1; 20]);
const OTHER: Account = Account([2; 20]);
const A: SlotId = SlotId([3; 32]);
const B: SlotId = SlotId([4; 32]);

/// A call as the host saw it: where, how many bytes, and which way.
type Seen = (char, SlotId, u32, usize);

/// A host whose byte at `index` is `index % 251`, whatever was written. It refuses the calls that `refusals` names by their
/// number, and hangs up at the one for which it says `None`.
fn host(refusals: impl Fn(usize) -> Option<Status> + Send + 'static) -> (UnixStream, JoinHandle<Vec<Seen>>) {
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    let served = thread::spawn(move || {
        let (mut seen, mut input, mut chunk) = (Vec::new(), Vec::new(), [0; 4096]);
        loop {
            let (call, mut answer, consumed) = match decode(Revision::One, &input, &Limits::DEFAULT).expect("a request")
            {
                Decoded::Complete { request: Request::StorageRead { slot, index, length, .. }, consumed } => {
                    let data = (u64::from(index)..).map(|at| (at % 251) as u8).take(length as usize);
                    (('r', slot, index, length as usize), data.collect(), consumed)
                }
                Decoded::Complete { request: Request::StorageWrite { slot, index, data }, consumed } => {
                    (('w', slot, index, data.len()), vec![], consumed)
                }
                Decoded::Complete { request: Request::ConsumeResult { .. }, .. } => {
                    node.write_all(&[0]).expect("a client");
                    return seen;
                }
                Decoded::Complete { request, .. } => panic!("unexpected {request:?}"),
                Decoded::Partial { .. } | Decoded::Empty => {
                    let received = node.read(&mut chunk).expect("a client");
                    if received == 0 {
                        return seen;
                    }
                    input.extend_from_slice(&chunk[..received]);
                    continue;
                }
            };
            input.drain(..consumed);
            seen.push(call);
            match refusals(seen.len() - 1) {
                Some(Status::Ok) => answer.insert(0, 0),
                Some(status) => answer = vec![status as u8],
                None => return seen,
            }
            node.write_all(&answer).expect("a client");
        }
    });
    (genvm, served)
}

fn willing(_: usize) -> Option<Status> {
    Some(Status::Ok)
}

fn page(bytes: u32) -> CacheOptions {
    CacheOptions::default().with_page_size(PageSize::new(bytes).expect("a page size"))
}

/// Reads of the own contract, each checked; returns what the host saw.
fn calls(options: CacheOptions, reads: &[(SlotId, u32, usize)]) -> Vec<Seen> {
    let (stream, host) = host(willing);
    let mut storage = PageCache::new(HostClient::new(stream), OWN, options);
    for &(slot, index, length) in reads {
        assert_eq!(read(&mut storage, &slot, index, length).expect("a read"), expected(index, length));
    }
    drop(storage);
    host.join().expect("no panic")
}

fn read(storage: &mut PageCache<UnixStream>, slot: &SlotId, index: u32, length: usize) -> Result<Vec<u8>, CallError> {
    let mut out = vec![0xee; length];
    storage.storage_read(StorageMode::Default, &OWN, slot, index, &mut out).map(|()| out)
}

fn expected(index: u32, length: usize) -> Vec<u8> {
    (u64::from(index)..).map(|at| (at % 251) as u8).take(length).collect()
}

#[test]
fn whole_pages_are_read_once() {
    let _watchdog = support::watchdog("whole_pages_are_read_once");
    // Bytes 50 to 150 lie in pages 1 to 4.
    assert_eq!(calls(page(32), &[(A, 50, 100), (A, 32, 128), (A, 159, 1)]), [('r', A, 32, 128)]);
    assert_eq!(calls(page(32), &[(A, 0, 1), (B, 0, 1), (A, 31, 1)]), [('r', A, 0, 32), ('r', B, 0, 32)]);
    assert_eq!(calls(page(4096), &[(A, 5000, 4), (A, 4096, 4096)]), [('r', A, 4096, 4096)]);
    // Nothing to ask for.
    assert_eq!(calls(page(32), &[(A, 0, 0), (A, u32::MAX, 0)]), []);
    // Up to the last byte of the slot and not beyond.
    assert_eq!(calls(page(4096), &[(A, u32::MAX, 1), (A, u32::MAX - 9, 10)]), [('r', A, u32::MAX - 4095, 4096)]);
}

#[test]
fn one_call_spans_from_the_first_page_missing_to_the_last() {
    let _watchdog = support::watchdog("one_call_spans_from_the_first_page_missing_to_the_last");
    // What is there before and behind is not asked for again, what lies between is.
    let reads = [(A, 0, 32), (A, 96, 32), (A, 224, 32), (A, 0, 256)];
    let seen = [('r', A, 0, 32), ('r', A, 96, 32), ('r', A, 224, 32), ('r', A, 32, 192)];
    assert_eq!(calls(page(32), &reads), seen);
    // Across lines, which hold 16 pages.
    assert_eq!(calls(page(32), &[(A, 500, 1), (A, 400, 2000)]), [('r', A, 480, 32), ('r', A, 384, 2016)]);
}

#[test]
fn reading_ahead_stops_at_pages_that_are_there_and_at_the_end_of_the_slot() {
    let _watchdog = support::watchdog("reading_ahead_stops_at_pages_that_are_there_and_at_the_end_of_the_slot");
    let ahead = |pages| {
        let mut options = page(32);
        options.read_ahead = pages;
        options
    };
    assert_eq!(calls(ahead(3), &[(A, 40, 1), (A, 64, 96), (A, 160, 1)]), [('r', A, 32, 128), ('r', A, 160, 128)]);
    assert_eq!(calls(ahead(5), &[(A, 576, 1), (A, 480, 1)]), [('r', A, 576, 192), ('r', A, 480, 96)]);
    let last = u32::MAX - 31;
    assert_eq!(calls(ahead(5), &[(A, last - 32, 1), (A, last, 32)]), [('r', A, last - 32, 64)]);
    assert_eq!(calls(ahead(u32::MAX), &[(A, last, 1)]), [('r', A, last, 32)]);
    // Not more than can be kept.
    let mut small = ahead(u32::MAX);
    small.max_cached = 1024;
    assert_eq!(calls(small, &[(A, 0, 1), (A, 1000, 1)]), [('r', A, 0, 1024)]);
}

#[test]
fn a_read_beyond_the_bound_goes_to_the_host_as_it_is() {
    let _watchdog = support::watchdog("a_read_beyond_the_bound_goes_to_the_host_as_it_is");
    let mut options = page(32);
    options.max_cached = 1024;
    let reads = [(A, 0, 1024), (A, 8, 1017), (A, 3, 1025), (A, 3, 1025)];
    assert_eq!(
        calls(options.clone(), &reads),
        [('r', A, 0, 1024), ('r', A, 8, 1017), ('r', A, 3, 1025), ('r', A, 3, 1025)]
    );
    options.max_cached = 0;
    assert_eq!(calls(options, &[(A, 5, 3), (A, 5, 3)]), [('r', A, 5, 3); 2]);
}

#[test]
fn the_latest_and_the_final_state_are_read_as_asked_unless_told_otherwise() {
    let _watchdog = support::watchdog("the_latest_and_the_final_state_are_read_as_asked_unless_told_otherwise");
    for cache_latest in [false, true] {
        let (stream, host) = host(willing);
        let mut options = page(32);
        options.cache_latest = cache_latest;
        let mut storage = PageCache::new(HostClient::new(stream), OWN, options);
        for mode in [StorageMode::LatestFinal, StorageMode::LatestNonFinal, StorageMode::Default] {
            for account in [OWN, OTHER, OTHER] {
                let mut out = [0xee; 3];
                storage.storage_read(mode, &account, &A, 40, &mut out).expect("a read");
                assert_eq!(out[..], expected(40, 3));
            }
        }
        drop(storage);
        let (page, asked) = (('r', A, 32, 32), ('r', A, 40, 3));
        let seen = if cache_latest { [page; 6].to_vec() } else { [[asked; 6].as_slice(), &[page; 2]].concat() };
        assert_eq!(host.join().expect("no panic"), seen);
    }
}

#[test]
fn a_read_of_no_bytes_is_a_hit_wherever_it_is() {
    let (stream, host) = host(willing);
    let mut storage = PageCache::new(HostClient::new(stream), OWN, page(32));
    for mode in [StorageMode::Default, StorageMode::LatestFinal, StorageMode::LatestNonFinal] {
        for account in [OWN, OTHER] {
            for index in [0, 7, u32::MAX] {
                storage.storage_read(mode, &account, &A, index, &mut []).expect("a read");
            }
        }
    }
    assert_eq!((storage.stats().reads, storage.stats().hits), (18, 18));
    drop(storage);
    assert_eq!(host.join().expect("no panic"), []);
}

#[test]
fn deferred_writes_are_handed_over_sorted_joined_and_within_the_limits() {
    let _watchdog = support::watchdog("deferred_writes_are_handed_over_sorted_joined_and_within_the_limits");
    let (stream, host) = host(willing);
    let client = HostClient::speaking(Protocol::ONE.with_limits(Limits::DEFAULT.with_slice(100)), stream);
    let mut storage = PageCache::new(client, OWN, page(32).with_writes(WriteMode::Deferred));
    for (slot, index, length) in [(B, 10, 80), (A, u32::MAX, 1), (B, 90, 100), (B, 0, 0), (B, 20, 5), (B, 200, 7)] {
        storage.storage_write(&slot, index, &vec![9; length]).expect("a write");
    }
    // All of it is known here.
    assert_eq!(read(&mut storage, &B, 100, 40).expect("a read"), [9; 40]);
    assert_eq!(storage.stats().host_reads, 0);
    // Half of it is not: the page is read, and the writes are in it.
    assert_eq!(read(&mut storage, &B, 0, 20).expect("a read"), [expected(0, 10), vec![9; 10]].concat());
    storage.finish(ResultCode::Return, b"").expect("the end");
    assert_eq!((storage.stats().writes, storage.stats().host_writes, storage.stats().host_bytes_written), (6, 4, 188));
    drop(storage);
    let seen = [('r', B, 0, 32), ('w', A, u32::MAX, 1), ('w', B, 10, 100), ('w', B, 110, 80), ('w', B, 200, 7)];
    assert_eq!(host.join().expect("no panic"), seen);
}

#[test]
fn deferred_writes_can_be_taken_without_a_call() {
    let _watchdog = support::watchdog("deferred_writes_can_be_taken_without_a_call");
    let (stream, host) = host(willing);
    let mut storage = PageCache::new(HostClient::new(stream), OWN, page(32).with_writes(WriteMode::Deferred));
    storage.storage_write(&A, 5, b"ab").expect("a write");
    storage.storage_write(&A, 7, b"c").expect("a write");
    let expected = [Delta { slot: A, index: 5, data: b"abc".to_vec() }];
    assert_eq!(storage.deltas(), expected);
    let (mut client, deltas) = storage.into_parts();
    assert_eq!(deltas, expected);
    client.consume_result(ResultCode::Return, b"").expect("the end");
    assert_eq!(host.join().expect("no panic"), []);
}

#[test]
fn a_refused_write_is_in_no_page() {
    let _watchdog = support::watchdog("a_refused_write_is_in_no_page");
    for status in [Status::Forbidden, Status::OutOfStorageGas] {
        let (stream, host) = host(move |call| Some(if call == 1 { status } else { Status::Ok }));
        let mut storage = PageCache::new(HostClient::new(stream), OWN, page(32));
        read(&mut storage, &A, 0, 32).expect("a read");
        match storage.storage_write(&A, 8, &[9; 8]) {
            Err(StorageError::Call(error)) => assert_eq!(error.status(), Some(status)),
            other => panic!("{other:?}"),
        }
        assert_eq!(read(&mut storage, &A, 0, 32).expect("a hit"), expected(0, 32));
        storage.storage_write(&A, 8, &[9; 8]).expect("a write");
        let now = [expected(0, 8), vec![9; 8], expected(16, 16)].concat();
        assert_eq!(read(&mut storage, &A, 0, 32).expect("a hit"), now);
        drop(storage);
        assert_eq!(host.join().expect("no panic"), [('r', A, 0, 32), ('w', A, 8, 8), ('w', A, 8, 8)]);
    }
}

#[test]
fn a_deferred_write_is_refused_at_the_hand_over() {
    let _watchdog = support::watchdog("a_deferred_write_is_refused_at_the_hand_over");
    let (stream, host) = host(|call| Some(if call == 1 || call == 2 { Status::Forbidden } else { Status::Ok }));
    let mut storage = PageCache::new(HostClient::new(stream), OWN, page(32).with_writes(WriteMode::Deferred));
    for (slot, index) in [(B, 100), (A, 10), (B, 0)] {
        storage.storage_write(&slot, index, &[9; 4]).expect("a write");
    }
    for _ in 0..2 {
        let error = storage.finish(ResultCode::Return, b"").unwrap_err();
        assert!(error.to_string().starts_with("4 deferred bytes at 0 of SlotId(0x0404"), "{error}");
        assert_eq!(error.call().and_then(CallError::status), Some(Status::Forbidden));
        // The first was taken; the refused one and the rest are as they were.
        let left = [(B, 0), (B, 100)].map(|(slot, index)| Delta { slot, index, data: vec![9; 4] });
        assert_eq!(storage.deltas(), left);
        assert_eq!(read(&mut storage, &B, 0, 4).expect("a read"), [9; 4]);
    }
    storage.client_mut().consume_result(ResultCode::VmError, b"").expect("the end");
    assert_eq!(host.join().expect("no panic"), [('w', A, 10, 4), ('w', B, 0, 4), ('w', B, 0, 4)]);
}

#[test]
fn a_refused_read_is_not_kept() {
    let _watchdog = support::watchdog("a_refused_read_is_not_kept");
    let (stream, host) = host(|call| Some(if call == 0 { Status::Absent } else { Status::Ok }));
    let mut storage = PageCache::new(HostClient::new(stream), OWN, page(32));
    assert_eq!(read(&mut storage, &A, 3, 3).unwrap_err().status(), Some(Status::Absent));
    assert_eq!(read(&mut storage, &A, 3, 3).expect("a read"), expected(3, 3));
    drop(storage);
    assert_eq!(host.join().expect("no panic"), [('r', A, 0, 32); 2]);
}

#[test]
fn what_is_here_stays_true_when_the_host_is_gone() {
    let _watchdog = support::watchdog("what_is_here_stays_true_when_the_host_is_gone");
    for writes in [WriteMode::Through, WriteMode::Deferred] {
        let (stream, host) = host(|call| (call < 2).then_some(Status::Ok));
        let mut storage = PageCache::new(HostClient::new(stream), OWN, page(32).with_writes(writes));
        read(&mut storage, &A, 0, 32).expect("a read");
        storage.storage_write(&A, 4, &[9; 4]).expect("a write");
        let now = [expected(0, 4), vec![9; 4], expected(8, 24)].concat();
        storage.flush_writes().expect("a hand-over");
        assert_eq!(read(&mut storage, &A, 0, 32).expect("a hit"), now);
        // The host hangs up instead of answering.
        if writes == WriteMode::Through {
            let lost = storage.storage_write(&A, 0, &[7; 32]).unwrap_err();
            assert!(lost.call().is_some_and(CallError::is_fatal), "{lost}");
            assert_eq!(read(&mut storage, &A, 0, 32).expect("a hit"), now);
        } else {
            storage.storage_write(&A, 0, &[7; 32]).expect("a write");
            let lost = storage.flush_writes().unwrap_err();
            assert!(lost.call().is_some_and(CallError::is_fatal), "{lost}");
            assert_eq!(storage.deltas(), [Delta { slot: A, index: 0, data: vec![7; 32] }]);
            assert_eq!(read(&mut storage, &A, 0, 32).expect("a hit"), [7; 32]);
        }
        assert!(matches!(read(&mut storage, &A, 0, 33), Err(CallError::Dead { .. })));
        assert!(matches!(storage.finish(ResultCode::Return, b""), Err(error) if error.call().is_some()));
        host.join().expect("no panic");
    }
}

#[test]
fn a_full_overlay_says_so_and_keeps_nothing_of_the_write() {
    let _watchdog = support::watchdog("a_full_overlay_says_so_and_keeps_nothing_of_the_write");
    let (stream, host) = host(willing);
    let mut options = page(32).with_writes(WriteMode::Deferred);
    options.max_deferred = 128;
    let mut storage = PageCache::new(HostClient::new(stream), OWN, options);
    read(&mut storage, &A, 0, 256).expect("a read");
    storage.storage_write(&A, 0, &[9]).expect("a write");
    let full = storage.storage_write(&A, 63, &[9; 66]).unwrap_err();
    assert_eq!(full.to_string(), "64 bytes of deferred writes and 128 more, at most 128 allowed");
    assert!(full.call().is_none());
    assert_eq!(storage.deltas().len(), 1);
    assert_eq!(read(&mut storage, &A, 63, 66).expect("a hit"), expected(63, 66));
    // Into pieces that are there already, up to the bound, and after a hand-over.
    storage.storage_write(&A, 1, &[9; 127]).expect("a write");
    storage.storage_write(&A, 128, &[9]).unwrap_err();
    storage.flush_writes().expect("a hand-over");
    storage.storage_write(&A, 128, &[9]).expect("a write");
    drop(storage);
    assert_eq!(host.join().expect("no panic"), [('r', A, 0, 256), ('w', A, 0, 128)]);
}

#[test]
fn what_the_client_refuses_is_refused_alike_and_nothing_is_sent() {
    let _watchdog = support::watchdog("what_the_client_refuses_is_refused_alike_and_nothing_is_sent");
    for (writes, cached) in [(WriteMode::Through, 1 << 20), (WriteMode::Deferred, 1 << 20), (WriteMode::Deferred, 0)] {
        let (stream, host) = host(willing);
        let limits = Limits::DEFAULT.with_slice(100);
        let mut client =
            HostClient::speaking(Protocol::ONE.with_limits(limits.clone()), stream.try_clone().expect("a clone"));
        let mut options = page(32).with_writes(writes);
        options.max_cached = cached;
        let mut storage = PageCache::new(HostClient::speaking(Protocol::ONE.with_limits(limits), stream), OWN, options);
        for (index, length) in [(0, 101), (u32::MAX, 2), (u32::MAX, 100), (u32::MAX, 101)] {
            let mut out = vec![0; length];
            let alone = client.storage_read(StorageMode::Default, &OWN, &A, index, &mut out).unwrap_err();
            assert_eq!(read(&mut storage, &A, index, length).unwrap_err().to_string(), alone.to_string());
            let alone = client.storage_write(&A, index, &out).unwrap_err();
            assert_eq!(storage.storage_write(&A, index, &out).unwrap_err().to_string(), alone.to_string());
        }
        assert_eq!(storage.deltas(), []);
        // Longer than allowed only when rounded to pages: read as asked.
        assert_eq!(read(&mut storage, &A, 30, 70).expect("a read"), expected(30, 70));
        drop((client, storage));
        assert_eq!(host.join().expect("no panic"), [('r', A, 30, 70)]);
    }
}

#[test]
fn at_revision_2_deltas_are_what_is_handed_over() {
    let _watchdog = support::watchdog("at_revision_2_deltas_are_what_is_handed_over");
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    let (own, slot) = (Account([7; 20]), SlotId([8; 32]));
    let state = HostState::new();
    state.set_storage(&own, &slot, 0, b"before");
    let mut execution = state.begin(Environment { account: own, ..Environment::default() });
    let host = thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::TWO));

    let options = CacheOptions::default().with_writes(WriteMode::Deferred);
    let mut storage = PageCache::new(HostClient::speaking(Protocol::TWO, genvm), own, options);
    storage.storage_write(&slot, 2, b"XY").expect("kept");
    let mut read = [0; 6];
    storage.storage_read(StorageMode::Default, &own, &slot, 0, &mut read).expect("read");
    assert_eq!(&read, b"beXYre");

    let refused = |error: &StorageError| match error {
        StorageError::NotTaken { source: CallError::Refused { source, .. }, .. } => {
            let (method, revision) = (Method::StorageWrite, Revision::Two);
            assert_eq!(*source, ProtocolError::NotInRevision { method, revision });
        }
        other => panic!("{other}"),
    };
    refused(&storage.flush_writes().expect_err("revision 2 takes no writes"));
    refused(&storage.finish(ResultCode::Return, b"").expect_err("revision 2 takes no writes"));
    assert_eq!(storage.deltas(), [Delta { slot, index: 2, data: b"XY".to_vec() }]);
    assert_eq!(storage.stats().host_writes, 0, "what is refused is no call");
    storage.client_mut().consume_result(ResultCode::Return, b"with the deltas").expect("taken");
    drop(storage);
    assert_eq!(host.join().expect("no panic").expect("served"), Served::Finished);
}

#[test]
fn at_revision_2_nothing_is_written_through() {
    let _watchdog = support::watchdog("at_revision_2_nothing_is_written_through");
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    let state = HostState::new();
    state.set_storage(&OWN, &A, 0, b"before");
    let mut execution = state.begin(Environment { account: OWN, ..Environment::default() });
    let host = thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::TWO));

    let mut storage = PageCache::new(HostClient::speaking(Protocol::TWO, genvm), OWN, page(32));
    assert_eq!(read(&mut storage, &A, 0, 6).expect("a read"), b"before");
    match storage.storage_write(&A, 2, b"XY").unwrap_err() {
        StorageError::Call(CallError::Refused { source, .. }) => {
            let (method, revision) = (Method::StorageWrite, Revision::Two);
            assert_eq!(source, ProtocolError::NotInRevision { method, revision });
        }
        other => panic!("{other}"),
    }
    // It is in no page, and the connection is as good as before.
    assert_eq!(read(&mut storage, &A, 0, 6).expect("a hit"), b"before");
    assert_eq!(read(&mut storage, &B, 0, 1).expect("a read"), [0]);
    assert_eq!((storage.stats().host_reads, storage.stats().host_writes), (2, 0));
    storage.finish(ResultCode::Return, b"").expect("nothing is deferred");
    drop(storage);
    assert_eq!(host.join().expect("no panic").expect("served"), Served::Finished);
}
