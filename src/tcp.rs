//! `tcp://`: [`TcpTransport`], for hosts that are not on this machine. It does not encrypt, and does not ask who the peer is.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::time::Instant;

use async_trait::async_trait;

use crate::address::Address;
use crate::error::{ConnectError, ListenError, TransportError};
use crate::options::{ConnectOptions, ListenOptions, PeerPolicy};
use crate::peer::TransportKind;
use crate::socket::{Acceptor, AsyncSocketStream, SocketListener, SocketStream, admitted};
use crate::transport::{AsyncStream, BlockingStream, Listener, Transport};

/// TCP with `TCP_NODELAY`: a request is smaller than a segment, and somebody waits for its answer.
///
/// A blocking connect resolves a host's name by the system's resolver, which has times of its own:
/// [`timeout`](ConnectOptions::timeout) counts that time but cannot cut it short. Addresses in digits need no resolver.
#[derive(Debug, Clone, Copy)]
pub struct TcpTransport;

#[async_trait]
impl Transport for TcpTransport {
    fn scheme(&self) -> &str {
        "tcp"
    }

    fn connect(&self, address: &Address, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError> {
        let started = Instant::now();
        let error = |source| connect_error(address, options, source);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for target in host_port(address)?.to_socket_addrs().map_err(error)? {
            let left = options.timeout.checked_sub(started.elapsed()).filter(|left| !left.is_zero());
            let Some(left) = left else { return Err(error(io::ErrorKind::TimedOut.into())) };
            match TcpStream::connect_timeout(&target, left) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(error)?;
                    let (fd, peer) = admitted(stream.into(), address, options)?;
                    return Ok(Box::new(SocketStream::new(fd, peer, TransportKind::Tcp, &options.stream)));
                }
                Err(failed) => last = failed,
            }
        }
        Err(error(last))
    }

    async fn connect_async(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn AsyncStream>, ConnectError> {
        let error = |source| connect_error(address, options, source);
        let connecting = tokio::net::TcpStream::connect(host_port(address)?);
        let stream = match tokio::time::timeout(options.timeout, connecting).await {
            Ok(stream) => stream.map_err(error)?,
            Err(_) => return Err(error(io::ErrorKind::TimedOut.into())),
        };
        stream.set_nodelay(true).map_err(error)?;
        let (fd, peer) = admitted(OwnedFd::from(stream.into_std().map_err(error)?), address, options)?;
        Ok(Box::new(AsyncSocketStream::new(fd, peer, TransportKind::Tcp, &options.stream).map_err(error)?))
    }

    /// The kernel knows no user of a TCP peer: [`PeerPolicy::SameUser`], the default, lets everybody in here.
    fn listen(&self, address: &Address, options: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
        let failed = |what| move |source| ListenError::Io { address: address.clone(), what, source };
        let socket = match TcpListener::bind(host_port(address)?) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ListenError::InUse { address: address.clone() });
            }
            bound => bound.map_err(failed("bind"))?,
        };
        let bound: SocketAddr = socket.local_addr().map_err(failed("getsockname"))?;
        let allowed = match &options.allowed_peers {
            PeerPolicy::SameUser => PeerPolicy::Any,
            other => other.clone(),
        };
        let acceptor = Acceptor::new(socket.into(), Address::Tcp(bound.to_string()), allowed);
        let acceptor = Box::new(acceptor.map_err(failed("setting the socket up"))?);
        Ok(Box::new(SocketListener::new(acceptor, TransportKind::Tcp, &options.stream)))
    }
}

fn host_port(address: &Address) -> Result<&str, TransportError> {
    match address {
        Address::Tcp(host_port) => Ok(host_port),
        other => Err(TransportError::Unsupported { scheme: other.scheme().to_owned(), what: "is no TCP address" }),
    }
}

fn connect_error(address: &Address, options: &ConnectOptions, source: io::Error) -> ConnectError {
    match source.kind() {
        io::ErrorKind::TimedOut => ConnectError::TimedOut { address: address.clone(), after: options.timeout },
        _ => ConnectError::Io { address: address.clone(), source },
    }
}
