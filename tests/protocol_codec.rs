//! Any request survives the codec, and the decoder asks for neither too much nor too little.

use genvm_transport::protocol::*;
use proptest::prelude::*;

/// The parts that requests are made of; requests themselves borrow.
#[derive(Debug, Clone)]
struct Parts {
    mode: StorageMode,
    code: ResultCode,
    account: Account,
    slot: SlotId,
    index: u32,
    gas: u64,
    topics: Vec<[u8; 32]>,
    first: Vec<u8>,
    second: Vec<u8>,
    text: String,
}

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let enums = (0u8..3, 0u8..4).prop_map(|(mode, code)| (mode.try_into().unwrap(), code.try_into().unwrap()));
    let topics = prop::collection::vec(any::<[u8; 32]>(), 0..=255);
    (enums, any::<([u8; 20], [u8; 32], u32, u64)>(), topics, bytes(), bytes(), ".{0,40}").prop_map(
        |((mode, code), (account, slot, index, gas), topics, first, second, text)| Parts {
            mode,
            code,
            account: Account(account),
            slot: SlotId(slot),
            index: index.min(u32::MAX - 1000),
            gas,
            topics,
            first,
            second,
            text,
        },
    )
}

impl Parts {
    fn requests(&self) -> [Request<'_>; 14] {
        let Self { mode, code, account, slot, index, gas, ref topics, ref first, ref second, ref text } = *self;
        [
            Request::GetCalldata,
            Request::StorageRead { mode, account, slot, index, length: second.len() as u32 },
            Request::StorageWrite { slot, index, data: first },
            Request::ConsumeResult { code, data: first },
            Request::GetLeaderNondetResult { call_no: index },
            Request::PostNondetResult { call_no: index, result: first },
            Request::PostMessage { account, calldata: first, data: text },
            Request::PostEvent { topics, blob: first },
            Request::ConsumeFuel { gas: gas.into() },
            Request::DeployContract { calldata: first, code: second, data: text },
            Request::EthCall { account, calldata: first },
            Request::EthSend { account, calldata: first, data: text },
            Request::GetBalance { account },
            Request::RemainingFuelAsGen,
        ]
    }

    fn requests_two(&self) -> [Request<'_>; 9] {
        let Self { mode, code, account, slot, index, gas, ref first, ref second, .. } = *self;
        [
            Request::StorageRead { mode, account, slot, index, length: second.len() as u32 },
            Request::ConsumeFuel { gas: U256(slot.0) },
            Request::EthCall { account, calldata: first },
            Request::GetBalance { account },
            Request::RemainingFuelAsGen,
            Request::NotifyNondetDisagreement { call_no: index },
            Request::ConsumeResult { code, data: first },
            Request::ResolveCallcontractExecutor { account, mode, advisory_major: gas as u8 },
            Request::RunNested { data: second },
        ]
    }

    /// Every request of every revision.
    fn all(&self) -> impl Iterator<Item = (Revision, Request<'_>)> {
        let one = self.requests().into_iter().map(|request| (Revision::One, request));
        one.chain(self.requests_two().into_iter().map(|request| (Revision::Two, request)))
    }
}

proptest! {
    #[test]
    fn requests_survive(parts in parts()) {
        for (revision, request) in parts.all() {
            let mut bytes = Vec::new();
            request.encode(revision, &Limits::DEFAULT, &mut bytes).unwrap();
            let whole = Decoded::Complete { request, consumed: bytes.len() };
            prop_assert_eq!(decode(revision, &bytes, &Limits::DEFAULT), Ok(whole));
            bytes.extend_from_slice(&parts.second);
            prop_assert_eq!(decode(revision, &bytes, &Limits::DEFAULT), Ok(whole));
        }
    }

    #[test]
    fn a_decoder_that_gets_what_it_asks_for_ends_at_the_end(parts in parts()) {
        for (revision, request) in parts.all() {
            let mut bytes = Vec::new();
            request.encode(revision, &Limits::DEFAULT, &mut bytes).unwrap();
            let mut have = 1;
            while let Decoded::Partial { method, missing, .. } =
                decode(revision, &bytes[..have], &Limits::DEFAULT).unwrap()
            {
                prop_assert_eq!(method, request.method());
                prop_assert!(missing > 0);
                have += missing;
            }
            prop_assert_eq!(have, bytes.len());
        }
    }

    #[test]
    fn a_request_over_the_limit_leaves_nothing_behind(parts in parts()) {
        let limits = Limits::DEFAULT.with_slice(20);
        for (revision, request) in parts.all() {
            let mut bytes = b"kept".to_vec();
            match request.encode(revision, &limits, &mut bytes) {
                Ok(()) => {
                    let whole = Decoded::Complete { request, consumed: bytes.len() - 4 };
                    prop_assert_eq!(decode(revision, &bytes[4..], &limits), Ok(whole));
                }
                Err(error) => {
                    prop_assert!(matches!(error, ProtocolError::TooLong { .. }), "{}", error);
                    prop_assert_eq!(&bytes[..], b"kept");
                }
            }
        }
    }
}

#[test]
fn nothing_is_no_request() {
    assert_eq!(decode(Revision::One, b"", &Limits::DEFAULT), Ok(Decoded::Empty));
}
