//! Attempts at every mechanism that the transports need.
//!
//! Each does in this process what a transport does between two: a filter of system calls, an old kernel or a missing file
//! system shows here by its own error instead of later by a connection that fails. [`call`] is a whole call over the public API.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::lab::matrix::Transport;
use crate::lab::study::{Page, receive, send, two_pages};
use crate::protocol::{Account, Environment, HostClient, HostState, Protocol, SlotId, StorageMode, serve_blocking};
use crate::{AcceptError, ConnectOptions, ListenOptions, Listener, Peer, TransportKind, WaitStrategy, connect, listen};

/// Two pages, sealed as the segments of `shm://` are: the first one as its owner has it mapped, and as the peer does.
struct Sealed {
    memory: OwnedFd,
    ours: Page,
    theirs: Page,
}

impl Sealed {
    fn create() -> Result<Self> {
        let memory = two_pages().context("memfd_create")?;
        let ours = Page::map(&memory, 0, true).context("mmap")?;
        fcntl_add_seals(&memory, SEALS).context("F_ADD_SEALS")?;
        let theirs = Page::map(&memory, 0, false).context("mmap, read-only")?;
        Ok(Self { memory, ours, theirs })
    }
}

pub(super) fn sealed_memfd() -> Result<String> {
    let Sealed { memory, ours, theirs } = Sealed::create()?;
    let seals = fcntl_get_seals(&memory).context("F_GET_SEALS")?;
    ensure!(seals.contains(SEALS), "sealed with {SEALS:?}, and the kernel says {seals:?}");
    ours.store(1, MARK);
    ensure!(theirs.load(1) == MARK, "the second mapping reads {:#x}, written was {MARK:#x}", theirs.load(1));
    Ok("made, sealed, mapped twice: what its owner writes, the other mapping reads".to_owned())
}

pub(super) fn seals_hold() -> Result<String> {
    let sealed = Sealed::create()?;
    for (what, len) in [("shrink", 1), ("grow", 1 << 16)] {
        match ftruncate(&sealed.memory, len) {
            Err(Errno::PERM) => {}
            Err(error) => return Err(error).with_context(|| format!("to {what} it fails in another way than EPERM")),
            Ok(()) => bail!("the kernel let us {what} it"),
        }
    }
    ensure!(Page::map(&sealed.memory, 0, true).is_err(), "the kernel mapped it writable once more");
    Ok("the kernel refuses to shrink it, to grow it and to map it writable once more".to_owned())
}

pub(super) fn futex() -> Result<String> {
    let Sealed { ours, theirs, .. } = Sealed::create()?;
    thread::scope(|scope| {
        let sleeping = scope.spawn(|| theirs.sleep(0, Some(PATIENCE)));
        let started = Instant::now();
        while ours.wake().context("FUTEX_WAKE")? == 0 {
            ensure!(started.elapsed() < PATIENCE, "there was nobody to wake for {PATIENCE:?}");
            thread::yield_now();
        }
        sleeping.join().map_err(|_| anyhow!("the sleeper panicked"))?.context("FUTEX_WAIT")?;
        Ok("a thread slept on a read-only mapping and was woken".to_owned())
    })
}

pub(super) fn event() -> Result<String> {
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context("eventfd")?;
    ensure!(!readable(&event, Duration::ZERO)?, "it is readable before it was written");
    rustix::io::write(&event, &3u64.to_ne_bytes()).context("write")?;
    ensure!(readable(&event, PATIENCE)?, "poll does not say that it was written");
    let mut counted = [0; 8];
    rustix::io::read(&event, &mut counted).context("read")?;
    ensure!(counted == 3u64.to_ne_bytes(), "3 was written, {} read", u64::from_ne_bytes(counted));
    Ok("written, polled and read".to_owned())
}

pub(super) fn rights() -> Result<String> {
    let (here, there) = UnixStream::pair().context("socketpair")?;
    let Sealed { memory, ours, .. } = Sealed::create()?;
    send(&here, &[memory]).context("sendmsg")?;
    there.set_read_timeout(Some(PATIENCE))?;
    let received = receive(&there).context("recvmsg")?;
    let [memory] = &received[..] else { bail!("one descriptor was sent, {} came", received.len()) };
    ours.store(1, MARK);
    let seen = Page::map(memory, 0, false).context("mmap of what came")?.load(1);
    ensure!(seen == MARK, "what came is other memory: it reads {seen:#x}, written was {MARK:#x}");
    Ok("a memfd went over a Unix socket".to_owned())
}

pub(super) fn credentials() -> Result<String> {
    let directory = tempfile::Builder::new().prefix("transport-lab-").tempdir()?;
    let address = Transport::Uds.address(&directory.path().join("host.sock"));
    let listener = listen(&address, &listening())?;
    let _client = UnixStream::connect(directory.path().join("host.sock")).context("connect")?;
    let peer = listener.accept()?.peer().clone();
    let (pid, uid) = (std::process::id() as i32, rustix::process::geteuid().as_raw());
    match peer {
        Peer::Process { pid: Some(seen), uid: user, .. } if (seen, user) == (pid, uid) => {
            Ok(format!("the kernel names the client: {peer}"))
        }
        other => bail!("the kernel says {other}; the client is process {pid} of uid {uid}"),
    }
}

pub(super) fn pidfd() -> Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("a child")?;
    let ended = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .context("pidfd_open")
        .and_then(|pidfd| readable(&pidfd, PATIENCE));
    let _ = child.kill();
    child.wait()?;
    ensure!(ended?, "it does not tell within {PATIENCE:?} that a process has ended");
    Ok("it told that a process had ended".to_owned())
}

/// A call from a client to a host in this process, both of which sleep while they wait.
pub(super) fn call(transport: Transport, expected: TransportKind) -> Result<String> {
    let directory = tempfile::Builder::new().prefix("transport-lab-").tempdir()?;
    let address = transport.address(&directory.path().join("host.sock"));
    let mut options = listening();
    options.upgrades = expected != TransportKind::Unix;
    let listener = listen(&address, &options)?;
    let address = listener.address().to_string();
    thread::scope(|scope| {
        let host = scope.spawn(|| serve(&*listener));
        let called = ask(&address, expected);
        listener.close();
        let served = host.join().map_err(|_| anyhow!("the host panicked"))?;
        called?;
        served.context("the call was answered, but the host")?;
        let how = match expected {
            TransportKind::Shm | TransportKind::ShmNamed => "upgraded, then a",
            _ => "a",
        };
        Ok(format!("{how} storage_read was answered; both ends sleep while they wait"))
    })
}

/// Until the listener is closed. What became of the last connection: a client that asks for an upgrade in vain comes again.
fn serve(listener: &dyn Listener) -> Result<()> {
    let state = HostState::new();
    state.set_storage(&ACCOUNT, &SLOT, 0, &VALUE);
    let mut served = Err(anyhow!("nobody connected"));
    loop {
        let mut stream = match listener.accept() {
            Err(AcceptError::Closed) => return served,
            accepted => accepted?,
        };
        let mut execution = state.begin(Environment { account: ACCOUNT, ..Environment::default() });
        served = serve_blocking(&mut stream, &mut execution, &Protocol::ONE).map(drop).map_err(Into::into);
    }
}

fn ask(address: &str, expected: TransportKind) -> Result<()> {
    let mut options = ConnectOptions::default().with_wait(WaitStrategy::Park);
    (options.stream.read_timeout, options.stream.write_timeout) = (Some(PATIENCE), Some(PATIENCE));
    let stream = connect(address, &options)?;
    ensure!(stream.kind() == expected, "what came is {}, not {expected}", stream.kind());
    let mut value = [0; VALUE.len()];
    HostClient::new(stream).storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut value)?;
    ensure!(value == VALUE, "other bytes came than are stored: {value:02x?}");
    Ok(())
}

fn listening() -> ListenOptions {
    let mut options = ListenOptions::default().with_wait(WaitStrategy::Park);
    (options.stream.read_timeout, options.stream.write_timeout) = (Some(PATIENCE), Some(PATIENCE));
    options
}

/// Whether it has something to read, or gets it within `timeout`.
fn readable(fd: impl AsFd, timeout: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(timeout)?;
    Ok(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).context("poll")? > 0)
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);
const MARK: u32 = 0x6c61_6221;
const ACCOUNT: Account = Account([1; 20]);
const SLOT: SlotId = SlotId([2; 32]);
const VALUE: [u8; 32] = *b"the doctor's thirty-two bytes...";
/// What works takes microseconds; on a busy machine some turns of the scheduler.
const PATIENCE: Duration = Duration::from_secs(5);
