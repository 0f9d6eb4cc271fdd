//! Processes: where they run, what they cost, and that none outlives the one that started it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
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
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        Self {
            cpu_ns: (micros(usage.user_time()) + micros(usage.system_time())) * 1000,
            switches: usage.voluntary_context_switches() + usage.involuntary_context_switches(),
        }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { cpu_ns: self.cpu_ns + other.cpu_ns, switches: self.switches + other.switches }
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { cpu_ns: self.cpu_ns - before.cpu_ns, switches: self.switches - before.switches }
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
        let mut child = Command::new(std::env::current_exe()?)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().context("piped")?));
        let mut worker = Self { child, input, output, name };
        worker.say(&serde_json::to_string(job)?)?;
        Ok(worker)
    }

    pub(super) fn say(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input was closed")?;
        writeln!(input, "{line}").with_context(|| format!("{} is gone", self.name))
    }

    /// Waits for its next line.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "{} ended: {:?}", self.name, self.child.wait()?);
        match serde_json::from_str(&line)? {
            Said::Ok(value) => Ok(value),
            Said::Err(error) => bail!("{}: {error}", self.name),
        }
    }

    /// Asks and waits.
    pub(super) fn ask<T: DeserializeOwned>(&mut self, line: &str) -> Result<T> {
        self.say(line)?;
        self.hear()
    }
}

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
