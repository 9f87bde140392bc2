//! What other Rust programs use.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicU64;

use raw_sync::locks::{LockImpl, LockInit};

use support::shared_slice;

/// `raw_sync::locks::Mutex`: a plain pthread mutex in shared memory, behind a trait object.
pub(crate) struct RawSync(Box<dyn LockImpl>);

impl RawSync {
    pub(crate) fn new() -> RawSync {
        let room = shared_slice::<AtomicU64>(64).as_ptr().cast_mut().cast::<u8>();
        // SAFETY: 512 bytes of shared memory are more than `size_of` asks for; they are never unmapped, and the second
        // half is what the mutex guards.
        let (mutex, used) = unsafe { raw_sync::locks::Mutex::new(room, room.add(256)) }.unwrap();
        assert!(used <= 256);
        RawSync(mutex)
    }

    #[inline(always)]
    pub(crate) fn pair(&self) {
        drop(self.0.lock().unwrap());
    }
}
