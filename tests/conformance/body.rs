//! The conformance suite: what `genvm_transport::transport` promises, as tests of any [`Transport`].
//!
//! To put a transport of your own through it, include this file and name the transport and how to make a fresh address:
//!
//! ```ignore
//! #[path = "…/tests/conformance/body.rs"]
//! mod body;
//! body::conformance! { mine => MyTransport::new(), || "mine://somewhere-new".parse().unwrap(); }
//! ```
//!
//! Each check runs with both faces at both ends. It is written once, as blocking code over [`End`]; an async end runs each
//! operation on a tokio runtime. `CONFORMANCE_SEED` repeats a run; a failing test prints the seed that it had.
#![allow(dead_code, reason = "not every user needs every helper")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use genvm_transport::{
    AcceptError, Address, AsyncStream, BlockingStream, ConnectOptions, ListenOptions, Listener, Peer, RingCapacity,
    Transport, TransportKind, WaitStrategy,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

#[path = "../support/mod.rs"]
pub mod support;

/// Makes one module of tests of each `name => transport, function making a fresh address;`.
macro_rules! conformance {
    ($($(#[$attribute:meta])* $name:ident => $transport:expr, $address:expr;)*) => {$(
        $(#[$attribute])*
        mod $name {
            #[allow(unused_imports, reason = "for the two expressions")]
            use super::*;

            fn subject() -> body::Subject {
                body::Subject::new($transport, $address)
            }

            mod blocking_blocking { use super::{body, subject}; body::conformance_tests!(of_a_pair Blocking, Blocking); }
            mod blocking_async { use super::{body, subject}; body::conformance_tests!(of_a_pair Blocking, Async); }
            mod async_blocking { use super::{body, subject}; body::conformance_tests!(of_a_pair Async, Blocking); }
            mod async_async { use super::{body, subject}; body::conformance_tests!(of_a_pair Async, Async); }
            mod listening { use super::{body, subject}; body::conformance_tests!(of_a_listener); }
        }
    )*};
}
pub(crate) use conformance;

macro_rules! conformance_tests {
    (of_a_pair $client:ident, $host:ident) => {
        body::conformance_tests! { tests of_a_pair [body::Face::$client, body::Face::$host]
            bytes_arrive_once_in_order_unchanged
            one_byte_at_a_time
            both_directions_at_once
            a_read_publishes_what_was_written
            a_flush_wakes_a_sleeping_reader
            the_end_comes_after_everything
            writing_to_a_gone_peer_is_a_broken_pipe
            whoever_waits_learns_that_the_peer_is_gone
            an_expired_read_loses_nothing
            an_expired_write_loses_nothing
            dropped_futures_lose_nothing
            both_directions_full_and_a_slow_reader
            peer_is_what_the_kernel_says
            nothing_to_read_or_write_is_nothing_done
            every_wait_strategy
            the_smallest_ring
        }
    };
    (of_a_listener) => {
        body::conformance_tests! { tests of_a_listener []
            many_connections_and_both_faces
            close_wakes_everybody_who_accepts
            a_dropped_accept_loses_no_connection
        }
    };
    (tests $group:ident $faces:tt $($test:ident)*) => {$(
        #[test]
        fn $test() {
            let _watchdog = body::support::watchdog(concat!(module_path!(), "::", stringify!($test)));
            body::$group::$test(&subject(), $faces);
        }
    )*};
}
pub(crate) use conformance_tests;

/// A transport under test.
pub struct Subject {
    transport: Box<dyn Transport>,
    address: Box<dyn Fn() -> Address + Send + Sync>,
}

/// One of the two ways to use a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Blocking,
    Async,
}

/// One end of a connection, used by a thread whatever its face is.
#[derive(Debug)]
pub enum End {
    Blocking(Box<dyn BlockingStream>),
    Async(Box<dyn AsyncStream>),
}

/// Fresh paths for sockets, in a directory that goes with the function.
pub fn socket(scheme: &'static str) -> impl Fn() -> Address + Send + Sync {
    let directory = support::directory();
    let count = AtomicUsize::new(0);
    move || {
        let name = count.fetch_add(1, Ordering::Relaxed);
        format!("{scheme}://{}/{name}", directory.path().display()).parse().expect("an address")
    }
}

/// One for all tests: starting one a test would take longer than the tests.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// The defaults, with time for a machine that is busy with other tests.
fn patient() -> (ConnectOptions, ListenOptions) {
    let (mut connect, mut listen) = (ConnectOptions::default(), ListenOptions::default());
    connect.timeout = PATIENCE;
    connect.handshake_timeout = PATIENCE;
    listen.handshake_timeout = PATIENCE;
    (connect, listen)
}

const PATIENCE: Duration = Duration::from_secs(100);

impl Subject {
    pub fn new(transport: impl Transport + 'static, address: impl Fn() -> Address + Send + Sync + 'static) -> Self {
        Self { transport: Box::new(transport), address: Box::new(address) }
    }

    fn listen(&self, options: &ListenOptions) -> Box<dyn Listener> {
        self.transport.listen(&(self.address)(), options).expect("listen")
    }

    /// Connects and speaks first, as the contract wants it.
    fn connect(&self, face: Face, address: &Address, options: &ConnectOptions) -> End {
        let mut end = match face {
            Face::Blocking => End::Blocking(self.transport.connect(address, options).expect("connect")),
            Face::Async => {
                let connecting = self.transport.connect_async(address, options);
                End::Async(runtime().block_on(connecting).expect("connect"))
            }
        };
        end.write_all(b"!").expect("write");
        end.flush().expect("flush");
        end
    }

    /// Both ends of a connection, the connecting one first; nothing is left to read in it. The listener is gone.
    fn pair_with(&self, client: Face, host: Face, options: &(ConnectOptions, ListenOptions)) -> (End, End) {
        let listener = self.listen(&options.1);
        thread::scope(|scope| {
            let client = scope.spawn(|| self.connect(client, listener.address(), &options.0));
            let mut host = match host {
                Face::Blocking => End::Blocking(listener.accept().expect("accept")),
                Face::Async => End::Async(runtime().block_on(listener.accept_async()).expect("accept")),
            };
            let mut first = [0];
            host.read_exact(&mut first).expect("read");
            assert_eq!(&first, b"!");
            (client.join().expect("no panic"), host)
        })
    }

    fn pair(&self, client: Face, host: Face) -> (End, End) {
        self.pair_with(client, host, &patient())
    }

    /// The same connection twice, seen from either side: a check of one end becomes a check of both.
    fn both_ways(&self, client: Face, host: Face) -> [(End, End); 2] {
        let (a, b) = self.pair(client, host);
        let (c, d) = self.pair(client, host);
        [(a, b), (d, c)]
    }
}

impl Read for End {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Blocking(stream) => stream.read(out),
            Self::Async(stream) => runtime().block_on(stream.read(out)),
        }
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Blocking(stream) => stream.write(bytes),
            Self::Async(stream) => runtime().block_on(stream.write(bytes)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Blocking(stream) => stream.flush(),
            Self::Async(stream) => runtime().block_on(stream.flush()),
        }
    }
}

impl End {
    /// A read with a timeout: the stream's own, or a future that is dropped.
    pub fn read_within(&mut self, limit: Duration, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Blocking(stream) => {
                stream.set_read_timeout(Some(limit))?;
                let done = stream.read(out);
                stream.set_read_timeout(None)?;
                done
            }
            Self::Async(stream) => {
                let reading = async { tokio::time::timeout(limit, stream.read(out)).await };
                runtime().block_on(reading).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            }
        }
    }

    /// A write with a timeout: the stream's own, or a future that is dropped.
    pub fn write_within(&mut self, limit: Duration, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Blocking(stream) => {
                stream.set_write_timeout(Some(limit))?;
                let done = stream.write(bytes);
                stream.set_write_timeout(None)?;
                done
            }
            Self::Async(stream) => {
                let writing = async { tokio::time::timeout(limit, stream.write(bytes)).await };
                runtime().block_on(writing).unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            }
        }
    }

    /// Writes until the peer, who does not read, lets no more in. Returns how much that was.
    pub fn fill(&mut self, pattern: &Pattern) -> usize {
        let mut written = 0;
        loop {
            match self.write_within(MOMENT, &pattern.bytes(written, 60_000)) {
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::TimedOut => return written,
                Err(error) => panic!("write: {error}"),
            }
        }
    }

    /// Writes the pattern's next `length` bytes in pieces of random size up to `most`.
    fn send(&mut self, pattern: &Pattern, from: usize, length: usize, most: usize) {
        let mut sizes = Sizes::new(pattern.0 ^ 1);
        let mut at = from;
        while at < from + length {
            let size = sizes.next(most).min(from + length - at);
            let n = self.write(&pattern.bytes(at, size)).expect("write");
            assert!((1..=size).contains(&n), "wrote {n} of {size}");
            at += n;
        }
    }

    /// Reads and checks the pattern's next `length` bytes in pieces of random size up to `most`.
    fn receive(&mut self, pattern: &Pattern, from: usize, length: usize, most: usize) {
        let mut sizes = Sizes::new(pattern.0 ^ 2);
        let mut buffer = vec![0; most];
        let mut at = from;
        while at < from + length {
            let size = sizes.next(most).min(from + length - at);
            let n = self.read(&mut buffer[..size]).expect("read");
            assert!((1..=size).contains(&n), "read {n} of {size} at {at}");
            pattern.check(at, &buffer[..n]);
            at += n;
        }
    }

    /// Reads to the end, which has to come after exactly `length` bytes of the pattern.
    fn receive_to_end(&mut self, pattern: &Pattern, length: usize) {
        self.receive(pattern, 0, length, 10_000);
        for _ in 0..2 {
            assert_eq!(self.read(&mut [0; 10]).expect("read"), 0, "an end that stays");
        }
    }

    /// Sends back what comes, until the end.
    fn echo(&mut self) {
        let mut buffer = vec![0; 20_000];
        loop {
            match self.read(&mut buffer).expect("read") {
                0 => return,
                n => self.write_all(&buffer[..n]).expect("write"),
            }
        }
    }

    fn peer(&self) -> &Peer {
        match self {
            Self::Blocking(stream) => stream.peer(),
            Self::Async(stream) => stream.peer(),
        }
    }

    pub fn kind(&self) -> TransportKind {
        match self {
            Self::Blocking(stream) => stream.kind(),
            Self::Async(stream) => stream.kind(),
        }
    }
}

/// Bytes that tell where they belong.
#[derive(Debug, Clone, Copy)]
pub struct Pattern(pub u64);

impl Pattern {
    /// Another one each run, printed so that a failure can be repeated.
    fn seeded() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let seed = match std::env::var("CONFORMANCE_SEED") {
            Ok(seed) => seed.parse().expect("CONFORMANCE_SEED is a number"),
            Err(_) => std::collections::hash_map::RandomState::new().build_hasher().finish(),
        };
        println!("CONFORMANCE_SEED={seed}");
        Self(seed)
    }

    /// The same for the other direction, so that bytes which come back by mistake do not pass.
    pub fn reverse(self) -> Self {
        Self(!self.0)
    }

    pub fn bytes(&self, from: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        let mut word = from / 8;
        bytes.extend_from_slice(&self.word(word)[from % 8..]);
        while bytes.len() < length {
            word += 1;
            bytes.extend_from_slice(&self.word(word));
        }
        bytes.truncate(length);
        bytes
    }

    fn word(&self, index: usize) -> [u8; 8] {
        scramble(self.0 ^ index as u64).to_le_bytes()
    }

    pub fn check(&self, at: usize, seen: &[u8]) {
        let expected = self.bytes(at, seen.len());
        if expected != seen {
            let off = expected.iter().zip(seen).take_while(|(a, b)| a == b).count();
            panic!("byte {} of the stream is {:#04x}, expected {:#04x}", at + off, seen[off], expected[off]);
        }
    }
}

/// Sizes of pieces: mostly small ones, now and then the largest.
pub struct Sizes(u64);

impl Sizes {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(1);
        let random = scramble(self.0) as usize;
        match random % 4 {
            0 => random / 4 % most.min(100) + 1,
            1 => most,
            _ => random / 4 % most + 1,
        }
    }
}

/// The finalizer of MurmurHash3.
pub fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// How long a wait is whose only purpose is to expire.
const MOMENT: Duration = Duration::from_millis(20);

/// Checks of a connection.
pub mod of_a_pair {
    use super::*;

    pub fn bytes_arrive_once_in_order_unchanged(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (mut a, mut b) in subject.both_ways(client, host) {
            thread::scope(|scope| {
                scope.spawn(|| {
                    a.send(&pattern, 0, LARGE, 40_000);
                    a.flush().expect("flush");
                });
                b.receive(&pattern, 0, LARGE, 40_000);
            });
            // And as calls, which is how a host is used.
            let answers = pattern.reverse();
            let mut sizes = Sizes::new(pattern.0);
            let lengths: Vec<_> = (0..100).map(|_| (sizes.next(5000), sizes.next(5000))).collect();
            thread::scope(|scope| {
                scope.spawn(|| {
                    for &(request, answer) in &lengths {
                        a.send(&pattern, 0, request, request);
                        a.flush().expect("flush");
                        a.receive(&answers, 0, answer, answer);
                    }
                });
                for &(request, answer) in &lengths {
                    b.receive(&pattern, 0, request, request);
                    b.send(&answers, 0, answer, answer);
                    b.flush().expect("flush");
                }
            });
        }
    }

    pub fn one_byte_at_a_time(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (mut a, mut b) in subject.both_ways(client, host) {
            for (write, read) in [(1, 1), (1, 1000), (1000, 1)] {
                thread::scope(|scope| {
                    scope.spawn(|| {
                        a.send(&pattern, 0, 3000, write);
                        a.flush().expect("flush");
                    });
                    b.receive(&pattern, 0, 3000, read);
                });
            }
        }
    }

    /// Only an async end can read and write at the same time; its peer echoes.
    pub fn both_directions_at_once(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (a, mut b) in subject.both_ways(client, host) {
            let End::Async(a) = a else { continue };
            let echoing = thread::spawn(move || b.echo());
            let (mut reading, mut writing) = tokio::io::split(a);
            let writer = runtime().spawn(async move {
                let mut sizes = Sizes::new(pattern.0);
                let mut at = 0;
                while at < LARGE / 2 {
                    let size = sizes.next(30_000).min(LARGE / 2 - at);
                    writing.write_all(&pattern.bytes(at, size)).await.expect("write");
                    at += size;
                }
                writing.flush().await.expect("flush");
                writing
            });
            let reader = runtime().spawn(async move {
                let (mut at, mut buffer) = (0, vec![0; 30_000]);
                while at < LARGE / 2 {
                    let n = reading.read(&mut buffer).await.expect("read");
                    assert!(n > 0, "ended at {at}");
                    pattern.check(at, &buffer[..n]);
                    at += n;
                }
                reading
            });
            drop(runtime().block_on(async { (writer.await.expect("no panic"), reader.await.expect("no panic")) }));
            echoing.join().expect("no panic");
        }
    }

    pub fn a_read_publishes_what_was_written(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (a, mut b) in subject.both_ways(client, host) {
            thread::scope(|scope| {
                scope.spawn(|| b.echo());
                let mut a = a; // its end ends the echo
                let mut sizes = Sizes::new(pattern.0);
                for _ in 0..200 {
                    let size = sizes.next(2000);
                    a.send(&pattern, 0, size, 100); // no flush
                    a.receive(&pattern, 0, size, size);
                }
            });
        }
    }

    pub fn a_flush_wakes_a_sleeping_reader(subject: &Subject, [client, host]: [Face; 2]) {
        let (mut connect, mut listen) = patient();
        connect.stream.wait = Some(WaitStrategy::Park);
        listen.stream.wait = Some(WaitStrategy::Park);
        let (a, b) = subject.pair_with(client, host, &(connect.clone(), listen.clone()));
        let (c, d) = subject.pair_with(client, host, &(connect, listen));
        for (mut a, mut b) in [(a, b), (d, c)] {
            let (about_to_read, reads) = mpsc::channel();
            let reader = thread::spawn(move || {
                for round in 0..ROUNDS {
                    about_to_read.send(()).expect("the writer waits");
                    let mut byte = [0];
                    b.read_exact(&mut byte).expect("read");
                    assert_eq!(byte[0], round);
                }
            });
            for round in 0..ROUNDS {
                reads.recv().expect("the reader reads");
                // Nothing tells when the reader sleeps; some rounds find it awake, some falling asleep, some asleep.
                thread::sleep(Duration::from_micros(u64::from(round) * 20));
                a.write_all(&[round]).expect("write");
                a.flush().expect("flush");
            }
            reader.join().expect("no panic");
        }
    }

    pub fn the_end_comes_after_everything(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (mut a, mut b) in subject.both_ways(client, host) {
            let writer = thread::spawn(move || {
                a.send(&pattern, 0, LARGE / 4, 20_000);
                a.flush().expect("flush");
            });
            b.receive_to_end(&pattern, LARGE / 4);
            writer.join().expect("no panic");
        }
        // Dropping publishes, too, and whoever closed is not needed any more.
        for (mut a, mut b) in subject.both_ways(client, host) {
            a.send(&pattern, 0, 1000, 300);
            drop(a);
            b.receive_to_end(&pattern, 1000);
        }
        for (a, mut b) in subject.both_ways(client, host) {
            drop(a);
            b.receive_to_end(&pattern, 0);
        }
    }

    pub fn writing_to_a_gone_peer_is_a_broken_pipe(subject: &Subject, [client, host]: [Face; 2]) {
        for (mut a, b) in subject.both_ways(client, host) {
            drop(b);
            assert_eq!(broken(&mut a).kind(), ErrorKind::BrokenPipe);
            assert_eq!(broken(&mut a).kind(), ErrorKind::BrokenPipe, "it stays dead");
        }
    }

    /// The error that writing ends in. A network needs a few writes to learn of it.
    fn broken(end: &mut End) -> io::Error {
        loop {
            if let Err(error) = end.write_all(&[0; 1000]).and_then(|()| end.flush()) {
                return error;
            }
        }
    }

    pub fn whoever_waits_learns_that_the_peer_is_gone(subject: &Subject, [client, host]: [Face; 2]) {
        for (mut a, b) in subject.both_ways(client, host) {
            let reader = thread::spawn(move || a.read(&mut [0]).expect("an end"));
            drop(b);
            assert_eq!(reader.join().expect("no panic"), 0);
        }
        let pattern = Pattern::seeded();
        for (mut a, b) in subject.both_ways(client, host) {
            a.fill(&pattern);
            let writer = thread::spawn(move || broken(&mut a));
            drop(b);
            assert_eq!(writer.join().expect("no panic").kind(), ErrorKind::BrokenPipe);
        }
    }

    pub fn an_expired_read_loses_nothing(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (mut a, mut b) in subject.both_ways(client, host) {
            for end in [&mut a, &mut b] {
                if let End::Blocking(stream) = end {
                    for refused in
                        [stream.set_read_timeout(Some(Duration::ZERO)), stream.set_write_timeout(Some(Duration::ZERO))]
                    {
                        assert_eq!(refused.expect_err("as in std").kind(), ErrorKind::InvalidInput);
                    }
                }
                assert_eq!(end.read_within(MOMENT, &mut [0]).expect_err("nothing").kind(), ErrorKind::TimedOut);
            }
            thread::scope(|scope| {
                scope.spawn(|| {
                    for at in (0..10_000).step_by(50) {
                        a.send(&pattern, at, 50, 50);
                        a.flush().expect("flush");
                        // A pace at which the reader's timeout is a close call.
                        thread::sleep(Duration::from_micros(at as u64 % 400));
                    }
                });
                let (mut at, mut buffer) = (0, [0; 70]);
                while at < 10_000 {
                    match b.read_within(Duration::from_micros(200), &mut buffer) {
                        Ok(n) => {
                            assert!(n > 0, "ended at {at}");
                            pattern.check(at, &buffer[..n]);
                            at += n;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                    }
                }
            });
            // What was set back to `None` waits for ever: until the answer.
            thread::scope(|scope| {
                scope.spawn(|| b.receive(&pattern, 0, 1, 1));
                thread::sleep(MOMENT);
                a.send(&pattern, 0, 1, 1);
                a.flush().expect("flush");
            });
        }
    }

    pub fn an_expired_write_loses_nothing(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (mut a, mut b) in subject.both_ways(client, host) {
            let filled = a.fill(&pattern);
            let total = filled + LARGE / 8;
            let slow = thread::spawn(move || {
                for at in (0..total).step_by(5000) {
                    b.receive(&pattern, at, 5000.min(total - at), 5000);
                    thread::yield_now();
                }
                b
            });
            let mut at = filled;
            while at < total {
                match a.write_within(Duration::from_micros(200), &pattern.bytes(at, 3000.min(total - at))) {
                    Ok(n) => at += n,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                }
            }
            a.flush().expect("flush");
            slow.join().expect("no panic");
        }
    }

    /// Futures that are polled once and then lose against one that is ready.
    pub fn dropped_futures_lose_nothing(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (a, mut b) in subject.both_ways(client, host) {
            let End::Async(mut a) = a else { continue };
            runtime().block_on(async {
                let mut byte = [0];
                for _ in 0..2000 {
                    tokio::select! {
                        biased;
                        done = a.read(&mut byte) => panic!("there was nothing to read: {done:?}"),
                        () = std::future::ready(()) => tokio::task::yield_now().await,
                    }
                }
            });
            let writer = thread::spawn(move || {
                b.send(&pattern, 0, LARGE / 8, 700);
                b.flush().expect("flush");
                b
            });
            runtime().block_on(async {
                let (mut at, mut buffer, mut sizes) = (0, [0; 2000], Sizes::new(pattern.0));
                while at < LARGE / 8 {
                    let size = sizes.next(2000);
                    tokio::select! {
                        biased;
                        n = a.read(&mut buffer[..size]) => {
                            let n = n.expect("read");
                            assert!(n > 0, "ended at {at}");
                            pattern.check(at, &buffer[..n]);
                            at += n;
                        }
                        () = std::future::ready(()) => tokio::task::yield_now().await,
                    }
                }
            });
            let mut b = writer.join().expect("no panic");

            let mut a = End::Async(a);
            let mut filled = a.fill(&pattern);
            let End::Async(mut a) = a else { unreachable!() };
            runtime().block_on(async {
                for _ in 0..2000 {
                    let piece = pattern.bytes(filled, 500);
                    tokio::select! {
                        biased;
                        // A network may find some more room meanwhile.
                        n = a.write(&piece) => filled += n.expect("write"),
                        () = std::future::ready(()) => tokio::task::yield_now().await,
                    }
                }
            });
            let total = filled + LARGE / 8;
            let reader = thread::spawn(move || b.receive(&pattern, 0, total, 3000));
            runtime().block_on(async {
                let (mut at, mut sizes) = (filled, Sizes::new(pattern.0));
                while at < total {
                    let piece = pattern.bytes(at, sizes.next(3000).min(total - at));
                    tokio::select! {
                        biased;
                        n = a.write(&piece) => at += n.expect("write"),
                        () = std::future::ready(()) => tokio::task::yield_now().await,
                    }
                    tokio::select! {
                        biased;
                        done = a.flush() => done.expect("flush"),
                        () = std::future::ready(()) => {}
                    }
                }
                a.flush().await.expect("flush");
            });
            reader.join().expect("no panic");
        }
    }

    pub fn both_directions_full_and_a_slow_reader(subject: &Subject, [client, host]: [Face; 2]) {
        let pattern = Pattern::seeded();
        for (mut a, mut b) in subject.both_ways(client, host) {
            let (there, back) = (a.fill(&pattern), b.fill(&pattern.reverse()));
            thread::scope(|scope| {
                scope.spawn(|| {
                    a.receive(&pattern.reverse(), 0, back, 50_000);
                    a.flush().expect("flush");
                });
                for at in (0..there).step_by(1000) {
                    b.receive(&pattern, at, 1000.min(there - at), 1000);
                    thread::yield_now();
                }
                b.flush().expect("flush");
            });
        }
    }

    pub fn peer_is_what_the_kernel_says(subject: &Subject, [client, host]: [Face; 2]) {
        let (a, b) = subject.pair(client, host);
        assert_eq!(a.kind(), b.kind());
        for end in [a, b] {
            match (end.kind(), end.peer()) {
                (TransportKind::Tcp, Peer::Network(address)) => {
                    assert!(matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()), "{address}");
                }
                (_, Peer::Process { pid, uid, .. }) => {
                    assert!(pid.is_none_or(|pid| pid == std::process::id() as i32), "{pid:?}");
                    assert_eq!(*uid, rustix::process::geteuid().as_raw());
                }
                (TransportKind::Custom(_), Peer::Unknown | Peer::Network(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn nothing_to_read_or_write_is_nothing_done(subject: &Subject, [client, host]: [Face; 2]) {
        for (mut a, mut b) in subject.both_ways(client, host) {
            // With nothing there and with something there.
            for _ in 0..2 {
                assert_eq!(b.read(&mut []).expect("read"), 0);
                assert_eq!(b.write(&[]).expect("write"), 0);
                b.flush().expect("flush");
                a.write_all(b"abc").expect("write");
                assert_eq!(a.write(&[]).expect("write"), 0);
                a.flush().expect("flush");
                let mut seen = [0; 1];
                b.read_exact(&mut seen).expect("read");
                assert_eq!(&seen, b"a");
                assert_eq!(b.read(&mut []).expect("read"), 0);
                let mut seen = [0; 2];
                b.read_exact(&mut seen).expect("read");
                assert_eq!(&seen, b"bc");
            }
            drop(a);
            assert_eq!(b.read(&mut []).expect("read"), 0);
            assert_eq!(b.read(&mut [0]).expect("read"), 0);
        }
    }

    pub fn every_wait_strategy(subject: &Subject, [client, host]: [Face; 2]) {
        for of_client in WAITS {
            for of_host in WAITS {
                let (mut connect, mut listen) = patient();
                connect.stream.wait = Some(of_client);
                listen.stream.wait = Some(of_host);
                println!("{of_client:?} and {of_host:?}");
                calls_streams_and_timeouts(subject.pair_with(client, host, &(connect, listen)));
            }
        }
    }

    pub fn the_smallest_ring(subject: &Subject, [client, host]: [Face; 2]) {
        for (of_client, of_host) in [
            (RingCapacity::MIN, RingCapacity::MIN),
            (RingCapacity::MIN, RingCapacity::DEFAULT),
            (RingCapacity::DEFAULT, RingCapacity::MIN),
        ] {
            let (mut connect, mut listen) = patient();
            connect.stream.ring_capacity = of_client;
            listen.stream.ring_capacity = of_host;
            calls_streams_and_timeouts(subject.pair_with(client, host, &(connect, listen)));
        }
    }

    fn calls_streams_and_timeouts((mut a, mut b): (End, End)) {
        let pattern = Pattern::seeded();
        let answers = pattern.reverse();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    a.send(&pattern, 0, 62, 62);
                    a.receive(&answers, 0, 40, 40);
                }
            });
            for _ in 0..20 {
                b.receive(&pattern, 0, 62, 62);
                b.send(&answers, 0, 40, 40);
                b.flush().expect("flush");
            }
        });
        for end in [&mut a, &mut b] {
            let error = end.read_within(Duration::from_millis(2), &mut [0]).expect_err("nothing there");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        stream(&mut a, &mut b, &pattern);
        stream(&mut b, &mut a, &answers);
        // The last bytes are there although their writer is not.
        b.send(&answers, 0, 500, 100);
        drop(b);
        a.receive_to_end(&answers, 500);
    }

    fn stream(from: &mut End, to: &mut End, pattern: &Pattern) {
        thread::scope(|scope| {
            scope.spawn(|| {
                from.send(pattern, 0, 50_000, 9000);
                from.flush().expect("flush");
            });
            to.receive(pattern, 0, 50_000, 9000);
        });
    }

    const LARGE: usize = 1 << 20;
    const ROUNDS: u8 = 60;
    const WAITS: [WaitStrategy; 3] = [WaitStrategy::Park, WaitStrategy::ADAPTIVE, WaitStrategy::Spin];
}

/// Checks of a listener, which always has both faces.
pub mod of_a_listener {
    use super::*;

    pub fn many_connections_and_both_faces(subject: &Subject, _: [Face; 0]) {
        let pattern = Pattern::seeded();
        let (connect, listen) = patient();
        let listener = subject.listen(&listen);
        let served = AtomicUsize::new(0);
        thread::scope(|scope| {
            for face in [Face::Blocking, Face::Async].repeat(ACCEPTERS) {
                let (listener, served) = (&listener, &served);
                scope.spawn(move || {
                    while let Some(mut end) = accepted(face, &**listener) {
                        served.fetch_add(1, Ordering::SeqCst);
                        end.echo();
                    }
                });
            }
            thread::scope(|scope| {
                for face in [Face::Blocking, Face::Async].repeat(CLIENTS) {
                    let (listener, connect) = (&listener, &connect);
                    scope.spawn(move || {
                        for _ in 0..CONNECTIONS {
                            let mut end = subject.connect(face, listener.address(), connect);
                            end.read_exact(&mut [0]).expect("read");
                            end.send(&pattern, 0, 2000, 700);
                            end.receive(&pattern, 0, 2000, 2000);
                        }
                    });
                }
            });
            listener.close();
        });
        assert_eq!(served.into_inner(), 2 * CLIENTS * CONNECTIONS);
    }

    /// `None` once the listener is closed.
    fn accepted(face: Face, listener: &dyn Listener) -> Option<End> {
        let accepted = match face {
            Face::Blocking => listener.accept().map(End::Blocking),
            Face::Async => runtime().block_on(listener.accept_async()).map(End::Async),
        };
        match accepted {
            Ok(end) => Some(end),
            Err(AcceptError::Closed) => None,
            Err(error) => panic!("accept: {error}"),
        }
    }

    pub fn close_wakes_everybody_who_accepts(subject: &Subject, _: [Face; 0]) {
        let (_, listen) = patient();
        for round in 0..20 {
            let listener = subject.listen(&listen);
            thread::scope(|scope| {
                let (about_to_accept, accepts) = mpsc::channel();
                for face in [Face::Blocking, Face::Async].repeat(2) {
                    let (listener, about_to_accept) = (&listener, about_to_accept.clone());
                    scope.spawn(move || {
                        about_to_accept.send(()).expect("somebody waits");
                        assert!(accepted(face, &**listener).is_none());
                    });
                }
                for _ in 0..4 {
                    accepts.recv().expect("four of them");
                }
                // Nothing tells that they wait; some rounds find them waiting, some on their way.
                thread::sleep(Duration::from_micros(100 * round));
                listener.close();
            });
            for face in [Face::Blocking, Face::Async] {
                assert!(accepted(face, &*listener).is_none(), "closed for good");
            }
            listener.close(); // once more is no harm
        }
    }

    pub fn a_dropped_accept_loses_no_connection(subject: &Subject, _: [Face; 0]) {
        let (connect, listen) = patient();
        let listener = subject.listen(&listen);
        thread::scope(|scope| {
            scope.spawn(|| {
                for face in [Face::Blocking, Face::Async].repeat(10) {
                    let mut end = subject.connect(face, listener.address(), &connect);
                    end.read_exact(&mut [0]).expect("read");
                }
            });
            for _ in 0..20 {
                let end = runtime().block_on(async {
                    loop {
                        tokio::select! {
                            biased;
                            end = listener.accept_async() => return end.expect("accept"),
                            () = std::future::ready(()) => tokio::task::yield_now().await,
                        }
                    }
                });
                End::Async(end).echo();
            }
        });
    }

    const ACCEPTERS: usize = 4;
    const CLIENTS: usize = 4;
    const CONNECTIONS: usize = 10;
}
