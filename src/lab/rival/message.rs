//! [`Messages`] makes a stream of anything that carries a message there and one back, and [`Requests`] lets a serve loop answer them.
//!
//! A message is what the client wrote until it flushed; its answer is what the host wrote until it wanted the next message. So the
//! client, its codec, the serve loop and the lookup are those of every other row, and only the carrying differs.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use parking_lot::Mutex;

use crate::protocol::{Execution, Protocol, ServeError, serve_blocking};
use crate::{BlockingStream, Peer, TransportKind};

/// A message there and its answer back.
pub(in crate::lab) trait Exchange: Send {
    /// Of which rival, for messages.
    const NAME: &'static str;

    /// Sends requests and puts their answers behind `answers`. Returns how many bytes of requests need no further attention.
    fn exchange(&mut self, requests: &[u8], answers: &mut Vec<u8>) -> io::Result<usize>;
}

/// Calls over messages, to be written and read as the protocol's bytes.
pub(in crate::lab) struct Messages<E> {
    /// A mutex that nobody waits for: streams can be shared, what libraries offer cannot always.
    exchange: Mutex<E>,
    written: Vec<u8>,
    /// Not read yet from `read` on.
    answers: Vec<u8>,
    read: usize,
}

impl<E: Exchange> Messages<E> {
    pub(in crate::lab) fn new(exchange: E) -> Self {
        Self { exchange: Mutex::new(exchange), written: Vec::new(), answers: Vec::new(), read: 0 }
    }

    fn call(&mut self) -> io::Result<()> {
        if self.read == self.answers.len() {
            self.answers.clear();
            self.read = 0;
        }
        if !self.written.is_empty() {
            let done = self.exchange.get_mut().exchange(&self.written, &mut self.answers)?;
            self.written.drain(..done);
        }
        Ok(())
    }
}

impl<E: Exchange> fmt::Debug for Messages<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Messages").field(&E::NAME).finish()
    }
}

impl<E: Exchange> Write for Messages<E> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call()
    }
}

impl<E: Exchange> Read for Messages<E> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.call()?;
        let n = (&self.answers[self.read..]).read(out)?;
        self.read += n;
        Ok(n)
    }
}

impl<E: Exchange> BlockingStream for Messages<E> {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn peer(&self) -> &Peer {
        &Peer::Unknown
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Custom(E::NAME)
    }
}

/// Serves the calls in `requests`, as they would be served on a stream of their own.
pub(in crate::lab) fn answer(execution: &mut Execution, requests: &[u8]) -> Result<Vec<u8>, ServeError> {
    struct Memory<'a>(&'a [u8], Vec<u8>);

    impl Read for Memory<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.0.read(out)
        }
    }

    impl Write for Memory<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut stream = Memory(requests, Vec::new());
    serve_blocking(&mut stream, execution, &Protocol::ONE)?;
    Ok(stream.1)
}
