//! [`Protocol`]: what two ends have to agree on before the first byte, because nothing on the wire says it.
//!
//! It negotiates nothing: both ends are told, and an end that was told otherwise is found out by bytes that make no sense.

use super::limits::Limits;
use super::method::Revision;

/// Which revision is spoken, what may precede it, and how much of what the peer announces is believed.
///
/// ```
/// use genvm_transport::protocol::{Limits, Protocol};
///
/// let ours = Protocol::TWO.with_hello(*b"genvm").with_limits(Limits::DEFAULT.with_slice(1 << 20));
/// # assert_eq!(ours.hello(), b"genvm");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    pub(super) revision: Revision,
    pub(super) limits: Limits,
    pub(super) hello: Vec<u8>,
}

impl Protocol {
    /// [Revision 1](Revision::One), no hello, [default limits](Limits::DEFAULT): what today's hosts speak.
    pub const ONE: Self = Self { revision: Revision::One, limits: Limits::DEFAULT, hello: Vec::new() };

    /// [Revision 2](Revision::Two), no hello, [default limits](Limits::DEFAULT): what GenVM's current release line speaks.
    pub const TWO: Self = Self { revision: Revision::Two, limits: Limits::DEFAULT, hello: Vec::new() };

    /// The same with other limits. They are each end's own; the two need not agree.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The same after hello bytes: the client writes them before its first request, the host reads exactly them and refuses any
    /// others. None by default; their number is not on the wire. Where the host's address serves shared memory as well, the first
    /// of them must not be `F5`: clients that ask for shared memory begin with it.
    #[must_use]
    pub fn with_hello(mut self, hello: impl Into<Vec<u8>>) -> Self {
        self.hello = hello.into();
        self
    }

    /// Which methods there are.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How much is believed and sent.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What comes before the first request.
    pub fn hello(&self) -> &[u8] {
        &self.hello
    }
}

impl Default for Protocol {
    /// [`ONE`](Self::ONE).
    fn default() -> Self {
        Self::ONE
    }
}
