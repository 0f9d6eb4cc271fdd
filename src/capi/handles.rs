//! What a handle stands for: [`STREAMS`] and [`LISTENERS`].
//!
//! Numbers are given out in order and never again (2^64 of them last), so a handle that was closed is not somebody else's, and no
//! listener's is a stream's. The tables are locked for the look-up only, never while a stream or a listener waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

use super::genvm_status;
use super::guard::Failure;
use crate::transport::{BlockingStream, Listener};

pub(super) static STREAMS: Handles<Mutex<Option<Stream>>> = Handles::new("stream");
pub(super) static LISTENERS: Handles<Box<dyn Listener>> = Handles::new("listener");

/// The next number; one sequence for all tables.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Things by their number.
pub(super) struct Handles<T> {
    what: &'static str,
    things: LazyLock<Mutex<HashMap<u64, Arc<T>>>>,
}

impl<T> Handles<T> {
    const fn new(what: &'static str) -> Self {
        Self { what, things: LazyLock::new(Mutex::default) }
    }

    fn insert(&self, thing: T) -> u64 {
        let handle = NEXT.fetch_add(1, Ordering::Relaxed);
        self.things.lock().insert(handle, Arc::new(thing));
        handle
    }

    pub(super) fn get(&self, handle: u64) -> Result<Arc<T>, Failure> {
        self.things.lock().get(&handle).cloned().ok_or_else(|| self.missing(handle))
    }

    pub(super) fn remove(&self, handle: u64) -> Result<Arc<T>, Failure> {
        self.things.lock().remove(&handle).ok_or_else(|| self.missing(handle))
    }

    fn missing(&self, handle: u64) -> Failure {
        Failure::new(
            genvm_status::GENVM_NO_HANDLE,
            format!("there is no {} {handle}: it was closed, or never was", self.what),
        )
    }
}

impl Handles<Box<dyn Listener>> {
    pub(super) fn add(&self, listener: Box<dyn Listener>) -> u64 {
        self.insert(listener)
    }
}

/// A stream, and what is read on its way to memory of C's.
pub(super) struct Stream {
    pub(super) io: Box<dyn BlockingStream>,
    pub(super) buffer: Box<[u8]>,
}

/// Large values come in pieces of this; small ones cost one read.
const BUFFER: usize = 16 << 10;

/// A stream is taken out of its place for the time of a call: one that panicked is gone.
impl Handles<Mutex<Option<Stream>>> {
    pub(super) fn add(&self, io: Box<dyn BlockingStream>) -> u64 {
        self.insert(Mutex::new(Some(Stream { io, buffer: vec![0; BUFFER].into() })))
    }

    /// Makes a call on a stream, if no other thread does.
    pub(super) fn with(
        &self,
        handle: u64,
        call: impl FnOnce(&mut Stream) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let place = self.get(handle)?;
        let mut place = place.try_lock().ok_or_else(busy)?;
        let mut stream = place.take().ok_or_else(|| self.missing(handle))?;
        let result = call(&mut stream);
        *place = Some(stream);
        result
    }

    pub(super) fn close(&self, handle: u64) -> Result<(), Failure> {
        let place = self.get(handle)?;
        // While it is locked no call can begin, so what is removed is what was found idle.
        let mut idle = place.try_lock().ok_or_else(busy)?;
        let removed = self.remove(handle);
        drop(idle.take());
        removed.map(drop)
    }
}

fn busy() -> Failure {
    Failure::new(genvm_status::GENVM_BUSY, "another thread is in a call on this stream")
}

#[cfg(all(test, unix, feature = "uds"))]
mod tests {
    use std::io::Read;

    use super::super::guard::guarded;
    use super::*;

    #[test]
    fn a_stream_that_panicked_is_gone_and_can_be_closed() {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix://{}", directory.path().join("s").display());
        let listener = crate::connection::listen(&address, &Default::default()).unwrap();
        let peer = std::thread::spawn(move || listener.accept().unwrap().read(&mut [0]).unwrap());
        let handle = STREAMS.add(crate::connection::connect(&address, &Default::default()).unwrap());
        assert_eq!(guarded(|| STREAMS.with(handle, |_| panic!("half-way"))), genvm_status::GENVM_PANIC);
        assert_eq!(guarded(|| STREAMS.with(handle, |_| Ok(()))), genvm_status::GENVM_NO_HANDLE);
        assert_eq!(peer.join().unwrap(), 0); // the panic closed it
        assert_eq!(guarded(|| STREAMS.close(handle)), genvm_status::GENVM_OK);
        assert_eq!(guarded(|| STREAMS.close(handle)), genvm_status::GENVM_NO_HANDLE);
    }
}
