//! How much of what the peer announces is believed.

/// Bounds on the lengths in a message. They are checked before a byte of what they announce is awaited; below them,
/// memory still grows only with the bytes that really arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Longest slice accepted or sent, and longest `storage_read` answered or asked, in bytes. Default: 64 MiB.
    pub slice: u32,
}

impl Limits {
    /// The defaults.
    pub const DEFAULT: Self = Self { slice: 64 << 20 };

    /// The defaults with another bound on [slices](Self::slice).
    #[must_use]
    pub const fn with_slice(mut self, slice: u32) -> Self {
        self.slice = slice;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
