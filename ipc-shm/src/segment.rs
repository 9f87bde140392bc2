//! `SharedMemory`, the public type: bytes that several processes see.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::error::{CreateError, OpenError};
use crate::lease::{self, Found};
use crate::name::Name;
use crate::{Mapping, OutOfBounds, handle};

/// Bytes that several processes see.
///
/// A named segment is found by its name, as in Python; a random-named one by a name nobody can guess; an
/// anonymous one only by those it is sent to. Every kind can be a field of a message: it travels by descriptor.
/// A clone shares the mapping, and so does a segment that is opened or received twice in one process.
///
/// Nothing blocks here but taking over a name from a process that was stopped while it removed it: 100 ms at
/// most. Who dies takes nothing along: the others keep the bytes as they are, and the name of a killed creator
/// goes to the next [`create`](SharedMemory::create) or [`sweep`](crate::sweep).
///
/// Others may write at any time, so [`read`](SharedMemory::read) and [`write`](SharedMemory::write) copy, and
/// [`atomic_u64`](SharedMemory::atomic_u64) works in place. Words behind a lock want a `Lock` of `ipc-sync`.
///
/// ```
/// use ipc_shm::SharedMemory;
/// use std::sync::atomic::Ordering::Relaxed;
///
/// let mine = SharedMemory::create_random(4096)?;
/// let theirs = SharedMemory::open(mine.name().unwrap())?; // anywhere on this machine
/// mine.write(100, b"hello")?;
/// let mut bytes = [0; 5];
/// theirs.read(100, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// assert_eq!(theirs.atomic_u64(0)?.fetch_add(1, Relaxed), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias = "multiprocessing.shared_memory")]
#[doc(alias = "shm_open")]
pub struct SharedMemory(Arc<Handle>);

struct Handle {
    mapping: Arc<Mapping>,
    name: Option<Name>,
    /// The process that owns the name; a forked child has this handle too, and does not.
    owner: Option<u32>,
}

impl SharedMemory {
    /// A new segment of `size` zero bytes under `name`, which is removed when the last clone of this handle is
    /// dropped.
    ///
    /// The memory is reserved now. The name appears with the complete segment; a stale one is taken over. Whoever
    /// opened or received the segment keeps it after the name is gone. A process that exits without dropping the
    /// handle leaves a stale name.
    ///
    /// # Errors
    ///
    /// See [`CreateError`]: the name is in use or no name, the size is zero or too large, /dev/shm is full.
    ///
    /// ```
    /// # let name = &format!("doc-create-{}", std::process::id());
    /// use ipc_shm::{CreateError, SharedMemory};
    /// let segment = SharedMemory::create(name, 4096)?;
    /// let again = SharedMemory::create(name, 4096);
    /// assert!(matches!(again, Err(CreateError::AlreadyExists)));
    /// # Ok::<(), CreateError>(())
    /// ```
    pub fn create(name: &str, size: usize) -> Result<SharedMemory, CreateError> {
        SharedMemory::publish(Name::new(name)?, size, true)
    }

    /// As [`create`](SharedMemory::create), under a name of 128 random bits.
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    pub fn create_random(size: usize) -> Result<SharedMemory, CreateError> {
        SharedMemory::publish(Name::random()?, size, true)
    }

    /// A new segment of `size` zero bytes without a name, sealed: no peer can shrink it under this process.
    ///
    /// The memory is taken as it is touched. It needs no /dev/shm.
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    ///
    /// ```
    /// let segment = ipc_shm::SharedMemory::anonymous(1 << 20)?;
    /// assert_eq!((segment.len(), segment.name()), (1 << 20, None));
    /// # Ok::<(), ipc_shm::CreateError>(())
    /// ```
    #[doc(alias = "memfd_create")]
    pub fn anonymous(size: usize) -> Result<SharedMemory, CreateError> {
        lease::check_size(size)?;
        let mapping = Mapping::anonymous(c"multiprocess", size)?;
        Ok(SharedMemory(Arc::new(Handle { mapping, name: None, owner: None })))
    }

    /// The segment of this name, whoever made it: this toolkit, Python or C. The name stays its maker's.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]: there is none, or the name leads to something that is not a file of this user alone.
    /// Whatever it is, it was not touched.
    ///
    /// ```
    /// # let name = &format!("doc-none-{}", std::process::id());
    /// use ipc_shm::{OpenError, SharedMemory};
    /// assert!(matches!(SharedMemory::open(name), Err(OpenError::NotFound)));
    /// ```
    pub fn open(name: &str) -> Result<SharedMemory, OpenError> {
        let name = Name::new(name)?;
        let Found::File(file, status) = lease::open(&name)? else { return Err(OpenError::NotFound) };
        let mapping = Mapping::of_status(Arc::new(file), &status)?;
        Ok(SharedMemory(Arc::new(Handle { mapping, name: Some(name), owner: None })))
    }

    /// A segment to be made with more to say about it than a name and a size.
    pub fn options() -> Options {
        Options::default()
    }

    fn publish(name: Name, size: usize, marked: bool) -> Result<SharedMemory, CreateError> {
        let (file, status) = lease::make(size, marked)?;
        let mapping = Mapping::of_status(Arc::new(file), &status)?;
        lease::publish(mapping.descriptor(), &name)?;
        let owner = marked.then(process::id);
        Ok(SharedMemory(Arc::new(Handle { mapping, name: Some(name), owner })))
    }

    /// The name, unless the segment is anonymous. It may lead nowhere by now.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_ref().map(Name::as_str)
    }

    /// Bytes of the segment; as many as were asked for.
    pub fn len(&self) -> usize {
        self.0.mapping.size()
    }

    /// False: there are no segments of zero bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory behind this handle, for typed views.
    pub fn mapping(&self) -> &Arc<Mapping> {
        &self.0.mapping
    }

    /// Copies bytes out of the segment. Others may write them meanwhile: then the copy is a mixture.
    ///
    /// # Errors
    ///
    /// The range leaves the segment; nothing was copied.
    ///
    /// ```
    /// let segment = ipc_shm::SharedMemory::anonymous(8)?;
    /// let mut bytes = [1; 4];
    /// segment.read(4, &mut bytes)?;
    /// assert_eq!(bytes, [0; 4]);
    /// assert!(segment.read(5, &mut bytes).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(&self, offset: usize, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        self.0.mapping.read(offset, bytes)
    }

    /// Copies bytes into the segment. Others may read or write them meanwhile.
    ///
    /// # Errors
    ///
    /// The range leaves the segment; nothing was copied.
    ///
    /// ```
    /// let segment = ipc_shm::SharedMemory::anonymous(8)?;
    /// segment.write(4, b"1234")?;
    /// assert!(segment.write(usize::MAX, b"1").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.0.mapping.write(offset, bytes)
    }

    /// The four bytes at `offset`, in place.
    ///
    /// # Errors
    ///
    /// They leave the segment, or `offset` is no multiple of 4.
    ///
    /// ```
    /// use std::sync::atomic::Ordering::{Acquire, Release};
    /// let segment = ipc_shm::SharedMemory::anonymous(8)?;
    /// segment.atomic_u32(4)?.store(1, Release);
    /// assert_eq!(segment.clone().atomic_u32(4)?.load(Acquire), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn atomic_u32(&self, offset: usize) -> Result<&AtomicU32, OutOfBounds> {
        self.0.mapping.cells(offset)
    }

    /// The eight bytes at `offset`, in place.
    ///
    /// # Errors
    ///
    /// They leave the segment, or `offset` is no multiple of 8.
    ///
    /// ```
    /// let segment = ipc_shm::SharedMemory::anonymous(16)?;
    /// assert!(segment.atomic_u64(8).is_ok());
    /// assert!(segment.atomic_u64(4).is_err());
    /// # Ok::<(), ipc_shm::CreateError>(())
    /// ```
    pub fn atomic_u64(&self, offset: usize) -> Result<&AtomicU64, OutOfBounds> {
        self.0.mapping.cells(offset)
    }

    /// All bytes, in place.
    ///
    /// # Safety
    ///
    /// As long as the slice lives, nobody writes to the segment, neither this process nor any other that has it,
    /// and nobody shortens the file of a named one. Two processes of one program can agree on that; nothing can
    /// force a stranger. [`read`](SharedMemory::read) has no such condition.
    ///
    /// ```
    /// let segment = ipc_shm::SharedMemory::anonymous(4)?;
    /// segment.write(0, b"data")?;
    /// // SAFETY: no other process has this segment, and nothing writes to it here.
    /// assert_eq!(unsafe { segment.as_slice() }, b"data");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub unsafe fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping is readable for `len` bytes, at most isize::MAX, as long as `self` lives; the
        // caller promises that nobody writes them.
        unsafe { std::slice::from_raw_parts(self.0.mapping.base(), self.len()) }
    }

    /// All bytes, in place, to be written.
    ///
    /// # Safety
    ///
    /// As long as the slice lives, nobody else reads or writes the segment, neither through another handle or
    /// clone in this process nor in any other that has it, and nobody shortens the file of a named one.
    ///
    /// ```
    /// let mut segment = ipc_shm::SharedMemory::anonymous(4)?;
    /// // SAFETY: no other process has this segment, and no other handle is in use here.
    /// unsafe { segment.as_mut_slice() }.fill(7);
    /// # Ok::<(), ipc_shm::CreateError>(())
    /// ```
    pub unsafe fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is readable and writable for `len` bytes, at most isize::MAX, as long as `self`
        // lives; the caller promises that nobody else touches them.
        unsafe { std::slice::from_raw_parts_mut(self.0.mapping.base(), self.len()) }
    }

    /// Removes the name now, whoever made it. Those who have the segment keep it.
    ///
    /// # Errors
    ///
    /// `NotFound`: the segment has no name, or its name leads to another segment by now.
    ///
    /// ```
    /// use ipc_shm::{OpenError, SharedMemory};
    /// let segment = SharedMemory::create_random(16)?;
    /// segment.unlink()?;
    /// assert!(matches!(SharedMemory::open(segment.name().unwrap()), Err(OpenError::NotFound)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "shm_unlink")]
    pub fn unlink(&self) -> io::Result<()> {
        let name = self.0.name.as_ref().ok_or(io::ErrorKind::NotFound)?;
        match lease::remove(name, self.0.mapping.inode())? {
            true => Ok(()),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Lets the name outlive everybody: it is neither removed on drop nor swept nor taken over, until somebody
    /// calls [`unlink`](SharedMemory::unlink) or the machine restarts.
    ///
    /// It works from any handle in any process. [`Options::persist`] does it from the start.
    ///
    /// # Errors
    ///
    /// The segment is anonymous (`Unsupported`), or another user's.
    ///
    /// ```
    /// use ipc_shm::SharedMemory;
    /// let segment = SharedMemory::create_random(16)?;
    /// let name = segment.name().unwrap().to_owned();
    /// segment.persist()?;
    /// drop(segment);
    /// SharedMemory::open(&name)?.unlink()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn persist(&self) -> io::Result<()> {
        match self.0.name {
            Some(_) => lease::unmark(&*self.0.mapping),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let (Some(name), Some(owner)) = (&self.name, self.owner) {
            if owner == process::id() {
                let _ = lease::remove_marked(name, self.mapping.inode()); // if this fails, it is stale
            }
        }
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("name", &self.name()).field("len", &self.len()).finish()
    }
}

/// What a segment is on its way: slot of its descriptor, unless it has to be opened by its name; name; length.
type Parcel<N> = (Option<u32>, Option<N>, u64);

impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let descriptor = self.0.mapping.descriptor();
        let slot = handle::lend_named(descriptor, self.name()).map_err(ser::Error::custom)?;
        let parcel: Parcel<&str> = (slot, self.name(), self.len() as u64);
        parcel.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (slot, name, length) = Parcel::<String>::deserialize(deserializer)?;
        let name = name.as_deref().map(Name::new).transpose().map_err(de::Error::custom)?;
        let mapping = match (slot, &name) {
            (None, Some(name)) => {
                SharedMemory::open(name.as_str()).map_err(de::Error::custom)?.0.mapping.clone()
            }
            _ => {
                let descriptor = handle::take(slot.unwrap_or(u32::MAX)).map_err(de::Error::custom)?;
                Mapping::of(descriptor).map_err(de::Error::custom)?
            }
        };
        if mapping.size() as u64 != length {
            return Err(de::Error::custom("shared memory is not as long as the message says"));
        }
        if name.is_none() && !mapping.is_sealed() {
            return Err(de::Error::custom("anonymous shared memory is not sealed against resizing"));
        }
        Ok(SharedMemory(Arc::new(Handle { mapping, name, owner: None })))
    }
}

/// How a segment is to be made; without a word about its name it is anonymous.
///
/// ```
/// use ipc_shm::SharedMemory;
/// let segment = SharedMemory::options().random_name().size(4096).persist(true).create()?;
/// segment.unlink()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is made before create"]
pub struct Options {
    naming: Naming,
    size: usize,
    persist: bool,
}

#[derive(Debug, Clone, Default)]
enum Naming {
    #[default]
    Anonymous,
    Random,
    Given(String),
}

impl Options {
    /// Under this name.
    pub fn name(mut self, name: impl Into<String>) -> Options {
        self.naming = Naming::Given(name.into());
        self
    }

    /// Under a name of 128 random bits.
    pub fn random_name(mut self) -> Options {
        self.naming = Naming::Random;
        self
    }

    /// Of so many bytes.
    pub fn size(mut self, size: usize) -> Options {
        self.size = size;
        self
    }

    /// Whether the name outlives everybody, as after [`SharedMemory::persist`]; without meaning for an anonymous
    /// segment.
    pub fn persist(mut self, persist: bool) -> Options {
        self.persist = persist;
        self
    }

    /// Makes it.
    ///
    /// # Errors
    ///
    /// As [`SharedMemory::create`].
    pub fn create(self) -> Result<SharedMemory, CreateError> {
        match self.naming {
            Naming::Anonymous => SharedMemory::anonymous(self.size),
            Naming::Random => SharedMemory::publish(Name::random()?, self.size, !self.persist),
            Naming::Given(name) => SharedMemory::publish(Name::new(&name)?, self.size, !self.persist),
        }
    }
}
