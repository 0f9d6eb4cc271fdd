//! A batch writes nothing that would have to wait, except to a host that waits for it: seen from the kernel's side.
#![cfg(all(target_os = "linux", feature = "uds", feature = "shm", feature = "tcp"))]

mod support;
#[path = "protocol_support/transports.rs"]
mod transports;

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use genvm_transport::protocol::*;
use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, RingCapacity, WaitStrategy, connect, listen};
use rustix::event::{PollFd, PollFlags, poll};
use support::{sleeps, thread_id, watchdog};
use transports::{Node, Polled, Stream, foreign, shrink};

const ACCOUNT: Account = Account([0xaa; 20]);
const SLOT: SlotId = SlotId([0; 32]);
const READ: Request<'static> =
    Request::StorageRead { mode: StorageMode::Default, account: ACCOUNT, slot: SLOT, index: 0, length: 4 };

fn until_it_sleeps(thread: i32) {
    while !sleeps(thread) {
        thread::yield_now();
    }
}

/// Waits to read, and fails where it would have to wait to write.
struct Impatient<S>(S);

impl<S: Read + AsFd> Read for Impatient<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], None)?;
        self.0.read(out)
    }
}

impl<S: Write> Write for Impatient<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Waits for a word after the first read.
struct Late {
    stream: Stream,
    word: Option<mpsc::Receiver<()>>,
}

impl Read for Late {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(out)?;
        if let Some(word) = self.word.take() {
            word.recv().expect("somebody says it");
        }
        Ok(read)
    }
}

impl Write for Late {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A host that reads one byte, and the others when it is told to.
fn late(node: Node) -> (thread::JoinHandle<()>, mpsc::Sender<()>) {
    let (say, word) = mpsc::channel();
    (thread::spawn(move || foreign(Late { stream: node.blocking(), word: Some(word) })), say)
}

/// Makes calls of all sizes that fit, with a host that reads nothing before the client has nothing left to do but wait.
fn makes_calls_that_fit(
    name: &str,
    stream: Stream,
    capacity: usize,
    (hosting, go_on): (thread::JoinHandle<()>, mpsc::Sender<()>),
) {
    let (tell, calling) = mpsc::channel();
    let genvm = thread::spawn(move || {
        let mut client = HostClient::new(stream);
        tell.send(thread_id()).expect("somebody listens");
        let data = vec![7; (capacity - 2048) / 2 - 41];
        let mut batch = client.batch_within(capacity);
        for n in 0..150_usize {
            let length = match n % 5 {
                0 => n * n * 7919 % data.len(),
                3 => data.len() - n % 7,
                _ => n % 90,
            };
            batch.push(&Request::StorageWrite { slot: SLOT, index: 0, data: &data[..length] });
        }
        batch.run()
    });
    until_it_sleeps(calling.recv().expect("its number"));
    go_on.send(()).expect("it waits");
    let results = genvm.join().expect("no panic");
    hosting.join().expect("the host did not panic");
    let wrong = results.iter().find(|result| !matches!(result, Ok(Reply::Done)));
    assert!(wrong.is_none(), "{name}, {capacity}: {wrong:?}");
}

#[test]
fn a_call_that_fits_never_waits_to_be_written() {
    let _watchdog = watchdog("calls that fit");
    let send_buffer = |socket: &dyn AsFd, bytes| {
        rustix::net::sockopt::set_socket_send_buffer_size(socket.as_fd(), bytes).expect("SO_SNDBUF");
        rustix::net::sockopt::socket_send_buffer_size(socket.as_fd()).expect("SO_SNDBUF")
    };
    for bytes in [1, 3000, 10_000, 60_000] {
        let (client, node) = UnixStream::pair().expect("a pair");
        client.set_nonblocking(true).expect("non-blocking");
        shrink(&node);
        let capacity = send_buffer(&client, bytes);
        makes_calls_that_fit("unix", Box::new(Impatient(client)), capacity, late(Node::Unix(node)));

        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
        let (node, _) = listener.accept().expect("accepted");
        client.set_nodelay(true).and_then(|()| client.set_nonblocking(true)).expect("set up");
        let capacity = send_buffer(&client, bytes);
        makes_calls_that_fit("tcp", Box::new(Impatient(client)), capacity, late(Node::Tcp(node)));
    }
    for ring in [RingCapacity::MIN.bytes(), 16 << 10, 128 << 10] {
        let directory = support::directory();
        let address = format!("shm://{}/host.sock", directory.path().display());
        let listener = listen(&address, &ListenOptions::default()).expect("a listener");
        let mut options = ConnectOptions::default().with_wait(WaitStrategy::Park);
        options.stream.ring_capacity = RingCapacity::new(ring).expect("a power of two");
        options.stream.write_timeout = Some(Duration::from_nanos(1));
        let host = late(Node::Accepted(listener));
        let client = connect(&address, &options).expect("connected");
        let capacity = client.send_capacity();
        makes_calls_that_fit("shm", Box::new(client), capacity, host);
    }
}

/// `poll` calls a socket writable when three quarters of its buffer are free, which a host that waits for its answers to be read may
/// never get to: it must not come to that, however late the host begins to read what was sent before the batch.
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
            tell.send(thread_id()).expect("somebody listens");
            (0..unread).for_each(|_| client.consume_fuel(1_u64).expect("sent"));
            let mut batch = client.batch_within(capacity);
            (0..300).for_each(|_| _ = batch.push(&READ));
            batch.run()
        });
        until_it_sleeps(calling.recv().expect("its number"));
        foreign(node);
        let results = genvm.join().expect("no panic");
        let wrong = results.iter().find(|result| !matches!(result, Ok(Reply::Bytes(bytes)) if bytes[..] == [0; 4]));
        assert!(wrong.is_none(), "behind {unread} calls: {wrong:?}");
    }
}
