//! [`Traced`]: a process one thread of which runs instruction by instruction, under this one. What it is traced for, and when it dies, is
//! not decided here.
#![allow(unsafe_code, reason = "tracing a process has no safe face")]

use std::io;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::Other;

/// A victim one thread of which is traced by this one; killed with the value.
pub struct Traced {
    pub victim: Other,
    tid: libc::pid_t,
}

/// What came of running one instruction.
pub enum Step {
    Done,
    /// It is a call to the kernel, in which the thread sleeps.
    Asleep,
    EndOfCall,
}

impl Traced {
    pub fn new(victim: Other, tid: libc::pid_t) -> Self {
        seize(tid).expect("it could be traced before");
        Self { victim, tid }
    }

    pub fn wait_for_the_mark(&self) {
        let stopped = wait(self.tid, 0).expect("it lives");
        assert_eq!(stopped, libc::SIGSTOP, "stopped by another signal");
    }

    pub fn step(&self, may_sleep: bool) -> Step {
        // SAFETY: neither request touches memory of this process.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_SINGLESTEP, self.tid, 0, 0) }, 0, "{}", last_error());
        let begun = Instant::now();
        loop {
            match wait(self.tid, if may_sleep { libc::WNOHANG } else { 0 }) {
                Some(libc::SIGTRAP) => return Step::Done,
                Some(libc::SIGSTOP) => return Step::EndOfCall,
                Some(other) => panic!("stopped by signal {other}"),
                // Long enough for a lock, should another thread have it.
                None if may_sleep && begun.elapsed() > Duration::from_millis(3) && self.sleeps() => {
                    return Step::Asleep;
                }
                None => {
                    assert!(may_sleep, "it has ended by itself");
                    thread::yield_now();
                }
            }
        }
    }

    fn sleeps(&self) -> bool {
        let path = format!("/proc/{}/task/{}/stat", self.victim.child.id(), self.tid);
        let stat = std::fs::read_to_string(path).expect("it lives");
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
    }

    /// If the last instruction was a call to the kernel that sends: how many bytes it sent.
    pub fn sent(&self) -> Option<usize> {
        // SAFETY: plain numbers, for which zeros are values.
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills `registers`, which is what this request wants.
        let done = unsafe { libc::ptrace(libc::PTRACE_GETREGS, self.tid, 0, &raw mut registers) };
        assert_eq!(done, 0, "{}", last_error());
        let sends = [libc::SYS_write, libc::SYS_writev, libc::SYS_sendto, libc::SYS_sendmsg];
        sends.contains(&(registers.orig_rax as i64)).then_some(registers.rax as usize)
    }
}

impl Drop for Traced {
    /// A thread that was traced is remembered until its tracer has heard of its end, and its process with it.
    fn drop(&mut self) {
        let _ = self.victim.child.kill();
        if self.tid != self.victim.child.id() as libc::pid_t {
            while wait(self.tid, 0).is_some() {}
        }
    }
}

fn seize(pid: libc::pid_t) -> io::Result<()> {
    // SAFETY: this request touches no memory of this process.
    match unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, libc::PTRACE_O_EXITKILL) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// The signal that stopped a traced thread. `None` if it runs, with `WNOHANG`, or has ended.
fn wait(tid: libc::pid_t, flags: libc::c_int) -> Option<libc::c_int> {
    let mut status = 0;
    // SAFETY: the kernel fills `status`.
    let waited = unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL | flags) };
    (waited == tid && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
}

fn last_error() -> io::Error {
    io::Error::last_os_error()
}

/// Why nothing can be traced, if so.
pub fn untraceable() -> Option<&'static str> {
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep starts");
    let seized = seize(child.id() as libc::pid_t);
    child.kill().and_then(|()| child.wait()).expect("its end");
    seized.err().map(|_| "nothing may be traced")
}

/// Stops this thread for its tracer.
pub fn mark() {
    // SAFETY: no memory is touched.
    assert_eq!(unsafe { libc::raise(libc::SIGSTOP) }, 0);
}
