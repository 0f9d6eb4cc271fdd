//! Lies before there is a connection: greetings, answers, descriptors.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use genvm_transport::WaitStrategy;
use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::peer::{CAPACITY, Memory, Peer, SEALS, SEGMENT, START, greeting, hear, say, segment, sound_segment};
use crate::support::{descriptors_and_mappings, watchdog};
use crate::victim::{NEVER, Victim, WAITS, World, name, victims, within_a_second};
use crate::{alone, each_line, each_victim, open};

/// Offers this instead of a greeting and a segment. What does the victim say to it, by itself and to us?
fn offered(
    world: &World,
    victim: Victim,
    bytes: &[u8],
    descriptors: &[OwnedFd],
) -> (Result<(), &'static str>, Vec<u8>) {
    let (end, answer) = world.meet(victim, |socket| {
        if victim.host {
            say(&socket, bytes, descriptors).expect("it listens");
            let (answer, descriptors) = hear(&socket);
            assert_eq!(descriptors.len(), usize::from(answer.get(12) == Some(&0)), "a segment comes with a yes only");
            answer
        } else {
            hear(&socket);
            say(&socket, bytes, descriptors).expect("it listens");
            Vec::new()
        }
    });
    (end.map(drop).map_err(|error| name(&error)), answer)
}

#[test]
fn wrong_greetings() {
    // Where, what, and what the victim calls it.
    let table: &[(usize, &[u8], &str)] = &[
        (7, b"\r", "magic"),
        (1, b"GVMSHM", "magic"),
        (8, &[0, 0], "version"),
        (8, &[2, 0], "version"),
        (8, &[0xff, 0xff], "version"),
        (8, &[2, 0, 0, 0, 1], "version"),
        (10, &[2], "kind"),
        (10, &[0xff], "kind"),
        (10, &[1], "name_len"), // a named segment without a name
        (11, &[2], "flags"),
        (11, &[0xff], "flags"),
        (12, &[1], "refused"),
        (12, &[0xff], "refused"),
        (13, &[1], "reserved"),
        (15, &[1], "reserved"),
        (16, &[0; 4], "capacity"),
        (16, &2048u32.to_le_bytes(), "capacity"),
        (16, &(CAPACITY + 1).to_le_bytes(), "capacity"),
        (16, &(CAPACITY + 4096 / 2).to_le_bytes(), "capacity"),
        (16, &(1u32 << 31).to_le_bytes(), "capacity"),
        (16, &[0xff; 4], "capacity"),
        (16, &(2 * CAPACITY).to_le_bytes(), "segment"), // allowed, but not what was sent
        (16, &(1u32 << 30).to_le_bytes(), "segment"),
        (20, &[1], "reserved"),
        (23, &[1], "reserved"),
        (24, &[0; 8], "start"),
        (24, &((1u64 << 47) + 1).to_le_bytes(), "start"),
        (24, &[0xff; 8], "start"),
        (32, &[1], "name_len"), // a name without a named segment
        (32, &[63], "name_len"),
        (32, &[64], "name_len"),
        (32, &[0xff], "name_len"),
        (33, &[1], "reserved"),
        (95, &[1], "reserved"),
    ];
    each_line("wrong_greetings", &[WaitStrategy::Park], table, |world, victim, &(at, wrong, expected)| {
        let mut bytes = greeting(START);
        bytes[at..at + wrong.len()].copy_from_slice(wrong);
        let (result, answer) = offered(world, victim, &bytes, &[sound_segment().0]);
        assert_eq!(result, Err(expected), "{victim:?}: {wrong:?} at {at}");
        if victim.host {
            let status = match expected {
                "version" => 1,
                "refused" => 3,
                _ => 2,
            };
            let refusal = [&b"\xf5gvmshm\n\x01\0\0\0"[..], &[status], &[0; 83]].concat();
            assert_eq!(answer, refusal, "{wrong:?} at {at}");
        }
    });
}

#[test]
fn named_segments_where_sealed_ones_are_served() {
    // A client that chose the weaker kind could truncate its segment, and ours, under our feet.
    each_victim("named_segments_where_sealed_ones_are_served", &[WaitStrategy::Park], |world, victim| {
        let name = b"/genvm-1-00";
        let mut bytes = greeting(START);
        bytes[10] = 1;
        bytes[32] = name.len() as u8;
        bytes[33..33 + name.len()].copy_from_slice(name);
        for descriptors in [vec![], vec![sound_segment().0]] {
            let (result, answer) = offered(world, victim, &bytes, &descriptors);
            assert_eq!(result, Err(if victim.host { "refused" } else { "kind" }), "{victim:?}");
            assert_eq!(answer.get(12), victim.host.then_some(&3));
        }
    });
}

/// The same file, opened once more in another way.
fn reopened(fd: &OwnedFd, flags: OFlags) -> OwnedFd {
    open(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd)), flags)
}

/// Descriptors of any kind. Two of them are sound.
fn descriptors(what: &str) -> Vec<OwnedFd> {
    let all: SealFlags = SEALS.into_iter().collect();
    let memfd = |flags| rustix::fs::memfd_create("hostile", MemfdFlags::CLOEXEC | flags).expect("a memfd");
    let sound = |count| (0..count).map(|_| sound_segment().0).collect();
    vec![match what {
        "none" => return vec![],
        "two" => return sound(2),
        "four" => return sound(4),
        "more than there is room for" => return sound(5),
        "as many as the kernel sends" => return (0..253).map(|_| open("/dev/null", OFlags::RDWR)).collect(),
        "pipe" => rustix::pipe::pipe().expect("a pipe").0,
        "socket" => UnixStream::pair().expect("a pair").0.into(),
        "file" => {
            let file = tempfile::tempfile().expect("a file");
            file.set_len(SEGMENT as u64).expect("its size");
            file.into()
        }
        "/dev/null" | "/dev/zero" => open(what, OFlags::RDWR),
        "directory" => open("/", OFlags::RDONLY | OFlags::DIRECTORY),
        "eventfd" => rustix::event::eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd"),
        "process" => pidfd_open(getpid(), PidfdFlags::empty()).expect("a pidfd"),
        "just a place" => reopened(&sound_segment().0, OFlags::PATH),
        "unsealed" => segment(SEGMENT, SealFlags::empty()).0,
        "without SHRINK" => segment(SEGMENT, all - SealFlags::SHRINK).0,
        "without GROW" => segment(SEGMENT, all - SealFlags::GROW).0,
        "without FUTURE_WRITE" => segment(SEGMENT, all - SealFlags::FUTURE_WRITE).0,
        "without SEAL" => segment(SEGMENT, all - SealFlags::SEAL).0,
        "cannot be sealed" => {
            let fd = memfd(MemfdFlags::empty());
            rustix::fs::ftruncate(&fd, SEGMENT as u64).expect("its size");
            fd
        }
        "empty" => {
            let fd = memfd(MemfdFlags::ALLOW_SEALING);
            rustix::fs::fcntl_add_seals(&fd, all).expect("its seals");
            fd
        }
        "short by a page" => segment(SEGMENT - 4096, all).0,
        "short by a byte" => segment(SEGMENT - 1, all).0,
        "long by a byte" => segment(SEGMENT + 1, all).0,
        "long by a page" => segment(SEGMENT + 4096, all).0,
        "sealed, readable only" => reopened(&sound_segment().0, OFlags::RDONLY),
        "sealed" => sound_segment().0,
        other => panic!("{other}"),
    }]
}

#[test]
fn wrong_descriptors() {
    let table = "none; two; four; more than there is room for; as many as the kernel sends; pipe; socket; file; /dev/null; \
        /dev/zero; directory; eventfd; process; just a place; unsealed; without SHRINK; without GROW; without FUTURE_WRITE; \
        without SEAL; cannot be sealed; empty; short by a page; short by a byte; long by a byte; long by a page; sealed; \
        sealed, readable only";
    let table: Vec<&str> = table.split("; ").collect();
    each_line("wrong_descriptors", &[WaitStrategy::Park], &table, |world, victim, what| {
        let sound = what.starts_with("sealed");
        let (result, answer) = offered(world, victim, &greeting(START), &descriptors(what));
        assert_eq!(result, if sound { Ok(()) } else { Err("segment") }, "{victim:?}: {what}");
        assert_eq!(answer.get(12), victim.host.then_some(if sound { &0 } else { &2 }), "{what}");
    });
}

#[test]
fn a_segment_that_was_agreed_on_stays_as_it_is() {
    each_victim("a_segment_that_was_agreed_on_stays_as_it_is", &[WaitStrategy::Park], |world, victim| {
        let (mut end, mut peer) = world.agree(victim, START);
        let fd = &peer.fd;
        let refused = Err(rustix::io::Errno::PERM);
        for len in [0, SEGMENT - 1, SEGMENT + 1, 2 * SEGMENT] {
            assert_eq!(rustix::fs::ftruncate(fd, len as u64), refused, "{len}");
        }
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert_eq!(rustix::fs::fallocate(fd, hole, 0, SEGMENT as u64), refused);
        assert_eq!(peer.ours.punch(), refused);
        assert_eq!(rustix::fs::fallocate(fd, rustix::fs::FallocateFlags::empty(), 0, 2 * SEGMENT as u64), refused);
        assert_eq!(rustix::io::pwrite(fd, &[1], 0), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::fcntl_add_seals(fd, SealFlags::WRITE), refused);
        assert_eq!(Memory::map(fd.as_fd(), SEGMENT, true).map(drop), refused);
        peer.send(b"as ever");
        let mut out = [0; 8];
        assert_eq!((end.read(&mut out, NEVER).expect("bytes"), &out), (7, b"as ever\0"));
    });
}

#[test]
fn greetings_cut_at_every_byte() {
    each_victim("greetings_cut_at_every_byte", &[WaitStrategy::Park], |world, victim| {
        // A client that says nothing is a plain one that has left.
        for cut in usize::from(victim.host)..96 {
            for descriptors in [vec![], vec![sound_segment().0]] {
                if cut == 0 && !descriptors.is_empty() {
                    continue; // they travel with a byte
                }
                let (end, ()) = world.meet(victim, |socket| {
                    if !victim.host {
                        hear(&socket);
                    }
                    if cut > 0 {
                        say(&socket, &greeting(START)[..cut], &descriptors).expect("it listens");
                    }
                });
                assert_eq!(name(&end.expect_err("cut")), "closed", "{victim:?} at {cut}");
            }
            world.serves(victim);
        }
    });
}

#[test]
fn nonsense_is_refused_before_the_rest_of_it_comes() {
    let table: Vec<usize> = (1..8).collect();
    let what = "nonsense_is_refused_before_the_rest_of_it_comes";
    each_line(what, &[WaitStrategy::Park], &table, |world, victim, &wrong| {
        let mut bytes = greeting(START);
        bytes[wrong] ^= 0x80;
        let (result, _) = offered(world, victim, &bytes[..=wrong], &[]);
        assert_eq!(result, Err("magic"), "{victim:?} at {wrong}");
    });
}

#[test]
fn a_greeting_may_dribble() {
    // The descriptor comes with the byte at `at`, and perhaps one more with the next.
    let table = [(0, 1), (1, 1), (95, 1), (0, 2), (94, 2)];
    each_line("a_greeting_may_dribble", &[WaitStrategy::Park], &table, |world, victim, &(at, count)| {
        let (end, ()) = world.meet(victim, |socket| {
            if !victim.host {
                hear(&socket);
            }
            for (i, byte) in greeting(START).into_iter().enumerate() {
                let one = (at..at + count).contains(&i).then(|| sound_segment().0);
                if say(&socket, &[byte], one.as_slice()).is_err() {
                    assert_eq!(count, 2, "it hung up at {i}");
                    break;
                }
            }
            if victim.host {
                hear(&socket);
            }
        });
        let result = end.map(drop).map_err(|error| name(&error));
        assert_eq!(result, if count == 1 { Ok(()) } else { Err("segment") }, "{victim:?}: {count} at {at}");
    });
}

#[test]
fn one_segment_for_two_connections() {
    // Nobody can see it at a memfd that it is another connection's as well. Each reads what lies in there, and that is all.
    each_victim("one_segment_for_two_connections", &WAITS, |world, victim| {
        let (fd, first) = segment(SEGMENT, SealFlags::empty());
        let second = Memory::map(fd.as_fd(), SEGMENT, true).expect("a second mapping");
        rustix::fs::fcntl_add_seals(&fd, SEALS.into_iter().collect()).expect("its seals");
        let agree = |memory| {
            let once_more = (fd.try_clone().expect("a second descriptor"), memory);
            let (end, peer) = world.meet(victim, |socket| Peer::agree_on(once_more, socket, victim.host, START));
            (end.expect("nothing is wrong with it"), peer)
        };
        let (mut first, mut peer) = agree(first);
        peer.send(b"for both");
        let (mut second, _other) = agree(second);
        let mut out = [0; 9];
        for end in [&mut second, &mut first] {
            assert_eq!((end.read(&mut out, NEVER).expect("bytes"), &out), (8, b"for both\0"));
        }
        drop(second);
        peer.send(b"for one");
        assert_eq!((first.read(&mut out, NEVER).expect("bytes"), &out[..7]), (7, &b"for one"[..]));
    });
}

#[test]
fn our_own_segment_given_back_to_us() {
    let _alone = alone();
    let _watchdog = watchdog("our_own_segment_given_back_to_us");
    let world = World::new();
    for victim in victims(&WAITS).into_iter().filter(|victim| !victim.host) {
        let before = descriptors_and_mappings();
        // Whoever claims our own ring as its own makes us hear ourselves, which any peer can.
        let (end, socket) = world.meet(victim, |socket| {
            let (bytes, descriptors) = hear(&socket);
            say(&socket, &bytes, &descriptors).expect("it listens");
            socket
        });
        within_a_second(victim, || {
            let mut end = end.expect("nothing is wrong with it");
            let mut out = [0; 8];
            assert_eq!((end.read(&mut out, NEVER).expect("what we wrote"), &out[..1]), (1, &b"!"[..]));
            let nothing = end.read(&mut out, Duration::from_millis(2)).expect_err("nothing more");
            assert_eq!(nothing.kind(), ErrorKind::TimedOut);
        });
        drop(socket);
        assert_eq!(descriptors_and_mappings(), before);
    }
}
