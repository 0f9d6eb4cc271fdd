//! `fd://N`: [`FdTransport`], a connected stream socket that this process inherited as descriptor N.
#![allow(unsafe_code, reason = "a descriptor's number comes from outside; somebody has to say that it is ours")]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::address::Address;
use crate::error::{ConnectError, ListenError, TransportError};
use crate::options::{ConnectOptions, ListenOptions};
use crate::peer::{Peer, TransportKind};
use crate::socket::{AsyncSocketStream, SocketStream, admitted, inline_urgent};
use crate::transport::{AsyncStream, BlockingStream, Listener, Transport};

/// Inherited descriptors, as GenVM's executor takes them. Connecting takes the descriptor over, once a number; it is closed
/// with the stream. It cannot be listened on.
#[derive(Debug, Clone, Copy)]
pub struct FdTransport;

#[async_trait]
impl Transport for FdTransport {
    fn scheme(&self) -> &str {
        "fd"
    }

    fn connect(&self, address: &Address, options: &ConnectOptions) -> Result<Box<dyn BlockingStream>, ConnectError> {
        let (fd, peer) = take(address, options)?;
        let kind = kind_of(&peer);
        Ok(Box::new(SocketStream::new(fd, peer, kind, &options.stream)))
    }

    async fn connect_async(
        &self,
        address: &Address,
        options: &ConnectOptions,
    ) -> Result<Box<dyn AsyncStream>, ConnectError> {
        let (fd, peer) = take(address, options)?;
        let kind = kind_of(&peer);
        let stream = AsyncSocketStream::new(fd, peer, kind, &options.stream);
        Ok(Box::new(stream.map_err(|source| ConnectError::Io { address: address.clone(), source })?))
    }

    fn listen(&self, address: &Address, _: &ListenOptions) -> Result<Box<dyn Listener>, ListenError> {
        Err(unsupported(address, "is a connected socket and cannot be listened on").into())
    }
}

/// Takes the descriptor over, after checking that it is an open stream socket.
fn take(address: &Address, options: &ConnectOptions) -> Result<(OwnedFd, Peer), ConnectError> {
    let Address::Fd(number) = *address else { return Err(unsupported(address, "is no descriptor").into()) };
    let error = |text: String| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, text);
        ConnectError::Io { address: address.clone(), source }
    };
    if number < 0 {
        return Err(error("not an open stream socket: no descriptor has a number below 0".into()));
    }
    let mut taken = TAKEN.lock();
    if taken.contains(&number) {
        return Err(error("this descriptor was taken over before".into()));
    }
    // SAFETY: only borrowed for the checks below, each of which the kernel answers with EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::net::sockopt::socket_type(borrowed)
        .and_then(
            |kind| {
                if kind == rustix::net::SocketType::STREAM { Ok(()) } else { Err(rustix::io::Errno::PROTOTYPE) }
            },
        )
        .and_then(|()| rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC))
        .and_then(|()| inline_urgent(borrowed))
        .map_err(|source| error(format!("not an open stream socket: {source}")))?;
    taken.push(number);
    // SAFETY: open, as just checked, and handed to this process by whoever wrote the address; `TAKEN` makes sure that it is
    // owned once. That no other code of this process owns it is what an `fd://` address says.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    admitted(fd, address, options)
}

/// What was taken over; a number stays here for ever, because nobody can tell its next meaning from its last.
static TAKEN: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn kind_of(peer: &Peer) -> TransportKind {
    match peer {
        Peer::Network(_) => TransportKind::Tcp,
        _ => TransportKind::Unix,
    }
}

fn unsupported(address: &Address, what: &'static str) -> TransportError {
    TransportError::Unsupported { scheme: address.scheme().to_owned(), what }
}
