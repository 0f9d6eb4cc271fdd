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

// By path: whoever includes this file is elsewhere.
#[path = "end.rs"]
mod end;
#[path = "of_a_listener.rs"]
pub mod of_a_listener;
#[path = "of_a_pair.rs"]
pub mod of_a_pair;
#[path = "pattern.rs"]
mod pattern;
#[path = "../support/mod.rs"]
pub mod support;

pub use end::End;
#[allow(unused_imports, reason = "not every user needs every helper")]
pub use pattern::{Pattern, Sizes, scramble};

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

/// How long a wait is whose only purpose is to expire.
const MOMENT: Duration = Duration::from_millis(20);
