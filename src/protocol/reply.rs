//! Receiving an answer, as [`HostClient`](super::HostClient) does: never more bytes than belong to it where its size is
//! known, and memory only for bytes that have arrived.

use std::io::{self, Read};
use std::ops::Range;

use super::codec::{check_fuel, check_length};
use super::error::ProtocolError;
use super::limits::Limits;
use super::method::{Method, Revision};
use super::types::{LeaderResult, ResultCode, Status, U256, UnknownByte};

/// What a call of any method brings back, when it is not made by the method of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// It was done; there is nothing more to say.
    Done,
    /// `get_calldata`, `storage_read`, `eth_call`, `resolve_callcontract_executor`, `run_nested`: bytes.
    Bytes(Vec<u8>),
    /// `get_leader_nondet_result`
    Leader(LeaderResult),
    /// `get_balance`
    Balance(U256),
    /// `remaining_fuel_as_gen`
    Fuel(U256),
}

/// Why there is no reply.
pub(super) enum Fault {
    Status(Status),
    Io(io::Error),
    Protocol(ProtocolError),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ProtocolError> for Fault {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

/// The stream that replies come from, and the one on its way in.
pub(super) struct Replies<S> {
    pub(super) stream: S,
    pub(super) revision: Revision,
    pub(super) limits: Limits,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was read from the stream and is not used up; empty between calls.
    received: Range<usize>,
    /// Whether answers to later calls are on their way: then the stream is read for them as well.
    pub(super) ahead: bool,
    /// Bytes of answers that were used.
    #[cfg(feature = "metrics")]
    pub(super) used: u64,
}

impl<S> Replies<S> {
    pub(super) fn new(stream: S, revision: Revision, limits: Limits) -> Self {
        Self {
            stream,
            revision,
            limits,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            received: 0..0,
            ahead: false,
            #[cfg(feature = "metrics")]
            used: 0,
        }
    }
}

impl<S: Read> Replies<S> {
    /// The answer to any method; `length` is what a `storage_read` asked for.
    pub(super) fn reply(&mut self, method: Method, length: u32) -> Result<Reply, Fault> {
        Ok(match method {
            Method::GetCalldata | Method::EthCall | Method::ResolveCallcontractExecutor => {
                Reply::Bytes(self.slice(method)?)
            }
            Method::RunNested => Reply::Bytes(self.bare_slice(method)?),
            Method::StorageRead => {
                self.status(method, length as usize)?;
                Reply::Bytes(self.growing(method, length)?)
            }
            Method::GetLeaderNondetResult => Reply::Leader(self.leader_result(method)?),
            Method::GetBalance => Reply::Balance(self.balance(method)?),
            Method::RemainingFuelAsGen => Reply::Fuel(self.fuel(method)?),
            Method::ConsumeResult => {
                self.acknowledgement(method)?;
                Reply::Done
            }
            Method::ConsumeFuel | Method::NotifyNondetDisagreement => Reply::Done,
            Method::StorageWrite
            | Method::PostNondetResult
            | Method::PostMessage
            | Method::PostEvent
            | Method::DeployContract
            | Method::EthSend => {
                self.status_only(method)?;
                Reply::Done
            }
        })
    }

    /// The status, together with as much of the `follows` bytes after it as the stream has. An answer too long for
    /// the buffer stays in the stream, for [`exact`](Self::exact) to put where it belongs.
    #[inline]
    pub(super) fn status(&mut self, method: Method, follows: usize) -> Result<(), Fault> {
        match self.revision.status(self.first(method, "status", follows)?) {
            Ok(Status::Ok) => Ok(()),
            Ok(status) => Err(self.end(method).err().unwrap_or(Fault::Status(status))),
            Err(source) => Err(ProtocolError::UnknownByte { method, field: "status", source }.into()),
        }
    }

    #[inline]
    pub(super) fn status_only(&mut self, method: Method) -> Result<(), Fault> {
        self.status(method, 0)
    }

    /// The answer to `consume_result`: not a status, just a zero.
    pub(super) fn acknowledgement(&mut self, method: Method) -> Result<(), Fault> {
        match self.first(method, "acknowledgement", 0)? {
            0 => Ok(()),
            byte => {
                let source = UnknownByte { byte, what: "acknowledgement", expected: "0" };
                Err(ProtocolError::UnknownByte { method, field: "acknowledgement", source }.into())
            }
        }
    }

    pub(super) fn slice(&mut self, method: Method) -> Result<Vec<u8>, Fault> {
        self.status(method, self.buffer.len() - 1)?;
        self.bare_slice(method)
    }

    /// A slice without a status in front of it.
    pub(super) fn bare_slice(&mut self, method: Method) -> Result<Vec<u8>, Fault> {
        let length = self.length(method)?;
        self.growing(method, length)
    }

    pub(super) fn leader_result(&mut self, method: Method) -> Result<LeaderResult, Fault> {
        match self.status(method, self.buffer.len() - 1) {
            Err(Fault::Status(Status::IAmLeader)) => return Ok(LeaderResult::IAmLeader),
            Err(Fault::Status(Status::Absent)) => return Ok(LeaderResult::Absent),
            other => other?,
        }
        let Some(rest) = self.length(method)?.checked_sub(1) else {
            return Err(ProtocolError::NoResultCode { method, field: "result" }.into());
        };
        let [code] = self.array(method, "result code")?;
        let code = ResultCode::try_from(code).map_err(|source| ProtocolError::UnknownByte {
            method,
            field: "result code",
            source,
        })?;
        Ok(LeaderResult::Result { code, data: self.growing(method, rest)? })
    }

    pub(super) fn balance(&mut self, method: Method) -> Result<U256, Fault> {
        self.status(method, 32)?;
        self.array(method, "balance").map(U256)
    }

    pub(super) fn fuel(&mut self, method: Method) -> Result<U256, Fault> {
        match self.revision {
            Revision::One => {
                self.status(method, 8)?;
                let fuel = self.array(method, "fuel").map(u64::from_le_bytes)?;
                Ok(check_fuel(method, fuel.into())?.into())
            }
            Revision::Two => {
                self.status(method, 32)?;
                self.array(method, "fuel").map(U256)
            }
        }
    }

    /// The reply is complete: nobody asked for more, unless it was asked for ahead.
    #[inline]
    pub(super) fn end(&mut self, method: Method) -> Result<(), Fault> {
        if self.received.is_empty() || self.ahead {
            return Ok(());
        }
        Err(ProtocolError::Surplus { method, bytes: self.received.len() as u64 }.into())
    }

    fn length(&mut self, method: Method) -> Result<u32, Fault> {
        let length = self.array(method, "length").map(u32::from_le_bytes)?;
        Ok(check_length(method, "length", length.into(), &self.limits)?)
    }

    /// `length` bytes; the room for them doubles only when it has been filled.
    fn growing(&mut self, method: Method, length: u32) -> Result<Vec<u8>, Fault> {
        let length = length as usize;
        let mut data = Vec::new();
        while data.len() < length {
            let filled = data.len();
            let room = filled.max(BUFFER).min(length - filled);
            data.resize(filled + room, 0);
            self.exact(method, "data", &mut data[filled..])?;
        }
        Ok(data)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self, method: Method, field: &'static str) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.exact(method, field, &mut bytes)?;
        Ok(bytes)
    }

    /// The first byte of the answer, and into the buffer what of the next `follows` bytes comes with it.
    #[inline]
    fn first(&mut self, method: Method, field: &'static str, follows: usize) -> Result<u8, Fault> {
        if self.received.is_empty() {
            let ask = match follows {
                _ if self.ahead => self.buffer.len(),
                follows if follows < self.buffer.len() => 1 + follows,
                _ => 1,
            };
            self.received = 0..read(&mut self.stream, &mut self.buffer[..ask])?;
            if self.received.is_empty() {
                return Err(ProtocolError::Truncated { method, field, missing: 1 }.into());
            }
        }
        let first = self.buffer[self.received.start];
        self.received.start += 1;
        self.count(1);
        Ok(first)
    }

    /// So many bytes belong to the answer.
    #[inline]
    fn count(&mut self, _bytes: usize) {
        #[cfg(feature = "metrics")]
        {
            self.used += _bytes as u64;
        }
    }

    /// Fills `out`, first with what was received, then from the stream: straight, or, where what follows `out` may be there as well
    /// and `out` is small, with as much as there is.
    #[inline]
    pub(super) fn exact(&mut self, method: Method, field: &'static str, out: &mut [u8]) -> Result<(), Fault> {
        self.count(out.len());
        let mut filled = self.received.len().min(out.len());
        out[..filled].copy_from_slice(&self.buffer[self.received.start..][..filled]);
        self.received.start += filled;
        while filled < out.len() {
            if self.ahead && out.len() - filled < self.buffer.len() {
                let received = read(&mut self.stream, &mut self.buffer)?;
                let used = received.min(out.len() - filled);
                out[filled..filled + used].copy_from_slice(&self.buffer[..used]);
                self.received = used..received;
                if received == 0 {
                    let missing = (out.len() - filled) as u64;
                    return Err(ProtocolError::Truncated { method, field, missing }.into());
                }
                filled += used;
                continue;
            }
            match read(&mut self.stream, &mut out[filled..])? {
                0 => {
                    let missing = (out.len() - filled) as u64;
                    return Err(ProtocolError::Truncated { method, field, missing }.into());
                }
                received => filled += received,
            }
        }
        Ok(())
    }
}

fn read<S: Read>(stream: &mut S, out: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(out) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Answers up to this size, a page and its status among them, arrive in one `read`; a larger `storage_read` takes one
/// for its status, and the data goes to the caller's buffer without a copy.
const BUFFER: usize = 8 << 10;
