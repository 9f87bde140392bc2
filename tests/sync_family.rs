//! One body for each primitive, played in three ways: by threads, by processes that were given the handle, and by
//! processes that were given a name.

use std::sync::OnceLock;
use std::thread;

use multiprocess::sync::{Condition, ReentrantLock};
use multiprocess::{Array, Barrier, Connection, Event, Lock, Process, RwLock, Semaphore, Value, pipe};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

multiprocess::testing!();

const PARTIES: u64 = 3;
const ROUNDS: u64 = 300;

/// One primitive and what several parties do with it. They count in a tally without any lock of its own: `get` and `set`
/// of an element are two steps, and counts get lost unless the primitive keeps the parties apart.
trait Subject: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    fn make() -> Self;
    fn named(name: &str) -> Self;
    /// What one party does.
    fn part(&self, tally: &Array<u64>, party: u64);
    /// What must hold when all are done.
    fn judge(&self, tally: &[u64]);
}

const TALLY: usize = 8;

fn count(tally: &Array<u64>, index: usize) {
    let seen = tally.get(index).unwrap();
    std::hint::spin_loop();
    tally.set(index, seen + 1).unwrap();
}

fn play<S: Subject>((subject, tally, party): (S, Array<u64>, u64)) {
    subject.part(&tally, party);
}

/// A process that knows nothing but a name.
fn play_named<S: Subject>((name, party): (String, u64)) {
    let tally = Array::named(&format!("{name}-tally"), TALLY).unwrap();
    S::named(&name).part(&tally, party);
}

fn by_threads<S: Subject>() {
    let _test = test();
    let (subject, tally) = (S::make(), Array::new(TALLY).unwrap());
    thread::scope(|scope| {
        let (subject, tally) = (&subject, &tally);
        (0..PARTIES).for_each(|party| drop(scope.spawn(move || subject.part(tally, party))));
    });
    subject.judge(&tally.to_vec());
}

fn by_processes<S: Subject>() {
    let _test = test();
    let (subject, tally) = (S::make(), Array::new(TALLY).unwrap());
    let spawn = |party| Process::spawn(play::<S>, (subject.clone(), tally.clone(), party)).unwrap();
    join((0..PARTIES).map(spawn).collect());
    subject.judge(&tally.to_vec());
}

fn by_name<S: Subject>() {
    let _test = test();
    let name = support::unique("family");
    let (subject, tally) = (S::named(&name), Array::named(&format!("{name}-tally"), TALLY).unwrap());
    let spawn = |party| Process::spawn(play_named::<S>, (name.clone(), party)).unwrap();
    join((0..PARTIES).map(spawn).collect());
    subject.judge(&tally.to_vec());
}

fn join(processes: Vec<Process<()>>) {
    processes.into_iter().for_each(|mut process| process.join().unwrap());
}

/// Arenas stay for the process, so there is one of every size before any leak oracle looks.
fn test() -> support::Test {
    static ARENAS: OnceLock<()> = OnceLock::new();
    ARENAS.get_or_init(|| std::mem::forget(All::new()));
    support::test(60)
}

macro_rules! three_ways {
    ($($name:ident: $subject:ty;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn by_threads() {
                super::by_threads::<$subject>();
            }

            #[test]
            fn by_processes() {
                super::by_processes::<$subject>();
            }

            #[test]
            fn by_name() {
                super::by_name::<$subject>();
            }
        }
    )*};
}

three_ways! {
    lock: Lock;
    reentrant_lock: ReentrantLock;
    semaphore: Semaphore;
    condition: (Condition, Lock);
    event: Event;
    rwlock: RwLock;
    barrier: Barrier;
    value: Value<[u64; 3]>;
    array: Array<i32>;
}

impl Subject for Lock {
    fn make() -> Self {
        Lock::new().unwrap()
    }

    fn named(name: &str) -> Self {
        Lock::named(name).unwrap()
    }

    fn part(&self, tally: &Array<u64>, _: u64) {
        for _ in 0..ROUNDS {
            let _guard = self.lock().unwrap();
            count(tally, 0);
        }
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!(tally[0], PARTIES * ROUNDS);
        assert!(!self.try_lock().unwrap().owner_died());
    }
}

impl Subject for ReentrantLock {
    fn make() -> Self {
        ReentrantLock::new().unwrap()
    }

    fn named(name: &str) -> Self {
        ReentrantLock::named(name).unwrap()
    }

    fn part(&self, tally: &Array<u64>, _: u64) {
        for _ in 0..ROUNDS {
            let _outer = self.lock().unwrap();
            drop(self.lock().unwrap());
            let _inner = self.try_lock().unwrap();
            count(tally, 0);
        }
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!(tally[0], PARTIES * ROUNDS);
        assert!(!self.try_lock().unwrap().owner_died());
    }
}

/// Two may be inside, and never three.
impl Subject for Semaphore {
    fn make() -> Self {
        Semaphore::bounded(2).unwrap()
    }

    fn named(name: &str) -> Self {
        Semaphore::named_bounded(name, 2).unwrap()
    }

    fn part(&self, tally: &Array<u64>, _: u64) {
        for _ in 0..ROUNDS {
            let _permit = self.acquire().unwrap();
            let inside = tally.fetch_add(0, 1).unwrap() + 1;
            tally.fetch_max(1, inside).unwrap();
            tally.fetch_add(2, 1).unwrap();
            tally.fetch_sub(0, 1).unwrap();
        }
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!((tally[0], tally[2]), (0, PARTIES * ROUNDS));
        assert!(tally[1] <= 2, "{} were inside", tally[1]);
        assert_eq!(self.value().unwrap(), 2);
        assert!(self.release().is_err(), "nobody has a permit");
    }
}

/// They take turns, and each wakes the others when its turn is over.
impl Subject for (Condition, Lock) {
    fn make() -> Self {
        (Condition::new().unwrap(), Lock::new().unwrap())
    }

    fn named(name: &str) -> Self {
        (Condition::named(name).unwrap(), Lock::named(&format!("{name}-lock")).unwrap())
    }

    fn part(&self, tally: &Array<u64>, party: u64) {
        let (condition, lock) = self;
        for _ in 0..ROUNDS {
            let mut guard = lock.lock().unwrap();
            while tally.get(0).unwrap() % PARTIES != party {
                guard = condition.wait(guard).unwrap();
            }
            count(tally, 0);
            condition.notify_all().unwrap();
        }
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!(tally[0], PARTIES * ROUNDS);
    }
}

/// A start gun: who comes last fires it.
impl Subject for Event {
    fn make() -> Self {
        Event::new().unwrap()
    }

    fn named(name: &str) -> Self {
        Event::named(name).unwrap()
    }

    fn part(&self, tally: &Array<u64>, _: u64) {
        if tally.fetch_add(0, 1).unwrap() == PARTIES - 1 {
            assert!(!self.is_set());
            self.set();
        }
        self.wait();
        assert_eq!(tally.get(0).unwrap(), PARTIES, "nobody starts before the gun");
        tally.fetch_add(1, 1).unwrap();
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!(tally[1], PARTIES);
        assert!(self.is_set());
    }
}

/// Writers count twice, and no reader sees one without the other.
impl Subject for RwLock {
    fn make() -> Self {
        RwLock::new().unwrap()
    }

    fn named(name: &str) -> Self {
        RwLock::named(name).unwrap()
    }

    fn part(&self, tally: &Array<u64>, _: u64) {
        for _ in 0..ROUNDS {
            let writer = self.write().unwrap();
            count(tally, 0);
            count(tally, 1);
            drop(writer);
            let _reader = self.read().unwrap();
            assert_eq!(tally.get(0).unwrap(), tally.get(1).unwrap());
        }
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!(tally[..2], [PARTIES * ROUNDS; 2]);
        assert!(!self.try_write().unwrap().owner_died());
    }
}

/// Nobody leaves a round before all came, and each round has one leader.
impl Subject for Barrier {
    fn make() -> Self {
        Barrier::new(PARTIES as usize).unwrap()
    }

    fn named(name: &str) -> Self {
        Barrier::named(name, PARTIES as usize).unwrap()
    }

    fn part(&self, tally: &Array<u64>, party: u64) {
        for round in 1..=ROUNDS {
            tally.set(party as usize, round).unwrap();
            if self.wait().unwrap().is_leader() {
                tally.fetch_add(7, 1).unwrap();
            }
            let here = |party: u64| tally.get(party as usize).unwrap();
            assert!((0..PARTIES).all(|party| (round..=round + 1).contains(&here(party))));
        }
    }

    fn judge(&self, tally: &[u64]) {
        assert_eq!(tally[7], ROUNDS);
    }
}

impl Subject for Value<[u64; 3]> {
    fn make() -> Self {
        Value::new([0; 3]).unwrap()
    }

    fn named(name: &str) -> Self {
        Value::named(name, [0; 3]).unwrap()
    }

    fn part(&self, _: &Array<u64>, party: u64) {
        for _ in 0..ROUNDS {
            self.update(|counts| counts[party as usize] += 1).unwrap();
            self.lock().unwrap()[0] += 1;
        }
    }

    fn judge(&self, _: &[u64]) {
        assert_eq!(self.get(), [ROUNDS + PARTIES * ROUNDS, ROUNDS, ROUNDS]);
    }
}

impl Subject for Array<i32> {
    fn make() -> Self {
        Array::new(4).unwrap()
    }

    fn named(name: &str) -> Self {
        Array::named(name, 4).unwrap()
    }

    fn part(&self, _: &Array<u64>, party: u64) {
        for _ in 0..ROUNDS {
            self.update(0, |element| *element += 1).unwrap();
            self.fetch_sub(1, 1).unwrap();
            let guard = self.lock().unwrap();
            let sum = guard.get(2).unwrap() + party as i32;
            guard.write(2, &[sum, -sum]).unwrap();
        }
    }

    fn judge(&self, _: &[u64]) {
        let all = (PARTIES * ROUNDS) as i32;
        let sum = (0..PARTIES * ROUNDS).map(|i| (i % PARTIES) as i32).sum::<i32>();
        assert_eq!(self.to_vec(), [all, -all, sum, -sum]);
    }
}

/// One of each, as a field of a message.
#[derive(Clone, Serialize, Deserialize)]
struct All {
    lock: Lock,
    reentrant_lock: ReentrantLock,
    semaphore: Semaphore,
    condition: Condition,
    event: Event,
    rwlock: RwLock,
    barrier: Barrier,
    value: Value<u64>,
    large: Value<[u64; 3]>,
    array: Array<u16>,
}

impl All {
    fn new() -> All {
        All {
            lock: Lock::new().unwrap(),
            reentrant_lock: ReentrantLock::new().unwrap(),
            semaphore: Semaphore::new(1).unwrap(),
            condition: Condition::new().unwrap(),
            event: Event::new().unwrap(),
            rwlock: RwLock::new().unwrap(),
            barrier: Barrier::new(2).unwrap(),
            value: Value::new(1).unwrap(),
            large: Value::new([1; 3]).unwrap(),
            array: Array::from_slice(&[1, 2, 3]).unwrap(),
        }
    }

    fn holds_nothing(&self) -> bool {
        self.lock.try_lock().is_ok()
            && self.reentrant_lock.try_lock().is_ok()
            && self.semaphore.try_acquire().is_ok()
            && self.rwlock.try_write().is_ok()
            && self.value.try_lock().is_ok()
            && self.large.try_lock().is_ok()
            && self.array.try_lock().is_ok()
    }

    /// Everything that can be held is, by this thread until it ends.
    fn hold(&self) {
        std::mem::forget(self.lock.lock().unwrap());
        std::mem::forget(self.reentrant_lock.lock().unwrap());
        std::mem::forget(self.semaphore.acquire().unwrap());
        std::mem::forget(self.rwlock.write().unwrap());
        std::mem::forget(self.value.lock().unwrap());
        std::mem::forget(self.large.lock().unwrap());
        std::mem::forget(self.array.lock().unwrap());
    }

    fn assert_holder_died(&self) {
        assert!(self.lock.lock().unwrap().owner_died());
        assert!(self.reentrant_lock.lock().unwrap().owner_died());
        drop(self.semaphore.acquire().unwrap());
        assert!(self.rwlock.read().unwrap().owner_died());
        assert!(self.value.lock().unwrap().owner_died());
        assert!(self.large.lock().unwrap().owner_died());
        assert!(self.array.lock().unwrap().owner_died());
    }
}

/// What the child of the next test does: gets all, finds them held, sends them back, and ends with all of them.
fn examine(connection: Connection) {
    let all: All = connection.recv().unwrap();
    assert!(!all.holds_nothing() && all.event.is_set());
    assert_eq!((all.value.fetch_add(1), all.array.fetch_add(2, 1)), (1, Ok(3)));
    connection.send(&all).unwrap();
    all.barrier.wait().unwrap();
    all.hold();
    connection.send(&()).unwrap();
    connection.recv::<()>().unwrap();
}

#[test]
fn all_travel_in_messages_while_they_are_in_use() {
    let _test = test();
    let (here, there) = pipe().unwrap();
    let mut child = Process::spawn(examine, there).unwrap();
    let all = All::new();
    all.event.set();
    let holder = {
        let all = all.clone();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let holder = thread::spawn(move || {
            let _guards = (all.lock.lock().unwrap(), all.reentrant_lock.lock().unwrap());
            let (_permit, _reader) = (all.semaphore.acquire().unwrap(), all.rwlock.read().unwrap());
            let _more = (all.value.lock().unwrap(), all.large.lock().unwrap(), all.array.lock().unwrap());
            ready.send(()).unwrap();
            thread::park();
        });
        is_ready.recv().unwrap();
        holder
    };
    here.send(&all).unwrap();
    let back: All = here.recv().unwrap();
    assert_eq!((all.value.get(), back.value.get(), back.array.to_vec()), (2, 2, vec![1, 2, 4]));
    holder.thread().unpark();
    holder.join().unwrap();
    assert!(back.holds_nothing());
    back.barrier.wait().unwrap();
    here.recv::<()>().unwrap();
    assert!(!all.holds_nothing() && !back.holds_nothing());
    here.send(&()).unwrap();
    child.join().unwrap();
    back.assert_holder_died();
}

/// Guards belong to a thread: `Send` for one of them would make the choice of `IsSend` ambiguous.
mod guards_stay_in_their_thread {
    use multiprocess::sync::*;

    trait IsSend<Marker> {
        const ANSWERED: () = ();
    }

    impl<T: ?Sized> IsSend<()> for T {}
    impl<T: ?Sized + Send> IsSend<u8> for T {}

    const _: () = <LockGuard<'_> as IsSend<_>>::ANSWERED;
    const _: () = <ReentrantGuard<'_> as IsSend<_>>::ANSWERED;
    const _: () = <Permit<'_> as IsSend<_>>::ANSWERED;
    const _: () = <ReadGuard<'_> as IsSend<_>>::ANSWERED;
    const _: () = <WriteGuard<'_> as IsSend<_>>::ANSWERED;
    const _: () = <ValueGuard<'_, u64> as IsSend<_>>::ANSWERED;
    const _: () = <ArrayGuard<'_, u64> as IsSend<_>>::ANSWERED;
}
