//! The two measured processes: a host, and the GenVM side. They take a job as a line of JSON and answer in lines.

use std::io::BufRead;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::host::{World, echo_all, serve_all};
use super::matrix::{Way, Workload};
use super::process::{Usage, pin, tell};
use super::slice::{Measured, measure};
use super::trace::Trace;
use super::workload::{Line, work};
use crate::{ConnectOptions, ListenOptions, Listener, listen};

/// Which trace a worker loads for itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TraceRef {
    pub(super) name: String,
    pub(super) file: Option<std::path::PathBuf>,
}

impl TraceRef {
    fn load(&self) -> Result<Trace> {
        Trace::load(Some(&self.name), self.file.as_deref())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HostJob {
    pub(super) address: String,
    pub(super) way: Way,
    pub(super) core: Option<usize>,
    /// Sends back what it receives instead of serving the protocol.
    pub(super) echo: bool,
    pub(super) trace: Option<TraceRef>,
    /// Where the socket is; removed if whoever started us goes without stopping us.
    pub(super) directory: std::path::PathBuf,
}

/// The measured host: says its address, then its [`Usage`] whenever it is asked.
pub(super) fn host() -> ! {
    let orphaned = Arc::new(OnceLock::new());
    let lines = lines(orphaned.clone());
    let started = (|| {
        let job: HostJob = job(&lines)?;
        let _ = orphaned.set(job.directory);
        pin(job.core);
        let trace = job.trace.as_ref().map(TraceRef::load).transpose()?;
        let options = ListenOptions { stream: job.way.stream_options(), ..ListenOptions::default() };
        let listener = listen(&job.address, &options)?;
        Ok((Arc::<dyn Listener>::from(listener), job.way.host, job.echo, Arc::new(World::new(trace, false, 0))))
    })();
    match started {
        Err(error) => tell::<String>(Err(error)),
        Ok((listener, kind, echo, world)) => {
            let address = listener.address().to_string();
            std::thread::spawn(move || {
                let served = match echo {
                    true => echo_all(&*listener, kind),
                    false => serve_all(listener, kind, world, |error| eprintln!("host: {error}")),
                };
                if let Err(error) = served {
                    eprintln!("host: {error:#}");
                }
            });
            tell(Ok(address));
        }
    }
    for _ in lines {
        tell(Ok(Usage::now()));
    }
    unreachable!("the end of the input ends the process")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ClientJob {
    pub(super) address: String,
    pub(super) way: Way,
    pub(super) core: Option<usize>,
    /// Between which cores the floor is probed, GenVM's first.
    pub(super) floor: Option<(usize, usize)>,
    pub(super) workload: Workload,
    pub(super) in_flight: u32,
    pub(super) trace: Option<TraceRef>,
    pub(super) think: Duration,
    /// How long to measure, floor probes and warm-up included.
    pub(super) time: Duration,
}

/// The GenVM side: checks that the right bytes come back, says so, and measures when told to.
pub(super) fn client() -> ! {
    let lines = lines(Arc::default());
    let started = (|| {
        let job: ClientJob = job(&lines)?;
        pin(job.core);
        let options = ConnectOptions { stream: job.way.stream_options(), ..ConnectOptions::default() };
        let trace = job.trace.as_ref().map(TraceRef::load).transpose()?;
        Ok((job, options, trace))
    })();
    match started {
        Err(error) => tell::<()>(Err(error)),
        Ok((job, options, trace)) => {
            let mut work = work(Line { job: &job, options: &options }, trace.as_ref());
            // The right bytes came back; the next line says go.
            tell(work.as_ref().map(drop).map_err(|error| anyhow::anyhow!("{}", super::cli::explain(error))));
            if let Ok(work) = &mut work
                && lines.recv().is_ok()
            {
                tell::<Measured>(measure(&mut **work, &job));
            }
        }
    }
    // What happens next is up to whoever started us.
    lines.iter().for_each(drop);
    unreachable!("the end of the input ends the process")
}

/// The lines of our input, from a thread of their own: when they end, whoever started us is gone, and so are we, and so is the
/// directory that it can no longer remove.
fn lines(directory: Arc<OnceLock<std::path::PathBuf>>) -> Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        if let Some(directory) = directory.get() {
            let _ = std::fs::remove_dir_all(directory);
        }
        std::process::exit(0);
    });
    receive
}

fn job<T: DeserializeOwned>(lines: &Receiver<String>) -> Result<T> {
    let line = lines.recv().context("no job")?;
    Ok(serde_json::from_str(&line)?)
}
