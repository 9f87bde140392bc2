//! What `Array` promises, with real processes that write, stop and die.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bincode::config::standard;
use bincode::serde::{decode_from_slice, encode_to_vec};
use ipc_shm::handle::{Incoming, Outgoing};
use ipc_shm::{Mapping, Shareable};
use ipc_sync::{Array, ArrayError, Lock, LockError, OutOfRange, Registry, TryLockError, Value};

use support::step::Script;
use support::{Child, Rng, Status, fork, shared, unique, until};

const LONG: Duration = Duration::from_secs(10);

/// The test's begin: the registry stays for the process, so it is there before any leak oracle looks.
fn test(seconds: u64) -> support::Test {
    Registry::get().unwrap();
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

fn assert_done(children: impl IntoIterator<Item = Child>) {
    children.into_iter().for_each(|mut child| assert_eq!(child.wait(), Status::Code(0)));
}

#[test]
fn increments_of_four_processes_all_count() {
    let _test = test(60);
    let array = Array::<u64>::new(3).unwrap();
    let work = || {
        for _ in 0..100_000 {
            array.update(0, |element| *element += 1).unwrap();
            array.fetch_add(1, 1).unwrap();
        }
        for _ in 0..100_000 {
            let guard = array.lock().unwrap();
            guard.set(2, guard.get(2).unwrap() + 1).unwrap();
        }
    };
    assert_done([(); 4].map(|()| fork(work)));
    assert_eq!(array.to_vec(), [400_000; 3]);
}

#[test]
fn elements_are_copied_in_and_out() {
    let _test = test(20);
    let array = Array::<u16>::new(5).unwrap();
    assert_eq!((array.len(), array.is_empty(), array.to_vec()), (5, false, vec![0; 5]));
    array.write(1, &[1, 2, 3]).unwrap();
    array.set(4, 9).unwrap();
    let mut middle = [0; 3];
    array.read(2, &mut middle).unwrap();
    assert_eq!((middle, array.get(1).unwrap()), ([2, 3, 9], 1));
    assert_eq!(array.iter().rev().collect::<Vec<_>>(), [9, 3, 2, 1, 0]);
    assert_eq!(array.iter().len(), 5);
    let guard = array.lock().unwrap();
    guard.write(0, &[7, 7]).unwrap();
    guard.read(1, &mut middle).unwrap();
    assert_eq!((middle, guard.to_vec()), ([7, 2, 3], vec![7, 7, 2, 3, 9]));
    assert_eq!(guard.update(4, |element| std::mem::replace(element, 1)).unwrap(), 9);
}

#[test]
fn elements_of_every_size_stay_apart() {
    let _test = test(20);
    fn check<const N: usize>() {
        let element = |i: usize| -> [u8; N] { std::array::from_fn(|k| (i * 31 + k) as u8) };
        let array = Array::from_slice(&[element(0), element(1), element(2)]).unwrap();
        array.set(1, element(7)).unwrap();
        array.update(2, |bytes| bytes.reverse()).unwrap();
        let mut last = element(2);
        last.reverse();
        assert_eq!(array.to_vec(), [element(0), element(7), last]);
    }
    check::<1>();
    check::<2>();
    check::<3>();
    check::<5>();
    check::<8>();
    check::<9>();
    check::<17>();
    check::<300>();
    let wide = Array::from_slice(&[1u128, u128::MAX]).unwrap();
    wide.update(1, |element| *element -= 1).unwrap();
    assert_eq!(wide.to_vec(), [1, u128::MAX - 1]);
    assert_eq!(Array::from_slice(&[0.5f32, -1.5]).unwrap().get(1).unwrap(), -1.5);
}

#[test]
fn out_of_range_is_an_error_that_changes_nothing() {
    let _test = test(20);
    let array = Array::from_slice(&[1u32, 2, 3]).unwrap();
    let error = OutOfRange { index: 3, len: 3 };
    assert_eq!(array.get(3), Err(error));
    assert_eq!(array.get(usize::MAX), Err(OutOfRange { index: usize::MAX, len: 3 }));
    assert_eq!(array.fetch_add(3, 1), Err(error));
    assert!(matches!(array.set(3, 1), Err(ArrayError::OutOfRange(found)) if found == error));
    assert!(matches!(array.update(3, |_| unreachable!()), Err::<(), _>(ArrayError::OutOfRange(_))));
    assert!(matches!(array.write(2, &[9, 9]), Err(ArrayError::OutOfRange(found)) if found == error));
    assert_eq!(array.read(usize::MAX, &mut [0; 2]), Err(OutOfRange { index: usize::MAX - 1, len: 3 }));
    assert_eq!(array.read(3, &mut []), Ok(()));
    let guard = array.lock().unwrap();
    assert_eq!(guard.get(3), Err(error));
    assert!(guard.set(3, 1).is_err() && guard.write(3, &[1]).is_err() && guard.read(0, &mut [0; 4]).is_err());
    assert_eq!(guard.to_vec(), [1, 2, 3]);
}

#[test]
fn an_array_may_be_empty_but_not_endless() {
    let _test = test(20);
    let empty = Array::<u64>::from_slice(&[]).unwrap();
    assert!(empty.is_empty() && empty.to_vec().is_empty() && empty.get(0).is_err());
    drop(empty.lock().unwrap());
    Array::<u64>::new(usize::MAX / 8).unwrap_err();
    Array::<[u64; 100]>::new(usize::MAX / 100).unwrap_err();
    Array::<u8>::named(&unique("array"), usize::MAX).unwrap_err();
}

#[test]
fn integers_do_what_atomics_do() {
    let _test = test(20);
    let array = Array::from_slice(&[255u8, 0, 0b1100, 100]).unwrap();
    assert_eq!((array.fetch_add(0, 2), array.fetch_sub(1, 1)), (Ok(255), Ok(0)));
    assert_eq!(
        (array.fetch_and(2, 0b0110), array.fetch_or(2, 1), array.fetch_xor(2, 0b111)),
        (Ok(12), Ok(4), Ok(5))
    );
    assert_eq!((array.fetch_max(3, 101), array.fetch_min(3, 7), array.swap(3, 8)), (Ok(100), Ok(101), Ok(7)));
    assert_eq!(array.compare_exchange(3, 8, 9), Ok(Ok(8)));
    assert_eq!(array.compare_exchange(3, 8, 10), Ok(Err(9)));
    assert_eq!(array.to_vec(), [1, 255, 2, 9], "neighbours stay as they are");
    let signed = Array::from_slice(&[i64::MIN, 0]).unwrap();
    assert_eq!((signed.fetch_sub(0, 1), signed.get(0)), (Ok(i64::MIN), Ok(i64::MAX)));
}

/// Two processes replace one element all the time; nobody ever sees parts of two.
fn assert_never_torn<T: Shareable + PartialEq + std::fmt::Debug>(make: impl Fn(u8) -> T) {
    let _test = test(60);
    let array = Array::<T>::new(3).unwrap();
    let go_on = shared::<AtomicU32>();
    let write = |first: u8| {
        (first..=255).step_by(2).cycle().take_while(|_| go_on.load(SeqCst) == 0).for_each(|n| {
            array.set(1, make(n)).unwrap();
        });
    };
    let writers = [fork(|| write(1)), fork(|| write(2))];
    until(|| array.get(1).unwrap() != make(0));
    for _ in 0..50_000 {
        let seen = array.get(1).unwrap();
        assert!((0..=255).any(|n| make(n) == seen), "torn: {seen:?}");
    }
    go_on.store(1, SeqCst);
    assert_done(writers);
    assert!(array.get(0).unwrap() == make(0) && array.get(2).unwrap() == make(0));
}

#[test]
fn an_element_of_five_bytes_is_never_torn() {
    assert_never_torn(|n| [n; 5]);
}

#[test]
fn an_element_of_eight_bytes_is_never_torn() {
    assert_never_torn(|n| [n; 8]);
}

#[test]
fn an_element_of_a_hundred_bytes_is_never_torn() {
    assert_never_torn(|n| [n; 100]);
}

/// A child that has the lock and stores large elements, each of one number, all the time.
fn hammer(array: &Array<[u64; 512]>, stores: &'static AtomicU64) -> Child {
    fork(|| {
        let guard = array.lock().unwrap();
        for n in 1.. {
            guard.set(0, [n; 512]).unwrap();
            stores.store(n, SeqCst);
        }
    })
}

#[test]
fn a_large_element_is_whole_beside_a_holder_that_stores_all_the_time() {
    let _test = test(60);
    let array = Array::new(1).unwrap();
    let stores = shared::<AtomicU64>();
    let mut writer = hammer(&array, stores);
    until(|| stores.load(SeqCst) > 0);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        let seen = array.get(0).unwrap();
        let other = seen.iter().find(|&&word| word != seen[0]);
        assert_eq!(other, None, "torn: it begins with {}", seen[0]);
    }
    writer.kill9();
    let guard = array.lock().unwrap();
    assert_eq!(array.get(0).unwrap(), guard.get(0).unwrap(), "the holder itself reads without the lock, too");
}

#[test]
fn a_reader_that_dies_in_its_copy_holds_no_store_up() {
    let _test = test(60);
    let array = Array::new(1).unwrap();
    let stores = shared::<AtomicU64>();
    let mut writer = hammer(&array, stores);
    for _ in 0..50 {
        let reads = shared::<AtomicU64>();
        let mut reader = fork(|| {
            loop {
                reads.fetch_add(array.get(0).unwrap()[0] & 1 | 2, SeqCst);
            }
        });
        until(|| reads.load(SeqCst) > 50);
        reader.kill9();
        let before = stores.load(SeqCst);
        until(|| stores.load(SeqCst) > before + 100);
    }
    writer.kill9();
}

#[test]
fn what_a_dead_holder_wrote_is_written() {
    let _test = test(20);
    let array = Array::<[u64; 3]>::new(2).unwrap();
    let mut holder = stuck_child(|| {
        let guard = array.lock().unwrap();
        guard.set(0, [1; 3]).unwrap();
        std::mem::forget(guard);
    });
    assert_eq!(array.to_vec(), [[1; 3], [0; 3]], "reading does not wait for the lock");
    assert!(matches!(array.lock_timeout(Duration::from_millis(50)), Err(TryLockError::WouldBlock)));
    holder.kill9();
    array.set(1, [2; 3]).unwrap();
    let guard = array.lock_timeout(LONG).unwrap();
    assert!(guard.owner_died() && guard.to_vec() == [[1; 3], [2; 3]]);
    guard.mark_consistent();
    drop(guard);
    assert!(!array.lock().unwrap().owner_died());
}

#[test]
fn a_panic_inside_poisons() {
    let _test = test(20);
    let array = Array::from_slice(&[1u32, 2]).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        array.update(0, |element| {
            *element = 9;
            resume_unwind(Box::new("expected"))
        })
    }));
    assert!(panicked.is_err() && array.to_vec() == [1, 2]);
    assert!(array.lock().unwrap().owner_died());
}

#[test]
fn a_forked_copy_of_a_guard_writes_nothing() {
    let _test = test(20);
    let array = Array::from_slice(&[1u64, 2]).unwrap();
    let mut guard = Some(array.lock().unwrap());
    let mut child = fork(|| {
        let guard = guard.take().unwrap();
        assert_eq!(guard.get(1).unwrap(), 2);
        assert!(matches!(guard.set(0, 9), Err(ArrayError::NotOwner)));
        assert!(matches!(guard.write(0, &[9]), Err(ArrayError::NotOwner)));
        assert!(matches!(guard.update(0, |element| *element = 9), Err(ArrayError::NotOwner)));
        drop(guard);
        assert!(array.try_lock().is_err(), "the parent has the lock");
    });
    assert_eq!(child.wait(), Status::Code(0));
    assert_eq!(guard.as_ref().unwrap().to_vec(), [1, 2]);
    assert!(matches!(array.lock(), Err(LockError::Deadlock)));
    guard.as_ref().unwrap().set(0, 5).unwrap();
    drop(guard);
    assert_eq!(array.lock().unwrap().to_vec(), [5, 2]);
}

#[test]
fn another_type_or_length_under_a_name_is_an_error() {
    let _test = test(20);
    let name = unique("array");
    let array = Array::<u32>::named(&name, 4).unwrap();
    array.set(3, 7).unwrap();
    let mut child = fork(|| assert_eq!(Array::<u32>::named(&name, 4).unwrap().fetch_add(3, 1).unwrap(), 7));
    assert_eq!(child.wait(), Status::Code(0));
    for len in [0, 3, 5] {
        let error = Array::<u32>::named(&name, len).unwrap_err().to_string();
        assert_eq!(error, "the array of this name has 4 elements");
    }
    let errors = [
        Array::<i32>::named(&name, 4).unwrap_err(),
        Array::<u64>::named(&name, 4).unwrap_err(),
        Array::<u64>::named(&name, 2).unwrap_err(),
        Array::<[u16; 2]>::named(&name, 4).unwrap_err(),
    ];
    errors.iter().for_each(|error| assert!(error.to_string().contains("laid out differently"), "{error}"));
    assert!(Lock::named(&name).unwrap_err().to_string().contains("ARRY"));
    assert!(Value::named(&name, 0u32).unwrap_err().to_string().contains("ARRY"));
    assert_eq!(array.to_vec(), [0, 0, 0, 8]);
    drop(array);
    assert!(Array::<u64>::named(&name, 2).unwrap().iter().all(|element| element == 0), "the name was free");
}

/// What a message holds of `array`: bytes and a descriptor.
fn pack<T: Shareable>(array: &Array<T>) -> (Vec<u8>, std::os::fd::OwnedFd) {
    let table = Outgoing::open();
    let bytes = encode_to_vec(array, standard()).unwrap();
    let sending = table.finish();
    let descriptor = sending.descriptors().next().unwrap().try_clone_to_owned().unwrap();
    (bytes, descriptor)
}

fn received<T: Shareable, U: Shareable>(array: &Array<T>) -> Result<Array<U>, String> {
    let (bytes, descriptor) = pack(array);
    let _table = Incoming::open(vec![descriptor]);
    decode_from_slice(&bytes, standard()).map(|(array, _)| array).map_err(|error| error.to_string())
}

#[test]
fn a_received_array_is_the_same_if_it_has_the_same_type() {
    let _test = test(20);
    let array = Array::from_slice(&[1u64, 2]).unwrap();
    let same = received::<u64, u64>(&array).unwrap();
    same.fetch_add(1, 5).unwrap();
    assert_eq!(array.to_vec(), [1, 7]);
    let _guard = array.lock().unwrap();
    assert!(matches!(same.lock(), Err(LockError::Deadlock)));
    for error in [received::<u64, u32>(&array).unwrap_err(), received::<u64, f64>(&array).unwrap_err()] {
        assert!(error.contains("laid out differently"), "{error}");
    }
    assert!(encode_to_vec(&array, standard()).is_err(), "not inside a message");
}

#[test]
fn a_length_that_the_segment_has_not_is_an_error() {
    let _test = test(20);
    let array = Array::from_slice(&[1u64, 2]).unwrap();
    let mapping = Mapping::of(Arc::new(pack(&array).1)).unwrap();
    for len in [0u64, 1, 3, 1 << 61, u64::MAX] {
        mapping.write(128 + 16, &len.to_ne_bytes()).unwrap();
        let error = received::<u64, u64>(&array).unwrap_err();
        assert!(error.contains("laid out differently"), "{len}: {error}");
    }
    assert_eq!(array.to_vec(), [1, 2], "who has it already does not look again");
}

/// Somebody writes random words over the segment: wrong elements or errors, and no crash.
#[test]
fn garbage_in_the_segment_harms_nobody() {
    let _test = test(60);
    let (small, large) = (Array::<u32>::new(100).unwrap(), Array::<[u64; 9]>::new(3).unwrap());
    let looks = shared::<AtomicU64>();
    let readers = [(); 2].map(|()| {
        fork(|| {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                std::hint::black_box((small.to_vec(), large.to_vec()));
                let _ = small.lock_timeout(Duration::from_micros(50)).map(|guard| guard.set(99, 1));
                let _ = large.lock_timeout(Duration::from_micros(50)).map(|guard| guard.set(2, [1; 9]));
                small.fetch_add(7, 1).unwrap();
                std::hint::black_box((format!("{small:?} {large:?}"), received::<u32, u32>(&small).is_ok()));
                looks.fetch_add(1, SeqCst);
            }
        })
    });
    let _hostile = fork(|| {
        let mut rng = Rng::new(support::seed());
        let mappings = [&pack(&small), &pack(&large)]
            .map(|(_, descriptor)| Mapping::of(Arc::new(descriptor.try_clone().unwrap())).unwrap());
        loop {
            let mapping = &mappings[rng.below(2) as usize];
            let words = (mapping.size() - 128) as u64 / 8;
            let word = rng.below(u64::MAX).to_ne_bytes();
            mapping.write(128 + rng.below(words) as usize * 8, &word).unwrap();
        }
    });
    assert_done(readers);
    assert!(looks.load(SeqCst) > 100, "{}", looks.load(SeqCst));
}

#[test]
fn debug_tells_elements_and_owner_without_blocking() {
    let _test = test(20);
    let array = Array::from_slice(&[4u8; 100]).unwrap();
    let holder = stuck_child(|| std::mem::forget(array.lock().unwrap()));
    let text = format!("{array:?}");
    assert!(text.contains("len: 100") && text.contains("4, 4"), "{text}");
    assert!(text.contains(&format!("owner: Some({})", holder.pid())) && text.len() < 400, "{text}");
}

/// Elements are stored one after the other, each whole.
#[test]
fn write_dies_at_any_instruction() {
    let _test = test(120);
    let array = Array::<[u64; 3]>::new(3).unwrap();
    Script::new(
        "array write",
        || {
            let guard = array.lock().unwrap();
            guard.mark_consistent();
            guard.write(0, &[[1; 3]; 3]).unwrap();
        },
        |(), stage| {
            array.update(0, |_| ()).unwrap();
            stage.begin();
            array.write(0, &[[2; 3]; 3]).unwrap();
            stage.end();
        },
        |(), fate| {
            let guard = array.lock_timeout(Duration::from_secs(1)).unwrap();
            let seen = guard.to_vec();
            let written = seen.iter().take_while(|element| **element == [2; 3]).count();
            assert!(seen[written..].iter().all(|element| *element == [1; 3]), "{seen:?}");
            assert!(!fate.finished || written == 3 && !guard.owner_died());
            assert!(written % 3 == 0 || guard.owner_died(), "{seen:?}");
        },
    )
    .run()
    .assert_clean();
}
