//! The switch between std's atomics and loom's, so that the model checker runs the real ring.
//!
//! The configuration name is private (`genvm_loom`): a plain `--cfg loom` also reaches tokio and removes its `net`.

#[cfg(not(genvm_loom))]
pub(crate) use std::sync::atomic;

#[cfg(genvm_loom)]
pub(crate) use loom::sync::atomic;
