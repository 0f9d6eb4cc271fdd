//! [`Execution`]: one execution's view of a [`HostState`], and the handler that serves it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::super::error::{Answer, HandlerError};
use super::super::handler::BlockingHostHandler;
use super::super::types::{Account, LeaderResult, ResultCode, SlotId, Status, StorageMode, U256};
use super::sparse::{Ranges, SparseBytes};
use super::{HostState, Slots, Snapshot, read};

/// What the host knows about an execution before it starts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Environment {
    /// The contract that runs; `storage_write` writes into its slots.
    pub account: Account,
    /// The message's calldata. Default: empty.
    pub calldata: Vec<u8>,
    /// Whether this node leads. Default: it does.
    pub role: Role,
    /// Answers to `eth_call`, one after another; then `Absent`. Default: none.
    pub eth_call_replies: VecDeque<Vec<u8>>,
    /// Fuel at the start, in GEN. Default: 2^53 − 1, the most that there is.
    pub fuel: u64,
    /// How many bytes may be written before `OutOfStorageGas`. Default: no limit.
    pub storage_gas: Option<u64>,
    /// Slots that may not be written: `Forbidden`. Default: none.
    pub locked_slots: HashSet<SlotId>,
    /// Whether the writes of an execution that did not return are committed all the same. Default: they are dropped.
    pub keep_failed: bool,
}

impl Environment {
    /// The defaults, for the contract `account`.
    pub fn new(account: Account) -> Self {
        Self {
            account,
            calldata: Vec::new(),
            role: Role::Leader,
            eth_call_replies: VecDeque::new(),
            fuel: (1 << 53) - 1,
            storage_gas: None,
            locked_slots: HashSet::new(),
            keep_failed: false,
        }
    }
}

/// What this node is in the consensus on non-deterministic blocks.
#[derive(Debug, Clone)]
pub enum Role {
    /// It runs the blocks and posts their results.
    Leader,
    /// It knows the leader's results, by the number of the block.
    Validator(HashMap<u32, (ResultCode, Vec<u8>)>),
}

/// What an execution has done, besides reading.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Outcome {
    /// Its result; `None` while, or if, it has not handed one over.
    pub result: Option<(ResultCode, Vec<u8>)>,
    /// Messages to contracts, in order.
    pub messages: Vec<Message>,
    /// Messages to EVM contracts, in order.
    pub eth_messages: Vec<Message>,
    /// Events, in order.
    pub events: Vec<Event>,
    /// Deployments, in order.
    pub deployments: Vec<Deployment>,
    /// Results of non-deterministic blocks, in order.
    pub nondet_results: Vec<(u32, Vec<u8>)>,
}

/// A message to another contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub account: Account,
    /// What.
    pub calldata: Vec<u8>,
    /// JSON, such as `{"value": "0x0", "on": "finalized"}`.
    pub data: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// At most 255.
    pub topics: Vec<[u8; 32]>,
    /// Its data.
    pub blob: Vec<u8>,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// For the constructor.
    pub calldata: Vec<u8>,
    /// The contract.
    pub code: Vec<u8>,
    /// JSON.
    pub data: String,
}

/// Bytes that an execution has written, coalesced with what it wrote beside them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Write {
    /// Where.
    pub slot: SlotId,
    /// From which byte on.
    pub index: u32,
    /// What.
    pub data: Vec<u8>,
}

/// One execution: what it started from, what it has written since, and what it may know. Serve one connection with it.
///
/// Its writes are accumulated and stay invisible to everybody else until the result is consumed: committed after
/// [`ResultCode::Return`], dropped otherwise, or if the connection ends without a result.
#[derive(Debug)]
pub struct Execution {
    host: HostState,
    environment: Environment,
    base: Arc<Snapshot>,
    /// The running contract's part of `base`: most reads go there.
    own: Arc<Slots>,
    written: HashMap<SlotId, Written, RandomState>,
    outcome: Outcome,
}

/// A slot as this execution sees it: what was there, with its own writes on top.
#[derive(Debug)]
struct Written {
    bytes: SparseBytes,
    ranges: Ranges,
}

impl Execution {
    pub(super) fn new(host: HostState, environment: Environment) -> Self {
        let base = host.accepted();
        let own = base.get(&environment.account).cloned().unwrap_or_default();
        Self { host, environment, base, own, written: HashMap::default(), outcome: Outcome::default() }
    }

    /// What it has done so far.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// What it has written so far, sorted, coalesced. Empty once it is committed or dropped.
    pub fn deltas(&self) -> Vec<Write> {
        let writes = self.written.iter().flat_map(|(slot, written)| {
            written.ranges.iter().map(|range| {
                let mut data = vec![0; (range.end - range.start) as usize];
                written.bytes.read(range.start as u32, &mut data);
                Write { slot: *slot, index: range.start as u32, data }
            })
        });
        let mut writes: Vec<_> = writes.collect();
        writes.sort_unstable();
        writes
    }

    fn finish(&mut self, code: ResultCode) {
        let written = std::mem::take(&mut self.written);
        // Let go of the shared state first: what nobody else holds is changed in place.
        (self.base, self.own) = Default::default();
        if code == ResultCode::Return || self.environment.keep_failed {
            let deltas = written.iter().map(|(slot, written)| (slot, &written.bytes, &written.ranges));
            self.host.commit(&self.environment.account, deltas);
        }
        self.base = self.host.accepted();
        self.own = self.base.get(&self.environment.account).cloned().unwrap_or_default();
    }
}

impl BlockingHostHandler for Execution {
    fn get_calldata(&mut self) -> Answer<Vec<u8>> {
        Ok(self.environment.calldata.clone())
    }

    #[inline]
    fn storage_read(
        &mut self,
        mode: StorageMode,
        account: &Account,
        slot: &SlotId,
        index: u32,
        out: &mut [u8],
    ) -> Answer<()> {
        match mode {
            StorageMode::Default if *account == self.environment.account => {
                if let Some(written) = self.written.get(slot) {
                    written.bytes.read(index, out);
                } else {
                    read(self.own.get(slot), index, out);
                }
            }
            StorageMode::Default => read(self.base.get(account).and_then(|slots| slots.get(slot)), index, out),
            latest => self.host.read(latest, account, slot, index, out),
        }
        Ok(())
    }

    fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()> {
        if self.environment.locked_slots.contains(slot) {
            return Err(Status::Forbidden.into());
        }
        if let Some(gas) = &mut self.environment.storage_gas {
            *gas = gas.checked_sub(data.len() as u64).ok_or(Status::OutOfStorageGas)?;
        }
        let written = self.written.entry(*slot).or_insert_with(|| Written {
            bytes: self.own.get(slot).map_or_else(SparseBytes::default, |slot| SparseBytes::clone(slot)),
            ranges: Ranges::default(),
        });
        written.bytes.write(index, data);
        written.ranges.insert(index.into(), u64::from(index) + data.len() as u64);
        Ok(())
    }

    fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Answer<()> {
        self.outcome.result = Some((code, data.to_vec()));
        self.finish(code);
        Ok(())
    }

    fn get_leader_nondet_result(&mut self, call_no: u32) -> Answer<LeaderResult> {
        Ok(match &self.environment.role {
            Role::Leader => LeaderResult::IAmLeader,
            Role::Validator(results) => match results.get(&call_no) {
                Some((code, data)) => LeaderResult::Result { code: *code, data: data.clone() },
                None => LeaderResult::Absent,
            },
        })
    }

    fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Answer<()> {
        match self.environment.role {
            Role::Leader => {
                self.outcome.nondet_results.push((call_no, result.to_vec()));
                Ok(())
            }
            Role::Validator(_) => Err(Status::Forbidden.into()),
        }
    }

    fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
        self.outcome.messages.push(message(account, calldata, data));
        Ok(())
    }

    fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Answer<()> {
        self.outcome.events.push(Event { topics: topics.to_vec(), blob: blob.to_vec() });
        Ok(())
    }

    fn consume_fuel(&mut self, gas: u64) -> Answer<()> {
        self.environment.fuel = self.environment.fuel.saturating_sub(gas);
        Ok(())
    }

    fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Answer<()> {
        let deployment = Deployment { calldata: calldata.to_vec(), code: code.to_vec(), data: data.to_owned() };
        self.outcome.deployments.push(deployment);
        Ok(())
    }

    fn eth_call(&mut self, _: &Account, _: &[u8]) -> Answer<Vec<u8>> {
        self.environment.eth_call_replies.pop_front().ok_or(HandlerError::Status(Status::Absent))
    }

    fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
        self.outcome.eth_messages.push(message(account, calldata, data));
        Ok(())
    }

    fn get_balance(&mut self, account: &Account) -> Answer<U256> {
        Ok(self.host.balance(account))
    }

    fn remaining_fuel_as_gen(&mut self) -> Answer<u64> {
        Ok(self.environment.fuel)
    }
}

fn message(account: &Account, calldata: &[u8], data: &str) -> Message {
    Message { account: *account, calldata: calldata.to_vec(), data: data.to_owned() }
}
