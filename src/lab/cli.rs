//! The verbs of `transport-lab`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use super::{advise, compare, doctor, host, manual, record, replay, report, study, worker};

/// Compares transports between GenVM and its host, on recorded executions, between real processes.
#[derive(Debug, Parser)]
#[command(name = "transport-lab", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli<V: Subcommand> {
    #[command(subcommand)]
    verb: V,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure ways to reach a host against each other and against the floor, in one table
    Compare(Box<compare::CompareArgs>),
    /// Say what on this machine will disturb a measurement, and whether all that the transports need works
    Doctor(doctor::DoctorArgs),
    /// Serve an in-memory host until interrupted
    Host(host::HostArgs),
    /// Play recorded executions against any host, ours or a foreign one
    Replay(replay::ReplayArgs),
    /// Run everything that results/ is made of, into a new directory
    Record(record::RecordArgs),
    /// Make the pages and plots of recorded directories, or check them against the data
    Report(report::ReportArgs),
    /// Measure one design question by itself
    #[command(subcommand)]
    Study(study::Study),
    /// Say whether another way to reach the host would pay, for executions that were counted or recorded
    Advise(Box<advise::AdviseArgs>),
    /// Write the manual pages and completions for bash, zsh and fish into a folder
    Manual(manual::ManualArgs),
}

/// What the lab starts itself as.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    WorkerHost,
    #[command(hide = true)]
    WorkerClient,
    #[command(hide = true)]
    BellNear,
    #[command(hide = true)]
    BellFar(study::FarArgs),
    #[command(hide = true)]
    GuardSocket(host::GuardArgs),
}

#[derive(Debug, Subcommand)]
enum Any {
    #[command(flatten)]
    Verb(Verb),
    #[command(flatten)]
    Part(Part),
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 it failed, or something that was measured or tried out did; 2 wrong usage; \
    3 slower than the baseline; 130 interrupted";

/// Runs the verb that the command line names. The exit codes are those that `--help` tells.
pub fn main() -> ExitCode {
    let done = match Cli::<Any>::parse().verb {
        Any::Verb(verb) => run(verb),
        Any::Part(part) => play(part),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("transport-lab: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Compare(args) => compare::run(*args).map(|ended| match ended {
            compare::Ended::Measured => ExitCode::SUCCESS,
            compare::Ended::Failed => ExitCode::FAILURE,
            compare::Ended::Slower => ExitCode::from(3),
            compare::Ended::Interrupted => ExitCode::from(130),
        }),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Host(args) => host::run(args).map(success),
        Verb::Replay(args) => replay::run(args).map(success),
        Verb::Record(args) => record::run(args),
        Verb::Report(args) => report::run(args),
        Verb::Study(study) => study::run(study),
        Verb::Advise(args) => advise::run(&args),
        Verb::Manual(args) => manual::run(Cli::<Verb>::command(), &args).map(success),
    }
}

fn play(part: Part) -> Result<ExitCode> {
    match part {
        Part::WorkerHost => worker::host(),
        Part::WorkerClient => worker::client(),
        Part::BellNear => study::near(),
        Part::BellFar(args) => study::far(&args).map(success),
        Part::GuardSocket(args) => host::guard(&args).map(success),
    }
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Whether these are arguments of `transport-lab`.
#[cfg(test)]
pub(super) fn check(arguments: &[String]) -> Result<(), clap::Error> {
    Cli::<Any>::try_parse_from(std::iter::once("transport-lab").chain(arguments.iter().map(String::as_str))).map(drop)
}

/// The error and its causes, leaving out those that an outer one quotes already.
pub(super) fn explain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match &said[..] {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no such file").context("cannot open x: no such file").context("execution 3");
        assert_eq!(explain(&error), "execution 3: cannot open x: no such file");
    }
}
