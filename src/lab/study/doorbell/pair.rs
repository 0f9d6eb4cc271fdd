//! The two processes of a cell. The near one measures: it rings, waits for the answer, and takes the times. The far one, which the
//! near one starts, sleeps and rings back. Neither outlives whoever started it.

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::armed::Armed;
use super::bells::{Bell, Heard, Kind, Side, rung};
use super::memory::two_pages;
use crate::lab::process::{Usage, pin, tell};
use crate::lab::stats::{Buckets, Latencies};

/// What the near process does with its bell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Pattern {
    /// Rings and waits, over and over: both sides sleep at once.
    PingPong,
    /// The same after [`THINK`], so that the far side's core has halted.
    Parked,
    /// As `Parked`, but only who said that it sleeps is rung: as `shm://` does.
    Armed,
    /// As `Armed`, but the near side polls memory for the answer and does not sleep.
    Polled,
    /// Rings while nobody sleeps.
    Unheard,
    /// Waits; meanwhile the far side is killed.
    WaitOnKilled,
    /// Rings after the far side was killed in its sleep.
    RingKilled,
}

impl Pattern {
    /// Whether there is a flag in front of the bell, in memory whose descriptor comes last.
    fn is_armed(self) -> bool {
        matches!(self, Self::Armed | Self::Polled)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) bell: Kind,
    pub(super) pattern: Pattern,
    pub(super) near: Option<usize>,
    pub(super) far: Option<usize>,
    /// How long to measure, warm-up not included.
    pub(super) time: Duration,
    /// What takes longer than this altogether hangs.
    pub(super) patience: Duration,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Answer {
    Measured(Measured),
    /// The bell said that the peer is gone.
    Told {
        after_ns: u64,
    },
    /// It did not say so, and did not hang.
    Unnoticed,
    /// Patience ran out in `wait` or in `ring`.
    Hung,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// From before `ring` until `wait` has returned.
    pub(super) trips: Buckets,
    /// The part of it, or the mean of a batch, that is spent in `ring`.
    pub(super) rings: Buckets,
    pub(super) count: u64,
    /// Thinking not included.
    pub(super) near: Usage,
    pub(super) far: Usage,
}

/// The near process: takes a [`Job`] as a line, says an [`Answer`].
pub(in crate::lab) fn near() -> ! {
    let mut line = String::new();
    let answer = match std::io::stdin().read_line(&mut line).map(|_| serde_json::from_str::<Job>(&line)) {
        Ok(Ok(job)) => {
            pin(job.near);
            thread::spawn(|| {
                let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
                std::process::exit(0) // whoever started us is gone; the far side notices that we are
            });
            let (done, working) = mpsc::channel::<()>();
            thread::spawn(move || {
                if working.recv_timeout(job.patience) == Err(RecvTimeoutError::Timeout) {
                    tell(Ok(Answer::Hung));
                    std::process::exit(0);
                }
            });
            let answer = work(&job);
            drop(done);
            answer
        }
        other => Err(anyhow::anyhow!("no job: {other:?}")),
    };
    tell(answer);
    loop {
        thread::park(); // until the end of the input ends the process
    }
}

fn work(job: &Job) -> Result<Answer> {
    let (near, descriptors) = job.bell.create()?;
    let mut bell = job.bell.open(Side::Near, near)?;
    if job.pattern == Pattern::Unheard {
        // Both ends are ours, so nobody sleeps at the other one.
        let far = job.bell.open(Side::Far, descriptors)?;
        return Ok(Answer::Measured(unheard(&*bell, far, job.time)?));
    }
    let mut descriptors = descriptors;
    if job.pattern.is_armed() {
        let memory = two_pages()?;
        bell = Box::new(Armed::new(bell, Side::Near, &memory, job.pattern == Pattern::Polled)?);
        descriptors.push(memory);
    }
    let mut far = Far::start(job, descriptors)?;
    let think = match job.pattern {
        Pattern::Parked | Pattern::Armed | Pattern::Polled => THINK,
        Pattern::WaitOnKilled => {
            let killer = thread::spawn(move || {
                thread::sleep(ASLEEP);
                let killed = Instant::now();
                far.kill();
                killed
            });
            return match bell.wait()? {
                Heard::Gone => {
                    let now = Instant::now();
                    let killed = killer.join().map_err(|_| anyhow::anyhow!("the killer panicked"))?;
                    Ok(Answer::Told { after_ns: now.saturating_duration_since(killed).as_nanos() as u64 })
                }
                Heard::Rung(_) => bail!("woken, though nobody rang"),
            };
        }
        Pattern::RingKilled => {
            thread::sleep(ASLEEP);
            far.kill();
            let killed = Instant::now();
            let told = (0..RINGS).any(|_| bell.ring().is_err());
            let after_ns = killed.elapsed().as_nanos() as u64;
            return Ok(if told { Answer::Told { after_ns } } else { Answer::Unnoticed });
        }
        Pattern::PingPong | Pattern::Unheard => Duration::ZERO,
    };
    trips(&mut *bell, job.time / WARM_UP, think)?;
    let (far_before, before) = (far.usage()?, Usage::now());
    let trips = trips(&mut *bell, job.time, think)?;
    let (near, far) = (Usage::now().since(before), far.usage()?.since(far_before));
    let near = near.since(trips.thought);
    let count = trips.times.count();
    Ok(Answer::Measured(Measured { trips: trips.times.buckets(), rings: trips.rings.buckets(), count, near, far }))
}

#[derive(Debug, Default)]
struct Trips {
    times: Latencies,
    rings: Latencies,
    thought: Usage,
}

/// Rings and waits for about `time`, at least once.
fn trips(bell: &mut dyn Bell, time: Duration, think: Duration) -> Result<Trips> {
    let mut trips = Trips::default();
    let started = Instant::now();
    while trips.times.count() == 0 || started.elapsed() < time {
        if !think.is_zero() {
            let (usage, since) = (Usage::now(), Instant::now());
            while since.elapsed() < think {
                std::hint::spin_loop();
            }
            let thought = Usage::now().since(usage);
            trips.thought.cpu_ns += thought.cpu_ns;
            trips.thought.switches += thought.switches;
        }
        let before = Instant::now();
        bell.ring()?;
        let rang = Instant::now();
        let heard = rung(bell.wait()?)?;
        let after = Instant::now();
        // Lock-step, or the times are of something else.
        ensure!(heard == 1, "the other process rang {heard} times, expected once");
        trips.times.record(after - before);
        trips.rings.record(rang - before);
    }
    Ok(trips)
}

/// Rings in batches that the buffer of a socket holds, and takes them out in between.
fn unheard(near: &dyn Bell, mut far: Box<dyn Bell>, time: Duration) -> Result<Measured> {
    let (mut rings, mut count) = (Latencies::default(), 0);
    let started = Instant::now();
    while count == 0 || started.elapsed() < time {
        let before = Instant::now();
        for _ in 0..BATCH {
            near.ring()?;
        }
        rings.record(before.elapsed() / BATCH);
        rung(far.wait()?)?;
        count += u64::from(BATCH);
    }
    Ok(Measured { rings: rings.buckets(), count, ..Measured::default() })
}

/// The far process, seen from the near one. Killed with the value.
#[derive(Debug)]
struct Far {
    child: Child,
    control: BufReader<UnixStream>,
}

impl Far {
    /// Starts it, hands its descriptors over, and waits until it is about to sleep.
    fn start(job: &Job, descriptors: Vec<OwnedFd>) -> Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bell-far", "--bell"]).arg(serde_json::to_value(job.bell)?.as_str().context("a name")?);
        if job.pattern.is_armed() {
            command.arg("--armed");
        }
        if let Some(core) = job.far {
            command.arg("--core").arg(core.to_string());
        }
        let command = command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null());
        let child = command.spawn().context("cannot start the far process")?;
        let mut far = Self { child, control: BufReader::new(ours) };
        send(far.control.get_ref(), &descriptors)?;
        drop(descriptors); // the far end of a socket is the far process's alone
        let mut line = String::new();
        ensure!(far.control.read_line(&mut line)? > 0, "the far process ended: {:?}", far.child.wait()?);
        Ok(far)
    }

    fn usage(&mut self) -> Result<Usage> {
        self.control.get_ref().write_all(b"u")?;
        let mut line = String::new();
        self.control.read_line(&mut line)?;
        serde_json::from_str(&line).context("the far process does not say what it used")
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Debug, Args)]
pub(in crate::lab) struct FarArgs {
    #[arg(long, value_enum)]
    bell: Kind,
    #[arg(long)]
    armed: bool,
    #[arg(long)]
    core: Option<usize>,
}

/// The far process. Its input is a socket: descriptors come in there, and it answers there what it has used.
pub(in crate::lab) fn far(args: &FarArgs) -> Result<()> {
    // Stopped or hanging, we go with the near process; the end of our input says the same if it was gone before this line.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(args.core);
    let mut control = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut descriptors = receive(&control)?;
    let memory = if args.armed { Some(descriptors.pop().context("no memory for the flag")?) } else { None };
    let mut bell = args.bell.open(Side::Far, descriptors)?;
    if let Some(memory) = memory {
        bell = Box::new(Armed::new(bell, Side::Far, &memory, false)?);
    }
    control.write_all(b"\n")?;
    thread::spawn(move || {
        // Until the near process is gone, whatever the bell is doing.
        while control.read_exact(&mut [0]).is_ok() {
            let usage = serde_json::to_string(&Usage::now()).expect("plain data");
            let _ = writeln!(control, "{usage}");
        }
        std::process::exit(0);
    });
    while let Heard::Rung(_) = bell.wait()? {
        bell.ring()?;
    }
    Ok(())
}

pub(in crate::lab) fn send(control: &UnixStream, descriptors: &[OwnedFd]) -> Result<()> {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    ensure!(rights.push(SendAncillaryMessage::ScmRights(&descriptors)), "more than {MOST_DESCRIPTORS} descriptors");
    sendmsg(control, &[IoSlice::new(b"\n")], &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}

pub(in crate::lab) fn receive(control: &UnixStream) -> Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(control, &mut [IoSliceMut::new(&mut byte)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let rights = rights.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// How long the near side computes before it rings: long enough for a core to halt.
pub(super) const THINK: Duration = Duration::from_millis(1);
/// How long the far side gets to fall asleep before it is killed.
const ASLEEP: Duration = Duration::from_millis(20);
/// Rings for a dead peer.
const RINGS: u32 = 100;
/// A Unix stream socket takes 278 small writes before it is full.
const BATCH: u32 = 64;
/// The warm-up takes this part of the time.
const WARM_UP: u32 = 8;
const MOST_DESCRIPTORS: usize = 4;
