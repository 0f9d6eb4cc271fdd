//! Serving: what the connections of `lab host` and of the measured host get.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::data;
use super::matrix::HostKind;
use super::trace::{Call, Trace};
use crate::protocol::{
    Environment, EthReplies, Execution, HostState, Method, Protocol, Revision, Role, ServeError, Status, U256, serve,
    serve_blocking,
};
use crate::{AcceptError, Listener};

/// What connections get.
#[derive(Debug)]
pub(super) enum Service {
    /// The protocol.
    Host(World),
    /// So many bytes back for so many bytes, whatever they are.
    Echo(usize),
}

impl Service {
    fn serve_blocking(&self, stream: &mut (impl Read + Write)) -> Result<(), ServeError> {
        match self {
            Self::Host(world) => {
                serve_blocking(stream, &mut world.execution(), &world.protocol)?;
            }
            Self::Echo(len) => {
                let mut bytes = vec![0; *len];
                while more(stream.read_exact(&mut bytes))? {
                    stream.write_all(&bytes)?;
                    stream.flush()?;
                }
            }
        }
        Ok(())
    }

    async fn serve(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin + Send)) -> Result<(), ServeError> {
        match self {
            Self::Host(world) => {
                serve(stream, &mut world.execution(), &world.protocol).await?;
            }
            Self::Echo(len) => {
                let mut bytes = vec![0; *len];
                while more(stream.read_exact(&mut bytes).await.map(drop))? {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
            }
        }
        Ok(())
    }
}

/// Whether there was something to echo, or the client has gone.
fn more(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

/// Serves until the listener is closed. `report` is told of each connection that failed.
pub(super) fn serve_all(
    listener: Arc<dyn Listener>,
    kind: HostKind,
    service: Arc<Service>,
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
            let service = service.clone();
            let serving = move || {
                if let Err(error) = service.serve_blocking(&mut stream) {
                    report(&format_args!("{}: {error}", stream.peer()));
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
                    let service = service.clone();
                    tokio::spawn(async move {
                        if let Err(error) = service.serve(&mut stream).await {
                            report(&format_args!("{}: {error}", stream.peer()));
                        }
                    });
                }
            })
        }
    }
}

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

/// What connections are served with.
#[derive(Debug)]
pub(super) struct World {
    state: HostState,
    trace: Option<Trace>,
    keep_failed: bool,
    next: AtomicUsize,
    protocol: Protocol,
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
                    if let Call::Other { method: Method::GetBalance, account, .. } = *call {
                        state.set_balance(&data::account(account), balance(account));
                    }
                }
            }
        }
        Self { state, trace, keep_failed, next: AtomicUsize::new(first_execution), protocol: Protocol::ONE }
    }

    /// The same for clients that speak `protocol`.
    pub(super) fn speaking(self, protocol: Protocol) -> Self {
        Self { protocol, ..self }
    }

    /// The next connection's handler.
    pub(super) fn execution(&self) -> Execution {
        self.state.begin(self.environment())
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
        if self.protocol.revision() == Revision::Two {
            environment.no_eth_reply = Status::EvmReverted;
        }
        environment
    }
}

/// Every account is rich, each in its own way.
fn balance(account: u32) -> U256 {
    let mut balance = [0; 32];
    balance[5..9].copy_from_slice(&account.to_le_bytes());
    U256(balance)
}
