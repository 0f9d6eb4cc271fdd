//! [`PageCache`]: what reads and writes go through.

use std::fmt;
use std::io::{Read, Write};

use super::error::StorageError;
use super::lines::{LineKey, Lines};
use super::options::{CacheOptions, WriteMode};
use super::overlay::Overlay;
use super::stats::CacheStats;
use crate::protocol::{
    Account, CallError, Delta, HostClient, Method, ResultCode, SlotId, StorageMode, check_place, parts,
};

/// A [`HostClient`] with a cache of storage pages in front of it, for one execution.
///
/// See [the module](crate::storage) for what it promises. Dropped with writes deferred, it has not written them.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use std::thread;
///
/// use genvm_transport::protocol::{
///     Account, Environment, HostClient, HostState, Protocol, ResultCode, SlotId, StorageMode, serve_blocking,
/// };
/// use genvm_transport::storage::{CacheOptions, PageCache, WriteMode};
///
/// let (genvm, mut node) = UnixStream::pair()?;
/// let (contract, slot) = (Account([1; 20]), SlotId([2; 32]));
///
/// let state = HostState::new();
/// let mut execution = state.begin(Environment { account: contract, ..Environment::default() });
/// let host = thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
///
/// let options = CacheOptions::default().with_writes(WriteMode::Deferred);
/// let mut storage = PageCache::new(HostClient::new(genvm), contract, options);
/// let mut read = [0xff; 4];
/// storage.storage_read(StorageMode::Default, &contract, &slot, 0, &mut read)?; // the only read that is a call
/// for word in 1..=5u8 {
///     storage.storage_read(StorageMode::Default, &contract, &slot, u32::from(word) * 4, &mut read)?;
///     storage.storage_write(&slot, u32::from(word) * 4, &[word; 4])?;
/// }
/// storage.finish(ResultCode::Return, b"")?; // one write of 20 bytes, and the result
/// assert_eq!(storage.stats().calls_saved(), 9);
///
/// host.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PageCache<S> {
    client: HostClient<S>,
    /// The running contract.
    account: Account,
    options: CacheOptions,
    /// What the execution sees: the running contract's pages have its writes in them, sent or not.
    lines: Lines,
    /// Writes of the running contract that the host does not have.
    overlay: Overlay,
    /// Pages on their way from the host.
    fetched: Vec<u8>,
    stats: CacheStats,
}

impl<S: Read + Write> PageCache<S> {
    /// A cache over `client`, through which `account`, the running contract, has not written yet.
    pub fn new(client: HostClient<S>, account: Account, options: CacheOptions) -> Self {
        let lines = Lines::new(options.page_size, options.max_cached);
        let (overlay, fetched, stats) = Default::default();
        Self { client, account, options, lines, overlay, fetched, stats }
    }

    /// [`HostClient::storage_read`], from the pages that are here or with one call. A read of no bytes is no call.
    ///
    /// # Errors
    /// Those of the call, if there is one; what reaches beyond a slot's end is refused. The pages stay as true as they were.
    pub fn storage_read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        check(Method::StorageRead, "length", index, out.len(), &self.client)?;
        self.stats.reads += 1;
        self.stats.bytes_read += out.len() as u64;
        if out.is_empty() {
            self.stats.hits += 1;
            return Ok(());
        }
        let mut key = LineKey { slot: *slot, account: *account, mode, line: 0 };
        if mode != StorageMode::Default && !self.options.cache_latest || !self.lines.could_hold(index, out.len()) {
            return self.read_as_asked(key, index, out);
        }
        let own = self.is_own(&key);
        let mut missing: Option<(u32, u32)> = None;
        for (line, offset, range) in parts(index, out.len(), self.lines.line()) {
            key.line = line;
            let mut lacks = self.lines.pages(offset, range.len());
            if let Some((present, bytes)) = self.lines.get(&key) {
                // With pages that are not there, which are overwritten below.
                out[range.clone()].copy_from_slice(&bytes[offset..][..range.len()]);
                lacks &= !present;
            }
            if lacks != 0 && own {
                lacks &= !self.read_overlay(slot, index + range.start as u32, &mut out[range]);
            }
            if lacks != 0 {
                let page = |bit: u32| line * (self.lines.line() / self.lines.page()) as u32 + bit;
                let first = missing.map_or(page(lacks.trailing_zeros()), |(first, _)| first);
                missing = Some((first, page(lacks.ilog2())));
            }
        }
        match missing {
            None => {
                self.stats.hits += 1;
                Ok(())
            }
            Some((first, last)) => self.read_pages(key, first, last, index, out),
        }
    }

    /// Writes to a slot of the running contract, at once or when they are handed over ([`WriteMode`]); reads see it either
    /// way.
    ///
    /// # Errors
    /// [`StorageError::Call`] like the client, [`StorageError::Full`] if writes are deferred. Nothing was written then, unless the error
    /// is fatal.
    pub fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), StorageError> {
        check(Method::StorageWrite, "data", index, data.len(), &self.client)?;
        if self.options.writes == WriteMode::Deferred {
            let (deferred, more) = (self.overlay.size(), self.overlay.growth(slot, index, data.len()));
            let limit = self.options.max_deferred;
            if more > limit.saturating_sub(deferred) {
                return Err(StorageError::Full { deferred, more, limit });
            }
        }
        self.stats.writes += 1;
        self.stats.bytes_written += data.len() as u64;
        match self.options.writes {
            WriteMode::Through => self.write_to_host(slot, index, data)?,
            WriteMode::Deferred => self.overlay.write(slot, index, data),
        }
        let mut key = LineKey { slot: *slot, account: self.account, mode: StorageMode::Default, line: 0 };
        for (line, offset, range) in parts(index, data.len(), self.lines.line()) {
            key.line = line;
            if let Some((_, bytes)) = self.lines.get(&key) {
                bytes[offset..][..range.len()].copy_from_slice(&data[range]);
            }
        }
        Ok(())
    }

    /// Hands deferred writes over as `storage_write` calls: sorted by slot and index, what touches joined, none longer than
    /// the client's [limits](crate::protocol::Limits) allow. Does nothing if there are none.
    ///
    /// # Errors
    /// [`StorageError::NotTaken`] at the first that the host does not take.
    pub fn flush_writes(&mut self) -> Result<(), StorageError> {
        let longest = self.client.limits().slice.max(1) as usize;
        for Delta { slot, index, data } in self.overlay.deltas() {
            for (at, piece) in (0..).zip(data.chunks(longest)) {
                let (index, length) = (index + at * longest as u32, piece.len());
                let taken = self.write_to_host(&slot, index, piece);
                taken.map_err(|source| StorageError::NotTaken { slot, index, length, source })?;
                self.overlay.forget(&slot, index, length);
            }
        }
        Ok(())
    }

    /// [`flush_writes`](Self::flush_writes), then [`HostClient::consume_result`]: the last call. Deferred writes are handed
    /// over whatever the code, because what becomes of them is the host's decision; if they are to be dropped anyway,
    /// `client_mut().consume_result(…)` spares the calls.
    ///
    /// # Errors
    /// [`StorageError::NotTaken`], and the result was not sent: the execution can still end with another one.
    /// [`StorageError::Call`] if the result was not taken.
    pub fn finish(&mut self, code: ResultCode, data: &[u8]) -> Result<(), StorageError> {
        self.flush_writes()?;
        Ok(self.client.consume_result(code, data)?)
    }

    /// Reads pages `first` to `last` with one call, keeps them, and copies what is in `out` from them.
    fn read_pages(
        &mut self,
        mut key: LineKey,
        first: u32,
        last: u32,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        let page = self.lines.page();
        let start = first * page as u32;
        let longest = self.lines.limit().min(self.client.limits().slice as usize);
        let mut length = ((last - first) as usize + 1) * page;
        if length > longest {
            return self.read_as_asked(key, index, out);
        }
        let end_of_slot = (1 << 32) - u64::from(start);
        for _ in 0..self.options.read_ahead {
            if length + page > longest || length as u64 == end_of_slot || self.has_page(&mut key, start + length as u32)
            {
                break;
            }
            length += page;
        }
        self.fetched.resize(length, 0);
        self.stats.host_reads += 1;
        self.stats.host_bytes_read += length as u64;
        self.client.storage_read(key.mode, &key.account, &key.slot, start, &mut self.fetched)?;
        if self.is_own(&key) {
            self.overlay.apply(&key.slot, start, &mut self.fetched);
        }
        for (line, offset, range) in parts(start, length, self.lines.line()) {
            key.line = line;
            self.lines.insert(key, offset, &self.fetched[range]);
        }
        // What lies outside was here and has been copied.
        let skipped = index.saturating_sub(start) as usize;
        let out = &mut out[start.saturating_sub(index) as usize..];
        let wanted = out.len().min(length - skipped);
        out[..wanted].copy_from_slice(&self.fetched[skipped..][..wanted]);
        Ok(())
    }

    /// Reads past the pages.
    fn read_as_asked(&mut self, key: LineKey, index: u32, out: &mut [u8]) -> Result<(), CallError> {
        self.stats.host_reads += 1;
        self.stats.host_bytes_read += out.len() as u64;
        self.client.storage_read(key.mode, &key.account, &key.slot, index, out)?;
        if self.is_own(&key) {
            self.overlay.apply(&key.slot, index, out);
        }
        Ok(())
    }

    /// Fills those pages of `out`, a part of one line, whose bytes there were all written and are deferred. Returns which,
    /// as bits.
    fn read_overlay(&self, slot: &SlotId, index: u32, out: &mut [u8]) -> u32 {
        if self.overlay.is_empty() {
            return 0;
        }
        let mut read = 0;
        for (page, _, range) in parts(index, out.len(), self.lines.page()) {
            if self.overlay.read(slot, index + range.start as u32, &mut out[range]) {
                read |= 1 << (page % (self.lines.line() / self.lines.page()) as u32);
            }
        }
        read
    }

    /// Whether the page that starts at `index` is there.
    fn has_page(&self, key: &mut LineKey, index: u32) -> bool {
        let line = self.lines.line() as u32;
        key.line = index / line;
        self.lines.any(key, self.lines.pages((index % line) as usize, 1))
    }

    fn write_to_host(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), CallError> {
        let written = self.client.storage_write(slot, index, data);
        // At revision 2 it is refused, and no call.
        if !matches!(written, Err(CallError::Refused { .. })) {
            self.stats.host_writes += 1;
            self.stats.host_bytes_written += data.len() as u64;
        }
        written
    }
}

impl<S> PageCache<S> {
    /// The client, for its other calls and its stream.
    ///
    /// What must not go past the cache: `storage_write`, ever, because the pages would not know; and, while writes are
    /// deferred, `storage_read` of the running contract's own state and `consume_result`, because the host does not know
    /// yet.
    pub fn client_mut(&mut self) -> &mut HostClient<S> {
        &mut self.client
    }

    /// The client, and the deferred writes for a protocol that carries them in the execution's result.
    pub fn into_parts(self) -> (HostClient<S>, Vec<Delta>) {
        (self.client, self.overlay.deltas())
    }

    /// The deferred writes: sorted by slot and index, what touches joined. They stay deferred.
    pub fn deltas(&self) -> Vec<Delta> {
        self.overlay.deltas()
    }

    /// What it was good for so far.
    pub fn stats(&self) -> CacheStats {
        self.stats
    }

    /// Whether a page shows the execution's own writes.
    fn is_own(&self, key: &LineKey) -> bool {
        key.mode == StorageMode::Default && key.account == self.account
    }
}

impl<S> fmt::Debug for PageCache<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache")
            .field("client", &self.client)
            .field("account", &self.account)
            .field("options", &self.options)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}

/// Refuses what the client would refuse.
fn check<S>(
    method: Method,
    field: &'static str,
    index: u32,
    length: usize,
    client: &HostClient<S>,
) -> Result<(), CallError> {
    let checked = check_place(method, field, index, length as u64, client.limits());
    checked.map(drop).map_err(|source| CallError::Refused { method, source })
}
