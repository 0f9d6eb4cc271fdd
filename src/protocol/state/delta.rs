//! What an execution has written: whole slots to read from, and which bytes of them are its own.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

use super::slot::Slot;
use super::world::{Map, Storage};
use crate::protocol::types::SlotId;

/// A run of bytes that an execution wrote. Runs of one slot neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The slot, one of the execution's own account.
    pub slot: SlotId,
    /// Where the run starts.
    pub index: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// The writes of a running execution over the storage it started from.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    slots: Map<SlotId, Written>,
}

#[derive(Debug)]
struct Written {
    /// The slot as the execution sees it.
    slot: Slot,
    runs: Runs,
}

impl Overlay {
    /// The slot as the execution sees it, if it has written to it.
    #[inline]
    pub(super) fn slot(&self, slot: &SlotId) -> Option<&Slot> {
        if self.slots.is_empty() { None } else { self.slots.get(slot).map(|written| &written.slot) }
    }

    pub(super) fn write(&mut self, base: Option<&Storage>, slot: &SlotId, index: u32, data: &[u8]) {
        let written = match self.slots.entry(*slot) {
            Entry::Occupied(written) => written.into_mut(),
            Entry::Vacant(place) => {
                let slot = base.and_then(|base| base.slot(slot)).cloned().unwrap_or_default();
                place.insert(Written { slot, runs: Runs::default() })
            }
        };
        written.slot.write(index, data);
        written.runs.insert(index.into(), u64::from(index) + data.len() as u64);
    }

    /// Sorted by slot and index.
    pub(super) fn deltas(&self) -> Vec<Delta> {
        let mut slots: Vec<_> = self.slots.iter().collect();
        slots.sort_unstable_by_key(|(slot, _)| **slot);
        let mut deltas = Vec::new();
        for (slot, written) in slots {
            deltas.extend(written.runs.0.iter().map(|(&start, &end)| {
                let mut data = vec![0; (end - start) as usize];
                written.slot.read(start as u32, &mut data);
                Delta { slot: *slot, index: start as u32, data }
            }));
        }
        deltas
    }
}

/// Start and end of byte ranges that neither overlap nor touch.
#[derive(Debug, Default)]
struct Runs(BTreeMap<u64, u64>);

impl Runs {
    fn insert(&mut self, mut start: u64, mut end: u64) {
        if start == end {
            return;
        }
        while let Some((&before, &until)) = self.0.range(..=end).next_back()
            && until >= start
        {
            if before <= start && until >= end {
                return;
            }
            self.0.remove(&before);
            (start, end) = (start.min(before), end.max(until));
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_together() {
        let mut runs = Runs::default();
        for (start, end) in [(10, 20), (30, 40), (50, 50), (60, 70), (20, 30), (12, 13), (41, 59), (0, 5)] {
            runs.insert(start, end);
        }
        assert_eq!(runs.0.into_iter().collect::<Vec<_>>(), [(0, 5), (10, 40), (41, 59), (60, 70)]);
    }
}
