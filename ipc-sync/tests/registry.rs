//! The registry under damage, between namespaces, and without the kernel's help.
#![allow(unsafe_code)]

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bincode::config::standard;
use bincode::serde::{decode_from_slice, encode_to_vec};
use ipc_shm::handle::{Incoming, Outgoing};
use ipc_sync::{Lock, LockError, Me, Registry, TryLockError};

use support::{Status, asleep, fork, hold, say, shared, shared_slice, until};

const LONG: Duration = Duration::from_secs(10);

/// A lock as bytes and the descriptor of its arena.
fn pack(lock: &Lock) -> (Vec<u8>, OwnedFd) {
    let table = Outgoing::open();
    let bytes = encode_to_vec(lock, standard()).unwrap();
    let sending = table.finish();
    let descriptor = sending.descriptors().next().unwrap().try_clone_to_owned().unwrap();
    (bytes, descriptor)
}

fn unpack(bytes: &[u8], descriptor: OwnedFd) -> Result<Lock, String> {
    let _table = Incoming::open(vec![descriptor]);
    decode_from_slice(bytes, standard()).map(|(lock, _)| lock).map_err(|error| error.to_string())
}

/// What stands in a message for a lock: the slot, if it has one, and the name of its segment, and its cell.
type Forged = ((Option<u32>, Option<String>), u32);

/// Byte offset of the lock's word in its arena: header, cell, kind.
fn word_offset(lock: &Lock) -> usize {
    let (bytes, _) = pack(lock);
    let ((_, index), _): (Forged, usize) = decode_from_slice(&bytes, standard()).unwrap();
    128 + index as usize * 64 + 8
}

fn word(lock: &Lock) -> u32 {
    let mapping = ipc_shm::Mapping::of(pack(lock).1.into()).unwrap();
    let mut bytes = [0; 4];
    mapping.read(word_offset(lock), &mut bytes).unwrap();
    u32::from_ne_bytes(bytes)
}

#[test]
fn a_received_lock_is_the_same_lock() {
    let lock = Lock::new().unwrap();
    let _test = support::test(20);
    let (bytes, descriptor) = pack(&lock);
    let received = unpack(&bytes, descriptor).unwrap();
    let guard = lock.lock().unwrap();
    assert!(matches!(received.lock(), Err(LockError::Deadlock)));
    drop(guard);
    assert!(received.try_lock().is_ok());
}

#[test]
fn a_lock_outside_a_message_cannot_be_serialized() {
    let lock = Lock::new().unwrap();
    let _test = support::test(20);
    let error = encode_to_vec(&lock, standard()).unwrap_err().to_string();
    assert!(error.contains("inside a message"), "{error}");
}

#[test]
fn a_forged_handle_is_an_error() {
    let lock = Lock::new().unwrap();
    let _test = support::test(20);
    let (_, descriptor) = pack(&lock);
    for index in [4096u32, u32::MAX, 4000] {
        let forged: Forged = ((Some(0), None), index);
        let bytes = encode_to_vec(forged, standard()).unwrap();
        unpack(&bytes, descriptor.try_clone().unwrap()).unwrap_err();
    }
    for name in ["forged", "a/b", ""] {
        let forged: Forged = ((Some(0), Some(name.to_owned())), 0);
        let bytes = encode_to_vec(forged, standard()).unwrap();
        unpack(&bytes, descriptor.try_clone().unwrap()).unwrap_err();
    }
    let forged: Forged = ((Some(1), None), 0);
    unpack(&encode_to_vec(forged, standard()).unwrap(), descriptor).unwrap_err();
    let (bytes, _) = pack(&lock);
    unpack(&bytes, fs::File::open("/dev/null").unwrap().into()).unwrap_err();
}

#[test]
fn a_damaged_word_is_an_error_and_never_an_owner() {
    let lock = Lock::new().unwrap();
    let _test = support::test(60);
    let mapping = ipc_shm::Mapping::of(pack(&lock).1.into()).unwrap();
    for garbage in [1u32, 0x1234, 1 << 30, 0x7fff_ffff, !(1 << 29)] {
        mapping.write(word_offset(&lock), &garbage.to_ne_bytes()).unwrap();
        let refused = lock.lock();
        assert!(matches!(refused, Err(LockError::Corrupt)), "{garbage:#x}: {refused:?}");
    }
    mapping.write(word_offset(&lock), &[0; 4]).unwrap();
    assert!(lock.lock().is_ok());
}

/// Each field of the owner's slot in turn holds garbage while the owner lives.
#[test]
fn a_damaged_slot_is_an_error_and_never_a_second_owner() {
    let lock = Lock::new().unwrap();
    let _test = support::test(60);
    let mut owner = hold(|| std::mem::forget(lock.lock().unwrap()));
    let slot = 128 + 128 + (word(&lock) & 0x3fff) as usize * 32;
    let registry = ipc_shm::Mapping::of(Registry::get().unwrap().descriptor().clone()).unwrap();
    let mut good = [0; 32];
    registry.read(slot, &mut good).unwrap();
    for offset in (0..32).step_by(4) {
        let mut bad = good;
        bad[offset..offset + 4].copy_from_slice(&0xdead_beefu32.to_ne_bytes());
        registry.write(slot, &bad).unwrap();
        let refused = lock.lock_timeout(Duration::from_millis(300));
        assert!(
            matches!(refused, Err(TryLockError::WouldBlock | TryLockError::Failed(LockError::Corrupt))),
            "field at {offset}: {refused:?}"
        );
        registry.write(slot, &good).unwrap();
    }
    owner.kill9();
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
}

/// A thread that dies while its robust list names another word is found by /proc, within one backstop.
#[test]
fn a_death_nobody_marked_is_found_by_asking() {
    let lock = Lock::new().unwrap();
    let _test = support::test(20);
    let mut owner = fork(|| {
        std::mem::forget(lock.lock().unwrap());
        let elsewhere = AtomicU32::new(0);
        Me::get().unwrap().name(&elsewhere);
    });
    assert_eq!(owner.wait(), Status::Code(0));
    let start = Instant::now();
    assert!(lock.lock_timeout(LONG).unwrap().owner_died());
    assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
}

/// `Err` = this system does not allow it, and why.
fn private_shm() -> Result<(), String> {
    let step =
        |result: i32| (result == 0).then_some(()).ok_or_else(|| std::io::Error::last_os_error().to_string());
    // SAFETY: numbers and strings that end with NUL; only this forked child's namespace changes.
    unsafe {
        step(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        step(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        step(libc::mount(c"shm".as_ptr(), c"/dev/shm".as_ptr(), c"tmpfs".as_ptr(), 0, none.cast()))
    }
}

const SKIPPED: i32 = 77;

fn private_shm_or_skip(why: &str) {
    if let Err(error) = private_shm() {
        say(&format!("skipped: {why}: {error}"));
        // SAFETY: ends this forked child.
        unsafe { libc::_exit(SKIPPED) }
    }
}

/// Runs `body` in a process that has not used a registry yet: this binary again, told which part to play.
fn fresh_process(part: &str) -> Status {
    let Some(mut command) = as_root(std::env::current_exe().unwrap()) else {
        say("skipped: a private /dev/shm: this is not root, and may not unshare -Ur");
        return Status::Code(SKIPPED);
    };
    command.args(["--exact", "plays_a_part", "--nocapture"]).env("REGISTRY_PART", part);
    fork(|| panic!("{}", command.exec())).wait()
}

/// Whoever is not root is it in a user namespace of its own. It is entered by another program, because libtest runs
/// a test in a second thread, and who has two may not enter one.
fn as_root(program: PathBuf) -> Option<Command> {
    // SAFETY: no conditions.
    if unsafe { libc::geteuid() } == 0 {
        return Some(Command::new(program));
    }
    let may = Command::new("unshare").args(["-Ur", "true"]).status().is_ok_and(|status| status.success());
    may.then(|| {
        let mut command = Command::new("unshare");
        command.arg("-Ur").arg(program);
        command
    })
}

#[test]
fn plays_a_part() {
    match std::env::var("REGISTRY_PART").as_deref() {
        Ok("strangers") => strangers(),
        Ok("deleted") => deleted(),
        Ok("no robust list") => without(&[libc::SYS_get_robust_list]),
        Ok("no waitv") => without(&[libc::SYS_futex_waitv]),
        Ok("neither") => without(&[libc::SYS_get_robust_list, libc::SYS_futex_waitv]),
        Ok(other) => panic!("no such part: {other}"),
        Err(_) => {} // the whole suite runs: nothing to play
    }
}

fn assert_played(status: Status) {
    assert!(matches!(status, Status::Code(0 | SKIPPED)), "{status:?}");
}

#[test]
fn another_mount_namespace_is_another_registry() {
    let _test = support::test(30);
    assert_played(fresh_process("strangers"));
}

/// Two processes that find no common registry: a lock of one is an error in the other, never a second owner.
fn strangers() {
    private_shm_or_skip("a private /dev/shm");
    let packed = shared_slice::<AtomicU32>(64);
    let mut maker = fork(|| {
        private_shm().unwrap();
        let lock = Lock::new().unwrap();
        std::mem::forget(lock.lock().unwrap());
        let (bytes, descriptor) = pack(&lock);
        bytes.iter().enumerate().for_each(|(i, &byte)| packed[i + 2].store(byte.into(), SeqCst));
        packed[1].store(descriptor.as_raw_fd() as u32, SeqCst);
        packed[0].store(bytes.len() as u32, SeqCst);
        loop {
            std::thread::park();
        }
    });
    until(|| packed[0].load(SeqCst) != 0);
    let mut stranger = fork(|| {
        let bytes: Vec<u8> =
            (0..packed[0].load(SeqCst) as usize).map(|i| packed[i + 2].load(SeqCst) as u8).collect();
        let path = format!("/proc/{}/fd/{}", maker.pid(), packed[1].load(SeqCst));
        let descriptor = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let error = unpack(&bytes, descriptor.into()).unwrap_err();
        assert!(error.contains("another registry"), "{error}");
    });
    assert_eq!(stranger.wait(), Status::Code(0));
    maker.kill9();
}

#[test]
fn a_deleted_registry_file_divides_old_and_new() {
    let _test = support::test(30);
    assert_played(fresh_process("deleted"));
}

/// Who had the file goes on with it, who comes later has another, and neither takes the other's locks.
fn deleted() {
    private_shm_or_skip("a private /dev/shm");
    let (stage, id) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    let mut old = fork(|| {
        let lock = Lock::new().unwrap();
        id.store(Registry::get().unwrap().id() as u32, SeqCst);
        stage.store(1, SeqCst);
        until(|| stage.load(SeqCst) == 2);
        fork(|| std::mem::forget(lock.lock().unwrap())).wait();
        assert!(lock.lock_timeout(LONG).unwrap().owner_died());
    });
    until(|| stage.load(SeqCst) == 1);
    let files: Vec<_> = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    fs::remove_file(&files[0]).unwrap();
    let mut new = fork(|| assert_ne!(Registry::get().unwrap().id() as u32, id.load(SeqCst)));
    assert_eq!(new.wait(), Status::Code(0));
    stage.store(2, SeqCst);
    assert_eq!(old.wait(), Status::Code(0));
}

#[test]
fn locks_survive_deaths_without_the_kernels_newer_calls() {
    let _test = support::test(60);
    for part in ["no robust list", "no waitv", "neither"] {
        assert_played(fresh_process(part));
    }
}

/// The promises of the lock with some system calls refused, as old kernels, valgrind and sandboxes do.
fn without(calls: &[libc::c_long]) {
    refuse(calls);
    private_shm_or_skip("a private /dev/shm");
    let lock = Lock::new().unwrap();
    for round in 0..5 {
        let through = shared::<AtomicU32>();
        let mut owner = hold(|| std::mem::forget(lock.lock().unwrap()));
        let mut waiter = fork(|| {
            assert!(lock.lock().unwrap().owner_died());
            through.store(1, SeqCst);
        });
        asleep(waiter.pid());
        assert_eq!(through.load(SeqCst), 0);
        owner.kill9();
        let start = Instant::now();
        assert_eq!(waiter.wait(), Status::Code(0));
        assert!(start.elapsed() < Duration::from_millis(250), "round {round}: {:?}", start.elapsed());
        let guard = lock.lock_timeout(LONG).unwrap();
        guard.mark_consistent();
    }
    let guard = lock.lock().unwrap();
    let mut waiter = fork(|| drop(lock.lock().unwrap()));
    asleep(waiter.pid());
    drop(guard);
    assert_eq!(waiter.wait(), Status::Code(0));
}

/// Has the kernel answer ENOSYS to `calls` from now on, in this process and its children.
fn refuse(calls: &[libc::c_long]) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut program = vec![step(LOAD, 0, 0)]; // the number of the call
    for (i, &call) in calls.iter().enumerate() {
        program.push(step(JUMP_EQUAL, (calls.len() - i) as u8, call as u32));
    }
    program.push(step(RETURN, 0, libc::SECCOMP_RET_ALLOW));
    program.push(step(RETURN, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a filter program of ours, alive during the call; the kernel copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let result = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &filter);
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

/// A thread of the parent may be making locks at the instant of the fork; it does not exist in the child.
#[test]
fn a_forked_child_makes_locks_whatever_its_parents_threads_did() {
    let _first = Lock::new().unwrap();
    let _test = support::test(60);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let name = support::unique("forked");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                drop((Lock::new().unwrap(), Lock::named(&name).unwrap()));
            }
        });
        for _ in 0..300 {
            let mut child = fork(|| drop(Lock::new().unwrap().lock().unwrap()));
            let status = child.wait();
            if status != Status::Code(0) {
                stop.store(true, SeqCst);
            }
            assert_eq!(status, Status::Code(0));
        }
        stop.store(true, SeqCst);
    });
}
