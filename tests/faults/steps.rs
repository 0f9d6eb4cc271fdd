//! A peer that is killed right before its N-th call of a named kind to the kernel, by strace: at each step of connecting,
//! accepting and the upgrade, when it rings, when it is about to sleep. Between two such steps lies after the one and before the
//! other. What has no system call (in the middle of a copy, copied but not published) is for `instructions`.
//!
//! Measured: from that call, as strace has it, to the survivor's error; what strace itself takes is a part of it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use genvm_transport::{ListenOptions, WaitStrategy, listen};

use crate::body::{Face, Pattern};
use crate::harness::{alone, count, skipped};
use crate::killed::{MAX, P99, is_nobody_there};
use crate::support::{Other, directory, other_process, say};
use crate::traffic::{
    Host, Kind, connected, face_of, hello, is_an_end, name_of, options, orders, tell, visit, visitor,
};
use crate::{FACES, SCHEMES};

/// What, and the how manieth in its thread.
type Call = (&'static str, u32);

/// Those of a client.
fn of_a_client(scheme: &str, face: Face) -> &'static [Call] {
    match (scheme, face) {
        ("unix", Face::Blocking) => &[
            ("socket", 1),
            ("connect", 1),
            ("getsockopt", 1),
            ("sendto", 1),
            ("sendto", 2),
            ("sendto", 9),
            ("recvfrom", 1),
            ("recvfrom", 9),
        ],
        ("unix", Face::Async) => &[
            ("socket", 1),
            ("connect", 1),
            ("getsockopt", 1),
            ("epoll_ctl", 3),
            ("sendto", 1),
            ("sendto", 9),
            ("recvfrom", 1),
            ("recvfrom", 9),
            ("epoll_wait", 9),
            ("futex", 9),
        ],
        (_, Face::Blocking) => &[
            ("socket", 1),
            ("connect", 1),
            ("getsockopt", 1),
            ("getrandom", 1),
            ("memfd_create", 1),
            ("ftruncate", 1),
            ("mmap", 1),
            ("fcntl", 1),
            ("sendmsg", 1),
            ("recvmsg", 1),
            ("fstat", 1),
            ("mmap", 2),
            ("pidfd_open", 1),
            ("setsockopt", 4),
            ("sendto", 1),
            ("sendto", 9),
            ("recvfrom", 1),
            ("recvfrom", 9),
        ],
        (_, Face::Async) => &[
            ("socket", 1),
            ("connect", 1),
            ("getsockopt", 1),
            ("memfd_create", 1),
            ("ftruncate", 1),
            ("sendmsg", 1),
            ("recvmsg", 1),
            ("fstat", 1),
            ("pidfd_open", 1),
            ("epoll_ctl", 3),
            ("epoll_ctl", 4),
            ("sendto", 1),
            ("sendto", 9),
            ("recvfrom", 1),
            ("recvfrom", 9),
            ("ppoll", 1),
            ("epoll_wait", 9),
            ("futex", 9),
        ],
    }
}

/// Those of a host.
fn of_a_host(scheme: &str, face: Face) -> &'static [Call] {
    match (scheme, face) {
        ("unix", Face::Blocking) => &[
            ("accept4", 1),
            ("accept4", 2),
            ("getsockopt", 1),
            ("recvfrom", 1),
            ("recvfrom", 2),
            ("recvfrom", 9),
            ("sendto", 1),
            ("sendto", 9),
        ],
        ("unix", Face::Async) => &[
            ("accept4", 1),
            ("accept4", 2),
            ("getsockopt", 1),
            ("recvfrom", 1),
            ("recvfrom", 9),
            ("sendto", 1),
            ("sendto", 9),
            ("epoll_wait", 9),
            ("futex", 9),
        ],
        (_, Face::Blocking) => &[
            ("accept4", 1),
            ("accept4", 2),
            ("getsockopt", 1),
            ("recvfrom", 1),
            ("recvmsg", 1),
            ("memfd_create", 1),
            ("ftruncate", 1),
            ("fcntl", 1),
            ("fstat", 1),
            ("pidfd_open", 1),
            ("setsockopt", 1),
            ("sendmsg", 1),
            ("sendto", 1),
            ("sendto", 9),
            ("recvfrom", 2),
            ("recvfrom", 9),
        ],
        (_, Face::Async) => &[
            ("accept4", 1),
            ("accept4", 2),
            ("getsockopt", 1),
            ("recvfrom", 1),
            ("recvmsg", 1),
            ("memfd_create", 1),
            ("ftruncate", 1),
            ("fstat", 1),
            ("pidfd_open", 1),
            ("sendmsg", 1),
            ("sendto", 1),
            ("sendto", 9),
            ("recvfrom", 9),
            ("ppoll", 1),
            ("epoll_wait", 9),
            ("futex", 9),
        ],
    }
}

/// strace, attached to a process.
struct Tracer {
    strace: Child,
    listener: Option<thread::JoinHandle<()>>,
    log: PathBuf,
    call: &'static str,
}

impl Tracer {
    fn attach(victim: &Other, (call, number): Call, directory: &Path) -> Self {
        let log = directory.join("strace");
        let mut strace = Command::new("strace")
            .args(["-f", "-ttt", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:signal=KILL:when={number}")])
            .args(["-p", &victim.child.id().to_string(), "-o"])
            .arg(&log)
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace starts");
        let mut lines = BufReader::new(strace.stderr.take().expect("piped")).lines();
        let attached = lines.any(|line| line.is_ok_and(|line| line.contains("attached")));
        assert!(attached, "strace ended before it was attached");
        // Whatever else it says, it must be able to.
        let listener = Some(thread::spawn(move || lines.for_each(drop)));
        Self { strace, listener, log, call }
    }

    /// When `victim` made the call that it did not survive, as the log says in its second column.
    fn killed_at(mut self, victim: &mut Other) -> SystemTime {
        assert_eq!(victim.child.wait().expect("its end").signal(), Some(libc::SIGKILL));
        self.strace.wait().expect("it ends with its victim");
        let log = std::fs::read_to_string(&self.log).expect("its log");
        let call = format!(" {}(", self.call);
        let line = log.lines().rfind(|line| line.contains(&call)).unwrap_or_else(|| panic!("never called: {log}"));
        let seconds = line.split_whitespace().nth(1).and_then(|seconds| seconds.parse().ok()).expect("a time");
        std::fs::remove_file(&self.log).expect("ours");
        SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.strace.kill();
        let _ = self.strace.wait();
        let _ = self.listener.take().map(thread::JoinHandle::join);
    }
}

/// From `killed` to `at`.
fn between(killed: SystemTime, at: Instant) -> Duration {
    let at = SystemTime::now() - at.elapsed();
    at.duration_since(killed).unwrap_or_default()
}

/// Why there can be no tracer, if so.
fn untraceable() -> Option<&'static str> {
    let inject = ["-o", "/dev/null", "-e", "inject=exit_group:signal=KILL", "true"];
    let killed = Command::new("strace").args(inject).output().map(|output| output.status.signal());
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let may_attach = matches!(scope.trim(), "" | "0") || rustix::process::geteuid().is_root();
    match killed {
        Err(_) => Some("there is no strace"),
        Ok(Some(libc::SIGKILL)) if may_attach => None,
        Ok(_) => Some("strace may not trace"),
    }
}

#[test]
fn clients_killed_at_every_step() {
    let alone = alone();
    for (scheme, face) in SCHEMES.into_iter().flat_map(|scheme| FACES.map(|face| (scheme, face))) {
        let kind = format!("{scheme},client,{}", name_of(face));
        if let Some(why) = untraceable() {
            skipped("step", &kind, why);
            continue;
        }
        for &step in of_a_client(scheme, face) {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let ledger = directory.path().join("ledger");
            let setup = || {
                let options = ListenOptions::default().with_wait(WaitStrategy::Park);
                Host::on(listen(&address, &options).expect("listen"), face)
            };
            let on = format!("{kind},{}#{}", step.0, step.1);
            alone.fault("step", on).allowing(P99, MAX).run(count(1, 1000), setup, |host, random| {
                let seed = random.next();
                let role = format!("step {address} {} c {seed} 0 {}", name_of(face), ledger.display());
                let mut victim = other_process("victim", &role);
                victim.wait_for("traced");
                let tracer = Tracer::attach(&victim, step, directory.path());
                tell(&mut victim, "go");
                let killed = tracer.killed_at(&mut victim);
                let ended = host.settle(face);
                assert!(ended.len() <= 1, "{ended:?}");
                let ended = ended.first()?;
                let aborted = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionAborted;
                assert!(
                    !ended.panicked && (is_an_end(&ended.end) || ended.end.as_ref().is_err_and(aborted)),
                    "{ended:?}"
                );
                Some(between(killed, ended.at))
            });
        }
    }
}

#[test]
fn hosts_killed_at_every_step() {
    let alone = alone();
    for (scheme, face) in SCHEMES.into_iter().flat_map(|scheme| FACES.map(|face| (scheme, face))) {
        let kind = format!("{scheme},host,{}", name_of(face));
        if let Some(why) = untraceable() {
            skipped("step", &kind, why);
            continue;
        }
        for &step in of_a_host(scheme, face) {
            let directory = directory();
            let address = format!("{scheme}://{}/s", directory.path().display());
            let on = format!("{kind},{}#{}", step.0, step.1);
            alone.fault("step", on).allowing(P99, MAX).run(
                count(1, 1000),
                || (),
                |(), random| {
                    let mut victim = other_process("victim", &format!("step-host {address} {}", name_of(face)));
                    victim.wait_for("traced");
                    let tracer = Tracer::attach(&victim, step, directory.path());
                    tell(&mut victim, "go");
                    let ended = survive(&address, face, Pattern(random.next()));
                    Some(between(tracer.killed_at(&mut victim), ended))
                },
            );
        }
    }
}

/// Connects and calls; both until the host is dead.
fn survive(address: &str, face: Face, pattern: Pattern) -> Instant {
    let mut end = match connected(face, address, &options(Some(WaitStrategy::Park))) {
        Ok(end) => end,
        Err(error) => {
            let at = Instant::now();
            assert!(is_nobody_there(&error), "{error:?}");
            return at;
        }
    };
    let ended = hello(&mut end, Kind::Call, pattern).and_then(|()| visit(&mut end, Kind::Call, pattern, &mut 0, None));
    let at = Instant::now();
    assert!(is_an_end(&ended), "{ended:?}");
    at
}

fn wait_for_the_tracer() {
    say("traced");
    orders().next().expect("go");
}

/// The words of a visitor.
pub fn client(with: &str) {
    wait_for_the_tracer();
    visitor(with, |_| {});
}

/// `ADDRESS FACE`
pub fn host(with: &str) {
    let (address, face) = with.split_once(' ').expect("an address and a face");
    let options = ListenOptions::default().with_wait(WaitStrategy::Park);
    let listener = listen(address, &options).expect("listen");
    wait_for_the_tracer();
    Host::on(listener, face_of(face)).serve_for_ever();
}
