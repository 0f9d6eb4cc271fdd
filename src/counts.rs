//! How connections to hosts came about, for the feature `metrics`: counted by the process, since a fall-back is over before there is a
//! stream that could know of it. Without the feature nothing is counted.

#[cfg(feature = "metrics")]
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[cfg(feature = "metrics")]
static UPGRADES: AtomicU64 = AtomicU64::new(0);
#[cfg(feature = "metrics")]
static FALL_BACKS: AtomicU64 = AtomicU64::new(0);

/// A client has agreed with its host on shared memory.
#[cfg(feature = "shm")]
pub(crate) fn upgraded() {
    #[cfg(feature = "metrics")]
    UPGRADES.fetch_add(1, Relaxed);
}

/// A client that asked for shared memory has the plain socket.
#[cfg(feature = "shm")]
pub(crate) fn fell_back() {
    #[cfg(feature = "metrics")]
    FALL_BACKS.fetch_add(1, Relaxed);
}

/// So many upgrades and fall-backs since the process began.
#[cfg(feature = "metrics")]
pub(crate) fn so_far() -> (u64, u64) {
    (UPGRADES.load(Relaxed), FALL_BACKS.load(Relaxed))
}
