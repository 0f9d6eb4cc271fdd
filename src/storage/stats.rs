//! What a cache was good for, in numbers that need no clock.

use std::ops::AddAssign;

/// Counts since the cache was made. What goes through
/// [`client_mut`](super::PageCache::client_mut) is not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads asked for.
    pub reads: u64,
    /// Reads that were answered without a call.
    pub hits: u64,
    /// `storage_read` calls made, failed ones included.
    pub host_reads: u64,
    /// Bytes that were asked for.
    pub bytes_read: u64,
    /// Bytes that the host was asked for, in whole pages and ahead.
    pub host_bytes_read: u64,
    /// Writes asked for.
    pub writes: u64,
    /// `storage_write` calls made, failed ones included.
    pub host_writes: u64,
    /// Bytes that were written.
    pub bytes_written: u64,
    /// Bytes that the host was sent.
    pub host_bytes_written: u64,
}

impl CacheStats {
    /// Reads that needed a call.
    pub fn misses(&self) -> u64 {
        self.reads - self.hits
    }

    /// How many calls fewer were made than without a cache. Deferred writes count as saved until they are handed over.
    pub fn calls_saved(&self) -> u64 {
        (self.reads + self.writes).saturating_sub(self.host_reads + self.host_writes)
    }
}

/// The sum over several executions.
impl AddAssign for CacheStats {
    fn add_assign(&mut self, other: Self) {
        self.reads += other.reads;
        self.hits += other.hits;
        self.host_reads += other.host_reads;
        self.bytes_read += other.bytes_read;
        self.host_bytes_read += other.host_bytes_read;
        self.writes += other.writes;
        self.host_writes += other.host_writes;
        self.bytes_written += other.bytes_written;
        self.host_bytes_written += other.host_bytes_written;
    }
}
