//! [`Calls`]: what a player's calls go through, a client or a client with a cache of pages in front of it.

use std::io::{Read, Write};

use crate::protocol::{Account, CallError, HostClient, Method, ResultCode, Revision, SlotId, StorageMode};
use crate::storage::{PageCache, StorageError};

/// The calls that a cache changes, and the client for all others.
pub(super) trait Calls {
    type Stream: Read + Write;

    fn read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError>;

    fn write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), StorageError>;

    fn finish(&mut self, code: ResultCode, data: &[u8]) -> Result<(), StorageError>;

    fn client(&mut self) -> &mut HostClient<Self::Stream>;

    /// Whether a call of `method` is GenVM's to make: the revision has it, or what stands in front of the client answers it.
    fn asks(&mut self, method: Method) -> bool {
        self.client().revision().id(method).is_some()
    }
}

impl<S: Read + Write> Calls for HostClient<S> {
    type Stream = S;

    #[inline]
    fn read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        self.storage_read(mode, account, slot, index, out)
    }

    #[inline]
    fn write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), StorageError> {
        Ok(self.storage_write(slot, index, data)?)
    }

    fn finish(&mut self, code: ResultCode, data: &[u8]) -> Result<(), StorageError> {
        Ok(self.consume_result(code, data)?)
    }

    fn client(&mut self) -> &mut Self {
        self
    }
}

impl<S: Read + Write> Calls for PageCache<S> {
    type Stream = S;

    #[inline]
    fn read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        self.storage_read(mode, account, slot, index, out)
    }

    #[inline]
    fn write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), StorageError> {
        self.storage_write(slot, index, data)
    }

    fn finish(&mut self, code: ResultCode, data: &[u8]) -> Result<(), StorageError> {
        if self.client_mut().revision() == Revision::Two {
            // The deltas would be a part of `data`, in a form that is GenVM's and its host's own.
            return Ok(self.client_mut().consume_result(code, data)?);
        }
        PageCache::finish(self, code, data)
    }

    fn asks(&mut self, method: Method) -> bool {
        method == Method::StorageWrite || self.client().revision().id(method).is_some()
    }

    fn client(&mut self) -> &mut HostClient<S> {
        self.client_mut()
    }
}
