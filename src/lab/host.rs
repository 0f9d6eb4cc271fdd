//! `lab host`, and the serving that the measured host does as well.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::data;
use super::matrix::{HostKind, Wait};
use super::trace::Trace;
use crate::protocol::{
    Environment, EthReplies, HostState, Limits, Method, Role, ServeError, U256, serve, serve_blocking,
};
use crate::{AcceptError, ListenOptions, Listener, PeerPolicy, listen};

#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// Where to listen: unix:///path, shm:///path, shm-named:///path or tcp://host:port
    #[arg(long, value_name = "ADDRESS")]
    listen: String,
    /// Prepare the state that executions of this trace expect; the k-th connection is execution k
    #[arg(long, value_name = "NAME")]
    seed_trace: Option<String>,
    /// The same from a CSV file
    #[arg(long, value_name = "FILE", conflicts_with = "seed_trace")]
    seed_trace_file: Option<PathBuf>,
    /// The execution that the first connection is
    #[arg(long, value_name = "N", default_value_t = 0)]
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

/// What connections are served with.
#[derive(Debug)]
pub(super) struct World {
    state: HostState,
    trace: Option<Trace>,
    keep_failed: bool,
    next: AtomicUsize,
}

impl World {
    /// Seeded with a trace, if there is one.
    pub(super) fn new(trace: Option<Trace>, keep_failed: bool, first_execution: usize) -> Self {
        let state = HostState::new();
        if let Some(trace) = &trace {
            data::seeds(trace, |account, slot, index, len| {
                let mut bytes = vec![0; len as usize];
                data::seed(account, slot, index, &mut bytes);
                state.set_storage(&data::account(account), &data::slot(slot), index, &bytes);
            });
            for execution in &trace.executions {
                for call in &execution.calls {
                    if let super::trace::Call::Other { method: Method::GetBalance, account, .. } = *call {
                        state.set_balance(&data::account(account), balance(account));
                    }
                }
            }
        }
        Self { state, trace, keep_failed, next: AtomicUsize::new(first_execution) }
    }

    /// What the next connection may know.
    fn environment(&self) -> Environment {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut environment = match &self.trace {
            None => Environment { account: data::account(0), account_from_first_read: true, ..Environment::default() },
            Some(trace) => {
                let number = number % trace.executions.len();
                let execution = &trace.executions[number];
                let mut environment =
                    Environment { account: data::account(execution.account), ..Environment::default() };
                let first_calldata = data::calls(execution, Method::GetCalldata).next();
                environment.calldata =
                    first_calldata.map_or_else(Vec::new, |(at, _, len)| data::reply(number, at, len));
                environment.eth_replies = EthReplies::InOrder(
                    data::calls(execution, Method::EthCall).map(|(at, _, len)| data::reply(number, at, len)).collect(),
                );
                let results: std::collections::BTreeMap<_, _> = data::calls(execution, Method::GetLeaderNondetResult)
                    .filter(|(_, _, len)| *len > 0)
                    .map(|(at, call_no, len)| (call_no, data::leader_result(number, at, len)))
                    .collect();
                if !results.is_empty() {
                    environment.role = Role::Validator(results);
                }
                environment
            }
        };
        environment.keep_failed = self.keep_failed;
        environment
    }
}

/// Every account is rich, each in its own way.
fn balance(account: u32) -> U256 {
    let mut balance = [0; 32];
    balance[5..9].copy_from_slice(&account.to_le_bytes());
    U256(balance)
}

/// Serves until the listener is closed. `report` is told of each connection that failed.
pub(super) fn serve_all(
    listener: Arc<dyn Listener>,
    kind: HostKind,
    world: Arc<World>,
    report: fn(&dyn std::fmt::Display),
) -> Result<()> {
    match kind {
        HostKind::Thread => loop {
            let mut stream = match listener.accept() {
                Ok(stream) => stream,
                Err(error) => match refused(error, report)? {
                    Accepting::GoesOn => continue,
                    Accepting::Ends => return Ok(()),
                },
            };
            let world = world.clone();
            let serving = move || {
                let mut execution = world.state.begin(world.environment());
                if let Err(error) = serve_blocking(&mut stream, &mut execution, &Limits::default()) {
                    report_failure(report, &stream.peer().to_string(), &error);
                }
            };
            std::thread::Builder::new()
                .name("connection".into())
                .spawn(serving)
                .context("no thread for a connection")?;
        },
        HostKind::Tokio => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async move {
                loop {
                    let mut stream = match listener.accept_async().await {
                        Ok(stream) => stream,
                        Err(error) => match refused(error, report)? {
                            Accepting::GoesOn => continue,
                            Accepting::Ends => return Ok(()),
                        },
                    };
                    let world = world.clone();
                    tokio::spawn(async move {
                        let mut execution = world.state.begin(world.environment());
                        if let Err(error) = serve(&mut stream, &mut execution, &Limits::default()).await {
                            report_failure(report, &stream.peer().to_string(), &error);
                        }
                    });
                }
            })
        }
    }
}

/// Sends back what it receives, on every connection, until the listener is closed.
pub(super) fn echo_all(listener: &dyn Listener, kind: HostKind) -> Result<()> {
    match kind {
        HostKind::Thread => loop {
            let mut stream = listener.accept()?;
            std::thread::spawn(move || {
                let mut bytes = vec![0; ECHO];
                while let Ok(n @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..n]).and_then(|()| stream.flush()).is_err() {
                        break;
                    }
                }
            });
        },
        HostKind::Tokio => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                loop {
                    let mut stream = listener.accept_async().await?;
                    tokio::spawn(async move {
                        let mut bytes = vec![0; ECHO];
                        while let Ok(n @ 1..) = stream.read(&mut bytes).await {
                            if stream.write_all(&bytes[..n]).await.is_err() || stream.flush().await.is_err() {
                                break;
                            }
                        }
                    });
                }
            })
        }
    }
}

const ECHO: usize = 64 << 10;

enum Accepting {
    GoesOn,
    Ends,
}

fn refused(error: AcceptError, report: fn(&dyn std::fmt::Display)) -> Result<Accepting> {
    match error {
        AcceptError::Closed => Ok(Accepting::Ends),
        error if error.is_fatal() => Err(error.into()),
        error => {
            report(&error);
            Ok(Accepting::GoesOn)
        }
    }
}

fn report_failure(report: fn(&dyn std::fmt::Display), peer: &str, error: &ServeError) {
    report(&format_args!("{peer}: {error}"));
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
    let world = Arc::new(World::new(trace, args.failed == Failed::Keep, args.first_execution));
    serve_all(listener, args.host, world, |error| eprintln!("{error}"))
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
