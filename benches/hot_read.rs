//! A `storage_read` after the other: round trips between two processes, over every transport, with every wait strategy.
//! `cargo bench --features lab --bench hot_read -- shm/adaptive`

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use genvm_transport::protocol::{Account, StorageMode};

/// The host takes the account of the first read for the running contract.
const ACCOUNT: Account = Account([1; 20]);

fn hot_read(criterion: &mut Criterion) {
    let read = |client: &mut support::Client, out: &mut [u8]| {
        client.storage_read(StorageMode::Default, &ACCOUNT, &support::SLOT, 0, out).expect("storage_read");
    };
    support::suite(
        criterion,
        "hot_read",
        |client, buffer| {
            read(client, buffer);
            let written: Vec<u8> = (0..buffer.len()).map(|i| (i % 251) as u8).collect();
            client.storage_write(&support::SLOT, 0, &written).expect("storage_write");
            read(client, buffer);
            assert_eq!(buffer, written);
        },
        read,
    );
}

criterion_group!(benches, hot_read);
criterion_main!(benches);
