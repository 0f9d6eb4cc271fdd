//! A connection that polls, or that always has something to do, leaves the rest of its tokio runtime alone: timers fire and other
//! connections are served, by the one thread that there is.
#![cfg(all(unix, feature = "uds", feature = "shm"))]

mod support;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, Listener, WaitStrategy, connect, listen};
use support::watchdog;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One thread for everything, so that whoever does not give way stops all others.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn options() -> ListenOptions {
    let mut options = ListenOptions::default();
    options.stream.wait = Some(WaitStrategy::Spin);
    options
}

fn for_each_transport(test: impl Fn(Arc<dyn Listener>)) {
    for scheme in ["unix", "shm"] {
        let directory = support::directory();
        let address = format!("{scheme}://{}/host.sock", directory.path().display());
        test(Arc::from(listen(&address, &options()).expect("a listener")));
    }
}

fn client(listener: &dyn Listener) -> Box<dyn BlockingStream> {
    let options = ConnectOptions::default();
    connect(&listener.address().to_string(), &options).expect("a connection")
}

/// A timer, and a connection of its own that is answered ten times.
async fn others_live(listener: Arc<dyn Listener>) {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let calling = {
        let listener = listener.clone();
        thread::spawn(move || {
            let mut stream = client(&*listener);
            for n in 0..10 {
                stream.write_all(&[n]).and_then(|()| stream.flush()).expect("a request");
                let mut answer = [0];
                stream.read_exact(&mut answer).expect("an answer");
                assert_eq!(answer, [n]);
            }
        })
    };
    let mut stream = listener.accept_async().await.expect("the other connection");
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        stream.write_all(&byte).await.expect("the client reads");
        stream.flush().await.expect("the client reads");
    }
    calling.join().expect("answered");
}

#[test]
fn a_connection_that_polls_for_ever_starves_nobody() {
    let _watchdog = watchdog("serving beside a connection that polls");
    for_each_transport(|listener| {
        let silent = thread::spawn({
            let listener = listener.clone();
            move || {
                let mut stream = client(&*listener);
                stream.write_all(&[1]).and_then(|()| stream.flush()).expect("a first byte");
                stream
            }
        });
        runtime().block_on(async {
            let mut polled = listener.accept_async().await.expect("the silent connection");
            polled.read_exact(&mut [0]).await.expect("its first byte");
            let polling = tokio::spawn(async move { polled.read_exact(&mut [0]).await });
            tokio::spawn(others_live(listener.clone())).await.expect("they live");
            assert!(!polling.is_finished());
            let mut silent = silent.join().expect("connected");
            silent.write_all(&[2]).and_then(|()| silent.flush()).expect("its second byte");
            polling.await.expect("no panic").expect("its second byte");
        });
    });
}

#[test]
fn a_connection_that_always_has_something_to_read_starves_nobody() {
    let _watchdog = watchdog("serving beside a connection that never has to wait");
    for_each_transport(|listener| {
        let enough = Arc::new(AtomicBool::new(false));
        let flood = thread::spawn({
            let (listener, enough) = (listener.clone(), enough.clone());
            move || {
                let mut stream = client(&*listener);
                while !enough.load(Ordering::Relaxed) {
                    stream.write_all(&[1; 8 << 10]).expect("it is read");
                }
            }
        });
        runtime().block_on(async {
            let mut flooded = listener.accept_async().await.expect("the flood");
            // A byte at a time, so that whoever writes is always ahead.
            let reading = tokio::spawn(async move { while flooded.read_exact(&mut [0]).await.is_ok() {} });
            tokio::spawn(others_live(listener.clone())).await.expect("they live");
            enough.store(true, Ordering::Relaxed);
            reading.await.expect("no panic");
        });
        flood.join().expect("all of it was read");
    });
}
