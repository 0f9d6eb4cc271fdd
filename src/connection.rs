//! Choosing the transport at run time, by [`Address`]: [`connect`], [`connect_async`], [`listen`], and [`Transports`]
//! for callers that bring transports of their own.
//!
//! Nothing here is on the byte path, and nothing retries, reconnects or keeps connections for later: one is one execution.

use std::fmt;
use std::sync::Arc;

use crate::address::Address;
use crate::error::{ConnectError, ListenError, TransportError};
use crate::options::{ConnectOptions, ListenOptions};
use crate::transport::{AsyncStream, BlockingStream, Listener, Transport};

/// Connects to `address` with a built-in transport. Blocks up to [`ConnectOptions::timeout`]; needs no async runtime.
///
/// # Errors
/// `address` is none, or names a transport that this build does not have; otherwise those of [`Transport::connect`].
///
/// ```no_run
/// use genvm_transport::{ConnectOptions, connect, protocol::HostClient};
///
/// let stream = connect("unix:///run/host.sock", &ConnectOptions::default())?;
/// let mut host = HostClient::new(stream);
/// let calldata = host.get_calldata()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn connect(address: &str, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError> {
    Transports::builtin().connect(&address.parse()?, options)
}

/// Connects to `address` with a built-in transport, on a tokio runtime with I/O and time enabled.
///
/// # Errors
/// As [`connect`].
///
/// # Cancel safety
/// Dropping the future abandons the connection and leaves nothing behind.
pub async fn connect_async(address: &str, options: &ConnectOptions) -> Result<Box<dyn AsyncStream>, ConnectError> {
    Transports::builtin().connect_async(&address.parse()?, options).await
}

/// Listens on `address` with a built-in transport.
///
/// # Errors
/// `address` is none, or names a transport that this build does not have; otherwise those of [`Transport::listen`].
pub fn listen(address: &str, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
    Transports::builtin().listen(&address.parse()?, options)
}

/// The transports that an address may choose from. [`builtin`](Self::builtin) has what was compiled in;
/// [`with`](Self::with) adds to it.
#[derive(Clone)]
pub struct Transports(Vec<Arc<dyn Transport>>);

impl Transports {
    /// Every transport that the features of this build brought in.
    #[allow(clippy::vec_init_then_push, reason = "each line is under its own feature")]
    pub fn builtin() -> Self {
        #[allow(unused_mut, reason = "without features there is nothing to add")]
        let mut all: Vec<Arc<dyn Transport>> = Vec::new();
        #[cfg(all(unix, feature = "uds"))]
        all.push(Arc::new(crate::uds::UnixTransport));
        #[cfg(all(unix, feature = "uds"))]
        all.push(Arc::new(crate::fd::FdTransport));
        #[cfg(all(unix, feature = "tcp"))]
        all.push(Arc::new(crate::tcp::TcpTransport));
        #[cfg(all(unix, feature = "shm"))]
        all.push(Arc::new(crate::shm::ShmTransport::sealed()));
        #[cfg(all(unix, feature = "shm-named"))]
        all.push(Arc::new(crate::shm::ShmTransport::named()));
        Self(all)
    }

    /// Adds a transport. One with a scheme that is there already takes its place.
    #[must_use]
    pub fn with(mut self, transport: impl Transport + 'static) -> Self {
        self.0.retain(|known| known.scheme() != transport.scheme());
        self.0.push(Arc::new(transport));
        self
    }

    /// Connects. See [`Transport::connect`].
    ///
    /// # Errors
    /// None of these transports has the address's scheme; otherwise those of the one that has.
    pub fn connect(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn BlockingStream>, ConnectError> {
        self.find(address)?.connect(address, options)
    }

    /// Connects on a tokio runtime. See [`Transport::connect_async`], also for dropping the future.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_async(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn AsyncStream>, ConnectError> {
        self.find(address)?.connect_async(address, options).await
    }

    /// Listens. See [`Transport::listen`].
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
        self.find(address)?.listen(address, options)
    }

    /// The schemes that would work, in the order in which they were added.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|transport| transport.scheme())
    }

    fn find(&self, address: &Address) -> Result<&dyn Transport, TransportError> {
        let scheme = address.scheme();
        if let Some(transport) = self.0.iter().find(|transport| transport.scheme() == scheme) {
            return Ok(transport.as_ref());
        }
        let feature = match address {
            Address::Unix(_) | Address::Fd(_) => "uds",
            Address::Shm(_) => "shm",
            Address::ShmNamed(_) => "shm-named",
            Address::Tcp(_) => "tcp",
            Address::Custom { .. } => {
                let known = self.schemes().map(str::to_owned).collect();
                return Err(TransportError::Unknown { scheme: scheme.to_owned(), known });
            }
        };
        Err(TransportError::NotCompiled { scheme: scheme.to_owned(), feature })
    }
}

impl fmt::Debug for Transports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_scheme_lists_the_known_ones() {
        let error =
            Transports::builtin().connect(&"quic://x".parse().unwrap(), &ConnectOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("no transport for `quic://`; known here: "), "{error}");
    }

    #[test]
    fn a_transport_that_is_not_compiled_in_names_its_feature() {
        for (address, feature, compiled) in [
            ("unix:///x", "uds", cfg!(feature = "uds")),
            ("shm:///x", "shm", cfg!(feature = "shm")),
            ("shm-named:///x", "shm-named", cfg!(feature = "shm-named")),
            ("tcp://127.0.0.1:1", "tcp", cfg!(feature = "tcp")),
        ] {
            if !compiled {
                let error = connect(address, &ConnectOptions::default()).unwrap_err().to_string();
                assert!(error.contains(&format!("feature `{feature}`")), "{error}");
            }
        }
    }
}
