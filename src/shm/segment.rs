//! Making a segment and checking the peer's: [`Segment`] is what one end offers to the other.
//!
//! Sealed (Linux): a memfd without a name, sealed so that nobody, its owner included, can resize it or map it writable once
//! more; the peer gets it over the socket, checks the seals and the size, and maps it read-only. After that a hostile peer
//! can neither end us with SIGBUS nor touch what we wrote, and nothing is left behind by SIGKILL.
//!
//! Named: the portable experiment on the `shared_memory` crate. Both ends map both segments writable, and a name outlives an
//! owner that was killed between creating it and the peer's opening it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::layout::segment_len;
use super::mapping::Mapping;
use crate::error::UpgradeError;
use crate::options::RingCapacity;

/// How segments are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    Sealed,
    Named,
}

/// Our segment, before the peer has it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) memory: Arc<Mapping>,
    pub(crate) handle: Handle,
}

/// How the peer gets at a segment.
#[derive(Debug)]
pub(crate) enum Handle {
    /// This descriptor goes over the socket.
    Descriptor(OwnedFd),
    /// This name goes into the greeting; the segment is unlinked when the value is dropped.
    #[cfg(feature = "shm-named")]
    Name(Name),
}

impl Handle {
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Descriptor(fd) => Some(fd.as_fd()),
            #[cfg(feature = "shm-named")]
            Self::Name(_) => None,
        }
    }
}

impl Segment {
    pub(crate) fn create(kind: SegmentKind, capacity: RingCapacity) -> Result<Self, UpgradeError> {
        // Lengthening a file beyond this limit does not just fail: the kernel sends SIGXFSZ, which ends a process.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < segment_len(capacity) as u64) {
            let source = rustix::io::Errno::FBIG.into();
            return Err(UpgradeError::Io { what: "this process may not make files so long (RLIMIT_FSIZE)", source });
        }
        match kind {
            SegmentKind::Sealed => sealed::create(capacity).map_err(|source| UpgradeError::Io {
                what: "cannot create a sealed memfd (Linux 5.1 or newer)",
                source,
            }),
            #[cfg(feature = "shm-named")]
            SegmentKind::Named => named::create(capacity)
                .map_err(|source| UpgradeError::Io { what: "cannot create a named segment", source }),
            #[cfg(not(feature = "shm-named"))]
            SegmentKind::Named => Err(UpgradeError::Refused("named segments need the feature `shm-named`")),
        }
    }
}

/// Maps what the peer sent as its sealed segment, read-only, after checking that it is one.
pub(crate) fn open_sealed(fd: OwnedFd, capacity: RingCapacity) -> Result<Mapping, UpgradeError> {
    sealed::open(fd, capacity)
}

/// Random bytes from the kernel.
pub(crate) fn fill_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty()) {
            Ok(n) => bytes = &mut bytes[n..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod sealed {
    use rustix::fs::{MemfdFlags, SealFlags};

    use super::*;

    /// Nobody resizes it, nobody maps it writable any more, nobody takes these seals off.
    const SEALS: SealFlags =
        SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::FUTURE_WRITE).union(SealFlags::SEAL);

    pub(super) fn create(capacity: RingCapacity) -> io::Result<Segment> {
        let len = segment_len(capacity);
        let fd = rustix::fs::memfd_create("genvm-transport", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&fd, len as u64)?;
        let memory = Arc::new(Mapping::new(fd.as_fd(), len, true)?);
        // Only now: FUTURE_WRITE leaves the mapping that exists writable.
        rustix::fs::fcntl_add_seals(&fd, SEALS)?;
        Ok(Segment { memory, handle: Handle::Descriptor(fd) })
    }

    pub(super) fn open(fd: OwnedFd, capacity: RingCapacity) -> Result<Mapping, UpgradeError> {
        let unsound = |what: String| UpgradeError::Segment(what);
        let seals = rustix::fs::fcntl_get_seals(&fd)
            .map_err(|error| unsound(format!("the descriptor is no memory file that can be sealed ({error})")))?;
        if !seals.contains(SEALS) {
            return Err(unsound(format!("sealed with {seals:?}, expected at least {SEALS:?}")));
        }
        // The size cannot change any more: what is checked now stays true.
        let stat = rustix::fs::fstat(&fd).map_err(|error| unsound(format!("fstat: {error}")))?;
        let expected = segment_len(capacity);
        if stat.st_size as u64 != expected as u64 {
            return Err(unsound(format!("{} bytes, expected {expected}", stat.st_size)));
        }
        Mapping::new(fd.as_fd(), expected, false)
            .map_err(|source| UpgradeError::Io { what: "cannot map the peer's segment", source })
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod sealed {
    use super::*;

    pub(super) fn create(_: RingCapacity) -> io::Result<Segment> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "sealed memfds exist on Linux only; use shm-named://"))
    }

    pub(super) fn open(_: OwnedFd, _: RingCapacity) -> Result<Mapping, UpgradeError> {
        Err(UpgradeError::Refused("sealed memfds exist on Linux only"))
    }
}

#[cfg(feature = "shm-named")]
pub(crate) use named::{Name, open as open_named};

#[cfg(feature = "shm-named")]
mod named {
    use rustix::fs::Mode;
    use rustix::shm;
    use shared_memory::ShmemConf;

    use super::*;

    /// The name of a segment that exists; dropping it removes the name, and only the name.
    #[derive(Debug)]
    pub(crate) struct Name(pub(crate) String);

    impl Drop for Name {
        fn drop(&mut self) {
            let _ = shm::unlink(self.0.as_str());
        }
    }

    /// `/genvm-`, process id, 64 random bits.
    fn fresh_name() -> io::Result<String> {
        let mut random = [0; 8];
        fill_random(&mut random)?;
        Ok(format!("/genvm-{}-{:016x}", std::process::id(), u64::from_le_bytes(random)))
    }

    pub(super) fn create(capacity: RingCapacity) -> io::Result<Segment> {
        let len = segment_len(capacity);
        let name = fresh_name()?;
        let mut memory = ShmemConf::new().os_id(&name).size(len).create().map_err(io::Error::other)?;
        memory.set_owner(false); // from here on `Name` removes it
        let name = Name(name);
        // The crate only sets the length. Without room in /dev/shm the first touch would be SIGBUS: have it allocated now.
        let fd = shm::open(name.0.as_str(), shm::OFlags::RDWR, Mode::empty())?;
        #[cfg(target_os = "linux")]
        rustix::io::retry_on_intr(|| rustix::fs::fallocate(&fd, rustix::fs::FallocateFlags::empty(), 0, len as u64))?;
        drop(fd);
        Ok(Segment { memory: Arc::new(Mapping::named(memory)?), handle: Handle::Name(name) })
    }

    /// Maps the peer's segment and removes its name, so that nothing is left behind however both ends end.
    pub(crate) fn open(name: &str, capacity: RingCapacity) -> Result<Mapping, UpgradeError> {
        let memory = ShmemConf::new()
            .os_id(name)
            .open()
            .map_err(|error| UpgradeError::Segment(format!("cannot open the named segment {name}: {error}")))?;
        drop(Name(name.to_owned()));
        let expected = segment_len(capacity);
        // `open` takes whatever size there is. macOS rounds up to pages, hence "at least".
        if memory.len() < expected {
            return Err(UpgradeError::Segment(format!("{} bytes, expected {expected}", memory.len())));
        }
        Mapping::named(memory).map_err(|source| UpgradeError::Io { what: "cannot map the peer's segment", source })
    }
}
