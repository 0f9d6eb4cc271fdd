//! Clients and hosts over each transport with the smallest buffers there are.
#![allow(dead_code)] // each test file uses some of it

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use genvm_transport::protocol::*;
use genvm_transport::{ConnectOptions, ListenOptions, Listener, RingCapacity, connect, listen};
use rustix::event::{PollFd, PollFlags, poll};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support;

pub trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}
pub type Stream = Box<dyn ReadWrite>;

pub trait AsyncReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> AsyncReadWrite for T {}

/// A host's end, which it makes a stream of as it likes.
pub enum Node {
    Unix(UnixStream),
    Tcp(TcpStream),
    /// What comes first.
    Accepted(Box<dyn Listener>),
}

impl Node {
    pub fn blocking(self) -> Stream {
        match self {
            Self::Unix(socket) => Box::new(socket),
            Self::Tcp(socket) => Box::new(socket),
            Self::Accepted(listener) => Box::new(listener.accept().expect("accepted")),
        }
    }

    /// On a runtime.
    pub async fn on_tokio(self) -> Box<dyn AsyncReadWrite> {
        match self {
            Self::Unix(socket) => {
                socket.set_nonblocking(true).expect("non-blocking");
                Box::new(tokio::net::UnixStream::from_std(socket).expect("a socket"))
            }
            Self::Tcp(socket) => {
                socket.set_nonblocking(true).expect("non-blocking");
                Box::new(tokio::net::TcpStream::from_std(socket).expect("a socket"))
            }
            Self::Accepted(listener) => Box::new(listener.accept_async().await.expect("accepted")),
        }
    }
}

/// Serves on a thread that blocks.
pub fn serve_on_thread(node: Node, mut handler: impl BlockingHostHandler, protocol: &Protocol) {
    // A client that was told of an error closes with requests unread.
    let _ = serve_blocking(&mut node.blocking(), &mut handler, protocol);
}

/// Serves on a runtime of its own.
pub fn serve_on_tokio(node: Node, mut handler: impl HostHandler, protocol: &Protocol) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // As above.
    let _ = runtime.block_on(async { serve(&mut node.on_tokio().await, &mut handler, protocol).await });
}

/// The smallest buffers that the kernel allows. Returns what is sent into.
pub fn shrink(socket: &impl AsFd) -> usize {
    rustix::net::sockopt::set_socket_send_buffer_size(socket, 1).expect("SO_SNDBUF");
    rustix::net::sockopt::set_socket_recv_buffer_size(socket, 1).expect("SO_RCVBUF");
    rustix::net::sockopt::socket_send_buffer_size(socket).expect("SO_SNDBUF")
}

/// Puts a client to `test` whose other end is given to `host`, over each transport. `test` is told the transport, and how much it
/// certainly holds.
pub fn each_transport(
    protocol: &Protocol,
    host: impl Fn(Node) + Send + Copy + 'static,
    test: impl Fn(&str, &mut HostClient<Stream>, usize),
) {
    let run = |name: &str, stream: Stream, capacity: usize, hosting: thread::JoinHandle<()>| {
        let mut client = HostClient::speaking(protocol.clone(), stream);
        test(name, &mut client, capacity);
        drop(client);
        hosting.join().expect("the host did not panic");
    };
    let (client, node) = UnixStream::pair().expect("a pair");
    let (capacity, _) = (shrink(&client), shrink(&node));
    run("unix", Box::new(client), capacity, thread::spawn(move || host(Node::Unix(node))));

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
    let (node, _) = listener.accept().expect("accepted");
    let (capacity, _) = (shrink(&client), shrink(&node));
    client.set_nodelay(true).and_then(|()| node.set_nodelay(true)).expect("TCP_NODELAY");
    run("tcp", Box::new(client), capacity, thread::spawn(move || host(Node::Tcp(node))));

    let directory = support::directory();
    let address = format!("shm://{}/host.sock", directory.path().display());
    let (mut listening, mut connecting) = (ListenOptions::default(), ConnectOptions::default());
    listening.stream.ring_capacity = RingCapacity::MIN;
    connecting.stream.ring_capacity = RingCapacity::MIN;
    let listener = listen(&address, &listening).expect("a listener");
    let hosting = thread::spawn(move || host(Node::Accepted(listener)));
    let client = connect(&address, &connecting).expect("connected");
    let capacity = client.send_capacity();
    assert_eq!(capacity, RingCapacity::MIN.bytes() as usize);
    run("shm", Box::new(client), capacity, hosting);
}

/// Somebody else's: it shares nothing with ours, knows three methods, and sends its answers byte by byte.
pub fn foreign(mut stream: impl Read + Write) {
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

/// A non-blocking socket that waits by `poll` when there is nothing to be done, as this crate's do once they have a timeout.
pub struct Polled(pub UnixStream);

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
