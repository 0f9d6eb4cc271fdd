//! The upgrade from a plain Unix socket to shared memory, as bytes: [`Greeting`] and its answer. No I/O in here.
//!
//! The client sends a greeting and its segment, the host answers with the same form and its own segment; then the socket
//! carries nothing but the bytes that ring the doorbell. All integers are little-endian, everything not listed is zero.
//!
//! | offset | size | field |
//! | ---: | ---: | --- |
//! | 0 | 8 | magic, `F5 'g' 'v' 'm' 's' 'h' 'm' 0A`: the first byte can be no method id of the host protocol |
//! | 8 | 2 | `version` |
//! | 10 | 1 | `kind`: 0 sealed memfd (one descriptor comes along), 1 named segment |
//! | 11 | 1 | `flags`: bit 0 = the sender never sleeps, so it need not be rung |
//! | 12 | 1 | `status`: 0 in a greeting and in an agreeing answer, else why the host refuses |
//! | 16 | 4 | `capacity` of the ring that the sender writes, in bytes: a power of two, 4 KiB to 1 GiB |
//! | 24 | 8 | `start`: position of the sender's first record, 1 to 2^47: random, so that no payload can pass for a record |
//! | 32 | 1 | `name_len` |
//! | 33 | 63 | `name` of the sender's segment, ASCII, if `kind` is 1 |
//!
//! Magic, `version` and `status` keep their places in every later version.

use std::io;

use super::layout::{POSITION_BITS, VERSION};
use super::segment::{SegmentKind, fill_random};
use crate::error::UpgradeError;
use crate::options::RingCapacity;

/// Length of a greeting and of its answer.
pub(crate) const GREETING_LEN: usize = 96;

/// What a greeting starts with.
pub(crate) const MAGIC: [u8; 8] = *b"\xf5gvmshm\n";

const NAME: usize = 33;

/// What one end says about its segment. Values of this type from the peer are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) kind: SegmentKind,
    pub(crate) never_sleeps: bool,
    pub(crate) capacity: RingCapacity,
    pub(crate) start: u64,
    /// Empty unless `kind` is `Named`.
    pub(crate) name: String,
}

/// Why a host refuses, as a byte of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Refusal {
    Version = 1,
    Greeting = 2,
    Kind = 3,
    Resources = 4,
}

impl Greeting {
    pub(crate) fn encode(&self) -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = u8::from(self.kind == SegmentKind::Named);
        bytes[11] = u8::from(self.never_sleeps);
        bytes[16..20].copy_from_slice(&self.capacity.bytes().to_le_bytes());
        bytes[24..32].copy_from_slice(&self.start.to_le_bytes());
        bytes[32] = self.name.len() as u8;
        bytes[NAME..NAME + self.name.len()].copy_from_slice(self.name.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; GREETING_LEN]) -> Result<Self, UpgradeError> {
        let magic: [u8; 8] = field(bytes, 0);
        if magic != MAGIC {
            return Err(UpgradeError::Magic { seen: magic, expected: MAGIC });
        }
        let version = u16::from_le_bytes(field(bytes, 8));
        // A refusal first: a host of another version says so in a form that every version reads.
        if let Some(why) = refusal_text(bytes[12]) {
            return Err(if version == VERSION { UpgradeError::Refused(why) } else { other_version(version) });
        }
        if version != VERSION {
            return Err(other_version(version));
        }
        let kind = match bytes[10] {
            0 => SegmentKind::Sealed,
            1 => SegmentKind::Named,
            other => return Err(bad("kind", other.into(), "0 or 1")),
        };
        if bytes[11] > 1 {
            return Err(bad("flags", bytes[11].into(), "0 or 1"));
        }
        let capacity = u32::from_le_bytes(field(bytes, 16));
        let capacity = RingCapacity::new(capacity)
            .ok_or_else(|| bad("capacity", capacity.into(), "a power of two from 4 KiB to 1 GiB"))?;
        let start = u64::from_le_bytes(field(bytes, 24));
        if start == 0 || start > MAX_START {
            return Err(bad("start", start, "1 to 2^47"));
        }
        let name_len = usize::from(bytes[32]);
        let Some(name) = bytes[NAME..].get(..name_len) else {
            return Err(bad("name_len", name_len as u64, "at most 63"));
        };
        if (kind == SegmentKind::Named) != (name_len > 0) || !is_segment_name(name) {
            return Err(bad(
                "name_len",
                name_len as u64,
                "a name of `/genvm-` and letters for kind 1, none for kind 0",
            ));
        }
        let zero = |range: std::ops::Range<usize>| bytes[range].iter().all(|byte| *byte == 0);
        if !(zero(13..16) && zero(20..24) && zero(NAME + name_len..GREETING_LEN)) {
            return Err(bad("reserved", 1, "zero"));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Self { kind, never_sleeps: bytes[11] == 1, capacity, start, name })
    }
}

impl Refusal {
    /// The answer of a host that refuses.
    pub(crate) fn encode(self) -> [u8; GREETING_LEN] {
        let mut bytes = [0; GREETING_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12] = self as u8;
        bytes
    }

    /// What to answer to a client whose upgrade failed with `error`.
    pub(crate) fn of(error: &UpgradeError) -> Self {
        match error {
            UpgradeError::Version { .. } => Self::Version,
            UpgradeError::Refused(_) => Self::Kind,
            UpgradeError::Io { .. } => Self::Resources,
            _ => Self::Greeting,
        }
    }
}

/// A random first position: 48 bits less one, so that it and the first lap are neither 0 nor wrap, and fresh, zeroed
/// memory is no record.
pub(crate) fn random_start() -> io::Result<u64> {
    let mut random = [0; 8];
    fill_random(&mut random)?;
    Ok((u64::from_le_bytes(random) & (MAX_START - 1)).max(1))
}

const MAX_START: u64 = 1 << (POSITION_BITS - 1);

fn refusal_text(status: u8) -> Option<&'static str> {
    Some(match status {
        0 => return None,
        1 => "it speaks another version",
        2 => "it found our greeting faulty",
        3 => "it does not offer this kind of segment",
        4 => "it is out of memory or descriptors",
        _ => "for a reason that this version does not know",
    })
}

fn other_version(seen: u16) -> UpgradeError {
    UpgradeError::Version { seen, ours: VERSION }
}

fn bad(field: &'static str, seen: u64, expected: &'static str) -> UpgradeError {
    UpgradeError::Field { field, seen, expected }
}

fn field<const N: usize>(bytes: &[u8; GREETING_LEN], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

/// A peer's name reaches the file system: nothing but our own form may.
fn is_segment_name(name: &[u8]) -> bool {
    name.is_empty()
        || name
            .strip_prefix(b"/genvm-")
            .is_some_and(|rest| rest.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn greeting() -> Greeting {
        let name = "/genvm-12-00ff".to_owned();
        Greeting { kind: SegmentKind::Named, never_sleeps: true, capacity: RingCapacity::MIN, start: 77, name }
    }

    #[test]
    fn a_greeting_survives_the_wire() {
        assert_eq!(Greeting::decode(&greeting().encode()).unwrap(), greeting());
        let sealed = Greeting { kind: SegmentKind::Sealed, never_sleeps: false, name: String::new(), ..greeting() };
        assert_eq!(Greeting::decode(&sealed.encode()).unwrap(), sealed);
    }

    #[test]
    fn each_wrong_field_is_named() {
        let wrong = |at: usize, bytes: &[u8]| {
            let mut greeting = greeting().encode();
            greeting[at..at + bytes.len()].copy_from_slice(bytes);
            Greeting::decode(&greeting).unwrap_err().to_string()
        };
        for (at, bytes, expected) in [
            (0, &b"\x01"[..], "starts with [01"),
            (8, &[9, 0], "version 9"),
            (10, &[2], "kind = 2"),
            (11, &[2], "flags = 2"),
            (12, &[4], "out of memory"),
            (12, &[200], "does not know"),
            (13, &[1], "reserved"),
            (16, &4097u32.to_le_bytes(), "capacity = 4097"),
            (16, &2048u32.to_le_bytes(), "capacity = 2048"),
            (16, &(1u32 << 31).to_le_bytes(), "capacity = 2147483648"),
            (24, &0u64.to_le_bytes(), "start = 0"),
            (24, &u64::MAX.to_le_bytes(), "start = 1844"),
            (32, &[64], "name_len = 64"),
            (32, &[0], "name_len = 0"),
            (33, b"/../x", "name_len"),
            (95, &[1], "reserved"),
        ] {
            assert!(wrong(at, bytes).contains(expected), "{at}: {}", wrong(at, bytes));
        }
    }

    #[test]
    fn a_refusal_of_a_newer_host_reads_as_another_version() {
        let mut answer = Refusal::Version.encode();
        answer[8] = 7;
        assert!(matches!(Greeting::decode(&answer), Err(UpgradeError::Version { seen: 7, ours: VERSION })));
        assert!(matches!(Greeting::decode(&Refusal::Resources.encode()), Err(UpgradeError::Refused(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::array::uniform32(any::<u8>()), at in 0usize..=GREETING_LEN - 32) {
            let mut greeting = greeting().encode();
            greeting[at..at + 32].copy_from_slice(&bytes);
            let _ = Greeting::decode(&greeting);
        }
    }
}
