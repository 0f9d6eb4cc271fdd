//! What a caller may choose. Every default is the careful one.

/// Choices for a [`PageCache`](super::PageCache).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How much is read at once. Default: 32 bytes, the page of GenVM's own storage code.
    pub page_size: PageSize,
    /// How many bytes of pages are kept at most; the least recently used go first (approximately: second chance). Pages
    /// take their place in aligned stretches of 512 bytes, or of one page if that is larger, and 150 to 400 bytes of
    /// bookkeeping for each of those; beside them stays room for the pages of the longest read so far. A read that would
    /// need more than the bound goes to the host as it is. Default: 4 MiB.
    pub max_cached: usize,
    /// When writes go to the host. Default: [`WriteMode::Through`].
    pub writes: WriteMode,
    /// How many bytes of deferred writes are kept at most, counted in aligned pieces of 64 bytes of which any byte was
    /// written; a piece takes up to 300 bytes. Default: 16 MiB.
    pub max_deferred: usize,
    /// How many pages more to read when a page is missing: those that follow it in its slot, up to one that is there.
    /// Default: none.
    pub read_ahead: u32,
    /// Whether the [latest](crate::protocol::StorageMode::LatestNonFinal) and the
    /// [final](crate::protocol::StorageMode::LatestFinal) state are cached like the execution's own. A repeated read then
    /// may return what it did before, although others have committed since; with a host whose latest state stands still
    /// during an execution there is no difference. Default: no, such reads go to the host as they are.
    pub cache_latest: bool,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            page_size: PageSize::DEFAULT,
            max_cached: 4 << 20,
            writes: WriteMode::Through,
            max_deferred: 16 << 20,
            read_ahead: 0,
            cache_latest: false,
        }
    }
}

impl CacheOptions {
    /// The defaults with another [page size](Self::page_size).
    #[must_use]
    pub fn with_page_size(mut self, page_size: PageSize) -> Self {
        self.page_size = page_size;
        self
    }

    /// The defaults with another [write mode](Self::writes).
    #[must_use]
    pub fn with_writes(mut self, writes: WriteMode) -> Self {
        self.writes = writes;
        self
    }
}

/// When a write goes to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WriteMode {
    /// At once. The host's refusal is the write's result.
    #[default]
    Through,
    /// At the end, together, sorted and joined: by [`flush_writes`](super::PageCache::flush_writes) or
    /// [`finish`](super::PageCache::finish) as `storage_write` calls, or through the caller's hands
    /// ([`into_parts`](super::PageCache::into_parts)) where the protocol carries them in the result.
    ///
    /// A host that refuses a write, because its slot is locked or the execution may not spend more on storage, can only
    /// do so then, when the contract has gone on as if it were written. One that charges by the byte charges for each byte
    /// once, however often it was overwritten. Writes of no bytes are not sent.
    Deferred,
}

/// Bytes of a page: a power of two between 32 and 4096. It could not be built otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageSize(u32);

impl PageSize {
    /// 32 bytes.
    pub const MIN: Self = Self(32);
    /// 32 bytes.
    pub const DEFAULT: Self = Self(32);
    /// 4096 bytes.
    pub const MAX: Self = Self(4096);

    /// `bytes` as a page size; `None` unless it is a power of two between [`MIN`](Self::MIN) and [`MAX`](Self::MAX).
    pub fn new(bytes: u32) -> Option<Self> {
        (bytes.is_power_of_two() && (Self::MIN.0..=Self::MAX.0).contains(&bytes)).then_some(Self(bytes))
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl Default for PageSize {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_powers_of_two_in_range() {
        let sizes = (0..10_000).filter_map(PageSize::new).map(PageSize::bytes);
        assert_eq!(sizes.collect::<Vec<_>>(), [32, 64, 128, 256, 512, 1024, 2048, 4096]);
        assert_eq!(PageSize::new(1 << 31), None);
    }
}
