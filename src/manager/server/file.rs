//! A file that is there whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ipc_shm::random_id;

/// Only this user may read it, whatever the umask.
const MODE: u32 = 0o600;

/// Puts a file at `path`, in place of what is there. It is on the disk when this returns; if this fails, what was there is there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let (Some(name), Some(directory)) = (path.file_name(), path.parent()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{:032x}", random_id()?));
    let hidden = directory.join(hidden);
    let done = write(&hidden, bytes).and_then(|()| fs::rename(&hidden, path));
    match done {
        Ok(()) => File::open(directory)?.sync_all(),
        Err(why) => {
            let _ = fs::remove_file(&hidden);
            Err(why)
        }
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// All bytes of the file at `path`, or only the first ones if these are others than `magic`: nobody waits for a large file that is
/// no use.
pub(super) fn read(path: &Path, magic: &[u8]) -> io::Result<Vec<u8>> {
    // A fifo would hold the server up.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a plain file"));
    }
    let mut bytes = Vec::new();
    Read::take(&file, magic.len() as u64).read_to_end(&mut bytes)?;
    if bytes == magic {
        file.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
