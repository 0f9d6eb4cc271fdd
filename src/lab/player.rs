//! [`Player`]: plays the calls of a trace through a `HostClient`, cached or not. What a call needs is made ready before it
//! is timed.

use std::ops::Range;

use anyhow::{Result, bail};

use super::calls::Calls;
use super::data;
use super::model::Model;
use super::trace::{Call, Trace};
use crate::BlockingStream;
use crate::protocol::{
    Account, CallError, HostClient, LeaderResult, Method, ResultCode, Revision, SlotId, SlotRead, StorageMode,
};
use crate::storage::StorageError;

/// Plays a trace, call by call.
#[derive(Debug)]
pub(super) struct Player<'t> {
    pub(super) trace: &'t Trace,
    accounts: Vec<Account>,
    slots: Vec<SlotId>,
    /// What the next call sends, or what the last one read.
    buffer: Vec<u8>,
}

/// How a call went, if it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Played {
    /// A read; its bytes are in [`Player::bytes`].
    Read,
    /// It was done, and nothing came back.
    Done,
    /// Variable-length bytes came back.
    Reply(Vec<u8>),
    /// The host answered with a status that is no error of the conversation.
    Status,
}

impl<'t> Player<'t> {
    pub(super) fn new(trace: &'t Trace) -> Self {
        let (mut accounts, mut slots, mut longest) = (0, 0, 0);
        for execution in &trace.executions {
            accounts = accounts.max(execution.account);
            for call in &execution.calls {
                match *call {
                    Call::Read { account, slot, len, .. } => {
                        (accounts, slots, longest) = (accounts.max(account), slots.max(slot), longest.max(len));
                    }
                    Call::Write { slot, len, .. } => (slots, longest) = (slots.max(slot), longest.max(len)),
                    Call::Other { account, len, .. } => (accounts, longest) = (accounts.max(account), longest.max(len)),
                }
            }
        }
        Self {
            trace,
            accounts: (0..=accounts).map(data::account).collect(),
            slots: (0..=slots).map(data::slot).collect(),
            buffer: Vec::with_capacity(longest as usize),
        }
    }

    /// What the last read returned, or the last call sent.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Makes ready what call `at` of execution `execution` needs.
    pub(super) fn prepare(&mut self, execution: usize, at: usize) {
        let call = &self.trace.executions[execution].calls[at];
        let len = match *call {
            Call::Read { len, .. } | Call::Write { len, .. } | Call::Other { len, .. } => len,
        };
        self.buffer.resize(len as usize, 0);
        if !matches!(call, Call::Read { .. }) {
            data::payload(execution, at, &mut self.buffer);
        }
    }

    /// Makes the call that was made ready.
    #[inline]
    pub(super) fn perform<C: Calls>(
        &mut self,
        calls: &mut C,
        execution: usize,
        at: usize,
    ) -> Result<Played, StorageError> {
        match self.trace.executions[execution].calls[at] {
            Call::Read { mode, account, slot, index, .. } => {
                let (account, slot) = (&self.accounts[account as usize], &self.slots[slot as usize]);
                calls.read(mode, account, slot, index, &mut self.buffer)?;
                Ok(Played::Read)
            }
            Call::Write { slot, index, .. } => {
                calls.write(&self.slots[slot as usize], index, &self.buffer)?;
                Ok(Played::Done)
            }
            Call::Other { method, account, index, len, .. } => {
                let result = self.other(calls, execution, method, account, index, len);
                match result {
                    Err(StorageError::Call(CallError::Status { .. })) => Ok(Played::Status),
                    other => other,
                }
            }
        }
    }

    /// The calls from `at` on that can go out together, before the first is answered: reads in a row, at most so many; else the one
    /// call.
    pub(super) fn run(&self, execution: usize, at: usize, most: usize) -> Range<usize> {
        let calls = &self.trace.executions[execution].calls[at..];
        let reads = calls.iter().take(most).take_while(|call| matches!(call, Call::Read { .. })).count();
        at..at + reads.max(1)
    }

    /// Makes the reads of a [`run`](Self::run) as one batch. Their bytes are in [`bytes`](Self::bytes), one after another.
    pub(super) fn read_together(
        &mut self,
        client: &mut HostClient<impl BlockingStream>,
        execution: usize,
        run: Range<usize>,
    ) -> Result<(), CallError> {
        let calls = &self.trace.executions[execution].calls[run];
        let size = |call: &Call| if let Call::Read { len, .. } = *call { len as usize } else { 0 };
        self.buffer.resize(calls.iter().map(size).sum(), 0);
        let (mut rest, mut reads) = (&mut self.buffer[..], Vec::with_capacity(calls.len()));
        for call in calls {
            let Call::Read { mode, account, slot, index, len } = *call else { continue };
            let (out, others) = std::mem::take(&mut rest).split_at_mut(len as usize);
            rest = others;
            let (account, slot) = (self.accounts[account as usize], self.slots[slot as usize]);
            reads.push(SlotRead { mode, account, slot, index, out });
        }
        client.storage_read_many(&mut reads)
    }

    fn other<C: Calls>(
        &self,
        calls: &mut C,
        execution: usize,
        method: Method,
        account: u32,
        index: u32,
        len: u32,
    ) -> Result<Played, StorageError> {
        let (bytes, account) = (&self.buffer[..], &self.accounts[account as usize]);
        let (split, json) = data::message_parts(len);
        let done = |()| Played::Done;
        if method == Method::ConsumeResult {
            // The first byte on the wire is the code.
            let data = bytes.get(1..).unwrap_or_default();
            return calls.finish(self.trace.executions[execution].result, data).map(done);
        }
        let client = calls.client();
        let played = match method {
            Method::GetCalldata => client.get_calldata().map(Played::Reply),
            Method::GetLeaderNondetResult => client.get_leader_nondet_result(index).map(|result| match result {
                LeaderResult::Result { code, mut data } => {
                    data.insert(0, code as u8);
                    Played::Reply(data)
                }
                LeaderResult::IAmLeader | LeaderResult::Absent => Played::Status,
            }),
            Method::PostNondetResult => client.post_nondet_result(index, bytes).map(done),
            Method::PostMessage => client.post_message(account, &bytes[..split], json).map(done),
            Method::PostEvent => {
                let (topics, blob) = bytes.split_at(if bytes.len() >= 32 { 32 } else { 0 });
                client.post_event(topics.as_chunks().0, blob).map(done)
            }
            Method::ConsumeFuel => client.consume_fuel(1_u64).map(done),
            Method::DeployContract => {
                // Recorded is the sum: a sixteenth of calldata, the rest code.
                let (calldata, code) = bytes[..split].split_at(split / 16);
                client.deploy_contract(calldata, code, json).map(done)
            }
            Method::EthCall => client.eth_call(account, bytes).map(Played::Reply),
            Method::EthSend => client.eth_send(account, &bytes[..split], json).map(done),
            Method::GetBalance => client.get_balance(account).map(|balance| Played::Reply(balance.0.to_vec())),
            Method::RemainingFuelAsGen => client.remaining_fuel_as_gen().map(|fuel| Played::Reply(fuel.0.to_vec())),
            Method::StorageRead | Method::StorageWrite | Method::ConsumeResult => unreachable!("calls of their own"),
            Method::NotifyNondetDisagreement | Method::ResolveCallcontractExecutor | Method::RunNested => {
                unreachable!("no trace was recorded at revision 2")
            }
        };
        Ok(played?)
    }

    /// Whether a host that was seeded with the trace can have answered that: of the calls whose answers have a length of their own, with as
    /// many bytes as were recorded.
    pub(super) fn is_answer(&self, execution: usize, at: usize, played: &Played) -> bool {
        match self.trace.executions[execution].calls[at] {
            Call::Other { method, reply, .. } if is_variable(method) && reply > 0 => {
                matches!(played, Played::Reply(got) if got.len() == reply as usize)
            }
            _ => true,
        }
    }

    /// Plays an execution and compares every byte read with `model`. Returns how many calls and bytes were compared.
    pub(super) fn verify<C: Calls>(
        &mut self,
        calls: &mut C,
        execution: usize,
        model: &mut Model,
        seeded: bool,
    ) -> Result<Verified> {
        let mut verified = Verified::default();
        let account = self.trace.executions[execution].account;
        for (at, &call) in self.trace.executions[execution].calls.iter().enumerate() {
            if !calls.asks(call.method()) {
                verified.left_out += 1;
                continue;
            }
            let place = || format!("execution {execution}, call {at} ({})", call.method());
            self.prepare(execution, at);
            let played = match self.perform(calls, execution, at) {
                Ok(played) => played,
                Err(error) => bail!("{}: {error}", place()),
            };
            verified.calls += 1;
            match (call, played) {
                (Call::Read { mode, account, slot, index, len }, Played::Read) => {
                    let expected = model.read(mode, account, slot, index, len);
                    if let Some(byte) = first_difference(&expected, self.bytes()) {
                        bail!(
                            "{}: byte {} of account {account}, slot {slot} is {:#04x}, expected {:#04x} \
                             (a read of {len} bytes at {index})",
                            place(),
                            index as usize + byte,
                            self.bytes()[byte],
                            expected[byte],
                        );
                    }
                    verified.reads += 1;
                    verified.bytes += u64::from(len);
                }
                (Call::Write { slot, index, .. }, _) => model.write(account, slot, index, &self.buffer),
                (Call::Other { reply, .. }, Played::Status)
                    if seeded && !self.is_answer(execution, at, &Played::Status) =>
                {
                    bail!("{}: a status came back instead of {reply} bytes", place());
                }
                // Contents that only a host knows which was seeded with this trace, at this execution.
                (Call::Other { method, reply, .. }, Played::Reply(got)) if seeded && is_variable(method) => {
                    let expected = match method {
                        Method::GetLeaderNondetResult => {
                            let (code, mut data) = data::leader_result(execution, at, reply);
                            data.insert(0, code as u8);
                            data
                        }
                        _ => data::reply(execution, at, reply),
                    };
                    if got != expected {
                        bail!("{}: {} bytes came back that are not the {} expected ones", place(), got.len(), reply);
                    }
                    verified.replies += 1;
                }
                (_, Played::Status) => verified.statuses += 1,
                _ => {}
            }
        }
        match calls.client().revision() {
            Revision::Two => model.forget(), // writes came with the result, if at all
            _ => model.end(self.trace.executions[execution].result == ResultCode::Return),
        }
        Ok(verified)
    }
}

/// What a verified execution consisted of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Verified {
    pub(super) calls: u64,
    /// Calls that are not made at the revision spoken.
    pub(super) left_out: u64,
    pub(super) reads: u64,
    pub(super) bytes: u64,
    /// Answers beside reads whose contents were compared.
    pub(super) replies: u64,
    /// Calls beside reads and writes that the host answered with a status.
    pub(super) statuses: u64,
}

/// Whether an answer's length is the trace's and not the protocol's.
fn is_variable(method: Method) -> bool {
    matches!(method, Method::GetCalldata | Method::GetLeaderNondetResult | Method::EthCall)
}

fn first_difference(expected: &[u8], got: &[u8]) -> Option<usize> {
    expected.iter().zip(got).position(|(expected, got)| expected != got)
}

/// A read mode for workloads without a trace.
pub(super) const MODE: StorageMode = StorageMode::Default;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_or_another_length_is_no_answer_where_the_trace_has_one() {
        for name in Trace::names() {
            let trace = Trace::built_in(name).expect("a trace");
            let (player, mut answers) = (Player::new(&trace), 0);
            for (execution, recorded) in trace.executions.iter().enumerate() {
                for (at, call) in recorded.calls.iter().enumerate() {
                    let is_answer = |played| player.is_answer(execution, at, &played);
                    match *call {
                        Call::Other { method, reply, .. } if is_variable(method) && reply > 0 => {
                            assert!(is_answer(Played::Reply(vec![0; reply as usize])));
                            assert!(
                                !is_answer(Played::Reply(vec![0; reply as usize - 1])) && !is_answer(Played::Status)
                            );
                            answers += 1;
                        }
                        _ => assert!(is_answer(Played::Status)),
                    }
                }
            }
            assert!(answers > 0, "{name}: it has no answers");
        }
    }
}
