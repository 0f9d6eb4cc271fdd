//! A transport of your own: `pair://NAME`, a host and a client in one process that meet by name.
//!
//! `cargo run --example custom_transport` carries a few bytes over it; `cargo test --example custom_transport` puts it through
//! the suite that the built-in transports pass.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use genvm_transport::{
    AcceptError, Address, AsyncStream, BlockingStream, ConnectError, ConnectOptions, ListenError, ListenOptions,
    Listener, Peer, StreamOptions, Transport, TransportKind, Transports,
};
use parking_lot::{Condvar, Mutex};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let transports = Transports::builtin().with(PairTransport::default());
    let address: Address = "pair://node".parse()?;
    let listener = transports.listen(&address, &ListenOptions::default())?;
    let host = thread::spawn(move || {
        let mut stream = listener.accept().expect("a client");
        let mut request = [0; 5];
        stream.read_exact(&mut request).expect("its request");
        request.reverse();
        stream.write_all(&request).expect("it waits for the answer");
    });
    let mut stream = transports.connect(&address, &ConnectOptions::default())?;
    stream.write_all(b"hello")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    println!("{} says {answer:?} over {}", stream.peer(), stream.kind());
    host.join().expect("no panic");
    Ok(())
}

/// The names that somebody listens on. Only clients that have the same table find them.
#[derive(Debug, Clone, Default)]
struct PairTransport(Arc<Mutex<HashMap<String, Arc<Queue>>>>);

/// Clients that wait to be accepted; `None` once the listener is closed.
#[derive(Debug)]
struct Queue {
    waiting: Mutex<Option<VecDeque<UnixStream>>>,
    threads: Condvar,
    tasks: Notify,
}

impl PairTransport {
    /// The client's half of a new pair; the host's half goes into the queue.
    fn half(&self, address: &Address) -> Result<UnixStream, ConnectError> {
        let failed = |source| ConnectError::Io { address: address.clone(), source };
        let queue = self.0.lock().get(name(address)).cloned().ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        match &mut *queue.waiting.lock() {
            Some(waiting) => waiting.push_back(theirs),
            None => return Err(failed(ErrorKind::ConnectionRefused.into())),
        }
        queue.threads.notify_one();
        queue.tasks.notify_waiters();
        Ok(ours)
    }
}

fn name(address: &Address) -> &str {
    match address {
        Address::Custom { rest, .. } => rest,
        _ => "",
    }
}

#[async_trait]
impl Transport for PairTransport {
    fn scheme(&self) -> &str {
        "pair"
    }

    fn connect(&self, address: &Address, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError> {
        let stream = Blocking::new(self.half(address)?, &options.stream);
        Ok(Box::new(stream.map_err(|source| ConnectError::Io { address: address.clone(), source })?))
    }

    async fn connect_async(&self, address: &Address, _: &ConnectOptions) -> Result<Box<dyn AsyncStream>, ConnectError> {
        let stream = Async::new(self.half(address)?);
        Ok(Box::new(stream.map_err(|source| ConnectError::Io { address: address.clone(), source })?))
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
        use std::collections::hash_map::Entry;
        let mut names = self.0.lock();
        let Entry::Vacant(place) = names.entry(name(address).to_owned()) else {
            return Err(ListenError::InUse { address: address.clone() });
        };
        let queue = Queue { waiting: Mutex::new(Some(VecDeque::new())), threads: Condvar::new(), tasks: Notify::new() };
        let queue = place.insert(Arc::new(queue)).clone();
        Ok(Box::new(PairListener {
            queue,
            names: self.clone(),
            address: address.clone(),
            options: options.stream.clone(),
        }))
    }
}

#[derive(Debug)]
struct PairListener {
    queue: Arc<Queue>,
    names: PairTransport,
    address: Address,
    options: StreamOptions,
}

#[async_trait]
impl Listener for PairListener {
    fn accept(&self) -> Result<Box<dyn BlockingStream>, AcceptError> {
        let mut waiting = self.queue.waiting.lock();
        loop {
            match waiting.as_mut().ok_or(AcceptError::Closed)?.pop_front() {
                Some(stream) => return Ok(Box::new(Blocking::new(stream, &self.options)?)),
                None => self.queue.threads.wait(&mut waiting),
            }
        }
    }

    async fn accept_async(&self) -> Result<Box<dyn AsyncStream>, AcceptError> {
        loop {
            // Enabled before the look, so that a client who comes in between is not missed.
            let mut arrival = pin!(self.queue.tasks.notified());
            arrival.as_mut().enable();
            if let Some(stream) = self.queue.waiting.lock().as_mut().ok_or(AcceptError::Closed)?.pop_front() {
                return Ok(Box::new(Async::new(stream)?));
            }
            arrival.await;
        }
    }

    fn address(&self) -> &Address {
        &self.address
    }

    fn close(&self) {
        *self.queue.waiting.lock() = None;
        self.queue.threads.notify_all();
        self.queue.tasks.notify_waiters();
    }
}

impl Drop for PairListener {
    fn drop(&mut self) {
        self.close();
        self.names.0.lock().remove(name(&self.address));
    }
}

#[derive(Debug)]
struct Blocking(UnixStream);

impl Blocking {
    fn new(stream: UnixStream, options: &StreamOptions) -> io::Result<Self> {
        stream.set_read_timeout(options.read_timeout)?;
        stream.set_write_timeout(options.write_timeout)?;
        Ok(Self(stream))
    }
}

/// As the contract names errors: a socket's own timeout is `WouldBlock`, and signals are the transport's affair.
fn as_promised(mut io: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match io() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            done => return done,
        }
    }
}

/// A socket that was being written to says `ConnectionReset` if its peer went away with bytes unread; the contract has one name for all
/// writing to a peer that is gone.
fn written_to_nobody(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::ConnectionReset { ErrorKind::BrokenPipe.into() } else { error }
}

impl Read for Blocking {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0); // some kernels would wait
        }
        as_promised(|| self.0.read(out))
    }
}

impl Write for Blocking {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        as_promised(|| self.0.write(bytes)).map_err(written_to_nobody)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is held back
    }
}

impl BlockingStream for Blocking {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(timeout)
    }

    fn peer(&self) -> &Peer {
        &Peer::Unknown
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Custom("pair")
    }
}

#[derive(Debug)]
struct Async(tokio::net::UnixStream);

impl Async {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        tokio::net::UnixStream::from_std(stream).map(Self)
    }
}

impl AsyncRead for Async {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(())); // tokio would wait for something to read
        }
        Pin::new(&mut self.0).poll_read(cx, out)
    }
}

impl AsyncWrite for Async {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes).map_err(written_to_nobody)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncStream for Async {
    fn peer(&self) -> &Peer {
        &Peer::Unknown
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Custom("pair")
    }
}

#[cfg(test)]
#[path = "../tests/conformance/body.rs"]
mod body;

#[cfg(test)]
body::conformance! {
    pair => PairTransport::default(), || {
        static NAMES: AtomicUsize = AtomicUsize::new(0);
        format!("pair://{}", NAMES.fetch_add(1, Ordering::Relaxed)).parse().expect("an address")
    };
}
