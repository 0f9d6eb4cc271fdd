//! [`SharedClient`]: one connection for several threads.
//!
//! It queues callers; it does not put their calls on the way together (that is [`Batch`](super::Batch)'s job, by one caller).

use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::client::HostClient;

/// A [`HostClient`] that threads share: clones are handles of the same connection.
///
/// Callers take turns. Whoever waits goes to sleep within microseconds, and gets the connection then before whoever had it last gets it
/// again, so that a busy thread cannot keep the others out. A panic on the way poisons nothing: between calls the connection is as good
/// as before, in the middle of one it is lost, and later calls say so ([`CallError::Dead`](super::CallError::Dead)).
///
/// ```
/// # use std::{os::unix::net::UnixStream, thread};
/// # use genvm_transport::protocol::*;
/// # let (genvm, mut node) = UnixStream::pair()?;
/// # let mut execution = HostState::new().begin(Environment { fuel: 7, ..Environment::default() });
/// # thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
/// let client = SharedClient::new(HostClient::new(genvm));
/// let other = client.clone();
/// let fuel = thread::spawn(move || other.with(|client| client.remaining_fuel_as_gen()));
/// client.with(|client| client.get_balance(&Account([1; 20])))?;
/// assert_eq!(fuel.join().unwrap()?, 7.into());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SharedClient<S>(Arc<Mutex<HostClient<S>>>);

impl<S> SharedClient<S> {
    /// Shares `client`.
    pub fn new(client: HostClient<S>) -> Self {
        Self(Arc::new(Mutex::new(client)))
    }

    /// Waits for its turn, then has the connection to itself for as long as `calls` runs.
    ///
    /// `calls` must not use another handle of the same client: it would wait for itself.
    pub fn with<R>(&self, calls: impl FnOnce(&mut HostClient<S>) -> R) -> R {
        let mut client = self.0.lock();
        let result = calls(&mut client);
        MutexGuard::unlock_fair(client);
        result
    }

    /// The client, if this is its last handle.
    ///
    /// # Errors
    /// There are other handles: this one is given back.
    pub fn into_inner(self) -> Result<HostClient<S>, Self> {
        Arc::try_unwrap(self.0).map(Mutex::into_inner).map_err(Self)
    }
}

impl<S> Clone for SharedClient<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for SharedClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedClient").field("handles", &Arc::strong_count(&self.0)).finish_non_exhaustive()
    }
}
