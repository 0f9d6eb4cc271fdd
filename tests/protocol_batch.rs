//! `Batch` gives what the same calls give one at a time, whatever the stream, however small its buffers, whoever the host.
#![cfg(all(unix, feature = "uds", feature = "shm", feature = "tcp"))]

mod support;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use genvm_transport::protocol::*;
use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, RingCapacity, connect, listen};
use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use support::watchdog;

const ACCOUNT: Account = Account([0xaa; 20]);

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}
type Stream = Box<dyn ReadWrite>;

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

/// The smallest buffers that the kernel allows. Returns what is sent into.
fn shrink(socket: &impl AsFd) -> usize {
    rustix::net::sockopt::set_socket_send_buffer_size(socket, 1).expect("SO_SNDBUF");
    rustix::net::sockopt::set_socket_recv_buffer_size(socket, 1).expect("SO_RCVBUF");
    rustix::net::sockopt::socket_send_buffer_size(socket).expect("SO_SNDBUF")
}

/// Puts a client to `test` whose other end is given to `host`, over each transport with the smallest buffers there are.
fn each_transport(host: fn(Stream), test: impl Fn(&str, &mut HostClient<Stream>, usize)) {
    let run = |name: &str, stream: Stream, capacity: usize, hosting: thread::JoinHandle<()>| {
        let mut client = HostClient::new(stream);
        test(name, &mut client, capacity);
        drop(client);
        hosting.join().expect("the host did not panic");
    };
    let (client, node) = UnixStream::pair().expect("a pair");
    let (capacity, _) = (shrink(&client), shrink(&node));
    run("unix", Box::new(client), capacity, thread::spawn(move || host(Box::new(node))));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
    let (node, _) = listener.accept().expect("accepted");
    let (capacity, _) = (shrink(&client), shrink(&node));
    client.set_nodelay(true).and_then(|()| node.set_nodelay(true)).expect("TCP_NODELAY");
    run("tcp", Box::new(client), capacity, thread::spawn(move || host(Box::new(node))));

    let directory = support::directory();
    let address = format!("shm://{}/host.sock", directory.path().display());
    let (mut listening, mut connecting) = (ListenOptions::default(), ConnectOptions::default());
    listening.stream.ring_capacity = RingCapacity::MIN;
    connecting.stream.ring_capacity = RingCapacity::MIN;
    let listener = listen(&address, &listening).expect("a listener");
    let hosting = thread::spawn(move || host(Box::new(listener.accept().expect("accepted"))));
    let client = connect(&address, &connecting).expect("connected");
    let capacity = client.send_capacity();
    assert_eq!(capacity, RingCapacity::MIN.bytes() as usize);
    run("shm", Box::new(client), capacity, hosting);
}

/// Ours.
fn serving(mut stream: Stream) {
    // A client that was told of an error closes with requests unread.
    let _ = serve_blocking(&mut stream, &mut execution(), &Protocol::ONE);
}

/// Somebody else's: it shares nothing with ours, knows three methods, and sends its answers byte by byte.
fn foreign(mut stream: Stream) {
    let mut storage = vec![0u8; 1 << 17];
    loop {
        let mut id = [0];
        if stream.read_exact(&mut id).is_err() {
            return;
        }
        let answer = match id[0] {
            1 => {
                let mut fields = [0; 1 + 20 + 32 + 8];
                stream.read_exact(&mut fields).expect("a whole request");
                let number = |at: usize| u32::from_le_bytes(fields[at..at + 4].try_into().unwrap()) as usize;
                let (index, len) = (number(53), number(57));
                [&[0], &storage[index..index + len]].concat()
            }
            2 => {
                let mut fields = [0; 32 + 8];
                stream.read_exact(&mut fields).expect("a whole request");
                let number = |at: usize| u32::from_le_bytes(fields[at..at + 4].try_into().unwrap()) as usize;
                let (index, len) = (number(32), number(36));
                stream.read_exact(&mut storage[index..index + len]).expect("its data");
                vec![0]
            }
            8 => {
                stream.read_exact(&mut [0; 8]).expect("a whole request");
                continue;
            }
            other => panic!("method {other}"),
        };
        for byte in answer {
            if stream.write_all(&[byte]).and_then(|()| stream.flush()).is_err() {
                return;
            }
        }
    }
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
    let run = |host, calls: usize| {
        each_transport(host, |name, client, capacity| {
            let (ops, expected) = if name == "tcp" { &small } else { &large };
            assert!(together(client.batch_within(capacity), &ops[..calls]) == expected[..calls], "{name}");
        });
    };
    run(serving, 10_000);
    run(foreign, 1500); // it takes its time
}

#[test]
fn a_tokio_host_serves_a_batch_as_well() {
    let _watchdog = watchdog("a batch over a tokio host");
    let ops = ten_thousand(70_000);
    let expected = one_at_a_time(&ops);
    let (client, node) = UnixStream::pair().expect("a pair");
    let (capacity, _) = (shrink(&client), shrink(&node));
    let mut client = HostClient::new(client);
    let host = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            node.set_nonblocking(true).expect("non-blocking");
            let mut node = tokio::net::UnixStream::from_std(node).expect("a socket");
            serve(&mut node, &mut execution(), &Protocol::ONE).await.expect("served")
        })
    });
    assert!(together(client.batch_within(capacity), &ops) == expected);
    drop(client);
    assert_eq!(host.join().expect("no panic"), Served::Closed);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_is_its_calls(ops in proptest::collection::vec(ops(20_000), 0..120)) {
        let _watchdog = watchdog("a batch of random calls");
        let expected = one_at_a_time(&ops);
        each_transport(serving, |name, client, capacity| {
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
        let hosting = thread::spawn(move || serving(Box::new(listener.accept().expect("accepted"))));
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
fn dies(mut stream: Stream, last: &[u8]) {
    let mut request = [0; 62];
    for _ in 0..3 {
        stream.read_exact(&mut request).expect("a request");
        stream.write_all(&[0, 42]).and_then(|()| stream.flush()).expect("an answer");
    }
    stream.write_all(last).and_then(|()| stream.flush()).expect("the last answer");
    // Reads on, so that a close with bytes unread, which resets TCP, takes nothing back.
    let _ = stream.read(&mut [0; 1 << 16]);
}

fn dying_host(host: fn(Stream), check: impl Fn(&str, &CallError)) {
    each_transport(host, |name, client, capacity| {
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
        |stream| dies(stream, &[]),
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
        |stream| dies(stream, &[99]),
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
    let surplus = |mut stream: Stream| {
        let mut requests = [0; 2 * 62];
        stream.read_exact(&mut requests).expect("both requests");
        stream.write_all(&[0, 1, 0, 2, 0]).and_then(|()| stream.flush()).expect("more than the answers");
        let _ = stream.read(&mut [0]);
    };
    each_transport(surplus, |name, client, capacity| {
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

/// A non-blocking socket that waits by `poll` when there is nothing to be done, as this crate's do once they have a timeout.
struct Polled(UnixStream);

impl Polled {
    fn wait<T>(&mut self, event: PollFlags, mut io: impl FnMut(&mut UnixStream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match io(&mut self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.0, event)], None)?;
                }
                done => return done,
            }
        }
    }
}

impl Read for Polled {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN, |socket| socket.read(out))
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT, |socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `poll` calls a socket writable when three quarters of its buffer are free, which a host that waits for its answers to be read may
/// never get to: it must not come to that, however late the host begins to read what was sent before the batch.
#[cfg(target_os = "linux")]
#[test]
fn what_was_sent_before_a_batch_takes_up_room_too() {
    let _watchdog = watchdog("a batch behind calls that the host has not read");
    for unread in (0..40).step_by(3) {
        let (client, node) = UnixStream::pair().expect("a pair");
        rustix::net::sockopt::set_socket_send_buffer_size(&client, 16 << 10).expect("SO_SNDBUF");
        let capacity = rustix::net::sockopt::socket_send_buffer_size(&client).expect("SO_SNDBUF");
        shrink(&node);
        let (tell, calling) = mpsc::channel();
        let genvm = thread::spawn(move || {
            client.set_nonblocking(true).expect("non-blocking");
            let mut client = HostClient::new(Polled(client));
            tell.send(support::thread_id()).expect("somebody listens");
            (0..unread).for_each(|_| client.consume_fuel(1_u64).expect("sent"));
            together(client.batch_within(capacity), &vec![Op::Read { slot: 0, index: 0, len: 4 }; 300])
        });
        let tid = calling.recv().expect("its number");
        while !support::sleeps(tid) {
            thread::yield_now();
        }
        foreign(Box::new(node));
        let results = genvm.join().expect("no panic");
        let wrong = results.iter().find(|result| **result != Ok(Reply::Bytes(vec![0; 4])));
        assert_eq!(wrong, None, "behind {unread} calls");
    }
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
