//! What transports are compared with that are none of this crate's: [`genvm`], the client that GenVM has today, [`http`], the REST
//! interface that ADR-003 names as an alternative, and, with the feature `peers`, what others would reach for.
//!
//! Each appears to the workloads as one more stream: what the client writes is taken for the calls it stands for, so that every
//! workload, traces included, runs over it and every byte is checked as elsewhere. Nothing here reaches GenVM.

pub(super) mod genvm;
pub(super) mod http;
mod message;
#[cfg(feature = "peers")]
pub(super) mod peer;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::matrix::{Transport, Way};
use super::serving::World;
use crate::{BlockingStream, StreamOptions, WaitStrategy};

/// Calls the host of a library at `address`.
pub(super) fn connect(transport: Transport, address: &str, options: &StreamOptions) -> Result<Box<dyn BlockingStream>> {
    let polls = options.wait == Some(WaitStrategy::Spin);
    match transport {
        #[cfg(feature = "peers")]
        Transport::Iceoryx2 | Transport::IpcChannel | Transport::Interprocess | Transport::Tarpc => {
            peer::connect(transport, Path::new(address), polls)
        }
        _ => {
            ensure!(!polls, "{transport} cannot poll");
            Ok(Box::new(message::Messages::new(http::Http::connect(address)?)))
        }
    }
}

/// Removes what libraries leave of processes that were ended, with sockets in `folder`.
pub(super) fn sweep(folder: &Path) {
    #[cfg(feature = "peers")]
    peer::sweep(folder);
    let _ = folder;
}

/// Serves with a library for as long as the process lives. Returns the address.
pub(super) fn serve(way: &Way, address: &str, world: Arc<World>) -> Result<String> {
    match way.transport {
        #[cfg(feature = "peers")]
        Transport::Iceoryx2 | Transport::IpcChannel | Transport::Interprocess | Transport::Tarpc => {
            peer::serve(way.transport, Path::new(address), way.wait == super::matrix::Wait::Spin, world)?;
            Ok(address.to_owned())
        }
        _ => http::serve(address.strip_prefix("http+unix://").map(Path::new), world),
    }
}
