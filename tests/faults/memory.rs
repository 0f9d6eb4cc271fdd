//! No room for shared memory: `/dev/shm` is full, a file may not be that long, an address space may not grow. Connecting says so;
//! nobody is ended by SIGBUS or SIGXFSZ; with a smaller ring, or over the plain socket, it works.
//!
//! Each trial is a process of its own, which has the limit and is refused a hundred times. Nothing is measured.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use genvm_transport::error::UpgradeError;
use genvm_transport::options::Fallback;
use genvm_transport::{ConnectError, ConnectOptions, ListenOptions, RingCapacity, TransportKind, connect, listen};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::harness::{alone, count, skipped};
use crate::support::{directory, say};

/// More than fits into what the other process has.
const LARGE: u32 = 64 << 20;

#[test]
fn a_full_dev_shm() {
    if !cfg!(feature = "shm-named") {
        return;
    }
    let alone = alone();
    // Ours is left alone: a private one of a megabyte, in a namespace of its own.
    let namespace = "mount -t tmpfs -o size=1m none /dev/shm && exec \"$0\" \"$@\"";
    let inside = |program: &str| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", namespace, program]);
        command
    };
    if !inside("true").output().is_ok_and(|output| output.status.success()) {
        return skipped("no_room", "shm-named,both,blocking", "unshare is not permitted");
    }
    let directory = directory();
    let us = std::env::current_exe().expect("current_exe").display().to_string();
    alone.fault("no_room", "shm-named,both,blocking".into()).run(
        count(1, 10),
        || (),
        |(), _| {
            let address = format!("shm-named://{}/s", directory.path().display());
            ends_well(inside(&us), &format!("no-room {address}"));
            None
        },
    );
}

#[test]
fn limits_of_files_and_address_space() {
    let alone = alone();
    let us = std::env::current_exe().expect("current_exe");
    for limit in ["fsize", "as"] {
        let directory = directory();
        alone.fault("no_memory", format!("shm,client,{limit}")).run(
            count(1, 10),
            || (),
            |(), _| {
                let address = format!("shm://{}/s", directory.path().display());
                ends_well(Command::new(&us), &format!("limits {limit} {address}"));
                None
            },
        );
    }
}

fn ends_well(mut program: Command, role: &str) {
    let output = program
        .args(["victim", "--exact", "--nocapture", "--test-threads=1"])
        .env("ROLE", role)
        .output()
        .expect("this program starts again");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert_eq!(output.status.signal(), None, "{role}: {text}");
    assert!(output.status.success() && text.contains("refused and served"), "{role}: {text}");
}

fn of_size(bytes: u32) -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.stream.ring_capacity = RingCapacity::new(bytes).expect("a power of two");
    options
}

/// Connects with a ring that fits, or not.
fn attempt(address: &str, options: &ConnectOptions) -> Result<TransportKind, ConnectError> {
    let listener = listen(address, &ListenOptions::default()).expect("listen");
    thread::scope(|scope| {
        scope.spawn(|| {
            // The upgrade is a part of the first read; whether it comes about is the client's to tell.
            let mut stream = listener.accept().expect("accept");
            let mut byte = [0];
            if stream.read(&mut byte).is_ok_and(|n| n == 1) {
                let _ = stream.write_all(&byte).and_then(|()| stream.flush());
            } else if options.fallback == Fallback::Plain {
                let mut stream = listener.accept().expect("accept");
                stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).expect("plainly");
            }
        });
        let mut stream = connect(address, options)?;
        let mut byte = [7];
        stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).expect("served");
        Ok(stream.kind())
    })
}

/// Connecting fails for want of room.
fn is_refused(address: &str, options: &ConnectOptions) {
    for _ in 0..100 {
        match attempt(address, options) {
            Err(ConnectError::Upgrade { source: UpgradeError::Io { .. }, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// `ADDRESS`: with a megabyte of /dev/shm.
pub fn no_room(address: &str) {
    for _ in 0..100 {
        attempt(address, &of_size(4096)).expect("room for small ones");
    }
    for bytes in [1 << 20, LARGE] {
        is_refused(address, &of_size(bytes));
    }
    // Filled up by somebody else, to the last page.
    let filler = std::fs::File::create("/dev/shm/filler").expect("a file");
    let _ = std::io::copy(&mut std::io::repeat(1), &mut &filler);
    is_refused(address, &of_size(4096));
    drop(filler);
    std::fs::remove_file("/dev/shm/filler").expect("ours");
    attempt(address, &of_size(4096)).expect("room again");
    assert_eq!(std::fs::read_dir("/dev/shm").expect("it").count(), 0, "a name is left");
    say("refused and served");
}

/// `LIMIT ADDRESS`: with a limit of its own.
pub fn limits(with: &str) {
    let (limit, address) = with.split_once(' ').expect("a limit and an address");
    attempt(address, &of_size(4096)).expect("before the limit");
    let limited = |resource, bytes: usize| {
        setrlimit(resource, Rlimit { current: Some(bytes as u64), maximum: None }).expect("setrlimit");
    };
    match limit {
        "fsize" => limited(Resource::Fsize, 1 << 20),
        _ => {
            let statm = std::fs::read_to_string("/proc/self/statm").expect("it");
            let pages: usize = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("pages");
            limited(Resource::As, (pages << 12) + (LARGE as usize >> 1));
        }
    }
    let large = of_size(LARGE);
    is_refused(address, &large);
    let mut plain = large;
    plain.fallback = Fallback::Plain;
    assert_eq!(attempt(address, &plain).expect("falls back"), TransportKind::Unix);
    assert_eq!(attempt(address, &of_size(4096)).expect("a small one"), TransportKind::Shm);
    say("refused and served");
}
