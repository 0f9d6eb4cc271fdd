//! HTTP/1.1 with keep-alive: hyper calls, axum serves. A connection is an execution, as on the other transports.
//!
//! | call | request | answer |
//! | --- | --- | --- |
//! | `storage_read` | `GET /storage/{account}/{slot}?mode=&index=&len=` | 200 and the bytes |
//! | `storage_write` | `PUT /storage/{slot}?index=` and the bytes | 204 |
//! | any other | `POST /call`, the request as on the wire | 200, the answer as on the wire |
//!
//! A status of the protocol is 409 with its byte. Accounts and slots are hexadecimal. Nothing is compressed, no header is added that
//! the two libraries do not add.

use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{Method as Verb, Request as HttpRequest, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;

use super::message::Exchange;
use crate::lab::serving::World;
use crate::protocol::{
    Account, BlockingHostHandler, Decoded, Execution, HandlerError, Limits, Request, Revision, SlotId, Status,
    StorageMode, decode,
};

/// Calls over HTTP.
pub(in crate::lab) struct Http {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
}

impl Http {
    /// Connects to `http+unix:///path` or `http://host:port`.
    pub(in crate::lab) fn connect(address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sender = runtime.block_on(async {
            match address.strip_prefix("http+unix://") {
                Some(path) => shake_hands(UnixStream::connect(path).await?).await,
                None => {
                    let stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
                    stream.set_nodelay(true)?;
                    shake_hands(stream).await
                }
            }
        });
        Ok(Self { runtime, sender: sender.with_context(|| format!("cannot connect to {address}"))? })
    }
}

impl Exchange for Http {
    const NAME: &'static str = "http";

    /// A request of HTTP for each call that is whole, one after another.
    fn exchange(&mut self, requests: &[u8], answers: &mut Vec<u8>) -> io::Result<usize> {
        let mut done = 0;
        while let Decoded::Complete { request, consumed } =
            decode(Revision::One, &requests[done..], &Limits::DEFAULT).map_err(io::Error::other)?
        {
            let bytes = &requests[done..done + consumed];
            let (call, prefix) = http_request(&request, bytes);
            let sender = &mut self.sender;
            let (status, body) = self
                .runtime
                .block_on(async {
                    sender.ready().await?;
                    let response = sender.send_request(call).await?;
                    let status = response.status();
                    Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
                })
                .map_err(io::Error::other)?;
            if status == StatusCode::CONFLICT || prefix == Prefix::AsOnTheWire && status == StatusCode::OK {
                answers.extend_from_slice(&body);
            } else if status.is_success() {
                answers.push(0);
                answers.extend_from_slice(&body);
            } else {
                return Err(io::Error::other(format!("HTTP status {status}")));
            }
            done += consumed;
        }
        Ok(done)
    }
}

/// What stands in front of a body in the protocol's answer.
#[derive(PartialEq, Eq)]
enum Prefix {
    AsOnTheWire,
    Ok,
}

async fn shake_hands(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<SendRequest<Full<Bytes>>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        let _ = connection.await; // its end is told to the sender as well
    });
    Ok(sender)
}

/// The call, and what its answer lacks.
fn http_request(request: &Request<'_>, bytes: &[u8]) -> (HttpRequest<Full<Bytes>>, Prefix) {
    let (verb, path, body, prefix) = match request {
        Request::StorageRead { mode, account, slot, index, length } => {
            let (account, slot, mode) = (hex(&account.0), hex(&slot.0), *mode as u8);
            let path = format!("/storage/{account}/{slot}?mode={mode}&index={index}&len={length}");
            (Verb::GET, path, Bytes::new(), Prefix::Ok)
        }
        Request::StorageWrite { slot, index, data } => {
            let path = format!("/storage/{}?index={index}", hex(&slot.0));
            (Verb::PUT, path, Bytes::copy_from_slice(data), Prefix::Ok)
        }
        _ => (Verb::POST, "/call".to_owned(), Bytes::copy_from_slice(bytes), Prefix::AsOnTheWire),
    };
    let request = HttpRequest::builder().method(verb).uri(path).header("host", "host").body(Full::new(body));
    (request.expect("a path of hexadecimal digits"), prefix)
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(bytes)
}

/// Serves at `socket`, or at a port of the loopback if there is none, for as long as the process lives. Returns the address.
pub(in crate::lab) fn serve(socket: Option<&FilePath>, world: Arc<World>) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let _inside = runtime.enter();
    let address = match socket {
        Some(path) => {
            let _ = std::fs::remove_file(path); // of a host of an earlier round, which was stopped
            let listener = UnixListener::bind(path)?;
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(connection(stream, world.execution()));
                }
            });
            format!("http+unix://{}", path.display())
        }
        None => {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let address = format!("http://{}", listener.local_addr()?);
            runtime.spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    if stream.set_nodelay(true).is_ok() {
                        tokio::spawn(connection(stream, world.execution()));
                    }
                }
            });
            address
        }
    };
    std::mem::forget(runtime); // it ends with the process
    Ok(address)
}

type Shared = Arc<Mutex<Execution>>;

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, execution: Execution) {
    let router = Router::new()
        .route("/storage/{account}/{slot}", get(read))
        .route("/storage/{slot}", axum::routing::put(write))
        .route("/call", post(call))
        .layer(axum::extract::DefaultBodyLimit::max(Limits::DEFAULT.slice as usize * 2))
        .with_state(Arc::new(Mutex::new(execution)));
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served
        && !error.is_incomplete_message()
    {
        eprintln!("host: {error}");
    }
}

#[derive(Deserialize)]
struct Range {
    #[serde(default)]
    mode: u8,
    index: u32,
    #[serde(default)]
    len: u32,
}

async fn read(
    State(execution): State<Shared>,
    Path((account, slot)): Path<(String, String)>,
    Query(Range { mode, index, len }): Query<Range>,
) -> Response {
    let (Some(account), Some(slot), Ok(mode)) = (unhex(&account), unhex(&slot), StorageMode::try_from(mode)) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if len > Limits::DEFAULT.slice || u64::from(index) + u64::from(len) > 1 << 32 {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let mut bytes = vec![0; len as usize];
    let read = BlockingHostHandler::storage_read(
        &mut *execution.lock(),
        mode,
        &Account(account),
        &SlotId(slot),
        index,
        &mut bytes,
    );
    answer(read, bytes)
}

async fn write(
    State(execution): State<Shared>,
    Path(slot): Path<String>,
    Query(Range { index, .. }): Query<Range>,
    data: Bytes,
) -> Response {
    let Some(slot) = unhex(&slot) else { return StatusCode::BAD_REQUEST.into_response() };
    if u64::from(index) + data.len() as u64 > 1 << 32 {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let written = BlockingHostHandler::storage_write(&mut *execution.lock(), &SlotId(slot), index, &data);
    match written {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        error => answer(error, Vec::new()),
    }
}

fn answer(result: Result<(), HandlerError>, bytes: Vec<u8>) -> Response {
    let byte = |status: Status| Revision::One.status_byte(status);
    match result {
        Ok(()) => bytes.into_response(),
        Err(HandlerError::Status(status)) => {
            (StatusCode::CONFLICT, Body::from(Vec::from_iter(byte(status)))).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Any call, served as it would be on a stream of its own.
async fn call(State(execution): State<Shared>, request: Bytes) -> Response {
    match super::message::answer(&mut execution.lock(), &request) {
        Ok(bytes) => bytes.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_there_and_back() {
        let bytes: [u8; 32] = std::array::from_fn(|place| place as u8 * 7);
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        for wrong in ["", "0", "zz", "0é", "00ff"] {
            assert_eq!(unhex::<1>(wrong), None, "{wrong}");
        }
    }
}
