//! Whole executions between a client and a `HostState`, over real sockets, on both faces.
#![cfg(unix)]

mod protocol_support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use genvm_transport::protocol::*;
use protocol_support::{ACCOUNT, GoldenHost, JSON, SLOT};

const OTHER: Account = Account([0xbb; 20]);

fn prepared() -> (HostState, Environment) {
    let state = HostState::new();
    state.set_storage(&OTHER, &SLOT, 3, b"other's");
    state.set_balance(&OTHER, U256::from(77));
    let environment = Environment {
        account: ACCOUNT,
        calldata: b"in".to_vec(),
        eth_replies: EthReplies::InOrder([b"first".to_vec()].into()),
        fuel: 100,
        ..Environment::default()
    };
    (state, environment)
}

/// Every method at least once, with what a leader is answered.
fn execute(stream: UnixStream) {
    let mut client = HostClient::new(stream);
    assert_eq!(client.get_calldata().unwrap(), b"in");

    let large: Vec<u8> = (0..300_000u32).map(|i| (i % 253) as u8).collect();
    client.storage_write(&SLOT, 5000, &large).unwrap();
    client.storage_write(&SLOT, u32::MAX, b"z").unwrap();
    let mut read = vec![0xee; large.len() + 20];
    client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 4990, &mut read).unwrap();
    assert_eq!(read, [&[0; 10][..], &large, &[0; 10]].concat());
    client.storage_read(StorageMode::LatestNonFinal, &OTHER, &SLOT, 0, &mut read[..12]).unwrap();
    assert_eq!(&read[..12], b"\0\0\0other's\0\0");
    client.storage_read(StorageMode::LatestFinal, &OTHER, &SLOT, 3, &mut read[..0]).unwrap();

    assert_eq!(client.get_leader_nondet_result(0).unwrap(), LeaderResult::IAmLeader);
    client.post_nondet_result(0, b"\0result").unwrap();
    client.post_message(&OTHER, b"call", JSON).unwrap();
    client.post_event(&[[7; 32]], b"blob").unwrap();
    client.consume_fuel(30_u64).unwrap();
    assert_eq!(client.remaining_fuel_as_gen().unwrap(), U256::from(70));
    client.deploy_contract(b"args", b"code", JSON).unwrap();
    assert_eq!(client.eth_call(&OTHER, b"view").unwrap(), b"first");
    assert_eq!(client.eth_call(&OTHER, b"view").unwrap_err().status(), Some(Status::Absent));
    client.eth_send(&OTHER, b"send", JSON).unwrap();
    assert_eq!(client.get_balance(&OTHER).unwrap(), U256::from(77));
    client.consume_result(ResultCode::Return, b"done").unwrap();
    // The host has stopped.
    assert!(client.get_calldata().unwrap_err().is_fatal());
}

fn check(state: &HostState, execution: &Execution) {
    let outcome = execution.outcome();
    assert_eq!(outcome.result, Some((ResultCode::Return, b"done".to_vec())));
    assert!(outcome.committed);
    let data = JSON.to_owned();
    assert_eq!(outcome.messages, [Message { account: OTHER, calldata: b"call".to_vec(), data: data.clone() }]);
    assert_eq!(outcome.events, [Event { topics: vec![[7; 32]], blob: b"blob".to_vec() }]);
    assert_eq!(outcome.eth_sends, [EthSend { account: OTHER, calldata: b"send".to_vec(), data: data.clone() }]);
    assert_eq!(outcome.deployments, [Deployment { calldata: b"args".to_vec(), code: b"code".to_vec(), data }]);
    assert_eq!(outcome.nondet_results, [NondetResult { call_no: 0, result: b"\0result".to_vec() }]);
    assert_eq!(outcome.fuel_used, 30);
    assert_eq!(
        execution.deltas().iter().map(|delta| (delta.index, delta.data.len())).collect::<Vec<_>>(),
        [(5000, 300_000), (u32::MAX, 1)]
    );
    let mut last = [0];
    state.read(StorageMode::LatestNonFinal, &ACCOUNT, &SLOT, u32::MAX, &mut last);
    assert_eq!(&last, b"z");
}

#[test]
fn an_execution_over_a_blocking_host() {
    let (state, environment) = prepared();
    let mut execution = state.begin(environment);
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let genvm = thread::spawn(move || execute(genvm));
    let served = serve_blocking(&mut node, &mut execution, &Protocol::ONE).unwrap();
    assert_eq!(served, Served::Finished);
    drop(node);
    genvm.join().unwrap();
    check(&state, &execution);
}

#[tokio::test]
async fn an_execution_over_an_async_host() {
    let (state, environment) = prepared();
    let mut execution = state.begin(environment);
    let (genvm, node) = UnixStream::pair().unwrap();
    node.set_nonblocking(true).unwrap();
    let mut node = tokio::net::UnixStream::from_std(node).unwrap();
    let genvm = thread::spawn(move || execute(genvm));
    let served = serve(&mut node, &mut execution, &Protocol::ONE).await.unwrap();
    assert_eq!(served, Served::Finished);
    drop(node);
    tokio::task::spawn_blocking(|| genvm.join().unwrap()).await.unwrap();
    check(&state, &execution);
}

#[test]
fn handlers_work_as_trait_objects() {
    let (state, environment) = prepared();
    let (genvm, node) = UnixStream::pair().unwrap();
    let mut execution = state.begin(environment);
    let genvm = thread::spawn(move || execute(genvm));
    let mut node: Box<dyn ReadWrite> = Box::new(node);
    let handler: &mut dyn BlockingHostHandler = &mut execution;
    assert_eq!(serve_blocking(&mut node, handler, &Protocol::ONE).unwrap(), Served::Finished);
    drop(node);
    genvm.join().unwrap();
    check(&state, &execution);
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

#[test]
fn a_killed_execution_leaves_no_trace() {
    let (state, environment) = prepared();
    let mut execution = state.begin(environment);
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let genvm = thread::spawn(move || HostClient::new(genvm).storage_write(&SLOT, 0, b"lost").unwrap());
    assert_eq!(serve_blocking(&mut node, &mut execution, &Protocol::ONE).unwrap(), Served::Closed);
    genvm.join().unwrap();
    assert_eq!(execution.outcome().result, None);
    drop(execution);
    let mut read = [1; 4];
    state.read(StorageMode::LatestNonFinal, &ACCOUNT, &SLOT, 0, &mut read);
    assert_eq!(read, [0; 4]);
}

#[test]
fn a_client_that_goes_without_its_answer_has_closed() {
    let (mut genvm, mut node) = UnixStream::pair().unwrap();
    let genvm = thread::spawn(move || {
        genvm.write_all(b"\x0d").unwrap();
        genvm.read_exact(&mut [0]).unwrap(); // the answer is there, and eight bytes of it are left behind
    });
    let mut execution = HostState::new().begin(Environment::default());
    assert_eq!(serve_blocking(&mut node, &mut execution, &Protocol::ONE).unwrap(), Served::Closed);
    genvm.join().unwrap();
}

#[test]
fn a_panicking_handler_unwinds_and_the_client_learns_of_it() {
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let host = thread::spawn(move || {
        let mut host = GoldenHost { refuse: Some(|| panic!("a bug in the host")), ..GoldenHost::default() };
        serve_blocking(&mut node, &mut host, &Protocol::ONE)
    });
    let error = HostClient::new(genvm).remaining_fuel_as_gen().unwrap_err();
    assert!(matches!(error, CallError::Protocol { source: ProtocolError::Truncated { .. }, .. }), "{error}");
    assert!(host.join().is_err());
}

#[test]
fn a_refusal_in_the_middle_of_a_read_ends_the_connection() {
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let host = thread::spawn(move || {
        let mut host = GoldenHost { refuse_after: Some(1), ..GoldenHost::default() };
        serve_blocking(&mut node, &mut host, &Protocol::ONE)
    });
    let mut client = HostClient::new(genvm);
    let error = client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut vec![0; 100_000]).unwrap_err();
    assert!(
        matches!(error, CallError::Protocol { source: ProtocolError::Truncated { missing: 67_232, .. }, .. }),
        "{error}"
    );
    let error = host.join().unwrap().unwrap_err();
    assert!(
        matches!(error, ServeError::Unanswerable { method: Method::StorageRead, status: Status::Forbidden }),
        "{error}"
    );
}

#[test]
fn an_execution_at_revision_2() {
    let (state, environment) = prepared();
    let mut execution = state.begin(Environment {
        no_eth_reply: Status::EvmReverted,
        executors: [(OTHER, b"v0.3".to_vec())].into(),
        nested_results: [b"nested".to_vec()].into(),
        ..environment
    });
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let genvm = thread::spawn(move || {
        let mut client = HostClient::speaking(Protocol::TWO, genvm);
        let mut read = [0xff; 12];
        client.storage_read(StorageMode::Default, &OTHER, &SLOT, 0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0other's\0\0");
        client.consume_fuel(30_u64).unwrap();
        assert_eq!(client.remaining_fuel_as_gen().unwrap(), U256::from(70));
        client.consume_fuel(U256([0xff; 32])).unwrap(); // more than there is, and more than is counted
        assert_eq!(client.remaining_fuel_as_gen().unwrap(), U256::from(0));
        assert_eq!(client.eth_call(&OTHER, b"view").unwrap(), b"first");
        assert_eq!(client.eth_call(&OTHER, b"view").unwrap_err().status(), Some(Status::EvmReverted));
        assert_eq!(client.get_balance(&OTHER).unwrap(), U256::from(77));
        client.notify_nondet_disagreement(4).unwrap();
        let mut executor = |account| client.resolve_callcontract_executor(account, StorageMode::LatestFinal, 1);
        assert_eq!(executor(&OTHER).unwrap(), b"v0.3");
        assert_eq!(executor(&ACCOUNT).unwrap_err().status(), Some(Status::Forbidden));
        assert_eq!(client.run_nested(b"inner").unwrap(), b"nested");
        client.consume_result(ResultCode::Return, b"deltas and all").unwrap();
    });
    let served = serve_blocking(&mut node, &mut execution, &Protocol::TWO).unwrap();
    assert_eq!(served, Served::Finished);
    genvm.join().unwrap();
    let outcome = execution.outcome();
    assert_eq!(outcome.result, Some((ResultCode::Return, b"deltas and all".to_vec())));
    assert_eq!((&outcome.disagreements[..], &outcome.nested[..]), (&[4][..], &[b"inner".to_vec()][..]));
    assert_eq!(outcome.fuel_used, u64::MAX);
}

#[test]
fn what_cannot_be_nested_ends_the_connection() {
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let mut execution = HostState::new().begin(Environment::default());
    let host = thread::spawn(move || serve_blocking(&mut node, &mut execution, &Protocol::TWO));
    let error = HostClient::speaking(Protocol::TWO, genvm).run_nested(b"inner").unwrap_err();
    assert!(error.is_fatal(), "{error}");
    let error = host.join().unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Handler { method: Method::RunNested, .. }), "{error}");
}

#[test]
fn after_its_result_an_execution_shows_no_other_state() {
    let (state, environment) = prepared();
    let ends: [fn(&mut HostClient<UnixStream>) -> CallError; 3] = [
        |client| client.get_balance(&OTHER).unwrap_err(),
        |client| client.storage_read(StorageMode::Default, &OTHER, &SLOT, 0, &mut [0; 4]).unwrap_err(),
        |client| client.consume_result(ResultCode::Return, b"again").unwrap_err(),
    ];
    for end in ends {
        let mut execution = state.begin(environment.clone());
        let (genvm, mut node) = UnixStream::pair().unwrap();
        let genvm = thread::spawn(move || {
            let mut client = HostClient::speaking(Protocol::TWO, genvm);
            assert_eq!(client.get_balance(&OTHER).unwrap(), U256::from(77));
            client.consume_result(ResultCode::Return, b"done").unwrap();
            // What needs no state goes on.
            client.consume_fuel(30_u64).unwrap();
            client.notify_nondet_disagreement(4).unwrap();
            assert_eq!(client.remaining_fuel_as_gen().unwrap(), U256::from(70));
            assert_eq!(client.eth_call(&OTHER, b"view").unwrap(), b"first");
            assert!(end(&mut client).is_fatal());
        });
        let error = serve_blocking(&mut node, &mut execution, &Protocol::TWO).unwrap_err();
        assert!(matches!(error, ServeError::Handler { .. }), "{error}");
        assert!(error.to_string().ends_with("the execution has ended"), "{error}");
        drop(node);
        genvm.join().unwrap();
        assert_eq!(execution.outcome().result, Some((ResultCode::Return, b"done".to_vec())));
    }
}

/// Written for revision 1: it has nothing to say about the methods of revision 2.
struct Old;

impl BlockingHostHandler for Old {
    fn get_calldata(&mut self) -> Answer<Vec<u8>> {
        unreachable!()
    }
    fn storage_read(&mut self, _: StorageMode, _: &Account, _: &SlotId, _: u32, _: &mut [u8]) -> Answer<()> {
        unreachable!()
    }
    fn storage_write(&mut self, _: &SlotId, _: u32, _: &[u8]) -> Answer<()> {
        unreachable!()
    }
    fn consume_result(&mut self, _: ResultCode, _: &[u8]) -> Answer<()> {
        unreachable!()
    }
    fn get_leader_nondet_result(&mut self, _: u32) -> Answer<LeaderResult> {
        unreachable!()
    }
    fn post_nondet_result(&mut self, _: u32, _: &[u8]) -> Answer<()> {
        unreachable!()
    }
    fn post_message(&mut self, _: &Account, _: &[u8], _: &str) -> Answer<()> {
        unreachable!()
    }
    fn post_event(&mut self, _: &[[u8; 32]], _: &[u8]) -> Answer<()> {
        unreachable!()
    }
    fn consume_fuel(&mut self, _: U256) -> Answer<()> {
        unreachable!()
    }
    fn deploy_contract(&mut self, _: &[u8], _: &[u8], _: &str) -> Answer<()> {
        unreachable!()
    }
    fn eth_call(&mut self, _: &Account, _: &[u8]) -> Answer<Vec<u8>> {
        unreachable!()
    }
    fn eth_send(&mut self, _: &Account, _: &[u8], _: &str) -> Answer<()> {
        unreachable!()
    }
    fn get_balance(&mut self, _: &Account) -> Answer<U256> {
        unreachable!()
    }
    fn remaining_fuel_as_gen(&mut self) -> Answer<U256> {
        unreachable!()
    }
}

#[test]
fn a_handler_that_says_nothing_about_revision_2_refuses_what_it_cannot() {
    let (genvm, mut node) = UnixStream::pair().unwrap();
    let host = thread::spawn(move || serve_blocking(&mut node, &mut Old, &Protocol::TWO));
    let mut client = HostClient::speaking(Protocol::TWO, genvm);
    client.notify_nondet_disagreement(4).unwrap();
    let error = client.resolve_callcontract_executor(&OTHER, StorageMode::Default, 1).unwrap_err();
    assert_eq!(error.status(), Some(Status::Forbidden), "{error}");
    assert!(client.run_nested(b"inner").unwrap_err().is_fatal());
    let error = host.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "`run_nested`: the handler failed: this host runs nothing nested");
}
