//! Peers in other languages: is there a Python, a C compiler, and what to say where there is none.
#![allow(dead_code, reason = "each test program uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Other, start};

/// The environment variable that makes it a failure that a peer's language is missing here.
pub const REQUIRED: &str = "GENVM_FOREIGN_REQUIRED";

/// Whether `program` can be run here. Where it cannot, says so, and the caller has to return.
pub fn is_there(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        assert!(std::env::var_os(REQUIRED).is_none(), "no `{program}` here, and {REQUIRED} is set");
        eprintln!("no `{program}` here: skipped");
    }
    is_there
}

/// A file of this repository.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program of `examples/python-host`, not yet started.
pub fn python(program: &str) -> Command {
    let mut command = Command::new("python3");
    command.arg(file("examples/python-host").join(program)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Starts a host and waits until it listens.
pub fn listening(host: &mut Command) -> Other {
    let mut host = start(host);
    host.wait_for("listening");
    host
}
