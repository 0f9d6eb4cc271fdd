//! A host with a thread for each connection: `cargo run --example thread_host -- unix:///run/host.sock`.
//!
//! With the feature `shm` the same address serves clients of `shm://`. It serves until SIGINT or SIGTERM, and leaves no socket file.
//! The state here is the crate's own [`HostState`]; a node puts its `BlockingHostHandler` in the place of the execution.

use std::error::Error;
use std::sync::mpsc;
use std::thread;

use genvm_transport::protocol::{Environment, HostState, Protocol, serve_blocking};
use genvm_transport::{BlockingStream, ListenOptions, Listener, listen};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: thread_host ADDRESS")?;
    let (end, ended) = mpsc::channel();
    let interrupted = end.clone();
    ctrlc::set_handler(move || {
        let _ = interrupted.send(());
    })?;
    let listener = listen(&address, &ListenOptions::default())?;
    println!("listening on {}", listener.address());

    thread::scope(|scope| {
        scope.spawn(|| {
            accept_all(&*listener, &HostState::new());
            let _ = end.send(());
        });
        let _ = ended.recv();
        listener.close();
    });
    Ok(())
}

/// Accepts until the listener is closed. Only who accepts waits here: each connection has a thread of its own.
fn accept_all(listener: &dyn Listener, state: &HostState) {
    loop {
        match listener.accept() {
            Ok(stream) => {
                let state = state.clone();
                thread::spawn(move || execute(&state, stream));
            }
            Err(error) if error.is_fatal() => break,
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Serves one connection to its end. It is the execution's from its first byte to its last.
fn execute(state: &HostState, mut stream: Box<dyn BlockingStream>) {
    // A host that knows which contract an execution runs says so; this one takes whose storage is read first.
    let environment = Environment { account_from_first_read: true, ..Environment::default() };
    let mut execution = state.begin(environment);
    match serve_blocking(&mut stream, &mut execution, &Protocol::ONE) {
        Ok(_) => println!("{} over {}: {:?}", stream.peer(), stream.kind(), execution.outcome().result),
        Err(error) => eprintln!("{}: {error}", stream.peer()),
    }
}
