//! Random numbers from the kernel: the only getrandom call.
#![allow(unsafe_code)]

use std::io;

/// The most that the kernel gives whole or not at all.
const MOST: usize = 256;

/// A number nobody can guess: for names that never collide and for the ids of registries.
///
/// It blocks only in the first moments after boot, until the kernel has gathered entropy.
///
/// # Errors
///
/// The kernel has no getrandom(2), or a sandbox forbids it.
///
/// ```
/// assert_ne!(ipc_shm::random_id()?, ipc_shm::random_id()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn random_id() -> io::Result<u128> {
    random_bytes().map(u128::from_ne_bytes)
}

/// Bytes nobody can guess, 256 at most: for keys and nonces.
///
/// It blocks only in the first moments after boot, until the kernel has gathered entropy.
///
/// # Errors
///
/// As [`random_id`].
///
/// ```
/// let key: [u8; 32] = ipc_shm::random_bytes()?;
/// # assert_ne!(key, ipc_shm::random_bytes()?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[doc(alias = "getrandom")]
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= MOST) };
    let mut bytes = [0; N];
    loop {
        // SAFETY: `bytes` is writable for its length; the kernel keeps no pointer.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        if got == N as isize {
            return Ok(bytes);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {}
            error => return Err(error),
        }
    }
}
