//! What a client's calls cost is counted, call by call, and survives a file and the `metrics` facade.
#![cfg(all(unix, feature = "metrics", feature = "uds", feature = "shm"))]

mod support;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use genvm_transport::metrics::Snapshot;
use genvm_transport::protocol::*;
use genvm_transport::{ConnectOptions, ListenOptions, Listener, WaitStrategy, connect, listen};
use support::{directory, watchdog};

const ACCOUNT: Account = Account([1; 20]);
const SLOT: SlotId = SlotId([2; 32]);

fn client() -> HostClient<UnixStream> {
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    let environment = Environment { account: ACCOUNT, calldata: vec![7; 300], ..Environment::default() };
    thread::spawn(move || serve_blocking(&mut node, &mut HostState::new().begin(environment), &Protocol::ONE));
    HostClient::new(genvm)
}

/// An execution with some of everything.
fn execute(client: &mut HostClient<UnixStream>) {
    client.get_calldata().expect("calldata");
    for _ in 0..10 {
        client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, 0, &mut [0; 32]).expect("read");
    }
    client.storage_write(&SLOT, 0, &[1; 5]).expect("written");
    client.eth_call(&ACCOUNT, b"view").expect_err("absent");
    client.storage_read(StorageMode::Default, &ACCOUNT, &SLOT, u32::MAX, &mut [0; 2]).expect_err("refused, not sent");
    client.consume_fuel(1_u64).expect("sent");
    let mut batch = client.batch_within(4096);
    for _ in 0..3 {
        let (mode, account, slot) = (StorageMode::Default, ACCOUNT, SLOT);
        batch.push(&Request::StorageRead { mode, account, slot, index: 0, length: 8 });
    }
    batch.push(&Request::EthCall { account: ACCOUNT, calldata: b"view" });
    assert_eq!(batch.run().iter().filter(|result| result.is_ok()).count(), 3);
}

#[test]
fn every_call_is_counted_with_its_bytes_and_its_end() {
    let _watchdog = watchdog("counting calls");
    let mut client = client();
    assert_eq!(Snapshot::of(&client).calls(), 0);
    execute(&mut client);
    let snapshot = Snapshot::of(&client);
    let method = |name: &str| &snapshot.methods[name];
    let counted: Vec<_> = snapshot.methods.iter().map(|(name, method)| (name.as_str(), method.calls)).collect();
    let expected =
        [("consume_fuel", 1), ("eth_call", 2), ("get_calldata", 1), ("storage_read", 13), ("storage_write", 1)];
    assert_eq!(counted, expected);
    assert_eq!(snapshot.calls(), 18);
    let bytes = |name: &str| (method(name).sent_bytes, method(name).received_bytes);
    assert_eq!(bytes("storage_read"), (13 * 62, 10 * 33 + 3 * 9));
    assert_eq!(bytes("storage_write"), (1 + 40 + 5, 1));
    assert_eq!(bytes("get_calldata"), (1, 1 + 4 + 300));
    assert_eq!(bytes("eth_call"), (2 * (1 + 20 + 4 + 4), 2));
    assert_eq!(bytes("consume_fuel"), (9, 0));
    assert_eq!(method("eth_call").statuses, [("absent".to_owned(), 2)].into());
    assert_eq!(method("storage_read").statuses, [("ok".to_owned(), 13)].into());

    let latency = &method("storage_read").latency;
    assert_eq!(latency.buckets.iter().map(|(_, calls)| calls).sum::<u64>(), 10, "those of a batch have no time");
    assert!(
        latency.buckets.is_sorted() && [latency.p50_ns, latency.p90_ns, latency.p99_ns, latency.max_ns].is_sorted()
    );
    assert!(latency.p50_ns > 0 && snapshot.waiting_ns > 0 && snapshot.waiting_ns <= snapshot.elapsed_ns);
    assert_eq!((snapshot.transport.as_deref(), snapshot.sleeps, snapshot.revision.as_str()), (None, None, "1"));
}

#[test]
fn a_lost_connection_is_counted_once() {
    let _watchdog = watchdog("counting a lost connection");
    let (genvm, node) = UnixStream::pair().expect("a pair");
    let mut client = HostClient::new(genvm);
    drop(node);
    client.get_calldata().expect_err("nobody there");
    client.get_calldata().expect_err("dead");
    let mut batch = client.batch_within(4096);
    batch.push(&Request::GetCalldata);
    batch.run()[0].as_ref().expect_err("dead");
    let snapshot = Snapshot::of(&client);
    let method = &snapshot.methods["get_calldata"];
    assert_eq!((method.calls, method.lost, method.statuses.len()), (1, 1, 0));
}

#[test]
fn executions_share_a_file() {
    let directory = directory();
    let path = directory.path().join("snapshots.jsonl");
    let mut taken = Vec::new();
    for _ in 0..3 {
        let mut client = client();
        execute(&mut client);
        let snapshot = Snapshot::of(&client);
        snapshot.append_to(&path).expect("appended");
        taken.push(snapshot);
    }
    assert_eq!(Snapshot::read_from(&path).expect("three lines"), taken);
    std::fs::write(&path, "{}\nnonsense\n").expect("written");
    let error = Snapshot::read_from(&path).expect_err("no snapshots");
    assert!(error.to_string().starts_with("line 1: missing field"), "{error}");
    let error = taken[0].append_to(directory.path()).expect_err("a directory");
    assert_eq!(error.kind(), std::io::ErrorKind::IsADirectory);
}

#[test]
fn a_stream_tells_what_it_is_and_how_often_it_slept() {
    let _watchdog = watchdog("a stream's own numbers");
    for (scheme, wait, sleeps) in [
        ("unix", WaitStrategy::Park, true),
        ("shm", WaitStrategy::Park, true),
        ("unix", WaitStrategy::Spin, false),
        ("shm", WaitStrategy::Spin, false),
    ] {
        let directory = directory();
        let address = format!("{scheme}://{}/host.sock", directory.path().display());
        let mut options = ListenOptions::default();
        options.upgrades = scheme == "shm"; // whatever a client of `unix://` would prefer
        let listener: Arc<dyn Listener> = Arc::from(listen(&address, &options).expect("a listener"));
        let accepting = listener.clone();
        let host = thread::spawn(move || {
            while let Ok(mut stream) = accepting.accept() {
                let mut execution = HostState::new().begin(Environment::default());
                let _ = serve_blocking(&mut stream, &mut execution, &Protocol::ONE);
            }
        });
        let stream = connect(&address, &ConnectOptions::default().with_wait(wait)).expect("connected");
        let mut client = HostClient::new(stream);
        for _ in 0..50 {
            client.get_balance(&ACCOUNT).expect("a balance");
        }
        let snapshot = Snapshot::of(&client).with_stream(client.get_ref());
        assert_eq!(snapshot.transport.as_deref(), Some(scheme));
        assert_eq!(snapshot.sleeps.expect("counted") > 0, sleeps, "{scheme} {wait:?}: {snapshot:?}");
        drop(client);
        listener.close();
        host.join().expect("no panic");
    }
}

#[test]
fn upgrades_and_fall_backs_are_counted() {
    let _watchdog = watchdog("counting upgrades");
    for upgrades in [true, false] {
        let directory = directory();
        let path = directory.path().join("host.sock");
        let mut options = ListenOptions::default();
        options.upgrades = upgrades;
        let scheme = if upgrades { "shm" } else { "unix" };
        let listener: Arc<dyn Listener> =
            Arc::from(listen(&format!("{scheme}://{}", path.display()), &options).expect("a listener"));
        let accepting = listener.clone();
        let host = thread::spawn(move || {
            while let Ok(mut stream) = accepting.accept() {
                let _ =
                    serve_blocking(&mut stream, &mut HostState::new().begin(Environment::default()), &Protocol::ONE);
            }
        });
        let mut options = ConnectOptions::default();
        options.fallback = genvm_transport::options::Fallback::Plain;
        let mut client = HostClient::new(connect(&format!("shm://{}", path.display()), &options).expect("connected"));
        client.get_balance(&ACCOUNT).expect("a balance");
        let snapshot = Snapshot::of(&client).with_stream(client.get_ref());
        assert_eq!((snapshot.upgrades, snapshot.fall_backs), if upgrades { (1, 0) } else { (0, 1) });
        drop(client);
        listener.close();
        host.join().expect("no panic");
    }
}

#[test]
fn prometheus_shows_what_was_published() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let mut client = client();
    execute(&mut client);
    metrics::with_local_recorder(&recorder, || Snapshot::of(&client).publish());
    let text = handle.render();
    for line in [
        r#"genvm_host_calls_total{method="storage_read",status="ok",transport="unknown"} 13"#,
        r#"genvm_host_calls_total{method="eth_call",status="absent",transport="unknown"} 2"#,
        r#"genvm_host_received_bytes_total{method="get_calldata",transport="unknown"} 305"#,
        r#"genvm_host_call_seconds_count{method="storage_read",transport="unknown"} 10"#,
        r#"genvm_host_elapsed_seconds_count{transport="unknown"} 1"#,
        "genvm_host_upgrades_total 0",
        "genvm_host_fall_backs_total 0",
    ] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}
