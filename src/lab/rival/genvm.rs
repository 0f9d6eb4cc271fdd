//! [`GenvmStream`]: the habit of GenVM's client today. Its wrapper around the socket has one buffer, for writing or for reading, and
//! makes a new one of 8 KiB at each turn from one to the other.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::time::Duration;

use crate::{BlockingStream, Peer, TransportKind};

/// A stream with such a wrapper around it.
#[derive(Debug)]
pub(in crate::lab) struct GenvmStream {
    inner: Box<dyn BlockingStream>,
    turn: Turn,
}

#[derive(Debug)]
enum Turn {
    /// What was written and not sent.
    Writing(Vec<u8>),
    /// What was received and not read.
    Reading(Box<[u8]>, Range<usize>),
}

impl GenvmStream {
    pub(in crate::lab) fn new(inner: Box<dyn BlockingStream>) -> Self {
        Self { inner, turn: Turn::Writing(Vec::with_capacity(BUFFER)) }
    }
}

impl Write for GenvmStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Turn::Reading(..) = self.turn {
            self.turn = Turn::Writing(Vec::with_capacity(BUFFER));
        }
        if let Turn::Writing(buffer) = &mut self.turn {
            if buffer.len() + bytes.len() > BUFFER {
                self.inner.write_all(buffer)?;
                buffer.clear();
            }
            if bytes.len() > BUFFER {
                return self.inner.write(bytes);
            }
            buffer.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Turn::Writing(buffer) = &mut self.turn {
            self.inner.write_all(buffer)?;
            buffer.clear();
        }
        self.inner.flush()
    }
}

impl Read for GenvmStream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Turn::Writing(_) = self.turn {
            self.flush()?;
            self.turn = Turn::Reading(vec![0; BUFFER].into_boxed_slice(), 0..0);
        }
        let Turn::Reading(buffer, received) = &mut self.turn else { unreachable!("turned just now") };
        if received.start == received.end {
            if out.len() >= BUFFER {
                return self.inner.read(out);
            }
            *received = 0..self.inner.read(buffer)?;
        }
        let n = received.len().min(out.len());
        out[..n].copy_from_slice(&buffer[received.start..received.start + n]);
        received.start += n;
        Ok(n)
    }
}

impl BlockingStream for GenvmStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.set_read_timeout(timeout)
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.inner.set_write_timeout(timeout)
    }

    fn peer(&self) -> &Peer {
        self.inner.peer()
    }

    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }
}

const BUFFER: usize = 8 << 10;
