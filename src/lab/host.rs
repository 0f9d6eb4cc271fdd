//! `lab host`: an in-memory host for other people's clients.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;

use super::matrix::{HostKind, Wait};
use super::serving::{Service, World, serve_all};
use super::trace::Trace;
use crate::protocol::Protocol;
use crate::{ListenOptions, Listener, PeerPolicy, listen};

#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// Where to listen: unix:///path, shm:///path, shm-named:///path or tcp://host:port
    #[arg(long, value_name = "ADDRESS")]
    listen: String,
    /// Prepare the state that executions of this trace expect; the k-th connection is execution k
    #[arg(long, value_name = "NAME", group = "seed")]
    seed_trace: Option<String>,
    /// The same from a CSV file
    #[arg(long, value_name = "FILE", group = "seed")]
    seed_trace_file: Option<PathBuf>,
    /// The execution that the first connection is, of the trace that it was seeded with
    #[arg(long, value_name = "N", default_value_t = 0, requires = "seed")]
    first_execution: usize,
    /// How connections wait
    #[arg(long, value_enum, default_value_t = Wait::Adaptive)]
    wait: Wait,
    /// What serves a connection
    #[arg(long, value_enum, default_value_t = HostKind::Thread)]
    host: HostKind,
    /// What becomes of the writes of executions that did not return
    #[arg(long, value_enum, default_value_t = Failed::Drop)]
    failed: Failed,
    /// The revision of the protocol that clients speak
    #[arg(long, value_enum, default_value_t = Spoken::One)]
    revision: Spoken,
    /// Stay on this core
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Let processes of every user connect, not only those of this one
    #[arg(long)]
    any_user: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Failed {
    /// They are dropped
    Drop,
    /// They are kept
    Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Spoken {
    /// 14 methods: what GenVM and its hosts speak today
    #[value(name = "1")]
    One,
    /// 9 methods: GenVM keeps writes, messages and events to itself until the result
    #[value(name = "2")]
    Two,
}

impl Spoken {
    pub(super) fn protocol(self) -> Protocol {
        match self {
            Self::One => Protocol::ONE,
            Self::Two => Protocol::TWO,
        }
    }
}

/// The verb: serves until SIGINT or SIGTERM.
pub(super) fn run(args: HostArgs) -> Result<()> {
    let trace = match (&args.seed_trace, &args.seed_trace_file) {
        (None, None) => None,
        (name, file) => Some(Trace::load(name.as_deref(), file.as_deref())?),
    };
    super::process::pin(args.core);
    let mut options = ListenOptions::default().with_wait(args.wait.strategy());
    if args.any_user {
        (options.allowed_peers, options.socket_mode) = (PeerPolicy::Any, 0o666);
    }
    let listener: Arc<dyn Listener> = Arc::from(listen(&args.listen, &options)?);
    let _guard = listener.address().path().map(Guard::of).transpose()?;
    let closing = listener.clone();
    ctrlc::set_handler(move || closing.close()).context("cannot handle signals")?;
    // A closed standard output is not our business.
    let _ = writeln!(std::io::stdout(), "listening on {}", listener.address());
    let _ = std::io::stdout().flush();
    let world = World::new(trace, args.failed == Failed::Keep, args.first_execution).speaking(args.revision.protocol());
    serve_all(listener, args.host, Arc::new(Service::Host(world)), |error| eprintln!("{error}"))
}

/// A process that waits for our end, however it comes, and then removes the socket file, if it still is ours: SIGKILL leaves us no
/// time to. It shares nothing with us but a pipe that closes when we end.
struct Guard(Child);

impl Guard {
    fn of(path: &Path) -> Result<Self> {
        use std::os::unix::fs::MetadataExt;
        use std::os::unix::process::CommandExt;
        let found = std::fs::symlink_metadata(path)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("guard-socket")
            .arg(std::path::absolute(path)?)
            .args([found.dev().to_string(), found.ino().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0) // Ctrl-C is for us; it follows
            .spawn()
            .context("cannot start the guard of the socket file")?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// The guard's side.
pub(super) fn guard(args: &GuardArgs) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    if std::fs::symlink_metadata(&args.path).is_ok_and(|found| (found.dev(), found.ino()) == (args.device, args.inode))
    {
        std::fs::remove_file(&args.path)?;
    }
    Ok(())
}
