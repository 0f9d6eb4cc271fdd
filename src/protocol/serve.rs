//! The host's end: [`serve_blocking`] and [`serve()`] read requests, put them to a handler and write its answers.
//!
//! The two differ in `.await` and nothing else; macros write both. They do not accept connections, run handlers side by
//! side, or time out.
//!
//! Answers gather in a buffer that is written and flushed before the loop waits for more input, so a client that has
//! one call in flight gets one `write` an answer, and one that pipelines gets many answers with it. What a client can
//! make this end hold is bounded: requests by [`Limits`] and by what it really sends, answers by 128 KiB plus what
//! a handler returns.

use std::io::{self, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::buffer::InputBuffer;
use super::codec::{Decoded, Request, check_fuel, check_length, decode};
use super::error::{Answer, HandlerError, ProtocolError, ServeError};
use super::handler::{BlockingHostHandler, HostHandler};
use super::limits::Limits;
use super::method::{Method, Revision};
use super::terms::Protocol;
use super::types::{Account, LeaderResult, SlotId, Status, StorageMode};

/// How a connection ended that was served to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Served {
    /// `consume_result` was answered. Bytes after it, if any, were not looked at; at revision 2 there were calls or none, and then the
    /// client closed.
    Finished,
    /// The client closed, or died, between two calls; it may not have read the last answers.
    Closed,
}

macro_rules! serve {
    ($answer:ident, $stream:ident, $handler:ident, $protocol:ident, [$($await:tt)*]) => {{
        let Protocol { revision, limits, hello } = $protocol;
        // What is still to come of it.
        let mut hello = &hello[..];
        let mut finished = false;
        let mut input = InputBuffer::new();
        let mut output = Vec::new();
        let mut unflushed = false;
        let served = loop {
            if !hello.is_empty() {
                let matched = hello.iter().zip(input.unread()).take_while(|(agreed, came)| agreed == came).count();
                if matched < hello.len().min(input.unread().len()) {
                    break Err(no_hello($protocol, hello.len() - matched));
                }
                input.consume(matched);
                hello = &hello[matched..];
            }
            let at_end = match decode(*revision, input.unread(), limits) {
                _ if !hello.is_empty() && hello.len() < $protocol.hello.len() => Err(no_hello($protocol, hello.len())),
                Ok(Decoded::Complete { ref request, consumed }) => {
                    let method = request.method();
                    if let Err(error) = $answer($stream, $handler, $protocol, request, &mut output) $($await)* {
                        break Err(error);
                    }
                    input.consume(consumed);
                    unflushed |= method.is_answered();
                    if method == Method::ConsumeResult {
                        finished = true;
                        if *revision == Revision::One {
                            break Ok(Served::Finished);
                        }
                    }
                    continue;
                }
                Ok(Decoded::Partial { method, field, missing }) => {
                    Err(ProtocolError::Truncated { method, field, missing: missing as u64 }.into())
                }
                Ok(Decoded::Empty) if finished => Ok(Served::Finished),
                Ok(Decoded::Empty) => Ok(Served::Closed),
                Err(error) => break Err(error.into()),
            };
            if unflushed {
                $stream.write_all(&output) $($await)* ?;
                $stream.flush() $($await)* ?;
                output.clear();
                unflushed = false;
            }
            match $stream.read(input.spare()) $($await)* {
                Ok(0) => break at_end,
                Ok(received) => input.filled(received),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A socket's way to say that the client went away without reading its last answers.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && at_end.is_ok() => break at_end,
                Err(error) => break Err(error.into()),
            }
        };
        // What came before the end or before a fault is answered all the same, as if nothing had been pipelined.
        if unflushed && !matches!(served, Err(ServeError::Io(_))) {
            let flushed = match $stream.write_all(&output) $($await)* {
                Ok(()) => $stream.flush() $($await)*,
                Err(error) => Err(error),
            };
            if served.is_ok() {
                flushed?;
            }
        }
        served
    }};
}

/// The client's first bytes are not those agreed on; `missing` of them did not come.
#[cold]
fn no_hello(protocol: &Protocol, missing: usize) -> ServeError {
    let expected = protocol.hello.len();
    ProtocolError::Hello { expected, matched: expected - missing }.into()
}

/// Serves one connection on this thread until GenVM hands over its result or closes; at revision 2 until it closes.
///
/// # Errors
/// The stream failed, GenVM broke the protocol, or the handler failed or answered what the method cannot be answered. The connection is
/// over.
///
/// A panic in the handler unwinds through here; drop the stream then, and GenVM sees it closed.
pub fn serve_blocking<S: Read + Write, H: BlockingHostHandler + ?Sized>(
    stream: &mut S,
    handler: &mut H,
    protocol: &Protocol,
) -> Result<Served, ServeError> {
    serve!(answer_blocking, stream, handler, protocol, [])
}

/// Serves one connection on a tokio task until GenVM hands over its result or closes; at revision 2 until it closes.
///
/// # Errors
/// As [`serve_blocking`].
///
/// # Cancel safety
/// Not cancel safe: a dropped future may have read requests that nobody will answer. Drop the stream with it.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send, H: HostHandler + ?Sized>(
    stream: &mut S,
    handler: &mut H,
    protocol: &Protocol,
) -> Result<Served, ServeError> {
    serve!(answer_async, stream, handler, protocol, [.await])
}

macro_rules! answer {
    ([$($async:tt)?] fn $name:ident<S: [$($stream:tt)*], H: $handler:ident>, $read:path, [$($await:tt)*]) => {
        /// Puts one request to the handler and appends the answer to `output`. Writes `output` out only when it has
        /// become long; on an error it holds no part of this answer.
        $($async)? fn $name<S: $($stream)*, H: $handler + ?Sized>(
            stream: &mut S,
            handler: &mut H,
            protocol: &Protocol,
            request: &Request<'_>,
            output: &mut Vec<u8>,
        ) -> Result<(), ServeError> {
            let Protocol { revision, limits, .. } = protocol;
            let revision = *revision;
            let method = request.method();
            // Looked at where it is: moving it takes as long as decoding it.
            let bulk = match *request {
                Request::GetCalldata => slice(revision, method, handler.get_calldata() $($await)*, limits, output)?,
                Request::StorageRead { mode, ref account, ref slot, index, length } => {
                    let mut done = 0;
                    loop {
                        let start = output.len();
                        let data = start + usize::from(done == 0);
                        let piece = (length - done).min(PIECE);
                        // The status is a zero as well.
                        output.resize(data + piece as usize, OK);
                        let read = $read(handler, mode, account, slot, index + done, &mut output[data..]) $($await)*;
                        if let Err(error) = read {
                            output.truncate(start);
                            if done > 0 {
                                return Err(unanswerable(method, error));
                            }
                            refuse(revision, method, error, output)?;
                            break Bulk::NONE;
                        }
                        done += piece;
                        if done == length {
                            break Bulk::NONE;
                        }
                        stream.write_all(output) $($await)* ?;
                        output.clear();
                    }
                }
                Request::StorageWrite { ref slot, index, data } => {
                    status(revision, method, handler.storage_write(slot, index, data) $($await)*, output)?
                }
                Request::ConsumeResult { code, data } => {
                    handler.consume_result(code, data) $($await)* .map_err(|error| unanswerable(method, error))?;
                    output.push(0);
                    Bulk::NONE
                }
                Request::GetLeaderNondetResult { call_no } => {
                    leader_result(revision, method, handler.get_leader_nondet_result(call_no) $($await)*, limits, output)?
                }
                Request::PostNondetResult { call_no, result } => {
                    status(revision, method, handler.post_nondet_result(call_no, result) $($await)*, output)?
                }
                Request::PostMessage { account, calldata, data } => {
                    status(revision, method, handler.post_message(&account, calldata, data) $($await)*, output)?
                }
                Request::PostEvent { topics, blob } => {
                    status(revision, method, handler.post_event(topics, blob) $($await)*, output)?
                }
                Request::ConsumeFuel { gas } => {
                    handler.consume_fuel(gas) $($await)* .map_err(|error| unanswerable(method, error))?;
                    Bulk::NONE
                }
                Request::DeployContract { calldata, code, data } => {
                    status(revision, method, handler.deploy_contract(calldata, code, data) $($await)*, output)?
                }
                Request::EthCall { account, calldata } => {
                    slice(revision, method, handler.eth_call(&account, calldata) $($await)*, limits, output)?
                }
                Request::EthSend { account, calldata, data } => {
                    status(revision, method, handler.eth_send(&account, calldata, data) $($await)*, output)?
                }
                Request::GetBalance { account } => {
                    value(revision, method, handler.get_balance(&account) $($await)* .map(|balance| balance.0), output)?
                }
                Request::RemainingFuelAsGen => {
                    let fuel = handler.remaining_fuel_as_gen() $($await)*;
                    match revision {
                        Revision::One => {
                            let fuel = fuel.and_then(|fuel| check_fuel(method, fuel).map_err(HandlerError::failed));
                            value(revision, method, fuel.map(u64::to_le_bytes), output)?
                        }
                        Revision::Two => value(revision, method, fuel.map(|fuel| fuel.0), output)?,
                    }
                }
                Request::NotifyNondetDisagreement { call_no } => {
                    let noted = handler.notify_nondet_disagreement(call_no) $($await)*;
                    noted.map_err(|error| unanswerable(method, error))?;
                    Bulk::NONE
                }
                Request::ResolveCallcontractExecutor { account, mode, advisory_major } => {
                    let executor = handler.resolve_callcontract_executor(&account, mode, advisory_major) $($await)*;
                    slice(revision, method, executor, limits, output)?
                }
                Request::RunNested { data } => {
                    let result = handler.run_nested(data) $($await)* .map_err(|error| unanswerable(method, error))?;
                    prefixed(method, &[], &[], result, limits, output)?
                }
            };
            if !bulk.0.is_empty() || output.len() > OUTPUT {
                stream.write_all(output) $($await)* ?;
                output.clear();
                stream.write_all(&bulk.0) $($await)* ?;
            }
            Ok(())
        }
    };
}

answer!([] fn answer_blocking<S: [Read + Write], H: BlockingHostHandler>, BlockingHostHandler::storage_read, []);
answer!([async] fn answer_async<S: [AsyncRead + AsyncWrite + Unpin + Send], H: HostHandler>, read_async, [.await]);

async fn read_async<H: HostHandler + ?Sized>(
    handler: &mut H,
    mode: StorageMode,
    account: &Account,
    slot: &SlotId,
    index: u32,
    out: &mut [u8],
) -> Answer<()> {
    match handler.storage_read_now(mode, account, slot, index, out) {
        Some(answer) => answer,
        None => handler.storage_read(mode, account, slot, index, out).await,
    }
}

/// The rest of an answer that is too long to be worth copying into the output buffer.
struct Bulk(Vec<u8>);

impl Bulk {
    const NONE: Self = Self(Vec::new());
}

fn status(revision: Revision, method: Method, answer: Answer<()>, output: &mut Vec<u8>) -> Result<Bulk, ServeError> {
    value(revision, method, answer.map(|()| []), output)
}

fn value<const N: usize>(
    revision: Revision,
    method: Method,
    answer: Answer<[u8; N]>,
    output: &mut Vec<u8>,
) -> Result<Bulk, ServeError> {
    match answer {
        Ok(value) => {
            output.push(OK);
            output.extend_from_slice(&value);
        }
        Err(error) => refuse(revision, method, error, output)?,
    }
    Ok(Bulk::NONE)
}

fn slice(
    revision: Revision,
    method: Method,
    answer: Answer<Vec<u8>>,
    limits: &Limits,
    output: &mut Vec<u8>,
) -> Result<Bulk, ServeError> {
    match answer {
        Ok(data) => prefixed(method, &[OK], &[], data, limits, output),
        Err(error) => refuse(revision, method, error, output).map(|()| Bulk::NONE),
    }
}

fn leader_result(
    revision: Revision,
    method: Method,
    answer: Answer<LeaderResult>,
    limits: &Limits,
    output: &mut Vec<u8>,
) -> Result<Bulk, ServeError> {
    let status = match answer {
        Ok(LeaderResult::Result { code, data }) => {
            return prefixed(method, &[OK], &[code as u8], data, limits, output);
        }
        Ok(LeaderResult::IAmLeader) => Status::IAmLeader.into(),
        Ok(LeaderResult::Absent) => Status::Absent.into(),
        Err(error) => error,
    };
    refuse(revision, method, status, output).map(|()| Bulk::NONE)
}

/// Appends `status` and a slice made of `first` and `data`; long data is handed back instead of copied.
fn prefixed(
    method: Method,
    status: &[u8],
    first: &[u8],
    data: Vec<u8>,
    limits: &Limits,
    output: &mut Vec<u8>,
) -> Result<Bulk, ServeError> {
    let length = check_length(method, "answer", (first.len() + data.len()) as u64, limits)
        .map_err(|error| ServeError::Handler { method, source: error.into() })?;
    output.extend_from_slice(status);
    output.extend_from_slice(&length.to_le_bytes());
    output.extend_from_slice(first);
    if data.len() > PIECE as usize {
        return Ok(Bulk(data));
    }
    output.extend_from_slice(&data);
    Ok(Bulk::NONE)
}

fn refuse(revision: Revision, method: Method, error: HandlerError, output: &mut Vec<u8>) -> Result<(), ServeError> {
    match error {
        HandlerError::Status(status) if status != Status::Ok && revision.status_byte(status).is_some() => {
            output.extend(revision.status_byte(status));
            Ok(())
        }
        error => Err(unanswerable(method, error)),
    }
}

fn unanswerable(method: Method, error: HandlerError) -> ServeError {
    match error {
        HandlerError::Status(status) => ServeError::Unanswerable { method, status },
        HandlerError::Failed(source) => ServeError::Handler { method, source },
    }
}

/// The status of all that went well, at every revision.
const OK: u8 = 0;

/// A `storage_read` is answered in pieces of at most this many bytes: memory must not follow a length that the peer
/// merely announced, and a client copies one piece while the next is read. With a half as much 64 KiB take up to a tenth less over shared
/// memory, and up to an eighth longer over a sleeping socket.
const PIECE: u32 = 32 << 10;

/// Answers to pipelined requests are written out when they have become longer than this.
const OUTPUT: usize = 64 << 10;
