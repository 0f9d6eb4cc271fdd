//! [`HostClient`]: GenVM's side of the conversation, blocking.
//!
//! One request is one write, one answer of ordinary size one read; neither allocates once the buffers are warm. It does not
//! retry, reconnect or time anything: timeouts are the stream's.

use std::io::{self, Read, Write};

use super::error::{CallError, ProtocolError};
use super::input::InputBuffer;
use super::method::{Method, Revision};
use super::request::{Request, check_length};
use super::types::{Account, LeaderResult, Limits, ResultCode, SlotId, Status, StorageMode, U256};

/// A client over any ordered byte stream: one of this crate's, a `std::os::unix::net::UnixStream`, or GenVM's own.
///
/// ```
/// # use genvm_transport::protocol::{serve_blocking, Account, Environment, HostClient, HostState, Limits, ResultCode, SlotId, StorageMode};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
/// let host = std::thread::spawn(move || {
///     let mut execution = HostState::new().begin(Environment::new(Account([1; 20])));
///     serve_blocking(&mut theirs, &mut execution, &Limits::default())
/// });
///
/// let mut client = HostClient::new(ours);
/// let slot = SlotId([7; 32]);
/// client.storage_write(&slot, 30, b"hello")?;
/// let mut value = [0; 8];
/// client.storage_read(StorageMode::Default, &Account([1; 20]), &slot, 28, &mut value)?;
/// assert_eq!(&value, b"\0\0hello\0");
/// client.consume_result(ResultCode::Return, b"")?;
/// # host.join().unwrap()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HostClient<S> {
    stream: S,
    revision: Revision,
    limits: Limits,
    /// The request that is being sent; kept for its memory.
    output: Vec<u8>,
    input: InputBuffer,
    dead: bool,
}

impl<S: Read + Write> HostClient<S> {
    /// A client of revision 1 with the default limits. Says nothing to the host yet.
    pub fn new(stream: S) -> Self {
        Self::with_limits(stream, Limits::default())
    }

    /// A client that neither asks for nor accepts more than `limits`.
    pub fn with_limits(stream: S, limits: Limits) -> Self {
        let (output, input) = (Vec::new(), InputBuffer::default());
        Self { stream, revision: Revision::One, limits, output, input, dead: false }
    }

    /// The message's calldata.
    pub fn get_calldata(&mut self) -> Result<Vec<u8>, CallError> {
        self.call(Method::GetCalldata, Request::GetCalldata, |client| {
            client.ok_and_slice(Method::GetCalldata, "calldata")
        })
    }

    /// Fills `out` from a slot, starting at byte `index`. Bytes never written are zero.
    pub fn storage_read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        const METHOD: Method = Method::StorageRead;
        let Ok(len) = u32::try_from(out.len()) else {
            let limit = self.limits.slice.into();
            return Err(CallError::Argument(ProtocolError::TooLong {
                method: METHOD,
                field: "len",
                seen: out.len() as u64,
                limit,
            }));
        };
        let request = Request::StorageRead { mode, account: *account, slot: *slot, index, len };
        self.call(METHOD, request, |client| {
            client.ok(METHOD)?;
            client.exact(METHOD, "data", out)
        })
    }

    /// Writes into a slot of the running contract, starting at byte `index`.
    pub fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), CallError> {
        let request = Request::StorageWrite { slot: *slot, index, data };
        self.call(Method::StorageWrite, request, |client| client.ok(Method::StorageWrite))
    }

    /// Hands over the result of the execution: the last call of revision 1.
    pub fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Result<(), CallError> {
        const METHOD: Method = Method::ConsumeResult;
        self.call(METHOD, Request::ConsumeResult { code, data }, |client| {
            match client.byte(METHOD, "acknowledgement")? {
                0 => Ok(()),
                seen => Err(Failure::Protocol(ProtocolError::Byte {
                    method: METHOD,
                    field: "acknowledgement",
                    seen,
                    expected: "0",
                })),
            }
        })
    }

    /// The leader's result of non-deterministic block number `call_no`.
    pub fn get_leader_nondet_result(&mut self, call_no: u32) -> Result<LeaderResult, CallError> {
        const METHOD: Method = Method::GetLeaderNondetResult;
        self.call(METHOD, Request::GetLeaderNondetResult { call_no }, |client| {
            match client.ok_and_slice(METHOD, "result") {
                Err(Failure::Status(Status::IAmLeader)) => Ok(LeaderResult::IAmLeader),
                Err(Failure::Status(Status::Absent)) => Ok(LeaderResult::Absent),
                Err(failure) => Err(failure),
                Ok(mut data) if !data.is_empty() => {
                    let code = ResultCode::from_byte(data.remove(0), METHOD).map_err(Failure::Protocol)?;
                    Ok(LeaderResult::Result { code, data })
                }
                Ok(_) => {
                    Err(Failure::Protocol(ProtocolError::Truncated { method: Some(METHOD), field: "result code" }))
                }
            }
        })
    }

    /// Posts the leader's result of block `call_no`; its first byte is a [`ResultCode`].
    pub fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Result<(), CallError> {
        let request = Request::PostNondetResult { call_no, result };
        self.call(Method::PostNondetResult, request, |client| client.ok(Method::PostNondetResult))
    }

    /// Sends a message to another contract; `data` is JSON.
    pub fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Result<(), CallError> {
        let request = Request::PostMessage { account: *account, calldata, data };
        self.call(Method::PostMessage, request, |client| client.ok(Method::PostMessage))
    }

    /// Emits an event; at most 255 topics.
    pub fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Result<(), CallError> {
        let request = Request::PostEvent { topics, blob };
        self.call(Method::PostEvent, request, |client| client.ok(Method::PostEvent))
    }

    /// Charges gas. The host does not answer; the request is on its way when this returns.
    pub fn consume_fuel(&mut self, gas: u64) -> Result<(), CallError> {
        self.call(Method::ConsumeFuel, Request::ConsumeFuel { gas }, |_| Ok(()))
    }

    /// Deploys a contract; `data` is JSON.
    pub fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Result<(), CallError> {
        let request = Request::DeployContract { calldata, code, data };
        self.call(Method::DeployContract, request, |client| client.ok(Method::DeployContract))
    }

    /// Calls an EVM contract without changing anything, and returns what it returned.
    pub fn eth_call(&mut self, account: &Account, calldata: &[u8]) -> Result<Vec<u8>, CallError> {
        let request = Request::EthCall { account: *account, calldata };
        self.call(Method::EthCall, request, |client| client.ok_and_slice(Method::EthCall, "result"))
    }

    /// Sends a message to an EVM contract; `data` is JSON.
    pub fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Result<(), CallError> {
        let request = Request::EthSend { account: *account, calldata, data };
        self.call(Method::EthSend, request, |client| client.ok(Method::EthSend))
    }

    /// An account's balance.
    pub fn get_balance(&mut self, account: &Account) -> Result<U256, CallError> {
        self.call(Method::GetBalance, Request::GetBalance { account: *account }, |client| {
            client.ok(Method::GetBalance)?;
            let mut balance = U256([0; 32]);
            client.exact(Method::GetBalance, "balance", &mut balance.0)?;
            Ok(balance)
        })
    }

    /// How much fuel is left, in GEN; at most 2^53 − 1.
    pub fn remaining_fuel_as_gen(&mut self) -> Result<u64, CallError> {
        self.call(Method::RemainingFuelAsGen, Request::RemainingFuelAsGen, |client| {
            client.ok(Method::RemainingFuelAsGen)?;
            let mut fuel = [0; 8];
            client.exact(Method::RemainingFuelAsGen, "fuel", &mut fuel)?;
            Ok(u64::from_le_bytes(fuel))
        })
    }

    /// The stream, for its timeouts and its peer. Reading or writing on it confuses the conversation.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Gives the stream back.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// One call: the request goes out whole, then `answer` reads what comes back.
    fn call<T>(
        &mut self,
        method: Method,
        request: Request<'_>,
        answer: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, CallError> {
        if self.dead {
            return Err(CallError::Dead { method });
        }
        self.output.clear();
        request.encode(self.revision, &self.limits, &mut self.output).map_err(CallError::Argument)?;
        let result = self.send(method).and_then(|()| answer(self));
        if self.output.capacity() > KEEP {
            self.output = Vec::new();
        }
        result.map_err(|failure| match failure {
            Failure::Status(status) => CallError::Status { method, status },
            Failure::Io(source) => {
                self.dead = true;
                CallError::Io { method, source }
            }
            Failure::Protocol(error) => {
                self.dead = true;
                CallError::Protocol(error)
            }
        })
    }

    fn send(&mut self, method: Method) -> Result<(), Failure> {
        match self.input.bytes().len() {
            0 => {}
            bytes => return Err(Failure::Protocol(ProtocolError::Unasked { method, bytes })),
        }
        self.stream.write_all(&self.output)?;
        // This crate's streams publish when they are read; anybody else's may need to be told.
        self.stream.flush()?;
        Ok(())
    }

    /// A status that is `Ok`.
    #[inline]
    fn ok(&mut self, method: Method) -> Result<(), Failure> {
        match Status::from_byte(self.byte(method, "status")?, method).map_err(Failure::Protocol)? {
            Status::Ok => Ok(()),
            status => Err(Failure::Status(status)),
        }
    }

    /// A status that is `Ok`, and a slice. Its memory grows with the bytes that arrive.
    fn ok_and_slice(&mut self, method: Method, field: &'static str) -> Result<Vec<u8>, Failure> {
        self.ok(method)?;
        let mut len = [0; 4];
        self.exact(method, field, &mut len)?;
        let len = u32::from_le_bytes(len);
        check_length(method, field, len.into(), &self.limits).map_err(Failure::Protocol)?;
        let (len, mut data) = (len as usize, Vec::new());
        while data.len() < len {
            if self.input.bytes().is_empty() {
                self.fill(method, field)?;
            }
            let bytes = self.input.bytes();
            let n = bytes.len().min(len - data.len());
            data.extend_from_slice(&bytes[..n]);
            self.input.consume(n);
        }
        Ok(data)
    }

    #[inline]
    fn byte(&mut self, method: Method, field: &'static str) -> Result<u8, Failure> {
        if self.input.bytes().is_empty() {
            self.fill(method, field)?;
        }
        let byte = self.input.bytes()[0];
        self.input.consume(1);
        Ok(byte)
    }

    /// Fills `out`: from what has arrived, and the rest straight from the stream.
    fn exact(&mut self, method: Method, field: &'static str, out: &mut [u8]) -> Result<(), Failure> {
        let n = self.input.bytes().len().min(out.len());
        let (ready, mut rest) = out.split_at_mut(n);
        ready.copy_from_slice(&self.input.bytes()[..n]);
        self.input.consume(n);
        while !rest.is_empty() {
            match self.stream.read(rest) {
                Ok(0) => return Err(truncated(method, field)),
                Ok(n) => rest = &mut rest[n..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what there is, at least one byte.
    fn fill(&mut self, method: Method, field: &'static str) -> Result<(), Failure> {
        loop {
            match self.stream.read(self.input.room()) {
                Ok(0) => return Err(truncated(method, field)),
                Ok(n) => {
                    self.input.filled(n);
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Why there is no answer, before the method's name is added.
enum Failure {
    Status(Status),
    Io(io::Error),
    Protocol(ProtocolError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn truncated(method: Method, field: &'static str) -> Failure {
    Failure::Protocol(ProtocolError::Truncated { method: Some(method), field })
}

/// A larger request buffer is given back after the call.
const KEEP: usize = 1 << 20;
