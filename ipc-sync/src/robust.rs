//! This thread's entry in the kernel's list of what to do when a thread ends.
//!
//! glibc registers a robust list for each thread. One field of it, `list_op_pending`, names a word that the
//! kernel looks at when the thread ends, however it ends, after its last write: if the word holds the thread's
//! TID it is marked `FUTEX_OWNER_DIED`; if its TID bits are zero, one sleeper of it is woken. Nothing else of the
//! list is used here, so no pointer lies in shared memory.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst, compiler_fence};

/// The kernel's `struct robust_list_head`.
#[repr(C)]
struct ListHead {
    next: *mut u8,
    futex_offset: isize,
    pending: usize,
}

thread_local! {
    /// Stands in for `list_op_pending` where the thread has no robust list.
    static NOWHERE: Cell<usize> = const { Cell::new(0) };
}

/// Where this thread tells the kernel which word to look at when it ends.
///
/// Neither `Send` nor `Sync`: it points into the thread's own control block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pending {
    at: *mut usize,
    futex_offset: isize,
}

impl Pending {
    pub(crate) const NOWHERE: Pending = Pending { at: null_mut(), futex_offset: 0 };

    /// That of this thread; the flag tells whether the kernel will look.
    pub(crate) fn of_this_thread() -> (Pending, bool) {
        let mut head: *mut ListHead = null_mut();
        let mut size = 0usize;
        // SAFETY: writes a pointer and a size into this frame; 0 = the calling thread.
        let result = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &mut head, &mut size) };
        if result != 0 || head.is_null() || size != size_of::<ListHead>() {
            return (Pending { at: NOWHERE.with(Cell::as_ptr), futex_offset: 0 }, false);
        }
        // SAFETY: the kernel has this head for our thread, so libc keeps it in place until the thread ends.
        let futex_offset = unsafe { (*head).futex_offset };
        // SAFETY: as above; only the address of the field is taken.
        let at = unsafe { &raw mut (*head).pending };
        (Pending { at, futex_offset }, true)
    }

    /// What to store to name `word`.
    pub(crate) fn entry(self, word: &AtomicU32) -> usize {
        word.as_ptr().addr().wrapping_add_signed(self.futex_offset.wrapping_neg())
    }

    /// From here on the kernel looks at the word of `entry` when this thread ends.
    ///
    /// Program order is enough against the kernel, which looks after the thread's last instruction.
    #[inline(always)]
    pub(crate) fn set(self, entry: usize) {
        compiler_fence(SeqCst);
        // SAFETY: `at` is the field of this thread's own list head, or NOWHERE of this thread (`of_this_thread`;
        // a `Pending` does not leave its thread); volatile, because the kernel reads it.
        unsafe { self.at.write_volatile(entry) };
        compiler_fence(SeqCst);
    }
}
