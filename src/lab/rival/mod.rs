//! What transports are compared with that are none of this crate's: [`genvm`], the client that GenVM has today, and [`http`], the
//! REST interface that ADR-003 names as an alternative.
//!
//! Each appears to the workloads as one more stream: what the client writes is taken for the calls it stands for, so that every
//! workload, traces included, runs over it and every byte is checked as elsewhere. Nothing here reaches GenVM.

pub(super) mod genvm;
pub(super) mod http;
