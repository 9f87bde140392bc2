//! What `Value` promises, with real processes that write, stop and die.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bincode::config::standard;
use bincode::serde::{decode_from_slice, encode_to_vec};
use ipc_shm::Shareable;
use ipc_shm::handle::{Incoming, Outgoing};
use ipc_sync::{Array, Integer, Lock, LockError, Value};

use support::step::Script;
use support::{Child, Rng, Status, asleep, fork, shared, unique, until};

const LONG: Duration = Duration::from_secs(10);

/// More than one atomic can hold.
type Large = [u64; 9];

/// The test's begin. Arenas stay for the process, so there is one of every size before any leak oracle looks.
fn test(seconds: u64) -> support::Test {
    static ARENAS: OnceLock<()> = OnceLock::new();
    fn arena<T: Shareable>(value: T) {
        std::mem::forget(Value::new(value).unwrap());
    }
    ARENAS.get_or_init(|| {
        arena(0u8);
        arena([0u8; 23]);
        arena([0u64; 9]);
        arena([0u8; 257]);
        arena([0u64; 128]);
    });
    support::test(seconds)
}

/// A child that runs `f` and then waits to be killed, without dropping anything.
fn stuck_child(f: impl FnOnce()) -> Child {
    let there = shared::<AtomicU32>();
    let child = fork(|| {
        f();
        there.store(1, SeqCst);
        loop {
            std::thread::park();
        }
    });
    until(|| there.load(SeqCst) == 1);
    child
}

fn die() -> ! {
    support::say("a child dies as it should");
    std::process::abort()
}

fn assert_done(children: impl IntoIterator<Item = Child>) {
    children.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
}

#[test]
fn increments_of_four_processes_all_count() {
    let _test = test(60);
    let (updated, added) = (Value::new(0u64).unwrap(), Value::new(0i32).unwrap());
    let large = Value::new([0u64; 9]).unwrap();
    let work = || {
        for _ in 0..100_000 {
            updated.update(|value| *value += 1).unwrap();
            added.fetch_add(1);
        }
        (0..10_000)
            .for_each(|_| large.update(|values| values.iter_mut().for_each(|value| *value += 1)).unwrap());
    };
    assert_done([(); 4].map(|()| fork(work)));
    assert_eq!((updated.get(), added.get(), large.get()), (400_000, 400_000, [40_000; 9]));
}

#[test]
fn a_guard_stores_its_copy_when_it_is_dropped() {
    let _test = test(20);
    let value = Value::new(1u32).unwrap();
    let mut guard = value.lock().unwrap();
    *guard = 2;
    assert_eq!((*guard, value.get()), (2, 1), "nobody sees the copy");
    drop(guard);
    assert_eq!(value.get(), 2);
    let guard = value.lock().unwrap();
    value.fetch_add(1);
    assert_eq!(*guard, 2);
    drop(guard);
    assert_eq!(value.get(), 3, "a guard that only read stores nothing");
}

#[test]
fn get_does_not_wait_for_the_lock() {
    let _test = test(20);
    let (small, large) = (Value::new(7u8).unwrap(), Value::new([7u64; 9]).unwrap());
    let mut holder = stuck_child(|| {
        std::mem::forget(small.lock().unwrap());
        std::mem::forget(large.lock().unwrap());
    });
    assert_eq!((small.get(), large.get()), (7, [7; 9]));
    small.set(8).unwrap();
    assert_eq!(small.get(), 8);
    assert!(large.lock_timeout(Duration::from_millis(50)).is_err());
    holder.kill9();
    large.set([8; 9]).unwrap();
    assert_eq!(large.get(), [8; 9]);
}

/// Two processes replace it all the time; nobody ever sees parts of two values.
fn assert_never_torn<const N: usize>()
where
    [u64; N]: Shareable,
{
    let value = Value::new([0u64; N]).unwrap();
    let _test = test(60);
    let go_on = shared::<AtomicU32>();
    let writer = |first: u64| {
        let value = &value;
        move || {
            (first..)
                .step_by(2)
                .take_while(|_| go_on.load(SeqCst) == 0)
                .for_each(|n| value.set([n; N]).unwrap());
        }
    };
    let writers = [fork(writer(1)), fork(writer(2))];
    until(|| value.get()[0] > 100);
    for _ in 0..100_000 {
        let seen = value.get();
        assert!(seen.iter().all(|&word| word == seen[0]), "torn: {seen:?}");
    }
    go_on.store(1, SeqCst);
    assert_done(writers);
}

#[test]
fn a_value_of_two_words_is_never_torn() {
    assert_never_torn::<2>();
}

#[test]
fn a_value_of_a_kilobyte_is_never_torn() {
    assert_never_torn::<128>();
}

#[test]
fn values_of_every_size_come_back() {
    let _test = test(20);
    fn check<const N: usize>() {
        let value = Value::new([1u8; N]).unwrap();
        assert_eq!(value.get(), [1; N]);
        value.set(std::array::from_fn(|i| i as u8)).unwrap();
        value.update(|bytes| bytes.reverse()).unwrap();
        let reversed: [u8; N] = std::array::from_fn(|i| (N - 1 - i) as u8);
        assert_eq!(value.get(), reversed);
    }
    check::<1>();
    check::<2>();
    check::<3>();
    check::<4>();
    check::<5>();
    check::<7>();
    check::<8>();
    check::<9>();
    check::<16>();
    check::<23>();
    check::<257>();
    check::<2000>();
    let wide = Value::new(u128::MAX).unwrap();
    wide.update(|value| *value -= 1).unwrap();
    assert_eq!(wide.get(), u128::MAX - 1);
    let number = Value::new(1.5f64).unwrap();
    number.update(|value| *value *= 2.0).unwrap();
    assert_eq!(number.get(), 3.0);
}

#[test]
fn integers_do_what_atomics_do() {
    let _test = test(20);
    fn check<T: Integer + PartialEq + std::fmt::Debug + From<u8>>(most: T, least: T) {
        let number = |n: u8| T::from(n);
        let value = Value::new(most).unwrap();
        assert_eq!((value.fetch_add(number(1)), value.get()), (most, least), "it wraps around");
        assert_eq!((value.fetch_sub(number(1)), value.get()), (least, most));
        value.set(number(0b1100)).unwrap();
        assert_eq!(value.fetch_and(number(0b0110)), number(0b1100));
        assert_eq!(value.fetch_or(number(0b0001)), number(0b0100));
        assert_eq!(value.fetch_xor(number(0b0111)), number(0b0101));
        assert_eq!(value.fetch_max(number(9)), number(0b0010));
        assert_eq!(value.fetch_min(number(3)), number(9));
        assert_eq!(value.swap(number(4)), number(3));
        assert_eq!(value.compare_exchange(number(5), number(6)), Err(number(4)));
        assert_eq!(value.compare_exchange(number(4), number(6)), Ok(number(4)));
        assert_eq!(value.get(), number(6));
    }
    check(u8::MAX, u8::MIN);
    check(u16::MAX, u16::MIN);
    check(u32::MAX, u32::MIN);
    check(u64::MAX, u64::MIN);
    check(usize::MAX, usize::MIN);
    check(i16::MAX, i16::MIN);
    check(i32::MAX, i32::MIN);
    check(i64::MAX, i64::MIN);
    check(isize::MAX, isize::MIN);
    let signed = Value::new(-1i8).unwrap();
    assert_eq!((signed.fetch_max(0), signed.fetch_min(-128), signed.fetch_sub(1)), (-1, 0, -128));
    assert_eq!(signed.get(), 127);
}

#[test]
fn a_death_inside_leaves_the_value_as_it_was() {
    let _test = test(20);
    let (small, large) = (Value::new(1u64).unwrap(), Value::new([1u64; 9]).unwrap());
    let mut child = fork(|| {
        small
            .update(|value| {
                *value = 2;
                die()
            })
            .unwrap()
    });
    assert_eq!(child.wait(), Status::Signal(libc::SIGABRT));
    stuck_child(|| {
        let mut guard = large.lock().unwrap();
        *guard = [2; 9];
        std::mem::forget(guard);
    })
    .kill9();
    assert_eq!((small.get(), large.get()), (1, [1; 9]));
    let guard = large.lock_timeout(LONG).unwrap();
    assert!(guard.owner_died());
    drop(guard);
    assert!(large.lock().unwrap().owner_died(), "nobody has marked it consistent yet");
    small.update(|value| *value += 1).unwrap();
    let guard = small.lock().unwrap();
    assert!(guard.owner_died() && *guard == 2);
    guard.mark_consistent();
    drop(guard);
    assert!(!small.lock().unwrap().owner_died());
}

#[test]
fn a_panic_inside_stores_nothing_and_poisons() {
    let _test = test(20);
    let value = Value::new(1u32).unwrap();
    let in_update = catch_unwind(AssertUnwindSafe(|| {
        value.update(|value| {
            *value = 2;
            resume_unwind(Box::new("expected"))
        })
    }));
    assert!(in_update.is_err() && value.get() == 1);
    let guard = value.lock().unwrap();
    assert!(guard.owner_died());
    guard.mark_consistent();
    drop(guard);
    let with_guard = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = value.lock().unwrap();
        *guard = 3;
        resume_unwind(Box::new("expected"))
    }));
    assert!(with_guard.is_err() && value.get() == 1);
    assert!(value.lock().unwrap().owner_died());
}

/// A destructor that gives something back does so when it is run by a panic, too.
#[test]
fn a_destructor_in_a_panic_can_change_a_value() {
    let _test = test(20);
    struct Returns<'a>(&'a Value<u32>);
    impl Drop for Returns<'_> {
        fn drop(&mut self) {
            self.0.update(|value| *value += 1).unwrap();
            *self.0.lock().unwrap() += 1;
        }
    }
    let value = Value::new(1u32).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _returns = Returns(&value);
        resume_unwind(Box::new("expected"))
    }));
    assert!(panicked.is_err());
    assert_eq!(value.get(), 3);
    assert!(!value.lock().unwrap().owner_died(), "the panic began outside");
}

#[test]
fn a_forked_copy_of_a_guard_stores_nothing() {
    let _test = test(20);
    let value = Value::new(1u64).unwrap();
    let mut guard = Some(value.lock().unwrap());
    let mut child = fork(|| {
        **guard.as_mut().unwrap() = 2;
        drop(guard.take());
        assert!(value.try_lock().is_err(), "the parent has the lock");
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(value.get(), 1);
    assert!(matches!(value.lock(), Err(LockError::Deadlock)));
    **guard.as_mut().unwrap() = 3;
    drop(guard);
    let guard = value.lock().unwrap();
    assert!(*guard == 3 && !guard.owner_died());
    drop(guard);
}

#[test]
fn a_child_forked_in_an_update_stores_nothing() {
    let _test = test(20);
    let value = Value::new(1u64).unwrap();
    let child = value.update(|value| {
        // SAFETY: the child copies this thread alone, returns from the closure and ends.
        let child = unsafe { libc::fork() };
        *value = if child == 0 { 9 } else { 4 };
        child
    });
    match child.unwrap() {
        // SAFETY: no conditions.
        0 => unsafe { libc::_exit(0) },
        // SAFETY: a child of ours, which nobody else waits for.
        child => assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child),
    }
    assert_eq!(value.get(), 4);
    assert!(!value.lock().unwrap().owner_died());
}

#[test]
fn one_thread_cannot_lock_twice() {
    let _test = test(20);
    let value = Value::new(1u64).unwrap();
    let twice = value.update(|_| value.update(|value| *value = 2).unwrap_err()).unwrap();
    assert!(matches!(twice, LockError::Deadlock));
    assert_eq!(value.update(|_| value.get()).unwrap(), 1);
}

#[test]
fn timeouts_cover_the_whole_call() {
    let _test = test(20);
    let value = Value::new(1u64).unwrap();
    let _holder = stuck_child(|| std::mem::forget(value.lock().unwrap()));
    let start = Instant::now();
    assert!(value.lock_timeout(Duration::from_millis(120)).is_err());
    assert!((120..400).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    assert!(value.lock_deadline(start).is_err() && value.try_lock().is_err());
}

#[test]
fn a_named_value_is_initialized_once() {
    let _test = test(20);
    let name = unique("value");
    let value = Value::named(&name, 5u64).unwrap();
    let mut child = fork(|| assert_eq!(Value::named(&name, 6u64).unwrap().fetch_add(1), 5));
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(Value::named(&name, 7u64).unwrap().get(), 6);
    drop(value);
    assert_eq!(Value::named(&name, 7u64).unwrap().get(), 7, "the name went with its last user");
}

#[test]
fn another_type_under_a_name_is_an_error() {
    let _test = test(20);
    let name = unique("value");
    let value = Value::named(&name, 5u64).unwrap();
    let differently = "laid out differently";
    let errors = [
        Value::named(&name, 5u32).unwrap_err(),      // size
        Value::named(&name, [5u32; 2]).unwrap_err(), // alignment
        Value::named(&name, 5i64).unwrap_err(),      // type
        Value::named(&name, 5.0f64).unwrap_err(),
    ];
    errors.iter().for_each(|error| assert!(error.to_string().contains(differently), "{error}"));
    let kind = Lock::named(&name).unwrap_err().to_string();
    assert!(kind.contains("VALU"), "{kind}");
    let kind = Array::<u64>::named(&name, 1).unwrap_err().to_string();
    assert!(kind.contains("VALU"), "{kind}");
    assert_eq!(value.get(), 5);
}

/// Sends `value` to this very process.
fn received<T: Shareable, U: Shareable>(value: &Value<T>) -> Result<Value<U>, String> {
    let table = Outgoing::open();
    let bytes = encode_to_vec(value, standard()).unwrap();
    let sending = table.finish();
    let descriptor = sending.descriptors().next().unwrap().try_clone_to_owned().unwrap();
    let _table = Incoming::open(vec![descriptor]);
    decode_from_slice(&bytes, standard()).map(|(value, _)| value).map_err(|error| error.to_string())
}

#[test]
fn a_received_value_is_the_same_if_it_has_the_same_type() {
    let _test = test(20);
    let value = Value::new(1u64).unwrap();
    let same = received::<u64, u64>(&value).unwrap();
    same.fetch_add(1);
    assert_eq!(value.get(), 2);
    let _guard = value.lock().unwrap();
    assert!(matches!(same.lock(), Err(LockError::Deadlock)));
    for error in [received::<u64, u32>(&value).unwrap_err(), received::<u64, u128>(&value).unwrap_err()] {
        assert!(error.contains("laid out differently") || error.contains("segment is"), "{error}");
    }
    assert!(received::<u64, i64>(&value).unwrap_err().contains("laid out differently"));
    let named = Value::named(&unique("value"), 1u64).unwrap();
    assert_eq!(received::<u64, u64>(&named).unwrap().get(), 1);
    received::<u64, f64>(&named).unwrap_err();
}

#[test]
fn debug_tells_value_and_owner_without_blocking() {
    let _test = test(20);
    let value = Value::new(42u64).unwrap();
    let holder = stuck_child(|| std::mem::forget(value.lock().unwrap()));
    let text = format!("{value:?}");
    assert!(text.contains("value: 42") && text.contains(&format!("Some({})", holder.pid())), "{text}");
}

#[test]
fn small_values_share_descriptors() {
    let _test = test(20);
    let before = support::census().len();
    let values: Vec<_> = (0..1000u64).map(|n| Value::new(n).unwrap()).collect();
    assert!(support::census().len() < before + 3);
    assert!(values.iter().zip(0..).all(|(value, n)| value.get() == n));
}

/// Byte offset in its arena of the cell that a received value lies in.
fn cell_of<T: Shareable>(value: &Value<T>) -> (std::sync::Arc<ipc_shm::Mapping>, usize) {
    let table = Outgoing::open();
    let bytes = encode_to_vec(value, standard()).unwrap();
    let sending = table.finish();
    let descriptor = sending.descriptors().next().unwrap().try_clone_to_owned().unwrap();
    let ((_, index), _): (((u32, Option<String>), u32), usize) =
        decode_from_slice(&bytes, standard()).unwrap();
    let cell = (size_of::<T>().next_multiple_of(8) * 2 + 32).next_power_of_two().max(64);
    (ipc_shm::Mapping::of(std::sync::Arc::new(descriptor)).unwrap(), 128 + index as usize * cell)
}

/// Somebody writes random words over the cell: wrong values or errors, and no crash.
#[test]
fn garbage_in_the_cell_harms_nobody() {
    let _test = test(60);
    let (small, large) = (Value::new(0u64).unwrap(), Value::new([0u64; 9]).unwrap());
    let looks = shared::<AtomicU64>();
    let readers = [(); 2].map(|()| {
        fork(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                std::hint::black_box((small.get(), large.get()));
                let _ = small.lock_timeout(Duration::from_micros(50)).map(|mut guard| *guard += 1);
                let _ = large.lock_timeout(Duration::from_micros(50)).map(|mut guard| guard[8] += 1);
                small.fetch_add(1);
                std::hint::black_box(format!("{small:?} {large:?}"));
                looks.fetch_add(1, SeqCst);
            }
        })
    });
    let _hostile = fork(|| {
        let mut rng = Rng::new(support::seed());
        let cells = [(cell_of(&small), 64), (cell_of(&large), 256)];
        loop {
            let ((mapping, at), size) = &cells[rng.below(2) as usize];
            let word = rng.below(u64::MAX).to_ne_bytes();
            mapping.write(at + rng.below(size / 8) as usize * 8, &word).unwrap();
        }
    });
    assert_done(readers);
    assert!(looks.load(SeqCst) > 100, "{}", looks.load(SeqCst));
}

/// As it was at first, whatever the last round left.
fn reset<T: Shareable>(value: &Value<T>, first: T) {
    let mut guard = value.lock().unwrap();
    guard.mark_consistent();
    *guard = first;
}

/// The value is old or new, and whole; a finished change is there and nobody died in it.
fn survive(value: &Value<Large>, finished: bool, held: bool) {
    let seen = value.get()[0];
    assert!(value.get() == [seen; 9] && (seen == 1 || seen == 2), "torn: {:?}", value.get());
    let guard = value.lock_timeout(Duration::from_secs(1)).unwrap();
    assert_eq!(*guard, [seen; 9]);
    assert!(!finished || seen == 2 && guard.owner_died() == held);
}

#[test]
fn update_dies_at_any_instruction() {
    let _test = test(120);
    let (small, large) = (Value::new(1u64).unwrap(), Value::new([1u64; 9]).unwrap());
    Script::new(
        "update of 8 bytes",
        || reset(&small, 1),
        |(), stage| {
            small.update(|_| ()).unwrap();
            stage.begin();
            small.update(|value| *value += 1).unwrap();
            stage.end();
        },
        |(), fate| {
            let guard = small.lock_timeout(Duration::from_secs(1)).unwrap();
            assert!(*guard == 2 || *guard == 1 && !fate.finished, "{guard:?}");
            assert!(!fate.finished || !guard.owner_died());
        },
    )
    .run()
    .assert_clean();
    Script::new(
        "update of 72 bytes",
        || reset(&large, [1; 9]),
        |(), stage| {
            large.update(|_| ()).unwrap();
            stage.begin();
            large.update(|value| *value = [2; 9]).unwrap();
            stage.end();
        },
        |(), fate| survive(&large, fate.finished, false),
    )
    .run()
    .assert_clean();
}

/// The one that takes the lock from the dead dies, too.
#[test]
fn recovering_update_dies_at_any_instruction() {
    let _test = test(120);
    let value = Value::new([1u64; 9]).unwrap();
    Script::new(
        "update after a death",
        || {
            reset(&value, [1; 9]);
            fork(|| std::mem::forget(value.lock().unwrap())).wait();
        },
        |(), stage| {
            ipc_sync::Me::get().unwrap();
            stage.begin();
            value.update(|value| *value = [2; 9]).unwrap();
            stage.end();
        },
        |(), fate| survive(&value, fate.finished, true),
    )
    .run()
    .assert_clean();
}

/// Somebody sleeps for the lock while a guard that changed the value is dropped.
#[test]
fn guard_drop_dies_with_a_sleeping_waiter() {
    let _test = test(120);
    let value = Value::new([1u64; 9]).unwrap();
    let through = shared::<AtomicU32>();
    Script::new(
        "guard drop with a sleeping waiter",
        || {
            through.store(0, SeqCst);
            reset(&value, [1; 9]);
            RefCell::<Option<Child>>::default()
        },
        |_, stage| {
            let mut guard = value.lock().unwrap();
            *guard = [2; 9];
            stage.begin();
            drop(guard);
            stage.end();
        },
        |_, fate| {
            until(|| through.load(SeqCst) == 1);
            survive(&value, fate.finished, false);
        },
    )
    .meanwhile(|scene| {
        let waiter = fork(|| {
            drop(value.lock().unwrap());
            through.store(1, SeqCst);
        });
        asleep(waiter.pid());
        *scene.borrow_mut() = Some(waiter);
    })
    .run()
    .assert_clean();
}
