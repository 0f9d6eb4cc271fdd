//! Requests as bytes and back, without I/O: [`Request::encode`] and [`decode`].
//!
//! A request borrows its slices, so neither direction copies more than the bytes of the message. Nothing here reads,
//! waits or keeps state: [`decode`] is given what has arrived so far and starts at the message's first byte each time.

use super::error::ProtocolError;
use super::limits::Limits;
use super::method::{Method, Revision};
use super::types::{Account, ResultCode, SlotId, StorageMode, U256, UnknownByte};

/// A call, as it travels from GenVM to the host. The union over all revisions, like [`Method`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are the protocol's own
pub enum Request<'a> {
    /// The contract's input.
    GetCalldata,
    /// Bytes of any account's slot.
    StorageRead { mode: StorageMode, account: Account, slot: SlotId, index: u32, length: u32 },
    /// Bytes for a slot of the running contract.
    StorageWrite { slot: SlotId, index: u32, data: &'a [u8] },
    /// How the execution ended; the last call.
    ConsumeResult { code: ResultCode, data: &'a [u8] },
    /// What the leader got for a nondeterministic block.
    GetLeaderNondetResult { call_no: u32 },
    /// What this node, the leader, got for a nondeterministic block.
    PostNondetResult { call_no: u32, result: &'a [u8] },
    /// A message to another contract.
    PostMessage { account: Account, calldata: &'a [u8], data: &'a str },
    /// An event.
    PostEvent { topics: &'a [[u8; 32]], blob: &'a [u8] },
    /// Fuel that was used up. Has no answer.
    ConsumeFuel { gas: U256 },
    /// A contract to deploy.
    DeployContract { calldata: &'a [u8], code: &'a [u8], data: &'a str },
    /// A view call into an EVM contract.
    EthCall { account: Account, calldata: &'a [u8] },
    /// A message to an EVM contract.
    EthSend { account: Account, calldata: &'a [u8], data: &'a str },
    /// An account's balance.
    GetBalance { account: Account },
    /// Fuel that is left.
    RemainingFuelAsGen,
    /// This node got another result for a nondeterministic block than the leader. Has no answer.
    NotifyNondetDisagreement { call_no: u32 },
    /// Which executor is to run a call into another contract.
    ResolveCallcontractExecutor { account: Account, mode: StorageMode, advisory_major: u8 },
    /// An execution inside this one.
    RunNested { data: &'a [u8] },
}

impl Request<'_> {
    /// Which method it is.
    #[inline]
    pub const fn method(&self) -> Method {
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
            Self::NotifyNondetDisagreement { .. } => Method::NotifyNondetDisagreement,
            Self::ResolveCallcontractExecutor { .. } => Method::ResolveCallcontractExecutor,
            Self::RunNested { .. } => Method::RunNested,
        }
    }

    /// What a `storage_read` asks for; 0 of any other.
    pub(super) const fn read_length(&self) -> u32 {
        match self {
            Self::StorageRead { length, .. } => *length,
            _ => 0,
        }
    }

    /// Appends the request's bytes to `out`, or leaves `out` as it was: a request that [`decode`] would refuse under
    /// the same limits is refused here.
    ///
    /// # Errors
    /// The revision does not have the method, or something in it is longer than the limits allow or reaches beyond a slot's end.
    #[inline]
    pub fn encode(&self, revision: Revision, limits: &Limits, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let start = out.len();
        let result = self.encode_fields(revision, limits, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    #[inline]
    fn encode_fields(&self, revision: Revision, limits: &Limits, out: &mut Vec<u8>) -> Result<(), ProtocolError> {
        let method = self.method();
        let id = revision.id(method).ok_or(ProtocolError::NotInRevision { method, revision })?;
        let mut out = Encoder { method, limits, out };
        out.bytes(&[id]);
        match *self {
            Self::GetCalldata | Self::RemainingFuelAsGen => {}
            Self::StorageRead { mode, account, slot, index, length } => {
                check_place(method, "length", index, length.into(), limits)?;
                let fields = out.fixed::<STORAGE_READ>();
                fields[0] = mode as u8;
                fields[1..21].copy_from_slice(&account.0);
                fields[21..53].copy_from_slice(&slot.0);
                fields[53..57].copy_from_slice(&index.to_le_bytes());
                fields[57..].copy_from_slice(&length.to_le_bytes());
            }
            Self::StorageWrite { slot, index, data } => {
                let length = check_place(method, "data", index, data.len() as u64, limits)?;
                let fields = out.fixed::<STORAGE_WRITE>();
                fields[..32].copy_from_slice(&slot.0);
                fields[32..36].copy_from_slice(&index.to_le_bytes());
                fields[36..].copy_from_slice(&length.to_le_bytes());
                out.bytes(data);
            }
            Self::ConsumeResult { code, data } => {
                let length = check_length(method, "result", data.len() as u64 + 1, limits)?;
                out.u32(length);
                out.bytes(&[code as u8]);
                out.bytes(data);
            }
            Self::GetLeaderNondetResult { call_no } | Self::NotifyNondetDisagreement { call_no } => out.u32(call_no),
            Self::PostNondetResult { call_no, result } => {
                out.u32(call_no);
                out.slice("result", result)?;
            }
            Self::PostMessage { account, calldata, data } | Self::EthSend { account, calldata, data } => {
                out.bytes(&account.0);
                out.slice("calldata", calldata)?;
                out.slice("data", data.as_bytes())?;
            }
            Self::PostEvent { topics, blob } => {
                let (length, limit) = (topics.len() as u64, u8::MAX.into());
                if length > limit {
                    return Err(ProtocolError::TooLong { method, field: "topics", length, limit });
                }
                out.bytes(&[length as u8]);
                out.bytes(topics.as_flattened());
                out.slice("blob", blob)?;
            }
            Self::ConsumeFuel { gas } => out.gas(revision, gas)?,
            Self::DeployContract { calldata, code, data } => {
                out.slice("calldata", calldata)?;
                out.slice("code", code)?;
                out.slice("data", data.as_bytes())?;
            }
            Self::EthCall { account, calldata } => {
                out.bytes(&account.0);
                out.slice("calldata", calldata)?;
            }
            Self::GetBalance { account } => out.bytes(&account.0),
            Self::ResolveCallcontractExecutor { account, mode, advisory_major } => {
                out.bytes(&account.0);
                out.bytes(&[mode as u8, advisory_major]);
            }
            Self::RunNested { data } => {
                out.slice("data", data)?;
            }
        }
        Ok(())
    }
}

/// What [`decode`] found at the start of the bytes it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A whole request.
    Complete {
        /// It.
        request: Request<'a>,
        /// How many bytes it took; the next request begins there.
        consumed: usize,
    },
    /// The beginning of a request.
    Partial {
        /// Its method.
        method: Method,
        /// The field that is not complete.
        field: &'static str,
        /// How many bytes that field still lacks; the request may need more after them.
        missing: usize,
    },
    /// No byte at all: nothing has begun.
    Empty,
}

/// Bytes of fixed fields after the id.
const STORAGE_READ: usize = 1 + 20 + 32 + 4 + 4;
const STORAGE_WRITE: usize = 32 + 4 + 4;

/// Reads the request at the start of `bytes`. Wrong bytes are reported as soon as they are there, a length beyond the
/// limits before anything of what it announces has arrived.
///
/// # Errors
/// What is there is no request of the revision, or beyond the limits. That more bytes are needed is none.
#[inline]
pub fn decode<'a>(revision: Revision, bytes: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
    let Some((&id, fields)) = bytes.split_first() else {
        return Ok(Decoded::Empty);
    };
    let method = revision.method(id).ok_or(ProtocolError::UnknownMethod { id, revision })?;
    // Nearly all requests are this one. By itself it is put together where it belongs; with all others it would be moved there in
    // pieces of odd sizes, which takes longer than the rest of a call.
    if method == Method::StorageRead
        && let Some(rest) = fields.first_chunk::<STORAGE_READ>()
    {
        let request = Decoder { method, limits, rest }.storage_read();
        return decoded(method, request, 1 + STORAGE_READ);
    }
    decode_any(revision, method, bytes, limits)
}

#[inline(never)]
fn decode_any<'a>(
    revision: Revision,
    method: Method,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<'a>, ProtocolError> {
    let mut fields = Decoder { method, limits, rest: &bytes[1..] };
    let request = fields.request(revision);
    decoded(method, request, bytes.len() - fields.rest.len())
}

#[inline]
fn decoded(method: Method, request: Result<Request<'_>, Stop>, consumed: usize) -> Result<Decoded<'_>, ProtocolError> {
    match request {
        Ok(request) => Ok(Decoded::Complete { request, consumed }),
        Err(Stop::Missing { field, missing }) => Ok(Decoded::Partial { method, field, missing }),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

/// The length of a slice, if `limits` allow it.
#[inline]
pub(crate) fn check_length(
    method: Method,
    field: &'static str,
    length: u64,
    limits: &Limits,
) -> Result<u32, ProtocolError> {
    match u32::try_from(length) {
        Ok(length) if length <= limits.slice => Ok(length),
        _ => Err(ProtocolError::TooLong { method, field, length, limit: limits.slice.into() }),
    }
}

/// Checks what a call reads or writes of a slot: neither longer than the limit nor beyond the slot's end.
pub(crate) fn check_place(
    method: Method,
    field: &'static str,
    index: u32,
    length: u64,
    limits: &Limits,
) -> Result<u32, ProtocolError> {
    let length = check_length(method, field, length, limits)?;
    check_range(method, index, length)?;
    Ok(length)
}

/// Checks what `remaining_fuel_as_gen` answers at revision 1, on both ends.
pub(crate) fn check_fuel(method: Method, value: U256) -> Result<u64, ProtocolError> {
    match value.to_u64() {
        Some(fuel) if fuel <= MAX_FUEL_AS_GEN => Ok(fuel),
        _ => Err(ProtocolError::TooLarge { method, field: "fuel", value, limit: MAX_FUEL_AS_GEN }),
    }
}

#[inline]
fn check_range(method: Method, index: u32, length: u32) -> Result<(), ProtocolError> {
    if u64::from(index) + u64::from(length) <= 1 << 32 {
        Ok(())
    } else {
        Err(ProtocolError::BeyondSlot { method, index, length })
    }
}

/// The most that `remaining_fuel_as_gen` may answer at revision 1: 2^53 − 1, what a double holds exactly.
pub const MAX_FUEL_AS_GEN: u64 = (1 << 53) - 1;

struct Encoder<'a> {
    method: Method,
    limits: &'a Limits,
    out: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    /// The next `N` bytes, to be filled in: one look at the vector's capacity for all of a request's fixed fields.
    #[inline]
    fn fixed<const N: usize>(&mut self) -> &mut [u8; N] {
        let start = self.out.len();
        self.out.resize(start + N, 0);
        self.out[start..].first_chunk_mut().expect("N bytes were just added")
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    #[inline]
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    #[inline]
    fn slice(&mut self, field: &'static str, bytes: &[u8]) -> Result<u32, ProtocolError> {
        let length = check_length(self.method, field, bytes.len() as u64, self.limits)?;
        self.u32(length);
        self.bytes(bytes);
        Ok(length)
    }

    /// An amount of gas, in the width that the revision gives it.
    fn gas(&mut self, revision: Revision, gas: U256) -> Result<(), ProtocolError> {
        match revision {
            Revision::One => match gas.to_u64() {
                Some(gas) => self.bytes(&gas.to_le_bytes()),
                None => {
                    let (method, limit) = (self.method, u64::MAX);
                    return Err(ProtocolError::TooLarge { method, field: "gas", value: gas, limit });
                }
            },
            Revision::Two => self.bytes(&gas.0),
        }
        Ok(())
    }
}

enum Stop {
    Missing { field: &'static str, missing: usize },
    Wrong(ProtocolError),
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::Wrong(error)
    }
}

struct Decoder<'a, 'l> {
    method: Method,
    limits: &'l Limits,
    /// What has arrived and is not decoded yet.
    rest: &'a [u8],
}

impl<'a> Decoder<'a, '_> {
    #[inline]
    fn request(&mut self, revision: Revision) -> Result<Request<'a>, Stop> {
        Ok(match self.method {
            Method::GetCalldata => Request::GetCalldata,
            Method::StorageRead => self.storage_read()?,
            Method::StorageWrite => {
                let slot = SlotId(self.array("slot")?);
                let index = self.u32("index")?;
                let length = self.length("data")?;
                check_range(self.method, index, length)?;
                Request::StorageWrite { slot, index, data: self.take("data", length as usize)? }
            }
            Method::ConsumeResult => {
                let Some(rest) = self.length("result")?.checked_sub(1) else {
                    return Err(ProtocolError::NoResultCode { method: self.method, field: "result" }.into());
                };
                Request::ConsumeResult {
                    code: self.byte_enum("result code")?,
                    data: self.take("result", rest as usize)?,
                }
            }
            Method::GetLeaderNondetResult => Request::GetLeaderNondetResult { call_no: self.u32("call_no")? },
            Method::PostNondetResult => {
                Request::PostNondetResult { call_no: self.u32("call_no")?, result: self.slice("result")? }
            }
            Method::PostMessage => Request::PostMessage {
                account: Account(self.array("account")?),
                calldata: self.slice("calldata")?,
                data: self.text("data")?,
            },
            Method::PostEvent => {
                let topics = usize::from(self.u8("topics")?);
                let (topics, _) = self.take("topics", topics * 32)?.as_chunks();
                Request::PostEvent { topics, blob: self.slice("blob")? }
            }
            Method::ConsumeFuel => Request::ConsumeFuel { gas: self.gas(revision)? },
            Method::DeployContract => Request::DeployContract {
                calldata: self.slice("calldata")?,
                code: self.slice("code")?,
                data: self.text("data")?,
            },
            Method::EthCall => {
                Request::EthCall { account: Account(self.array("account")?), calldata: self.slice("calldata")? }
            }
            Method::EthSend => Request::EthSend {
                account: Account(self.array("account")?),
                calldata: self.slice("calldata")?,
                data: self.text("data")?,
            },
            Method::GetBalance => Request::GetBalance { account: Account(self.array("account")?) },
            Method::RemainingFuelAsGen => Request::RemainingFuelAsGen,
            Method::NotifyNondetDisagreement => Request::NotifyNondetDisagreement { call_no: self.u32("call_no")? },
            Method::ResolveCallcontractExecutor => Request::ResolveCallcontractExecutor {
                account: Account(self.array("account")?),
                mode: self.byte_enum("mode")?,
                advisory_major: self.u8("advisory_major")?,
            },
            Method::RunNested => Request::RunNested { data: self.slice("data")? },
        })
    }

    #[inline]
    fn storage_read(&mut self) -> Result<Request<'a>, Stop> {
        let mode = self.byte_enum("mode")?;
        let account = self.bytes("account")?;
        let slot = self.bytes("slot")?;
        let index = self.u32("index")?;
        let length = self.length("length")?;
        check_range(self.method, index, length)?;
        Ok(Request::StorageRead { mode, account: Account(*account), slot: SlotId(*slot), index, length })
    }

    #[inline]
    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], Stop> {
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Stop::Missing { field, missing: length - self.rest.len() }),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Stop> {
        self.bytes(field).copied()
    }

    #[inline]
    fn bytes<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], Stop> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Stop::Missing { field, missing: N - self.rest.len() }),
        }
    }

    #[inline]
    fn u8(&mut self, field: &'static str) -> Result<u8, Stop> {
        self.array(field).map(u8::from_le_bytes)
    }

    #[inline]
    fn u32(&mut self, field: &'static str) -> Result<u32, Stop> {
        self.array(field).map(u32::from_le_bytes)
    }

    #[inline]
    fn length(&mut self, field: &'static str) -> Result<u32, Stop> {
        let length = self.u32(field)?;
        Ok(check_length(self.method, field, length.into(), self.limits)?)
    }

    #[inline]
    fn slice(&mut self, field: &'static str) -> Result<&'a [u8], Stop> {
        let length = self.length(field)?;
        self.take(field, length as usize)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str, Stop> {
        let method = self.method;
        Ok(str::from_utf8(self.slice(field)?).map_err(|source| ProtocolError::NotUtf8 { method, field, source })?)
    }

    #[inline]
    fn byte_enum<T: TryFrom<u8, Error = UnknownByte>>(&mut self, field: &'static str) -> Result<T, Stop> {
        let method = self.method;
        Ok(T::try_from(self.u8(field)?).map_err(|source| ProtocolError::UnknownByte { method, field, source })?)
    }

    /// An amount of gas, in the width that the revision gives it.
    fn gas(&mut self, revision: Revision) -> Result<U256, Stop> {
        match revision {
            Revision::One => self.array("gas").map(|gas| u64::from_le_bytes(gas).into()),
            Revision::Two => self.array("gas").map(U256),
        }
    }
}
