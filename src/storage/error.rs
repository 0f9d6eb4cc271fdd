//! Why a write, or the hand-over of writes, did not happen. Reads fail with the client's own [`CallError`].

use crate::protocol::{CallError, SlotId};

/// What can go wrong with writes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The call to the host failed, or the arguments are none. Nothing was written, unless the error is
    /// [fatal](CallError::is_fatal): then nobody knows.
    #[error(transparent)]
    Call(#[from] CallError),
    /// There is no room for this write beside the deferred ones; nothing of it was kept. There is again after
    /// [`flush_writes`](super::PageCache::flush_writes).
    #[error("{deferred} bytes of deferred writes and {more} more, at most {limit} allowed")]
    Full {
        /// How much is kept already, in whole pieces.
        deferred: usize,
        /// How much the write would have added, in whole pieces.
        more: usize,
        /// The [bound](super::CacheOptions::max_deferred).
        limit: usize,
    },
    /// The host did not take a deferred write. Those before it, by slot and index, it has; this one and the rest are
    /// still deferred, and still seen by reads. If `source` is [fatal](CallError::is_fatal) the host may have this one as well.
    #[error("{length} deferred bytes at {index} of {slot:?} were not taken: {source}")]
    NotTaken {
        /// The slot.
        slot: SlotId,
        /// Where the write begins.
        index: u32,
        /// How long it is.
        length: usize,
        /// What the host said.
        source: CallError,
    },
}

impl StorageError {
    /// What became of the call to the host, if there was one.
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::Call(source) | Self::NotTaken { source, .. } => Some(source),
            Self::Full { .. } => None,
        }
    }
}
