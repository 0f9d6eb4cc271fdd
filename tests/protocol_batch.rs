//! `Batch` gives what the same calls give one at a time, whatever the stream, however small its buffers, whoever the host.
#![cfg(all(unix, feature = "uds", feature = "shm", feature = "tcp"))]

mod protocol_support;
mod support;
#[path = "protocol_support/transports.rs"]
mod transports;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use genvm_transport::protocol::*;
use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, connect, listen};
use proptest::prelude::*;
use protocol_support::{GoldenHost, golden, golden_two};
use support::watchdog;
use transports::*;

const ACCOUNT: Account = Account([0xaa; 20]);

/// A call that owns what it sends.
#[derive(Debug, Clone)]
enum Op {
    Read {
        slot: u8,
        index: u32,
        len: u32,
    },
    Write {
        slot: u8,
        index: u32,
        data: Vec<u8>,
    },
    /// Beyond the slot's end: cannot be sent.
    Beyond,
    Fuel(u64),
    FuelLeft,
    Balance,
    Calldata,
    Leader(u32),
    Event(Vec<u8>),
    /// Is answered with `absent` once the host's replies are used up.
    View,
}

impl Op {
    fn with<R>(&self, call: impl FnOnce(&Request<'_>) -> R) -> R {
        let mode = StorageMode::Default;
        match self {
            Self::Read { slot, index, len } => call(&Request::StorageRead {
                mode,
                account: ACCOUNT,
                slot: SlotId([*slot; 32]),
                index: *index,
                length: *len,
            }),
            Self::Write { slot, index, data } => {
                call(&Request::StorageWrite { slot: SlotId([*slot; 32]), index: *index, data })
            }
            Self::Beyond => {
                let slot = SlotId([0; 32]);
                call(&Request::StorageRead { mode, account: ACCOUNT, slot, index: u32::MAX, length: 2 })
            }
            Self::Fuel(gas) => call(&Request::ConsumeFuel { gas: (*gas).into() }),
            Self::FuelLeft => call(&Request::RemainingFuelAsGen),
            Self::Balance => call(&Request::GetBalance { account: ACCOUNT }),
            Self::Calldata => call(&Request::GetCalldata),
            Self::Leader(call_no) => call(&Request::GetLeaderNondetResult { call_no: *call_no }),
            Self::Event(blob) => call(&Request::PostEvent { topics: &[[1; 32]], blob }),
            Self::View => call(&Request::EthCall { account: ACCOUNT, calldata: b"view" }),
        }
    }
}

fn ops(longest: usize) -> impl Strategy<Value = Op> {
    let lengths = prop_oneof![9 => 0..40usize, 1 => 0..longest];
    let writes = (0..4u8, 0..5000u32, lengths.clone(), any::<u8>());
    prop_oneof![
        6 => (0..4u8, 0..5000u32, lengths.clone()).prop_map(|(slot, index, len)| Op::Read { slot, index, len: len as u32 }),
        3 => writes.prop_map(|(slot, index, len, byte)| Op::Write { slot, index, data: vec![byte; len] }),
        1 => Just(Op::Beyond),
        2 => (0..1000u64).prop_map(Op::Fuel),
        1 => Just(Op::FuelLeft),
        1 => Just(Op::Balance),
        1 => Just(Op::Calldata),
        1 => (0..2u32).prop_map(Op::Leader),
        1 => lengths.prop_map(|len| Op::Event(vec![7; len])),
        1 => Just(Op::View),
    ]
}

fn execution() -> Execution {
    let state = HostState::new();
    state.set_storage(&ACCOUNT, &SlotId([1; 32]), 17, &[9; 3000]);
    state.set_balance(&ACCOUNT, U256::from(77));
    let results = [(1, (ResultCode::Return, b"leader's".to_vec()))].into();
    state.begin(Environment {
        account: ACCOUNT,
        calldata: vec![5; 700],
        role: Role::Validator(results),
        eth_replies: EthReplies::InOrder([vec![3; 10], vec![4; 5000]].into()),
        fuel: u64::MAX >> 12,
        ..Environment::default()
    })
}

/// What can be compared.
fn plain(results: Vec<Result<Reply, CallError>>) -> Vec<Result<Reply, String>> {
    results.into_iter().map(|result| result.map_err(|error| error.to_string())).collect()
}

fn one_at_a_time(ops: &[Op]) -> Vec<Result<Reply, String>> {
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    let host = thread::spawn(move || serve_blocking(&mut node, &mut execution(), &Protocol::ONE));
    let mut client = HostClient::new(genvm);
    let results = ops.iter().map(|op| op.with(|request| client.call(request))).collect();
    drop(client);
    host.join().expect("no panic").expect("served");
    plain(results)
}

fn together<S: Read + Write>(mut batch: Batch<'_, S>, ops: &[Op]) -> Vec<Result<Reply, String>> {
    for (place, op) in ops.iter().enumerate() {
        assert_eq!(op.with(|request| batch.push(request)), place);
    }
    assert_eq!((batch.len(), batch.is_empty()), (ops.len(), ops.is_empty()));
    plain(batch.run())
}

/// Ours.
fn serving(node: Node) {
    serve_on_thread(node, execution(), &Protocol::ONE);
}

/// Ours as well.
fn serving_on_tokio(node: Node) {
    serve_on_tokio(node, execution(), &Protocol::ONE);
}

/// Many calls, most of them small, some as large as they may be.
fn ten_thousand(largest: u32) -> Vec<Op> {
    let op = |n: u32| match n % 1000 {
        0 => Op::Write { slot: 0, index: n % 7, data: vec![n as u8; largest as usize] },
        500 => Op::Read { slot: 0, index: 3, len: largest },
        n if n % 10 < 2 => Op::Write { slot: 0, index: n * 32, data: vec![n as u8; 32] },
        n if n % 10 == 2 => Op::Fuel(n.into()),
        n => Op::Read { slot: 0, index: n * 31, len: 32 },
    };
    (0..10_000).map(op).collect()
}

#[test]
fn ten_thousand_calls_in_the_smallest_buffers() {
    let _watchdog = watchdog("ten thousand calls in one batch");
    // A window of TCP as small as this lets some kilobytes a second through where a value does not fit into it.
    let [large, small] = [70_000, 1000].map(|largest| {
        let ops = ten_thousand(largest);
        let expected = one_at_a_time(&ops);
        assert!(expected.iter().all(Result::is_ok));
        (ops, expected)
    });
    let run = |host: fn(Node), calls: usize| {
        each_transport(&Protocol::ONE, host, |name, client, capacity| {
            let (ops, expected) = if name == "tcp" { &small } else { &large };
            assert!(together(client.batch_within(capacity), &ops[..calls]) == expected[..calls], "{name}");
        });
    };
    run(serving, 10_000);
    run(serving_on_tokio, 10_000);
    run(|node| foreign(node.blocking()), 1500); // it takes its time
}

/// All methods of both revisions, several times, with the result at the end; each host is alike to both ways of calling.
#[test]
fn every_method_in_one_batch() {
    let _watchdog = watchdog("every method in one batch");
    type Host = fn(Node, &Protocol);
    let hosts: [(bool, Host); 4] = [
        (true, |node, protocol| serve_on_thread(node, GoldenHost::default(), protocol)),
        (true, |node, protocol| serve_on_tokio(node, GoldenHost::default(), protocol)),
        (false, |node, protocol| serve_on_thread(node, execution(), protocol)),
        (false, |node, protocol| serve_on_tokio(node, execution(), protocol)),
    ];
    static PROTOCOLS: [Protocol; 2] = [Protocol::ONE, Protocol::TWO];
    for (protocol, mut golden) in PROTOCOLS.iter().zip([golden(), golden_two()]) {
        golden.sort_by_key(|golden| golden.decoded.method() == Method::ConsumeResult);
        let (result, others) = golden.split_last().expect("methods");
        let requests: Vec<_> = others.iter().cycle().take(20 * others.len()).chain([result]).collect();
        for (answers_all, host) in hosts {
            let host = move |node| host(node, protocol);
            let (genvm, node) = UnixStream::pair().expect("a pair");
            let hosting = thread::spawn(move || host(Node::Unix(node)));
            let mut client = HostClient::speaking(protocol.clone(), genvm);
            let alone = plain(requests.iter().map(|golden| client.call(&golden.decoded)).collect());
            assert_eq!(alone.iter().all(Result::is_ok), answers_all, "{alone:?}");
            drop(client);
            hosting.join().expect("the host did not panic");

            each_transport(protocol, host, |name, client, capacity| {
                let mut batch = client.batch_within(capacity);
                requests.iter().for_each(|golden| _ = batch.push(&golden.decoded));
                assert_eq!(plain(batch.run()), alone, "revision {}, {name}", protocol.revision());
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_is_its_calls(ops in proptest::collection::vec(ops(20_000), 0..120)) {
        let _watchdog = watchdog("a batch of random calls");
        let expected = one_at_a_time(&ops);
        each_transport(&Protocol::ONE, serving, |name, client, capacity| {
            // Between other calls, which it does not disturb.
            assert_eq!(client.get_balance(&ACCOUNT).expect("a balance"), U256::from(77));
            assert_eq!(together(client.batch_within(capacity), &ops), expected, "{name}");
            assert_eq!(client.get_balance(&ACCOUNT).expect("a balance"), U256::from(77));
        });
    }
}

#[test]
fn many_reads_fill_their_buffers() {
    let _watchdog = watchdog("many reads");
    for scheme in ["unix", "shm", "tcp"] {
        let directory = support::directory();
        let address = match scheme {
            "tcp" => "tcp://127.0.0.1:0".to_owned(),
            _ => format!("{scheme}://{}/host.sock", directory.path().display()),
        };
        let listener = listen(&address, &ListenOptions::default()).expect("a listener");
        let address = listener.address().to_string();
        let hosting = thread::spawn(move || serving(Node::Accepted(listener)));
        let stream = connect(&address, &ConnectOptions::default()).expect("connected");
        assert!(stream.send_capacity() > 16 << 10, "{scheme}: {}", stream.send_capacity());
        let mut client = HostClient::new(stream);

        let mut buffers = vec![vec![0xff; 40]; 500];
        let (mode, account) = (StorageMode::Default, ACCOUNT);
        let read =
            |(n, out): (usize, _)| SlotRead { mode, account, slot: SlotId([(n % 2) as u8; 32]), index: n as u32, out };
        let mut reads: Vec<_> = buffers.iter_mut().map(|buffer| &mut buffer[..]).enumerate().map(read).collect();
        client.storage_read_many(&mut reads).expect(scheme);
        for (n, buffer) in buffers.iter().enumerate() {
            let byte = |at: usize| if n % 2 == 1 && n + at >= 17 { 9 } else { 0 };
            assert!(buffer.iter().enumerate().all(|(at, &seen)| seen == byte(at)), "{scheme}, read {n}: {buffer:?}");
        }
        // The first that cannot be is what is told; the others were made.
        let (mut here, mut beyond, slot) = ([0xff; 1], [0xff; 2], SlotId([1; 32]));
        let error = client.storage_read_many(&mut [
            SlotRead { mode, account, slot, index: u32::MAX, out: &mut beyond },
            SlotRead { mode, account, slot, index: 17, out: &mut here },
        ]);
        assert!(matches!(error, Err(CallError::Refused { .. })), "{scheme}: {error:?}");
        assert_eq!(here, [9], "{scheme}");
        drop(client);
        hosting.join().expect("the host did not panic");
    }
}

/// Answers three reads of one byte, then sends `last` and closes.
fn dies(node: Node, last: &[u8]) {
    let mut stream = node.blocking();
    let mut request = [0; 62];
    for _ in 0..3 {
        stream.read_exact(&mut request).expect("a request");
        stream.write_all(&[0, 42]).and_then(|()| stream.flush()).expect("an answer");
    }
    stream.write_all(last).and_then(|()| stream.flush()).expect("the last answer");
    // Reads on, so that a close with bytes unread, which resets TCP, takes nothing back.
    let _ = stream.read(&mut [0; 1 << 16]);
}

fn dying_host(host: fn(Node), check: impl Fn(&str, &CallError)) {
    each_transport(&Protocol::ONE, host, |name, client, capacity| {
        let read = Op::Read { slot: 0, index: 0, len: 1 };
        let mut batch = client.batch_within(capacity);
        (0..400).for_each(|_| _ = read.with(|request| batch.push(request)));
        let results = batch.run();
        assert_eq!(results.len(), 400);
        for result in &results[..3] {
            assert!(matches!(result, Ok(Reply::Bytes(bytes)) if bytes[..] == [42]), "{name}: {result:?}");
        }
        check(name, results[3].as_ref().expect_err("no answer"));
        assert!(results[4..].iter().all(|result| matches!(result, Err(CallError::Dead { .. }))), "{name}");
        let after = client.get_calldata().expect_err("the connection is lost");
        assert!(matches!(after, CallError::Dead { .. }), "{name}: {after}");
    });
}

#[test]
fn a_host_that_dies_fails_the_rest_and_each_is_told() {
    let _watchdog = watchdog("a host that dies in a batch");
    dying_host(
        |node| dies(node, &[]),
        |name, error| {
            let gone = |source: &io::Error| {
                matches!(source.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
            };
            let told = match error {
                CallError::Protocol { source: ProtocolError::Truncated { missing: 1, .. }, .. } => true,
                CallError::Io { source, .. } => gone(source),
                _ => false,
            };
            assert!(told, "{name}: {error}");
        },
    );
}

#[test]
fn nonsense_ends_a_batch() {
    let _watchdog = watchdog("nonsense in a batch");
    dying_host(
        |node| dies(node, &[99]),
        |name, error| {
            let told =
                matches!(error, CallError::Protocol { source: ProtocolError::UnknownByte { field: "status", .. }, .. });
            assert!(told, "{name}: {error}");
        },
    );
}

#[test]
fn what_nobody_asked_for_ends_a_batch() {
    let _watchdog = watchdog("more than the answers");
    let surplus = |node: Node| {
        let mut stream = node.blocking();
        let mut requests = [0; 2 * 62];
        stream.read_exact(&mut requests).expect("both requests");
        stream.write_all(&[0, 1, 0, 2, 0]).and_then(|()| stream.flush()).expect("more than the answers");
        let _ = stream.read(&mut [0]);
    };
    each_transport(&Protocol::ONE, surplus, |name, client, capacity| {
        let read = Op::Read { slot: 0, index: 0, len: 1 };
        let mut batch = client.batch_within(capacity);
        (0..2).for_each(|_| _ = read.with(|request| batch.push(request)));
        let results = batch.run();
        assert!(matches!(&results[0], Ok(Reply::Bytes(bytes)) if bytes[..] == [1]), "{name}: {results:?}");
        // It may come with the answers, or be there for the next call only.
        let told =
            matches!(&results[1], Err(CallError::Protocol { source: ProtocolError::Surplus { bytes: 1, .. }, .. }));
        assert!(told || name != "unix" || results[1].is_ok(), "{name}: {results:?}");
    });
}

#[test]
fn an_empty_batch_calls_nothing() {
    let (genvm, node) = UnixStream::pair().expect("a pair");
    drop(node);
    let mut client = HostClient::new(genvm);
    assert!(client.batch_within(4096).run().is_empty());
    // Which it did not notice.
    assert!(matches!(client.get_calldata(), Err(CallError::Io { .. } | CallError::Protocol { .. })));
}
