//! [`SocketFile`]: the name of a Unix socket in the file system, from binding to removing.
//!
//! A stale file (nobody listens) is replaced, a live listener is never stolen, and of two hosts that start at once exactly one
//! wins. Everything that looks and then acts happens under an exclusive `flock` on the socket's *directory*: unlike a lock file
//! it leaves nothing behind and cannot be removed under somebody's feet.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::connect::{stream_socket, unix_name};
use crate::address::Address;
use crate::error::ListenError;
use crate::options::ListenOptions;

/// A socket file that we bound. Removed when dropped, if it still is the one that we bound.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Binds and listens. The file appears under its name only when the socket listens and has its permissions.
    pub(super) fn bind(
        address: &Address,
        path: &Path,
        options: &ListenOptions,
    ) -> Result<(OwnedFd, Self), ListenError> {
        let failed = |what| move |source| ListenError::Io { address: address.clone(), what, source };
        let name = unix_name(path).map_err(failed("the path"))?;
        let directory = directory_of(path);
        match DirBuilder::new().mode(options.directory_mode).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("creating the socket's directory")(error));
            }
            _ => {}
        }
        let _lock = lock(directory).map_err(failed("locking the socket's directory"))?;
        if !is_free(path, &name).map_err(failed("looking at what is there"))? {
            return Err(match fs::symlink_metadata(path) {
                Ok(found) if !found.file_type().is_socket() => ListenError::NotASocket { path: path.to_owned() },
                _ => ListenError::InUse { address: address.clone() },
            });
        }
        let fd = stream_socket().map_err(failed("making a socket"))?;
        let temporary = temporary_name(directory).map_err(failed("choosing a name"))?;
        // The longest paths have no room for another name: those are bound in place, a moment before they listen.
        let bound = if unix_name(&temporary).is_ok() { &temporary } else { path };
        let remove = RemoveOnFailure(bound);
        if bound == path {
            let _ = fs::remove_file(path);
        }
        rustix::net::bind(&fd, &unix_name(bound).map_err(failed("the path"))?).map_err(|e| failed("bind")(e.into()))?;
        fs::set_permissions(bound, Permissions::from_mode(options.socket_mode)).map_err(failed("chmod"))?;
        rustix::net::listen(&fd, BACKLOG).map_err(|e| failed("listen")(e.into()))?;
        let found = fs::symlink_metadata(bound).map_err(failed("stat"))?;
        fs::rename(bound, path).map_err(failed("rename"))?;
        std::mem::forget(remove);
        Ok((fd, Self { path: path.to_owned(), device: found.dev(), inode: found.ino() }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Under the lock, lest a successor renames its own file to this path between the look and the removal.
        let _lock = lock(directory_of(&self.path));
        let ours = |found: fs::Metadata| found.dev() == self.device && found.ino() == self.inode;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a listener may take `path`: nothing is there, or a socket that nobody listens on.
fn is_free(path: &Path, name: &rustix::net::SocketAddrUnix) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => return Ok(false),
        Ok(_) => {}
    }
    let probe = stream_socket()?;
    rustix::io::ioctl_fionbio(&probe, true)?; // a full queue means that somebody listens
    match rustix::net::connect(&probe, name) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(true),
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// An exclusive lock on a directory, held until dropped.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    let started = Instant::now();
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            // Held for the blink of an eye by others of our kind; somebody else may hold it for ever.
            Err(Errno::AGAIN | Errno::INTR) if started.elapsed() < LOCK_PATIENCE => {
                thread::sleep(Duration::from_millis(1))
            }
            Err(Errno::AGAIN) => {
                let text = format!("another process has held the lock for {LOCK_PATIENCE:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn temporary_name(directory: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    Ok(directory.join(format!(".{:08x}", u32::from_le_bytes(random))))
}

struct RemoveOnFailure<'a>(&'a Path);

impl Drop for RemoveOnFailure<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

/// The kernel cuts it to its own limit (4096 on Linux).
const BACKLOG: i32 = 4096;
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
