//! `HostState` against a plain model: which state each mode reads, and what becomes of an execution's writes.

use std::collections::{BTreeMap, HashMap};

use genvm_transport::protocol::{
    Account, Answer, BlockingHostHandler, Delta, Environment, EthReplies, Execution, HandlerError, HostState,
    LeaderResult, MAX_FUEL_AS_GEN, ResultCode, Role, SlotId, Status, StorageMode,
};
use proptest::prelude::*;

const A: Account = Account([1; 20]);
const B: Account = Account([2; 20]);
const SLOT: SlotId = SlotId([3; 32]);

fn environment() -> Environment {
    Environment { account: A, ..Environment::default() }
}

fn read(execution: &mut Execution, mode: StorageMode, account: &Account) -> u8 {
    let mut out = [0xee];
    execution.storage_read(mode, account, &SLOT, 0, &mut out).unwrap();
    out[0]
}

fn status<T: std::fmt::Debug>(answer: Answer<T>) -> Status {
    match answer.unwrap_err() {
        HandlerError::Status(status) => status,
        other => panic!("{other}"),
    }
}

#[test]
fn the_three_modes_read_three_states() {
    use StorageMode::{Default, LatestFinal, LatestNonFinal};
    let state = HostState::new();
    state.set_storage(&A, &SLOT, 0, &[1]);
    let mut early = state.begin(environment());
    let mut late = state.begin(environment());

    early.storage_write(&SLOT, 0, &[2]).unwrap();
    assert_eq!([Default, LatestFinal, LatestNonFinal].map(|mode| read(&mut early, mode, &A)), [2, 1, 1]);
    early.consume_result(ResultCode::Return, b"").unwrap();

    // `late` started before that commit.
    assert_eq!([Default, LatestFinal, LatestNonFinal].map(|mode| read(&mut late, mode, &A)), [1, 1, 2]);
    state.finalize();
    assert_eq!([Default, LatestFinal, LatestNonFinal].map(|mode| read(&mut late, mode, &A)), [1, 2, 2]);
    // Its own writes are its own, and only its own account's.
    late.storage_write(&SLOT, 0, &[9]).unwrap();
    assert_eq!([Default, LatestFinal, LatestNonFinal].map(|mode| read(&mut late, mode, &A)), [9, 2, 2]);
    assert_eq!([Default, LatestFinal, LatestNonFinal].map(|mode| read(&mut late, mode, &B)), [0, 0, 0]);
}

#[test]
fn only_a_return_commits_unless_told_otherwise() {
    use ResultCode::{InternalError, Return, UserError, VmError};
    for (code, keep_failed, committed) in [
        (Return, false, true),
        (UserError, false, false),
        (VmError, false, false),
        (InternalError, false, false),
        (Return, true, true),
        (UserError, true, true),
    ] {
        let state = HostState::new();
        let mut execution = state.begin(Environment { keep_failed, ..environment() });
        execution.storage_write(&SLOT, 0, &[1]).unwrap();
        execution.consume_result(code, b"data").unwrap();
        assert_eq!(execution.outcome().result, Some((code, b"data".to_vec())));
        assert_eq!(execution.outcome().committed, committed, "{code} {keep_failed}");
        let mut out = [0];
        state.read(StorageMode::LatestNonFinal, &A, &SLOT, 0, &mut out);
        assert_eq!(out, [u8::from(committed)]);
        // It is over.
        assert!(matches!(execution.storage_write(&SLOT, 0, &[1]), Err(HandlerError::Failed(_))));
        assert!(matches!(execution.consume_result(code, b""), Err(HandlerError::Failed(_))));
    }
}

#[test]
fn concurrent_commits_meet_byte_by_byte() {
    let state = HostState::new();
    let [mut first, mut second] = [(), ()].map(|()| state.begin(environment()));
    first.storage_write(&SLOT, 0, b"aaaa").unwrap();
    second.storage_write(&SLOT, 2, b"bbbb").unwrap();
    second.consume_result(ResultCode::Return, b"").unwrap();
    first.consume_result(ResultCode::Return, b"").unwrap();
    let mut out = [0; 6];
    state.read(StorageMode::LatestNonFinal, &A, &SLOT, 0, &mut out);
    assert_eq!(&out, b"aaaabb");
}

#[test]
fn deltas_are_sorted_and_joined() {
    let mut execution = HostState::new().begin(environment());
    let low = SlotId([0; 32]);
    execution.storage_write(&SLOT, 10, b"cd").unwrap();
    execution.storage_write(&low, 0, b"x").unwrap();
    execution.storage_write(&SLOT, 8, b"ab").unwrap();
    execution.storage_write(&SLOT, 11, b"D").unwrap();
    execution.storage_write(&SLOT, 20, b"").unwrap();
    execution.storage_write(&SLOT, 0, b"0").unwrap();
    let delta = |slot, index, data: &[u8]| Delta { slot, index, data: data.to_vec() };
    assert_eq!(execution.deltas(), [delta(low, 0, b"x"), delta(SLOT, 0, b"0"), delta(SLOT, 8, b"abcD")]);
}

#[test]
fn a_validator_is_given_the_leaders_results() {
    let results = BTreeMap::from([(1, (ResultCode::Return, b"yes".to_vec()))]);
    let mut validator = HostState::new().begin(Environment { role: Role::Validator(results), ..environment() });
    let given = LeaderResult::Result { code: ResultCode::Return, data: b"yes".to_vec() };
    assert_eq!(validator.get_leader_nondet_result(1).unwrap(), given);
    assert_eq!(validator.get_leader_nondet_result(2).unwrap(), LeaderResult::Absent);
    assert_eq!(status(validator.post_nondet_result(1, b"")), Status::Forbidden);
    assert_eq!(validator.outcome().nondet_results, []);
}

#[test]
fn writes_may_be_locked_or_unaffordable() {
    let locked = SlotId([9; 32]);
    let mut execution =
        HostState::new().begin(Environment { storage_gas: Some(10), locked_slots: [locked].into(), ..environment() });
    assert_eq!(status(execution.storage_write(&locked, 0, b"x")), Status::Forbidden);
    execution.storage_write(&SLOT, 0, &[1; 6]).unwrap();
    assert_eq!(status(execution.storage_write(&SLOT, 0, &[2; 5])), Status::OutOfStorageGas);
    assert_eq!(read(&mut execution, StorageMode::Default, &A), 1);
    execution.storage_write(&SLOT, 6, &[1; 4]).unwrap();
}

#[test]
fn fuel_saturates() {
    let mut execution = HostState::new().begin(environment());
    assert_eq!(execution.remaining_fuel_as_gen().unwrap(), MAX_FUEL_AS_GEN.into());
    execution.consume_fuel((u64::MAX - 5).into()).unwrap();
    assert_eq!(execution.remaining_fuel_as_gen().unwrap(), 5.into());
    execution.consume_fuel(100.into()).unwrap();
    assert_eq!(execution.remaining_fuel_as_gen().unwrap(), 0.into());
}

#[test]
fn eth_replies_by_account() {
    let eth_replies = EthReplies::ByAccount(HashMap::from([(B, b"b".to_vec())]));
    let mut execution = HostState::new().begin(Environment { eth_replies, ..environment() });
    assert_eq!(execution.eth_call(&B, b"").unwrap(), b"b");
    assert_eq!(execution.eth_call(&B, b"").unwrap(), b"b");
    assert_eq!(status(execution.eth_call(&A, b"")), Status::Absent);
}

#[derive(Debug, Clone)]
enum Op {
    Write { account: usize, slot: u8, index: u32, data: Vec<u8> },
    Read { account: usize, of: usize, mode: StorageMode, slot: u8, index: u32, length: usize },
    End { account: usize, code: ResultCode },
    Set { account: usize, slot: u8, index: u32, data: Vec<u8> },
    Finalize,
}

fn op() -> impl Strategy<Value = Op> {
    // Around the head, page boundaries and the very end.
    let index = prop_oneof![0u32..64, 4000u32..4200, 8000u32..8400, u32::MAX - 300..=u32::MAX];
    let place = (0usize..2, 0u8..3, index);
    let data = prop::collection::vec(1u8.., 0..300);
    let fitting = |index: u32, length: usize| length.min(((1u64 << 32) - u64::from(index)) as usize);
    prop_oneof![
        4 => (place.clone(), data.clone()).prop_map(move |((account, slot, index), mut data)| {
            data.truncate(fitting(index, data.len()));
            Op::Write { account, slot, index, data }
        }),
        4 => (place.clone(), 0usize..2, 0u8..3, 0usize..9000).prop_map(
            move |((account, slot, index), of, mode, length)| Op::Read {
                account, of, slot, index,
                mode: mode.try_into().unwrap(),
                length: fitting(index, length),
            }
        ),
        1 => (0usize..2, 0u8..4).prop_map(|(account, code)| Op::End { account, code: code.try_into().unwrap() }),
        1 => (place, data).prop_map(move |((account, slot, index), mut data)| {
            data.truncate(fitting(index, data.len()));
            Op::Set { account, slot, index, data }
        }),
        1 => Just(Op::Finalize),
    ]
}

/// Every byte ever written, by account, slot and index.
type Model = HashMap<(usize, u8), BTreeMap<u64, u8>>;

fn model_write(model: &mut Model, account: usize, slot: u8, index: u32, data: &[u8]) {
    model.entry((account, slot)).or_default().extend((u64::from(index)..).zip(data.iter().copied()));
}

fn model_read(model: &Model, account: usize, slot: u8, index: u32, length: usize) -> Vec<u8> {
    let bytes = model.get(&(account, slot));
    (u64::from(index)..).take(length).map(|at| bytes.and_then(|bytes| bytes.get(&at)).copied().unwrap_or(0)).collect()
}

proptest! {
    /// Two executions at a time, one an account, on one state.
    #[test]
    fn any_history_reads_as_the_model(ops in prop::collection::vec(op(), 1..80)) {
        let accounts = [A, B];
        let id = |slot| SlotId([slot; 32]);
        let state = HostState::new();
        let begin = |account| state.begin(Environment { account, ..Environment::default() });
        let mut executions = accounts.map(begin);
        let (mut latest, mut finalized) = (Model::new(), Model::new());
        let mut seen = [Model::new(), Model::new()]; // with own writes
        let mut written = [Model::new(), Model::new()];
        for op in ops {
            match op {
                Op::Write { account, slot, index, data } => {
                    executions[account].storage_write(&id(slot), index, &data).unwrap();
                    model_write(&mut seen[account], account, slot, index, &data);
                    model_write(&mut written[account], account, slot, index, &data);
                }
                Op::Read { account, of, mode, slot, index, length } => {
                    let mut out = vec![0xee; length];
                    executions[account].storage_read(mode, &accounts[of], &id(slot), index, &mut out).unwrap();
                    let model = match mode {
                        StorageMode::Default => &seen[account],
                        StorageMode::LatestFinal => &finalized,
                        StorageMode::LatestNonFinal => &latest,
                    };
                    prop_assert_eq!(out, model_read(model, of, slot, index, length));
                }
                Op::End { account, code } => {
                    let deltas: Model = executions[account].deltas().into_iter().fold(Model::new(), |mut all, delta| {
                        model_write(&mut all, account, delta.slot.0[0], delta.index, &delta.data);
                        all
                    });
                    written[account].retain(|_, bytes| !bytes.is_empty());
                    prop_assert_eq!(&deltas, &written[account]);
                    executions[account].consume_result(code, b"").unwrap();
                    if code == ResultCode::Return {
                        for (slot, bytes) in std::mem::take(&mut written[account]) {
                            latest.entry(slot).or_default().extend(bytes);
                        }
                    }
                    executions[account] = begin(accounts[account]);
                    written[account].clear();
                    seen[account] = latest.clone();
                }
                Op::Set { account, slot, index, data } => {
                    state.set_storage(&accounts[account], &id(slot), index, &data);
                    model_write(&mut latest, account, slot, index, &data);
                    model_write(&mut finalized, account, slot, index, &data);
                }
                Op::Finalize => {
                    state.finalize();
                    finalized = latest.clone();
                }
            }
        }
    }
}

#[test]
fn the_first_read_can_name_the_running_contract() {
    use genvm_transport::protocol::BlockingHostHandler as _;
    let state = HostState::new();
    let (contract, other, slot) = (Account([7; 20]), Account([8; 20]), SlotId([1; 32]));
    let mut execution = state.begin(Environment { account_from_first_read: true, ..Environment::default() });
    let mut byte = [0xff];
    execution.storage_read(StorageMode::Default, &contract, &slot, 0, &mut byte).unwrap();
    execution.storage_write(&slot, 0, b"x").unwrap();
    execution.storage_read(StorageMode::Default, &other, &slot, 0, &mut byte).unwrap();
    assert_eq!(&byte, b"\0");
    execution.storage_read(StorageMode::Default, &contract, &slot, 0, &mut byte).unwrap();
    assert_eq!(&byte, b"x");
    execution.consume_result(ResultCode::Return, b"").unwrap();
    state.read(StorageMode::Default, &contract, &slot, 0, &mut byte);
    assert_eq!(&byte, b"x");
}
