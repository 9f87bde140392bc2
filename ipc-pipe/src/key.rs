//! What both sides of a handshake know, and nobody else.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use ipc_shm::random_bytes;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use sha2::Sha256;

/// Nobody's key is longer; a file that is was not meant.
const LONGEST: u64 = 4096;

/// A message authentication code: HMAC-SHA-256.
pub(crate) const MAC: usize = 32;

/// A secret that both sides of a [`connect`](crate::connect) have. It is never sent.
///
/// Whoever listens to a handshake can try keys on it as fast as he can compute: a key is 32 random bytes and not a
/// password. Give it to others in a message, or in a file that only this user may read; the arguments and the environment of
/// a process are no place for it. It is not serializable, so that it goes nowhere by accident, and `Debug` hides it.
///
/// ```
/// use ipc_pipe::Key;
///
/// let key = Key::random()?;
/// let same = Key::new(key.expose())?;
/// assert_eq!(format!("{same:?}"), "Key(..)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "authkey")]
pub struct Key(Arc<[u8]>);

impl Key {
    /// 32 random bytes.
    ///
    /// # Errors
    ///
    /// The kernel has no random numbers to give.
    pub fn random() -> io::Result<Key> {
        random_bytes::<32>().map(|bytes| Key(bytes.as_slice().into()))
    }

    /// These bytes.
    ///
    /// # Errors
    ///
    /// There are none: that would be a key that everybody has.
    pub fn new(bytes: impl AsRef<[u8]>) -> Result<Key, KeyError> {
        match bytes.as_ref() {
            [] => Err(KeyError::Empty),
            bytes => Ok(Key(bytes.into())),
        }
    }

    /// The bytes of a file, all of them, a newline at the end too; 4096 at most.
    ///
    /// # Errors
    ///
    /// The file belongs to another user, or its mode lets others read or write it (wider than 0600), or it has no bytes.
    pub fn read(path: impl AsRef<Path>) -> Result<Key, KeyError> {
        // A pipe in the place of the file must not keep us waiting for its writer.
        let flags = OFlag::O_NONBLOCK.bits();
        let file = File::options().read(true).custom_flags(flags).open(path).map_err(KeyError::Io)?;
        let found = file.metadata().map_err(KeyError::Io)?;
        let (uid, mode) = (found.uid(), found.mode() & 0o7777);
        if !found.is_file() {
            return Err(KeyError::NotAFile);
        }
        if uid != geteuid().as_raw() {
            return Err(KeyError::NotOurs { uid });
        }
        if mode & !0o600 != 0 {
            return Err(KeyError::Exposed { mode });
        }
        let mut bytes = Vec::new();
        file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(KeyError::Io)?;
        if bytes.len() as u64 > LONGEST { Err(KeyError::TooLong) } else { Key::new(bytes) }
    }

    /// The bytes, to be given to somebody who may have them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The code of `parts`, one after the other.
    pub(crate) fn seal(&self, parts: &[&[u8]]) -> [u8; MAC] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `code` is that of `parts`. It takes as long for a wrong code as for the right one.
    pub(crate) fn verify(&self, parts: &[&[u8]], code: &[u8]) -> bool {
        self.mac(parts).verify_slice(code).is_ok()
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("a key of any length will do");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why there is no key.
#[derive(Debug)]
#[non_exhaustive]
pub enum KeyError {
    /// It would have no bytes.
    Empty,
    /// The file has more than 4096 bytes.
    TooLong,
    /// It is a directory, a device or the like.
    NotAFile,
    /// The file belongs to somebody else.
    NotOurs {
        /// Its owner.
        uid: u32,
    },
    /// The mode of the file is wider than 0600.
    Exposed {
        /// What it is.
        mode: u32,
    },
    /// The file cannot be read.
    Io(io::Error),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => f.write_str("a key must not be empty"),
            KeyError::TooLong => write!(f, "a key file has {LONGEST} bytes at most"),
            KeyError::NotAFile => f.write_str("a key is read from a plain file"),
            KeyError::NotOurs { uid } => write!(f, "the key file belongs to user {uid}"),
            KeyError::Exposed { mode } => write!(f, "the key file has mode {mode:04o}, wider than 0600"),
            KeyError::Io(error) => write!(f, "key file: {error}"),
        }
    }
}

impl std::error::Error for KeyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            KeyError::Io(error) => Some(error),
            _ => None,
        }
    }
}
