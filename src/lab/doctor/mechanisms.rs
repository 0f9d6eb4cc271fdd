//! Every mechanism that the transports need: what it is for, what to do where it does not work.
//!
//! They are tried out in `attempts`.

use anyhow::{Result, anyhow};
use rustix::process::{Resource, getrlimit};

use super::attempts::{call, credentials, event, futex, pidfd, rights, sealed_memfd, seals_hold};
use super::{Finding, Level};
use crate::lab::cli::explain;
use crate::lab::matrix::Transport;
use crate::{RingCapacity, TransportKind};

struct Mechanism {
    name: &'static str,
    /// Who needs it.
    needed: &'static str,
    /// What it says about a failure: a transport without it does not work, or works less well.
    failed: Level,
    /// Whether it makes a segment, which is a file with a size.
    segments: bool,
    advice: &'static str,
    /// What was seen.
    attempt: fn() -> Result<String>,
}

const MECHANISMS: [Mechanism; 11] = [
    Mechanism {
        name: "sealed memfd",
        needed: "shm://",
        failed: Level::Problem,
        segments: true,
        advice: "Linux 5.1 or newer; where a sandbox forbids memfd_create or F_ADD_SEALS, allow them or use unix://",
        attempt: sealed_memfd,
    },
    Mechanism {
        name: "seals hold",
        needed: "shm://, whose peers need not trust each other",
        failed: Level::Problem,
        segments: true,
        advice: "do not use shm:// with peers that you do not trust: this kernel or sandbox does not keep seals",
        attempt: seals_hold,
    },
    Mechanism {
        name: "futex",
        needed: "events of shm-named://, every lock",
        failed: Level::Problem,
        segments: true,
        advice: "a sandbox that forbids futexes in shared memory: allow them",
        attempt: futex,
    },
    Mechanism {
        name: "eventfd",
        needed: "hosts on tokio",
        failed: Level::Problem,
        segments: false,
        advice: "a sandbox that forbids eventfd2: allow it",
        attempt: event,
    },
    Mechanism {
        name: "SCM_RIGHTS",
        needed: "shm://, to hand over its segments",
        failed: Level::Problem,
        segments: true,
        advice: "a sandbox that forbids passing descriptors over Unix sockets: allow it or use unix://",
        attempt: rights,
    },
    Mechanism {
        name: "peer credentials",
        needed: "hosts, to admit their own user only",
        failed: Level::Problem,
        segments: false,
        advice: "a sandbox that answers SO_PEERCRED for the kernel: hosts there have to admit anybody (PeerPolicy::Any)",
        attempt: credentials,
    },
    Mechanism {
        name: "pidfd",
        needed: "nobody to work; it tells of the death of a process whose socket another one holds open",
        failed: Level::Note,
        segments: false,
        advice: "Linux 5.3 or newer; without it the end of the socket is the only witness",
        attempt: pidfd,
    },
    Mechanism {
        name: "unix://",
        needed: "production",
        failed: Level::Problem,
        segments: false,
        advice: "is there a temporary directory in which sockets can be made (TMPDIR)?",
        attempt: || call(Transport::Uds, TransportKind::Unix),
    },
    Mechanism {
        name: "shm://",
        needed: "experiments",
        failed: Level::Problem,
        segments: true,
        advice: "see the mechanisms above; prefer-shm falls back to the plain socket only where the host says no",
        attempt: || call(Transport::Shm, TransportKind::Shm),
    },
    Mechanism {
        name: "shm-named://",
        needed: "peers that trust each other",
        failed: Level::Problem,
        segments: true,
        advice: "is /dev/shm there, writable and large enough? shm:// does not need it",
        attempt: || call(Transport::ShmNamed, TransportKind::ShmNamed),
    },
    Mechanism {
        name: "tcp://",
        needed: "hosts elsewhere",
        failed: Level::Problem,
        segments: false,
        advice: "is the loopback interface up (ip link set lo up)?",
        attempt: || call(Transport::Tcp, TransportKind::Tcp),
    },
];

pub(super) fn try_out() -> Vec<Finding> {
    let limit = getrlimit(Resource::Fsize).current;
    MECHANISMS.iter().map(|mechanism| mechanism.judge(limit)).collect()
}

impl Mechanism {
    /// Tries it out, unless the kernel would end us for a file beyond `file_size` bytes.
    fn judge(&self, file_size: Option<u64>) -> Finding {
        let outcome = match file_size {
            Some(limit) if self.segments && limit < SEGMENT => Err(anyhow!(
                "not tried: a segment is larger than the {limit} bytes that a file may have here (ulimit -f)"
            )),
            _ => (self.attempt)(),
        };
        match outcome {
            Ok(seen) => Finding::ok(self.name, seen),
            Err(error) => Finding {
                level: self.failed,
                what: self.name,
                seen: format!("{}; needed by {}", explain(&error), self.needed),
                advice: Some(self.advice.to_owned()),
            },
        }
    }
}

/// A ring and its header, as the transports make them if nobody says otherwise.
const SEGMENT: u64 = RingCapacity::DEFAULT.bytes() as u64 + (4 << 10);

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use rustix::io::Errno;

    use super::*;

    fn mechanism(attempt: fn() -> Result<String>) -> Mechanism {
        let (needed, failed, segments) = ("x://", Level::Problem, true);
        Mechanism { name: "x", needed, failed, segments, advice: "get one", attempt }
    }

    #[test]
    fn a_failure_is_told_with_its_causes_and_who_needs_it() {
        let fails = mechanism(|| Err(Errno::NOSYS).context("x_create"));
        let finding = fails.judge(None);
        assert_eq!((finding.level, finding.advice.as_deref()), (Level::Problem, Some("get one")));
        assert!(finding.seen.starts_with("x_create: ") && finding.seen.ends_with("; needed by x://"), "{finding:?}");
        assert_eq!(Mechanism { failed: Level::Note, ..fails }.judge(None).level, Level::Note);
    }

    #[test]
    fn no_segment_is_made_beyond_the_size_that_a_file_may_have() {
        let tried = mechanism(|| Ok("fine".to_owned()));
        assert_eq!(tried.judge(Some(SEGMENT)), Finding::ok("x", "fine"));
        let finding = tried.judge(Some(SEGMENT - 1));
        assert!(finding.level == Level::Problem && finding.seen.starts_with("not tried: "), "{finding:?}");
        assert_eq!(Mechanism { segments: false, ..tried }.judge(Some(0)).level, Level::Ok);
    }

    #[test]
    fn names_are_different() {
        let names: std::collections::BTreeSet<_> = MECHANISMS.iter().map(|mechanism| mechanism.name).collect();
        assert_eq!(names.len(), MECHANISMS.len());
    }
}
