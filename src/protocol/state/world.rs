//! The chain's state that executions start from and commit to.

use std::collections::HashMap;
use std::sync::Arc;

use super::delta::Delta;
use super::slot::Slot;
use crate::protocol::types::{Account, SlotId, U256};

/// Keyed by what the peer chose, hence seeded.
pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A state of all accounts. Cheap to share; a change copies what somebody else still holds: the table of accounts, the
/// changed account's table of slots, and the changed pages.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    accounts: Map<Account, Arc<Storage>>,
    balances: Map<Account, U256>,
}

impl State {
    pub(super) fn storage(&self, account: &Account) -> Option<&Arc<Storage>> {
        self.accounts.get(account)
    }

    pub(super) fn balance(&self, account: &Account) -> U256 {
        self.balances.get(account).copied().unwrap_or_default()
    }

    pub(super) fn set_balance(&mut self, account: &Account, balance: U256) {
        self.balances.insert(*account, balance);
    }

    pub(super) fn read(&self, account: &Account, slot: &SlotId, index: u32, out: &mut [u8]) {
        read(self.storage(account).and_then(|storage| storage.slot(slot)), index, out);
    }

    pub(super) fn write(&mut self, account: &Account, slot: &SlotId, index: u32, data: &[u8]) {
        let storage = Arc::make_mut(self.accounts.entry(*account).or_default());
        Arc::make_mut(storage.slots.entry(*slot).or_default()).write(index, data);
    }
}

/// Fills `out` from a slot, with zeros if there is none.
#[inline]
pub(super) fn read(slot: Option<&Slot>, index: u32, out: &mut [u8]) {
    match slot {
        Some(slot) => slot.read(index, out),
        None => out.fill(0),
    }
}

/// The slots of one account.
#[derive(Debug, Clone, Default)]
pub(super) struct Storage {
    slots: Map<SlotId, Arc<Slot>>,
}

impl Storage {
    #[inline]
    pub(super) fn slot(&self, slot: &SlotId) -> Option<&Slot> {
        self.slots.get(slot).map(|slot| &**slot)
    }
}

/// What the chain has agreed on so far: for good, and for now.
#[derive(Debug)]
pub(super) struct World {
    pub(super) latest: Arc<State>,
    pub(super) finalized: Arc<State>,
}

impl World {
    pub(super) fn new() -> Self {
        let empty = Arc::<State>::default();
        Self { latest: Arc::clone(&empty), finalized: empty }
    }

    pub(super) fn commit(&mut self, account: &Account, deltas: &[Delta]) {
        if deltas.is_empty() {
            return;
        }
        let state = Arc::make_mut(&mut self.latest);
        for delta in deltas {
            state.write(account, &delta.slot, delta.index, &delta.data);
        }
    }

    /// Changes the final and the latest state alike.
    pub(super) fn edit(&mut self, change: impl Fn(&mut State)) {
        if Arc::ptr_eq(&self.latest, &self.finalized) {
            // Let go of one, or every change would copy the tables.
            self.finalized = Arc::default();
            change(Arc::make_mut(&mut self.latest));
            self.finalized = Arc::clone(&self.latest);
        } else {
            change(Arc::make_mut(&mut self.latest));
            change(Arc::make_mut(&mut self.finalized));
        }
    }
}
