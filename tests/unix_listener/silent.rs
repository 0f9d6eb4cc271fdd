//! Clients that say nothing, or half of what they should, or say it in an odd way.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::IntoRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;
#[cfg(feature = "shm")]
use std::time::Instant;

use genvm_transport::{BlockingStream, ConnectOptions, ListenOptions, connect, listen};
#[cfg(feature = "shm")]
use genvm_transport::{ConnectError, connect_async, options::Fallback};
use rustix::net::SendFlags;
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

/// An urgent byte (`MSG_OOB`) that is left where it is makes `poll` say for ever that there is something to read.
#[test]
fn an_urgent_byte_is_a_byte_like_any_other() {
    let _watchdog = watchdog("an_urgent_byte_is_a_byte_like_any_other");
    let directory = directory();
    let path = directory.path().join("s");
    let urgent = |from: &UnixStream, byte: u8| rustix::net::send(from, &[byte], SendFlags::OOB);
    let arrives = |mut stream: Box<dyn BlockingStream>, byte: u8| {
        let mut seen = [0];
        stream.read_exact(&mut seen).expect("the byte");
        assert_eq!(seen, [byte]);
        stream
    };
    let (one, _other) = UnixStream::pair().expect("a pair");
    if urgent(&one, 1).is_err() {
        println!("skipped: Unix sockets have no urgent bytes here");
        return;
    }
    for upgrades in [true, false] {
        let mut options = ListenOptions::default();
        options.upgrades = upgrades;
        options.stream.read_timeout = Some(Duration::from_secs(3600)); // waits by `poll`
        let listener = listen(&unix(&path), &options).expect("listen");
        // Before it is accepted, and after.
        let client = UnixStream::connect(&path).expect("connect");
        urgent(&client, 7).expect("send");
        let stream = arrives(listener.accept().expect("accept"), 7);
        urgent(&client, 8).expect("send");
        arrives(stream, 8);

        let client = UnixStream::connect(&path).expect("connect");
        urgent(&client, 7).expect("send");
        runtime().block_on(async {
            let mut stream = listener.accept_async().await.expect("accept");
            assert_eq!(stream.read_u8().await.expect("the byte"), 7);
            urgent(&client, 8).expect("send");
            assert_eq!(stream.read_u8().await.expect("the byte"), 8);
        });
    }

    // And for those who connect, or inherit.
    let host = UnixListener::bind(&path).expect("bind");
    let mut options = ConnectOptions::default();
    options.upgrades = false;
    let client = connect(&unix(&path), &options).expect("connect");
    urgent(&host.accept().expect("accept").0, 9).expect("send");
    arrives(client, 9);
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let client = connect(&format!("fd://{}", ours.into_raw_fd()), &options).expect("connect");
    urgent(&theirs, 9).expect("send");
    arrives(client, 9);
}

#[test]
fn writing_to_a_silent_client_obeys_the_write_timeout() {
    let _watchdog = watchdog("writing_to_a_silent_client_obeys_the_write_timeout");
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listening(&path);
    let mut client = UnixStream::connect(&path).expect("connect");
    let mut stream = listener.accept().expect("accept");
    stream.set_write_timeout(Some(Duration::from_millis(20))).expect("set");
    // The kernel has room for a little, if nobody has to know what the client is.
    let error = stream.write_all(&[0; 10 << 20]).expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    stream.set_write_timeout(None).expect("set");
    stream.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    client.write_all(&[7]).expect("write");
    stream.read_exact(&mut [0]).expect("read");
    assert_eq!(stream.read(&mut [0]).expect_err("silence").kind(), ErrorKind::TimedOut);
}

/// A reader and a writer that are two tasks both wait for the first byte; one of them gives up.
#[test]
fn whoever_waits_for_the_first_byte_hears_of_it() {
    let _watchdog = watchdog("whoever_waits_for_the_first_byte_hears_of_it");
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listening(&path);
    for writer_gives_up in [true, false] {
        let mut client = UnixStream::connect(&path).expect("connect");
        runtime().block_on(async {
            let (mut read, mut write) = tokio::io::split(listener.accept_async().await.expect("accept"));
            let reader = tokio::spawn(async move { read.read_u8().await.expect("the first byte") });
            tokio::task::yield_now().await; // it waits
            let mut writer = tokio::spawn(async move { write.write_all(&[8]).await.map(|()| write) });
            tokio::task::yield_now().await; // so does this
            if writer_gives_up {
                writer.abort();
                let _ = (&mut writer).await;
            }
            client.write_all(&[7]).expect("write");
            assert_eq!(reader.await.expect("no panic"), 7);
            if !writer_gives_up {
                writer.await.expect("no panic").expect("write").flush().await.expect("flush");
                client.read_exact(&mut [0]).expect("an answer");
            }
        });
    }
}

#[test]
fn what_needs_no_first_byte_waits_for_none() {
    let _watchdog = watchdog("what_needs_no_first_byte_waits_for_none");
    let directory = directory();
    let path = directory.path().join("s");
    let listener = listening(&path);
    let mut client = UnixStream::connect(&path).expect("connect");
    runtime().block_on(async {
        let mut stream = listener.accept_async().await.expect("accept");
        assert_eq!(stream.read(&mut []).await.expect("nothing"), 0);
        assert_eq!(stream.write(&[]).await.expect("nothing"), 0);
        stream.flush().await.expect("nothing");
        stream.shutdown().await.expect("a shutdown");
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        // As after every shutdown, the other direction goes on.
        client.write_all(&[7]).expect("write");
        assert_eq!(stream.read_u8().await.expect("read"), 7);
        assert_eq!(stream.write(&[8]).await.expect_err("shut").kind(), ErrorKind::BrokenPipe);
    });
}

/// Not by the time that the handshake might have, and not twice where it might fall back.
#[cfg(feature = "shm")]
#[test]
fn connecting_to_a_silent_host_takes_no_longer_than_its_timeout() {
    let _watchdog = watchdog("connecting_to_a_silent_host_takes_no_longer_than_its_timeout");
    let directory = directory();
    let path = directory.path().join("s");
    let _host = UnixListener::bind(&path).expect("bind");
    let address = format!("shm://{}", path.display());
    let mut options = ConnectOptions::default();
    options.timeout = Duration::from_millis(100);
    options.handshake_timeout = Duration::from_secs(3600);
    for fallback in [Fallback::Fail, Fallback::Plain] {
        options.fallback = fallback;
        let begun = Instant::now();
        let errors = [
            connect(&address, &options).expect_err("silence"),
            runtime().block_on(connect_async(&address, &options)).expect_err("silence"),
        ];
        assert!(begun.elapsed() >= 2 * options.timeout);
        for error in errors {
            assert!(matches!(error, ConnectError::TimedOut { after, .. } if after == options.timeout), "{error}");
        }
    }
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
