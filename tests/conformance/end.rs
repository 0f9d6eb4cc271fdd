//! [`End`]: a stream with either face, as blocking code uses it.

use super::*;

/// One end of a connection, used by a thread whatever its face is.
#[derive(Debug)]
pub enum End {
    Blocking(Box<dyn BlockingStream>),
    Async(Box<dyn AsyncStream>),
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
    pub fn send(&mut self, pattern: &Pattern, from: usize, length: usize, most: usize) {
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
    pub fn receive(&mut self, pattern: &Pattern, from: usize, length: usize, most: usize) {
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
    pub fn receive_to_end(&mut self, pattern: &Pattern, length: usize) {
        self.receive(pattern, 0, length, 10_000);
        for _ in 0..2 {
            assert_eq!(self.read(&mut [0; 10]).expect("read"), 0, "an end that stays");
        }
    }

    /// Sends back what comes, until the end.
    pub fn echo(&mut self) {
        let mut buffer = vec![0; 20_000];
        loop {
            match self.read(&mut buffer).expect("read") {
                0 => return,
                n => self.write_all(&buffer[..n]).expect("write"),
            }
        }
    }

    pub fn peer(&self) -> &Peer {
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
