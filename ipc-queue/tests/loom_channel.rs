//! Interleavings of the ring's algorithm, with a death before each of its steps.
//!
//! `channel.rs` itself and the bells are compiled here a second time, over the atomics and the kernel of `world`. The
//! producers' lock is a model of one: the real one has its own model in `ipc-sync`.

#[path = "../../ipc-sync/src/bell.rs"]
#[allow(dead_code, unreachable_pub, missing_docs)]
mod bell;
#[path = "../src/channel.rs"]
#[allow(dead_code, unreachable_pub)]
mod channel;
#[path = "../src/state.rs"]
#[allow(dead_code, unreachable_pub)]
mod state;
#[path = "../../tests/support/loom/mod.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use channel::{Channel, Put, Taken, Words};
use primitive::{Bytes, ENTRIES, Me, View};
use world::{Deadline, Mortal, each_death, explore, futex};

/// What the ring finds in its crate, and models of what it rests on.
mod primitive {
    use std::cell::Cell;
    use std::ops::Deref;
    use std::sync::Arc;

    pub(crate) use super::bell::{Bell, RoomBell};
    pub(crate) use super::world::primitive::*;
    pub(crate) use super::world::{Deadline, futex::Woken};
    pub(crate) use ipc_pipe::{Flags, HEADER, Header, MAX_PAYLOAD, span};
    pub(crate) use ipc_sync::{Acquired, RawLockError};
    use loom::sync::{Condvar, Mutex};

    pub(crate) const ENTRIES: usize = 2;

    pub(crate) fn complete_barrier() {
        full_fence();
    }

    std::thread_local! {
        /// loom's threads are coroutines of the test's one thread.
        pub(crate) static MUTANT: Cell<u8> = const { Cell::new(0) };
    }

    pub(crate) fn mutant() -> u8 {
        MUTANT.get()
    }

    /// Words that threads share.
    #[derive(Debug)]
    pub(crate) struct View<T>(pub(crate) Arc<T>);

    impl<T> Deref for View<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    /// A ring of eight words.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct Bytes(Arc<[AtomicU64; 8]>);

    impl Bytes {
        pub(crate) fn capacity(&self) -> u64 {
            64
        }

        pub(crate) fn header(&self, position: u64) -> &AtomicU64 {
            &self.0[position as usize / 8 % 8]
        }

        pub(crate) fn prefetch_write(&self, _: u64) {}

        pub(crate) fn write(&self, position: u64, payload: &[u8]) {
            for (i, word) in payload.chunks(8).enumerate() {
                let word = u64::from_ne_bytes(word.try_into().expect("the models put whole words"));
                self.header(position + 8 * i as u64).store(word, Ordering::Relaxed);
            }
        }

        pub(crate) fn read(&self, position: u64, length: usize, buffer: &mut Vec<u8>) {
            for i in 0..length / 8 {
                let word = self.header(position + 8 * i as u64).load(Ordering::Relaxed);
                buffer.extend_from_slice(&word.to_ne_bytes());
            }
        }
    }

    /// A thread with a number; `named` is what the kernel looks at when it dies.
    #[derive(Debug)]
    pub(crate) struct Me {
        pub(crate) token: u32,
        named: Cell<*const AtomicU32>,
    }

    impl Me {
        pub(crate) fn new(token: u32) -> Me {
            Me { token, named: Cell::new(std::ptr::null()) }
        }

        pub(crate) fn name(&self, bell: &AtomicU32) {
            step();
            self.named.set(bell);
        }

        pub(crate) fn arm(&self) {
            step();
            self.named.set(std::ptr::null());
        }

        pub(crate) fn registry(&self) -> Registry {
            Registry
        }

        /// What the kernel does when this thread has died: the lock passes on, and a bell that was named is rung.
        pub(crate) fn bury(&self, lock: &RawLock) {
            lock.owner_died(self.token);
            if !self.named.get().is_null() {
                super::futex::kernel_wake(self.named.get());
            }
        }
    }

    /// Nobody in the ledger dies here.
    pub(crate) struct Registry;

    impl Registry {
        pub(crate) fn is_dead(&self, _: u32) -> bool {
            false
        }

        pub(crate) fn has_ended(&self, _: u32) -> bool {
            false
        }
    }

    /// A lock that knows its owner.
    #[derive(Debug, Default)]
    pub(crate) struct RawLock {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Debug, Default)]
    struct State {
        owner: u32,
        dead: bool,
    }

    impl RawLock {
        pub(crate) fn lock(&self, me: &Me, _: Deadline) -> Result<Acquired, RawLockError> {
            step();
            let mut state = self.state.lock().unwrap();
            while state.owner != 0 && !state.dead {
                state = self.changed.wait(state).unwrap();
            }
            let acquired = if state.dead { Acquired::OwnerDied } else { Acquired::Free };
            *state = State { owner: me.token, dead: false };
            drop(state);
            Ok(acquired)
        }

        pub(crate) fn unlock(&self) {
            step();
            self.state.lock().unwrap().owner = 0;
            self.changed.notify_all();
        }

        fn owner_died(&self, token: u32) {
            let mut state = self.state.lock().unwrap();
            if state.owner == token {
                state.dead = true;
                self.changed.notify_all();
            }
        }
    }
}

/// One ring and the threads' views of it.
#[derive(Clone)]
struct Scene {
    words: Arc<Words>,
    ledger: Arc<[channel::Entry; ENTRIES]>,
    ring: Bytes,
    bound: u32,
}

impl Scene {
    fn new(bound: u32) -> Scene {
        Scene { words: Arc::default(), ledger: Arc::default(), ring: Bytes::default(), bound }
    }

    fn channel(&self) -> Channel {
        Channel::new(View(self.words.clone()), View(self.ledger.clone()), self.ring.clone(), self.bound)
    }

    fn try_put(&self, me: &Me, item: u64) -> Put {
        self.channel().put(me, &item.to_ne_bytes(), Deadline::NEVER).unwrap()
    }

    fn put(&self, me: &Me, item: u64) {
        loop {
            match self.try_put(me, item) {
                Put::Done => return,
                Put::Full(head) => _ = self.channel().sleep_for_room(head + 1, || false, Deadline::NEVER),
                Put::NoRoom(room) => {
                    _ = self.channel().sleep_for_room(room.enough, || false, Deadline::NEVER)
                }
            }
        }
    }

    fn try_get(&self, me: &Me) -> Option<u64> {
        let mut bytes = Vec::new();
        if self.channel().take(me, &mut bytes).unwrap() == Taken::Empty {
            return None;
        }
        Some(u64::from_ne_bytes(bytes.try_into().expect("an item is one word")))
    }

    fn get(&self, me: &Me) -> u64 {
        loop {
            if let Some(item) = self.try_get(me) {
                self.channel().pass_on(me);
                return item;
            }
            self.channel().sleep_for_item(|| false, Deadline::NEVER);
            self.channel().name_wake(me);
        }
    }

    /// Puts 1 as a thread that dies before its step number `steps`; true if it lived to its end.
    fn dies(&self, me: Me, mortal: &Mortal) -> bool {
        let finished = mortal.live(|| self.put(&me, 1));
        me.bury(&self.words.producers.lock);
        finished
    }
}

/// So many switches away from a thread that could go on.
const SWITCHES: usize = 3;

fn model(bound: u32, f: impl Fn(Scene) + Sync + Send + 'static) {
    model_with(SWITCHES, bound, f);
}

fn model_with(switches: usize, bound: u32, f: impl Fn(Scene) + Sync + Send + 'static) {
    explore(switches, move || f(Scene::new(bound)));
}

fn spawn<R: 'static>(
    scene: &Scene,
    token: u32,
    f: impl FnOnce(&Scene, &Me) -> R + 'static,
) -> loom::thread::JoinHandle<R> {
    let scene = scene.clone();
    loom::thread::spawn(move || f(&scene, &Me::new(token)))
}

fn items_of_two_producers() {
    model(0, |scene| {
        let producers =
            [1, 2].map(|token| spawn(&scene, token, move |scene, me| scene.put(me, token.into())));
        let me = Me::new(3);
        let mut items = [scene.get(&me), scene.get(&me)];
        items.sort();
        assert_eq!(items, [1, 2]);
        assert_eq!(scene.try_get(&me), None);
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

fn items_for_two_consumers() {
    model(0, |scene| {
        let consumers = [1, 2].map(|token| spawn(&scene, token, |scene, me| scene.get(me)));
        let me = Me::new(3);
        (1..=2).for_each(|item| scene.put(&me, item));
        let mut items = consumers.map(|consumer| consumer.join().unwrap());
        items.sort();
        assert_eq!(items, [1, 2]);
    });
}

fn items_round_the_ring() {
    model(0, |scene| {
        let producer = spawn(&scene, 1, |scene, me| (0..5).for_each(|item| scene.put(me, item)));
        let me = Me::new(2);
        (0..5).for_each(|item| assert_eq!(scene.get(&me), item));
        producer.join().unwrap();
    });
}

#[test]
fn items_of_two_producers_arrive_whole_and_wake_who_sleeps() {
    items_of_two_producers();
}

#[test]
fn each_item_goes_to_one_of_two_consumers() {
    items_for_two_consumers();
}

#[test]
fn order_is_kept_round_the_ring() {
    items_round_the_ring();
}

#[test]
fn bound_is_never_exceeded() {
    model(1, |scene| {
        let put_one = |scene: &Scene, me: &Me| scene.try_put(me, 7) == Put::Done;
        let producers = [1, 2].map(|token| spawn(&scene, token, put_one));
        let me = Me::new(3);
        let taken = u32::from(scene.try_get(&me).is_some());
        let done: u32 = producers.into_iter().map(|producer| u32::from(producer.join().unwrap())).sum();
        assert!((1..=1 + taken).contains(&done), "{done} items put, {taken} taken, bound 1");
    });
}

#[test]
fn producer_that_sleeps_for_room_is_woken() {
    model(1, |scene| {
        let producer = spawn(&scene, 1, |scene, me| (1..=3).for_each(|item| scene.put(me, item)));
        let me = Me::new(2);
        (1..=3).for_each(|item| assert_eq!(scene.get(&me), item));
        producer.join().unwrap();
    });
}

/// Puts 1 in a thread that dies before each of its steps; then runs `after`, which is told whether it lived.
fn for_each_death(bound: u32, after: fn(&Scene, bool)) {
    each_death(SWITCHES, move |mortal| {
        let scene = Scene::new(bound);
        let finished = scene.dies(Me::new(1), mortal);
        after(&scene, finished);
    });
}

fn put_again() {
    for_each_death(0, |scene, finished| {
        let me = Me::new(2);
        scene.put(&me, 2);
        let first = scene.get(&me);
        assert!(first == 1 || (first == 2 && !finished));
        if first == 1 {
            assert_eq!(scene.get(&me), 2);
        }
        assert_eq!(scene.try_get(&me), None);
    });
}

fn take_then_put() {
    for_each_death(0, |scene, finished| {
        let me = Me::new(2);
        let taken = scene.try_get(&me);
        assert!(taken == Some(1) || (taken.is_none() && !finished));
        (2..6).for_each(|item| {
            scene.put(&me, item);
            assert_eq!(scene.try_get(&me), Some(item));
        });
    });
}

fn fill() {
    for_each_death(2, |scene, finished| {
        let me = Me::new(2);
        let there = scene.channel().len(&me).unwrap();
        assert!(there == 1 || (there == 0 && !finished));
        (there..2).for_each(|_| assert_eq!(scene.try_put(&me, 2), Put::Done));
        assert!(matches!(scene.try_put(&me, 2), Put::Full(_)));
        assert_eq!(scene.channel().len(&me).unwrap(), 2);
        let taken = std::iter::from_fn(|| scene.try_get(&me)).count();
        assert_eq!(taken, 2);
    });
}

#[test]
fn put_that_dies_is_whole_or_absent() {
    put_again();
}

#[test]
fn put_that_dies_is_recovered_even_if_its_item_was_taken_first() {
    take_then_put();
}

#[test]
fn put_that_dies_leaves_the_count_right() {
    fill();
}

/// The death may be at any step, also between the consumer's wake and its claim.
#[test]
fn put_that_dies_beside_a_sleeper_leaves_the_wake_to_the_next() {
    each_death(SWITCHES, |mortal| {
        let scene = Scene::new(0);
        let consumer = spawn(&scene, 3, |scene, me| scene.get(me));
        scene.dies(Me::new(1), mortal);
        scene.put(&Me::new(2), 2);
        assert!([1, 2].contains(&consumer.join().unwrap()));
    });
}

/// The kernel wakes one sleeper for a ringer that died; the others are left to the next who takes.
#[test]
fn get_that_dies_leaves_no_producer_asleep() {
    each_death(1, |mortal| {
        let scene = Scene::new(1);
        scene.put(&Me::new(1), 1);
        let producers = [2, 3].map(|token| spawn(&scene, token, |scene, me| scene.put(me, 2)));
        while futex::sleepers() < 2 {
            loom::thread::yield_now();
        }
        let victim = Me::new(4);
        let finished = mortal.live(|| _ = scene.try_get(&victim));
        victim.bury(&scene.words.producers.lock);
        let me = Me::new(5);
        let first = scene.get(&me);
        assert!(first == 2 || !finished);
        (first..3).for_each(|_| assert_eq!(scene.get(&me), 2));
        producers.into_iter().for_each(|producer| producer.join().unwrap());
    });
}

/// Whoever was woken may die before it does anything: the next put wakes another.
#[test]
fn consumer_that_dies_on_waking_takes_no_other_wake_along() {
    each_death(1, |mortal| {
        let scene = Scene::new(0);
        let (gone, mortal) = (Arc::new(AtomicBool::new(false)), mortal.clone());
        let seen = gone.clone();
        let victim = spawn(&scene, 1, move |scene, me| {
            mortal.live(|| _ = scene.get(me));
            me.bury(&scene.words.producers.lock);
            seen.store(true, SeqCst);
        });
        let survivor = spawn(&scene, 2, |scene, me| scene.get(me));
        while futex::sleepers() < 2 && !gone.load(SeqCst) {
            loom::thread::yield_now();
        }
        let me = Me::new(3);
        (1..=2).for_each(|item| scene.put(&me, item));
        victim.join().unwrap();
        assert!([1, 2].contains(&survivor.join().unwrap()));
    });
}

/// A fault put in on purpose must fail in one of these.
fn is_caught(mutant: u8, by: fn()) {
    primitive::MUTANT.set(mutant);
    let quiet = std::panic::catch_unwind(by).is_err();
    primitive::MUTANT.set(0);
    assert!(quiet, "mutant {mutant} was not noticed");
}

#[test]
fn mutants_are_caught() {
    is_caught(1, items_round_the_ring); // the header behind a frame is not zeroed
    is_caught(2, take_then_put); // nothing is recovered from a dead producer
    is_caught(3, fill); // `tail` is stored before `next`
    is_caught(5, items_of_two_producers); // the header is published before the payload
    is_caught(6, items_for_two_consumers); // a consumer stores `head` without comparing
}
