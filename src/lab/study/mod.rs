//! `lab study`: one design question each, measured by itself. `compare` measures whole transports; a study takes out the one part
//! that its question is about, so that a decision of the crate can be taken again, here or on another machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod doorbell;

pub(super) use doorbell::pair::{FarArgs, far, near};

#[derive(Debug, Subcommand)]
pub(super) enum Study {
    /// How to wake a process that sleeps: socket byte, eventfd, futex or raw_sync event
    Doorbell(doorbell::DoorbellArgs),
}

/// The verb.
pub(super) fn run(study: Study) -> Result<ExitCode> {
    match study {
        Study::Doorbell(args) => doorbell::run(args),
    }
}
