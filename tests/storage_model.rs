//! `PageCache` over a real host against a plain model of bytes: any reads and writes, in every mode, with every option.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use genvm_transport::protocol::{
    Account, BlockingHostHandler, CallError, Delta, Environment, HostClient, HostState, Limits, Protocol,
    ProtocolError, ResultCode, Served, SlotId, StorageMode, serve_blocking,
};
use genvm_transport::storage::{CacheOptions, PageCache, PageSize, StorageError, WriteMode};
use proptest::prelude::*;

/// The running contract and another one.
const ACCOUNTS: [Account; 2] = [Account([1; 20]), Account([2; 20])];

const SLOTS: u8 = 2;

/// Where operations read and write: index and length.
const REACH: [(u32, usize); 2] = [(0, 8300 + 9000), (u32::MAX - 1023, 1024)];

fn id(slot: u8) -> SlotId {
    SlotId([slot; 32])
}

/// All bytes of all slots within [`REACH`].
#[derive(Debug, Clone)]
struct State([[[Vec<u8>; 2]; SLOTS as usize]; 2]);

impl State {
    fn zeros() -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| REACH.map(|(_, length)| vec![0; length]))))
    }

    fn bytes(&mut self, account: usize, slot: u8, index: u32, length: usize) -> &mut [u8] {
        let reach = usize::from(index >= REACH[1].0);
        &mut self.0[account][usize::from(slot)][reach][(index - REACH[reach].0) as usize..][..length]
    }

    fn put(&mut self, account: usize, slot: u8, index: u32, data: &[u8]) {
        self.bytes(account, slot, index, data.len()).copy_from_slice(data);
    }
}

/// Bytes of the running contract that were written, by slot and index.
type Writes = BTreeMap<(u8, u64), u8>;

fn note(writes: &mut Writes, slot: u8, index: u32, data: &[u8]) {
    writes.extend((u64::from(index)..).map(|at| (slot, at)).zip(data.iter().copied()));
}

/// What every read has to return, and what is to become of the writes.
#[derive(Debug)]
struct Model {
    /// What the execution sees: the latest state as it was at its start, with its own writes.
    seen: State,
    latest: State,
    finalized: State,
    written: Writes,
    /// What of that the host does not have yet.
    deferred: Writes,
}

impl Model {
    fn state(&mut self, mode: StorageMode) -> &mut State {
        match mode {
            StorageMode::Default => &mut self.seen,
            StorageMode::LatestFinal => &mut self.finalized,
            StorageMode::LatestNonFinal => &mut self.latest,
        }
    }

    fn write(&mut self, slot: u8, index: u32, data: &[u8], deferred: bool) {
        self.seen.put(0, slot, index, data);
        note(&mut self.written, slot, index, data);
        if deferred {
            note(&mut self.deferred, slot, index, data);
        }
    }
}

/// Counts the requests that go through, by the method id that each starts with: a request is one `write`.
struct Counting {
    stream: UnixStream,
    requests: [u64; 256],
}

impl Read for Counting {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.stream.read(out)
    }
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.requests[usize::from(bytes[0])] += 1;
        self.stream.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Read { mode: StorageMode, account: usize, slot: u8, index: u32, length: usize },
    Write { slot: u8, index: u32, data: Vec<u8> },
    Flush,
    Commit { account: usize, slot: u8, index: u32, data: Vec<u8> },
    Finalize,
}

/// Places around the ends of pages and lines, and around both ends of a slot.
fn index() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0u32..200, 2 => 480u32..600, 1 => 4000u32..4200, 1 => 8100u32..8300, 2 => u32::MAX - 700..=u32::MAX]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0usize..5, 8 => 5usize..60, 2 => 60usize..1200, 1 => 1200usize..9000]
}

fn fitting(index: u32, length: usize) -> usize {
    length.min(((1u64 << 32) - u64::from(index)) as usize)
}

fn data() -> impl Strategy<Value = (u8, u32, Vec<u8>)> {
    (0..SLOTS, index(), length(), 1u8..).prop_map(|(slot, index, length, first)| {
        let length = fitting(index, length);
        (slot, index, (0..length).map(|at| first.wrapping_add((at % 97) as u8)).collect())
    })
}

fn op() -> impl Strategy<Value = Op> {
    let mode = prop_oneof![4 => Just(0u8), 1 => Just(1), 1 => Just(2)].prop_map(|mode| mode.try_into().unwrap());
    prop_oneof![
        12 => (mode, prop_oneof![3 => Just(0usize), 1 => Just(1)], 0..SLOTS, index(), length()).prop_map(|(mode, account, slot, index, length)| {
            Op::Read { mode, account, slot, index, length: fitting(index, length) }
        }),
        8 => data().prop_map(|(slot, index, data)| Op::Write { slot, index, data }),
        1 => Just(Op::Flush),
        1 => (0usize..2, data()).prop_map(|(account, (slot, index, data))| Op::Commit { account, slot, index, data }),
        1 => Just(Op::Finalize),
    ]
}

fn options() -> impl Strategy<Value = (CacheOptions, Limits)> {
    let page_size = prop::sample::select(vec![32, 32, 64, 256, 512, 4096]);
    let max_cached = prop::sample::select(vec![0, 511, 512, 1024, 5000, 20_000, 1 << 20]);
    let max_deferred = prop::sample::select(vec![0, 640, 1 << 20, 1 << 20, 1 << 20]);
    let read_ahead = prop::sample::select(vec![0, 1, 3, 40, u32::MAX]);
    let slice = prop::sample::select(vec![60, 1000, 64 << 20, 64 << 20]);
    let flags = (any::<bool>(), any::<bool>());
    (page_size, max_cached, max_deferred, read_ahead, slice, flags).prop_map(
        |(page_size, max_cached, max_deferred, read_ahead, slice, (deferred, cache_latest))| {
            let writes = if deferred { WriteMode::Deferred } else { WriteMode::Through };
            let page_size = PageSize::new(page_size).expect("a page size");
            let mut options = CacheOptions::default().with_page_size(page_size).with_writes(writes);
            options.max_cached = max_cached;
            options.max_deferred = max_deferred;
            options.read_ahead = read_ahead;
            options.cache_latest = cache_latest;
            (options, Limits::DEFAULT.with_slice(slice))
        },
    )
}

/// Another execution that writes once and returns.
fn commit(state: &HostState, account: usize, slot: u8, index: u32, data: &[u8]) {
    let mut execution = state.begin(Environment { account: ACCOUNTS[account], ..Environment::default() });
    execution.storage_write(&id(slot), index, data).expect("a write");
    execution.consume_result(ResultCode::Return, b"").expect("a result");
}

fn writes(deltas: Vec<Delta>) -> Writes {
    assert!(deltas.is_sorted_by_key(|delta| (delta.slot, delta.index)));
    for pair in deltas.windows(2) {
        let end = u64::from(pair[0].index) + pair[0].data.len() as u64;
        assert!(pair[0].slot != pair[1].slot || end < u64::from(pair[1].index), "{pair:?} touch");
    }
    let mut writes = Writes::new();
    for delta in deltas {
        assert!(!delta.data.is_empty());
        note(&mut writes, delta.slot.0[0], delta.index, &delta.data);
    }
    writes
}

fn assert_host_has(state: &HostState, mode: StorageMode, expected: &mut State) {
    for (account, address) in ACCOUNTS.iter().enumerate() {
        for slot in 0..SLOTS {
            for (index, length) in REACH {
                let mut out = vec![0xee; length];
                state.read(mode, address, &id(slot), index, &mut out);
                let same = out == expected.bytes(account, slot, index, length);
                assert!(same, "{mode} of account {account}, slot {slot}, from {index} on");
            }
        }
    }
}

fn is_too_long(error: &CallError) -> bool {
    matches!(error, CallError::Refused { source: ProtocolError::TooLong { .. }, .. })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_use_reads_and_leaves_what_the_model_does(
        (options, limits) in options(),
        seeded in any::<[[bool; SLOTS as usize]; 2]>(),
        before in prop::collection::vec((0usize..2, data()), 0..8),
        ops in prop::collection::vec(op(), 1..80),
        code in prop::sample::select(vec![ResultCode::Return, ResultCode::Return, ResultCode::UserError]),
    ) {
        let _watchdog = support::watchdog("any_use_reads_and_leaves_what_the_model_does");
        // Final, latest, and an execution that starts from the latter.
        let (state, mut latest) = (HostState::new(), State::zeros());
        for (account, slots) in seeded.iter().enumerate() {
            for slot in (0..SLOTS).filter(|slot| slots[usize::from(*slot)]) {
                for (index, length) in REACH {
                    let data: Vec<u8> = (0..length).map(|at| (at % 241) as u8 + 1 + slot).collect();
                    state.set_storage(&ACCOUNTS[account], &id(slot), index, &data);
                    latest.put(account, slot, index, &data);
                }
            }
        }
        let mut finalized = latest.clone();
        for (at, (account, (slot, index, data))) in before.iter().enumerate() {
            latest.put(*account, *slot, *index, data);
            commit(&state, *account, *slot, *index, data);
            if at == before.len() / 2 {
                state.finalize();
                finalized = latest.clone();
            }
        }
        let (written, deferred) = Default::default();
        let mut model = Model { seen: latest.clone(), latest, finalized, written, deferred };
        let (genvm, mut node) = UnixStream::pair().expect("a pair");
        let mut execution = state.begin(Environment { account: ACCOUNTS[0], ..Environment::default() });
        let host = thread::spawn(move || {
            let served = serve_blocking(&mut node, &mut execution, &Protocol::ONE);
            (served, execution.deltas())
        });
        let client = HostClient::speaking(Protocol::ONE.with_limits(limits.clone()), Counting { stream: genvm, requests: [0; 256] });
        let mut storage = PageCache::new(client, ACCOUNTS[0], options.clone());
        let too_long = |length: usize| length > limits.slice as usize;

        for op in ops {
            let made = storage.stats().host_reads;
            match op {
                Op::Read { mode, account, slot, index, length } => {
                    let mut out = vec![0xee; length];
                    let read = storage.storage_read(mode, &ACCOUNTS[account], &id(slot), index, &mut out);
                    match read {
                        Ok(()) => {
                            prop_assert!(!too_long(length));
                            prop_assert_eq!(&out[..], model.state(mode).bytes(account, slot, index, length));
                        }
                        Err(error) => prop_assert!(too_long(length) && is_too_long(&error), "{error}"),
                    }
                    prop_assert!(storage.stats().host_reads <= made + 1, "a read makes at most one call");
                }
                Op::Write { slot, index, data } => {
                    let mut written = storage.storage_write(&id(slot), index, &data);
                    if let Err(StorageError::Full { deferred, more, limit }) = written {
                        prop_assert!(options.writes == WriteMode::Deferred && deferred + more > limit);
                        prop_assert_eq!(&writes(storage.deltas()), &model.deferred, "a refused write is not kept");
                        storage.flush_writes().expect("a hand-over");
                        model.deferred.clear();
                        written = storage.storage_write(&id(slot), index, &data);
                    }
                    match written {
                        Ok(()) => model.write(slot, index, &data, options.writes == WriteMode::Deferred),
                        Err(StorageError::Call(error)) => prop_assert!(too_long(data.len()) && is_too_long(&error)),
                        Err(StorageError::Full { deferred, more, limit }) => prop_assert!(deferred == 0 && more > limit),
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                }
                Op::Flush => {
                    prop_assert_eq!(&writes(storage.deltas()), &model.deferred);
                    storage.flush_writes().expect("a hand-over");
                    model.deferred.clear();
                    prop_assert_eq!(storage.deltas(), []);
                }
                // With the latest state cached the host has to stand still.
                Op::Commit { .. } | Op::Finalize if options.cache_latest => {}
                Op::Commit { account, slot, index, data } => {
                    commit(&state, account, slot, index, &data);
                    model.latest.put(account, slot, index, &data);
                }
                Op::Finalize => {
                    state.finalize();
                    model.finalized = model.latest.clone();
                }
            }
        }

        prop_assert_eq!(&writes(storage.deltas()), &model.deferred);
        storage.finish(code, b"").expect("the end");
        let stats = storage.stats();
        let requests = storage.client_mut().get_ref().requests;
        prop_assert_eq!([stats.host_reads, stats.host_writes, 1], [requests[1], requests[2], requests[3]]);
        drop(storage);
        let (served, handed_over) = host.join().expect("no panic");
        prop_assert_eq!(served.expect("served"), Served::Finished);
        prop_assert_eq!(&writes(handed_over), &model.written);
        if code == ResultCode::Return {
            for ((slot, at), byte) in model.written {
                model.latest.put(0, slot, at as u32, &[byte]);
            }
        }
        assert_host_has(&state, StorageMode::LatestNonFinal, &mut model.latest);
        assert_host_has(&state, StorageMode::LatestFinal, &mut model.finalized);
    }
}
