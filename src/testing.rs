//! `testing!`: processes in tests and doctests, whose `main` is not ours to begin with `init`.

/// Lets tests and doctests spawn processes: it stands for [`init`](crate::init) where `main` belongs to libtest.
///
/// Write it once at the top of a test file, of a crate's `lib.rs` behind `#[cfg(test)]`, or of a doctest. It puts an
/// entry into the program that runs before `main`: in a process that [`Process::spawn`](crate::Process::spawn)
/// started, the entry runs that one function and exits; otherwise it does nothing. It works with `cargo test`, with
/// cargo-nextest, and with tests that have a `main` of their own (`harness = false`). No feature is needed, and a program without this
/// line has nothing of it.
///
/// In such a child, `main` of the standard library has not begun: the main thread has no name, and a stack overflow
/// is a plain SIGSEGV. A crate that says `forbid(unsafe_code)` cannot use it (`deny` is fine), as a static in a
/// section of the program counts as unsafe.
///
/// ```
/// multiprocess::testing!();
///
/// # /*
/// #[test]
/// # */
/// fn child_adds() {
///     let mut process = multiprocess::Process::spawn(|(a, b): (u8, u8)| a + b, (1, 2)).unwrap();
///     assert_eq!(process.join().unwrap(), 3);
/// }
/// # child_adds();
/// ```
#[macro_export]
macro_rules! testing {
    () => {
        const _: () = {
            #[used]
            #[allow(unsafe_code)]
            #[unsafe(link_section = ".init_array")]
            static ENTRY: extern "C" fn() = $crate::test_entry;
        };
    };
}
