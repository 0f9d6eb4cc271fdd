//! A host on tokio, with a task for each connection: `cargo run --example tokio_host -- unix:///run/host.sock`.
//!
//! With the feature `shm` the same address serves clients of `shm://`. It serves until SIGINT or SIGTERM, lets the executions that
//! run come to their end for a second, and leaves no socket file. The state here is the crate's own [`HostState`]; a node puts its
//! `HostHandler` in the place of the execution.

use std::error::Error;
use std::time::Duration;

use genvm_transport::protocol::{Environment, HostState, Protocol, serve};
use genvm_transport::{AsyncStream, ListenOptions, listen};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: tokio_host ADDRESS")?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let listener = listen(&address, &ListenOptions::default())?;
    println!("listening on {}", listener.address());

    let state = HostState::new();
    let mut executions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept_async() => match accepted {
                Ok(stream) => drop(executions.spawn(execute(state.clone(), stream))),
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => eprintln!("{error}"),
            },
            Some(ended) = executions.join_next() => ended?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    drop(listener);
    let ended = async { while executions.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(1), ended).await;
    Ok(())
}

/// Serves one connection to its end. It is the execution's from its first byte to its last.
async fn execute(state: HostState, mut stream: Box<dyn AsyncStream>) {
    // A host that knows which contract an execution runs says so; this one takes whose storage is read first.
    let environment = Environment { account_from_first_read: true, ..Environment::default() };
    let mut execution = state.begin(environment);
    match serve(&mut stream, &mut execution, &Protocol::ONE).await {
        Ok(_) => println!("{} over {}: {:?}", stream.peer(), stream.kind(), execution.outcome().result),
        Err(error) => eprintln!("{}: {error}", stream.peer()),
    }
}
