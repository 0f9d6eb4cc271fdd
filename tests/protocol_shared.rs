//! One connection for several threads, several hosts for one execution.
#![cfg(target_os = "linux")]

mod support;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use genvm_transport::protocol::*;
use support::{sleeps, thread_id, watchdog};

fn hosted(environment: Environment) -> HostClient<UnixStream> {
    let (genvm, mut node) = UnixStream::pair().expect("a pair");
    thread::spawn(move || serve_blocking(&mut node, &mut HostState::new().begin(environment), &Protocol::ONE));
    HostClient::new(genvm)
}

#[test]
fn each_answer_goes_to_the_thread_that_asked() {
    let _watchdog = watchdog("a shared client");
    let client = SharedClient::new(hosted(Environment { account: Account([1; 20]), ..Environment::default() }));
    thread::scope(|scope| {
        for thread in 0..8u8 {
            let client = client.clone();
            scope.spawn(move || {
                for n in 0..200u32 {
                    let slot = SlotId([thread; 32]);
                    let bytes = [thread ^ n as u8; 5];
                    client.with(|client| client.storage_write(&slot, n, &bytes)).expect("written");
                    let mut read = [0; 5];
                    let account = Account([1; 20]);
                    client
                        .with(|client| client.storage_read(StorageMode::Default, &account, &slot, n, &mut read))
                        .expect("read");
                    assert_eq!(read, bytes);
                }
            });
        }
    });
    client.into_inner().expect("the last handle").consume_result(ResultCode::Return, b"").expect("taken");
}

#[test]
fn who_waited_goes_first() {
    let _watchdog = watchdog("a fair client");
    let client = SharedClient::new(hosted(Environment::default()));
    let served = Arc::new(Mutex::new(Vec::new()));
    for _ in 0..100 {
        let waiting = Arc::new(AtomicI32::new(0));
        let other = client.with(|_| {
            let (client, served, tid) = (client.clone(), served.clone(), waiting.clone());
            let other = thread::spawn(move || {
                tid.store(thread_id(), Ordering::SeqCst);
                client.with(|_| served.lock().unwrap().push("waited"));
            });
            // It has nothing to sleep for but its turn.
            while !sleeps(waiting.load(Ordering::SeqCst)) {
                thread::yield_now();
            }
            other
        });
        client.with(|_| served.lock().unwrap().push("had it"));
        other.join().expect("no panic");
        assert_eq!(std::mem::take(&mut *served.lock().unwrap()), ["waited", "had it"]);
    }
}

#[test]
fn a_panic_poisons_nothing() {
    let client = SharedClient::new(hosted(Environment { fuel: 7, ..Environment::default() }));
    let panicked = catch_unwind(AssertUnwindSafe(|| client.with(|_| panic!("a caller's own"))));
    assert!(panicked.is_err());
    assert_eq!(client.with(|client| client.remaining_fuel_as_gen()).expect("as good as before"), U256::from(7));
}

/// Unwinds in the middle of a call.
struct Panics;

impl Read for Panics {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("while an answer is awaited")
    }
}

impl Write for Panics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_in_the_middle_of_a_call_loses_the_connection() {
    let calls: [fn(&mut HostClient<Panics>); 2] = [
        |client| _ = client.get_calldata(),
        |client| {
            let mut batch = client.batch_within(4096);
            (0..3).for_each(|_| _ = batch.push(&Request::GetCalldata));
            batch.run();
        },
    ];
    for call in calls {
        let client = SharedClient::new(HostClient::new(Panics));
        assert!(catch_unwind(AssertUnwindSafe(|| client.with(call))).is_err());
        let after = client.clone().with(HostClient::get_calldata);
        assert!(matches!(after, Err(CallError::Dead { .. })), "{after:?}");
        let results = client.with(|client| {
            let mut batch = client.batch_within(4096);
            (0..3).for_each(|_| _ = batch.push(&Request::GetCalldata));
            batch.run()
        });
        assert_eq!(results.len(), 3);
        assert!(results.iter().all(|result| matches!(result, Err(CallError::Dead { .. }))), "{results:?}");
    }
}

#[test]
fn a_method_goes_where_it_was_routed_last() {
    let mut hosts = RoutedClient::new(hosted(Environment { fuel: 1, calldata: vec![1], ..Environment::default() }));
    let second = Environment { fuel: 2, calldata: vec![2], ..Environment::default() };
    hosts.route([Method::GetCalldata, Method::RemainingFuelAsGen], hosted(second));
    hosts.route([Method::RemainingFuelAsGen], hosted(Environment { fuel: 3, ..Environment::default() }));
    assert_eq!(hosts.call(&Request::GetCalldata).expect("calldata"), Reply::Bytes(vec![2]));
    assert_eq!(hosts.call(&Request::RemainingFuelAsGen).expect("fuel"), Reply::Fuel(3.into()));
    hosts.host(Method::ConsumeFuel).consume_fuel(1_u64).expect("sent");
    let main = hosts.host(Method::ConsumeResult);
    assert_eq!(main.remaining_fuel_as_gen().expect("fuel"), U256::from(0));
    main.consume_result(ResultCode::Return, b"").expect("taken");
}
