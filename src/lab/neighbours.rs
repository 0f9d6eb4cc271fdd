//! Threads that compute while something is measured, as other executions on the same machine would: they want a core at any time and
//! never wait. Where they run is for the scheduler to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};

/// They compute until this is dropped.
pub(super) struct Neighbours {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Neighbours {
    /// So many of them.
    pub(super) fn start(count: u32) -> Result<Self> {
        let mut neighbours = Self { over: Arc::default(), threads: Vec::new() };
        for _ in 0..count {
            let over = neighbours.over.clone();
            let compute = move || {
                let mut number = 1_u64;
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..1000 {
                        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                    }
                }
            };
            neighbours.threads.push(std::thread::Builder::new().spawn(compute).context("cannot start a thread")?);
        }
        Ok(neighbours)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
