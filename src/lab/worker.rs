//! The two measured processes: a host, and the GenVM side. They take a job as a line of JSON, then do what further lines say,
//! answering each with a line. What they measure together, and when, is up to whoever started them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::executions::Executions;
use super::line::Line;
use super::matrix::{Situation, Way, Workload};
use super::process::{Usage, pin, tell};
use super::rival;
use super::serving::{Service, World, serve_all};
use super::slice::{self, Slice};
use super::trace::Trace;
use super::workload::{Connecting, Ping, Pipelined, Single, Work, prepare};
use crate::{ConnectOptions, ListenOptions, Listener, listen};

/// What both processes have to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// Where to listen, or whom to call.
    pub(super) address: String,
    pub(super) way: Way,
    pub(super) situation: Situation,
    pub(super) core: Option<usize>,
    pub(super) round: u32,
    /// The file of the workload's trace.
    pub(super) trace: Option<PathBuf>,
    /// Where the socket is; removed if whoever started us goes without stopping us.
    pub(super) directory: PathBuf,
}

/// A folder for the sockets and traces of measured processes. Those are to be gone before it is.
#[derive(Debug)]
pub(super) struct Home(TempDir);

impl Home {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(tempfile::Builder::new().prefix("transport-lab-").tempdir()?))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        rival::sweep(self.path());
    }
}

impl Job {
    fn trace(&self) -> Result<Option<Trace>> {
        self.trace.as_deref().map(Trace::from_file).transpose()
    }
}

/// The measured host: says its address, then what it has used whenever it is asked.
pub(super) fn host() -> ! {
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    let mut directory = None;
    let address = (|| {
        let job: Job = job(lines.next())?;
        directory = Some(job.directory.clone());
        pin(job.core);
        if !job.way.transport.is_ours() {
            return rival::serve(&job.way, &job.address, Arc::new(World::new(job.trace()?, false, 0)));
        }
        let service = match job.situation.workload {
            Workload::Ping(len) => Service::Echo(len as usize),
            _ => Service::Host(World::new(job.trace()?, false, 0)),
        };
        let options = ListenOptions { stream: job.way.stream_options(), ..ListenOptions::default() };
        let listener = Arc::<dyn Listener>::from(listen(&job.address, &options)?);
        let address = listener.address().to_string();
        std::thread::spawn(move || {
            let served = serve_all(listener, job.way.host, Arc::new(service), |error| eprintln!("host: {error}"));
            if let Err(error) = served {
                eprintln!("host: {error:#}");
            }
        });
        Ok(address)
    })();
    tell(address);
    lines.for_each(|_| tell(Ok(Usage::of_others())));
    // Whoever started us stops us before that, or is gone and cannot clean up.
    if let Some(directory) = directory {
        rival::sweep(&directory);
        let _ = std::fs::remove_dir_all(directory);
    }
    std::process::exit(0)
}

/// The GenVM side. Answers when it has loaded what it needs; checks, at the first line, that the right bytes come back; then takes
/// `open`, `run`, then `slice` (answered with that [`Slice`]), `time N` (answered with nanoseconds) and `close`.
pub(super) fn client() -> ! {
    let lines = lines();
    if let Err(error) = play(&lines) {
        tell::<()>(Err(error));
    }
    // What happens next is up to whoever started us.
    lines.iter().for_each(drop);
    unreachable!("the end of the input ends the process")
}

fn play(lines: &Receiver<String>) -> Result<()> {
    let job: Job = job(lines.recv().ok())?;
    pin(job.core);
    let trace = job.trace()?;
    // What is to be a socket stays one, whatever this program was built with.
    let options = ConnectOptions { stream: job.way.stream_options(), upgrades: false, ..ConnectOptions::default() };
    let (transport, ring) = (job.way.transport, job.way.ring_kib.unwrap_or(0) as usize * 1024);
    let line = Line::new(transport, job.address, options, job.situation.think(), ring).cached(job.way.cache)?;
    tell(Ok(()));
    lines.recv()?;
    match &trace {
        Some(trace) => Executions::verify(&line, trace, job.situation.in_flight)?,
        None => prepare(&line, &job.situation.workload)?,
    }
    tell(Ok(()));
    let Situation { workload, in_flight, connections, .. } = job.situation;
    let (numbers, new) = (0..connections as usize, || line.clone());
    match (workload, &trace) {
        (Workload::Read(len), _) if in_flight > 1 => {
            obey(lines, numbers.map(|_| Pipelined::new(new(), len, in_flight)).collect())
        }
        (Workload::Read(len), _) if job.way.cache.is_some() => {
            obey(lines, numbers.map(|_| Single::cached(new(), len)).collect())
        }
        (Workload::Read(len), _) => obey(lines, numbers.map(|_| Single::new(new(), len, false)).collect()),
        (Workload::Write(len), _) => obey(lines, numbers.map(|_| Single::new(new(), len, true)).collect()),
        (Workload::Ping(len), _) => obey(lines, numbers.map(|_| Ping::new(new(), len)).collect()),
        (Workload::Connect, _) => obey(lines, numbers.map(|_| Connecting::new(new())).collect()),
        (Workload::Trace(_), Some(trace)) => {
            let executions =
                |number| Executions::new(new(), trace, connections, job.round + number as u32).in_flight(in_flight);
            obey(lines, numbers.map(executions).collect())
        }
        (Workload::Trace(name), None) => bail!("trace {name} was not loaded"),
    }
    Ok(())
}

/// Does what the lines say; one connection for each of `works`.
fn obey<W: Work>(lines: &Receiver<String>, mut works: Vec<W>) {
    let mut slice = Slice::default();
    for order in lines {
        match order.as_str() {
            "open" => tell(open(&mut works)),
            "run" => tell(slice::run(&mut works).map(|measured| slice = measured)),
            "slice" => tell(Ok(std::mem::take(&mut slice).with_clock())),
            "close" => tell(works.iter_mut().try_for_each(W::close)),
            other => match other.strip_prefix("time ").and_then(|rounds| rounds.parse().ok()) {
                Some(rounds) => tell(slice::time(&mut works, rounds)),
                None => tell::<()>(Err(anyhow!("no such order: {other}"))),
            },
        }
    }
}

fn open<W: Work>(works: &mut [W]) -> Result<()> {
    works.iter_mut().try_for_each(W::open)?;
    match works {
        [work] => work.touch(),
        _ => Ok(()), // the spinning hosts of the other connections would be in the way
    }
}

/// The lines of our input, from a thread of their own: when they end, whoever started us is gone, and so are we.
fn lines() -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    receive
}

fn job(line: Option<String>) -> Result<Job> {
    Ok(serde_json::from_str(&line.context("no job")?)?)
}
