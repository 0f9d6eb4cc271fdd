//! Foreign peers: our client against the host in `examples/python-host`, which was written from the description of the
//! protocol alone, and that example's client against our host. Skipped, with a notice, where there is no `python3`.
#![cfg(all(unix, feature = "uds"))]

mod foreign_support;
mod support;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;

use foreign_support::{is_there, listening, python};
use genvm_transport::protocol::*;
use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, connect, listen};
use serde_json::{Value, json};
use support::{Other, directory, start, watchdog};
use tempfile::TempDir;

const CONTRACT: Account = Account([0xaa; 20]);
const OTHER: Account = Account([0xbb; 20]);
const SLOT: SlotId = SlotId([0x55; 32]);
const LOCKED: SlotId = SlotId([0x66; 32]);
const JSON: &str = r#"{"value": "0x0", "on": "finalized"}"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the Python host is told of the world, for a leader.
fn world() -> Value {
    json!({
        "contract": hex(&CONTRACT.0),
        "calldata": hex(b"in"),
        "fuel": 100,
        "storage_gas": 2_000_000,
        "balances": { hex(&OTHER.0): 77 },
        "locked_slots": [hex(&LOCKED.0)],
        "eth_replies": { hex(b"view"): hex(b"first") },
        "executors": { hex(&OTHER.0): "v03" },
        "nested": hex(b"nested"),
        "storage": [[hex(&OTHER.0), hex(&SLOT.0), 3, hex(b"other's")]],
    })
}

/// A host in Python, and where it listens.
struct PythonHost {
    process: Other,
    address: String,
    directory: TempDir,
}

impl PythonHost {
    /// `program` at an address of `scheme`.
    fn start(scheme: &str, mut program: Command, world: &Value, arguments: &[&str]) -> Self {
        let directory = directory();
        let (socket, description) = (directory.path().join("s"), directory.path().join("world.json"));
        std::fs::write(&description, world.to_string()).expect("its world");
        let process = listening(program.arg(&socket).arg("--world").arg(description).args(arguments));
        Self { process, address: format!("{scheme}://{}", socket.display()), directory }
    }

    /// With the feature `prefer-shm` our client asks for shared memory first, and has to fall back.
    fn connect(&self) -> Box<dyn BlockingStream> {
        let mut stream = connect(&self.address, &ConnectOptions::default()).expect("connected");
        assert!(self.address.starts_with(&format!("{}://", stream.kind())), "{} on {}", stream.kind(), self.address);
        let patience = Some(std::time::Duration::from_secs(60));
        stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).expect("timeouts");
        stream
    }

    /// What the next execution that ended came to.
    fn outcome(&mut self) -> Value {
        serde_json::from_str(&format!("{{{}", self.process.wait_for("{"))).expect("JSON")
    }
}

/// The hosts to test against: the one in plain asyncio and, where there is shared memory, the one on our C library.
fn hosts(world: &Value, arguments: &[&str]) -> Vec<PythonHost> {
    if !is_there("python3") {
        return Vec::new();
    }
    vec![
        PythonHost::start("unix", python("host.py"), world, arguments),
        #[cfg(all(feature = "capi", feature = "shm"))]
        PythonHost::start("shm", on_the_library("shm_host.py"), world, arguments),
    ]
}

#[cfg(all(feature = "capi", feature = "shm"))]
fn on_the_library(program: &str) -> Command {
    let mut program = python(program);
    program.arg("--library").arg(foreign_support::library());
    program
}

fn large() -> Vec<u8> {
    (0..1_000_000u32).map(|i| (i % 253) as u8).collect()
}

#[test]
fn every_method_of_revision_1_against_a_python_host() {
    for mut host in hosts(&world(), &[]) {
        let _watchdog = watchdog("revision 1 against a Python host");
        let mut client = HostClient::new(host.connect());
        assert_eq!(client.get_calldata().unwrap(), b"in");

        let large = large();
        client.storage_write(&SLOT, 5000, &large).unwrap();
        client.storage_write(&SLOT, u32::MAX, b"z").unwrap();
        let mut read = vec![0xee; large.len() + 20];
        client.storage_read(StorageMode::Default, &CONTRACT, &SLOT, 4990, &mut read).unwrap();
        assert!(read == [&[0; 10][..], &large, &[0; 10]].concat(), "what was written");
        client.storage_read(StorageMode::LatestNonFinal, &OTHER, &SLOT, 0, &mut read[..12]).unwrap();
        assert_eq!(&read[..12], b"\0\0\0other's\0\0");
        client.storage_read(StorageMode::LatestFinal, &CONTRACT, &SLOT, u32::MAX, &mut read[..1]).unwrap();
        assert_eq!(read[0], 0, "not committed yet");
        client.storage_read(StorageMode::Default, &OTHER, &SLOT, 3, &mut []).unwrap();

        assert_eq!(client.get_leader_nondet_result(0).unwrap(), LeaderResult::IAmLeader);
        client.post_nondet_result(7, b"\0result").unwrap();
        client.post_message(&OTHER, b"call", JSON).unwrap();
        client.post_event(&[[7; 32], [8; 32]], b"blob").unwrap();
        client.post_event(&[], b"").unwrap();
        client.consume_fuel(30_u64).unwrap();
        assert_eq!(client.remaining_fuel_as_gen().unwrap(), U256::from(70));
        client.deploy_contract(b"args", &large, JSON).unwrap();
        assert_eq!(client.eth_call(&OTHER, b"view").unwrap(), b"first");
        client.eth_send(&OTHER, b"send", JSON).unwrap();
        assert_eq!(client.get_balance(&OTHER).unwrap(), U256::from(77));
        assert_eq!(client.get_balance(&CONTRACT).unwrap(), U256::from(0));
        client.consume_result(ResultCode::Return, b"done").unwrap();
        // The host has stopped.
        assert!(client.get_calldata().unwrap_err().is_fatal());

        let (account, data): (_, Value) = (hex(&OTHER.0), serde_json::from_str(JSON).unwrap());
        let expected = json!({
            "result": hex(b"\0done"),
            "fuel_used": 30,
            "messages": [[account, hex(b"call"), data]],
            "events": [[[hex(&[7; 32]), hex(&[8; 32])], hex(b"blob")], [[], ""]],
            "eth_sends": [[account, hex(b"send"), data]],
            "deployments": [[hex(b"args"), hex(&large), data]],
            "nondet_results": [[7, hex(b"\0result")]],
            "disagreements": [],
        });
        assert!(host.outcome() == expected, "the outcome is another");

        // The next execution finds what this one left.
        let mut client = HostClient::new(host.connect());
        client.storage_read(StorageMode::LatestFinal, &CONTRACT, &SLOT, u32::MAX, &mut read[..1]).unwrap();
        assert_eq!(read[0], b'z');
    }
}

#[test]
fn every_method_of_revision_2_against_a_python_host() {
    for mut host in hosts(&world(), &["--revision", "2", "--hello", "6869"]) {
        let _watchdog = watchdog("revision 2 against a Python host");
        let mut client = HostClient::speaking(Protocol::TWO.with_hello(*b"hi"), host.connect());
        let mut read = [0xee; 12];
        client.storage_read(StorageMode::Default, &OTHER, &SLOT, 0, &mut read).unwrap();
        assert_eq!(&read, b"\0\0\0other's\0\0");
        client.consume_fuel(30_u64).unwrap();
        client.consume_fuel(0_u64).unwrap();
        assert_eq!(client.remaining_fuel_as_gen().unwrap(), U256::from(70));
        assert_eq!(client.eth_call(&OTHER, b"view").unwrap(), b"first");
        assert_eq!(client.eth_call(&OTHER, b"?").unwrap_err().status(), Some(Status::EvmReverted));
        assert_eq!(client.get_balance(&OTHER).unwrap(), U256::from(77));
        client.notify_nondet_disagreement(5).unwrap();
        assert_eq!(client.resolve_callcontract_executor(&OTHER, StorageMode::Default, 3).unwrap(), b"v03");
        let unknown = client.resolve_callcontract_executor(&CONTRACT, StorageMode::LatestFinal, 3).unwrap_err();
        assert_eq!(unknown.status(), Some(Status::Forbidden));
        assert_eq!(client.run_nested(&large()).unwrap(), b"nested");
        client.consume_result(ResultCode::UserError, b"no").unwrap();
        // At revision 2 the loop goes on.
        assert_eq!(client.eth_call(&OTHER, b"view").unwrap(), b"first");
        drop(client);
        let outcome = host.outcome();
        assert_eq!(outcome["result"], json!(hex(b"\x01no")));
        assert_eq!((&outcome["disagreements"], &outcome["fuel_used"]), (&json!([5]), &json!(30)));

        // Who does not begin as agreed is not served.
        let mut stranger = HostClient::speaking(Protocol::TWO.with_hello(*b"ho"), host.connect());
        assert!(stranger.remaining_fuel_as_gen().unwrap_err().is_fatal());
    }
}

#[test]
fn a_python_host_says_no() {
    let mut world = world();
    world["leader_results"] = json!({ "1": hex(b"\x02vm!") });
    world["calldata"] = Value::Null;
    for host in hosts(&world, &[]) {
        let _watchdog = watchdog("a Python host that says no");
        let mut client = HostClient::new(host.connect());
        let status = |result: Result<(), CallError>| result.expect_err("no").status();
        assert_eq!(client.get_calldata().unwrap_err().status(), Some(Status::Absent));
        assert_eq!(status(client.storage_write(&LOCKED, 0, b"x")), Some(Status::Forbidden));
        assert_eq!(status(client.storage_write(&SLOT, 0, &vec![1; 2_000_001])), Some(Status::OutOfStorageGas));
        assert_eq!(client.eth_call(&OTHER, b"?").unwrap_err().status(), Some(Status::Absent));
        let result = LeaderResult::Result { code: ResultCode::VmError, data: b"vm!".to_vec() };
        assert_eq!(client.get_leader_nondet_result(1).unwrap(), result);
        assert_eq!(client.get_leader_nondet_result(2).unwrap(), LeaderResult::Absent);
        assert_eq!(status(client.post_nondet_result(1, b"\0x")), Some(Status::Forbidden));
        // None of them was the end.
        let mut read = [0xee; 3];
        client.storage_read(StorageMode::Default, &CONTRACT, &SLOT, 0, &mut read).unwrap();
        assert_eq!(read, [0; 3]);
    }
}

#[test]
fn a_batch_against_a_python_host() {
    for host in hosts(&world(), &[]) {
        let _watchdog = watchdog("a batch against a Python host");
        let mut client = HostClient::new(host.connect());
        let written = large();
        client.storage_write(&SLOT, 0, &written).unwrap();
        // Small ones and large ones, many more than lie in the buffers between.
        let places: Vec<(u32, usize)> =
            (0..2000u32).map(|n| (n * 397, if n % 100 == 0 { 100_000 } else { n as usize % 40 })).collect();
        let mut buffers: Vec<Vec<u8>> = places.iter().map(|(_, length)| vec![0xee; *length]).collect();
        let read = |(place, out)| {
            let (index, _): &(u32, usize) = place;
            let out: &mut Vec<u8> = out;
            SlotRead { mode: StorageMode::Default, account: CONTRACT, slot: SLOT, index: *index, out }
        };
        client
            .storage_read_many(&mut places.iter().zip(&mut buffers).map(read).collect::<Vec<_>>())
            .expect("all answered");
        for ((index, length), read) in places.iter().zip(&buffers) {
            assert!(*read == written[*index as usize..][..*length], "{length} bytes at {index}");
        }
        let mut batch = client.batch();
        batch.push(&Request::ConsumeFuel { gas: 1.into() });
        let view = batch.push(&Request::EthCall { account: OTHER, calldata: b"?" });
        let fuel = batch.push(&Request::RemainingFuelAsGen);
        let replies = batch.run();
        assert_eq!(replies[view].as_ref().unwrap_err().status(), Some(Status::Absent));
        assert_eq!(*replies[fuel].as_ref().unwrap(), Reply::Fuel(99.into()));
    }
}

#[test]
fn a_python_host_closes_on_nonsense_and_serves_the_next() {
    for host in hosts(&world(), &[]) {
        let _watchdog = watchdog("nonsense to a Python host");
        let beyond = [&[1, 0][..], &CONTRACT.0, &SLOT.0, &[0xff; 4], &2_u32.to_le_bytes()].concat();
        for nonsense in [&[14][..], &[1, 9], &[3, 0, 0, 0, 0], &[5, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], &beyond] {
            let mut stream = host.connect();
            stream.write_all(nonsense).and_then(|()| stream.flush()).expect("written");
            let end = stream.read(&mut [0]);
            let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(end.as_ref().is_ok_and(|n| *n == 0) || end.as_ref().is_err_and(is_reset), "{nonsense:?}: {end:?}");
        }
        // Half a request and then silence is a client that died.
        host.connect().write_all(&[2, 0x55]).expect("written");
        assert_eq!(HostClient::new(host.connect()).get_calldata().unwrap(), b"in");
    }
}

/// Someone who does not use this crate at all.
#[test]
fn a_python_host_serves_a_bare_socket_and_leaves_no_file() {
    for mut host in hosts(&world(), &[]) {
        let _watchdog = watchdog("a bare socket at a Python host");
        let socket = host.directory.path().join("s");
        let mut stream = UnixStream::connect(&socket).expect("connected");
        stream.write_all(b"\x00").expect("written");
        let mut answer = [0xee; 7];
        stream.read_exact(&mut answer).expect("read");
        assert_eq!(&answer, b"\0\x02\0\0\0in");
        drop(stream);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("a file").permissions());
        assert_eq!(mode & 0o777, 0o600);
        let id = rustix::process::Pid::from_child(&host.process.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("terminated");
        assert!(host.process.child.wait().expect("its end").success());
        assert!(!socket.exists());
    }
}

/// Runs a Python client with `calls` as its input; its answers.
fn python_client(mut client: Command, address: &str, arguments: &[&str], calls: &[Value]) -> Vec<Value> {
    let mut client = start(client.arg(address).args(arguments).stderr(Stdio::inherit()));
    let mut input = client.child.stdin.take().expect("piped");
    let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
    let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
    let answers = calls.iter().map(|_| serde_json::from_str(&client.wait_for("")).expect("JSON")).collect();
    writer.join().expect("no panic").expect("it reads");
    assert!(client.child.wait().expect("its end").success());
    answers
}

/// Serves one execution on our listener at `scheme`; the address and what will have become of it.
fn our_host(
    scheme: &str,
    directory: &TempDir,
    environment: Environment,
    protocol: Protocol,
) -> (String, thread::JoinHandle<(Execution, Served)>) {
    let state = HostState::new();
    state.set_balance(&OTHER, U256::from(77));
    state.set_storage(&OTHER, &SLOT, 3, b"other's");
    let address = format!("{scheme}://{}/s", directory.path().display());
    let listener = listen(&address, &ListenOptions::default()).expect("a listener");
    let hosting = thread::spawn(move || {
        let mut execution = state.begin(environment);
        let mut stream = listener.accept().expect("accepted");
        let served = serve_blocking(&mut stream, &mut execution, &protocol).expect("served");
        (execution, served)
    });
    (address, hosting)
}

#[test]
fn a_python_client_makes_every_call_of_revision_1() {
    if !is_there("python3") {
        return;
    }
    let (contract, other, slot, locked) = (hex(&CONTRACT.0), hex(&OTHER.0), hex(&SLOT.0), hex(&LOCKED.0));
    let large = large();
    let calls_and_answers = [
        (json!(["get_calldata"]), json!(["ok", hex(b"in")])),
        (json!(["storage_read", 1, other, slot, 2, 9]), json!(["ok", hex(b"\0other's\0")])),
        (json!(["storage_write", slot, 5000, hex(&large)]), json!(["ok"])),
        (json!(["storage_write", locked, 0, "00"]), json!(["forbidden"])),
        (json!(["storage_read", 0, contract, slot, 5000, large.len()]), json!(["ok", hex(&large)])),
        (json!(["storage_read", 2, contract, slot, 5000, 1]), json!(["ok", "00"])),
        (json!(["get_leader_nondet_result", 0]), json!(["i_am_leader"])),
        (json!(["post_nondet_result", 0, hex(b"\0result")]), json!(["ok"])),
        (json!(["post_message", other, hex(b"call"), JSON]), json!(["ok"])),
        (json!(["post_event", [hex(&[7; 32])], hex(b"blob")]), json!(["ok"])),
        (json!(["consume_fuel", 30]), json!(["ok"])),
        (json!(["deploy_contract", hex(b"args"), hex(b"code"), JSON]), json!(["ok"])),
        (json!(["eth_call", other, hex(b"view")]), json!(["ok", hex(b"first")])),
        (json!(["eth_call", other, hex(b"view")]), json!(["absent"])),
        (json!(["eth_send", other, hex(b"send"), JSON]), json!(["ok"])),
        (json!(["get_balance", other]), json!(["ok", 77])),
        (json!(["remaining_fuel_as_gen"]), json!(["ok", 70])),
        (json!(["consume_result", hex(b"\0done")]), json!(["ok"])),
    ];
    let (calls, expected): (Vec<_>, Vec<_>) = calls_and_answers.into_iter().unzip();
    let clients = [
        ("unix", python("client.py"), &[][..]),
        ("unix", python("client.py"), &["--pipelined"]),
        #[cfg(all(feature = "capi", feature = "shm"))]
        ("shm", on_the_library("client.py"), &[]),
    ];
    for (scheme, client, pipelined) in clients {
        let _watchdog = watchdog("a Python client at revision 1");
        let directory = directory();
        let environment = Environment {
            account: CONTRACT,
            calldata: b"in".to_vec(),
            eth_replies: EthReplies::InOrder([b"first".to_vec()].into()),
            fuel: 100,
            locked_slots: [LOCKED].into(),
            ..Environment::default()
        };
        let (address, hosting) = our_host(scheme, &directory, environment, Protocol::ONE);
        let answers = python_client(client, &address, pipelined, &calls);
        for ((call, answer), expected) in calls.iter().zip(&answers).zip(&expected) {
            assert!(answer == expected, "{:.200}: {:.200}, not {:.200}", call, answer, expected);
        }
        let (execution, served) = hosting.join().expect("no panic");
        let outcome = execution.outcome();
        assert_eq!((served, outcome.committed, outcome.fuel_used), (Served::Finished, true, 30));
        assert_eq!(outcome.result, Some((ResultCode::Return, b"done".to_vec())));
        let data = JSON.to_owned();
        assert_eq!(outcome.messages, [Message { account: OTHER, calldata: b"call".to_vec(), data: data.clone() }]);
        assert_eq!(outcome.events, [Event { topics: vec![[7; 32]], blob: b"blob".to_vec() }]);
        assert_eq!(outcome.eth_sends, [EthSend { account: OTHER, calldata: b"send".to_vec(), data: data.clone() }]);
        assert_eq!(outcome.deployments, [Deployment { calldata: b"args".to_vec(), code: b"code".to_vec(), data }]);
        assert_eq!(outcome.nondet_results, [NondetResult { call_no: 0, result: b"\0result".to_vec() }]);
        assert_eq!(execution.deltas().len(), 1);
    }
}

#[test]
fn a_python_client_makes_every_call_of_revision_2() {
    if !is_there("python3") {
        return;
    }
    let _watchdog = watchdog("a Python client at revision 2");
    let (other, slot) = (hex(&OTHER.0), hex(&SLOT.0));
    let calls_and_answers = [
        (json!(["storage_read", 0, other, slot, 2, 9]), json!(["ok", hex(b"\0other's\0")])),
        (json!(["consume_fuel", 30]), json!(["ok"])),
        (json!(["eth_call", other, hex(b"view")]), json!(["evm_reverted"])),
        (json!(["get_balance", other]), json!(["ok", 77])),
        (json!(["remaining_fuel_as_gen"]), json!(["ok", 70])),
        (json!(["notify_nondet_disagreement", 5]), json!(["ok"])),
        (json!(["resolve_callcontract_executor", other, 0, 3]), json!(["ok", hex(b"v03")])),
        (json!(["run_nested", hex(b"inner")]), json!(["ok", hex(b"nested")])),
        (json!(["consume_result", hex(b"\x01no")]), json!(["ok"])),
    ];
    let (calls, expected): (Vec<_>, Vec<_>) = calls_and_answers.into_iter().unzip();
    let directory = directory();
    let environment = Environment {
        account: CONTRACT,
        no_eth_reply: Status::EvmReverted,
        executors: [(OTHER, b"v03".to_vec())].into(),
        nested_results: [b"nested".to_vec()].into(),
        fuel: 100,
        ..Environment::default()
    };
    let (address, hosting) = our_host("unix", &directory, environment, Protocol::TWO.with_hello(*b"hi"));
    assert_eq!(python_client(python("client.py"), &address, &["--revision", "2", "--hello", "6869"], &calls), expected);
    let (execution, served) = hosting.join().expect("no panic");
    let outcome = execution.outcome();
    assert_eq!((served, outcome.committed, &outcome.disagreements[..]), (Served::Finished, false, &[5][..]));
    assert_eq!((outcome.fuel_used, &outcome.nested[..]), (30, &[b"inner".to_vec()][..]));
}
