//! `unix://`: [`UnixTransport`], the production transport.
//!
//! Not one byte is added to what the caller writes: a host in another language serves our client, and our host serves a GenVM
//! that knows nothing of this crate. With the feature `shm` its listener also serves clients that ask for shared memory, and
//! with `prefer-shm` its client asks first; see [`ListenOptions::upgrades`] and [`ConnectOptions::upgrades`].

use std::path::Path;
use std::time::Instant;

use async_trait::async_trait;

use crate::address::Address;
use crate::error::{ConnectError, ListenError, TransportError};
use crate::options::{ConnectOptions, ListenOptions};
use crate::peer::TransportKind;
use crate::socket::{
    AsyncSocketStream, SocketListener, SocketStream, UnixSocketListener, connect_unix, connect_unix_async,
};
use crate::transport::{AsyncStream, BlockingStream, Listener, Transport};

/// Unix-domain sockets.
#[derive(Debug, Clone, Copy)]
pub struct UnixTransport;

#[async_trait]
impl Transport for UnixTransport {
    fn scheme(&self) -> &str {
        "unix"
    }

    fn connect(&self, address: &Address, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError> {
        let path = path(address)?;
        #[cfg(feature = "prefer-shm")]
        if options.upgrades {
            return crate::shm::ShmTransport::sealed().connect(address, &falling_back(options));
        }
        let (fd, peer) = connect_unix(address, path, options, Instant::now())?;
        Ok(Box::new(SocketStream::new(fd, peer, TransportKind::Unix, &options.stream)))
    }

    async fn connect_async(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn AsyncStream>, ConnectError> {
        let path = path(address)?;
        #[cfg(feature = "prefer-shm")]
        if options.upgrades {
            return crate::shm::ShmTransport::sealed().connect_async(address, &falling_back(options)).await;
        }
        let (fd, peer) = connect_unix_async(address, path, options, Instant::now()).await?;
        let stream = AsyncSocketStream::new(fd, peer, TransportKind::Unix, &options.stream);
        Ok(Box::new(stream.map_err(|source| ConnectError::Io { address: address.clone(), source })?))
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
        let socket = UnixSocketListener::bind(address, path(address)?, options)?;
        #[cfg(feature = "shm")]
        if options.upgrades {
            return Ok(Box::new(crate::shm::Rendezvous::new(socket, crate::shm::SegmentKind::Sealed, options)));
        }
        Ok(Box::new(SocketListener::new(socket, TransportKind::Unix, &options.stream)))
    }
}

#[cfg(feature = "prefer-shm")]
fn falling_back(options: &ConnectOptions) -> ConnectOptions {
    ConnectOptions { fallback: crate::options::Fallback::Plain, ..options.clone() }
}

fn path(address: &Address) -> Result<&Path, TransportError> {
    match address {
        Address::Unix(path) => Ok(path),
        other => {
            Err(TransportError::Unsupported { scheme: other.scheme().to_owned(), what: "is no Unix socket's path" })
        }
    }
}
