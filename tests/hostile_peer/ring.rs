//! Lies once there is a connection: each shared word, the memory under it, and the doorbell's socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use genvm_transport::shm::RingFault;
use rustix::fs::OFlags;

use crate::peer::{ARMED, BELL, CAPACITY, CONSUMED, FINISHED, LINES, MAX_PAYLOAD, Peer, START, say};
use crate::victim::{End, NEVER, WAITS, within_a_second};
use crate::{each_line, each_victim, open};

/// Reads or writes until that fails, which has to be by a lie; from then on everything fails so, and the liar is hung up on.
fn fails(end: &mut End<'_>, peer: &Peer, act: impl FnMut(&mut End<'_>) -> io::Result<()>) -> RingFault {
    let first = first_fault(end, act);
    assert_eq!(fault(end.read(&mut [0], NEVER).expect_err("poisoned")), first);
    assert_eq!(fault(end.write(&[0], NEVER).expect_err("poisoned")), first);
    assert_eq!(fault(end.flush().expect_err("poisoned")), first);
    peer.wait_for_hang_up();
    first
}

fn first_fault(end: &mut End<'_>, mut act: impl FnMut(&mut End<'_>) -> io::Result<()>) -> RingFault {
    loop {
        if let Err(error) = act(end) {
            return fault(error);
        }
    }
}

fn fault(error: io::Error) -> RingFault {
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    *error.into_inner().expect("a source").downcast::<RingFault>().expect("a fault of the ring")
}

fn reads(end: &mut End<'_>) -> io::Result<()> {
    end.read(&mut [0; 100], NEVER).map(drop)
}

fn writes(end: &mut End<'_>) -> io::Result<()> {
    end.write(&[7; 1000], NEVER).map(drop)
}

#[test]
fn lengths_that_cannot_be() {
    // Where records start, and what the first one claims.
    let last = START + LINES - 1;
    let table =
        [(START, 0), (START, MAX_PAYLOAD + 1), (START, CAPACITY.into()), (START, 0xffff), (last, 0), (last, 57)];
    each_line("lengths_that_cannot_be", &WAITS, &table, |world, victim, &(start, length)| {
        for sleeping in [false, true] {
            let (mut end, peer) = world.agree(victim, start);
            let lie = || {
                if sleeping && victim.wait.sleeps() {
                    peer.wait_for_sleeper();
                }
                peer.store_header(start, start << 16 | length);
                peer.ring();
            };
            let fault = thread::scope(|scope| {
                scope.spawn(lie);
                within_a_second(victim, || fails(&mut end, &peer, reads))
            });
            match fault {
                RingFault::Length { position, seen, .. } => assert_eq!((position, seen), (start, length)),
                other => panic!("{victim:?}: {other}"),
            }
        }
    });
}

#[test]
fn records_elsewhere_are_none() {
    // Headers in the line that is looked at, of other lines: back, a lap back, ahead, a lap ahead, far away.
    let headers = [START - 1, START - LINES, START + 1, START + LINES, 0, (1 << 48) - 1].map(|at| at << 16 | 9);
    let table = [&headers[..], &[u64::MAX, u64::MAX << 16, 0xffff, 1]].concat();
    each_line("records_elsewhere_are_none", &WAITS, &table, |world, victim, &header| {
        let (mut end, mut peer) = world.agree(victim, START);
        peer.store_header(START, header);
        peer.ring();
        let mut out = [0; 8];
        within_a_second(victim, || {
            let nothing = end.read(&mut out, Duration::from_millis(2)).expect_err("nothing there");
            assert_eq!(nothing.kind(), ErrorKind::TimedOut, "{victim:?}: {header:x}: {nothing}");
            peer.send(b"a record");
            assert_eq!((end.read(&mut out, NEVER).expect("a record"), &out), (8, b"a record"));
        });
    });
}

#[test]
fn progress_that_cannot_be() {
    // Read of a full ring that started at `start`: a line back, a lap back, a line ahead, a lap ahead, and nonsense. Not zero:
    // that is fresh memory, and no claim at all.
    let claims = |start: u64| {
        let lap_back = start.wrapping_sub(LINES) & ((1 << 48) - 1);
        [start - 1, lap_back, start + LINES + 1, start + 2 * LINES, start | 1 << 48, u64::MAX]
    };
    let table: Vec<usize> = (0..claims(START).len()).collect();
    each_line("progress_that_cannot_be", &WAITS, &table, |world, victim, &line| {
        let (mut end, peer) = world.agree(victim, START);
        let claim = claims(peer.their_start)[line];
        peer.ours.store(CONSUMED, claim);
        match within_a_second(victim, || fails(&mut end, &peer, writes)) {
            RingFault::Consumed { seen, known, .. } => assert_eq!((seen, known), (claim, peer.their_start)),
            other => panic!("{victim:?}: {claim}: {other}"),
        }
    });
}

#[test]
fn progress_taken_back_while_we_wait_for_room() {
    each_victim("progress_taken_back_while_we_wait_for_room", &WAITS, |world, victim| {
        let (mut end, mut peer) = world.agree(victim, START);
        let (fault, claim) = thread::scope(|scope| {
            let liar = scope.spawn(|| {
                // Honest for two laps; then it has read nothing at all.
                let mut bytes = 0;
                while bytes < 2 * CAPACITY as usize {
                    match peer.receive() {
                        Some(payload) => bytes += payload.len(),
                        None => thread::yield_now(),
                    }
                    peer.ring();
                }
                if victim.wait.sleeps() {
                    peer.wait_for_sleeper();
                }
                peer.ours.store(CONSUMED, peer.their_start);
                peer.ring();
                peer
            });
            let fault = within_a_second(victim, || first_fault(&mut end, writes));
            (fault, liar.join().expect("the liar's own part").their_start)
        });
        match fault {
            RingFault::Consumed { seen, .. } => assert_eq!(seen, claim),
            other => panic!("{victim:?}: {other}"),
        }
    });
}

#[test]
fn a_header_that_flips_while_we_read() {
    each_victim("a_header_that_flips_while_we_read", &WAITS, |world, victim| {
        for bad in [0, MAX_PAYLOAD + 1, 0xffff] {
            let (mut end, peer) = world.agree(victim, START);
            let stop = AtomicBool::new(false);
            let fault = thread::scope(|scope| {
                let _stop = Stop(&stop);
                scope.spawn(|| {
                    // Each record of one line, whichever the reader has come to, is good, bad, and good again. Whether the reader
                    // meets a bad one is chance; in the end they stay bad.
                    let started = Instant::now();
                    while !stop.load(Ordering::Relaxed) {
                        let read = peer.theirs.load(CONSUMED);
                        for position in read..read + LINES {
                            if started.elapsed() < FLIPPING {
                                peer.store_header(position, position << 16 | 9);
                            }
                            peer.store_header(position, position << 16 | bad);
                            if started.elapsed() < FLIPPING {
                                peer.store_header(position, position << 16 | 56);
                            }
                        }
                        peer.ring();
                    }
                });
                within_a_second(victim, || {
                    loop {
                        let mut out = [0xaa; 100];
                        match end.read(&mut out, NEVER) {
                            Ok(n) => assert!((1..=56).contains(&n) && out[n..].iter().all(|byte| *byte == 0xaa), "{n}"),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::InvalidData);
                                break *error.into_inner().expect("a source").downcast::<RingFault>().expect("a fault");
                            }
                        }
                    }
                })
            });
            assert!(matches!(fault, RingFault::Length { seen, .. } if seen == bad), "{victim:?}: {bad}: {fault}");
        }
    });
}

const FLIPPING: Duration = Duration::from_millis(100);

/// Ends the attacker's loop however the victim's part ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_bell_that_says_anything() {
    each_victim("a_bell_that_says_anything", &WAITS, |world, victim| {
        let (mut end, mut peer) = world.agree(victim, START);
        const CALLS: usize = 500;
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut random, mut expected) = (1u64, 0);
                while expected < CALLS {
                    // Armed or not, by socket or by event, whatever the count.
                    random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    peer.ours.store(BELL, [random, random | ARMED, u64::MAX, 0][(random >> 62) as usize]);
                    let Some(payload) = peer.receive() else {
                        thread::yield_now();
                        continue;
                    };
                    let call = if expected == 0 { payload.strip_prefix(b"!").expect("our mark") } else { &payload };
                    assert_eq!(call, (expected as u64).to_le_bytes());
                    peer.send(call);
                    expected += 1;
                }
            });
            for call in 0..CALLS as u64 {
                assert_eq!(end.write(&call.to_le_bytes(), NEVER).expect("write"), 8);
                end.flush().expect("flush");
                let mut answer = [0; 8];
                assert_eq!((end.read(&mut answer, NEVER).expect("read"), answer), (8, call.to_le_bytes()));
            }
        });
        // It rang, and nothing else: at most once a publication.
        peer.socket.set_nonblocking(true).expect("non-blocking");
        let mut rung = Vec::new();
        let more = peer.socket.read_to_end(&mut rung).expect_err("it is still there").kind();
        assert_eq!(more, ErrorKind::WouldBlock);
        assert!(rung.len() <= CALLS + 1 && rung.iter().all(|byte| *byte == 1), "{}", rung.len());
    });
}

#[test]
fn finished_is_finished_whatever_the_word_says() {
    let table = [1, 2, 1 << 63, u64::MAX];
    each_line("finished_is_finished_whatever_the_word_says", &WAITS, &table, |world, victim, &word| {
        let (mut end, mut peer) = world.agree(victim, START);
        peer.send(b"last");
        peer.ours.store(FINISHED, word);
        peer.ring();
        within_a_second(victim, || {
            let mut out = [0; 4];
            assert_eq!((end.read(&mut out, NEVER).expect("bytes"), &out), (4, b"last"));
            assert_eq!(end.read(&mut out, NEVER).expect("the end"), 0);
            // Nor can it be taken back.
            peer.ours.store(FINISHED, 0);
            peer.ring();
            assert_eq!(end.read(&mut out, NEVER).expect("the end"), 0);
            end.flush().expect("it may read on");
        });
        assert_eq!(peer.receive().as_deref(), Some(&b"!"[..]));
    });
}

#[test]
fn a_doorbell_that_is_flooded() {
    each_victim("a_doorbell_that_is_flooded", &WAITS, |world, victim| {
        let (mut end, mut peer) = world.agree(victim, START);
        let stop = AtomicBool::new(false);
        let socket = peer.socket.try_clone().expect("a second descriptor");
        let null = [open("/dev/null", OFlags::RDWR)];
        thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| {
                // Any bytes, with descriptors between them.
                socket.set_nonblocking(true).expect("non-blocking");
                while !stop.load(Ordering::Relaxed) {
                    let _ = say(&socket, &[0xff; 999], &null);
                    let _ = (&socket).write(&[0; 4096]);
                }
            });
            within_a_second(victim, || {
                let mut out = [0; 8];
                let nothing = end.read(&mut out, Duration::from_millis(20)).expect_err("nothing there");
                assert_eq!(nothing.kind(), ErrorKind::TimedOut, "{victim:?}: {nothing}");
                for i in 0..200u64 {
                    peer.send(&i.to_le_bytes());
                    assert_eq!((end.read(&mut out, NEVER).expect("bytes"), out), (8, i.to_le_bytes()));
                }
                // And from here to there.
                end.flush().expect("flush");
                assert_eq!(peer.receive().as_deref(), Some(&b"!"[..]));
            });
        });
    });
}

#[test]
fn a_doorbell_that_is_shut_down() {
    let table = [(Shutdown::Write, true), (Shutdown::Both, true), (Shutdown::Read, false)];
    each_line("a_doorbell_that_is_shut_down", &WAITS, &table, |world, victim, &(how, gone)| {
        for sleeping in [false, true] {
            let (mut end, mut peer) = world.agree(victim, START);
            peer.send(b"before");
            let mut out = [0; 8];
            let end = &mut end;
            thread::scope(|scope| {
                let peer = &mut peer;
                scope.spawn(move || {
                    if sleeping && victim.wait.sleeps() {
                        peer.wait_for_sleeper();
                    }
                    peer.socket.shutdown(how).expect("shutdown");
                    // Nobody hears this bell; the memory is still there.
                    if !gone {
                        peer.send(b"after");
                    }
                });
                within_a_second(victim, || {
                    assert_eq!(end.read(&mut out, NEVER).expect("bytes"), 6);
                    let expected = if gone { 0 } else { 5 };
                    assert_eq!(end.read(&mut out, NEVER).expect("bytes or the end"), expected, "{victim:?} {how:?}");
                    if gone {
                        assert_eq!(end.write(&[1], NEVER).expect_err("gone").kind(), ErrorKind::BrokenPipe);
                        assert_eq!(end.flush().expect_err("gone").kind(), ErrorKind::BrokenPipe);
                    } else {
                        end.flush().expect("it may read on");
                    }
                });
            });
        }
    });
}
