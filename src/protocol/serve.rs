//! The host's side of the conversation: [`serve`] on tokio, [`serve_blocking`] on a thread. One call serves one connection.
//!
//! Requests that arrive together are answered in order and their answers go out together, which is how a client pipelines
//! over today's wire. Memory is bounded: a request is held as far as it has arrived, answers up to 64 KiB.

use std::io::{ErrorKind, Read, Write};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::error::{Answer, HandlerError, ProtocolError, ServeError};
use super::handler::{BlockingHostHandler, HostHandler};
use super::input::InputBuffer;
use super::method::{Method, Revision};
use super::request::{Decoded, Request};
use super::types::{LeaderResult, Limits, Status};

/// How serving ended, if it did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The result was consumed and acknowledged.
    Finished,
    /// GenVM closed the stream between two requests, without a result.
    Closed,
}

/// The whole loop, once, with nothing or `.await` behind whatever may wait.
macro_rules! conversation {
    ($stream:ident, $handler:ident, $limits:ident, [$($wait:tt)*]) => {{
        let revision = Revision::One;
        let mut input = InputBuffer::default();
        let mut output = Vec::new();
        loop {
            let (request, consumed) = match Request::decode(revision, input.bytes(), $limits)? {
                Decoded::Complete { request, consumed } => (request, consumed),
                Decoded::Partial { method, field, .. } => {
                    // Nothing more to answer from: say what there is before waiting.
                    if !output.is_empty() {
                        $stream.write_all(&output)$($wait)*?;
                        output.clear();
                        $stream.flush()$($wait)*?;
                    }
                    match $stream.read(input.room())$($wait)* {
                        Ok(0) if input.bytes().is_empty() => return Ok(Served::Closed),
                        Ok(0) => return Err(ProtocolError::Truncated { method, field }.into()),
                        Ok(n) => input.filled(n),
                        // Gone with answers that it never read: it closed all the same.
                        Err(error) if error.kind() == ErrorKind::ConnectionReset && input.bytes().is_empty() => {
                            return Ok(Served::Closed);
                        }
                        Err(error) if error.kind() == ErrorKind::Interrupted => {}
                        Err(error) => return Err(error.into()),
                    }
                    continue;
                }
            };
            let method = request.method();
            match request {
                Request::GetCalldata => slice(&mut output, method, $handler.get_calldata()$($wait)*)?,
                Request::StorageRead { mode, account, slot, index, len } => {
                    let (mut at, mut left) = (index, len as usize);
                    loop {
                        let (piece, start) = (left.min(PIECE), output.len());
                        // The status of the first piece is the status of all.
                        let first = usize::from(at == index && left == len as usize);
                        output.resize(start + first + piece, Status::Ok as u8);
                        let out = &mut output[start + first..];
                        match $handler.storage_read(mode, &account, &slot, at, out)$($wait)* {
                            Ok(()) => {}
                            Err(error) if first == 1 => {
                                output.truncate(start);
                                refuse(&mut output, method, error)?;
                                break;
                            }
                            Err(error) => return Err(given_up(method, error)),
                        }
                        left -= piece;
                        if left == 0 {
                            break;
                        }
                        at += piece as u32;
                        $stream.write_all(&output)$($wait)*?;
                        output.clear();
                    }
                }
                Request::StorageWrite { slot, index, data } => {
                    done(&mut output, method, $handler.storage_write(&slot, index, data)$($wait)*)?
                }
                Request::ConsumeResult { code, data } => {
                    match $handler.consume_result(code, data)$($wait)* {
                        Ok(()) => output.push(0),
                        Err(error) => return Err(given_up(method, error)),
                    }
                    $stream.write_all(&output)$($wait)*?;
                    $stream.flush()$($wait)*?;
                    return Ok(Served::Finished);
                }
                Request::GetLeaderNondetResult { call_no } => {
                    leader(&mut output, method, $handler.get_leader_nondet_result(call_no)$($wait)*)?
                }
                Request::PostNondetResult { call_no, result } => {
                    done(&mut output, method, $handler.post_nondet_result(call_no, result)$($wait)*)?
                }
                Request::PostMessage { account, calldata, data } => {
                    done(&mut output, method, $handler.post_message(&account, calldata, data)$($wait)*)?
                }
                Request::PostEvent { topics, blob } => {
                    done(&mut output, method, $handler.post_event(topics, blob)$($wait)*)?
                }
                Request::ConsumeFuel { gas } => match $handler.consume_fuel(gas)$($wait)* {
                    Ok(()) | Err(HandlerError::Status(_)) => {}
                    Err(error) => return Err(given_up(method, error)),
                },
                Request::DeployContract { calldata, code, data } => {
                    done(&mut output, method, $handler.deploy_contract(calldata, code, data)$($wait)*)?
                }
                Request::EthCall { account, calldata } => {
                    slice(&mut output, method, $handler.eth_call(&account, calldata)$($wait)*)?
                }
                Request::EthSend { account, calldata, data } => {
                    done(&mut output, method, $handler.eth_send(&account, calldata, data)$($wait)*)?
                }
                Request::GetBalance { account } => {
                    fixed(&mut output, method, $handler.get_balance(&account)$($wait)*.map(|balance| balance.0))?
                }
                Request::RemainingFuelAsGen => {
                    let fuel = $handler.remaining_fuel_as_gen()$($wait)*;
                    fixed(&mut output, method, fuel.map(|fuel| fuel.min(MAX_FUEL).to_le_bytes()))?
                }
            }
            input.consume(consumed);
            if output.len() >= PIECE {
                $stream.write_all(&output)$($wait)*?;
                output.clear();
                output.shrink_to(2 * PIECE);
            }
        }
    }};
}

/// Serves one GenVM until it has handed over its result, on a thread that may block. Takes the stream's timeouts as they are: an
/// expired one is an error here.
///
/// A panic of the handler unwinds through this function; the stream is closed with it.
pub fn serve_blocking<S, H>(stream: &mut S, handler: &mut H, limits: &Limits) -> Result<Served, ServeError>
where
    S: Read + Write + ?Sized,
    H: BlockingHostHandler + ?Sized,
{
    conversation!(stream, handler, limits, [])
}

/// Serves one GenVM until it has handed over its result, on tokio.
///
/// # Cancel safety
/// Dropping the future between requests loses nothing; inside of one the conversation cannot be taken up again.
pub async fn serve<S, H>(stream: &mut S, handler: &mut H, limits: &Limits) -> Result<Served, ServeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + ?Sized,
    H: HostHandler + ?Sized,
{
    conversation!(stream, handler, limits, [.await])
}

/// A status alone.
fn done(output: &mut Vec<u8>, method: Method, answer: Answer<()>) -> Result<(), ServeError> {
    fixed(output, method, answer.map(|()| []))
}

/// A status and bytes whose number the protocol fixes.
fn fixed<const N: usize>(output: &mut Vec<u8>, method: Method, answer: Answer<[u8; N]>) -> Result<(), ServeError> {
    match answer {
        Ok(bytes) => {
            output.push(Status::Ok as u8);
            output.extend_from_slice(&bytes);
            Ok(())
        }
        Err(error) => refuse(output, method, error),
    }
}

/// A status and a slice.
fn slice(output: &mut Vec<u8>, method: Method, answer: Answer<Vec<u8>>) -> Result<(), ServeError> {
    match answer {
        Ok(bytes) => {
            let len = length(method, bytes.len())?;
            output.push(Status::Ok as u8);
            output.extend_from_slice(&len);
            output.extend_from_slice(&bytes);
            Ok(())
        }
        Err(error) => refuse(output, method, error),
    }
}

/// A status and, if there is a result, its code and data as one slice.
fn leader(output: &mut Vec<u8>, method: Method, answer: Answer<LeaderResult>) -> Result<(), ServeError> {
    match answer {
        Ok(LeaderResult::IAmLeader) => output.push(Status::IAmLeader as u8),
        Ok(LeaderResult::Absent) => output.push(Status::Absent as u8),
        Ok(LeaderResult::Result { code, data }) => {
            let len = length(method, data.len() + 1)?;
            output.push(Status::Ok as u8);
            output.extend_from_slice(&len);
            output.push(code as u8);
            output.extend_from_slice(&data);
        }
        Err(error) => refuse(output, method, error)?,
    }
    Ok(())
}

/// A status that is not `Ok`; anything else ends the connection.
fn refuse(output: &mut Vec<u8>, method: Method, error: HandlerError) -> Result<(), ServeError> {
    match error {
        HandlerError::Status(status) if status != Status::Ok => {
            output.push(status as u8);
            Ok(())
        }
        error => Err(given_up(method, error)),
    }
}

fn given_up(method: Method, error: HandlerError) -> ServeError {
    let source = match error {
        HandlerError::Failed(source) => source,
        HandlerError::Status(status) => format!("{status:?} is no answer here").into(),
    };
    ServeError::Handler { method, source }
}

fn length(method: Method, len: usize) -> Result<[u8; 4], ServeError> {
    match u32::try_from(len) {
        Ok(len) => Ok(len.to_le_bytes()),
        Err(_) => Err(given_up(method, HandlerError::failed("an answer of 4 GiB or more"))),
    }
}

/// Answers go out when they have reached this size; a `storage_read` is answered in pieces of it.
const PIECE: usize = 64 << 10;
/// Beyond this a number of GEN is not exact in a double, which is what contracts see.
const MAX_FUEL: u64 = (1 << 53) - 1;
