//! [`Batch`]: many calls on their way at once, over today's wire.
//!
//! Answers carry no name and come in order, so a client may write many requests before it reads the first answer, and any host
//! serves them one after another. What it must not do is write without bound while answers pile up unread: both sides would
//! block on full buffers for ever. The rule here: **while an answer is outstanding, nothing is written that could have to wait.**
//! Then this end always comes round to reading, however much there is to read, and a host that is read from goes on. What
//! certainly fits is known for each stream ([`BlockingStream::send_capacity`]), and what went before without an answer is reckoned in; a
//! request that does not fit goes out when nothing is outstanding, for then the host waits for it.
//!
//! It does not run calls side by side: the host answers them in order, each as if it had been made alone.

use std::io::{self, Read, Write};

use super::client::HostClient;
use super::codec::{Request, check_length};
use super::error::CallError;
use super::method::Method;
use super::reply::{Fault, Replies, Reply};
use super::types::{Account, SlotId, StorageMode};
use super::window::{GROUP, Queued, Window};
use crate::transport::BlockingStream;

/// Calls that are made together: queue them, then [`run`](Self::run).
///
/// Their requests go out in few writes and their answers come in few reads. Any host serves them, also one that never heard of
/// batches. Dropped without `run`, it has called nothing.
///
/// ```
/// use std::os::unix::net::UnixStream;
/// use std::thread;
///
/// use genvm_transport::protocol::{
///     Account, Environment, HostClient, HostState, Protocol, Reply, Request, SlotId, Status, StorageMode, serve_blocking,
/// };
///
/// let (genvm, mut node) = UnixStream::pair()?;
/// let (account, slot) = (Account([1; 20]), SlotId([2; 32]));
/// let state = HostState::new();
/// let mut execution = state.begin(Environment { account, ..Environment::default() });
/// thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::ONE));
///
/// let mut client = HostClient::new(genvm);
/// let mut batch = client.batch_within(4096); // `client.batch()` where the stream is one of this crate's
/// batch.push(&Request::StorageWrite { slot, index: 0, data: b"hello" });
/// let read = batch.push(&Request::StorageRead { mode: StorageMode::Default, account, slot, index: 1, length: 4 });
/// let view = batch.push(&Request::EthCall { account, calldata: b"" });
/// let replies = batch.run();
/// assert_eq!(*replies[read].as_ref().unwrap(), Reply::Bytes(b"ello".into()));
/// assert_eq!(replies[view].as_ref().unwrap_err().status(), Some(Status::Absent)); // that call's result, not the batch's end
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is called before `run`"]
pub struct Batch<'c, S> {
    client: &'c mut HostClient<S>,
    capacity: usize,
    /// The bytes of all requests.
    requests: Vec<u8>,
    calls: Vec<Queued>,
}

impl<S: Read + Write> Batch<'_, S> {
    /// Queues a call, and returns its place among the results of this batch. Copies the request; a call that cannot be sent (too long,
    /// beyond a slot's end) is known to fail now and says so in its place.
    pub fn push(&mut self, request: &Request<'_>) -> usize {
        let client = &self.client;
        let refused =
            request.encode(client.replies.revision, &client.replies.limits, &mut self.requests).err().map(Box::new);
        let length = request.read_length();
        self.calls.push(Queued { method: request.method(), end: self.requests.len(), length, refused });
        self.calls.len() - 1
    }

    /// How many calls are queued.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Makes the calls, and returns their results in the order in which they were queued. Blocks until the last is answered.
    ///
    /// # Errors
    /// A call's own status, or its refusal, is its own result and the batch goes on. A stream that fails or a host that breaks the
    /// protocol ends it: the call that meets it gets the cause ([`CallError::Io`], [`CallError::Protocol`]), all after it
    /// [`CallError::Dead`], and so do later calls of the client.
    pub fn run(self) -> Vec<Result<Reply, CallError>> {
        let mut results = Results(Vec::with_capacity(self.calls.len()));
        self.pipeline(&mut results);
        results.0
    }
}

/// A read of [`HostClient::storage_read_many`].
#[derive(Debug)]
#[allow(missing_docs)] // the fields are the protocol's own
pub struct SlotRead<'b> {
    pub mode: StorageMode,
    pub account: Account,
    pub slot: SlotId,
    pub index: u32,
    /// Filled with the slot's bytes from `index` on.
    pub out: &'b mut [u8],
}

impl<S: BlockingStream> HostClient<S> {
    /// Starts a [`Batch`] that keeps as much on its way as the stream certainly holds.
    pub fn batch(&mut self) -> Batch<'_, S> {
        let capacity = self.replies.stream.send_capacity();
        self.batch_within(capacity)
    }

    /// Fills the buffers of many reads as one [`Batch`], without a copy of what they read.
    ///
    /// # Errors
    /// That of the first read that failed. Those that were answered are filled all the same; a [`Batch`] tells which. A buffer that is
    /// longer than the limits allow is refused before anything is sent.
    pub fn storage_read_many(&mut self, reads: &mut [SlotRead<'_>]) -> Result<(), CallError> {
        let (limits, method) = (&self.replies.limits, Method::StorageRead);
        let too_long = |read: &SlotRead<'_>| check_length(method, "length", read.out.len() as u64, limits).err();
        if let Some(source) = reads.iter().find_map(too_long) {
            return Err(CallError::Refused { method, source });
        }
        let mut reads = Reads { reads, all: Ok(()) };
        let mut batch = self.batch();
        batch.calls.reserve(reads.reads.len());
        batch.pipeline(&mut reads);
        reads.all
    }
}

impl<S: Read + Write> HostClient<S> {
    /// Starts a [`Batch`] over a stream of which only `capacity` is known: so much memory lies between the two ends, overheads
    /// included, that a write of less never waits ([`BlockingStream::send_capacity`] says more). 4096 is safe for any socket.
    pub fn batch_within(&mut self, capacity: usize) -> Batch<'_, S> {
        let mut requests = std::mem::take(&mut self.request);
        requests.clear();
        Batch { client: self, capacity, requests, calls: Vec::new() }
    }
}

/// Whom a batch is run for.
trait Caller<S> {
    type Value;

    /// The request of a call after those that were queued before; `None` if there is none. Asked for when it is about to go out: what
    /// went before is being answered meanwhile.
    fn request(&self, number: usize) -> Option<Request<'_>>;

    /// Reads the answer to a call from behind its status on.
    fn take(&mut self, replies: &mut Replies<S>, number: usize, call: &Queued) -> Result<Self::Value, Fault>;

    /// Is told each call's result, in order.
    fn tell(&mut self, result: Result<Self::Value, CallError>);
}

/// All results of calls of any kind.
struct Results(Vec<Result<Reply, CallError>>);

impl<S: Read> Caller<S> for Results {
    type Value = Reply;

    fn request(&self, _: usize) -> Option<Request<'_>> {
        None
    }

    fn take(&mut self, replies: &mut Replies<S>, _: usize, call: &Queued) -> Result<Reply, Fault> {
        replies.reply(call.method, call.length)
    }

    fn tell(&mut self, result: Result<Reply, CallError>) {
        self.0.push(result);
    }
}

/// Reads into buffers, and the first error.
struct Reads<'r, 'b> {
    reads: &'r mut [SlotRead<'b>],
    all: Result<(), CallError>,
}

impl<S: Read> Caller<S> for Reads<'_, '_> {
    type Value = ();

    #[inline]
    fn request(&self, number: usize) -> Option<Request<'_>> {
        let SlotRead { mode, account, slot, index, ref out } = *self.reads.get(number)?;
        Some(Request::StorageRead { mode, account, slot, index, length: out.len() as u32 })
    }

    #[inline]
    fn take(&mut self, replies: &mut Replies<S>, number: usize, _: &Queued) -> Result<(), Fault> {
        let out = &mut *self.reads[number].out;
        replies.status(Method::StorageRead, out.len())?;
        replies.exact(Method::StorageRead, "data", out)
    }

    #[inline]
    fn tell(&mut self, result: Result<(), CallError>) {
        if self.all.is_ok() {
            self.all = result;
        }
    }
}

/// The connection is lost, and the last result told says why.
struct Lost;

impl<S: Read + Write> Batch<'_, S> {
    /// Writes requests as far as they certainly fit, reads answers, and so on until all are there.
    fn pipeline<C: Caller<S>>(mut self, caller: &mut C) {
        let mut told = 0;
        #[cfg(feature = "metrics")]
        let begun = super::meter::ticks();
        if !self.client.dead {
            self.client.dead = true; // until all is well, be it for an error or a panic
            self.client.dead = self.answer(caller, &mut told).is_err();
            self.client.replies.ahead = false;
            #[cfg(feature = "metrics")]
            self.client.meter.batch(begun);
        }
        self.queue(caller, usize::MAX);
        self.calls[told..].iter().for_each(|call| caller.tell(Err(CallError::Dead { method: call.method })));
        self.client.keep(self.requests);
    }

    /// Queues what `caller` has until there are so many `bytes` of requests.
    #[inline]
    fn queue<C: Caller<S>>(&mut self, caller: &C, bytes: usize) {
        while self.requests.len() < bytes
            && let Some(request) = caller.request(self.calls.len())
        {
            self.push(&request);
        }
    }

    /// Counts those that were `told`.
    fn answer<C: Caller<S>>(&mut self, caller: &mut C, told: &mut usize) -> Result<(), Lost> {
        self.queue(caller, 1);
        if self.calls.is_empty() {
            return Ok(()); // no call, no hello
        }
        // Nothing is outstanding yet, so it may wait.
        let mut broken = self.client.write_hello().err();
        let mut window = Window::new(self.capacity, self.client.unread);
        // Calls whose requests were sent, the bytes of those, and how many of their answers are outstanding.
        let (mut sent, mut start, mut outstanding) = (0, 0, 0);
        loop {
            let number = *told;
            while broken.is_none() {
                self.queue(caller, start + GROUP);
                let group = window.group(&self.calls[sent..], start, outstanding == 0);
                if group == 0 {
                    break;
                }
                let end = self.calls[sent + group - 1].end;
                let stream = &mut self.client.replies.stream;
                match stream.write_all(&self.requests[start..end]).and_then(|()| stream.flush()) {
                    Ok(()) => {
                        outstanding += self.calls[sent..sent + group].iter().filter(|call| call.is_answered()).count();
                        sent += group;
                        window.sent(sent, end - start);
                        start = end;
                    }
                    // What was answered before it broke can still be read.
                    Err(error) => broken = Some(error),
                }
            }
            if broken.is_some() {
                self.queue(caller, start + 1); // who is told
            }
            let Some(call) = self.calls.get(number) else { break };
            let method = call.method;
            *told += 1;
            if number >= sent {
                let source = broken.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
                caller.tell(Err(CallError::Io { method, source }));
                return Err(Lost);
            }
            if let Some(source) = &call.refused {
                caller.tell(Err(CallError::Refused { method, source: (**source).clone() }));
                continue;
            }
            let replies = &mut self.client.replies;
            #[cfg(feature = "metrics")]
            let used = replies.used;
            let result = if call.is_answered() {
                replies.ahead = outstanding > 1;
                outstanding -= 1;
                caller.take(replies, number, call).and_then(|value| replies.end(method).map(|()| value))
            } else {
                caller.take(replies, number, call)
            };
            #[cfg(feature = "metrics")]
            {
                use super::meter::Ended;
                let ended = match &result {
                    Ok(_) => Ended::With(super::types::Status::Ok),
                    Err(Fault::Status(status)) => Ended::With(*status),
                    Err(Fault::Io(_) | Fault::Protocol(_)) => Ended::Lost,
                };
                let sent = call.end - number.checked_sub(1).map_or(0, |last| self.calls[last].end);
                self.client.meter.batched(method, sent, replies.used - used, ended);
            }
            let error = match result {
                Err(Fault::Io(source)) => CallError::Io { method, source },
                Err(Fault::Protocol(source)) => CallError::Protocol { method, source },
                Ok(value) => {
                    window.read(number, call);
                    caller.tell(Ok(value));
                    continue;
                }
                Err(Fault::Status(status)) => {
                    window.read(number, call);
                    caller.tell(Err(CallError::Status { method, status }));
                    continue;
                }
            };
            caller.tell(Err(error));
            return Err(Lost);
        }
        self.client.unread = window.used;
        Ok(())
    }
}
