//! The host as GenVM's client sees it: [`Host`]. A `Box<dyn Sock>` behind a mutex, requests encoded by hand in small writes, answers
//! read without a flush in between.
//!
//! What came in with this crate is [`Host::connect`] and one empty `impl`. All else is as it would be for a `UnixStream`.
//!
//! A client that is written anew would not encode anything: `protocol::HostClient` has a method for each call, sends a request in one
//! write, and tells a host's refusal from a broken connection:
//!
//! ```ignore
//! let mut host = HostClient::new(connect(address, &ConnectOptions::default())?);
//! host.storage_read(StorageMode::Default, &account, &slot, index, out)?;
//! ```

use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bufreaderwriter::seq::BufReaderWriterSeq;
use genvm_transport::{BlockingStream, ConnectError, ConnectOptions, TransportKind, connect};

/// What GenVM asks of a connection.
pub trait Sock: Read + Write + Send + Sync {}

impl Sock for Box<dyn BlockingStream> {}

pub struct Host {
    connection: Mutex<Connection>,
    account: [u8; 20],
    kind: TransportKind,
}

struct Connection {
    /// One buffer, for writing or for reading. It is written out at the turn from one to the other.
    sock: BufReaderWriterSeq<Box<dyn Sock>>,
    calls: u32,
    waiting: Duration,
}

impl Host {
    /// Connects, without a runtime. Which transport it is the address says, and the features that this was built with.
    pub fn connect(address: &str, account: [u8; 20]) -> Result<Self, ConnectError> {
        let stream = connect(address, &ConnectOptions::default())?;
        let kind = stream.kind();
        let sock: Box<dyn Sock> = Box::new(stream);
        let sock = BufReaderWriterSeq::new_writer(sock);
        Ok(Self { connection: Mutex::new(Connection { sock, calls: 0, waiting: Duration::ZERO }), account, kind })
    }

    pub fn get_calldata(&self) -> io::Result<Vec<u8>> {
        self.call(|sock| {
            sock.write_all(&[GET_CALLDATA])?;
            read_status(sock)?;
            let mut length = [0; 4];
            sock.read_exact(&mut length)?;
            let mut calldata = Vec::new();
            let length = u32::from_le_bytes(length).into();
            // No more memory than what really arrives.
            if sock.take(length).read_to_end(&mut calldata)? as u64 != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(calldata)
        })
    }

    /// Six small writes; the answer is read with no flush before it.
    pub fn storage_read(&self, slot: &[u8; 32], index: u32, out: &mut [u8]) -> io::Result<()> {
        self.call(|sock| {
            sock.write_all(&[STORAGE_READ])?;
            sock.write_all(&[MODE_DEFAULT])?;
            sock.write_all(&self.account)?;
            sock.write_all(slot)?;
            sock.write_all(&index.to_le_bytes())?;
            sock.write_all(&(out.len() as u32).to_le_bytes())?;
            read_status(sock)?;
            sock.read_exact(out)
        })
    }

    pub fn storage_write(&self, slot: &[u8; 32], index: u32, data: &[u8]) -> io::Result<()> {
        self.call(|sock| {
            sock.write_all(&[STORAGE_WRITE])?;
            sock.write_all(slot)?;
            sock.write_all(&index.to_le_bytes())?;
            sock.write_all(&(data.len() as u32).to_le_bytes())?;
            sock.write_all(data)?;
            read_status(sock)
        })
    }

    /// The last call: the contract returned `data`.
    pub fn consume_result(&self, data: &[u8]) -> io::Result<()> {
        self.call(|sock| {
            sock.write_all(&[CONSUME_RESULT])?;
            sock.write_all(&(data.len() as u32 + 1).to_le_bytes())?;
            sock.write_all(&[RESULT_RETURN])?;
            sock.write_all(data)?;
            read_status(sock) // a zero of its own, not a status, but the same byte
        })
    }

    /// How many calls were made, and how long they took together.
    pub fn cost(&self) -> (u32, Duration) {
        let connection = self.connection.lock().expect("no call panics");
        (connection.calls, connection.waiting)
    }

    /// What carries the bytes.
    pub fn kind(&self) -> TransportKind {
        self.kind
    }

    /// Makes one call, with the connection locked from its first byte to its last.
    fn call<T>(&self, call: impl FnOnce(&mut BufReaderWriterSeq<Box<dyn Sock>>) -> io::Result<T>) -> io::Result<T> {
        let mut connection = self.connection.lock().expect("no call panics");
        let begun = Instant::now();
        let answer = call(&mut connection.sock);
        connection.waiting += begun.elapsed();
        connection.calls += 1;
        answer
    }
}

/// On anything but `ok` nothing follows.
fn read_status(sock: &mut impl Read) -> io::Result<()> {
    let mut status = [0];
    sock.read_exact(&mut status)?;
    match status[0] {
        0 => Ok(()),
        other => Err(io::Error::other(format!("the host answered with status {other}"))),
    }
}

// Revision 1.
const GET_CALLDATA: u8 = 0;
const STORAGE_READ: u8 = 1;
const STORAGE_WRITE: u8 = 2;
const CONSUME_RESULT: u8 = 3;
const MODE_DEFAULT: u8 = 0;
const RESULT_RETURN: u8 = 0;
