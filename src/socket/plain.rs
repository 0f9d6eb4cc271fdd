//! [`SocketListener`]: a listener whose connections are what they seem, Unix or TCP.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};

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

    fn set_up(&self, fd: &OwnedFd) -> io::Result<()> {
        if self.kind == TransportKind::Tcp {
            rustix::net::sockopt::set_tcp_nodelay(fd.as_fd(), true)?;
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
        Ok(Box::new(AsyncSocketStream::new(fd, peer, self.kind, &self.options)?))
    }

    fn address(&self) -> &Address {
        self.acceptor.address()
    }

    fn close(&self) {
        self.acceptor.close();
    }
}
