//! Descriptors: none is lost over many connections, and running out of them on either side is an error that says so, or a wait
//! without spinning, and over when there are some again.
//!
//! Measured: connecting until the first answer; and, after descriptors ran out, from their return to the next good answer.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::ConnectError;
use genvm_transport::error::UpgradeError;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::body::Face;
use crate::harness::{alone, count};
use crate::support::{Other, directory, other_process, say};
use crate::traffic::{Host, connected, face_of, good_call, good_client, is_an_end, name_of, options, orders, tell};
use crate::{FACES, SCHEMES};

#[test]
fn connections_come_and_go() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            alone.fault("connects", format!("{scheme},both,{}", name_of(face))).run(
                count(50, 5_000),
                || Host::start(&address, face),
                |host, random| {
                    let begun = Instant::now();
                    let client = random.pick(&FACES);
                    let mut end = connected(client, &address, &options(None)).expect("connect");
                    good_call(&mut end).expect("served");
                    let took = begun.elapsed();
                    drop(end);
                    // One in ten goes without a word.
                    if random.below(10) == 0 {
                        drop(connected(client, &address, &options(None)).expect("connect"));
                    }
                    host.settle(client);
                    Some(took)
                },
            );
        }
    }
}

/// Restores the limit when dropped.
struct Limit(Rlimit);

impl Limit {
    /// Leaves this process so many descriptors.
    fn spare(count: u64) -> Self {
        let before = getrlimit(Resource::Nofile);
        // They are given out from below.
        let next = File::open("/dev/null").expect("one is free").as_raw_fd() as u64;
        setrlimit(Resource::Nofile, Rlimit { current: Some(next + count), ..before }).expect("setrlimit");
        Self(before)
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("setrlimit");
    }
}

#[test]
fn a_client_without_descriptors() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || {
                let mut host = other_process("victim", &format!("host {address} {}", name_of(face)));
                host.wait_for("listening");
                host
            };
            alone.fault("descriptors", format!("{scheme},client,{}", name_of(face))).allowing(SECOND, SECOND).run(
                count(10, 100),
                setup,
                |_, random| {
                    let limit = Limit::spare(random.below(6));
                    let outcome = connected(face, &address, &options(None)).map(|mut end| good_call(&mut end));
                    drop(limit);
                    let begun = Instant::now();
                    match outcome {
                        Ok(called) => called.expect("connected, hence served"),
                        Err(error) => assert!(is_exhaustion(&error), "{error:?}"),
                    }
                    good_client(face, &address);
                    Some(begun.elapsed())
                },
            );
        }
    }
}

/// Whether the error names the true reason.
fn is_exhaustion(error: &ConnectError) -> bool {
    let source = match error {
        ConnectError::Io { source, .. } => source,
        ConnectError::Upgrade { source: UpgradeError::Io { source, .. }, .. } => source,
        _ => return false,
    };
    Errno::from_io_error(source) == Some(Errno::MFILE)
}

#[test]
fn a_host_without_descriptors() {
    let alone = alone();
    for scheme in SCHEMES {
        for face in FACES {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let setup = || {
                let mut host = other_process("victim", &format!("limited {address} {}", name_of(face)));
                host.wait_for("listening");
                good_client(face, &address); // sets up what stays
                host
            };
            alone.fault("descriptors", format!("{scheme},host,{}", name_of(face))).allowing(SECOND, SECOND).run(
                count(6, 100),
                setup,
                |host, random| starved(host, &address, face, random.pick(&[0, 0, 1, 2, 3, 4])),
            );
        }
    }
}

/// A client that does not give up, while the host has so many descriptors, and after it has enough again.
fn starved(host: &mut Other, address: &str, face: Face, spare: u64) -> Option<Duration> {
    tell(host, &format!("spare {spare}"));
    host.wait_for("obeyed");
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            loop {
                match connected(face, address, &options(None)).map(|mut end| good_call(&mut end)) {
                    Ok(Ok(())) => return Instant::now(),
                    Ok(Err(error)) => assert!(is_an_end(&Err(error)), "an end"),
                    Err(ConnectError::Upgrade { source: UpgradeError::Refused(_) | UpgradeError::Closed, .. }) => {}
                    Err(error) => panic!("{error:?}"),
                }
                // Whoever is refused comes again; how often is for the client to say.
                thread::sleep(Duration::from_millis(5));
            }
        });
        let before = processor_time(host);
        thread::sleep(EXHAUSTED);
        let used = processor_time(host) - before;
        let waits = !client.is_finished();
        assert!(used < EXHAUSTED / 2, "the host spins: {used:?} of {EXHAUSTED:?}");
        let begun = Instant::now();
        tell(host, "free");
        host.wait_for("obeyed");
        let served = client.join().expect("served, or refused for a reason");
        waits.then(|| served.saturating_duration_since(begun))
    })
}

/// What the kernel says the process has used.
pub fn processor_time(process: &Other) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id())).expect("it lives");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: u64 = [11, 12].iter().map(|&field: &usize| fields[field].parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10) // USER_HZ is 100
}

/// `ADDRESS FACE`: a host that is told how many descriptors it may open.
pub fn limited_host(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let _host = Host::start(address, face_of(face));
    say("listening");
    let mut limit = None;
    for order in orders() {
        drop(limit.take());
        if let Some(count) = order.strip_prefix("spare ") {
            limit = Some(Limit::spare(count.parse().expect("a number")));
        }
        say("obeyed");
    }
}

const SECOND: Duration = Duration::from_secs(1);
const EXHAUSTED: Duration = Duration::from_millis(200);
