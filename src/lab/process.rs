//! Processes: where they run, what they cost, and that none outlives the one that started it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{ClockId, clock_gettime};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The cores that this process may run on.
pub(super) fn cores() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Keeps the calling thread, and those it starts later, on one core. `None` leaves it where it is.
pub(super) fn pin(core: Option<usize>) {
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(core);
        if let Err(error) = sched_setaffinity(None, &set) {
            eprintln!("cannot pin to core {core}: {error}");
        }
    }
}

/// What a process has used so far, all its threads together, those that ended included.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) cpu_ns: i64,
    pub(super) switches: i64,
}

impl Usage {
    pub(super) fn now() -> Self {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    /// What the other threads have used: this one only talks about it.
    pub(super) fn of_others() -> Self {
        Self::now().since(Self::of(UsageWho::RUSAGE_THREAD))
    }

    fn of(who: UsageWho) -> Self {
        let Ok(usage) = getrusage(who) else { return Self::default() };
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        Self {
            cpu_ns: (micros(usage.user_time()) + micros(usage.system_time())) * 1000,
            switches: usage.voluntary_context_switches() + usage.involuntary_context_switches(),
        }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { cpu_ns: self.cpu_ns - before.cpu_ns, switches: self.switches - before.switches }
    }
}

/// CPU time of the calling thread so far.
pub(super) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Clock ticks of all cores so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ticks {
    /// Those that a hypervisor gave to somebody else while we had work.
    pub(super) stolen: u64,
    pub(super) all: u64,
}

impl Ticks {
    pub(super) fn now() -> Self {
        std::fs::read_to_string("/proc/stat").map_or_else(|_| Self::default(), |text| Self::parse(&text))
    }

    fn parse(stat: &str) -> Self {
        // cpu  user nice system idle iowait irq softirq steal guest guest_nice; the last two are parts of the first two.
        let fields = stat.split_whitespace().skip(1).take(8).map_while(|field| field.parse().ok());
        let fields: Vec<u64> = fields.collect();
        Self { stolen: fields.get(7).copied().unwrap_or(0), all: fields.iter().sum() }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { stolen: self.stolen - before.stolen, all: self.all - before.all }
    }
}

/// This program again, as a worker that takes lines on its standard input and answers with lines on its output. It ends when its
/// input does, so however we end, it does not outlive us; it is killed when dropped.
#[derive(Debug)]
pub(super) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    name: &'static str,
}

impl Worker {
    /// Starts the hidden verb `name` with `job` as its first line of input.
    pub(super) fn start(name: &'static str, job: &impl Serialize) -> Result<Self> {
        Self::of(&std::env::current_exe()?, name, job)
    }

    /// The same of `program`, a `transport-lab` that is not the one that runs.
    pub(super) fn of(program: &Path, name: &'static str, job: &impl Serialize) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0) // Ctrl-C is for us; it follows
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().context("piped")?));
        let mut worker = Self { child, input, output, name };
        worker.say(&serde_json::to_string(job)?)?;
        Ok(worker)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn say(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input was closed")?;
        writeln!(input, "{line}").with_context(|| format!("{} is gone", self.name))
    }

    /// Waits for its next line; not for ever, because what it measures may hang.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.line(PATIENCE)?;
        match serde_json::from_slice(&line)? {
            Said::Ok(value) => Ok(value),
            Said::Err(error) => bail!("{}: {error}", self.name),
        }
    }

    fn line(&mut self, patience: Duration) -> Result<Vec<u8>> {
        let (mut line, until) = (Vec::new(), Instant::now() + patience);
        while line.last() != Some(&b'\n') {
            if self.output.buffer().is_empty() {
                let left = until.saturating_duration_since(Instant::now());
                let mut readable = [PollFd::new(self.output.get_ref(), PollFlags::IN)];
                match poll(&mut readable, Some(&left.try_into()?)) {
                    Ok(0) => bail!("{} has not answered for {patience:?}", self.name),
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error.into()),
                }
            }
            let some = self.output.fill_buf()?;
            ensure!(!some.is_empty(), "{} ended: {:?}", self.name, self.child.wait()?);
            let end = some.iter().position(|byte| *byte == b'\n').map_or(some.len(), |at| at + 1);
            line.extend_from_slice(&some[..end]);
            self.output.consume(end);
        }
        Ok(line)
    }

    /// Asks and waits.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        self.say(line)?;
        self.hear()
    }
}

/// The longest that a worker does without a word, proving a whole trace on a busy machine, takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a worker says: something, or why not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said<T> {
    Ok(T),
    Err(String),
}

/// The worker's side of [`Worker::hear`].
pub(super) fn tell<T: Serialize>(said: Result<T>) {
    let said = match said {
        Ok(value) => Said::Ok(value),
        Err(error) => Said::Err(super::cli::explain(&error)),
    };
    let line = serde_json::to_string(&said).expect("plain data");
    let mut output = std::io::stdout().lock();
    // If nobody listens any more, the end of our input says so.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_says_nothing_is_given_up() {
        let worker = |script: &str| {
            let mut child = Command::new("sh");
            child.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = child.spawn().expect("sh");
            let output = BufReader::new(child.stdout.take().expect("piped"));
            Worker { input: child.stdin.take(), child, output, name: "worker" }
        };
        let error = worker("printf half; read line").line(Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("has not answered"), "{error}");
        let error = worker("printf half").line(PATIENCE).unwrap_err();
        assert!(error.to_string().contains("ended"), "{error}");
        let mut two = worker(r"printf 'one\ntwo\n'");
        assert_eq!(two.line(PATIENCE).expect("a line"), b"one\n");
        assert_eq!(two.line(PATIENCE).expect("a line"), b"two\n");
    }

    #[test]
    fn ticks_are_those_of_all_cores() {
        let stat = "cpu  10 1 5 100 2 0 3 7 4 0\ncpu0 9 9 9 9 9 9 9 9 0 0\n";
        assert_eq!(Ticks::parse(stat), Ticks { stolen: 7, all: 128 });
        assert_eq!(Ticks::parse(""), Ticks::default());
        assert!(Ticks::now().all > 0);
    }
}
