//! Names: which there are, how their files look, and what is refused under them without being touched.
#![allow(unsafe_code)] // umask, chown, mkfifo, mknod

#[allow(dead_code)] // it can do more
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use ipc_shm::{CreateError, InvalidName, Kind, NameError, OpenError, Segment, SharedMemory};
use support::{Status, fork, procfs, say, unique, until};

const KIND: Kind = Kind::new(*b"TEST", "names 1");

/// A path in /dev/shm that is removed, whatever it leads to.
struct Squat {
    name: String,
    path: PathBuf,
}

impl Squat {
    fn new(stem: &str) -> Squat {
        let name = unique(stem);
        let path = PathBuf::from(format!("/dev/shm/{name}"));
        Squat { name, path }
    }

    /// A file of ours that nobody uses.
    fn file(stem: &str, mode: u32) -> Squat {
        let squat = Squat::new(stem);
        fs::write(&squat.path, [7; 4096]).unwrap();
        fs::set_permissions(&squat.path, fs::Permissions::from_mode(mode)).unwrap();
        squat
    }

    fn c_path(&self) -> CString {
        CString::new(self.path.to_str().unwrap()).unwrap()
    }

    /// Everybody refuses it, for the same reason; the reason is handed back.
    #[track_caller]
    fn is_refused(&self) -> OpenError {
        let _turn = support::turn::turn();
        let before = fs::symlink_metadata(&self.path).unwrap();
        assert!(matches!(SharedMemory::create(&self.name, 16), Err(CreateError::AlreadyExists)));
        let reasons =
            [Segment::named(&self.name, KIND, 16, 0), Segment::leased(&self.name, KIND, 16, 0, |_| ())];
        let reason = SharedMemory::open(&self.name).unwrap_err();
        for other in reasons {
            let Err(NameError::Open(other)) = other else { panic!("{other:?}") };
            assert_eq!(other.to_string(), reason.to_string());
        }
        assert!(!ipc_shm::sweep().unwrap().contains(&self.name));
        let after = fs::symlink_metadata(&self.path).unwrap();
        let look = |status: &fs::Metadata| (status.ino(), status.mode(), status.size(), status.ctime_nsec());
        assert_eq!(look(&before), look(&after), "it was not touched");
        reason
    }
}

impl Drop for Squat {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.path);
    }
}

fn is_root() -> bool {
    // SAFETY: no conditions.
    unsafe { libc::geteuid() == 0 }
}

#[test]
fn names_that_are_none_are_told_apart() {
    let _test = support::test(20);
    let long = "x".repeat(256);
    let none = [
        ("", InvalidName::Empty),
        (".", InvalidName::Dots),
        ("..", InvalidName::Dots),
        ("/jobs", InvalidName::Slash),
        ("jobs/1", InvalidName::Slash),
        ("../etc/passwd", InvalidName::Slash),
        ("jobs\0", InvalidName::Nul),
        (&long, InvalidName::TooLong { length: 256 }),
    ];
    for (name, reason) in none {
        assert!(matches!(SharedMemory::create(name, 16), Err(CreateError::Name(why)) if why == reason));
        assert!(matches!(SharedMemory::open(name), Err(OpenError::Name(why)) if why == reason));
        let typed = Segment::named(name, KIND, 16, 0);
        assert!(matches!(typed, Err(NameError::Open(OpenError::Name(why))) if why == reason));
    }
}

#[test]
fn longest_and_oddest_names_are_names() {
    let _test = support::test(20);
    let start = unique("ö … \n");
    for name in [start.clone() + &"x".repeat(255 - start.len()), unique("..."), unique("-rf *")] {
        let segment = SharedMemory::create(&name, 16).unwrap();
        assert_eq!(segment.name(), Some(&*name));
        assert!(SharedMemory::open(&name).is_ok());
    }
}

#[test]
fn modes_are_exact_whatever_the_umask() {
    let _test = support::test(20);
    for umask in [0, 0o777, 0o022] {
        let mut child = fork(|| {
            // SAFETY: a number; this process has one thread.
            unsafe { libc::umask(umask) };
            let mode = |name: &str| fs::metadata(format!("/dev/shm/{name}")).unwrap().mode() & 0o7777;
            let segment = SharedMemory::create(&unique("mode"), 16).unwrap();
            assert_eq!(mode(segment.name().unwrap()), 0o1600);
            let name = unique("mode-leased");
            let (_leased, _) = Segment::leased(&name, KIND, 16, 0, |_| ()).unwrap();
            assert_eq!(mode(&name), 0o1600);
            segment.persist().unwrap();
            assert_eq!(mode(segment.name().unwrap()), 0o600);
            segment.unlink().unwrap();
            let name = unique("mode-kept");
            let kept = SharedMemory::options().name(&name).size(16).persist(true).create().unwrap();
            assert_eq!(mode(&name), 0o600);
            kept.unlink().unwrap();
        });
        assert_eq!(child.wait(), Status::Code(0), "umask {umask:o}");
    }
}

#[test]
fn symlink_is_not_followed() {
    let _test = support::test(20);
    let target = Squat::file("target", 0o600);
    let link = Squat::new("link");
    symlink(&target.path, &link.path).unwrap();
    assert!(matches!(link.is_refused(), OpenError::Symlink));
    let dangling = Squat::new("dangling");
    symlink("/dev/shm/ipc-shm-no-such-file", &dangling.path).unwrap();
    assert!(matches!(dangling.is_refused(), OpenError::Symlink));
    assert!(!fs::exists("/dev/shm/ipc-shm-no-such-file").unwrap());
    assert_eq!(fs::read(&target.path).unwrap(), [7; 4096]);
}

#[test]
fn fifo_is_refused_and_whoever_waits_on_it_goes_on_waiting() {
    let _test = support::test(20);
    let fifo = Squat::new("fifo");
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.c_path().as_ptr(), 0o600) }, 0);
    let mut writer = fork(|| drop(fs::OpenOptions::new().write(true).open(&fifo.path)));
    let waits = || {
        let open =
            [Some(libc::SYS_openat), Some(libc::SYS_open)].contains(&procfs::system_call(writer.pid()));
        open && procfs::state(writer.pid()) == Some('S')
    };
    until(waits);
    assert!(matches!(fifo.is_refused(), OpenError::NotAFile { what: "fifo" }));
    assert!(waits());
    writer.kill9();
}

#[test]
fn directory_socket_and_device_are_refused() {
    let _test = support::test(20);
    let directory = Squat::new("directory");
    fs::create_dir(&directory.path).unwrap();
    assert!(matches!(directory.is_refused(), OpenError::NotAFile { what: "directory" }));
    let socket = Squat::new("socket");
    let _listener = UnixListener::bind(&socket.path).unwrap();
    assert!(matches!(socket.is_refused(), OpenError::NotAFile { what: "socket" }));
    let device = Squat::new("device");
    // SAFETY: the path is a C string. This is /dev/null by another name.
    if unsafe { libc::mknod(device.c_path().as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(1, 3)) } != 0 {
        return say("skipped: a device under a name: mknod is not allowed here");
    }
    assert!(matches!(device.is_refused(), OpenError::NotAFile { what: "device" }));
}

#[test]
fn other_users_file_is_refused_marked_or_not() {
    let _test = support::test(20);
    if !is_root() {
        return say("skipped: another user's file: chown needs root");
    }
    for mode in [0o600, 0o1600] {
        let file = Squat::file("other", mode);
        std::os::unix::fs::chown(&file.path, Some(65534), Some(65534)).unwrap();
        assert!(matches!(file.is_refused(), OpenError::OtherOwner { uid: 65534 }));
        assert!(!ipc_shm::list().unwrap().iter().any(|info| info.name == file.name));
    }
}

#[test]
fn file_that_others_may_write_is_refused() {
    let _test = support::test(20);
    for mode in [0o1620, 0o1602, 0o666, 0o620] {
        let file = Squat::file("writable", mode);
        let told = file.is_refused();
        assert!(matches!(told, OpenError::WritableByOthers { mode: told } if told == mode));
    }
}

#[test]
fn hard_link_is_refused_by_either_name() {
    let _test = support::test(20);
    let file = Squat::file("first", 0o1600);
    let link = Squat::new("second");
    fs::hard_link(&file.path, &link.path).unwrap();
    assert!(matches!(file.is_refused(), OpenError::HardLinked { links: 2 }));
    assert!(matches!(link.is_refused(), OpenError::HardLinked { links: 2 }));
    assert_eq!(fs::read(&file.path).unwrap(), [7; 4096]);
}

#[test]
fn file_of_no_bytes_is_refused() {
    let _test = support::test(20);
    let file = Squat::file("empty", 0o600);
    fs::write(&file.path, b"").unwrap();
    assert!(matches!(file.is_refused(), OpenError::Empty));
}

/// From now on linkat(2) in this process answers as before Linux 6.10: a bare descriptor cannot be linked.
fn forbid_empty_path() {
    let flags = std::mem::offset_of!(libc::seccomp_data, args) as u32 + 4 * 8;
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    let load = |at| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: at };
    let unless = |value, skip| libc::sock_filter { code: 0x15, jt: 0, jf: skip, k: value };
    let answer = |what| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: what };
    let mut filter = [
        load(number),
        unless(libc::SYS_linkat as u32, 3),
        load(flags),
        unless(libc::AT_EMPTY_PATH as u32, 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::ENOENT as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: numbers, and a program that lives during the call.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program)
    };
    assert_eq!(installed, 0);
}

#[test]
fn older_kernels_link_names_by_path() {
    let _test = support::test(20);
    let mut child = fork(|| {
        forbid_empty_path();
        let segment = SharedMemory::create(&unique("older"), 16).unwrap();
        let name = segment.name().unwrap();
        assert!(matches!(SharedMemory::create(name, 16), Err(CreateError::AlreadyExists)));
        assert!(SharedMemory::open(name).is_ok());
    });
    assert_eq!(child.wait(), Status::Code(0));
}

/// Runs `test` of this binary again where `mount` has been mounted, or says that this is not allowed.
fn again_with_mount(test: &str, mount: &str) {
    let inside = || std::env::var_os("IPC_SHM_MOUNTED").is_some();
    assert!(!inside(), "the inner test does not come back here");
    let can = |options: &&str| {
        let script = format!("mount -t tmpfs {mount}");
        let outcome = Command::new("unshare").args([options, "sh", "-c", &script]).output();
        outcome.is_ok_and(|output| output.status.success())
    };
    let Some(options) = ["-m", "-Urm"].into_iter().find(can) else {
        return say(&format!("skipped: {test}: neither unshare -m nor -Urm may mount here"));
    };
    let script = format!("mount -t tmpfs {mount} && exec \"$0\" --exact {test} --nocapture");
    let output = Command::new("unshare")
        .args([options, "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("IPC_SHM_MOUNTED", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("1 passed"), "{}", text(&output.stdout));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn full_directory_is_an_error_and_leaves_nothing() {
    let _test = support::test(20);
    if std::env::var_os("IPC_SHM_MOUNTED").is_none() {
        let test = "full_directory_is_an_error_and_leaves_nothing";
        return again_with_mount(test, "-o size=1m none /dev/shm");
    }
    for size in [10 << 20, (1 << 20) + 1, 1 << 40] {
        assert!(matches!(SharedMemory::create("full", size), Err(CreateError::NoSpace)), "{size}");
        assert!(matches!(SharedMemory::create_random(size), Err(CreateError::NoSpace)), "{size}");
        let typed = Segment::leased("full", KIND, size, 0, |_| panic!("there is nothing to fill"));
        assert!(matches!(typed, Err(NameError::Create(CreateError::NoSpace))), "{size}");
    }
    assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
    let segment = SharedMemory::create("full", 1 << 20).unwrap();
    segment.write(0, &[1; 1 << 20]).unwrap();
    assert!(matches!(SharedMemory::create("more", 1), Err(CreateError::NoSpace)));
    drop(segment);
    SharedMemory::create("more", 1 << 20).unwrap();
}

#[test]
fn without_a_directory_names_are_unsupported_and_anonymous_segments_work() {
    let _test = support::test(20);
    if std::env::var_os("IPC_SHM_MOUNTED").is_none() {
        let test = "without_a_directory_names_are_unsupported_and_anonymous_segments_work";
        return again_with_mount(test, "none /dev");
    }
    assert!(!fs::exists("/dev/shm").unwrap());
    assert!(matches!(SharedMemory::create("none", 16), Err(CreateError::Unsupported)));
    assert!(matches!(SharedMemory::open("none"), Err(OpenError::Unsupported)));
    let typed = Segment::named("none", KIND, 16, 0);
    assert!(matches!(typed, Err(NameError::Open(OpenError::Unsupported))));
    assert_eq!(ipc_shm::list().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(ipc_shm::sweep().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    SharedMemory::anonymous(16).unwrap().write(0, b"works").unwrap();
}
