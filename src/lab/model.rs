//! [`Model`]: what a host's storage must contain, kept as plainly as possible and sharing no code with `HostState`.

use std::collections::HashMap;

use super::data;
use super::trace::Trace;
use crate::protocol::StorageMode;

/// An account and a slot, as the trace numbers them.
type Cell = (u32, u32);

/// Storage as a trace's executions leave it, one after another.
#[derive(Debug, Default)]
pub(super) struct Model {
    committed: HashMap<Cell, Vec<u8>>,
    /// Cells that the running execution has written, whole.
    running: HashMap<Cell, Vec<u8>>,
    keep_failed: bool,
}

impl Model {
    /// An empty world. `keep_failed`: the host keeps what executions that did not return have written.
    pub(super) fn new(keep_failed: bool) -> Self {
        Self { keep_failed, ..Self::default() }
    }

    /// What a host has that was seeded with the trace.
    pub(super) fn seed(&mut self, trace: &Trace) {
        data::seeds(trace, |account, slot, index, len| {
            let mut bytes = vec![0; len as usize];
            data::seed(account, slot, index, &mut bytes);
            put(self.committed.entry((account, slot)).or_default(), index, &bytes);
        });
    }

    pub(super) fn write(&mut self, account: u32, slot: u32, index: u32, bytes: &[u8]) {
        let cell = (account, slot);
        let before = || self.committed.get(&cell).cloned().unwrap_or_default();
        put(self.running.entry(cell).or_insert_with(before), index, bytes);
    }

    /// What a read must return.
    pub(super) fn read(&self, mode: StorageMode, account: u32, slot: u32, index: u32, len: u32) -> Vec<u8> {
        let cell = (account, slot);
        let running = self.running.get(&cell).filter(|_| mode == StorageMode::Default);
        let bytes = running.or_else(|| self.committed.get(&cell)).map_or(&[][..], Vec::as_slice);
        let places = index as usize..index as usize + len as usize;
        places.map(|place| bytes.get(place).copied().unwrap_or(0)).collect()
    }

    /// The running execution ended, and the host never heard of its writes.
    pub(super) fn forget(&mut self) {
        self.running.clear();
    }

    /// The running execution ended.
    pub(super) fn end(&mut self, returned: bool) {
        let running = std::mem::take(&mut self.running);
        if returned || self.keep_failed {
            self.committed.extend(running);
        }
    }
}

fn put(bytes: &mut Vec<u8>, index: u32, new: &[u8]) {
    let end = index as usize + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[index as usize..end].copy_from_slice(new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_sees_its_writes_and_others_see_them_when_it_returned() {
        let mut model = Model::new(false);
        model.write(1, 2, 3, b"ab");
        assert_eq!(model.read(StorageMode::Default, 1, 2, 2, 4), b"\0ab\0");
        assert_eq!(model.read(StorageMode::LatestNonFinal, 1, 2, 2, 4), b"\0\0\0\0");
        model.end(true);
        assert_eq!(model.read(StorageMode::LatestNonFinal, 1, 2, 3, 2), b"ab");
        model.write(1, 2, 4, b"X");
        model.end(false);
        assert_eq!(model.read(StorageMode::Default, 1, 2, 3, 2), b"ab");

        let mut keeping = Model::new(true);
        keeping.write(1, 2, 0, b"X");
        keeping.end(false);
        assert_eq!(keeping.read(StorageMode::Default, 1, 2, 0, 1), b"X");
    }
}
