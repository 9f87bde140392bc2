//! This thread as the registry knows it.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::primitive::AtomicU32;
use crate::robust::Pending;
use crate::{Registry, RegistryError};

/// The calling thread: its token, and where it tells the kernel what to look at when the thread ends.
#[derive(Debug, Clone, Copy)]
pub struct Me {
    pending: Pending,
    /// Names our live word.
    entry: usize,
    token: u32,
    /// It points into this thread's control block.
    not_send: PhantomData<*const ()>,
}

thread_local! {
    static ME: Cell<Me> = const { Cell::new(Me::NOBODY) };
}

impl Me {
    const NOBODY: Me = Me { pending: Pending::NOWHERE, entry: 0, token: 0, not_send: PhantomData };

    /// This thread, entered into the registry at its first call.
    ///
    /// # Errors
    ///
    /// There is no registry or no free slot in it.
    #[inline(always)]
    pub fn get() -> Result<Me, RegistryError> {
        let mut me = ME.get();
        if me.token == 0 {
            me = enter()?;
        }
        Ok(me) // one way out, so that the fields stay in registers
    }

    /// What stands for this thread in a word that somebody owns.
    #[inline(always)]
    pub fn token(&self) -> u32 {
        self.token
    }

    /// The registry that gave the token.
    pub fn registry(&self) -> &'static Registry {
        Registry::get().expect("a thread that has a token has a registry")
    }

    /// Has the kernel mark our live word if this thread ends. So it is already, unless somebody else used the list: a
    /// pthread robust mutex clears it.
    #[inline(always)]
    pub fn arm(&self) {
        self.pending.set(self.entry);
    }

    /// Has the kernel ring `bell` instead if this thread ends: its TID bits are zero, so one sleeper is woken.
    #[inline(always)]
    pub fn name(&self, bell: &AtomicU32) {
        self.pending.set(self.pending.entry(bell));
    }
}

/// The token of this thread as far as it has one: a forked child has none, whatever its parent held.
#[inline(always)]
pub(crate) fn current_token() -> u32 {
    ME.get().token
}

#[cold]
#[inline(never)]
fn enter() -> Result<Me, RegistryError> {
    let (pending, marked) = Pending::of_this_thread();
    let (entry, token) = Registry::get()?.register(pending, marked)?;
    let me = Me { pending, entry, token, not_send: PhantomData };
    ME.set(me);
    Ok(me)
}

/// In a forked child: the copied slot is the parent's.
pub(crate) fn forget_this_thread() {
    let me = ME.replace(Me::NOBODY);
    if me.token != 0 {
        me.pending.set(0);
    }
}
