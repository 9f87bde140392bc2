//! loom's atomics under the names of `crate::primitive`, of which a mortal thread may do only so many operations.

use std::cell::Cell;

pub use loom::sync::atomic::Ordering;
pub use loom::thread::yield_now;

/// One look before sleeping: more would only repeat states.
pub fn spin(mut ready: impl FnMut() -> bool) -> bool {
    ready()
}

const IMMORTAL: usize = usize::MAX;

loom::thread_local! {
    static STEPS_LEFT: Cell<usize> = Cell::new(IMMORTAL);
}

/// The thread is dead: unwinds to [`live`].
struct Died;

/// Runs `f`, which dies before its step number `steps`; true if it lived to its end.
pub fn live(steps: usize, f: impl FnOnce()) -> bool {
    STEPS_LEFT.with(|left| left.set(steps));
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    STEPS_LEFT.with(|left| left.set(IMMORTAL));
    match end {
        Ok(()) => true,
        Err(payload) if payload.is::<Died>() => false,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

/// What a thread may not live to do: called before every atomic operation and every system call.
pub fn step() {
    STEPS_LEFT.with(|left| match left.get() {
        IMMORTAL => {}
        0 => die(),
        more => left.set(more - 1),
    })
}

/// Ends this thread at once.
pub fn die() -> ! {
    std::panic::resume_unwind(Box::new(Died))
}

/// Whether the next step is the one that this thread does not live to do.
pub fn dies_next() -> bool {
    STEPS_LEFT.with(|left| left.get() == 0)
}

pub fn full_fence() {
    loom::sync::atomic::fence(Ordering::SeqCst);
}

pub fn processor() -> u32 {
    0
}

macro_rules! atomic {
    ($name:ident, $number:ty) => {
        #[derive(Debug, Default)]
        pub struct $name(loom::sync::atomic::$name);

        impl $name {
            pub fn new(value: $number) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            /// As the kernel, or an onlooker, does it: not a step of the thread.
            pub fn by_kernel(&self) -> &loom::sync::atomic::$name {
                &self.0
            }

            pub fn store(&self, value: $number, order: Ordering) {
                step();
                self.0.store(value, order)
            }

            pub fn compare_exchange(
                &self,
                old: $number,
                new: $number,
                ok: Ordering,
                no: Ordering,
            ) -> Result<$number, $number> {
                step();
                self.0.compare_exchange(old, new, ok, no)
            }

            pub fn compare_exchange_weak(
                &self,
                old: $number,
                new: $number,
                ok: Ordering,
                no: Ordering,
            ) -> Result<$number, $number> {
                self.compare_exchange(old, new, ok, no)
            }

            pub fn fetch_update(
                &self,
                ok: Ordering,
                no: Ordering,
                mut f: impl FnMut($number) -> Option<$number>,
            ) -> Result<$number, $number> {
                let mut old = self.load(no);
                while let Some(new) = f(old) {
                    match self.compare_exchange(old, new, ok, no) {
                        Ok(old) => return Ok(old),
                        Err(now) => old = now,
                    }
                }
                Err(old)
            }

            atomic!(steps $number: load() swap(value) fetch_add(value) fetch_sub(value) fetch_and(value)
                fetch_or(value) fetch_xor(value) fetch_max(value) fetch_min(value));
        }
    };
    (steps $number:ty: $($operation:ident($($value:ident)?))*) => {$(
        pub fn $operation(&self, $($value: $number,)? order: Ordering) -> $number {
            step();
            self.0.$operation($($value,)? order)
        }
    )*};
}
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
