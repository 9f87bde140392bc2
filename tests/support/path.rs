//! The way of a victim: where it was before each instruction, so that the next one can be sent to a point of it at
//! full speed, to a breakpoint of the processor.
//!
//! To step there costs two switches of the kernel for each instruction, and all points together the square of that.
#![allow(unsafe_code)]

use std::io;

/// The addresses of the instructions, in the order they ran; the last was not run any more.
#[derive(Debug, Clone, Default)]
pub struct Path(Vec<usize>);

/// A place on a path that a breakpoint finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waypoint {
    /// Its instruction.
    pub address: usize,
    /// The breakpoint is met so often until then.
    pub passes: u64,
    /// Single steps from there.
    pub rest: u64,
}

impl Path {
    /// Instructions that ran.
    pub fn steps(&self) -> u64 {
        self.0.len().saturating_sub(1) as u64
    }

    /// Notes where the stopped `tid` is.
    pub fn note(&mut self, tid: i32) {
        self.0.push(instruction_pointer(tid));
    }

    /// The way to the point after `steps` instructions.
    pub fn waypoint(&self, steps: u64) -> Option<Waypoint> {
        let way = self.0.get(..=usize::try_from(steps).ok()?)?;
        // An instruction that repeats itself is one step each time, and one meeting in all.
        let begins = |at: usize| at == 0 || way[at] != way[at - 1];
        let at = (0..way.len()).rev().find(|&at| begins(at))?;
        let passes = (0..=at).filter(|&earlier| way[earlier] == way[at] && begins(earlier)).count();
        Some(Waypoint { address: way[at], passes: passes as u64, rest: steps - at as u64 })
    }
}

#[cfg(target_arch = "x86_64")]
fn instruction_pointer(tid: i32) -> usize {
    const RIP: usize =
        std::mem::offset_of!(libc::user, regs) + std::mem::offset_of!(libc::user_regs_struct, rip);
    // SAFETY: reads a register of a stopped child of ours; no pointers that the kernel follows.
    unsafe { libc::ptrace(libc::PTRACE_PEEKUSER, tid, RIP, 0usize) as usize }
}

/// Stops the stopped child `tid` from now on whenever it is about to run the instruction at `address`.
#[cfg(target_arch = "x86_64")]
pub(crate) fn set_breakpoint(tid: i32, address: usize) -> io::Result<()> {
    const REGISTERS: usize = std::mem::offset_of!(libc::user, u_debugreg);
    const CONTROL: usize = REGISTERS + 7 * size_of::<usize>();
    /// Register 0, at execution, for this thread.
    const ENABLE: usize = 1;
    for (register, value) in [(REGISTERS, address), (CONTROL, ENABLE)] {
        // SAFETY: writes a register of a stopped child of ours; the kernel refuses addresses of its own.
        if unsafe { libc::ptrace(libc::PTRACE_POKEUSER, tid, register, value) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Nobody asks: without breakpoints every victim is stepped.
#[cfg(not(target_arch = "x86_64"))]
fn instruction_pointer(_: i32) -> usize {
    0
}

/// Not here.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn set_breakpoint(_: i32, _: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
