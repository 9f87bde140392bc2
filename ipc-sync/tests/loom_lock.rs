//! Every interleaving of the lock word's algorithm, with a death after each of its atomic steps.
//!
//! `raw_lock.rs` itself is compiled here a second time, over loom's atomics. The kernel is modelled: a futex is a
//! queue under a mutex, without timeouts, so that a wake that only the backstop would repair is a deadlock here;
//! a death is an unwinding before the atomic step that the thread did not live to do, followed by the kernel's mark.

#[path = "../src/raw_lock.rs"]
#[allow(dead_code, unreachable_pub)]
mod raw_lock;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use raw_lock::{Acquired, RawLock};
use registry::{Me, Registry};

const BACKSTOP: std::time::Duration = std::time::Duration::ZERO;

/// Time stands still: nobody times out, but who may not wait does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(u32);

impl Deadline {
    pub(crate) const NOW: Deadline = Deadline(0);
    pub(crate) const NEVER: Deadline = Deadline(2);

    fn after(_: std::time::Duration) -> Deadline {
        Deadline(1)
    }

    fn has_passed(self) -> bool {
        self == Deadline::NOW
    }
}

/// loom's atomics, of which a mortal thread may do only so many operations.
mod primitive {
    use std::cell::Cell;

    pub(crate) use loom::sync::atomic::Ordering;

    /// One look before sleeping: more would only repeat states.
    pub(crate) const PAUSES: u32 = 1;
    pub(crate) const YIELDS: u32 = 0;

    loom::thread_local! {
        static STEPS_LEFT: Cell<usize> = Cell::new(usize::MAX);
    }

    /// The thread is dead: unwinds to [`live`].
    pub(crate) struct Died;

    /// Runs `f`, which dies before its atomic step number `steps`; true if it lived to its end.
    pub(crate) fn live(steps: usize, f: impl FnOnce()) -> bool {
        STEPS_LEFT.with(|left| left.set(steps));
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        STEPS_LEFT.with(|left| left.set(usize::MAX));
        match end {
            Ok(()) => true,
            Err(payload) if payload.is::<Died>() => false,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    pub(crate) fn step() {
        STEPS_LEFT.with(|left| match left.get() {
            usize::MAX => {}
            0 => std::panic::resume_unwind(Box::new(Died)),
            more => left.set(more - 1),
        })
    }

    pub(crate) fn spin_loop() {}

    pub(crate) fn yield_now() {
        loom::thread::yield_now();
    }

    #[derive(Debug, Default)]
    pub(crate) struct AtomicU32(loom::sync::atomic::AtomicU32);

    impl AtomicU32 {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            step();
            self.0.load(order)
        }

        pub(crate) fn swap(&self, value: u32, order: Ordering) -> u32 {
            step();
            self.0.swap(value, order)
        }

        pub(crate) fn compare_exchange(
            &self,
            old: u32,
            new: u32,
            ok: Ordering,
            no: Ordering,
        ) -> Result<u32, u32> {
            step();
            self.0.compare_exchange(old, new, ok, no)
        }

        /// As the kernel does it: not a step of the thread.
        pub(crate) fn by_kernel(&self) -> &loom::sync::atomic::AtomicU32 {
            &self.0
        }
    }
}

/// Futexes without timeouts: a queue of sleepers, of whom a wake takes the first out that sleeps on its word.
mod futex {
    use super::primitive::{AtomicU32, step};
    use loom::sync::{Condvar, Mutex};
    use std::sync::atomic::Ordering::SeqCst;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Woken {
        Look,
        TimedOut,
    }

    #[derive(Default)]
    struct Queue {
        next: usize,
        sleepers: Vec<(usize, [*const AtomicU32; 2])>,
    }

    #[allow(unsafe_code)]
    // SAFETY: the pointers are compared and never followed.
    unsafe impl Send for Queue {}

    loom::lazy_static! {
        static ref QUEUE: Mutex<Queue> = Mutex::new(Queue::default());
        static ref WOKEN: Condvar = Condvar::new();
    }

    pub(crate) fn wake(word: &AtomicU32, _: i32) {
        step();
        kernel_wake(word);
    }

    pub(crate) fn kernel_wake(word: &AtomicU32) {
        let sleepers = &mut QUEUE.lock().unwrap().sleepers;
        if let Some(first) = sleepers.iter().position(|(_, words)| words.contains(&(word as *const _))) {
            sleepers.remove(first);
            WOKEN.notify_all();
        }
    }

    pub(crate) fn wait_two(first: (&AtomicU32, u32), second: (&AtomicU32, u32)) -> Woken {
        let mut queue = QUEUE.lock().unwrap();
        let unchanged = |(word, expected): (&AtomicU32, u32)| word.by_kernel().load(SeqCst) == expected;
        if unchanged(first) && unchanged(second) {
            let ticket = queue.next;
            queue.next += 1;
            queue.sleepers.push((ticket, [first.0, second.0]));
            while queue.sleepers.iter().any(|&(other, _)| other == ticket) {
                queue = WOKEN.wait(queue).unwrap();
            }
        }
        Woken::Look
    }
}

/// Three slots whose owners the test names.
mod registry {
    use super::Deadline;
    use super::futex::{self, Woken};
    use super::primitive::{AtomicU32, Ordering::*};

    pub(crate) const TOKEN: u32 = (1 << 30) - 1;
    const OWNED: u32 = 1 << 29;
    const DIED: u32 = 1 << 30;
    const WAITERS: u32 = 1 << 31;

    #[derive(Default)]
    pub(crate) struct Registry {
        live: [AtomicU32; 3],
    }

    pub(crate) enum Owner<'a> {
        Alive {
            live: &'a AtomicU32,
            seen: u32,
        },
        Dead,
        #[allow(dead_code)]
        Unmarked,
        #[allow(dead_code)]
        Unclear,
    }

    impl Registry {
        fn live(&self, token: u32) -> &AtomicU32 {
            &self.live[(token & 3) as usize]
        }

        pub(crate) fn look(&self, token: u32) -> Owner<'_> {
            let live = self.live(token);
            let seen = live.load(SeqCst);
            if seen & DIED != 0 { Owner::Dead } else { Owner::Alive { live, seen } }
        }

        pub(crate) fn ask(&self, _: u32) -> bool {
            unreachable!("nobody oversleeps here")
        }

        pub(crate) fn count_rescue(&self) {
            unreachable!("nobody oversleeps here")
        }

        pub(crate) fn sleep(&self, word: (&AtomicU32, u32), token: u32, _: Deadline) -> Woken {
            let Owner::Alive { live, seen } = self.look(token) else { return Woken::Look };
            let watched = seen | WAITERS;
            if seen != watched && live.compare_exchange(seen, watched, SeqCst, Relaxed).is_err() {
                return Woken::Look;
            }
            let woken = futex::wait_two(word, (live, watched));
            if live.by_kernel().load(SeqCst) & DIED != 0 {
                (0..3).for_each(|_| futex::kernel_wake(live)); // the kernel woke only us
            }
            woken
        }

        /// What the kernel does when a thread has ended.
        pub(crate) fn bury(&self, me: &Me) {
            let live = self.live(me.token()).by_kernel();
            if live.fetch_or(DIED, SeqCst) & WAITERS != 0 {
                futex::kernel_wake(self.live(me.token()));
            }
        }
    }

    pub(crate) struct Me {
        slot: u32,
        registry: *const Registry,
    }

    impl Me {
        pub(crate) fn new(slot: u32, registry: &Registry) -> Me {
            Me { slot, registry }
        }

        pub(crate) fn token(&self) -> u32 {
            OWNED | self.slot
        }

        pub(crate) fn arm(&self) {}

        pub(crate) fn registry(&self) -> &Registry {
            #[allow(unsafe_code)]
            // SAFETY: every test keeps its registry in an Arc beside each `Me`.
            unsafe {
                &*self.registry
            }
        }
    }
}

#[derive(Default)]
struct Scene {
    lock: RawLock,
    registry: Registry,
    inside: Inside,
}

/// What the lock guards: loom sees two threads inside at once.
struct Inside(UnsafeCell<u32>);

impl Default for Inside {
    fn default() -> Self {
        Inside(UnsafeCell::new(0))
    }
}

#[allow(unsafe_code)]
// SAFETY: loom checks each access, that is the test.
unsafe impl Sync for Inside {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl Send for Inside {}

impl Scene {
    /// Takes the lock, goes inside, gives it back; how the lock was come by.
    fn turn(&self, me: &Me) -> Acquired {
        let acquired = self.lock.lock(me, Deadline::NEVER).unwrap();
        self.inside.0.with_mut(|_| ());
        self.lock.unlock();
        acquired
    }
}

/// So many switches away from a thread that could go on; the third thread makes three too many to wait for.
const SWITCHES: usize = 3;

fn model(switches: usize, f: impl Fn(Arc<Scene>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(move || f(Arc::new(Scene::default())));
}

#[test]
fn two_threads_are_never_inside_together_and_none_sleeps_for_ever() {
    model(SWITCHES, |scene| {
        let other = scene.clone();
        let thread = loom::thread::spawn(move || other.turn(&Me::new(1, &other.registry)));
        assert_eq!(scene.turn(&Me::new(0, &scene.registry)), Acquired::Free);
        assert_eq!(thread.join().unwrap(), Acquired::Free);
    });
}

/// Whoever was woken wakes the next: one wake per unlock serves them all.
#[test]
fn three_threads_pass_every_wake_on() {
    model(SWITCHES - 1, |scene| {
        let threads = [1, 2].map(|slot| {
            let other = scene.clone();
            loom::thread::spawn(move || other.turn(&Me::new(slot, &other.registry)))
        });
        let _ = scene.turn(&Me::new(0, &scene.registry));
        threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Acquired::Free));
    });
}

/// One dies before its k-th atomic step; the other gets the lock all the same.
#[test]
fn a_death_before_any_step_wedges_nobody() {
    for steps in 0.. {
        let lived = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = lived.clone();
        model(SWITCHES, move |scene| {
            let (victim, seen) = (scene.clone(), seen.clone());
            let thread = loom::thread::spawn(move || {
                let me = Me::new(1, &victim.registry);
                let to_the_end = primitive::live(steps, || _ = victim.turn(&me));
                seen.fetch_or(to_the_end, std::sync::atomic::Ordering::SeqCst);
                victim.registry.bury(&me);
            });
            let _ = scene.turn(&Me::new(0, &scene.registry));
            thread.join().unwrap();
            let _ = scene.turn(&Me::new(2, &scene.registry));
        });
        if lived.load(std::sync::atomic::Ordering::SeqCst) && steps > 12 {
            break;
        }
    }
}
