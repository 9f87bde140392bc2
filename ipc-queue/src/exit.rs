//! The end of a process waits until its backlogs are in their rings.
//!
//! It is an exit handler of libc's: it also runs when `exit` is called from C, and after the destructors of
//! thread-locals, none of which it uses. It gives up when nobody else has the queue, for then nobody will make room.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ipc_shm::PerProcess;
use parking_lot::Mutex;

use crate::raw::RawQueue;
use crate::user::User;

/// For so long nobody else may have the queue: it may be on its way in a message.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

/// Between two looks at the backlogs.
const LOOK: Duration = Duration::from_millis(2);

/// The queues of this process that had a backlog.
static WATCHED: PerProcess<Mutex<Vec<Weak<RawQueue>>>> = PerProcess::new();

/// Has the end of this process wait for the queue's backlog.
pub(crate) fn watch(queue: &Arc<RawQueue>) {
    static HANDLER: AtomicBool = AtomicBool::new(false); // a forked child inherits the handler with this flag
    if !HANDLER.swap(true, Relaxed) {
        // SAFETY: `flush` is a function for ever, and unwinds nowhere: it panics nowhere.
        unsafe { libc::atexit(flush) };
    }
    let mut watched = WATCHED.get().lock();
    watched.retain(|known| known.strong_count() > 0 && known.as_ptr() != Arc::as_ptr(queue));
    watched.push(Arc::downgrade(queue));
}

extern "C" fn flush() {
    // Whoever holds the lock is between two lines of `watch`, so it is not held for long.
    let Some(watched) = WATCHED.get().try_lock_for(GRACE) else { return };
    let queues: Vec<_> =
        watched.iter().filter_map(Weak::upgrade).filter(|queue| left_of(queue) > 0).map(User::of).collect();
    drop(watched);
    queues.iter().for_each(|queue| queue.presence.leave());
    let (mut last, mut since) = (usize::MAX, Instant::now());
    loop {
        let left: usize = queues.iter().map(|queue| left_of(queue)).sum();
        if left == 0 {
            return;
        }
        if left != last || queues.iter().any(|queue| left_of(queue) > 0 && queue.presence.is_held()) {
            (last, since) = (left, Instant::now());
        } else if since.elapsed() > GRACE {
            return give_up(left);
        }
        thread::sleep(LOOK);
    }
}

/// Items that must not be left behind.
fn left_of(queue: &RawQueue) -> usize {
    let here = queue.here.get();
    if here.may_leave.load(Relaxed) { 0 } else { here.waiting() }
}

fn give_up(left: usize) {
    let pid = std::process::id();
    let line =
        format!("multiprocess: process {pid} ends, nobody else has its queue: {left} items are lost\n");
    // SAFETY: pointer and length of a living string. If standard error is gone nobody can be told.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}
