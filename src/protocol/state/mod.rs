//! [`HostState`]: a host's world, in memory. For tests, examples and measurements, and a model for a node's own handler.
//!
//! It does **not** persist anything, execute messages, or decide when a state becomes final: [`HostState::finalize`] is told.

mod execution;
mod sparse;

pub use execution::{Deployment, Environment, Event, Execution, Message, Outcome, Role, Write};

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::types::{Account, SlotId, StorageMode, U256};
use sparse::{Ranges, SparseBytes};

type Slots = HashMap<SlotId, Arc<SparseBytes>, RandomState>;

/// Storage of all accounts at one moment. Shared by the executions that started from it; whoever changes it copies what is
/// shared.
type Snapshot = HashMap<Account, Arc<Slots>, RandomState>;

/// The state that all connections of a host share. Cloning it is cheap and shares it.
#[derive(Debug, Clone, Default)]
pub struct HostState(Arc<RwLock<World>>);

#[derive(Debug, Default)]
struct World {
    finalized: Arc<Snapshot>,
    accepted: Arc<Snapshot>,
    balances: HashMap<Account, U256, RandomState>,
}

impl HostState {
    /// An empty world: every slot is zeros, every balance is zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts an execution on the accepted state as it is now. Serve one connection with it.
    pub fn begin(&self, environment: Environment) -> Execution {
        Execution::new(self.clone(), environment)
    }

    /// Writes into the finalised and the accepted state, outside of any execution. `index + data.len()` must not exceed 2^32.
    ///
    /// # Panics
    /// If it does.
    pub fn set_storage(&self, account: &Account, slot: &SlotId, index: u32, data: &[u8]) {
        assert!(u64::from(index) + data.len() as u64 <= 1 << 32, "a slot has 2^32 bytes");
        let mut world = self.0.write();
        write(&mut world.finalized, account, slot, index, data);
        write(&mut world.accepted, account, slot, index, data);
    }

    /// Sets an account's balance.
    pub fn set_balance(&self, account: &Account, balance: U256) {
        self.0.write().balances.insert(*account, balance);
    }

    /// Makes the accepted state final.
    pub fn finalize(&self) {
        let mut world = self.0.write();
        world.finalized = world.accepted.clone();
    }

    /// Reads as an execution that has written nothing would: [`StorageMode::Default`] is the accepted state.
    pub fn read(&self, mode: StorageMode, account: &Account, slot: &SlotId, index: u32, out: &mut [u8]) {
        let world = self.0.read();
        let snapshot = match mode {
            StorageMode::LatestFinal => &world.finalized,
            StorageMode::Default | StorageMode::LatestNonFinal => &world.accepted,
        };
        read(snapshot.get(account).and_then(|slots| slots.get(slot)), index, out);
    }

    fn balance(&self, account: &Account) -> U256 {
        self.0.read().balances.get(account).copied().unwrap_or(U256([0; 32]))
    }

    fn accepted(&self) -> Arc<Snapshot> {
        self.0.read().accepted.clone()
    }

    /// Applies an execution's writes to the accepted state as it is now: where another execution has written the same bytes
    /// meanwhile, the later commit wins.
    fn commit<'a>(&self, account: &Account, deltas: impl Iterator<Item = (&'a SlotId, &'a SparseBytes, &'a Ranges)>) {
        let mut world = self.0.write();
        for (slot, bytes, ranges) in deltas {
            for range in ranges.iter() {
                let mut data = vec![0; (range.end - range.start) as usize];
                bytes.read(range.start as u32, &mut data);
                write(&mut world.accepted, account, slot, range.start as u32, &data);
            }
        }
    }
}

#[inline]
fn read(slot: Option<&Arc<SparseBytes>>, index: u32, out: &mut [u8]) {
    match slot {
        Some(slot) => slot.read(index, out),
        None => out.fill(0),
    }
}

fn write(snapshot: &mut Arc<Snapshot>, account: &Account, slot: &SlotId, index: u32, data: &[u8]) {
    let slots = Arc::make_mut(Arc::make_mut(snapshot).entry(*account).or_default());
    Arc::make_mut(slots.entry(*slot).or_default()).write(index, data);
}
