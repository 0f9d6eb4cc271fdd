//! Connecting to a Unix socket within a time, from a thread and from a task.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{inline_urgent, peer_of};
use crate::address::Address;
use crate::error::ConnectError;
use crate::options::ConnectOptions;
use crate::peer::Peer;
use std::os::fd::AsFd;

/// Connects, blocking until `options.timeout` after `started`; the descriptor is in blocking mode.
pub(crate) fn connect_unix(
    address: &Address,
    path: &Path,
    options: &ConnectOptions,
    started: Instant,
) -> Result<(OwnedFd, Peer), ConnectError> {
    let error = |source| ConnectError::Io { address: address.clone(), source };
    let timed_out = || ConnectError::TimedOut { address: address.clone(), after: options.timeout };
    let fd = stream_socket().map_err(error)?;
    let name = unix_name(path).map_err(error)?;
    loop {
        // A listener whose queue is full makes connect wait, up to the send timeout.
        let left =
            options.timeout.checked_sub(started.elapsed()).filter(|left| *left >= SHORTEST).ok_or_else(timed_out)?;
        set_socket_timeout(&fd, Timeout::Send, Some(left)).map_err(|e| error(e.into()))?;
        match rustix::net::connect(&fd, &name) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::TIMEDOUT) => return Err(timed_out()),
            Err(source) => return Err(error(source.into())),
        }
    }
    set_socket_timeout(&fd, Timeout::Send, None).map_err(|e| error(e.into()))?;
    admitted(fd, address, options)
}

/// Connects from a task, until `options.timeout` after `started`. Dropping the future abandons the attempt.
pub(crate) async fn connect_unix_async(
    address: &Address,
    path: &Path,
    options: &ConnectOptions,
    started: Instant,
) -> Result<(OwnedFd, Peer), ConnectError> {
    let error = |source| ConnectError::Io { address: address.clone(), source };
    let fd = stream_socket().map_err(error)?;
    let name = unix_name(path).map_err(error)?;
    rustix::io::ioctl_fionbio(&fd, true).map_err(|e| error(e.into()))?;
    let left = options.timeout.saturating_sub(started.elapsed());
    let connected = tokio::time::timeout(left, async {
        loop {
            match rustix::net::connect(&fd, &name) {
                Ok(()) => return Ok(()),
                // The queue is full. Nothing says when there is room.
                Err(Errno::AGAIN | Errno::INTR) => tokio::time::sleep(Duration::from_millis(1)).await,
                Err(source) => return Err(error(source.into())),
            }
        }
    });
    match connected.await {
        Ok(done) => done?,
        Err(_) => return Err(ConnectError::TimedOut { address: address.clone(), after: options.timeout }),
    }
    rustix::io::ioctl_fionbio(&fd, false).map_err(|e| error(e.into()))?;
    admitted(fd, address, options)
}

/// Checks who is at the other end.
pub(crate) fn admitted(
    fd: OwnedFd,
    address: &Address,
    options: &ConnectOptions,
) -> Result<(OwnedFd, Peer), ConnectError> {
    let peer = peer_of(fd.as_fd());
    if options.allowed_peers.allows(&peer) {
        Ok((fd, peer))
    } else {
        Err(ConnectError::PeerNotAllowed { address: address.clone(), peer })
    }
}

/// A fresh Unix stream socket, not inherited by children, without urgent bytes.
pub(super) fn stream_socket() -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let fd = {
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)?;
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
        fd
    };
    inline_urgent(&fd)?;
    Ok(fd)
}

/// `path` as a socket's name, with an error that says what is wrong with a long one.
pub(super) fn unix_name(path: &Path) -> io::Result<SocketAddrUnix> {
    // rustix would use the last byte, too, which std, and so almost every client, keeps for a NUL: nobody could connect.
    let usual = std::os::unix::net::SocketAddr::from_pathname(path);
    usual.and_then(|_| Ok(SocketAddrUnix::new(path)?)).map_err(|_| {
        let text = format!("{} bytes are too long for a socket's path (107 at most)", path.as_os_str().len());
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// The kernel's socket timeouts count microseconds, and zero means for ever.
const SHORTEST: Duration = Duration::from_micros(1);
