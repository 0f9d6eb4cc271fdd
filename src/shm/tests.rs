//! The ring and the bell by themselves, in one process, against models and against lies. Whole streams are tested by the
//! conformance suite, two processes by `tests/`.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::fuzzing;
use super::layout::{CONSUMED, LINE, POSITION_MASK, RING, lines, max_record_lines, segment_len};
use super::mapping::Mapping;
use super::ring::{Consumer, Producer, RingFault};
use crate::options::RingCapacity;
use crate::sync::atomic::Ordering::Relaxed;

/// A producer and the consumer of its ring, on fresh memory.
struct Pair {
    producer: Producer,
    consumer: Consumer,
    producers: Arc<Mapping>,
    consumers: Arc<Mapping>,
}

fn pair(capacity: RingCapacity, start: u64) -> Pair {
    let producers = Arc::new(Mapping::anonymous(segment_len(capacity)));
    let consumers = Arc::new(Mapping::anonymous(segment_len(capacity)));
    let consumer = Consumer::new(consumers.clone(), producers.clone(), capacity, start);
    let producer = Producer::new(producers.clone(), consumers.clone(), capacity, start);
    Pair { producer, consumer, producers, consumers }
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    let Pair { mut producer, mut consumer, .. } = pair(RingCapacity::MIN, 1);
    assert_eq!(producer.write(b"hello").unwrap().taken, 5);
    assert!(!consumer.has_bytes().unwrap());
    assert!(producer.publish());
    assert!(!producer.publish());
    let mut out = [0; 8];
    assert_eq!(consumer.read(&mut out).unwrap().bytes, 5);
    assert_eq!(&out[..5], b"hello");
    assert!(!consumer.has_bytes().unwrap());
}

#[test]
fn a_full_ring_takes_nothing_and_loses_nothing() {
    let Pair { mut producer, mut consumer, .. } = pair(RingCapacity::MIN, 40);
    let mut sent = 0u32;
    while producer.write(&sent.to_le_bytes()).unwrap().taken == 4 {
        producer.publish();
        sent += 1;
    }
    assert_eq!(u64::from(sent), lines(RingCapacity::MIN), "one small record a line");
    assert!(!producer.has_room().unwrap());
    for expected in 0..sent {
        let mut out = [0; 8];
        assert_eq!(consumer.read(&mut out).unwrap().bytes, 4, "up to the end of the record");
        assert_eq!(out[..4], expected.to_le_bytes());
    }
    assert_eq!(consumer.read(&mut [0; 8]).unwrap().bytes, 0);
    assert!(producer.has_room().unwrap());
}

#[test]
fn left_over_payload_is_no_record() {
    // Payload that is itself the header which the consumer will look for a lap later, at the place where it will look.
    let capacity = RingCapacity::MIN;
    let Pair { mut producer, mut consumer, .. } = pair(capacity, 7);
    let mut out = vec![0; 8192];
    for lap in 0..20 {
        let forged: Vec<u8> = (0..120u64).flat_map(|i| (((7 + lap * 64 + i) << 16) | 9).to_le_bytes()).collect();
        assert_eq!(producer.write(&forged).unwrap().taken, forged.len());
        producer.publish();
        let mut read = 0;
        while read < forged.len() {
            read += consumer.read(&mut out[read..]).unwrap().bytes;
        }
        assert_eq!(out[..read], forged);
        assert_eq!(consumer.read(&mut out).unwrap().bytes, 0);
    }
}

#[test]
fn positions_wrap() {
    let start = POSITION_MASK - 100;
    let Pair { mut producer, mut consumer, .. } = pair(RingCapacity::MIN, start);
    let mut out = [0; 100];
    for i in 0..1000u32 {
        assert_eq!(producer.write(&[i as u8; 100]).unwrap().taken, 100, "{i}");
        producer.publish();
        let mut read = 0; // in two parts where the ring ends
        while read < 100 {
            read += consumer.read(&mut out[read..]).unwrap().bytes;
        }
        assert_eq!(out, [i as u8; 100]);
    }
}

/// From every line of the ring, past the end of the ring and of the positions, at every alignment of the caller's bytes.
#[test]
fn every_size_up_to_three_rings_arrives_as_it_was() {
    let capacity = RingCapacity::MIN;
    let most = 3 * capacity.bytes() as usize;
    let bytes: Vec<u8> = (0..most + LINE).map(|i| (i % 251) as u8 ^ (i / 251) as u8).collect();
    let mut out = vec![0; most + LINE];
    for line in 0..lines(capacity) {
        // Other sizes from other lines where there is no time for all.
        let (least, step) = if cfg!(debug_assertions) { (line as usize, 67) } else { (0, 1) };
        for size in (least..=most).step_by(step) {
            let Pair { mut producer, mut consumer, .. } = pair(capacity, POSITION_MASK - line);
            let (from, to) = ((size + line as usize) % LINE, size % LINE);
            let (mut written, mut read) = (0, 0);
            while read < size {
                written += producer.write(&bytes[from..][written..size]).unwrap().taken;
                producer.publish();
                while let n @ 1.. = consumer.read(&mut out[to..][read..size]).unwrap().bytes {
                    read += n;
                }
            }
            assert!(out[to..][..size] == bytes[from..][..size], "{size} bytes from {line} lines before the wrap");
        }
    }
}

#[test]
fn a_lying_producer_is_a_fault() {
    let capacity = RingCapacity::MIN;
    let max = max_record_lines(capacity) * LINE as u64 - 8;
    for length in [0, max + 1, 0xffff] {
        let Pair { mut consumer, producers, .. } = pair(capacity, 64);
        producers.store(RING, 64 << 16 | length, Relaxed);
        let fault = RingFault::Length { position: 64, seen: length, max };
        assert_eq!(consumer.has_bytes(), Err(fault));
        assert_eq!(consumer.read(&mut [0; 10]), Err(fault), "and again");
    }
    // At the end of the ring a record may be one line at most.
    let Pair { mut consumer, producers, .. } = pair(capacity, 63);
    producers.store(RING + 63 * LINE, 63 << 16 | 57, Relaxed);
    assert_eq!(consumer.has_bytes(), Err(RingFault::Length { position: 63, seen: 57, max: 56 }));
}

#[test]
fn a_consumer_that_has_said_nothing_yet_has_consumed_nothing() {
    let Pair { mut producer, consumers, .. } = pair(RingCapacity::MIN, 100);
    consumers.store(CONSUMED, 0, Relaxed);
    let mut taken = 0;
    while producer.write(&[1; 56]).unwrap().taken > 0 {
        producer.publish();
        taken += 1;
    }
    assert_eq!(taken, lines(RingCapacity::MIN));
    assert!(!producer.has_room().unwrap());
    consumers.store(CONSUMED, 130, Relaxed);
    assert!(producer.has_room().unwrap());
}

#[test]
fn a_lying_consumer_is_a_fault() {
    for seen in [1, 99, 100 + 65, 100 + 1000, POSITION_MASK + 101, u64::MAX] {
        let Pair { mut producer, consumers, .. } = pair(RingCapacity::MIN, 100);
        while producer.write(&[1; 56]).unwrap().taken > 0 {}
        consumers.store(CONSUMED, seen, Relaxed);
        let fault = RingFault::Consumed { seen, known: 100, written: 164 };
        assert_eq!(producer.write(&[1]).unwrap_err(), fault);
        assert_eq!(producer.has_room().unwrap_err(), fault);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(debug_assertions) { 256 } else { 5000 }, ..ProptestConfig::default() })]

    /// The fuzz targets' bodies, with input that nothing guides.
    #[test]
    fn no_lie_is_more_than_a_fault(input in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzzing::ring(&input);
    }

    #[test]
    fn no_greeting_is_more_than_refused(
        how in any::<[u8; 2]>(),
        flips in prop::collection::vec(prop_oneof![20 => Just(0), 1 => any::<u8>()], 0..100),
    ) {
        fuzzing::greeting(&[&[how[0], how[1] % 3], &flips[..]].concat());
    }

    /// Any sequence of writes, publications and reads behaves like a queue of bytes, whatever the sizes and the start.
    #[test]
    fn behaves_like_a_queue(
        start in prop_oneof![1u64..200, Just(POSITION_MASK), Just(POSITION_MASK - 63)],
        steps in prop::collection::vec((0u8..3, 0usize..6000), 1..200),
    ) {
        let Pair { mut producer, mut consumer, .. } = pair(RingCapacity::MIN, start);
        let (mut visible, mut staged) = (VecDeque::<u8>::new(), VecDeque::<u8>::new());
        let mut next = 0u8;
        for (what, size) in steps {
            match what {
                0 => {
                    let bytes: Vec<u8> = (0..size).map(|i| next.wrapping_add((i % 251) as u8)).collect();
                    let wrote = producer.write(&bytes).unwrap();
                    staged.extend(&bytes[..wrote.taken]);
                    next = next.wrapping_add(17);
                    prop_assert!(wrote.taken > 0 || size == 0 || !producer.has_room().unwrap());
                }
                1 => {
                    producer.publish();
                    visible.append(&mut staged);
                }
                _ => {
                    let mut out = vec![0; size];
                    let mut n = 0;
                    while n < size && consumer.has_bytes().unwrap() {
                        n += consumer.read(&mut out[n..]).unwrap().bytes;
                    }
                    // Full pieces become visible before `publish`.
                    while visible.len() < n {
                        visible.push_back(staged.pop_front().expect("read more than was written"));
                    }
                    prop_assert!(n == size || !consumer.has_bytes().unwrap());
                    prop_assert!(n == size || n >= visible.len().min(size));
                    prop_assert!(visible.drain(..n).eq(out[..n].iter().copied()));
                }
            }
        }
    }
}

#[test]
fn two_threads_pass_every_byte() {
    let Pair { mut producer, mut consumer, .. } = pair(RingCapacity::MIN, 5);
    const BYTES: usize = if cfg!(debug_assertions) { 1 << 20 } else { 1 << 26 };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = 0;
            let mut size = 1;
            while sent < BYTES {
                size = size * 7 % 3001;
                let n = size.min(BYTES - sent);
                let chunk: Vec<u8> = (sent..sent + n).map(|i| (i % 251) as u8).collect();
                let mut done = 0;
                while done < n {
                    let wrote = producer.write(&chunk[done..]).unwrap();
                    producer.publish();
                    done += wrote.taken;
                    if wrote.taken == 0 {
                        std::thread::yield_now();
                    }
                }
                sent += n;
            }
        });
        let mut out = [0; 1777];
        let mut received = 0;
        while received < BYTES {
            let n = consumer.read(&mut out).unwrap().bytes;
            assert!(out[..n].iter().enumerate().all(|(i, b)| *b == ((received + i) % 251) as u8), "after {received}");
            received += n;
            if n == 0 {
                std::thread::yield_now();
            }
        }
    });
}
