//! `lab study`: one design question each, measured by itself. `compare` measures whole transports; a study takes out the one part
//! that its question is about, so that a decision of the crate can be taken again, here or on another machine.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

mod doorbell;
mod idle;
mod walk;

pub(super) use doorbell::memory::{Page, two_pages};
pub(super) use doorbell::pair::{FarArgs, far, near, receive, send};

#[derive(Debug, Subcommand)]
pub(super) enum Study {
    /// How to wake a process that sleeps: socket byte, eventfd, futex or raw_sync event
    Doorbell(doorbell::DoorbellArgs),
    /// What a connection costs that nobody uses
    Idle(idle::IdleArgs),
    /// What passing cache lines along a ring costs, and nothing else: the least that any ring can take
    Walk(walk::WalkArgs),
}

/// The verb.
pub(super) fn run(study: Study) -> Result<ExitCode> {
    match study {
        Study::Doorbell(args) => doorbell::run(args),
        Study::Idle(args) => idle::run(args),
        Study::Walk(args) => walk::run(args),
    }
}
