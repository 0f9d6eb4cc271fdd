//! The library's ends, each in turn the victim: both sides, both faces, every way to wait.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::error::UpgradeError;
use genvm_transport::{
    AsyncStream, BlockingStream, ConnectError, ConnectOptions, ListenOptions, Listener, RingCapacity, WaitStrategy,
    connect, connect_async, listen,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::peer::{CAPACITY, Peer, START};
use crate::support;

/// One end of the library under attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    pub face: Face,
    /// Whether it is the host, to which a hostile client connects.
    pub host: bool,
    pub wait: WaitStrategy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    Blocking,
    Async,
}

/// Everybody, as often as there are strategies.
pub fn victims(waits: &[WaitStrategy]) -> Vec<Victim> {
    let ends = [(Face::Blocking, true), (Face::Blocking, false), (Face::Async, true), (Face::Async, false)];
    ends.into_iter().flat_map(|(face, host)| waits.iter().map(move |&wait| Victim { face, host, wait })).collect()
}

pub const WAITS: [WaitStrategy; 3] = [WaitStrategy::Park, WaitStrategy::ADAPTIVE, WaitStrategy::Spin];

/// Where they meet: a listener of ours for hostile clients, a hostile one for our clients.
pub struct World {
    listeners: Vec<(WaitStrategy, Box<dyn Listener>)>,
    evil: UnixListener,
    directory: tempfile::TempDir,
    runtime: Runtime,
}

impl World {
    pub fn new() -> Self {
        let directory = support::directory();
        let listeners = WAITS.into_iter().enumerate().map(|(i, wait)| {
            let mut options = ListenOptions::default().with_wait(wait);
            options.handshake_timeout = NEVER;
            options.stream.ring_capacity = RingCapacity::new(CAPACITY).expect("a capacity");
            let address = format!("shm://{}/{i}", directory.path().display());
            (wait, listen(&address, &options).expect("listen"))
        });
        let world = Self {
            listeners: listeners.collect(),
            evil: UnixListener::bind(directory.path().join("evil")).expect("bind"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
            directory,
        };
        // The first round may set up what stays for good, such as a place to keep the kernel's answers.
        victims(&WAITS).into_iter().for_each(|victim| world.serves(victim));
        world
    }

    /// The attacker's socket goes to `attack`, in a thread of its own; what becomes of the victim's side is returned, and what
    /// `attack` made. A byte has been written, but not flushed.
    pub fn meet<T: Send>(
        &self,
        victim: Victim,
        attack: impl FnOnce(UnixStream) -> T + Send,
    ) -> (Result<End<'_>, UpgradeError>, T) {
        let listener = &*self.listeners.iter().find(|(wait, _)| *wait == victim.wait).expect("one each").1;
        let theirs = listener.address().path().expect("a path");
        let evil = format!("shm://{}/evil", self.directory.path().display());
        let mut options = ConnectOptions::default().with_wait(victim.wait);
        options.handshake_timeout = NEVER;
        options.stream.ring_capacity = RingCapacity::new(CAPACITY).expect("a capacity");
        thread::scope(|scope| {
            let attacker = scope.spawn(move || {
                attack(if victim.host {
                    UnixStream::connect(theirs).expect("connect")
                } else {
                    self.evil.accept().expect("accept").0
                })
            });
            let end = within_a_second(victim, || match (victim.face, victim.host) {
                (Face::Blocking, true) => decided(End::Blocking(listener.accept().expect("accept"))).map_err(cause),
                (Face::Async, true) => {
                    let stream = self.runtime.block_on(listener.accept_async()).expect("accept");
                    decided(End::Async(stream, &self.runtime)).map_err(cause)
                }
                (Face::Blocking, false) => connect(&evil, &options)
                    .map_err(refused)
                    .map(|stream| decided(End::Blocking(stream)).expect("room for a byte")),
                (Face::Async, false) => self
                    .runtime
                    .block_on(connect_async(&evil, &options))
                    .map_err(refused)
                    .map(|stream| decided(End::Async(stream, &self.runtime)).expect("room for a byte")),
            });
            (end, attacker.join().expect("the attacker's own part"))
        })
    }

    /// [`meet`](Self::meet) with an attacker that behaves so far.
    pub fn agree(&self, victim: Victim, start: u64) -> (End<'_>, Peer) {
        let (end, peer) = self.meet(victim, |socket| Peer::agree(socket, victim.host, start));
        (end.expect("agreed"), peer)
    }

    /// Whoever behaves is served: a byte goes there and back.
    pub fn serves(&self, victim: Victim) {
        let (mut end, mut peer) = self.agree(victim, START);
        within_a_second(victim, || {
            end.flush().expect("flush");
            assert_eq!(peer.receive().as_deref(), Some(&b"!"[..]));
            peer.send(b"?");
            let mut byte = [0];
            assert_eq!((end.read(&mut byte, NEVER).expect("an answer"), &byte), (1, b"?"));
        });
    }
}

/// What happened at the victim must have happened within a second: whoever is lied to says so, and does not wait. Some seconds
/// more are for a machine that is busy with something else.
pub fn within_a_second<T>(victim: Victim, act: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = act();
    assert!(started.elapsed() < Duration::from_secs(5), "{victim:?} took {:?}", started.elapsed());
    done
}

/// The victim's stream, used by a thread whatever its face is.
#[derive(Debug)]
pub enum End<'a> {
    Blocking(Box<dyn BlockingStream>),
    Async(Box<dyn AsyncStream>, &'a Runtime),
}

impl End<'_> {
    pub fn read(&mut self, out: &mut [u8], timeout: Duration) -> io::Result<usize> {
        match self {
            Self::Blocking(stream) => {
                stream.set_read_timeout(Some(timeout))?;
                stream.read(out)
            }
            Self::Async(stream, runtime) => runtime
                .block_on(async { tokio::time::timeout(timeout, stream.read(out)).await.unwrap_or_else(timed_out) }),
        }
    }

    pub fn write(&mut self, bytes: &[u8], timeout: Duration) -> io::Result<usize> {
        match self {
            Self::Blocking(stream) => {
                stream.set_write_timeout(Some(timeout))?;
                stream.write(bytes)
            }
            Self::Async(stream, runtime) => runtime
                .block_on(async { tokio::time::timeout(timeout, stream.write(bytes)).await.unwrap_or_else(timed_out) }),
        }
    }

    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Blocking(stream) => stream.flush(),
            Self::Async(stream, runtime) => runtime.block_on(stream.flush()),
        }
    }
}

/// Which [`UpgradeError`] it is: the variant, or the field's name.
pub fn name(error: &UpgradeError) -> &'static str {
    match error {
        UpgradeError::Closed => "closed",
        UpgradeError::TimedOut(_) => "timed out",
        UpgradeError::Magic { .. } => "magic",
        UpgradeError::Version { .. } => "version",
        UpgradeError::Refused(_) => "refused",
        UpgradeError::Field { field, .. } => field,
        UpgradeError::Segment(_) => "segment",
        UpgradeError::Io { .. } => "io",
        _ => "another",
    }
}

/// An accepted stream learns with its first use what the client is. If that failed, it is a broken pipe from then on.
fn decided(mut end: End<'_>) -> io::Result<End<'_>> {
    match end.write(b"!", NEVER) {
        Ok(written) => assert_eq!(written, 1),
        Err(error) => {
            assert_eq!(end.read(&mut [0], NEVER).expect_err("and again").kind(), ErrorKind::BrokenPipe);
            return Err(error);
        }
    }
    Ok(end)
}

/// What the data path reports when a client's upgrade failed.
fn cause(error: io::Error) -> UpgradeError {
    let kind = error.kind();
    let cause = *error.into_inner().expect("a cause").downcast::<UpgradeError>().expect("of the upgrade");
    let expected = if name(&cause) == "closed" { ErrorKind::ConnectionAborted } else { ErrorKind::InvalidData };
    assert_eq!(kind, expected, "{cause}");
    cause
}

fn refused(error: ConnectError) -> UpgradeError {
    match error {
        ConnectError::Upgrade { source, .. } => source,
        other => panic!("{other}"),
    }
}

fn timed_out<T>(_: tokio::time::error::Elapsed) -> io::Result<T> {
    Err(ErrorKind::TimedOut.into())
}

/// Longer than any watchdog: an expiry never passes for an answer.
pub const NEVER: Duration = Duration::from_secs(1000);
