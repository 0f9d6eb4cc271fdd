//! The values that travel: accounts, slots, numbers, and the enums behind the wire's single bytes.
//!
//! Enums convert to their bytes with `as u8` and back with `TryFrom<u8>`, whose error tells what was read; only what byte a
//! [`Status`] is the [`Revision`](super::Revision) says.

use std::fmt;
use std::hash::{Hash, Hasher};

macro_rules! bytes_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl Hash for $name {
            /// Words instead of a slice and its length: half the time for a seeded hash of 32 bytes.
            #[inline]
            fn hash<H: Hasher>(&self, state: &mut H) {
                let (words, rest) = self.0.as_chunks();
                words.iter().for_each(|word| state.write_u64(u64::from_le_bytes(*word)));
                let (halves, _) = rest.as_chunks();
                halves.iter().for_each(|half| state.write_u32(u32::from_le_bytes(*half)));
                const { assert!($len % 4 == 0) }
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self([0; $len])
            }
        }
    };
}

bytes_type!(
    /// A 20-byte account address.
    Account, 20
);
bytes_type!(
    /// The 32-byte id of a storage slot. Ids are hashes, so they are uniformly random.
    SlotId, 32
);
bytes_type!(
    /// An unsigned 256-bit number, little-endian as on the wire. Its order is that of the bytes, not of the numbers.
    U256, 32
);

impl From<u64> for U256 {
    fn from(value: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        Self(bytes)
    }
}

impl U256 {
    /// The number, if it is small enough.
    pub fn to_u64(self) -> Option<u64> {
        let [low, high @ ..] = self.0.as_chunks().0 else { return None };
        high.as_flattened().iter().all(|byte| *byte == 0).then(|| u64::from_le_bytes(*low))
    }
}

impl fmt::Display for U256 {
    /// Decimal up to 2^64, hexadecimal beyond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_u64() {
            Some(number) => number.fmt(f),
            None => hex(f, "", self.0.iter().rev()),
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, "Account", self.0.iter())
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, "SlotId", self.0.iter())
    }
}

impl fmt::Debug for U256 {
    /// As one writes the number: most significant byte first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, "U256", self.0.iter().rev())
    }
}

fn hex<'a>(f: &mut fmt::Formatter<'_>, name: &str, bytes: impl Iterator<Item = &'a u8>) -> fmt::Result {
    let (open, close) = if name.is_empty() { ("", "") } else { ("(", ")") };
    write!(f, "{name}{open}0x")?;
    bytes.into_iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
    f.write_str(close)
}

/// A byte that stands for nothing in its enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{byte} is no {what} (expected {expected})")]
#[non_exhaustive]
pub struct UnknownByte {
    /// What was read.
    pub byte: u8,
    /// What it should have been, such as "status".
    pub what: &'static str,
    /// The bytes that would have meant something, with their names.
    pub expected: &'static str,
}

macro_rules! byte_enum {
    (
        $(#[$doc:meta])* $name:ident ($what:literal, $expected:literal) {
            $($(#[$variant_doc:meta])* $variant:ident = $byte:literal $text:literal,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $byte,)*
        }

        impl $name {
            /// Its name in the protocol.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownByte;

            #[inline]
            fn try_from(byte: u8) -> Result<Self, UnknownByte> {
                match byte {
                    $($byte => Ok(Self::$variant),)*
                    _ => Err(UnknownByte { byte, what: $what, expected: $expected }),
                }
            }
        }
    };
}

byte_enum! {
    /// Which state a `storage_read` looks at.
    StorageMode ("storage mode", "0 default, 1 latest_final, 2 latest_non_final") {
        /// The state that the execution started from, with its own writes on top.
        Default = 0 "default",
        /// The newest final state of the chain.
        LatestFinal = 1 "latest_final",
        /// The newest state of the chain, final or not.
        LatestNonFinal = 2 "latest_non_final",
    }
}

/// How the host answers; on anything but `Ok` nothing follows. Which byte stands for it is the
/// [revision](super::Revision::status_byte)'s business, and not each has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Done; what the method answers follows.
    Ok,
    /// There is no such thing.
    Absent,
    /// This execution may not do that.
    Forbidden,
    /// This node is the leader: there is no leader's result to be had.
    IAmLeader,
    /// The write would cost more than the execution may spend on storage.
    OutOfStorageGas,
    /// The EVM contract reverted.
    EvmReverted,
}

impl Status {
    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Absent => "absent",
            Self::Forbidden => "forbidden",
            Self::IAmLeader => "i_am_leader",
            Self::OutOfStorageGas => "out_of_storage_gas",
            Self::EvmReverted => "evm_reverted",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

byte_enum! {
    /// How an execution, or one nondeterministic block of it, ended.
    ResultCode ("result code", "0 return, 1 user_error, 2 vm_error, 3 internal_error") {
        /// It returned a value.
        Return = 0 "return",
        /// The contract reported an error.
        UserError = 1 "user_error",
        /// The contract broke a rule of the machine.
        VmError = 2 "vm_error",
        /// GenVM itself failed.
        InternalError = 3 "internal_error",
    }
}

/// The answer to `get_leader_nondet_result`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderResult {
    /// This node is the leader; it has to compute the result and post it.
    IAmLeader,
    /// The leader has no such result.
    Absent,
    /// What the leader got.
    Result {
        /// How the leader's block ended.
        code: ResultCode,
        /// What it returned.
        data: Vec<u8>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_convert_both_ways_and_nothing_else_does() {
        for byte in 0..=u8::MAX {
            assert_eq!(StorageMode::try_from(byte).map(|mode| mode as u8).ok(), (byte < 3).then_some(byte));
            assert_eq!(ResultCode::try_from(byte).map(|code| code as u8).ok(), (byte < 4).then_some(byte));
        }
        assert_eq!(
            StorageMode::try_from(9).unwrap_err().to_string(),
            "9 is no storage mode (expected 0 default, 1 latest_final, 2 latest_non_final)"
        );
    }

    #[test]
    fn numbers_are_shown_and_converted() {
        let large = U256(std::array::from_fn(|place| (place == 8).into()));
        assert_eq!((U256::from(70).to_string(), U256::from(70).to_u64()), ("70".to_owned(), Some(70)));
        assert_eq!((large.to_string(), large.to_u64()), (format!("0x{}01{}", "00".repeat(23), "00".repeat(8)), None));
    }

    #[test]
    fn debug_is_hexadecimal() {
        assert_eq!(format!("{:?}", Account([0xab; 20])), format!("Account(0x{})", "ab".repeat(20)));
        assert_eq!(format!("{:?}", U256::from(0x1234)), format!("U256(0x{}1234)", "0".repeat(60)));
    }
}
