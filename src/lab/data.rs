//! The bytes behind a trace, which keeps lengths only: accounts, slot ids and contents, each a function of its place, so that
//! two processes agree on them without talking.

use crate::protocol::{Account, ResultCode, SlotId};

use super::trace::{Call, Execution, Trace};

/// The account that a trace calls `number`.
pub(super) fn account(number: u32) -> Account {
    let mut bytes = [0; 20];
    fill([1, number.into(), 0], 0, &mut bytes);
    Account(bytes)
}

/// The slot id that a trace calls `number`. The same for every account.
pub(super) fn slot(number: u32) -> SlotId {
    let mut bytes = [0; 32];
    fill([2, number.into(), 0], 0, &mut bytes);
    SlotId(bytes)
}

/// What call `call` of execution `execution` carries: written data, calldata, code, a result.
pub(super) fn payload(execution: usize, call: usize, out: &mut [u8]) {
    fill([3, execution as u64, call as u64], 0, out);
}

/// What a host answers to call `call` of execution `execution`, where the trace has a variable-length answer.
pub(super) fn reply(execution: usize, call: usize, len: u32) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    fill([4, execution as u64, call as u64], 0, &mut bytes);
    bytes
}

/// The leader's result in an answer of `len` bytes: a code and data.
pub(super) fn leader_result(execution: usize, call: usize, len: u32) -> (ResultCode, Vec<u8>) {
    (ResultCode::Return, reply(execution, call, len.saturating_sub(1)))
}

/// What a seeded host has at `index` of a cell before the first execution.
pub(super) fn seed(account: u32, slot: u32, index: u32, out: &mut [u8]) {
    fill([5, account.into(), slot.into()], index, out);
}

/// The ranges that a seeded host fills: whatever any execution of the trace reads. Calls with each `(account, slot, index, len)`.
pub(super) fn seeds(trace: &Trace, mut each: impl FnMut(u32, u32, u32, u32)) {
    for call in trace.executions.iter().flat_map(|execution| &execution.calls) {
        if let Call::Read { account, slot, index, len, .. } = *call {
            each(account, slot, index, len);
        }
    }
}

/// The parts of a request with `len` variable bytes: calldata and JSON text.
pub(super) fn message_parts(len: u32) -> (usize, &'static str) {
    const JSON: &str = r#"{"value": "0x0", "on": "finalized"}"#;
    let text = if len as usize >= JSON.len() { JSON } else { &JSON[..0] };
    (len as usize - text.len(), text)
}

/// The calls of an execution that ask for one method, with their places.
pub(super) fn calls(execution: &Execution, wanted: crate::protocol::Method) -> impl Iterator<Item = (usize, u32, u32)> {
    execution.calls.iter().enumerate().filter_map(move |(at, call)| match *call {
        Call::Other { method, index, reply, .. } if method == wanted => Some((at, index, reply)),
        _ => None,
    })
}

/// Bytes that look random; byte `index + i` depends on `key` and its own place alone, so that ranges may overlap.
fn fill(key: [u64; 3], index: u32, out: &mut [u8]) {
    let key = key.into_iter().fold(0, |state, part| mix(state ^ part));
    let mut place = u64::from(index);
    let mut rest = out;
    while !rest.is_empty() {
        let word = mix(key ^ (place / 8)).to_le_bytes();
        let from = (place % 8) as usize;
        let n = rest.len().min(8 - from);
        let (now, later) = std::mem::take(&mut rest).split_at_mut(n);
        now.copy_from_slice(&word[from..from + n]);
        place += n as u64;
        rest = later;
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_depends_on_its_place_alone() {
        let mut whole = [0; 100];
        seed(1, 2, 1000, &mut whole);
        for (from, to) in [(0, 100), (1, 9), (7, 8), (33, 71)] {
            let mut part = vec![0; to - from];
            seed(1, 2, 1000 + from as u32, &mut part);
            assert_eq!(part, whole[from..to]);
        }
        assert_ne!(account(1).0, account(2).0);
        assert_ne!(slot(1).0[..20], account(1).0);
    }
}
