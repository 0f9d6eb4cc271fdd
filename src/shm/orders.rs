//! The real ring, doorbell and channel under the model checker, which tries the orders in which two threads may see each other's
//! stores: `ci/loom.sh`. Lines are two words long here, so a record of one line carries eight bytes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::channel::{Channel, Tried, Wanted};
use super::doorbell::{Doorbell, Heard, Sleep, Socket};
use super::layout::{LINE, segment_len};
use super::life::Life;
use super::mapping::Mapping;
use super::ring::{Consumer, Producer};
use crate::options::RingCapacity;
use crate::peer::{Peer, TransportKind};
use crate::sync::model::WITHOUT_FENCE;

/// Four lines, so that a record is one line, and each is given back as soon as it has been read.
const SMALL: RingCapacity = RingCapacity::of_model(4 * LINE as u32);
/// Eight lines: records of up to two, given back by twos.
const LARGER: RingCapacity = RingCapacity::of_model(8 * LINE as u32);

/// Every order, or every one with at most so many switches away from a thread that could go on: `ci/loom.sh MORE` for more of them.
fn model(preemptions: Option<usize>, body: impl Fn() + Sync + Send + 'static) {
    let more = std::env::var("GENVM_LOOM_MORE").map_or(0, |more| more.parse().expect("a number"));
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions.map(|most| most + more);
    model.check(body);
}

fn ring(capacity: RingCapacity, start: u64) -> (Producer, Consumer) {
    let producers = Arc::new(Mapping::anonymous(segment_len(capacity)));
    let consumers = Arc::new(Mapping::anonymous(segment_len(capacity)));
    let consumer = Consumer::new(consumers.clone(), producers.clone(), capacity, start);
    (Producer::new(producers, consumers, capacity, start), consumer)
}

/// Writes all of `bytes`, each `record` of them a publication, waiting for room by polling.
fn produce(producer: &mut Producer, bytes: &[u8], record: usize) {
    for mut record in bytes.chunks(record) {
        while !record.is_empty() {
            match producer.write(record).expect("no lie").taken {
                0 => thread::yield_now(),
                n => record = &record[n..],
            }
        }
        producer.publish();
    }
}

/// Reads `count` bytes, polling.
fn consume(consumer: &mut Consumer, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut done = 0;
    while done < count {
        match consumer.read(&mut bytes[done..]).expect("no lie").bytes {
            0 => thread::yield_now(),
            n => done += n,
        }
    }
    bytes
}

/// Bytes of which no two words are alike, and none is zero.
fn bytes(count: usize) -> Vec<u8> {
    (1..=count as u8).collect()
}

fn passes(preemptions: Option<usize>, capacity: RingCapacity, start: u64, count: usize, record: usize) {
    model(preemptions, move || {
        let (mut producer, mut consumer) = ring(capacity, start);
        let writer = thread::spawn(move || produce(&mut producer, &bytes(count), record));
        assert_eq!(consume(&mut consumer, count), bytes(count));
        writer.join().expect("no panic");
    });
}

/// EDGE record-visible: who sees a header sees the payload.
#[test]
fn a_record_is_whole_once_it_is_seen() {
    passes(None, SMALL, 1, 20, 8);
}

#[test]
fn so_is_one_of_two_lines() {
    passes(None, LARGER, 1, 44, 22);
}

/// EDGE room-visible: lines are written anew only after they were read.
#[test]
fn a_full_ring_is_not_written_over() {
    passes(Some(3), SMALL, 2, 6 * 8, 8);
}

#[test]
fn nor_is_one_of_longer_records() {
    passes(Some(3), LARGER, 5, 5 * 24, 24);
}

/// The socket of the doorbell: bytes that rang, and somebody who waits for them.
#[derive(Debug, Default)]
struct Wire {
    bytes: Mutex<usize>,
    rang: Condvar,
}

/// One end of it.
#[derive(Debug)]
struct Plug {
    to: Arc<Wire>,
    from: Arc<Wire>,
}

impl Socket for Plug {
    fn ring(&self) {
        *self.to.bytes.lock().expect("no panic") += 1;
        self.to.rang.notify_one();
    }

    fn hear(&self, wait: bool) -> io::Result<Heard> {
        let mut bytes = self.from.bytes.lock().expect("no panic");
        while wait && *bytes == 0 {
            bytes = self.from.rang.wait(bytes).expect("no panic");
        }
        Ok(if std::mem::take(&mut *bytes) > 0 { Heard::Ring } else { Heard::Nothing })
    }

    fn wait(&self, _: &Life, _: Option<Duration>) -> io::Result<()> {
        unreachable!("nobody has a timeout")
    }

    fn hang_up(&self) {
        unreachable!("nobody lies")
    }
}

/// Both ends of a connection.
fn connection(capacity: RingCapacity) -> (Channel, Channel) {
    let [a, b] = [(); 2].map(|()| Arc::new(Mapping::anonymous(segment_len(capacity))));
    let [to_a, to_b] = [(); 2].map(|()| Arc::new(Wire::default()));
    let end = |ours: &Arc<Mapping>, theirs: &Arc<Mapping>, from: &Arc<Wire>, to: &Arc<Wire>| {
        let consumer = Consumer::new(ours.clone(), theirs.clone(), capacity, 1);
        let producer = Producer::new(ours.clone(), theirs.clone(), capacity, 1);
        let socket = Arc::new(Plug { to: to.clone(), from: from.clone() });
        let bell = Doorbell::new(socket, Life::UNKNOWN, (ours.clone(), theirs.clone()), true);
        Channel::new(producer, consumer, bell, (ours.clone(), theirs.clone()), Peer::Unknown, TransportKind::Shm)
    };
    (end(&a, &b, &to_a, &to_b), end(&b, &a, &to_b, &to_a))
}

/// Sleeps as the blocking face does, at once and for ever; a wake-up that is lost is a deadlock, which the checker reports.
fn sleep(channel: &mut Channel, wanted: Wanted) {
    if channel.arm_unless(wanted, Sleep::Blocking).expect("no lie") {
        channel.sleep(None).expect("rung");
    }
    channel.disarm();
}

/// Up to the end of a record, or `None` at the end of the stream.
fn read(channel: &mut Channel) -> Option<Vec<u8>> {
    let mut out = [0; 2 * LINE];
    loop {
        match channel.try_read(&mut out).expect("no lie") {
            Tried::Bytes(n) => return Some(out[..n].to_vec()),
            Tried::Nothing => sleep(channel, Wanted::Bytes),
            Tried::End => return None,
        }
    }
}

fn write(channel: &mut Channel, bytes: &[u8]) {
    let mut done = 0;
    while done < bytes.len() {
        match channel.try_write(&bytes[done..]).expect("no lie") {
            0 => sleep(channel, Wanted::Room),
            n => done += n,
        }
    }
    channel.publish();
}

/// Two records for a reader that sleeps whenever there is none, each thread with its fence or without.
fn wakes_a_reader([reader_fences, writer_fences]: [bool; 2]) {
    model(None, move || {
        let (mut a, mut b) = connection(SMALL);
        WITHOUT_FENCE.with(|without| without.set(!reader_fences));
        let writer = thread::spawn(move || {
            WITHOUT_FENCE.with(|without| without.set(!writer_fences));
            write(&mut b, b"one");
            write(&mut b, b"two");
            b // its end would wake the reader as well
        });
        assert_eq!(read(&mut a).as_deref(), Some(&b"one"[..]));
        assert_eq!(read(&mut a).as_deref(), Some(&b"two"[..]));
        drop(writer.join().expect("no panic"));
    });
}

/// EDGE sleep.
#[test]
fn no_wake_up_of_a_reader_is_lost() {
    wakes_a_reader([true, true]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_is_lost_without_the_fences() {
    wakes_a_reader([false, false]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_is_lost_without_the_sleeper_s_fence() {
    wakes_a_reader([false, true]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_is_lost_without_the_ringer_s_fence() {
    wakes_a_reader([true, false]);
}

#[test]
fn no_wake_up_of_a_writer_is_lost() {
    model(Some(4), || {
        let (mut a, mut b) = connection(SMALL);
        // Full, so the next byte has to wait for room.
        write(&mut a, &bytes(4 * 8));
        let reader = thread::spawn(move || {
            let first: Vec<u8> = (0..5).flat_map(|_| read(&mut b).expect("bytes")).collect();
            assert_eq!(first, bytes(5 * 8));
            b
        });
        write(&mut a, &bytes(5 * 8)[4 * 8..]);
        drop(reader.join().expect("no panic"));
    });
}

#[test]
fn no_wake_up_of_two_that_call_each_other_is_lost() {
    model(Some(5), || {
        let (mut a, mut b) = connection(SMALL);
        let host = thread::spawn(move || {
            let request = read(&mut b).expect("a request");
            write(&mut b, &request);
            b
        });
        write(&mut a, b"call");
        assert_eq!(read(&mut a).as_deref(), Some(&b"call"[..]));
        drop(host.join().expect("no panic"));
    });
}

#[test]
fn nor_is_the_end() {
    model(None, || {
        let (mut a, mut b) = connection(SMALL);
        let writer = thread::spawn(move || {
            assert_eq!(b.try_write(b"last").expect("room"), 4);
            b.finish(); // publishes it
            b
        });
        assert_eq!(read(&mut a).as_deref(), Some(&b"last"[..]));
        assert_eq!(read(&mut a), None);
        drop(writer.join().expect("no panic"));
    });
}
