//! ipc-channel: a channel of bytes each way. The client makes a one-shot server, and tells its name to the host, which sends the ends
//! of two channels there.

use std::hint::spin_loop;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::Result;
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};
use ipc_channel::{IpcError, TryRecvError};

use super::super::message::Exchange;
use super::{Requests, hung_up};

type Ends = (IpcBytesSender, IpcBytesReceiver);

pub(super) struct Caller {
    requests: IpcBytesSender,
    answers: IpcBytesReceiver,
    polls: bool,
}

impl Caller {
    pub(super) fn connect(path: &Path, polls: bool) -> Result<Self> {
        let mut socket = UnixStream::connect(path)?;
        let (server, name) = IpcOneShotServer::<Ends>::new()?;
        writeln!(socket, "{name}")?;
        let (_, (requests, answers)) = server.accept().map_err(said)?;
        Ok(Self { requests, answers, polls })
    }
}

impl Exchange for Caller {
    const NAME: &'static str = "ipc-channel";

    fn exchange(&mut self, requests: &[u8], answers: &mut Vec<u8>) -> io::Result<usize> {
        self.requests.send(requests)?;
        answers.extend(receive(&self.answers, self.polls)?.ok_or_else(hung_up)?);
        Ok(requests.len())
    }
}

pub(super) struct Host {
    requests: IpcBytesReceiver,
    answers: IpcBytesSender,
    polls: bool,
    answering: bool,
}

impl Host {
    pub(super) fn accept(socket: UnixStream, polls: bool) -> Result<Self> {
        let mut name = String::new();
        BufReader::new(socket).read_line(&mut name)?;
        let (their_requests, requests) = ipc::bytes_channel()?;
        let (answers, their_answers) = ipc::bytes_channel()?;
        let client = IpcSender::<Ends>::connect(name.trim_end().to_owned())?;
        client.send((their_requests, their_answers)).map_err(said)?;
        Ok(Self { requests, answers, polls, answering: false })
    }
}

impl Requests for Host {
    fn next(&mut self, answers: &[u8], requests: &mut Vec<u8>) -> io::Result<bool> {
        if self.answering {
            self.answers.send(answers)?;
        }
        let Some(message) = receive(&self.requests, self.polls)? else { return Ok(false) };
        *requests = message;
        self.answering = true;
        Ok(true)
    }
}

/// The next message, or `None` if there will be none.
fn receive(from: &IpcBytesReceiver, polls: bool) -> io::Result<Option<Vec<u8>>> {
    let ended = |error| match error {
        IpcError::Disconnected => Ok(None),
        error => Err(said(error)),
    };
    if !polls {
        return from.recv().map(Some).or_else(ended);
    }
    loop {
        match from.try_recv() {
            Ok(message) => return Ok(Some(message)),
            Err(TryRecvError::Empty) => spin_loop(),
            Err(TryRecvError::IpcError(error)) => return ended(error),
        }
    }
}

fn said(error: IpcError) -> io::Error {
    io::Error::other(error.to_string())
}
