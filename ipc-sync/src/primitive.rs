//! The seam between the algorithms and the machine: atomics, barriers, and the processor one runs on.
//!
//! The files that import their atomics from here are compiled a second time by the models in `tests/`, with
//! loom's atomics under the same names.
#![allow(unsafe_code)]

pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Looks with a pause between, then with a yield between, before sleeping. On two processors a short section ends within
/// a few pauses; on one the owner was preempted, and a yield lets it go on.
const PAUSES: u32 = 40;
const YIELDS: u32 = 20;

/// A few more looks before sleeping: true = ready. Bounded: whom one waits for may be dead.
#[inline(always)]
pub(crate) fn spin(mut ready: impl FnMut() -> bool) -> bool {
    (0..PAUSES + YIELDS).any(|round| {
        if round < PAUSES {
            spin_loop()
        } else {
            yield_now()
        }
        ready()
    })
}

/// A full barrier: what was stored before is seen before what is loaded after.
///
/// `fence(SeqCst)` becomes `mfence` on x86, twice as slow as a locked no-op that orders the same.
#[inline(always)]
pub fn full_fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: adds nothing to a dword in the red zone below the stack pointer; `options` says that the stack is
    // not moved, and flags and memory stay declared as clobbered.
    unsafe {
        std::arch::asm!("lock or dword ptr [rsp - 64], 0", options(nostack));
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::sync::atomic::fence(Ordering::SeqCst);
}

/// The processor this thread runs on, cut to 8 bits: a hint that may be stale on return.
#[inline(always)]
pub fn processor() -> u32 {
    // SAFETY: takes nothing and touches nothing of ours.
    (unsafe { libc::sched_getcpu() }) as u32 & 0xff
}

/// Lets another thread of this processor run.
pub(crate) fn yield_now() {
    std::thread::yield_now();
}
