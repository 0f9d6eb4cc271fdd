//! [`ShmStream`]: the blocking face of a shared-memory connection.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use super::channel::{Channel, Tried, Wanted};
use super::doorbell::Sleep;
use crate::options::StreamOptions;
use crate::peer::{Peer, TransportKind};
use crate::socket::{Deadline, checked_timeout};
use crate::transport::BlockingStream;
use crate::wait::{Backoff, Step, WaitStrategy, one_core};

/// A connected shared-memory stream for a thread that may block.
///
/// `write` copies into the ring and publishes full pieces at once, the rest with the next `flush` or `read`. While the peer
/// is awake neither makes a system call.
#[derive(Debug)]
pub struct ShmStream {
    channel: Channel,
    wait: WaitStrategy,
    alone: bool,
    /// Polls before the strategy is asked and a clock is looked at.
    free_polls: u32,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    sleeps: u64,
}

impl ShmStream {
    pub(crate) fn new(channel: Channel, options: &StreamOptions) -> Self {
        let (wait, alone) = (options.wait.unwrap_or_default(), one_core(&channel.peer));
        Self {
            free_polls: wait.free_polls(alone),
            alone,
            channel,
            wait,
            read_timeout: options.read_timeout,
            write_timeout: options.write_timeout,
            sleeps: 0,
        }
    }

    #[cold]
    fn wait_to_read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.wait(Wanted::Bytes, self.read_timeout, self.free_polls, |channel| match channel.try_read(out)? {
            Tried::Bytes(n) => Ok(Some(n)),
            Tried::End => Ok(Some(0)),
            Tried::Nothing => Ok(None),
        })
    }

    /// Takes some of `bytes`, at least one, once there is room.
    #[cold]
    fn wait_to_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(Wanted::Room, self.write_timeout, 0, |channel| match channel.try_write(bytes)? {
            0 => Ok(None),
            n => Ok(Some(n)),
        })
    }

    /// Waits, as the strategy says, until `attempt` has something. `polls` were made already.
    #[inline(never)]
    fn wait<T>(
        &mut self,
        wanted: Wanted,
        timeout: Option<Duration>,
        polls: u32,
        mut attempt: impl FnMut(&mut Channel) -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        let mut backoff = Backoff::new(self.wait, self.alone).after(polls);
        let mut deadline = Deadline::new(timeout);
        loop {
            match backoff.step() {
                Step::Poll => {}
                Step::Yield => {
                    // Each time: others on this core may keep it for as long as they like.
                    deadline.left()?;
                    backoff.yield_core();
                }
                Step::Park => {
                    if let Some(rest) = self.channel.rest() {
                        thread::sleep(rest);
                    }
                    let left = deadline.left()?;
                    let slept = match self.channel.arm_unless(wanted, Sleep::Blocking) {
                        Ok(true) => {
                            self.sleeps += 1;
                            self.channel.sleep(left)
                        }
                        Ok(false) => Ok(()),
                        Err(error) => Err(error),
                    };
                    self.channel.disarm();
                    slept?;
                }
            }
            if let Some(done) = attempt(&mut self.channel)? {
                return Ok(done);
            }
            if backoff.check_peer() {
                self.channel.look()?;
                deadline.left()?;
            }
        }
    }
}

impl Read for ShmStream {
    #[inline]
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        self.channel.publish();
        // Nearly every answer is there within these polls.
        let mut polls = self.free_polls;
        loop {
            match self.channel.try_read(out)? {
                Tried::Bytes(n) => return Ok(n),
                Tried::End => return Ok(0),
                Tried::Nothing if polls == 0 => return self.wait_to_read(out),
                Tried::Nothing => {
                    polls -= 1;
                    std::hint::spin_loop();
                }
            }
        }
    }
}

impl Write for ShmStream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.channel.try_write(bytes)? {
            0 => self.wait_to_write(bytes),
            n => Ok(n),
        }
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            done += self.write(&bytes[done..])?;
        }
        Ok(())
    }

    /// Never waits: what was written lies in the ring already.
    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        self.channel.flush()
    }
}

impl BlockingStream for ShmStream {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout = checked_timeout(timeout)?;
        Ok(())
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout = checked_timeout(timeout)?;
        Ok(())
    }

    fn peer(&self) -> &Peer {
        &self.channel.peer
    }

    fn kind(&self) -> TransportKind {
        self.channel.kind
    }

    fn send_capacity(&self) -> usize {
        self.channel.producer.capacity()
    }

    fn sleeps(&self) -> Option<u64> {
        Some(self.sleeps)
    }
}

#[cfg(all(test, target_os = "linux", not(genvm_loom)))]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::super::rendezvous::{BlockingIo, Terms, answer, block_on, greet};
    use super::super::segment::SegmentKind;
    use super::*;

    #[test]
    fn a_timeout_is_looked_at_between_yields() {
        let options = StreamOptions { wait: Some(WaitStrategy::Spin), ..StreamOptions::default() };
        let terms = Terms::new(SegmentKind::Sealed, &options, WaitStrategy::Spin);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let [ours, theirs] = [ours, theirs].map(|end| BlockingIo::new(Arc::new(end.into()), Duration::from_secs(100)));
        let (channel, _host) = thread::scope(|scope| {
            let host = scope.spawn(|| block_on(answer(&theirs, &Peer::Unknown, &terms)).unwrap());
            (block_on(greet(&ours, &Peer::Unknown, &terms)).unwrap(), host.join().unwrap())
        });
        let mut stream = ShmStream::new(channel, &options);
        stream.alone = true;
        let mut tries = 0;
        let nothing = |_: &mut Channel| {
            tries += 1;
            Ok(None::<()>)
        };
        let error = stream.wait(Wanted::Bytes, Some(Duration::from_nanos(1)), 0, nothing).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(tries < 5, "{tries}");
    }
}
