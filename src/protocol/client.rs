//! GenVM's end: [`HostClient`], one blocking call at a time.
//!
//! It neither retries nor reconnects, and it has one call on the way; [`Batch`](super::Batch) has many.

use std::fmt;
use std::io::{self, Read, Write};

use super::codec::{Request, check_length};
use super::error::CallError;
use super::limits::Limits;
#[cfg(feature = "metrics")]
use super::meter::{self, Ended, Meter};
use super::method::{Method, Revision};
use super::reply::{Fault, Replies, Reply};
use super::terms::Protocol;
#[cfg(feature = "metrics")]
use super::types::Status;
use super::types::{Account, LeaderResult, ResultCode, SlotId, StorageMode, U256};
use super::window::room;

/// The host, as GenVM sees it, at the other end of any ordered byte stream.
///
/// A request leaves in one `write`, and an answer of known size up to 8 KiB (a `storage_read`) arrives in one `read` of just
/// that size if the stream delivers it whole. No call allocates, beyond what it returns, once the largest request has
/// been sent; a batch that is dropped without being run takes that room with it.
///
/// A call that fails with a [fatal](CallError::is_fatal) error leaves the connection dead, and so does one that
/// unwinds: answers carry no name, and the next one could be for an earlier question.
///
/// # Errors
/// The same for every call: [`Status`](CallError::Status) if the host said no, [`Refused`](CallError::Refused) if it cannot be sent, and
/// nothing was; [`Io`](CallError::Io) if the stream failed or its timeout expired, [`Protocol`](CallError::Protocol) if the host did what it
/// must not, [`Dead`](CallError::Dead) after either of these two.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use std::thread;
///
/// use genvm_transport::protocol::{
///     Account, Environment, HostClient, HostState, Protocol, ResultCode, Served, SlotId, StorageMode, serve_blocking,
/// };
///
/// let (genvm, mut node) = UnixStream::pair()?;
/// let (contract, slot) = (Account([1; 20]), SlotId([2; 32]));
///
/// let state = HostState::new();
/// let mut execution = state.begin(Environment { account: contract, ..Environment::default() });
/// let host = thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
///
/// let mut client = HostClient::new(genvm);
/// client.storage_write(&slot, 40, b"hello")?;
/// let mut read = [0xff; 8];
/// client.storage_read(StorageMode::Default, &contract, &slot, 38, &mut read)?;
/// assert_eq!(&read, b"\0\0hello\0");
/// client.consume_result(ResultCode::Return, b"")?;
///
/// assert_eq!(host.join().unwrap()?, Served::Finished);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HostClient<S> {
    /// What has to be written before the first request; empty afterwards.
    hello: Vec<u8>,
    /// The request being sent.
    pub(super) request: Vec<u8>,
    /// The stream, and the answer being received.
    pub(super) replies: Replies<S>,
    /// What may lie between here and the host although every answer was read: the [`room`] of what has had no answer since.
    pub(super) unread: usize,
    pub(super) dead: bool,
    #[cfg(feature = "metrics")]
    pub(super) meter: Meter,
}

#[allow(clippy::missing_errors_doc, reason = "the same for every call: the type has them")]
impl<S: Read + Write> HostClient<S> {
    /// Speaks [revision 1](Protocol::ONE) over `stream`, whose other end has to be a host that expects a method id next.
    pub fn new(stream: S) -> Self {
        Self::speaking(Protocol::ONE, stream)
    }

    /// Speaks what `protocol` says. A method that its revision does not have is [refused](CallError::Refused): nothing is sent,
    /// and the connection is as good as before.
    pub fn speaking(protocol: Protocol, stream: S) -> Self {
        let Protocol { revision, limits, hello } = protocol;
        Self {
            hello,
            request: Vec::with_capacity(REQUEST),
            replies: Replies::new(stream, revision, limits),
            unread: 0,
            dead: false,
            #[cfg(feature = "metrics")]
            meter: Meter::new(),
        }
    }

    /// Sends the hello bytes now instead of with the first request, for a host that looks at them before there is anything to ask
    /// it. Does nothing if there are none or they were sent.
    ///
    /// # Errors
    /// What the stream says. Every later call is [`Dead`](CallError::Dead) then.
    pub fn greet(&mut self) -> io::Result<()> {
        if self.hello.is_empty() {
            return Ok(());
        }
        self.dead = true;
        self.write_hello()?;
        self.replies.stream.flush()?;
        self.dead = false;
        Ok(())
    }

    /// The contract's input.
    pub fn get_calldata(&mut self) -> Result<Vec<u8>, CallError> {
        self.ask(&Request::GetCalldata, Replies::slice)
    }

    /// Fills `out` with the bytes of `account`'s slot from `index` on; bytes never written are zeros. On an error
    /// the contents of `out` are unspecified.
    pub fn storage_read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Result<(), CallError> {
        let method = Method::StorageRead;
        let length = check_length(method, "length", out.len() as u64, &self.replies.limits)
            .map_err(|source| CallError::Refused { method, source })?;
        self.ask(&Request::StorageRead { mode, account: *account, slot: *slot, index, length }, |reply, method| {
            reply.status(method, out.len())?;
            reply.exact(method, "data", out)
        })
    }

    /// Writes to a slot of the running contract.
    pub fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Result<(), CallError> {
        self.ask(&Request::StorageWrite { slot: *slot, index, data }, Replies::status_only)
    }

    /// Hands over how the execution ended. The last call at revision 1: the host stops after its answer.
    pub fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Result<(), CallError> {
        self.ask(&Request::ConsumeResult { code, data }, Replies::acknowledgement)
    }

    /// What the leader got for nondeterministic block `call_no`.
    pub fn get_leader_nondet_result(&mut self, call_no: u32) -> Result<LeaderResult, CallError> {
        self.ask(&Request::GetLeaderNondetResult { call_no }, Replies::leader_result)
    }

    /// Tells what this node, the leader, got for nondeterministic block `call_no`.
    pub fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Result<(), CallError> {
        self.ask(&Request::PostNondetResult { call_no, result }, Replies::status_only)
    }

    /// Sends a message to another contract; `data` is JSON such as `{"value": "0x0", "on": "finalized"}`.
    pub fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Result<(), CallError> {
        self.ask(&Request::PostMessage { account: *account, calldata, data }, Replies::status_only)
    }

    /// Emits an event with at most 255 topics.
    pub fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Result<(), CallError> {
        self.ask(&Request::PostEvent { topics, blob }, Replies::status_only)
    }

    /// Reports used fuel, at revision 1 less than 2^64. Written and flushed; there is no answer to wait for.
    pub fn consume_fuel(&mut self, gas: impl Into<U256>) -> Result<(), CallError> {
        self.tell(&Request::ConsumeFuel { gas: gas.into() })
    }

    /// Deploys a contract; `data` is JSON.
    pub fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Result<(), CallError> {
        self.ask(&Request::DeployContract { calldata, code, data }, Replies::status_only)
    }

    /// Calls an EVM contract's view method.
    pub fn eth_call(&mut self, account: &Account, calldata: &[u8]) -> Result<Vec<u8>, CallError> {
        self.ask(&Request::EthCall { account: *account, calldata }, Replies::slice)
    }

    /// Sends a message to an EVM contract; `data` is JSON.
    pub fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Result<(), CallError> {
        self.ask(&Request::EthSend { account: *account, calldata, data }, Replies::status_only)
    }

    /// An account's balance.
    pub fn get_balance(&mut self, account: &Account) -> Result<U256, CallError> {
        self.ask(&Request::GetBalance { account: *account }, Replies::balance)
    }

    /// Fuel that is left; at revision 1 at most [`MAX_FUEL_AS_GEN`](super::MAX_FUEL_AS_GEN).
    pub fn remaining_fuel_as_gen(&mut self) -> Result<U256, CallError> {
        self.ask(&Request::RemainingFuelAsGen, Replies::fuel)
    }

    /// Reports that this node got another result for a nondeterministic block than the leader. Written and flushed; there is no
    /// answer to wait for. Revision 2.
    pub fn notify_nondet_disagreement(&mut self, call_no: u32) -> Result<(), CallError> {
        self.tell(&Request::NotifyNondetDisagreement { call_no })
    }

    /// Which executor is to run a call into another contract. Revision 2.
    pub fn resolve_callcontract_executor(
        &mut self,
        account: &Account,
        mode: StorageMode,
        advisory_major: u8,
    ) -> Result<Vec<u8>, CallError> {
        let request = Request::ResolveCallcontractExecutor { account: *account, mode, advisory_major };
        self.ask(&request, Replies::slice)
    }

    /// Runs an execution inside this one. Revision 2.
    pub fn run_nested(&mut self, data: &[u8]) -> Result<Vec<u8>, CallError> {
        self.ask(&Request::RunNested { data }, Replies::bare_slice)
    }

    /// Makes a call that is only known at run time. The methods above save what their answers do not need.
    pub fn call(&mut self, request: &Request<'_>) -> Result<Reply, CallError> {
        if !request.method().is_answered() {
            return self.tell(request).map(|()| Reply::Done);
        }
        self.ask(request, |replies, method| replies.reply(method, request.read_length()))
    }

    /// Sends a request that has no answer.
    fn tell(&mut self, request: &Request<'_>) -> Result<(), CallError> {
        self.metered(request, |client| {
            client.send(request)?;
            client.unread += room(client.request.len());
            client.dead = false;
            Ok(())
        })
    }

    /// Sends a request, then reads its answer with `read`, which has to start with the status.
    #[inline]
    fn ask<T>(
        &mut self,
        request: &Request<'_>,
        read: impl FnOnce(&mut Replies<S>, Method) -> Result<T, Fault>,
    ) -> Result<T, CallError> {
        self.metered(request, |client| client.answered(request, read))
    }

    /// Makes a call, and counts it where calls are counted.
    #[inline]
    fn metered<T>(
        &mut self,
        _request: &Request<'_>,
        call: impl FnOnce(&mut Self) -> Result<T, CallError>,
    ) -> Result<T, CallError> {
        #[cfg(not(feature = "metrics"))]
        return call(self);
        #[cfg(feature = "metrics")]
        {
            let (begun, used) = (meter::ticks(), self.replies.used);
            let result = call(self);
            let ended = match &result {
                Ok(_) => Ended::With(Status::Ok),
                Err(CallError::Status { status, .. }) => Ended::With(*status),
                Err(CallError::Io { .. } | CallError::Protocol { .. }) => Ended::Lost,
                Err(CallError::Refused { .. } | CallError::Dead { .. }) => return result, // no call was made
            };
            self.meter.call(meter::Call {
                method: _request.method(),
                begun,
                over: meter::ticks(),
                sent: self.request.len(),
                received: self.replies.used - used,
                ended,
            });
            result
        }
    }

    fn answered<T>(
        &mut self,
        request: &Request<'_>,
        read: impl FnOnce(&mut Replies<S>, Method) -> Result<T, Fault>,
    ) -> Result<T, CallError> {
        self.send(request)?;
        let method = request.method();
        let result = read(&mut self.replies, method).and_then(|value| self.replies.end(method).map(|()| value));
        self.unread = 0;
        match result {
            Ok(value) => {
                self.dead = false;
                Ok(value)
            }
            Err(Fault::Status(status)) => {
                self.dead = false;
                Err(CallError::Status { method, status })
            }
            Err(Fault::Io(source)) => Err(CallError::Io { method, source }),
            Err(Fault::Protocol(source)) => Err(CallError::Protocol { method, source }),
        }
    }

    /// Takes a buffer of requests back, for the next ones.
    pub(super) fn keep(&mut self, mut requests: Vec<u8>) {
        requests.clear();
        self.request = requests;
    }

    /// Writes and flushes a request. Leaves the client marked dead: whoever has read the answer revives it, so that
    /// neither an error nor a panic on the way can leave a half-used connection behind.
    fn send(&mut self, request: &Request<'_>) -> Result<(), CallError> {
        let method = request.method();
        if self.dead {
            return Err(CallError::Dead { method });
        }
        self.request.clear();
        request
            .encode(self.replies.revision, &self.replies.limits, &mut self.request)
            .map_err(|source| CallError::Refused { method, source })?;
        self.dead = true;
        let sent = self
            .write_hello()
            .and_then(|()| self.replies.stream.write_all(&self.request))
            .and_then(|()| self.replies.stream.flush());
        #[cfg(feature = "metrics")]
        self.meter.settle(method);
        sent.map_err(|source| CallError::Io { method, source })
    }

    /// Writes what comes before the first request, the first time.
    #[inline]
    pub(super) fn write_hello(&mut self) -> io::Result<()> {
        if self.hello.is_empty() {
            return Ok(());
        }
        let hello = std::mem::take(&mut self.hello);
        self.unread += room(hello.len());
        self.replies.stream.write_all(&hello)
    }
}

impl<S> HostClient<S> {
    /// Gives the stream back. Between two calls no byte of it is held here.
    pub fn into_inner(self) -> S {
        self.replies.stream
    }

    /// The stream, for its timeouts.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.replies.stream
    }

    /// The stream, for its peer and kind.
    pub fn get_ref(&self) -> &S {
        &self.replies.stream
    }

    /// What was counted so far.
    #[cfg(feature = "metrics")]
    pub(crate) fn meter(&self) -> Meter {
        self.meter.settled()
    }

    /// Which revision it speaks.
    pub fn revision(&self) -> Revision {
        self.replies.revision
    }

    /// What it sends and accepts at most.
    pub fn limits(&self) -> &Limits {
        &self.replies.limits
    }
}

impl<S> fmt::Debug for HostClient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostClient")
            .field("revision", &self.replies.revision)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// First capacity for requests: most are a `storage_read` of 62 bytes.
const REQUEST: usize = 256;
