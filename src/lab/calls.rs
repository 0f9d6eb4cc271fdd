//! [`Calls`]: what a player's calls go through, a client or a client with a cache of pages in front of it.

use std::io::{Read, Write};

use crate::protocol::{Account, CallError, HostClient, ResultCode, SlotId, StorageMode};
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
        PageCache::finish(self, code, data)
    }

    fn client(&mut self) -> &mut HostClient<S> {
        self.client_mut()
    }
}
