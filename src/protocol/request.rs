//! [`Request`]: what GenVM sends, to bytes and back. Sans I/O and without allocation; answers are read by the
//! [client](super::client) and written by the [serve loop](super::serve), for they need the call that they answer.

use super::error::ProtocolError;
use super::method::{Method, Revision};
use super::types::{Account, Limits, ResultCode, SlotId, StorageMode};

/// One request. Borrows its variable parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the protocol's; `HostClient` documents what each does")]
#[non_exhaustive]
pub enum Request<'a> {
    GetCalldata,
    StorageRead { mode: StorageMode, account: Account, slot: SlotId, index: u32, len: u32 },
    StorageWrite { slot: SlotId, index: u32, data: &'a [u8] },
    ConsumeResult { code: ResultCode, data: &'a [u8] },
    GetLeaderNondetResult { call_no: u32 },
    PostNondetResult { call_no: u32, result: &'a [u8] },
    PostMessage { account: Account, calldata: &'a [u8], data: &'a str },
    PostEvent { topics: &'a [[u8; 32]], blob: &'a [u8] },
    ConsumeFuel { gas: u64 },
    DeployContract { calldata: &'a [u8], code: &'a [u8], data: &'a str },
    EthCall { account: Account, calldata: &'a [u8] },
    EthSend { account: Account, calldata: &'a [u8], data: &'a str },
    GetBalance { account: Account },
    RemainingFuelAsGen,
}

/// What [`Request::decode`] made of the bytes that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole request.
    Complete {
        /// The request, borrowing from the bytes.
        request: Request<'a>,
        /// How many bytes it took.
        consumed: usize,
    },
    /// The start of one.
    Partial {
        /// How many bytes there must be, counted from the first, before trying again is worth it.
        need: usize,
        /// The method, if its id is there.
        method: Option<Method>,
        /// The field that is cut off.
        field: &'static str,
    },
}

impl<'a> Request<'a> {
    /// Which method it asks for.
    pub fn method(&self) -> Method {
        match self {
            Self::GetCalldata => Method::GetCalldata,
            Self::StorageRead { .. } => Method::StorageRead,
            Self::StorageWrite { .. } => Method::StorageWrite,
            Self::ConsumeResult { .. } => Method::ConsumeResult,
            Self::GetLeaderNondetResult { .. } => Method::GetLeaderNondetResult,
            Self::PostNondetResult { .. } => Method::PostNondetResult,
            Self::PostMessage { .. } => Method::PostMessage,
            Self::PostEvent { .. } => Method::PostEvent,
            Self::ConsumeFuel { .. } => Method::ConsumeFuel,
            Self::DeployContract { .. } => Method::DeployContract,
            Self::EthCall { .. } => Method::EthCall,
            Self::EthSend { .. } => Method::EthSend,
            Self::GetBalance { .. } => Method::GetBalance,
            Self::RemainingFuelAsGen => Method::RemainingFuelAsGen,
        }
    }

    /// Appends the request to `out`. On an error `out` is as it was: an argument does not fit the protocol.
    pub fn encode(&self, revision: Revision, limits: &Limits, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let method = self.method();
        let id = revision.id(method).ok_or(ProtocolError::NotInRevision { method, revision })?;
        let start = out.len();
        out.push(id);
        let encoded = self.encode_fields(&mut Writer { method, limits, out });
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }

    fn encode_fields(&self, to: &mut Writer<'_>) -> Result<(), ProtocolError> {
        match *self {
            Self::GetCalldata | Self::RemainingFuelAsGen => {}
            Self::StorageRead { mode, account, slot, index, len } => {
                check_range(to.method, index, len.into())?;
                check_length(to.method, "len", len.into(), to.limits)?;
                to.put(&[mode as u8]).put(&account.0).put(&slot.0).put(&index.to_le_bytes()).put(&len.to_le_bytes());
            }
            Self::StorageWrite { slot, index, data } => {
                check_range(to.method, index, data.len() as u64)?;
                to.put(&slot.0).put(&index.to_le_bytes()).slice("data", &[data])?;
            }
            Self::ConsumeResult { code, data } => to.slice("result", &[&[code as u8], data])?,
            Self::GetLeaderNondetResult { call_no } => _ = to.put(&call_no.to_le_bytes()),
            Self::PostNondetResult { call_no, result } => to.put(&call_no.to_le_bytes()).slice("result", &[result])?,
            Self::PostMessage { account, calldata, data } | Self::EthSend { account, calldata, data } => {
                to.put(&account.0).slice("calldata", &[calldata])?;
                to.slice("data", &[data.as_bytes()])?;
            }
            Self::PostEvent { topics, blob } => {
                let count = u8::try_from(topics.len()).map_err(|_| ProtocolError::TooLong {
                    method: to.method,
                    field: "topics",
                    seen: topics.len() as u64,
                    limit: u8::MAX.into(),
                })?;
                to.put(&[count]).put(topics.as_flattened()).slice("blob", &[blob])?;
            }
            Self::ConsumeFuel { gas } => _ = to.put(&gas.to_le_bytes()),
            Self::DeployContract { calldata, code, data } => {
                to.slice("calldata", &[calldata])?;
                to.slice("code", &[code])?;
                to.slice("data", &[data.as_bytes()])?;
            }
            Self::EthCall { account, calldata } => to.put(&account.0).slice("calldata", &[calldata])?,
            Self::GetBalance { account } => _ = to.put(&account.0),
        }
        Ok(())
    }

    /// Reads the request that `bytes` start with. A length is checked against `limits` as soon as it is there, not only when
    /// its bytes are.
    pub fn decode(revision: Revision, bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let Some((&id, rest)) = bytes.split_first() else {
            return Ok(Decoded::Partial { need: 1, method: None, field: "method" });
        };
        let method = revision.method(id).ok_or(ProtocolError::UnknownMethod { id, revision })?;
        let mut fields = Reader { method, limits, rest, taken: 1 };
        match Self::decode_fields(&mut fields) {
            Ok(request) => Ok(Decoded::Complete { request, consumed: fields.taken }),
            Err(Stop::Partial { need, field }) => Ok(Decoded::Partial { need, method: Some(method), field }),
            Err(Stop::Error(error)) => Err(error),
        }
    }

    fn decode_fields(from: &mut Reader<'a, '_>) -> Result<Self, Stop> {
        Ok(match from.method {
            Method::GetCalldata => Self::GetCalldata,
            Method::StorageRead => {
                let mode = StorageMode::from_byte(from.array::<1>("mode")?[0], from.method)?;
                let (account, slot) = (Account(from.array("account")?), SlotId(from.array("slot")?));
                let (index, len) = (from.u32("index")?, from.u32("len")?);
                check_length(from.method, "len", len.into(), from.limits)?;
                check_range(from.method, index, len.into())?;
                Self::StorageRead { mode, account, slot, index, len }
            }
            Method::StorageWrite => {
                let (slot, index, data) = (SlotId(from.array("slot")?), from.u32("index")?, from.slice("data")?);
                check_range(from.method, index, data.len() as u64)?;
                Self::StorageWrite { slot, index, data }
            }
            Method::ConsumeResult => {
                let result = from.slice("result")?;
                let Some((&code, data)) = result.split_first() else {
                    return Err(Stop::Error(ProtocolError::Truncated {
                        method: Some(from.method),
                        field: "result code",
                    }));
                };
                Self::ConsumeResult { code: ResultCode::from_byte(code, from.method)?, data }
            }
            Method::GetLeaderNondetResult => Self::GetLeaderNondetResult { call_no: from.u32("call_no")? },
            Method::PostNondetResult => {
                Self::PostNondetResult { call_no: from.u32("call_no")?, result: from.slice("result")? }
            }
            Method::PostMessage => Self::PostMessage {
                account: Account(from.array("account")?),
                calldata: from.slice("calldata")?,
                data: from.text("data")?,
            },
            Method::PostEvent => {
                let count = from.array::<1>("topics_len")?[0];
                let (topics, _) = from.take(usize::from(count) * 32, "topics")?.as_chunks();
                Self::PostEvent { topics, blob: from.slice("blob")? }
            }
            Method::ConsumeFuel => Self::ConsumeFuel { gas: u64::from_le_bytes(from.array("gas")?) },
            Method::DeployContract => Self::DeployContract {
                calldata: from.slice("calldata")?,
                code: from.slice("code")?,
                data: from.text("data")?,
            },
            Method::EthCall => {
                Self::EthCall { account: Account(from.array("account")?), calldata: from.slice("calldata")? }
            }
            Method::EthSend => Self::EthSend {
                account: Account(from.array("account")?),
                calldata: from.slice("calldata")?,
                data: from.text("data")?,
            },
            Method::GetBalance => Self::GetBalance { account: Account(from.array("account")?) },
            Method::RemainingFuelAsGen => Self::RemainingFuelAsGen,
        })
    }
}

/// A slice's length against the limit.
pub(super) fn check_length(
    method: Method,
    field: &'static str,
    seen: u64,
    limits: &Limits,
) -> Result<(), ProtocolError> {
    let limit = u64::from(limits.slice);
    if seen > limit { Err(ProtocolError::TooLong { method, field, seen, limit }) } else { Ok(()) }
}

fn check_range(method: Method, index: u32, len: u64) -> Result<(), ProtocolError> {
    if u64::from(index) + len > 1 << 32 { Err(ProtocolError::Range { method, index, len }) } else { Ok(()) }
}

struct Writer<'a> {
    method: Method,
    limits: &'a Limits,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.out.extend_from_slice(bytes);
        self
    }

    /// A length and the parts one after another.
    fn slice(&mut self, field: &'static str, parts: &[&[u8]]) -> Result<(), ProtocolError> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        check_length(self.method, field, len as u64, self.limits)?;
        self.put(&(len as u32).to_le_bytes());
        parts.iter().for_each(|part| _ = self.put(part));
        Ok(())
    }
}

struct Reader<'a, 'l> {
    method: Method,
    limits: &'l Limits,
    rest: &'a [u8],
    taken: usize,
}

enum Stop {
    Partial { need: usize, field: &'static str },
    Error(ProtocolError),
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Error(error)
    }
}

impl<'a> Reader<'a, '_> {
    fn take(&mut self, n: usize, field: &'static str) -> Result<&'a [u8], Stop> {
        let Some((taken, rest)) = self.rest.split_at_checked(n) else {
            return Err(Stop::Partial { need: self.taken + n, field });
        };
        self.rest = rest;
        self.taken += n;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Stop> {
        Ok(self.take(N, field)?.try_into().expect("N bytes"))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32, Stop> {
        self.array(field).map(u32::from_le_bytes)
    }

    fn slice(&mut self, field: &'static str) -> Result<&'a [u8], Stop> {
        let len = self.u32(field)?;
        check_length(self.method, field, len.into(), self.limits)?;
        self.take(len as usize, field)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, Stop> {
        let method = self.method;
        std::str::from_utf8(self.slice(field)?).map_err(|_| ProtocolError::Text { method, field }.into())
    }
}
