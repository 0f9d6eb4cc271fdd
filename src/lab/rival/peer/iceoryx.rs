//! iceoryx2: request and response in shared memory, a service for each connection. It has no way to sleep for a response, so a sleeping
//! end waits for an event of its own, which the other sends after each message.

use std::fmt::Debug;
use std::hint::spin_loop;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use iceoryx2::active_request::ActiveRequest;
use iceoryx2::port::client::Client;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::server::Server;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::request_response::PortFactory;
use parking_lot::Mutex;

use super::super::message::Exchange;
use super::{Requests, Watch, hung_up};

/// Streams and works are sent between threads, and what `ipc::Service` makes cannot be.
type Service = ipc_threadsafe::Service;
type Calls = PortFactory<Service, [u8], (), [u8], ()>;
type Message = ActiveRequest<Service, [u8], (), [u8], ()>;

/// A process makes one node, for all its connections.
static NODE: Mutex<Option<Node<Service>>> = Mutex::new(None);

/// How one end waits for the other, and tells it that it need not.
struct Bell {
    listener: Listener<Service>,
    notifier: Notifier<Service>,
}

/// What both ends have.
struct End {
    /// Only if this end sleeps.
    bell: Option<Bell>,
    watch: Watch,
}

impl End {
    /// The service of connection `number` at `path`, made by the `host`, and what belongs to it.
    fn new(path: &Path, number: usize, host: bool, polls: bool, socket: UnixStream) -> Result<(Calls, Self)> {
        let mut node = NODE.lock();
        if node.is_none() {
            set_log_level(LogLevel::Fatal);
            *node = Some(said(
                NodeBuilder::new()
                    .config(&config(path)?)
                    .signal_handling_mode(SignalHandlingMode::Disabled)
                    .create::<Service>(),
            )?);
        }
        let node = node.as_ref().context("made just now")?;
        let host_name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = |what: &str| said(ServiceName::new(&format!("{host_name}/{number}/{what}")));
        let builder = node.service_builder(&name("calls")?).request_response::<[u8], [u8]>();
        let calls = if host { said(builder.create())? } else { said(builder.open())? };
        let bell = if polls {
            None
        } else {
            let event =
                |what| Ok::<_, anyhow::Error>(said(node.service_builder(&name(what)?).event().open_or_create())?);
            let (to_host, to_client) = (event("to host")?, event("to client")?);
            let (ours, theirs) = if host { (to_host, to_client) } else { (to_client, to_host) };
            let listener = said(ours.listener_builder().create())?;
            Some(Bell { listener, notifier: said(theirs.notifier_builder().create())? })
        };
        Ok((calls, Self { bell, watch: Watch::new(socket)? }))
    }

    /// Waits until there is something, or the peer has gone.
    fn wait<T>(&self, mut poll: impl FnMut() -> io::Result<Option<T>>) -> io::Result<Option<T>> {
        loop {
            let found = poll()?;
            if found.is_some() || self.watch.gone() {
                return Ok(found);
            }
            match &self.bell {
                None => spin_loop(),
                Some(bell) => drop(said(bell.listener.timed_wait_one(PATIENCE))?),
            }
        }
    }

    fn wake(&self) -> io::Result<()> {
        match &self.bell {
            None => Ok(()),
            Some(bell) => said(bell.notifier.notify()).map(drop),
        }
    }
}

pub(super) struct Caller {
    client: Client<Service, [u8], (), [u8], ()>,
    end: End,
}

impl Caller {
    pub(super) fn connect(path: &Path, polls: bool) -> Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        let mut number = [0; 8];
        socket.read_exact(&mut number)?; // when the host has made the service
        let (calls, end) = End::new(path, usize::from_le_bytes(number), false, polls, socket)?;
        let client = calls.client_builder().initial_max_slice_len(SLICE);
        let client = said(client.allocation_strategy(AllocationStrategy::PowerOfTwo).create())?;
        Ok(Self { client, end })
    }
}

impl Exchange for Caller {
    const NAME: &'static str = "iceoryx2";

    fn exchange(&mut self, requests: &[u8], answers: &mut Vec<u8>) -> io::Result<usize> {
        let message = said(self.client.loan_slice_uninit(requests.len()))?;
        let pending = said(message.write_from_slice(requests).send())?;
        self.end.wake()?;
        let answer = self.end.wait(|| said(pending.receive()))?.ok_or_else(hung_up)?;
        answers.extend_from_slice(answer.payload());
        Ok(requests.len())
    }
}

pub(super) struct Host {
    /// Of the last message. It must outlive its answer.
    active: Option<Message>,
    server: Server<Service, [u8], (), [u8], ()>,
    end: End,
}

impl Host {
    pub(super) fn accept(path: &Path, number: usize, socket: UnixStream, polls: bool) -> Result<Self> {
        let mut ready = socket.try_clone()?;
        let (calls, end) = End::new(path, number, true, polls, socket)?;
        let server = calls.server_builder().initial_max_slice_len(SLICE);
        let server = said(server.allocation_strategy(AllocationStrategy::PowerOfTwo).create())?;
        ready.write_all(&number.to_le_bytes())?;
        Ok(Self { active: None, server, end })
    }
}

impl Requests for Host {
    fn next(&mut self, answers: &[u8], requests: &mut Vec<u8>) -> io::Result<bool> {
        if let Some(active) = &self.active {
            let message = said(active.loan_slice_uninit(answers.len()))?;
            said(message.write_from_slice(answers).send())?;
            self.end.wake()?;
        }
        self.active = self.end.wait(|| said(self.server.receive()))?;
        if let Some(active) = &self.active {
            requests.extend_from_slice(active.payload());
        }
        Ok(self.active.is_some())
    }
}

/// Files are in the folder of the socket, and segments have its name in front of theirs: what is left over can be found.
fn config(path: &Path) -> Result<Config> {
    let folder = path.parent().context("a socket is in a folder")?;
    let mut config = Config::default();
    let root = folder.join("iceoryx2").to_string_lossy().into_owned();
    config.global.set_root_path(&said(iceoryx2::prelude::Path::new(root.as_bytes()))?);
    config.global.prefix = said(FileName::new(prefix(folder).as_bytes()))?;
    Ok(config)
}

fn prefix(folder: &Path) -> String {
    format!("{}_", folder.file_name().unwrap_or_default().to_string_lossy())
}

/// Removes the segments of processes that were ended with sockets in `folder`.
pub(in crate::lab::rival) fn sweep(folder: &Path) {
    let prefix = prefix(folder);
    for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn said<T, E: Debug>(result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| io::Error::other(format!("{error:?}")))
}

/// Bytes that a message may have at first; more is mapped when it is needed.
const SLICE: usize = 8 << 10;
/// How often a sleeping end looks whether the other is still there.
const PATIENCE: Duration = Duration::from_millis(20);
