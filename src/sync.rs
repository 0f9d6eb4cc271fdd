//! The switch between std's atomics and loom's, so that the model checker runs the real ring, and the full fence of the doorbell.
//!
//! The configuration name is private (`genvm_loom`): a plain `--cfg loom` also reaches tokio and removes its `net`.
#![allow(unsafe_code, reason = "one instruction that std has no name for")]

#[cfg(not(genvm_loom))]
pub(crate) use std::sync::atomic;

#[cfg(genvm_loom)]
pub(crate) use loom::sync::atomic;

/// `fence(SeqCst)`: every store before it is visible to others before any load after it is made.
///
/// On x86-64 compilers emit `mfence` for it, which waits for more than the stores: 21 ns against 2.7 ns for a locked
/// instruction (Zen 3, a store to a cached line in front of either), and a ring pays for one fence a publication.
#[inline]
pub(crate) fn full_fence() {
    #[cfg(all(target_arch = "x86_64", not(genvm_loom), not(miri)))]
    // SAFETY: adds nothing to the word at the top of the stack, which this thread owns. A locked instruction orders earlier
    // stores before later loads (Intel SDM 3A 8.2.3.9, AMD APM 2 7.4.2), and the compiler moves no access to memory across an
    // `asm!` that may touch memory.
    unsafe {
        core::arch::asm!("lock or dword ptr [rsp], 0", options(nostack));
    }
    #[cfg(genvm_loom)]
    if model::WITHOUT_FENCE.with(std::cell::Cell::get) {
        return;
    }
    #[cfg(not(all(target_arch = "x86_64", not(genvm_loom), not(miri))))]
    atomic::fence(atomic::Ordering::SeqCst);
}

/// How the model checker's tests see that the fence is needed.
#[cfg(genvm_loom)]
pub(crate) mod model {
    use std::cell::Cell;

    loom::thread_local! {
        /// Whether this thread of the model goes without its full fences.
        pub(crate) static WITHOUT_FENCE: Cell<bool> = Cell::new(false);
    }
}
