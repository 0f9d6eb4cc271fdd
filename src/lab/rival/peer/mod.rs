//! What somebody would reach for who needed calls between two processes and did not know this crate: [`iceoryx`], [`channel`]
//! (ipc-channel), [`local`] (interprocess) and [`rpc`] (tarpc), each with the versions that `Cargo.toml` pins.
//!
//! They carry the same bytes between the same client and the same serve loop. iceoryx2 and ipc-channel have no notion of a connection
//! to a host that serves many, so both ends meet at a Unix socket first; its end tells either that the other is gone.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};

use super::message::Messages;
use crate::BlockingStream;
use crate::lab::matrix::Transport;
use crate::lab::serving::World;
use crate::protocol::{Protocol, serve_blocking};

mod channel;
mod iceoryx;
mod local;
mod rpc;

pub(super) use iceoryx::sweep;

/// Connects to the host at `path`; with `polls`, no end sleeps.
pub(in crate::lab) fn connect(transport: Transport, path: &Path, polls: bool) -> Result<Box<dyn BlockingStream>> {
    let stream: Result<Box<dyn BlockingStream>> = match transport {
        Transport::Iceoryx2 => iceoryx::Caller::connect(path, polls).map(|caller| Box::new(Messages::new(caller)) as _),
        Transport::IpcChannel => {
            channel::Caller::connect(path, polls).map(|caller| Box::new(Messages::new(caller)) as _)
        }
        Transport::Interprocess => local::Local::connect(path, polls).map(|stream| Box::new(stream) as _),
        Transport::Tarpc => rpc::Caller::connect(path).map(|caller| Box::new(Messages::new(caller)) as _),
        other => unreachable!("{other} is none of the peers"),
    };
    stream.with_context(|| format!("cannot connect to {transport} at {}", path.display()))
}

/// Serves at `path` for as long as the process lives.
pub(in crate::lab) fn serve(transport: Transport, path: &Path, polls: bool, world: Arc<World>) -> Result<()> {
    let _ = std::fs::remove_file(path); // of a host of an earlier round, which was stopped
    match transport {
        Transport::Iceoryx2 => {
            let number = std::sync::atomic::AtomicUsize::new(0);
            let host = path.to_owned();
            accept(path, world, move |socket| {
                iceoryx::Host::accept(&host, number.fetch_add(1, Ordering::Relaxed), socket, polls)
            })
        }
        Transport::IpcChannel => accept(path, world, move |socket| channel::Host::accept(socket, polls)),
        Transport::Interprocess => local::serve(path, polls, world),
        Transport::Tarpc => rpc::serve(path, world),
        other => unreachable!("{other} is none of the peers"),
    }
}

/// The host's end of a rival that carries messages.
trait Requests {
    /// Sends the answer to the last message, if there was one, and waits for the next. `false` if the client has gone.
    fn next(&mut self, answers: &[u8], requests: &mut Vec<u8>) -> io::Result<bool>;
}

/// What a serve loop reads and writes. It wants to read when it has answered everything that it read.
struct Served<R> {
    requests: R,
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
    /// The client has gone.
    ended: bool,
}

impl<R: Requests> Read for Served<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.read == self.input.len() {
            self.input.clear();
            self.read = 0;
            if !self.requests.next(&self.output, &mut self.input)? {
                self.ended = true;
                return Ok(0);
            }
            self.output.clear();
        }
        let n = (&self.input[self.read..]).read(out)?;
        self.read += n;
        Ok(n)
    }
}

impl<R> Write for Served<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A thread for each client that comes to the socket at `path`.
fn accept<R: Requests>(
    path: &Path,
    world: Arc<World>,
    meet: impl Fn(UnixStream) -> Result<R> + Send + Sync + 'static,
) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    let meet = Arc::new(meet);
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let (meet, world) = (meet.clone(), world.clone());
            thread::spawn(move || {
                let served = meet(socket).and_then(|requests| {
                    let mut stream = Served { requests, input: Vec::new(), read: 0, output: Vec::new(), ended: false };
                    serve_blocking(&mut stream, &mut world.execution(), &Protocol::ONE)?;
                    if !stream.ended {
                        // The answer to the last message, after which the client goes.
                        stream.requests.next(&stream.output, &mut stream.input)?;
                    }
                    Ok(())
                });
                if let Err(error) = served {
                    eprintln!("host: {error:#}");
                }
            });
        }
    });
    Ok(())
}

/// Whether the other end of a socket that carries nothing any more is gone.
struct Watch {
    gone: Arc<AtomicBool>,
    socket: UnixStream,
}

impl Watch {
    fn new(socket: UnixStream) -> io::Result<Self> {
        let (mut theirs, gone) = (socket.try_clone()?, Arc::new(AtomicBool::new(false)));
        let flag = gone.clone();
        thread::spawn(move || {
            let _ = theirs.read(&mut [0]);
            flag.store(true, Ordering::Release);
        });
        Ok(Self { gone, socket })
    }

    fn gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both); // which ends the thread
    }
}

fn hung_up() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
