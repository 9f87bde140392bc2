//! The only file that maps memory: one descriptor, one shared mapping of all of it.
//!
//! A segment that arrives twice in one process is mapped once: living mappings are found again by the inode
//! behind their descriptor.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::unistd::ftruncate;
use parking_lot::Mutex;

use crate::PerProcess;
use crate::lease::{Inode, LastUser, inode};
use crate::name::Name;

/// What no peer may do to an anonymous segment: a shrunk file under a mapping is a SIGBUS.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW);

static LIVING: PerProcess<Mutex<HashMap<Inode, Weak<Mapping>>>> = PerProcess::new();

/// A new file of `size` zero bytes in memory, which has no name and is sealed against resizing: what is to be read and
/// written, and not mapped.
///
/// # Errors
///
/// What the kernel answers: too many descriptors, no memory.
pub fn sealed_file(label: &CStr, size: usize) -> io::Result<OwnedFd> {
    let descriptor = memfd_create(label, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let length = size.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    ftruncate(&descriptor, length)?;
    fcntl(&descriptor, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(descriptor)
}

/// All bytes of one shared segment, and the descriptor they came from.
///
/// The memory may be written by other processes at any time, so no reference to plain data is ever made:
/// see [`View`](crate::View) for atomics in place and [`Mapping::read`] for copies.
pub struct Mapping {
    descriptor: Arc<OwnedFd>,
    map: MmapRaw,
    inode: Inode,
    /// Looks for other users once this mapping and its descriptor, both of which hold the lease, are gone:
    /// fields are dropped in this order.
    last_user: OnceLock<LastUser>,
}

impl Mapping {
    /// A new anonymous segment of `size` zero bytes, backed lazily, sealed against resizing.
    ///
    /// `label` shows in `/proc/PID/maps` and has no other meaning.
    ///
    /// # Errors
    ///
    /// What the kernel answers: too many descriptors, no memory, a size of zero or beyond the address space.
    pub fn anonymous(label: &CStr, size: usize) -> io::Result<Arc<Mapping>> {
        Mapping::of(Arc::new(sealed_file(label, size)?))
    }

    /// A new anonymous segment of `size` zero bytes of which only the first `front` are mapped; see
    /// [`part`](Mapping::part).
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Mapping::anonymous).
    pub fn anonymous_front(label: &CStr, front: usize, size: usize) -> io::Result<Arc<Mapping>> {
        Mapping::front(Arc::new(sealed_file(label, size)?), front)
    }

    /// The mapping of the first `front` bytes of `descriptor`'s file; the one this process already has of the file if it
    /// has one, which may be of another size.
    ///
    /// # Errors
    ///
    /// As [`of`](Mapping::of), and the file is shorter.
    pub fn front(descriptor: Arc<OwnedFd>, front: usize) -> io::Result<Arc<Mapping>> {
        let mut status = fstat(&descriptor)?;
        if usize::try_from(status.st_size).is_ok_and(|size| size < front) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        status.st_size = front.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        Mapping::of_status(descriptor, &status)
    }

    /// Another mapping, of `length` bytes of the same file from `offset` on, a multiple of the page size. It is left out
    /// of core dumps.
    ///
    /// # Errors
    ///
    /// The file ends before, or the kernel refuses the mapping.
    pub fn part(&self, offset: usize, length: usize) -> io::Result<Arc<Mapping>> {
        let size = usize::try_from(fstat(&*self.descriptor)?.st_size).unwrap_or(0);
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = MmapOptions::new().offset(offset as u64).len(length).map_raw(&*self.descriptor)?;
        let _ = map.advise(Advice::DontDump); // only a wish
        let (descriptor, inode) = (self.descriptor.clone(), self.inode);
        Ok(Arc::new(Mapping { descriptor, map, inode, last_user: OnceLock::new() }))
    }

    /// Gives the memory behind `length` bytes of the file from `offset` on back to the kernel: they are zero from now on.
    pub fn release(&self, offset: usize, length: usize) {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        if let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) {
            let _ = fallocate(&*self.descriptor, hole, offset, length); // then it stays ours
        }
    }

    /// The mapping of all of `descriptor`'s file; the one this process already has if it has one.
    ///
    /// # Errors
    ///
    /// The descriptor is not a readable and writable file, or is empty, or the kernel refuses the mapping.
    pub fn of(descriptor: Arc<OwnedFd>) -> io::Result<Arc<Mapping>> {
        let status = fstat(&descriptor)?;
        Mapping::of_status(descriptor, &status)
    }

    /// [`Mapping::of`] for a caller who knows the file already.
    pub(crate) fn of_status(descriptor: Arc<OwnedFd>, status: &FileStat) -> io::Result<Arc<Mapping>> {
        if status.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "descriptor is not shared memory"));
        }
        let inode = inode(status);
        let mut living = LIVING.get().lock();
        if let Some(mapping) = living.get(&inode).and_then(Weak::upgrade) {
            return Ok(mapping);
        }
        let size =
            usize::try_from(status.st_size).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let map = MmapOptions::new().len(size).map_raw(&*descriptor)?;
        let mapping = Arc::new(Mapping { descriptor, map, inode, last_user: OnceLock::new() });
        living.insert(inode, Arc::downgrade(&mapping));
        Ok(mapping)
    }

    /// Bytes that are mapped, the file's size when it was mapped.
    pub fn size(&self) -> usize {
        self.map.len()
    }

    /// The descriptor, shared: it closes with the last of its users.
    pub fn descriptor(&self) -> &Arc<OwnedFd> {
        &self.descriptor
    }

    /// Which file is mapped.
    pub(crate) fn inode(&self) -> Inode {
        self.inode
    }

    /// Has the name removed when the last user of the file leaves.
    pub(crate) fn remove_with_last_user(&self, name: Name) {
        self.last_user.get_or_init(|| LastUser { name, inode: self.inode });
    }

    /// The name that goes with the last user of the file.
    pub(crate) fn leased_name(&self) -> Option<&Name> {
        self.last_user.get().map(|user| &user.name)
    }

    /// Whether nobody can shrink or grow the file behind this mapping any more.
    pub fn is_sealed(&self) -> bool {
        is_sealed(&*self.descriptor)
    }

    /// The first byte. Valid for reads and writes of `size` bytes as long as `self` lives; others may write it
    /// at any time.
    pub fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }
}

impl AsFd for Mapping {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let mut living = LIVING.get().lock();
        if living.get(&self.inode).is_some_and(|weak| weak.strong_count() == 0) {
            living.remove(&self.inode);
        }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("size", &self.size()).field("descriptor", &self.descriptor).finish()
    }
}

/// Whether the file can neither shrink nor grow any more.
pub(crate) fn is_sealed(descriptor: impl AsFd) -> bool {
    fcntl(descriptor, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_truncate(seals).contains(SEALS))
}
