//! A client that makes many calls at once: `cargo run --example batch_client -- unix:///run/host.sock`, where a host such as
//! `thread_host` listens.
//!
//! Batches need nothing from the host: it answers one request after another, as ever. With the feature `metrics`, a second argument is
//! a file to which it appends what its calls cost; `metrics_host` shows them.

use std::error::Error;

use genvm_transport::protocol::{
    Account, HostClient, Reply, Request, ResultCode, SlotId, SlotRead, Status, StorageMode,
};
use genvm_transport::{ConnectOptions, connect};

const ACCOUNT: Account = Account([7; 20]);
const SLOTS: usize = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("usage: batch_client ADDRESS [SNAPSHOTS]")?;
    let mut client = HostClient::new(connect(&address, &ConnectOptions::default())?);

    // Many reads into buffers of the caller.
    let mut before = [[0; 32]; SLOTS];
    let mut reads = Vec::new();
    for (number, out) in before.iter_mut().enumerate() {
        reads.push(SlotRead { mode: StorageMode::Default, account: ACCOUNT, slot: slot(number), index: 0, out });
    }
    client.storage_read_many(&mut reads)?;

    // Calls of any kind. Each has a result of its own; what the host refuses ends nothing.
    let after = before.map(|value| value.map(|byte| byte.wrapping_add(1)));
    let mut batch = client.batch();
    for (number, data) in after.iter().enumerate() {
        batch.push(&Request::StorageWrite { slot: slot(number), index: 0, data });
    }
    let unanswered = batch.push(&Request::EthCall { account: ACCOUNT, calldata: b"nobody knows" });
    let first = batch.push(&Request::StorageRead {
        mode: StorageMode::Default,
        account: ACCOUNT,
        slot: slot(0),
        index: 0,
        length: 32,
    });
    let calls = batch.len();
    let mut replies = batch.run();
    let Reply::Bytes(value) = replies.swap_remove(first)? else { unreachable!("a read is answered with bytes") };
    assert_eq!(value, after[0]);
    let status = replies.swap_remove(unanswered).map_err(|error| error.status());
    assert_eq!(status, Err(Some(Status::Absent)));
    for written in replies {
        written?;
    }

    client.consume_result(ResultCode::Return, &value)?;
    let kind = client.get_ref().kind();
    println!("{SLOTS} reads at once, then {calls} calls at once over {kind}; the first slot holds {}", value[0]);

    match args.next() {
        None => {}
        #[cfg(feature = "metrics")]
        Some(file) => genvm_transport::metrics::Snapshot::of(&client).with_stream(client.get_ref()).append_to(file)?,
        #[cfg(not(feature = "metrics"))]
        Some(_) => return Err("snapshots need the feature `metrics`".into()),
    }
    Ok(())
}

fn slot(number: usize) -> SlotId {
    SlotId([number as u8; 32])
}
