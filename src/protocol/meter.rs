//! [`Meter`]: counts a client's calls as they are made; only with the feature `metrics`.
//!
//! Two looks at a clock a call, and a step in a histogram which waits until the next request is on its way, when there is nothing else
//! to do; memory is constant once each method was called. It keeps numbers and makes nothing of them: that is
//! [`metrics`](crate::metrics)' job.
#![allow(unsafe_code, reason = "the processor's counter is read by an instruction")]

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::method::Method;
use super::types::Status;

/// What one client has done so far.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    began: Instant,
    began_ticks: u64,
    /// Within calls.
    waiting_ticks: u64,
    /// The last call, until it is entered below.
    last: Option<Call>,
    methods: [Option<Box<MethodMeter>>; METHODS],
}

/// A call with an answer of its own, from one of the [`ticks`] to another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) begun: u64,
    pub(crate) over: u64,
    pub(crate) sent: usize,
    pub(crate) received: u64,
    pub(crate) ended: Ended,
}

/// What became of the calls of one method.
#[derive(Debug, Clone)]
pub(crate) struct MethodMeter {
    pub(crate) calls: u64,
    /// Calls whose answer was this status, by its place in the enum.
    pub(crate) statuses: [u64; STATUSES],
    /// Calls that lost the connection.
    pub(crate) lost: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// In ticks, two significant digits. Calls of a batch are not in it: they have no time of their own.
    pub(crate) latency: Histogram<u64>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ended {
    With(Status),
    Lost,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            began_ticks: ticks(),
            waiting_ticks: 0,
            last: None,
            methods: [const { None }; METHODS],
        }
    }

    /// A call has ended. The one before it was settled when this one was sent.
    #[inline]
    pub(crate) fn call(&mut self, call: Call) {
        self.last = Some(call);
    }

    /// Enters the last call, if there is one that was not, and makes room for a call of `next`: for the moment when the host has
    /// something to do and we have not.
    pub(crate) fn settle(&mut self, next: Method) {
        self.enter();
        self.methods[next as usize].get_or_insert_with(MethodMeter::new);
    }

    fn enter(&mut self) {
        if let Some(Call { method, begun, over, sent, received, ended }) = self.last.take() {
            let took = over.saturating_sub(begun);
            self.waiting_ticks += took;
            let meter = self.count(method, sent, received, ended);
            // What is beyond the histogram's range, an hour or so, counts as the end of it.
            meter.latency.saturating_record(took.max(1));
        }
    }

    /// Everything so far, the last call included.
    pub(crate) fn settled(&self) -> Self {
        let mut meter = self.clone();
        meter.enter();
        meter
    }

    /// A call of a batch.
    pub(crate) fn batched(&mut self, method: Method, sent: usize, received: u64, ended: Ended) {
        self.count(method, sent, received, ended);
    }

    /// A batch that began at `begun` [`ticks`] has ended.
    pub(crate) fn batch(&mut self, begun: u64) {
        self.waiting_ticks += ticks().saturating_sub(begun);
    }

    #[inline]
    fn count(&mut self, method: Method, sent: usize, received: u64, ended: Ended) -> &mut MethodMeter {
        let meter = self.methods[method as usize].get_or_insert_with(MethodMeter::new);
        meter.calls += 1;
        meter.sent += sent as u64;
        meter.received += received;
        match ended {
            Ended::With(status) => meter.statuses[status as usize] += 1,
            Ended::Lost => meter.lost += 1,
        }
        meter
    }

    /// Time since it was made, and how many nanoseconds a tick has had since then.
    pub(crate) fn elapsed(&self) -> (Duration, f64) {
        let (elapsed, ticks) = (self.began.elapsed(), ticks().saturating_sub(self.began_ticks));
        (elapsed, elapsed.as_nanos() as f64 / ticks.max(1) as f64)
    }

    pub(crate) fn waiting_ticks(&self) -> u64 {
        self.waiting_ticks
    }

    pub(crate) fn method(&self, method: Method) -> Option<&MethodMeter> {
        self.methods[method as usize].as_deref()
    }
}

impl MethodMeter {
    #[cold]
    fn new() -> Box<Self> {
        let latency = Histogram::new_with_bounds(1, 1 << 44, 2).expect("two digits of so many ticks are allowed");
        Box::new(Self { calls: 0, statuses: [0; STATUSES], lost: 0, sent: 0, received: 0, latency })
    }
}

/// A clock that is cheaper than the system's: the processor's own counter, where there is one. Its unit is found out by comparing
/// both over the life of a meter.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it touches no memory.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        static SINCE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        SINCE.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }
}

const METHODS: usize = Method::RunNested as usize + 1;
const STATUSES: usize = Status::EvmReverted as usize + 1;
