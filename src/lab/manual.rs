//! `lab manual`: what packagers install beside a program, made from its own command line. Installs nothing.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Debug, Args)]
pub(super) struct ManualArgs {
    /// The folder, which is made if it is not there; files in it that have the same names are replaced
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// The verb, for the whole command line.
pub(super) fn run(mut command: Command, args: &ManualArgs) -> Result<()> {
    let directory = &args.directory;
    let mut write = || {
        fs::create_dir_all(directory)?;
        clap_mangen::generate_to(command.clone(), directory)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command, "transport-lab", directory)?;
        }
        Ok::<(), std::io::Error>(())
    };
    write().with_context(|| format!("cannot write into {}", directory.display()))
}
