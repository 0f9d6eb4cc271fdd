//! [`SocketListener`]: a listener whose connections are what they seem, Unix or TCP.

use std::ops::Deref;
use std::os::fd::OwnedFd;

use async_trait::async_trait;

use super::{Acceptor, AsyncSocketStream, SocketStream};
use crate::address::Address;
use crate::error::AcceptError;
use crate::options::StreamOptions;
use crate::peer::TransportKind;
use crate::transport::{AsyncStream, BlockingStream, Listener};

#[derive(Debug)]
pub(crate) struct SocketListener<A> {
    acceptor: A,
    kind: TransportKind,
    options: StreamOptions,
}

impl<A: Deref<Target = Acceptor>> SocketListener<A> {
    pub(crate) fn new(acceptor: A, kind: TransportKind, options: &StreamOptions) -> Self {
        Self { acceptor, kind, options: options.clone() }
    }

    fn set_up(&self, fd: &OwnedFd) -> Result<(), AcceptError> {
        if self.kind == TransportKind::Tcp {
            rustix::net::sockopt::set_tcp_nodelay(fd, true).map_err(|error| AcceptError::Connection(error.into()))?;
        }
        Ok(())
    }
}

#[async_trait]
impl<A: Deref<Target = Acceptor> + Send + Sync + std::fmt::Debug> Listener for SocketListener<A> {
    fn accept(&self) -> Result<Box<dyn BlockingStream>, AcceptError> {
        let (fd, peer) = self.acceptor.accept()?;
        self.set_up(&fd)?;
        Ok(Box::new(SocketStream::new(fd, peer, self.kind, &self.options)))
    }

    async fn accept_async(&self) -> Result<Box<dyn AsyncStream>, AcceptError> {
        let (fd, peer) = self.acceptor.accept_async().await?;
        self.set_up(&fd)?;
        let stream = AsyncSocketStream::new(fd, peer, self.kind, &self.options);
        Ok(Box::new(stream.map_err(AcceptError::Connection)?))
    }

    fn address(&self) -> &Address {
        self.acceptor.address()
    }

    fn close(&self) {
        self.acceptor.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::PeerPolicy;

    /// A listener that tries to switch off on Unix sockets what only TCP has: every connection fails to be set up.
    fn listener(path: &std::path::Path) -> SocketListener<Box<Acceptor>> {
        let socket = std::os::unix::net::UnixListener::bind(path).unwrap();
        let acceptor = Acceptor::new(socket.into(), Address::Unix(path.to_owned()), PeerPolicy::Any).unwrap();
        SocketListener::new(Box::new(acceptor), TransportKind::Tcp, &StreamOptions::default())
    }

    #[test]
    fn a_connection_that_cannot_be_set_up_is_not_the_listeners_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = listener(&path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for _ in 0..2 {
            let _clients = [(); 2].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
            for error in [listener.accept().unwrap_err(), runtime.block_on(listener.accept_async()).unwrap_err()] {
                assert!(matches!(error, AcceptError::Connection(_)) && !error.is_fatal(), "{error}");
            }
        }
        listener.close();
        assert!(listener.accept().unwrap_err().is_fatal());
    }
}
