//! The words of the protocol: addresses, slots, numbers, and the bytes that mean one of a few things.

use std::fmt;

use super::error::ProtocolError;
use super::method::Method;

/// Defines a fixed-size byte string that prints as hexadecimal.
macro_rules! bytes {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(0x", stringify!($name))?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(")")
            }
        }
    };
}

bytes!(
    /// A 20-byte account address.
    Account, 20
);
bytes!(
    /// The 32-byte id of a storage slot: a hash, so uniformly random.
    SlotId, 32
);
bytes!(
    /// An unsigned 256-bit number, little-endian.
    U256, 32
);

impl From<u128> for U256 {
    fn from(value: u128) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&value.to_le_bytes());
        Self(bytes)
    }
}

/// Defines an enum that is one byte on the wire, and the error for the bytes that it is not.
macro_rules! byte_enum {
    ($(#[$doc:meta])* $name:ident, $field:literal, $expected:literal { $($(#[$vdoc:meta])* $variant:ident = $byte:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $byte),* }

        impl $name {
            /// What `byte` means, as a field of `method`.
            pub fn from_byte(byte: u8, method: Method) -> Result<Self, ProtocolError> {
                match byte {
                    $($byte => Ok(Self::$variant),)*
                    seen => Err(ProtocolError::Byte { method, field: $field, seen, expected: $expected }),
                }
            }
        }
    };
}

byte_enum!(
    /// Which state a `storage_read` asks for.
    StorageMode, "mode", "0 to 2" {
        /// The state that this execution works on: what it started from, and its own writes.
        Default = 0,
        /// The latest finalised state.
        LatestFinal = 1,
        /// The latest accepted state, finalised or not.
        LatestNonFinal = 2,
    }
);

byte_enum!(
    /// How a host answers. On anything but `Ok` nothing follows.
    Status, "status", "0 to 4" {
        /// It was done; the answer follows.
        Ok = 0,
        /// There is no such thing.
        Absent = 1,
        /// The contract may not do that.
        Forbidden = 2,
        /// This node is the leader: it has to find the result itself.
        IAmLeader = 3,
        /// The write needs more storage gas than is left.
        OutOfStorageGas = 4,
    }
);

byte_enum!(
    /// How an execution, or a non-deterministic block, ended. The first byte of a result.
    ResultCode, "result code", "0 to 3" {
        /// It returned a value.
        Return = 0,
        /// The contract raised an error.
        UserError = 1,
        /// The virtual machine stopped it.
        VmError = 2,
        /// GenVM itself failed.
        InternalError = 3,
    }
);

/// The leader's result of a non-deterministic block, as far as this node may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaderResult {
    /// This node is the leader: run the block and post its result.
    IAmLeader,
    /// The leader has no such result.
    Absent,
    /// What the leader posted.
    Result {
        /// How the block ended there.
        code: ResultCode,
        /// The value or the error.
        data: Vec<u8>,
    },
}

/// How much a peer may make us hold. Lengths beyond are refused before a byte of them is awaited; below them memory grows with
/// the bytes that really arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest slice, and the longest `storage_read`, in bytes. Default: 64 MiB.
    pub slice: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { slice: 64 << 20 }
    }
}
