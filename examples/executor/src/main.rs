//! A miniature of GenVM's executor: it connects to a host, runs a WebAssembly contract whose host functions are calls to that host,
//! and hands over the result.
//!
//! ```text
//! executor ADDRESS [CONTRACT [EXECUTIONS]]
//! ```
//!
//! `ADDRESS` is `unix:///path` or, built with the feature `transport-shm`, `shm:///path`; what an execution returns is the same over
//! both. `CONTRACT` is a number that makes the contract's account (1), and `EXECUTIONS` how many there are, one after another, over a
//! connection each (1). What they returned goes to stdout, what they took to stderr; for times that mean something, in this directory:
//!
//! ```sh
//! cargo run --release --features transport-shm -- shm:///run/host.sock 1 20
//! ```
//!
//! What matters here is [`host`]: the stream is held and used in the way of GenVM's client, and nothing in it knows what carries the
//! bytes.

mod contract;
mod host;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::Compiled;
use host::Host;
use wasmtime::Result;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let numbers = |text: Option<String>| text.map_or(Ok(1), |text| text.parse::<u32>());
    let (Some(address), Ok(contract), Ok(executions), None) =
        (args.next(), numbers(args.next()), numbers(args.next()), args.next())
    else {
        eprintln!("usage: executor ADDRESS [CONTRACT [EXECUTIONS]]");
        return ExitCode::from(2);
    };
    match run(&address, contract, executions) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("executor: {error:#}"); // with its causes: what the host said is below what the machine says
            ExitCode::FAILURE
        }
    }
}

fn run(address: &str, contract: u32, executions: u32) -> Result<()> {
    let mut account = [0; 20];
    account[..4].copy_from_slice(&contract.to_le_bytes());
    // Once for all executions; GenVM, a process an execution, has what was compiled in a cache of files.
    let compiled = Compiled::new()?;
    for number in 1..=executions {
        let times = execute(address, account, &compiled, number)?;
        eprintln!("execution {number}: {times}");
    }
    Ok(())
}

/// One execution from its connection to its end.
fn execute(address: &str, account: [u8; 20], compiled: &Compiled, number: u32) -> Result<Times> {
    let begun = Instant::now();
    // As in GenVM, the connection is there before any runtime is.
    let host = Arc::new(Host::connect(address, account)?);
    let connected = begun.elapsed();

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build()?;
    let running = Instant::now();
    // The contract, and with it every call to the host, runs on this thread.
    let returned = runtime.block_on(compiled.run(host.clone()))?;
    let run = running.elapsed();
    host.consume_result(&returned)?;

    let hex: String = returned.iter().map(|byte| format!("{byte:02x}")).collect();
    println!("execution {number} returned {hex}");
    let (calls, waiting) = host.cost();
    Ok(Times { kind: host.kind(), connected, run, calls, waiting, whole: begun.elapsed() })
}

struct Times {
    kind: genvm_transport::TransportKind,
    connected: Duration,
    run: Duration,
    calls: u32,
    waiting: Duration,
    whole: Duration,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, connected, run, calls, waiting, whole } = self;
        write!(
            f,
            "{whole:.1?} over {kind}: connected in {connected:.1?}, contract {run:.1?}; {calls} calls took {waiting:.1?}, {:.2?} each",
            *waiting / *calls
        )
    }
}
