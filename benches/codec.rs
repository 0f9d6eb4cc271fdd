//! The protocol alone, one thread, no transport: requests as bytes and back, a client against an answer in memory, and a host against
//! a request in memory, its state included.
//! `cargo bench --bench codec -- decode`

mod support;

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use genvm_transport::protocol::{
    Account, Decoded, Environment, HostClient, HostState, Limits, Protocol, Request, Revision, SlotId, StorageMode,
    decode, serve_blocking,
};

const ACCOUNT: Account = Account([1; 20]);
const SLOT: SlotId = SlotId([7; 32]);
/// Not larger: how long copying some kilobytes takes depends on where they lie, by a factor of twenty on some processors.
const SIZES: [usize; 2] = [32, 1024];

fn requests(data: &[u8]) -> [(&'static str, Request<'_>); 4] {
    let read = Request::StorageRead { mode: StorageMode::Default, account: ACCOUNT, slot: SLOT, index: 0, length: 32 };
    let write = |data| Request::StorageWrite { slot: SLOT, index: 0, data };
    let message = Request::PostMessage { account: ACCOUNT, calldata: &data[..100], data: r#"{"value": "0x0"}"# };
    [("read", read), ("write 32", write(&data[..32])), ("write 1024", write(&data[..1024])), ("message", message)]
}

fn pattern() -> Vec<u8> {
    (0..1024).map(|at| (at % 251) as u8).collect()
}

fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    request.encode(Revision::One, &Limits::DEFAULT, &mut bytes).expect("within the limits");
    bytes
}

fn bytes(criterion: &mut Criterion) {
    let data = pattern();
    let mut encoding = support::group(criterion, "codec/encode");
    for (name, request) in requests(&data) {
        let mut out = encoded(&request);
        encoding.throughput(Throughput::Bytes(out.len() as u64));
        encoding.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(&request).encode(Revision::One, &Limits::DEFAULT, &mut out)
            });
        });
        assert_eq!(out, encoded(&request));
    }
    encoding.finish();
    let mut decoding = support::group(criterion, "codec/decode");
    for (name, request) in requests(&data) {
        let bytes = encoded(&request);
        let whole = Decoded::Complete { request, consumed: bytes.len() };
        assert_eq!(decode(Revision::One, &bytes, &Limits::DEFAULT), Ok(whole));
        decoding.throughput(Throughput::Bytes(bytes.len() as u64));
        decoding.bench_function(name, |bencher| {
            bencher.iter(|| decode(Revision::One, black_box(&bytes), &Limits::DEFAULT).is_ok());
        });
    }
    decoding.finish();
}

/// Gives the same message so many times, never two at once, and forgets or keeps what is written.
struct Memory {
    message: Vec<u8>,
    at: usize,
    times: u64,
    written: Option<Vec<u8>>,
}

impl Memory {
    fn new(message: Vec<u8>, times: u64) -> Self {
        Self { message, at: 0, times, written: None }
    }
}

impl Read for Memory {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.times == 0 {
            return Ok(0);
        }
        let n = (&self.message[self.at..]).read(out)?;
        self.at += n;
        if self.at == self.message.len() {
            (self.at, self.times) = (0, self.times - 1);
        }
        Ok(n)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.written {
            Some(written) => written.extend_from_slice(bytes),
            None => _ = black_box(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answer to a read of `data`.
fn answer(data: &[u8]) -> Vec<u8> {
    [&[0], data].concat()
}

fn client(criterion: &mut Criterion) {
    let data = pattern();
    let mut group = support::group(criterion, "codec/client");
    for size in SIZES {
        let mut client = HostClient::new(Memory::new(answer(&data[..size]), u64::MAX));
        let mut out = vec![0; size];
        let mut read = |out: &mut [u8]| client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, out);
        read(&mut out).expect("an answer");
        assert_eq!(out, data[..size]);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("read {size}"), |bencher| bencher.iter(|| read(black_box(&mut out)).is_ok()));
    }
    group.finish();
}

fn host(criterion: &mut Criterion) {
    let data = pattern();
    let state = HostState::new();
    state.set_storage(&ACCOUNT, &SLOT, 0, &data);
    let mut execution = state.begin(Environment { account: ACCOUNT, ..Environment::default() });
    let mut group = support::group(criterion, "codec/host");
    for size in SIZES {
        let (mode, length) = (StorageMode::Default, size as u32);
        let request = encoded(&Request::StorageRead { mode, account: ACCOUNT, slot: SLOT, index: 0, length });
        let mut once = Memory { written: Some(Vec::new()), ..Memory::new(request.clone(), 1) };
        serve_blocking(&mut once, &mut execution, &Protocol::ONE).expect("served");
        assert_eq!(once.written, Some(answer(&data[..size])));
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("read {size}"), |bencher| {
            bencher.iter_custom(|calls| {
                let mut stream = Memory::new(request.clone(), calls);
                let started = Instant::now();
                serve_blocking(&mut stream, &mut execution, &Protocol::ONE).expect("served");
                started.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bytes, client, host);
criterion_main!(benches);
