//! What the protocol allocates: nothing from a length alone, and nothing at all for a small call once it is warm.
#![allow(unsafe_code)] // an allocator that counts
#![cfg(unix)]

mod protocol_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::thread;

use genvm_transport::protocol::*;
use protocol_support::{ACCOUNT, GoldenHost, SLOT, Script, call, golden, golden_two};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count(size: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    LARGEST.set(LARGEST.get().max(size));
}

// SAFETY: hands every request to `System` unchanged; the counters are plain thread-locals that do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are `System`'s, where `pointer` came from.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promises are `System`'s, where `pointer` came from.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`, and the largest of them.
fn allocated(work: impl FnOnce()) -> (usize, usize) {
    ALLOCATIONS.set(0);
    LARGEST.set(0);
    work();
    (ALLOCATIONS.get(), LARGEST.get())
}

#[test]
fn warm_calls_do_not_allocate_on_either_end() {
    let state = HostState::new();
    state.set_storage(&ACCOUNT, &SLOT, 0, &[7; 64]);
    let mut execution = state.begin(Environment { account: ACCOUNT, ..Environment::default() });
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let calls = |client: &mut HostClient<UnixStream>, times| {
        let mut out = [0; 32];
        for _ in 0..times {
            client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 7, &mut out).unwrap();
            client.storage_write(&SLOT, 100, &out).unwrap();
            client.consume_fuel(1_u64).unwrap();
            client.get_balance(&ACCOUNT).unwrap();
            client.remaining_fuel_as_gen().unwrap();
        }
    };
    let genvm = thread::spawn(move || {
        let mut client = HostClient::new(genvm);
        calls(&mut client, 1);
        assert_eq!(allocated(|| calls(&mut client, 200)).0, 0);
    });
    let (count, _) = allocated(|| {
        serve_blocking(&mut node, &mut execution, &Protocol::ONE).unwrap();
    });
    genvm.join().unwrap();
    // Its buffers, the overlay's table, the slot and its runs: not one a call.
    assert!(count < 50, "{count} allocations in the host");
}

#[test]
fn nothing_follows_an_announced_length() {
    // 64 MiB are allowed, announced, and do not come.
    let length = (64u32 << 20).to_le_bytes();
    let one = [(2, 37), (3, 1), (5, 5), (9, 1), (10, 21)].map(|place| (golden(), place));
    let two = [(2, 21), (6, 1), (8, 1)].map(|place| (golden_two(), place));
    for (all, (id, at)) in one.into_iter().chain(two) {
        let golden = &all[id];
        let request = [&golden.request[..at], &length, &[0; 100]].concat();
        let mut stream = Script::new(&request);
        let (_, largest) = allocated(|| {
            let error = serve_blocking(&mut stream, &mut GoldenHost::default(), &golden.protocol).unwrap_err();
            assert!(matches!(error, ServeError::Protocol(ProtocolError::Truncated { .. })), "{error}");
        });
        assert!(largest <= 64 << 10, "{}: {largest} bytes at once", golden.name);
    }
    for (all, id) in
        [(golden(), 0), (golden(), 4), (golden(), 10), (golden_two(), 2), (golden_two(), 7), (golden_two(), 8)]
    {
        let golden = &all[id];
        let status = if golden.decoded.method() == Method::RunNested { &[][..] } else { &[0] };
        let stream = Script::new(&[status, &length, &[1; 100]].concat());
        let (_, largest) = allocated(|| {
            let error = call(&mut HostClient::speaking(golden.protocol.clone(), stream), &golden.decoded).unwrap_err();
            assert!(matches!(error, CallError::Protocol { source: ProtocolError::Truncated { .. }, .. }), "{error}");
        });
        assert!(largest <= 64 << 10, "{}, client: {largest} bytes at once", golden.name);
    }
}

#[test]
fn a_large_read_does_not_allocate_its_length() {
    let mut request = golden()[1].request.clone();
    request[54..58].fill(0);
    request[58..62].copy_from_slice(&(64u32 << 20).to_le_bytes());
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let reader = thread::spawn(move || {
        use std::io::{Read, Write};
        let mut genvm = genvm;
        genvm.write_all(&request).unwrap();
        let mut received = 0u64;
        let mut buffer = vec![0; 64 << 10];
        while received < 1 + (64 << 20) {
            received += genvm.read(&mut buffer).unwrap() as u64;
        }
    });
    let mut execution = HostState::new().begin(Environment::default());
    let (_, largest) = allocated(|| {
        assert_eq!(serve_blocking(&mut node, &mut execution, &Protocol::ONE).unwrap(), Served::Closed);
    });
    reader.join().unwrap();
    assert!(largest <= 256 << 10, "{largest} bytes at once");
}
