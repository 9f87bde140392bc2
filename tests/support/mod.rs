//! The test kit: real processes, killed at any instruction, and what must be true afterwards.
//!
//! A crate of its own, for the tests of all the others; it rests on std and libc alone.
//!
//! ```text
//! #[test]
//! fn dead_owner_hands_lock_over() {
//!     let _test = support::test(20); // its turn, its leak oracle and its watchdog
//!     …
//! }
//! ```
//!
//! | file       | what it gives                                                                          |
//! |------------|----------------------------------------------------------------------------------------|
//! | `child`    | `fork`, `hold`, `join`, `Child`, `Status`: children that die with their test           |
//! | `shared`   | `shared`, `shared_slice`: accounts and flags that all processes of a test see          |
//! | `until`    | `until`, `asleep`: waiting for a condition instead of for a while                      |
//! | `watchdog` | a hanging test says where it hangs and dies                                            |
//! | `leaks`    | what a test left behind: descriptors, threads, children, names                         |
//! | `step`     | the single-step killer: a death after every instruction of an operation                |
//! | `trace`    | ptrace, as far as `step` needs it                                                      |
//! | `path`     | the way of a victim, and breakpoints on it                                             |
//! | `chaos`    | the random killer: deaths at random times, under load                                  |
//! | `rng`      | random numbers whose seed is printed                                                   |
//! | `example`  | one of the seeds, as a program to run                                                  |
//! | `folder`   | a folder for the files of one test                                                     |
//! | `turn`     | tests that sweep the names of this user take turns, in whatever process they run        |
//! | `procfs`   | what the kernel tells of a process: state, system call, children                       |
//! | `cpu`      | `pin`                                                                                  |
//! | `epoll`    | `Loop`: an event loop of somebody else                                                 |
//! | `times`    | `Times`, `assert_exact`: how long operations took                                      |
//! | `alarms`   | `alarms`, `storm_of_alarms`: signals that interrupt every system call                  |
//! | `say`      | a line on standard error that libtest does not keep back                               |
//! | `loom/`    | threads and a kernel for the models; they include it themselves, for it needs loom     |
#![allow(missing_debug_implementations)] // nobody prints a test
#![allow(clippy::should_implement_trait, clippy::new_without_default)] // nor is it used as a library

mod alarms;
pub mod chaos;
mod child;
mod cpu;
mod epoll;
mod example;
mod folder;
pub mod leaks;
mod path;
pub mod procfs;
mod rng;
mod say;
mod shared;
pub mod step;
mod times;
pub mod trace;
pub mod turn;
mod until;
mod watchdog;

pub use alarms::{alarms, storm_of_alarms};
pub use child::{Change, Child, Status, fork, hold, join};
pub use cpu::pin;
pub use epoll::Loop;
pub use example::example;
pub use folder::Folder;
pub use leaks::{census, unique};
pub use rng::{Rng, seed};
pub use say::say;
pub use shared::{Zero, shared, shared_slice};
pub use times::{Times, assert_exact};
pub use until::{asleep, until, until_within};
pub use watchdog::{alarm, watchdog};

/// What every test starts with; dropped, it calls the watchdog off and then looks for leaks.
#[must_use = "the test is watched as long as this lives"]
pub struct Test {
    // Dropped in this order: the watchdog's own thread must not count as a leak.
    _watchdog: watchdog::Guard,
    _oracle: leaks::Oracle,
}

/// Waits for this test's turn in its process, then watches it: `seconds` at most, and nothing left behind.
#[track_caller]
pub fn test(seconds: u64) -> Test {
    let oracle = leaks::oracle();
    Test { _watchdog: watchdog(seconds), _oracle: oracle }
}
