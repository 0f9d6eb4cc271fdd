//! A `storage_write` after the other: round trips between two processes, over every transport, with every wait strategy.
//! `cargo bench --features lab --bench hot_write -- shm/adaptive`

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use genvm_transport::protocol::{Account, StorageMode};

/// The host takes the account of the first read for the running contract.
const ACCOUNT: Account = Account([1; 20]);

fn hot_write(criterion: &mut Criterion) {
    let write = |client: &mut support::Client, data: &mut [u8]| {
        client.storage_write(&support::SLOT, 0, data).expect("storage_write");
    };
    support::suite(
        criterion,
        "hot_write",
        |client, buffer| {
            let mut read = vec![0; buffer.len()];
            client.storage_read(StorageMode::Default, &ACCOUNT, &support::SLOT, 0, &mut read).expect("storage_read");
            buffer.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 249) as u8);
            write(client, buffer);
            client.storage_read(StorageMode::Default, &ACCOUNT, &support::SLOT, 0, &mut read).expect("storage_read");
            assert_eq!(buffer, read);
        },
        write,
    );
}

criterion_group!(benches, hot_write);
criterion_main!(benches);
