//! Who is at the other end of a Unix socket, as the kernel recorded it when the connection was made.
//!
//! rustix has this call, but reads the process id into a type that cannot be zero, and zero is what the kernel reports for a
//! peer in a pid namespace that we cannot see (a container beside ours).
#![allow(unsafe_code, reason = "one getsockopt into a plain structure")]

use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::peer::Peer;

/// `None` if the socket is no connected Unix socket.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn peer(fd: BorrowedFd<'_>) -> Option<Peer> {
    let mut credentials = MaybeUninit::<libc::ucred>::uninit();
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, hence open; the kernel writes at most `len` bytes to the place that has as many.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, credentials.as_mut_ptr().cast(), &mut len)
    };
    if result != 0 || len as usize != size_of::<libc::ucred>() {
        return None;
    }
    // SAFETY: the kernel has just written all of it, and it is three integers, for which every bit pattern is valid.
    let credentials = unsafe { credentials.assume_init() };
    // A socket without a peer has the ids −1.
    (credentials.uid != u32::MAX).then_some(Peer::Process {
        pid: (credentials.pid > 0).then_some(credentials.pid),
        uid: credentials.uid,
        gid: credentials.gid,
    })
}

/// `None` if the socket is no connected Unix socket.
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
pub(super) fn peer(fd: BorrowedFd<'_>) -> Option<Peer> {
    let (mut uid, mut gid) = (MaybeUninit::<libc::uid_t>::uninit(), MaybeUninit::<libc::gid_t>::uninit());
    // SAFETY: the descriptor is borrowed, hence open; both places are of the types that the call writes.
    let result = unsafe { libc::getpeereid(fd.as_raw_fd(), uid.as_mut_ptr(), gid.as_mut_ptr()) };
    // SAFETY: both were written, as the result says, and every bit pattern is a valid integer.
    (result == 0).then(|| unsafe { Peer::Process { pid: None, uid: uid.assume_init(), gid: gid.assume_init() } })
}
