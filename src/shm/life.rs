//! [`Life`]: the peer's process, watched through a pidfd.
//!
//! The end of the socket says that the peer is gone, except where a child that it forked holds a copy of the descriptor. The
//! process watched is the one that the kernel recorded when the connection was made: the one that connected, or that began to
//! listen. Without a pidfd (before Linux 5.3, no Linux, a peer in another pid namespace) the socket remains the only witness.
#![allow(unsafe_code, reason = "tokio wants to be told that a descriptor stays open and the same")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::peer::Peer;

/// A process that lives until it does not. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Life(Option<Arc<OwnedFd>>);

impl Life {
    /// Of nobody that is known: it is never over.
    pub(crate) const UNKNOWN: Self = Self(None);

    /// Fails when it is over and its parent knows, or when there are no descriptors left; not when there is no pidfd to be had.
    pub(crate) fn of(peer: &Peer) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Peer::Process { pid: Some(pid), .. } = peer
            && let Some(pid) = rustix::process::Pid::from_raw(*pid)
        {
            use rustix::io::Errno;
            return match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
                Ok(pidfd) => Ok(Self(Some(Arc::new(pidfd)))),
                Err(Errno::SRCH) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it has ended")),
                Err(error @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => Err(error.into()),
                Err(_) => Ok(Self::UNKNOWN),
            };
        }
        let _ = peer;
        Ok(Self::UNKNOWN)
    }

    /// Readable once it is over.
    pub(crate) fn pidfd(&self) -> Option<&Arc<OwnedFd>> {
        self.0.as_ref()
    }

    /// Its end, for tasks of the tokio runtime on which this is called.
    pub(crate) fn watched(&self) -> io::Result<Option<AsyncFd<Arc<OwnedFd>>>> {
        let Some(pidfd) = self.0.clone() else { return Ok(None) };
        // SAFETY: an `OwnedFd` is open, and the same, as long as it lives; the `AsyncFd` keeps it alive.
        let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        Ok(Some(watched?))
    }

    /// Asks the kernel.
    pub(crate) fn is_over(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.0.as_ref().is_some_and(|pidfd| {
            rustix::event::poll(&mut [PollFd::new(&pidfd.as_fd(), PollFlags::IN)], Some(&now)).is_ok_and(|n| n > 0)
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn who_has_ended_is_not_unknown() {
        let peer = |pid: u32| Peer::Process { pid: Some(pid as i32), uid: 0, gid: 0 };
        assert!(!Life::of(&peer(std::process::id())).unwrap().is_over());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let watched = Life::of(&peer(child.id())).unwrap();
        child.wait().unwrap();
        assert!(watched.is_over());
        assert_eq!(Life::of(&peer(child.id())).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(!Life::of(&Peer::Unknown).unwrap().is_over());
    }
}
