//! Random numbers from the kernel: the only getrandom call.
#![allow(unsafe_code)]

use std::io;

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
#[doc(alias = "getrandom")]
pub fn random_id() -> io::Result<u128> {
    let mut bytes = [0u8; 16];
    loop {
        // SAFETY: `bytes` is writable for its length; the kernel keeps no pointer.
        match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
            16 => return Ok(u128::from_ne_bytes(bytes)), // up to 256 bytes come whole or not at all
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}
