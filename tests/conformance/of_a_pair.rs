//! Checks of a connection, each with both faces at both ends.

use super::*;

pub fn bytes_arrive_once_in_order_unchanged(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (mut a, mut b) in subject.both_ways(client, host) {
        thread::scope(|scope| {
            scope.spawn(|| {
                a.send(&pattern, 0, LARGE, 40_000);
                a.flush().expect("flush");
            });
            b.receive(&pattern, 0, LARGE, 40_000);
        });
        // And as calls, which is how a host is used.
        let answers = pattern.reverse();
        let mut sizes = Sizes::new(pattern.0);
        let lengths: Vec<_> = (0..100).map(|_| (sizes.next(5000), sizes.next(5000))).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                for &(request, answer) in &lengths {
                    a.send(&pattern, 0, request, request);
                    a.flush().expect("flush");
                    a.receive(&answers, 0, answer, answer);
                }
            });
            for &(request, answer) in &lengths {
                b.receive(&pattern, 0, request, request);
                b.send(&answers, 0, answer, answer);
                b.flush().expect("flush");
            }
        });
    }
}

pub fn one_byte_at_a_time(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (mut a, mut b) in subject.both_ways(client, host) {
        for (write, read) in [(1, 1), (1, 1000), (1000, 1)] {
            thread::scope(|scope| {
                scope.spawn(|| {
                    a.send(&pattern, 0, 3000, write);
                    a.flush().expect("flush");
                });
                b.receive(&pattern, 0, 3000, read);
            });
        }
    }
}

/// Only an async end can read and write at the same time; its peer echoes.
pub fn both_directions_at_once(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (a, mut b) in subject.both_ways(client, host) {
        let End::Async(a) = a else { continue };
        let echoing = thread::spawn(move || b.echo());
        let (mut reading, mut writing) = tokio::io::split(a);
        let writer = runtime().spawn(async move {
            let mut sizes = Sizes::new(pattern.0);
            let mut at = 0;
            while at < LARGE / 2 {
                let size = sizes.next(30_000).min(LARGE / 2 - at);
                writing.write_all(&pattern.bytes(at, size)).await.expect("write");
                at += size;
            }
            writing.flush().await.expect("flush");
            writing
        });
        let reader = runtime().spawn(async move {
            let (mut at, mut buffer) = (0, vec![0; 30_000]);
            while at < LARGE / 2 {
                let n = reading.read(&mut buffer).await.expect("read");
                assert!(n > 0, "ended at {at}");
                pattern.check(at, &buffer[..n]);
                at += n;
            }
            reading
        });
        drop(runtime().block_on(async { (writer.await.expect("no panic"), reader.await.expect("no panic")) }));
        echoing.join().expect("no panic");
    }
}

pub fn a_read_publishes_what_was_written(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (a, mut b) in subject.both_ways(client, host) {
        thread::scope(|scope| {
            scope.spawn(|| b.echo());
            let mut a = a; // its end ends the echo
            let mut sizes = Sizes::new(pattern.0);
            for _ in 0..200 {
                let size = sizes.next(2000);
                a.send(&pattern, 0, size, 100); // no flush
                a.receive(&pattern, 0, size, size);
            }
        });
    }
}

pub fn a_flush_wakes_a_sleeping_reader(subject: &Subject, [client, host]: [Face; 2]) {
    let (mut connect, mut listen) = patient();
    connect.stream.wait = Some(WaitStrategy::Park);
    listen.stream.wait = Some(WaitStrategy::Park);
    let (a, b) = subject.pair_with(client, host, &(connect.clone(), listen.clone()));
    let (c, d) = subject.pair_with(client, host, &(connect, listen));
    for (mut a, mut b) in [(a, b), (d, c)] {
        let (about_to_read, reads) = mpsc::channel();
        let reader = thread::spawn(move || {
            for round in 0..ROUNDS {
                about_to_read.send(()).expect("the writer waits");
                let mut byte = [0];
                b.read_exact(&mut byte).expect("read");
                assert_eq!(byte[0], round);
            }
        });
        for round in 0..ROUNDS {
            reads.recv().expect("the reader reads");
            // Nothing tells when the reader sleeps; some rounds find it awake, some falling asleep, some asleep.
            thread::sleep(Duration::from_micros(u64::from(round) * 20));
            a.write_all(&[round]).expect("write");
            a.flush().expect("flush");
        }
        reader.join().expect("no panic");
    }
}

pub fn the_end_comes_after_everything(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (mut a, mut b) in subject.both_ways(client, host) {
        let writer = thread::spawn(move || {
            a.send(&pattern, 0, LARGE / 4, 20_000);
            a.flush().expect("flush");
        });
        b.receive_to_end(&pattern, LARGE / 4);
        writer.join().expect("no panic");
    }
    // Dropping publishes, too, and whoever closed is not needed any more.
    for (mut a, mut b) in subject.both_ways(client, host) {
        a.send(&pattern, 0, 1000, 300);
        drop(a);
        b.receive_to_end(&pattern, 1000);
    }
    for (a, mut b) in subject.both_ways(client, host) {
        drop(a);
        b.receive_to_end(&pattern, 0);
    }
}

pub fn writing_to_a_gone_peer_is_a_broken_pipe(subject: &Subject, [client, host]: [Face; 2]) {
    for (mut a, b) in subject.both_ways(client, host) {
        drop(b);
        assert_eq!(broken(&mut a).kind(), ErrorKind::BrokenPipe);
        assert_eq!(broken(&mut a).kind(), ErrorKind::BrokenPipe, "it stays dead");
    }
}

/// The error that writing ends in. A network needs a few writes to learn of it.
fn broken(end: &mut End) -> io::Error {
    loop {
        if let Err(error) = end.write_all(&[0; 1000]).and_then(|()| end.flush()) {
            return error;
        }
    }
}

pub fn whoever_waits_learns_that_the_peer_is_gone(subject: &Subject, [client, host]: [Face; 2]) {
    for (mut a, b) in subject.both_ways(client, host) {
        let reader = thread::spawn(move || a.read(&mut [0]).expect("an end"));
        drop(b);
        assert_eq!(reader.join().expect("no panic"), 0);
    }
    let pattern = Pattern::seeded();
    for (mut a, b) in subject.both_ways(client, host) {
        a.fill(&pattern);
        let writer = thread::spawn(move || broken(&mut a));
        drop(b);
        assert_eq!(writer.join().expect("no panic").kind(), ErrorKind::BrokenPipe);
    }
}

pub fn an_expired_read_loses_nothing(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (mut a, mut b) in subject.both_ways(client, host) {
        for end in [&mut a, &mut b] {
            if let End::Blocking(stream) = end {
                for refused in
                    [stream.set_read_timeout(Some(Duration::ZERO)), stream.set_write_timeout(Some(Duration::ZERO))]
                {
                    assert_eq!(refused.expect_err("as in std").kind(), ErrorKind::InvalidInput);
                }
            }
            assert_eq!(end.read_within(MOMENT, &mut [0]).expect_err("nothing").kind(), ErrorKind::TimedOut);
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                for at in (0..10_000).step_by(50) {
                    a.send(&pattern, at, 50, 50);
                    a.flush().expect("flush");
                    // A pace at which the reader's timeout is a close call.
                    thread::sleep(Duration::from_micros(at as u64 % 400));
                }
            });
            let (mut at, mut buffer) = (0, [0; 70]);
            while at < 10_000 {
                match b.read_within(Duration::from_micros(200), &mut buffer) {
                    Ok(n) => {
                        assert!(n > 0, "ended at {at}");
                        pattern.check(at, &buffer[..n]);
                        at += n;
                    }
                    Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
                }
            }
        });
        // What was set back to `None` waits for ever: until the answer.
        thread::scope(|scope| {
            scope.spawn(|| b.receive(&pattern, 0, 1, 1));
            thread::sleep(MOMENT);
            a.send(&pattern, 0, 1, 1);
            a.flush().expect("flush");
        });
    }
}

pub fn an_expired_write_loses_nothing(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (mut a, mut b) in subject.both_ways(client, host) {
        let filled = a.fill(&pattern);
        let total = filled + LARGE / 8;
        let slow = thread::spawn(move || {
            for at in (0..total).step_by(5000) {
                b.receive(&pattern, at, 5000.min(total - at), 5000);
                thread::yield_now();
            }
            b
        });
        let mut at = filled;
        while at < total {
            match a.write_within(Duration::from_micros(200), &pattern.bytes(at, 3000.min(total - at))) {
                Ok(n) => at += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            }
        }
        a.flush().expect("flush");
        slow.join().expect("no panic");
    }
}

/// Futures that are polled once and then lose against one that is ready.
pub fn dropped_futures_lose_nothing(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (a, mut b) in subject.both_ways(client, host) {
        let End::Async(mut a) = a else { continue };
        runtime().block_on(async {
            let mut byte = [0];
            for _ in 0..2000 {
                tokio::select! {
                    biased;
                    done = a.read(&mut byte) => panic!("there was nothing to read: {done:?}"),
                    () = std::future::ready(()) => tokio::task::yield_now().await,
                }
            }
        });
        let writer = thread::spawn(move || {
            b.send(&pattern, 0, LARGE / 8, 700);
            b.flush().expect("flush");
            b
        });
        runtime().block_on(async {
            let (mut at, mut buffer, mut sizes) = (0, [0; 2000], Sizes::new(pattern.0));
            while at < LARGE / 8 {
                let size = sizes.next(2000);
                tokio::select! {
                    biased;
                    n = a.read(&mut buffer[..size]) => {
                        let n = n.expect("read");
                        assert!(n > 0, "ended at {at}");
                        pattern.check(at, &buffer[..n]);
                        at += n;
                    }
                    () = std::future::ready(()) => tokio::task::yield_now().await,
                }
            }
        });
        let mut b = writer.join().expect("no panic");

        let mut a = End::Async(a);
        let mut filled = a.fill(&pattern);
        let End::Async(mut a) = a else { unreachable!() };
        runtime().block_on(async {
            for _ in 0..2000 {
                let piece = pattern.bytes(filled, 500);
                tokio::select! {
                    biased;
                    // A network may find some more room meanwhile.
                    n = a.write(&piece) => filled += n.expect("write"),
                    () = std::future::ready(()) => tokio::task::yield_now().await,
                }
            }
        });
        let total = filled + LARGE / 8;
        let reader = thread::spawn(move || b.receive(&pattern, 0, total, 3000));
        runtime().block_on(async {
            let (mut at, mut sizes) = (filled, Sizes::new(pattern.0));
            while at < total {
                let piece = pattern.bytes(at, sizes.next(3000).min(total - at));
                tokio::select! {
                    biased;
                    n = a.write(&piece) => at += n.expect("write"),
                    () = std::future::ready(()) => tokio::task::yield_now().await,
                }
                tokio::select! {
                    biased;
                    done = a.flush() => done.expect("flush"),
                    () = std::future::ready(()) => {}
                }
            }
            a.flush().await.expect("flush");
        });
        reader.join().expect("no panic");
    }
}

pub fn both_directions_full_and_a_slow_reader(subject: &Subject, [client, host]: [Face; 2]) {
    let pattern = Pattern::seeded();
    for (mut a, mut b) in subject.both_ways(client, host) {
        let (there, back) = (a.fill(&pattern), b.fill(&pattern.reverse()));
        thread::scope(|scope| {
            scope.spawn(|| {
                a.receive(&pattern.reverse(), 0, back, 50_000);
                a.flush().expect("flush");
            });
            for at in (0..there).step_by(1000) {
                b.receive(&pattern, at, 1000.min(there - at), 1000);
                thread::yield_now();
            }
            b.flush().expect("flush");
        });
    }
}

pub fn peer_is_what_the_kernel_says(subject: &Subject, [client, host]: [Face; 2]) {
    let (a, b) = subject.pair(client, host);
    assert_eq!(a.kind(), b.kind());
    for end in [a, b] {
        match (end.kind(), end.peer()) {
            (TransportKind::Tcp, Peer::Network(address)) => {
                assert!(matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()), "{address}");
            }
            (_, Peer::Process { pid, uid, .. }) => {
                assert!(pid.is_none_or(|pid| pid == std::process::id() as i32), "{pid:?}");
                assert_eq!(*uid, rustix::process::geteuid().as_raw());
            }
            (TransportKind::Custom(_), Peer::Unknown | Peer::Network(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

pub fn nothing_to_read_or_write_is_nothing_done(subject: &Subject, [client, host]: [Face; 2]) {
    for (mut a, mut b) in subject.both_ways(client, host) {
        // With nothing there and with something there.
        for _ in 0..2 {
            assert_eq!(b.read(&mut []).expect("read"), 0);
            assert_eq!(b.write(&[]).expect("write"), 0);
            b.flush().expect("flush");
            a.write_all(b"abc").expect("write");
            assert_eq!(a.write(&[]).expect("write"), 0);
            a.flush().expect("flush");
            let mut seen = [0; 1];
            b.read_exact(&mut seen).expect("read");
            assert_eq!(&seen, b"a");
            assert_eq!(b.read(&mut []).expect("read"), 0);
            let mut seen = [0; 2];
            b.read_exact(&mut seen).expect("read");
            assert_eq!(&seen, b"bc");
        }
        drop(a);
        assert_eq!(b.read(&mut []).expect("read"), 0);
        assert_eq!(b.read(&mut [0]).expect("read"), 0);
    }
}

pub fn every_wait_strategy(subject: &Subject, [client, host]: [Face; 2]) {
    for of_client in WAITS {
        for of_host in WAITS {
            let (mut connect, mut listen) = patient();
            connect.stream.wait = Some(of_client);
            listen.stream.wait = Some(of_host);
            println!("{of_client:?} and {of_host:?}");
            calls_streams_and_timeouts(subject.pair_with(client, host, &(connect, listen)));
        }
    }
}

pub fn the_smallest_ring(subject: &Subject, [client, host]: [Face; 2]) {
    for (of_client, of_host) in [
        (RingCapacity::MIN, RingCapacity::MIN),
        (RingCapacity::MIN, RingCapacity::DEFAULT),
        (RingCapacity::DEFAULT, RingCapacity::MIN),
    ] {
        let (mut connect, mut listen) = patient();
        connect.stream.ring_capacity = of_client;
        listen.stream.ring_capacity = of_host;
        calls_streams_and_timeouts(subject.pair_with(client, host, &(connect, listen)));
    }
}

fn calls_streams_and_timeouts((mut a, mut b): (End, End)) {
    let pattern = Pattern::seeded();
    let answers = pattern.reverse();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                a.send(&pattern, 0, 62, 62);
                a.receive(&answers, 0, 40, 40);
            }
        });
        for _ in 0..20 {
            b.receive(&pattern, 0, 62, 62);
            b.send(&answers, 0, 40, 40);
            b.flush().expect("flush");
        }
    });
    for end in [&mut a, &mut b] {
        let error = end.read_within(Duration::from_millis(2), &mut [0]).expect_err("nothing there");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
    stream(&mut a, &mut b, &pattern);
    stream(&mut b, &mut a, &answers);
    // The last bytes are there although their writer is not.
    b.send(&answers, 0, 500, 100);
    drop(b);
    a.receive_to_end(&answers, 500);
}

fn stream(from: &mut End, to: &mut End, pattern: &Pattern) {
    thread::scope(|scope| {
        scope.spawn(|| {
            from.send(pattern, 0, 50_000, 9000);
            from.flush().expect("flush");
        });
        to.receive(pattern, 0, 50_000, 9000);
    });
}

const LARGE: usize = 1 << 20;
const ROUNDS: u8 = 60;
const WAITS: [WaitStrategy; 3] = [WaitStrategy::Park, WaitStrategy::ADAPTIVE, WaitStrategy::Spin];
