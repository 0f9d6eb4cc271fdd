//! What the protocol's tests share: golden messages written by hand from the protocol's description, scripted streams,
//! and a handler that answers them.
#![allow(dead_code)] // each test file uses some of it

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use async_trait::async_trait;
use genvm_transport::protocol::*;

pub const ACCOUNT: Account = Account([0xaa; 20]);
pub const SLOT: SlotId = SlotId([0x55; 32]);
pub const JSON: &str = r#"{"on":"é"}"#;

/// A request and its answer, byte for byte.
pub struct Golden {
    pub protocol: Protocol,
    pub name: &'static str,
    pub request: Vec<u8>,
    pub decoded: Request<'static>,
    pub answer: Vec<u8>,
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Those of both revisions.
pub fn both() -> Vec<Golden> {
    golden().into_iter().chain(golden_two()).collect()
}

/// All 14 of revision 1, in the order of their ids.
pub fn golden() -> Vec<Golden> {
    let (a, s, json) = (&[0xaa; 20][..], &[0x55; 32][..], b"\x0b\0\0\0{\"on\":\"\xc3\xa9\"}" as &[u8]);
    let golden = |name, decoded, request: &[&[u8]], answer: &[&[u8]]| Golden {
        protocol: Protocol::ONE,
        name,
        request: join(request),
        decoded,
        answer: join(answer),
    };
    vec![
        golden("get_calldata", Request::GetCalldata, &[b"\x00"], &[b"\x00", b"\x03\0\0\0", b"abc"]),
        golden(
            "storage_read",
            Request::StorageRead {
                mode: StorageMode::LatestNonFinal,
                account: ACCOUNT,
                slot: SLOT,
                index: 0x0403_0201,
                length: 5,
            },
            &[b"\x01", b"\x02", a, s, b"\x01\x02\x03\x04", b"\x05\0\0\0"],
            &[b"\x00", b"\x01\x02\x03\x04\x05"],
        ),
        golden(
            "storage_write",
            Request::StorageWrite { slot: SLOT, index: 0x0403_0201, data: b"xyz" },
            &[b"\x02", s, b"\x01\x02\x03\x04", b"\x03\0\0\0", b"xyz"],
            &[b"\x00"],
        ),
        golden(
            "consume_result",
            Request::ConsumeResult { code: ResultCode::UserError, data: b"no" },
            &[b"\x03", b"\x03\0\0\0", b"\x01", b"no"],
            &[b"\x00"],
        ),
        golden(
            "get_leader_nondet_result",
            Request::GetLeaderNondetResult { call_no: 0x0807_0605 },
            &[b"\x04", b"\x05\x06\x07\x08"],
            &[b"\x00", b"\x04\0\0\0", b"\x02", b"vm!"],
        ),
        golden(
            "post_nondet_result",
            Request::PostNondetResult { call_no: 7, result: b"\x00ok" },
            &[b"\x05", b"\x07\0\0\0", b"\x03\0\0\0", b"\x00ok"],
            &[b"\x00"],
        ),
        golden(
            "post_message",
            Request::PostMessage { account: ACCOUNT, calldata: b"cd", data: JSON },
            &[b"\x06", a, b"\x02\0\0\0", b"cd", json],
            &[b"\x00"],
        ),
        golden(
            "post_event",
            Request::PostEvent { topics: &[[1; 32], [2; 32]], blob: b"blob" },
            &[b"\x07", b"\x02", &[1; 32], &[2; 32], b"\x04\0\0\0", b"blob"],
            &[b"\x00"],
        ),
        golden(
            "consume_fuel",
            Request::ConsumeFuel { gas: 0x0807_0605_0403_0201.into() },
            &[b"\x08", b"\x01\x02\x03\x04\x05\x06\x07\x08"],
            &[],
        ),
        golden(
            "deploy_contract",
            Request::DeployContract { calldata: b"cd", code: b"code", data: JSON },
            &[b"\x09", b"\x02\0\0\0", b"cd", b"\x04\0\0\0", b"code", json],
            &[b"\x00"],
        ),
        golden(
            "eth_call",
            Request::EthCall { account: ACCOUNT, calldata: b"cd" },
            &[b"\x0a", a, b"\x02\0\0\0", b"cd"],
            &[b"\x00", b"\x05\0\0\0", b"reply"],
        ),
        golden(
            "eth_send",
            Request::EthSend { account: ACCOUNT, calldata: b"cd", data: JSON },
            &[b"\x0b", a, b"\x02\0\0\0", b"cd", json],
            &[b"\x00"],
        ),
        golden("get_balance", Request::GetBalance { account: ACCOUNT }, &[b"\x0c", a], &[b"\x00", &[0x99; 32]]),
        golden(
            "remaining_fuel_as_gen",
            Request::RemainingFuelAsGen,
            &[b"\x0d"],
            &[b"\x00", b"\xff\xff\xff\xff\xff\xff\x1f\x00"],
        ),
    ]
}

/// All 9 of revision 2, in the order of their ids.
pub fn golden_two() -> Vec<Golden> {
    let (a, s) = (&[0xaa; 20][..], &[0x55; 32][..]);
    let golden = |name, decoded, request: &[&[u8]], answer: &[&[u8]]| Golden {
        protocol: Protocol::TWO,
        name,
        request: join(request),
        decoded,
        answer: join(answer),
    };
    let gas = U256(std::array::from_fn(|place| place as u8 + 1));
    vec![
        golden(
            "storage_read",
            Request::StorageRead {
                mode: StorageMode::LatestFinal,
                account: ACCOUNT,
                slot: SLOT,
                index: 0x0403_0201,
                length: 5,
            },
            &[b"\x00", b"\x01", a, s, b"\x01\x02\x03\x04", b"\x05\0\0\0"],
            &[b"\x00", b"\x01\x02\x03\x04\x05"],
        ),
        golden("consume_fuel", Request::ConsumeFuel { gas }, &[b"\x01", &gas.0], &[]),
        golden(
            "eth_call",
            Request::EthCall { account: ACCOUNT, calldata: b"cd" },
            &[b"\x02", a, b"\x02\0\0\0", b"cd"],
            &[b"\x00", b"\x05\0\0\0", b"reply"],
        ),
        golden("get_balance", Request::GetBalance { account: ACCOUNT }, &[b"\x03", a], &[b"\x00", &[0x99; 32]]),
        golden(
            "remaining_fuel_as_gen",
            Request::RemainingFuelAsGen,
            &[b"\x04"],
            &[b"\x00", b"\xff\xff\xff\xff\xff\xff\x1f\x00", &[0; 24]],
        ),
        golden(
            "notify_nondet_disagreement",
            Request::NotifyNondetDisagreement { call_no: 0x0807_0605 },
            &[b"\x05", b"\x05\x06\x07\x08"],
            &[],
        ),
        golden(
            "consume_result",
            Request::ConsumeResult { code: ResultCode::UserError, data: b"no" },
            &[b"\x06", b"\x03\0\0\0", b"\x01", b"no"],
            &[b"\x00"],
        ),
        golden(
            "resolve_callcontract_executor",
            Request::ResolveCallcontractExecutor {
                account: ACCOUNT,
                mode: StorageMode::LatestNonFinal,
                advisory_major: 3,
            },
            &[b"\x07", a, b"\x02", b"\x03"],
            &[b"\x00", b"\x03\0\0\0", b"v03"],
        ),
        golden(
            "run_nested",
            Request::RunNested { data: b"inner" },
            &[b"\x08", b"\x05\0\0\0", b"inner"],
            &[b"\x06\0\0\0", b"nested"],
        ),
    ]
}

/// Makes the call that `request` stands for; what came back, as text.
pub fn call<S: Read + Write>(client: &mut HostClient<S>, request: &Request<'_>) -> Result<String, CallError> {
    Ok(match *request {
        Request::GetCalldata => format!("{:?}", client.get_calldata()?),
        Request::StorageRead { mode, account, slot, index, length } => {
            let mut out = vec![0xee; length as usize];
            client.storage_read(mode, &account, &slot, index, &mut out)?;
            format!("{out:?}")
        }
        Request::StorageWrite { slot, index, data } => format!("{:?}", client.storage_write(&slot, index, data)?),
        Request::ConsumeResult { code, data } => format!("{:?}", client.consume_result(code, data)?),
        Request::GetLeaderNondetResult { call_no } => format!("{:?}", client.get_leader_nondet_result(call_no)?),
        Request::PostNondetResult { call_no, result } => format!("{:?}", client.post_nondet_result(call_no, result)?),
        Request::PostMessage { account, calldata, data } => {
            format!("{:?}", client.post_message(&account, calldata, data)?)
        }
        Request::PostEvent { topics, blob } => format!("{:?}", client.post_event(topics, blob)?),
        Request::ConsumeFuel { gas } => format!("{:?}", client.consume_fuel(gas)?),
        Request::DeployContract { calldata, code, data } => {
            format!("{:?}", client.deploy_contract(calldata, code, data)?)
        }
        Request::EthCall { account, calldata } => format!("{:?}", client.eth_call(&account, calldata)?),
        Request::EthSend { account, calldata, data } => format!("{:?}", client.eth_send(&account, calldata, data)?),
        Request::GetBalance { account } => format!("{:?}", client.get_balance(&account)?),
        Request::RemainingFuelAsGen => format!("{:?}", client.remaining_fuel_as_gen()?),
        Request::NotifyNondetDisagreement { call_no } => format!("{:?}", client.notify_nondet_disagreement(call_no)?),
        Request::ResolveCallcontractExecutor { account, mode, advisory_major } => {
            format!("{:?}", client.resolve_callcontract_executor(&account, mode, advisory_major)?)
        }
        Request::RunNested { data } => format!("{:?}", client.run_nested(data)?),
        _ => unreachable!("no revision has another"),
    })
}

/// What [`call`] returns for the golden answers.
pub fn expected(method: Method) -> String {
    match method {
        Method::GetCalldata => format!("{:?}", b"abc"),
        Method::StorageRead => format!("{:?}", [1, 2, 3, 4, 5]),
        Method::GetLeaderNondetResult => {
            format!("{:?}", LeaderResult::Result { code: ResultCode::VmError, data: b"vm!".to_vec() })
        }
        Method::EthCall => format!("{:?}", b"reply"),
        Method::ResolveCallcontractExecutor => format!("{:?}", b"v03"),
        Method::RunNested => format!("{:?}", b"nested"),
        Method::GetBalance => format!("{:?}", U256([0x99; 32])),
        Method::RemainingFuelAsGen => format!("{:?}", U256::from(MAX_FUEL_AS_GEN)),
        _ => "()".to_owned(),
    }
}

/// A stream whose input is given and whose output is kept. At the end of the input it is closed.
#[derive(Clone, Default)]
pub struct Script(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    input: Vec<u8>,
    output: Vec<u8>,
    at_most: Option<usize>,
    reads: Vec<usize>,
    writes: usize,
    flushed: usize,
}

impl Script {
    pub fn new(input: &[u8]) -> Self {
        let this = Self::default();
        this.0.borrow_mut().input = input.to_vec();
        this
    }

    /// Delivers and takes at most `bytes` at a time.
    pub fn at_most(self, bytes: usize) -> Self {
        self.0.borrow_mut().at_most = Some(bytes);
        self
    }

    /// Appends to the input.
    pub fn push(&self, input: &[u8]) {
        self.0.borrow_mut().input.extend_from_slice(input);
    }

    /// What was written since the last time, all of which must have been flushed.
    pub fn take_output(&self) -> Vec<u8> {
        let mut inner = self.0.borrow_mut();
        assert_eq!(inner.flushed, inner.output.len(), "written but not flushed");
        inner.flushed = 0;
        std::mem::take(&mut inner.output)
    }

    /// How much room each read gave, since the last time.
    pub fn take_reads(&self) -> Vec<usize> {
        std::mem::take(&mut self.0.borrow_mut().reads)
    }

    /// How many writes there were, since the last time.
    pub fn take_writes(&self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().writes)
    }

    pub fn unread(&self) -> usize {
        self.0.borrow().input.len()
    }
}

impl Read for Script {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut inner = self.0.borrow_mut();
        inner.reads.push(out.len());
        let n = out.len().min(inner.input.len()).min(inner.at_most.unwrap_or(usize::MAX));
        out[..n].copy_from_slice(&inner.input[..n]);
        inner.input.drain(..n);
        Ok(n)
    }
}

impl Write for Script {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.borrow_mut();
        inner.writes += 1;
        let n = data.len().min(inner.at_most.unwrap_or(usize::MAX));
        inner.output.extend_from_slice(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        inner.flushed = inner.output.len();
        Ok(())
    }
}

/// Gives the golden answers, or the refusal it is told to give, and keeps what it was asked.
#[derive(Default)]
pub struct GoldenHost {
    pub asked: Vec<String>,
    pub refuse: Option<fn() -> HandlerError>,
    /// After how many calls every further one is forbidden.
    pub refuse_after: Option<usize>,
}

impl GoldenHost {
    fn answer<T>(&mut self, request: Request<'_>, answer: T) -> Answer<T> {
        self.asked.push(format!("{request:?}"));
        if self.refuse_after.is_some_and(|calls| self.asked.len() > calls) {
            return Err(Status::Forbidden.into());
        }
        match self.refuse {
            Some(refuse) => Err(refuse()),
            None => Ok(answer),
        }
    }
}

macro_rules! golden_host {
    ($(#[$attribute:meta])? $trait:ident { $($async:tt)? }) => {
        $(#[$attribute])?
        impl $trait for GoldenHost {
            $($async)? fn get_calldata(&mut self) -> Answer<Vec<u8>> {
                self.answer(Request::GetCalldata, b"abc".to_vec())
            }
            $($async)? fn storage_read(
                &mut self,
                mode: StorageMode,
                account: &Account,
                slot: &SlotId,
                index: u32,
                out: &mut [u8],
            ) -> Answer<()> {
                out.iter_mut().zip(1..=255).for_each(|(out, byte)| *out = byte);
                let (account, slot, length) = (*account, *slot, out.len() as u32);
                self.answer(Request::StorageRead { mode, account, slot, index, length }, ())
            }
            $($async)? fn storage_write(&mut self, slot: &SlotId, index: u32, data: &[u8]) -> Answer<()> {
                self.answer(Request::StorageWrite { slot: *slot, index, data }, ())
            }
            $($async)? fn consume_result(&mut self, code: ResultCode, data: &[u8]) -> Answer<()> {
                self.answer(Request::ConsumeResult { code, data }, ())
            }
            $($async)? fn get_leader_nondet_result(&mut self, call_no: u32) -> Answer<LeaderResult> {
                let result = LeaderResult::Result { code: ResultCode::VmError, data: b"vm!".to_vec() };
                self.answer(Request::GetLeaderNondetResult { call_no }, result)
            }
            $($async)? fn post_nondet_result(&mut self, call_no: u32, result: &[u8]) -> Answer<()> {
                self.answer(Request::PostNondetResult { call_no, result }, ())
            }
            $($async)? fn post_message(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
                self.answer(Request::PostMessage { account: *account, calldata, data }, ())
            }
            $($async)? fn post_event(&mut self, topics: &[[u8; 32]], blob: &[u8]) -> Answer<()> {
                self.answer(Request::PostEvent { topics, blob }, ())
            }
            $($async)? fn consume_fuel(&mut self, gas: U256) -> Answer<()> {
                self.answer(Request::ConsumeFuel { gas }, ())
            }
            $($async)? fn deploy_contract(&mut self, calldata: &[u8], code: &[u8], data: &str) -> Answer<()> {
                self.answer(Request::DeployContract { calldata, code, data }, ())
            }
            $($async)? fn eth_call(&mut self, account: &Account, calldata: &[u8]) -> Answer<Vec<u8>> {
                self.answer(Request::EthCall { account: *account, calldata }, b"reply".to_vec())
            }
            $($async)? fn eth_send(&mut self, account: &Account, calldata: &[u8], data: &str) -> Answer<()> {
                self.answer(Request::EthSend { account: *account, calldata, data }, ())
            }
            $($async)? fn get_balance(&mut self, account: &Account) -> Answer<U256> {
                self.answer(Request::GetBalance { account: *account }, U256([0x99; 32]))
            }
            $($async)? fn remaining_fuel_as_gen(&mut self) -> Answer<U256> {
                self.answer(Request::RemainingFuelAsGen, MAX_FUEL_AS_GEN.into())
            }
            $($async)? fn notify_nondet_disagreement(&mut self, call_no: u32) -> Answer<()> {
                self.answer(Request::NotifyNondetDisagreement { call_no }, ())
            }
            $($async)? fn resolve_callcontract_executor(
                &mut self,
                account: &Account,
                mode: StorageMode,
                advisory_major: u8,
            ) -> Answer<Vec<u8>> {
                let request = Request::ResolveCallcontractExecutor { account: *account, mode, advisory_major };
                self.answer(request, b"v03".to_vec())
            }
            $($async)? fn run_nested(&mut self, data: &[u8]) -> Answer<Vec<u8>> {
                self.answer(Request::RunNested { data }, b"nested".to_vec())
            }
        }
    };
}

golden_host!(BlockingHostHandler {});
golden_host!(#[async_trait] HostHandler { async });
