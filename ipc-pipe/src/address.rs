//! Where a listener is to be found.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;

use ipc_shm::random_id;
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// Bytes that the kernel takes as the path of a socket, its final zero not counted.
pub(crate) const MAX_PATH: usize = 107;

/// The place where a [`Listener`](crate::Listener) waits and [`connect`](crate::connect) finds it.
///
/// As text it is `unix:/run/jobs` (or the path alone), `abstract:jobs` or `tcp:host:port`. Bytes of a name that are no text are
/// shown as replacement characters; what another process must have exactly goes there by serde.
///
/// ```
/// use ipc_pipe::Address;
///
/// let address: Address = "tcp:127.0.0.1:5000".parse()?;
/// assert_eq!(address, Address::Tcp("127.0.0.1:5000".into()));
/// assert_eq!(address.to_string().parse::<Address>()?, address);
/// assert_eq!("/run/jobs".parse::<Address>()?, Address::Unix("/run/jobs".into()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[doc(alias = "AF_UNIX")]
#[doc(alias = "AF_INET")]
pub enum Address {
    /// A socket in the file system, for processes of this machine. Its file's mode is 0600.
    Unix(PathBuf),
    /// A name that no file has, for processes in this network namespace. It is gone with its listener.
    Abstract(Vec<u8>),
    /// `host:port`, for other machines. What goes there is authenticated at the beginning, and neither encrypted nor sealed.
    Tcp(String),
}

impl Address {
    /// A path that nobody has, in a directory of its own under `$XDG_RUNTIME_DIR`, or in the one for temporary files. The listener
    /// makes the directory, 0700, and removes it.
    ///
    /// # Panics
    ///
    /// The kernel has no random numbers to give.
    #[doc(alias = "arbitrary_address")]
    pub fn fresh() -> Address {
        let id = random_id().expect("getrandom works");
        let within = |base: PathBuf| base.join(format!("multiprocess-{id:032x}/socket"));
        let fits = |path: &PathBuf| path.as_os_str().len() <= MAX_PATH;
        let path = runtime_dir().map(within).filter(fits);
        let path = path.or_else(|| Some(within(std::env::temp_dir())).filter(fits));
        Address::Unix(path.unwrap_or_else(|| within("/tmp".into())))
    }

    /// Whether only processes of this machine can come there.
    pub fn is_local(&self) -> bool {
        !matches!(self, Address::Tcp(_))
    }
}

/// What the session gave this user for sockets, if it is there and nobody else's.
fn runtime_dir() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let found = path.symlink_metadata().ok()?;
    let private = found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0;
    (path.is_absolute() && private).then_some(path)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Abstract(name) => write!(f, "abstract:{}", String::from_utf8_lossy(name)),
            Address::Tcp(place) => write!(f, "tcp:{place}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let address = match text.split_once(':') {
            Some(("unix", path)) => Address::Unix(path.into()),
            Some(("abstract", name)) => Address::Abstract(name.into()),
            Some(("tcp", place)) => Address::Tcp(place.into()),
            _ if text.contains('/') => Address::Unix(text.into()),
            _ => return Err(AddressError::Unknown),
        };
        address.check().map(|()| address)
    }
}

impl Address {
    /// Whether the kernel would take it.
    pub(crate) fn check(&self) -> Result<(), AddressError> {
        let length = match self {
            Address::Unix(path) if path.as_os_str().as_bytes().contains(&0) => 0,
            Address::Unix(path) => path.as_os_str().len(),
            Address::Abstract(name) => name.len(),
            Address::Tcp(place) => return check_port(place),
        };
        match length {
            0 => Err(AddressError::Unknown),
            1..=MAX_PATH => Ok(()),
            _ => Err(AddressError::TooLong { length }),
        }
    }
}

fn check_port(place: &str) -> Result<(), AddressError> {
    let port = place.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    port.and_then(|port| port.parse::<u16>().ok()).map(drop).ok_or(AddressError::NoPort)
}

/// Why a text, or a name, is no address.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// It is none of `unix:/path`, a path with a slash, `abstract:name`, `tcp:host:port`, or names nothing.
    Unknown,
    /// `tcp:` needs a host and a port.
    NoPort,
    /// The kernel takes 107 bytes of a path or a name.
    TooLong {
        /// Bytes of this one.
        length: usize,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Unknown => {
                f.write_str("an address is unix:/path, a path with a slash, abstract:name or tcp:host:port")
            }
            AddressError::NoPort => f.write_str("a tcp address is tcp:host:port"),
            AddressError::TooLong { length } => {
                write!(f, "the address of a socket has {MAX_PATH} bytes at most, this one {length}")
            }
        }
    }
}

impl std::error::Error for AddressError {}
