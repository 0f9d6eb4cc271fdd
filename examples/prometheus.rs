//! What executions cost their host, as Prometheus text: `cargo run --features metrics --example prometheus`.
//!
//! GenVM is a process an execution, so it would rather append its snapshot to a file, and something that lives longer would publish
//! them; here both are one process.

use std::error::Error;
use std::thread;

use genvm_transport::metrics::Snapshot;
use genvm_transport::protocol::{
    Account, Environment, HostClient, HostState, Protocol, ResultCode, SlotId, StorageMode, serve_blocking,
};
use genvm_transport::{ConnectOptions, ListenOptions, connect, listen};

const CONTRACT: Account = Account([1; 20]);

fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("snapshots.jsonl");
    let listener = listen(&format!("unix://{}/host.sock", directory.path().display()), &ListenOptions::default())?;
    let address = listener.address().to_string();
    thread::spawn(move || {
        let state = HostState::new();
        while let Ok(mut stream) = listener.accept() {
            let mut execution = state.begin(Environment { account: CONTRACT, ..Environment::default() });
            thread::spawn(move || serve_blocking(&mut stream, &mut execution, &Protocol::ONE));
        }
    });

    for execution in 0..3u8 {
        let mut client = HostClient::new(connect(&address, &ConnectOptions::default())?);
        for slot in 0..=execution {
            let mut value = [0; 32];
            client.storage_read(StorageMode::Default, &CONTRACT, &SlotId([slot; 32]), 0, &mut value)?;
            client.storage_write(&SlotId([slot; 32]), 0, &[value[0] + 1; 32])?;
        }
        client.consume_result(ResultCode::Return, b"")?;
        Snapshot::of(&client).with_stream(client.get_ref()).append_to(&file)?;
    }

    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let snapshots = Snapshot::read_from(&file)?;
    metrics::with_local_recorder(&recorder, || snapshots.iter().for_each(Snapshot::publish));
    print!("{}", recorder.handle().render());
    Ok(())
}
