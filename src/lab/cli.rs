//! The verbs of `transport-lab`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{compare, host, replay, worker};

/// Compares transports between GenVM and its host, on recorded executions, between real processes.
#[derive(Debug, Parser)]
#[command(name = "transport-lab", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure ways to reach a host against each other and against the floor, in one table
    Compare(compare::CompareArgs),
    /// Serve an in-memory host until interrupted
    Host(host::HostArgs),
    /// Play recorded executions against any host, ours or a foreign one
    Replay(replay::ReplayArgs),
    #[command(hide = true)]
    WorkerHost,
    #[command(hide = true)]
    WorkerClient,
    #[command(hide = true)]
    GuardSocket(host::GuardArgs),
}

/// Runs the verb that the command line names. 0: done; 1: it failed, or something that was measured did; 2: wrong usage.
pub fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Compare(args) => compare::run(args),
        Verb::Host(args) => host::run(args).map(|()| true),
        Verb::Replay(args) => replay::run(args).map(|()| true),
        Verb::WorkerHost => worker::host(),
        Verb::WorkerClient => worker::client(),
        Verb::GuardSocket(args) => host::guard(&args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("transport-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
