//! An in-memory host: [`HostState`] is the chain, [`Execution`] the handler of one connection to it.
//!
//! It keeps what the protocol asks of a host: sparse slots, three read modes, writes that stay an execution's own until
//! it returns, leader and validator roles, balances, fuel. It does not execute messages, deployments or EVM calls: it
//! records them in the [`Outcome`] and answers EVM calls from prepared [`EthReplies`]. What an execution sends is kept
//! until its `Execution` is dropped.
//!
//! # States
//!
//! There is a **final** and a **latest** state. An execution starts from the latest one as it is at [`HostState::begin`];
//! what others commit meanwhile is invisible to its [`Default`](super::StorageMode::Default) reads, and visible to its
//! [`LatestNonFinal`](super::StorageMode::LatestNonFinal) reads, which do not see its own writes. Returning applies its
//! writes, byte for byte, to whatever is the latest state by then: of two executions that wrote the same byte, the one
//! that returns last wins. [`HostState::finalize`] makes the latest state final.

mod delta;
mod execution;
mod slot;
mod world;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::delta::Delta;
pub use self::execution::Execution;
use self::world::World;
use super::types::{Account, ResultCode, SlotId, Status, StorageMode, U256};

/// The chain's state, shared by all executions. Clones are handles to the same state.
#[derive(Debug, Clone)]
pub struct HostState {
    world: Arc<Mutex<World>>,
}

impl HostState {
    /// Empty storage, no balances.
    pub fn new() -> Self {
        Self { world: Arc::new(Mutex::new(World::new())) }
    }

    /// Starts an execution from the latest state. Unless it returns, it leaves no trace here.
    pub fn begin(&self, environment: Environment) -> Execution {
        let base = Arc::clone(&self.world.lock().latest);
        Execution::new(self.clone(), base, environment)
    }

    /// Writes to an account's slot, in the final and the latest state.
    ///
    /// # Panics
    /// If `index` and the length of `data` go beyond the 2^32 bytes of a slot.
    pub fn set_storage(&self, account: &Account, slot: &SlotId, index: u32, data: &[u8]) {
        assert_in_slot(index, data.len());
        self.world.lock().edit(|state| state.write(account, slot, index, data));
    }

    /// Sets an account's balance, in the final and the latest state.
    pub fn set_balance(&self, account: &Account, balance: U256) {
        self.world.lock().edit(|state| state.set_balance(account, balance));
    }

    /// Makes the latest state final.
    pub fn finalize(&self) {
        let mut world = self.world.lock();
        world.finalized = Arc::clone(&world.latest);
    }

    /// Fills `out` from an account's slot. Outside an execution, [`Default`](StorageMode::Default) is the latest state.
    ///
    /// # Panics
    /// If `index` and the length of `out` go beyond the 2^32 bytes of a slot.
    pub fn read(&self, mode: StorageMode, account: &Account, slot: &SlotId, index: u32, out: &mut [u8]) {
        assert_in_slot(index, out.len());
        let world = self.world.lock();
        match mode {
            StorageMode::LatestFinal => world.finalized.read(account, slot, index, out),
            StorageMode::LatestNonFinal | StorageMode::Default => world.latest.read(account, slot, index, out),
        }
    }
}

impl Default for HostState {
    fn default() -> Self {
        Self::new()
    }
}

/// The serve loops have checked this before; callers of the methods themselves may not have.
fn assert_in_slot(index: u32, length: usize) {
    assert!(u64::from(index) + length as u64 <= 1 << 32, "index {index} + length {length} goes beyond the slot");
}

/// What an execution finds when it starts. To be written with `..Environment::default()`, so that it may get more fields.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The running contract: the account whose slots it may write.
    pub account: Account,
    /// Take the account of the first `storage_read` for the running contract instead: GenVM starts by reading slots of the
    /// contract that it was told to run. For a host that is not told itself. Default: no.
    pub account_from_first_read: bool,
    /// The contract's input.
    pub calldata: Vec<u8>,
    /// Leader, or validator of a leader's results. Default: leader.
    pub role: Role,
    /// Answers to EVM calls. Default: none.
    pub eth_replies: EthReplies,
    /// What an EVM call is told for which there is no answer. Default: [`Absent`](Status::Absent), which revision 2 does not have;
    /// it has [`EvmReverted`](Status::EvmReverted).
    pub no_eth_reply: Status,
    /// Which executor runs calls into a contract, by its account; others are `forbidden`. Default: none.
    pub executors: HashMap<Account, Vec<u8>>,
    /// What nested executions give, one after another; without one the connection ends. Default: none.
    pub nested_results: VecDeque<Vec<u8>>,
    /// Fuel to start with, in units of gen. Default: 2^64 − 1, of which 2^53 − 1 are shown.
    pub fuel: u64,
    /// How many bytes may be written to storage; a write beyond that is answered `out_of_storage_gas`. Default: any.
    pub storage_gas: Option<u64>,
    /// Slots whose writes are answered `forbidden`. Default: none.
    pub locked_slots: HashSet<SlotId>,
    /// Whether writes are committed even if the execution ends with another code than `return`. Default: no.
    pub keep_failed: bool,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            account: Account::default(),
            account_from_first_read: false,
            calldata: Vec::new(),
            role: Role::Leader,
            eth_replies: EthReplies::default(),
            no_eth_reply: Status::Absent,
            executors: HashMap::new(),
            nested_results: VecDeque::new(),
            fuel: u64::MAX,
            storage_gas: None,
            locked_slots: HashSet::new(),
            keep_failed: false,
        }
    }
}

/// Who computes the nondeterministic blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// This node does.
    Leader,
    /// Another node did; these are its results, by call number. Posting own results is `forbidden`.
    Validator(BTreeMap<u32, (ResultCode, Vec<u8>)>),
}

/// Prepared answers to EVM calls; when there is none, the answer is [`Environment::no_eth_reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EthReplies {
    /// The first call gets the first, and so on.
    InOrder(VecDeque<Vec<u8>>),
    /// Every call to an account gets the same.
    ByAccount(HashMap<Account, Vec<u8>>),
}

impl Default for EthReplies {
    fn default() -> Self {
        Self::InOrder(VecDeque::new())
    }
}

/// What an execution has done so far, besides writing to storage; each list is in the order of the calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// How it ended; `None` while it runs, and for good if its connection ended without a result.
    pub result: Option<(ResultCode, Vec<u8>)>,
    /// Whether its writes became part of the latest state.
    pub committed: bool,
    /// Messages to other contracts.
    pub messages: Vec<Message>,
    /// Events.
    pub events: Vec<Event>,
    /// Messages to EVM contracts.
    pub eth_sends: Vec<EthSend>,
    /// Contracts to deploy.
    pub deployments: Vec<Deployment>,
    /// The leader's results.
    pub nondet_results: Vec<NondetResult>,
    /// Fuel used; may exceed what there was. Stops counting at 2^64 − 1.
    pub fuel_used: u64,
    /// Nondeterministic blocks for which it got another result than the leader.
    pub disagreements: Vec<u32>,
    /// What it asked nested executions to run.
    pub nested: Vec<Vec<u8>>,
}

/// A message to another contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Which.
    pub account: Account,
    /// Its input.
    pub calldata: Vec<u8>,
    /// JSON.
    pub data: String,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it can be found by.
    pub topics: Vec<[u8; 32]>,
    /// What it says.
    pub blob: Vec<u8>,
}

/// A message to an EVM contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EthSend {
    /// Which.
    pub account: Account,
    /// Its input.
    pub calldata: Vec<u8>,
    /// JSON.
    pub data: String,
}

/// A contract to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The constructor's input.
    pub calldata: Vec<u8>,
    /// The contract.
    pub code: Vec<u8>,
    /// JSON.
    pub data: String,
}

/// What the leader got for a nondeterministic block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NondetResult {
    /// Which block.
    pub call_no: u32,
    /// The result as GenVM posted it.
    pub result: Vec<u8>,
}
