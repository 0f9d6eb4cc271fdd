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

/// The shared library with the C interface, built the first time it is asked for. Takes as long as a build of this crate.
#[cfg(feature = "capi")]
pub fn library() -> &'static Path {
    static LIBRARY: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    LIBRARY.get_or_init(|| {
        // A place of its own: whoever runs this test may hold the lock on the usual one.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi");
        let built = Command::new(env!("CARGO"))
            .args([
                "rustc",
                "--quiet",
                "--lib",
                "--no-default-features",
                "--features",
                "capi,uds,shm",
                "--crate-type",
                "cdylib",
            ])
            .arg("--manifest-path")
            .arg(file("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the library does not build");
        let name = format!("{}genvm_transport{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        target.join("debug").join(name)
    })
}
