//! Accepting, for both faces, from several threads and tasks at once: [`Acceptor`], and [`UnixSocketListener`], which has a
//! socket file.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

use super::file::SocketFile;
use super::{inline_urgent, peer_of, poll};
use crate::address::Address;
use crate::error::{AcceptError, ListenError};
use crate::options::{ListenOptions, PeerPolicy};
use crate::peer::Peer;

/// A listening socket, Unix or TCP, in non-blocking mode.
#[derive(Debug)]
pub(crate) struct Acceptor {
    fd: OwnedFd,
    address: Address,
    allowed: PeerPolicy,
    closed: AtomicBool,
}

impl Acceptor {
    /// `fd` listens already.
    pub(crate) fn new(fd: OwnedFd, address: Address, allowed: PeerPolicy) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self { fd, address, allowed, closed: AtomicBool::new(false) })
    }

    /// The next connection, in blocking mode, and who it is: somebody who is allowed.
    pub(crate) fn accept(&self) -> Result<(OwnedFd, Peer), AcceptError> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_accept()? {
                Accepted::Connection(fd, peer) => return Ok((fd, peer)),
                Accepted::NotNow => poll(&self.fd, PollFlags::IN, None)?,
                Accepted::Exhausted => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// The same for a task. Dropping the future loses no connection.
    pub(crate) async fn accept_async(&self) -> Result<(OwnedFd, Peer), AcceptError> {
        let mut pause = FIRST_PAUSE;
        let mut readiness = None;
        loop {
            match self.try_accept()? {
                Accepted::Connection(fd, peer) => return Ok((fd, peer)),
                Accepted::NotNow => match &mut readiness {
                    None => match self.fd.try_clone().and_then(Readiness::new) {
                        Ok(new) => readiness = Some(new),
                        Err(error) if is_exhaustion(&error) => tokio::time::sleep(pause).await,
                        Err(error) => return Err(error.into()),
                    },
                    Some(readiness) => readiness.wait().await?,
                },
                Accepted::Exhausted => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Wakes everybody who waits in `accept`, for good.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // On a listening socket this makes `poll` and `accept` return, and new connections be refused.
        let _ = rustix::net::shutdown(&self.fd, Shutdown::Both);
    }

    fn try_accept(&self) -> Result<Accepted, AcceptError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(AcceptError::Closed);
        }
        let fd = match accept_cloexec(&self.fd) {
            Ok(fd) => fd,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(Accepted::NotNow),
            Err(_) if self.closed.load(Ordering::SeqCst) => return Err(AcceptError::Closed),
            Err(error) if is_exhaustion(&error.into()) => return Ok(Accepted::Exhausted),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let peer = peer_of(fd.as_fd());
        if !self.allowed.allows(&peer) {
            return Err(AcceptError::PeerNotAllowed(peer));
        }
        // Not inherited from the listener. What was sent before becomes an ordinary byte, too: the kernel decides when it is read.
        inline_urgent(&fd).map_err(|error| AcceptError::Connection(error.into()))?;
        Ok(Accepted::Connection(fd, peer))
    }
}

enum Accepted {
    Connection(OwnedFd, Peer),
    NotNow,
    /// Out of descriptors or memory. The connection stays in the queue.
    Exhausted,
}

/// A second descriptor of the listening socket, registered with the runtime that happens to run now. One an accept: a
/// listener outlives runtimes, and two tasks may accept at once.
struct Readiness(tokio::net::UnixStream);

impl Readiness {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        // tokio offers plain readiness without `unsafe` for connected sockets only; nothing but the registration is used.
        tokio::net::UnixStream::from_std(fd.into()).map(Self)
    }

    async fn wait(&self) -> io::Result<()> {
        self.0.readable().await?;
        // Forget it, so that the next wait waits: the accept in between has taken what there was.
        let _ =
            self.0.try_io(tokio::io::Interest::READABLE, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
        Ok(())
    }
}

/// A Unix-socket listener with its file, which goes when it goes.
#[derive(Debug)]
pub(crate) struct UnixSocketListener {
    /// Before `acceptor`, and so removed while the socket still listens: nobody finds the file of a listener that is gone, and no
    /// successor may take it for stale.
    _file: SocketFile,
    acceptor: Acceptor,
}

impl UnixSocketListener {
    pub(crate) fn bind(address: &Address, path: &Path, options: &ListenOptions) -> Result<Self, ListenError> {
        let (fd, file) = SocketFile::bind(address, path, options)?;
        let acceptor = Acceptor::new(fd, address.clone(), options.allowed_peers.clone());
        let acceptor = acceptor.map_err(|source| ListenError::Io {
            address: address.clone(),
            what: "setting the socket up",
            source,
        })?;
        Ok(Self { acceptor, _file: file })
    }
}

impl std::ops::Deref for UnixSocketListener {
    type Target = Acceptor;

    fn deref(&self) -> &Acceptor {
        &self.acceptor
    }
}

fn accept_cloexec(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    return rustix::net::accept_with(fd, SocketFlags::CLOEXEC);
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        let fd = rustix::net::accept(fd)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&fd, false)?; // inherited from the listener there
        Ok(fd)
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| codes.contains(&error))
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LAST_PAUSE: Duration = Duration::from_millis(200);
