//! Clients that say nothing, or half of what they should.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

#[cfg(feature = "shm")]
use genvm_transport::{ListenOptions, listen};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{directory, watchdog};
use super::{asks, listening, runtime, serves, unix};

#[test]
fn a_silent_client_holds_up_nobody() {
    let _watchdog = watchdog("a_silent_client_holds_up_nobody");
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listening(&path);
    let silent: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).expect("connect")).collect();
    thread::scope(|scope| {
        for _ in &silent {
            let mut stream = listener.accept().expect("accept");
            scope.spawn(move || assert_eq!(stream.read(&mut [0]).expect("an end"), 0));
        }
        serves(&*listener);
        drop(silent);
    });

    // The same for tasks, all of them on one thread.
    let silent: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).expect("connect")).collect();
    runtime().block_on(async {
        let mut waiting = Vec::new();
        for _ in &silent {
            let mut stream = listener.accept_async().await.expect("accept");
            waiting.push(tokio::spawn(async move { stream.read(&mut [0]).await.expect("an end") }));
        }
        let address = unix(&path);
        let asking = tokio::task::spawn_blocking(move || asks(&address));
        let mut stream = listener.accept_async().await.expect("accept");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("a request");
        stream.write_all(&[byte[0] + 1]).await.expect("write");
        stream.flush().await.expect("flush");
        asking.await.expect("no panic");
        drop(silent);
        for waiting in waiting {
            assert_eq!(waiting.await.expect("no panic"), 0);
        }
    });
}

#[test]
fn timeouts_can_be_set_before_the_client_speaks() {
    let _watchdog = watchdog("timeouts_can_be_set_before_the_client_speaks");
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listening(&path);
    let mut silent = UnixStream::connect(&path).expect("connect");
    let mut stream = listener.accept().expect("accept");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set at once");
    stream.set_write_timeout(Some(Duration::from_millis(20))).expect("set at once");
    assert_eq!(stream.set_write_timeout(Some(Duration::ZERO)).expect_err("zero").kind(), ErrorKind::InvalidInput);
    assert_eq!(stream.read(&mut [0]).expect_err("silence").kind(), ErrorKind::TimedOut);
    // Both hold once it has spoken.
    silent.write_all(&[1]).expect("write");
    stream.read_exact(&mut [0]).expect("read");
    assert_eq!(stream.read(&mut [0]).expect_err("silence").kind(), ErrorKind::TimedOut);
    assert_eq!(stream.write_all(&[0; 10 << 20]).expect_err("nobody reads").kind(), ErrorKind::TimedOut);
}

#[cfg(feature = "shm")]
#[test]
fn half_a_greeting_times_out_and_disturbs_nobody() {
    let _watchdog = watchdog("half_a_greeting_times_out_and_disturbs_nobody");
    let directory = directory();
    let path = directory.path().join("s");
    let mut options = ListenOptions::default();
    options.handshake_timeout = Duration::from_millis(300);
    let listener = listen(&unix(&path), &options).expect("listen");
    let mut greeting = [0; 95];
    greeting[..8].copy_from_slice(b"\xf5gvmshm\n");
    let begin = || -> Vec<_> {
        let one = |length| {
            let mut client = UnixStream::connect(&path).expect("connect");
            client.write_all(&greeting[..length]).expect("write");
            client
        };
        (1..=greeting.len()).map(one).collect()
    };

    let clients = begin();
    thread::scope(|scope| {
        for length in 1..=clients.len() {
            let mut stream = listener.accept().expect("accept");
            scope.spawn(move || {
                let error = stream.read(&mut [0]).expect_err("half a greeting");
                assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{length}: {error}");
                let error = stream.write(&[0]).expect_err("it is dead");
                assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{length}: {error}");
            });
        }
        serves(&*listener);
    });
    drop(clients);

    let clients = begin();
    runtime().block_on(async {
        let mut waiting = Vec::new();
        for _ in &clients {
            let mut stream = listener.accept_async().await.expect("accept");
            waiting.push(tokio::spawn(async move { stream.read(&mut [0]).await }));
        }
        for waiting in waiting {
            let error = waiting.await.expect("no panic").expect_err("half a greeting");
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
        }
    });
    serves(&*listener);
}
