//! Storage on GenVM's side: [`PageCache`] makes fewer calls to the host, where a faster transport makes cheaper ones.
//!
//! Most of what an execution reads it reads again, and most reads are a few bytes of a place whose neighbours come next.
//! [`PageCache`] sits over a [`HostClient`](crate::protocol::HostClient), reads whole aligned pages, answers repeats by
//! itself and either sends each write on or keeps all of them for the end ([`WriteMode`]).
//!
//! # What it promises
//!
//! - With the default options every read returns what the client alone would have returned, whatever other executions
//!   commit meanwhile. Modes, accounts, slots and places are kept apart; only
//!   [`Default`](crate::protocol::StorageMode::Default) reads of the running contract see its writes, and only to its
//!   slots can be written.
//! - A read makes at most one call: from the first page that is missing to the last. A hit takes no call and no allocation.
//! - An error puts nothing into the pages. A write that the host refuses is in none, and after a
//!   [fatal](crate::protocol::CallError::is_fatal) error they stay as true as they were: reads that need no call go on, all
//!   others fail with [`Dead`](crate::protocol::CallError::Dead).
//! - Memory is bounded by [`CacheOptions`], not by what the contract does.
//!
//! # Revision 2
//!
//! Its hosts take no writes: GenVM hands them over in the result. With writes deferred reads see them as ever;
//! [`deltas`](PageCache::deltas) are what GenVM puts into the result, which then goes straight to the
//! [client](PageCache::client_mut). [`flush_writes`](PageCache::flush_writes) and [`finish`](PageCache::finish), as long as there are
//! deferred writes, and every write sent through are refused: that the revision has no `storage_write` is the reason they give.
//!
//! # What it does not do
//!
//! It caches storage, no balances and no answers to EVM calls. It belongs to one execution and one thread at a time. A
//! write never reads. Nothing on the wire is new: a host sees a GenVM that reads in pages. One that answers a
//! [status](crate::protocol::Status) for some ranges of a slot only, or charges for the bytes it is asked for, sees other
//! ranges than without the cache.

mod cache;
mod error;
mod lines;
mod options;
mod overlay;
mod stats;

pub use cache::PageCache;
pub use error::StorageError;
pub use options::{CacheOptions, PageSize, WriteMode};
pub use stats::CacheStats;

use std::collections::HashMap;

/// Keyed by slots that contracts choose, hence seeded.
type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;
