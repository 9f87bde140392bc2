//! Functions by their place in the executable: the only name of one that another process of the program understands.
//!
//! The program is loaded at another address in each process, so an address means nothing outside. An offset from
//! where the main executable begins means the same function wherever the same file runs, if it lies in that file: a
//! function of a shared library has no such offset and is refused.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::ptr;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// Where this process keeps its executable.
#[derive(Debug)]
pub(crate) struct Image {
    base: usize,
    headers: &'static [libc::Elf64_Phdr],
}

impl Image {
    /// The executable of this process.
    pub(crate) fn get() -> &'static Image {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(Image::find)
    }

    fn find() -> Image {
        extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, image: *mut c_void) -> i32 {
            // SAFETY: the loader lends us `info`, and `image` is the option below, which nobody else uses meanwhile.
            // The headers of the main executable stay mapped as long as the process lives.
            unsafe {
                let info = &*info;
                let headers = match info.dlpi_phdr.is_null() {
                    true => &[],
                    false => std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
                };
                *image.cast::<Image>() = Image { base: info.dlpi_addr as usize, headers };
            }
            1 // the first is the main executable; no more
        }
        let mut image = Image { base: 0, headers: &[] };
        // SAFETY: `first` has the type that is called, and `image` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut image).cast()) };
        image
    }

    /// The offset of code; `None` = it is not in the executable.
    pub(crate) fn offset(&self, code: *const ()) -> Option<u64> {
        let offset = code.addr().wrapping_sub(self.base) as u64;
        self.has_code_at(offset).then_some(offset)
    }

    /// The code at `offset`; `None` = there is none.
    pub(crate) fn code(&self, offset: u64) -> Option<*const ()> {
        let address = self.base.wrapping_add(offset as usize);
        self.has_code_at(offset).then(|| ptr::with_exposed_provenance(address))
    }

    fn has_code_at(&self, offset: u64) -> bool {
        self.headers.iter().any(|part| {
            part.p_type == libc::PT_LOAD
                && part.p_flags & libc::PF_X != 0
                && (part.p_vaddr..part.p_vaddr.saturating_add(part.p_memsz)).contains(&offset)
        })
    }
}

/// Which file a process runs. The file of a running program is not written to, and its inode is not used again, so
/// equal inodes are equal programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file of this process, which stays the same one.
    pub(crate) fn own() -> io::Result<Identity> {
        static OWN: OnceLock<Identity> = OnceLock::new();
        match OWN.get() {
            Some(own) => Ok(*own),
            None => Identity::of("/proc/self/exe".as_ref()).map(|own| *OWN.get_or_init(|| own)),
        }
    }

    /// The file at `path`.
    pub(crate) fn of(path: &std::path::Path) -> io::Result<Identity> {
        let status = std::fs::metadata(path)?;
        Ok(Identity { device: status.dev(), inode: status.ino() })
    }
}
