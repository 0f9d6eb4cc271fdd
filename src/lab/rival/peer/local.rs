//! interprocess: its local sockets, which are Unix-domain sockets here. It is a stream already, without a buffer; polled, it does not
//! block.

use std::hint::spin_loop;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use interprocess::local_socket::prelude::*;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, Stream};

use crate::lab::serving::World;
use crate::protocol::{Protocol, serve_blocking};
use crate::{BlockingStream, Peer, TransportKind};

/// Either end.
#[derive(Debug)]
pub(super) struct Local(Stream);

impl Local {
    pub(super) fn connect(path: &Path, polls: bool) -> Result<Self> {
        Self::new(Stream::connect(path.to_fs_name::<GenericFilePath>()?)?, polls)
    }

    fn new(stream: Stream, polls: bool) -> Result<Self> {
        stream.set_nonblocking(polls)?;
        Ok(Self(stream))
    }
}

/// Until it does not block.
fn polled(mut attempt: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => spin_loop(),
            done => return done,
        }
    }
}

impl Read for Local {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        polled(|| self.0.read(out))
    }
}

impl Write for Local {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        polled(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl BlockingStream for Local {
    fn set_read_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn peer(&self) -> &Peer {
        &Peer::Unknown
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Custom("interprocess")
    }
}

pub(super) fn serve(path: &Path, polls: bool, world: Arc<World>) -> Result<()> {
    let listener = ListenerOptions::new().name(path.to_fs_name::<GenericFilePath>()?).create_sync()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let world = world.clone();
            thread::spawn(move || {
                let served = Local::new(stream, polls)
                    .and_then(|mut stream| Ok(serve_blocking(&mut stream, &mut world.execution(), &Protocol::ONE)?));
                if let Err(error) = served {
                    eprintln!("host: {error:#}");
                }
            });
        }
    });
    Ok(())
}
