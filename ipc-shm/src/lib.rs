//! Memory that several processes see, and handles that travel inside messages.
//!
//! What Python has in `multiprocessing.shared_memory`, and what the rest of this toolkit rests on: a segment is
//! made, found by its name or received in a message, and from then on each process that has it sees what the
//! others write.
//!
//! ```
//! # let name = &format!("doc-hello-{}", std::process::id());
//! use ipc_shm::SharedMemory;
//!
//! let mine = SharedMemory::create(name, 4096)?;
//! mine.write(0, b"hello")?;
//!
//! // In another process of the same user:
//! let theirs = SharedMemory::open(name)?;
//! let mut bytes = [0; 5];
//! theirs.read(0, &mut bytes)?;
//! assert_eq!(&bytes, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which kind of segment
//!
//! | made by                          | found by                      | the memory goes with     |
//! |----------------------------------|-------------------------------|--------------------------|
//! | [`SharedMemory::create`]         | a name you choose             | its name and last user   |
//! | [`SharedMemory::create_random`]  | a name nobody can guess       | its name and last user   |
//! | [`SharedMemory::anonymous`]      | those it is sent to           | its last user            |
//!
//! Take the last one unless two programs that share nothing else must find each other: it leaves no name behind,
//! needs no /dev/shm, and is sealed, so that nobody can shrink it under you.
//!
//! # Names and how long they live
//!
//! A name has 1 to 255 bytes and no slash; it is the name of a file in /dev/shm, and the same name that Python, C
//! and Boost use. The file appears under it only when it is complete: of full size, backed by memory, filled.
//! Nobody meets it half made, and a creator that is killed on the way leaves nothing.
//!
//! Who creates a segment owns its name: dropping the handle, or its last clone, removes it. Who opens or receives
//! one never does. Those who have the segment keep it when the name is gone. With
//! [`persist`](SharedMemory::persist) the name stays until somebody calls [`unlink`](SharedMemory::unlink).
//!
//! ```
//! # let name = &format!("doc-life-{}", std::process::id());
//! use ipc_shm::{OpenError, SharedMemory};
//!
//! let owner = SharedMemory::create(name, 64)?;
//! let user = SharedMemory::open(name)?;
//! drop(owner);
//! assert!(matches!(SharedMemory::open(name), Err(OpenError::NotFound)));
//! user.write(0, b"the memory is still here")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Who may open a segment
//!
//! The user who made it, and nobody else: its file has mode 0600 whatever the umask, and the sticky bit, by which
//! this toolkit knows its own. What is found under a name is opened only if it is a regular file of this user that
//! nobody else can write and that has no second name. A symbolic link, a FIFO, a device or another user's file is
//! an [`OpenError`] of its own, and is not touched.
//!
//! # What blocks
//!
//! Nothing waits for another process's good will. Opening a name at the very moment another process removes it
//! takes microseconds, or 100 ms at most if that process was stopped in the middle. A large named segment takes as
//! long as the kernel needs to reserve it, about 0.1 s for a gigabyte; an anonymous one takes its memory page by
//! page as it is touched.
//!
//! # What happens when a process dies
//!
//! Nothing happens to the memory: the others keep it and what was last written to it, perhaps half of what was
//! meant. The locks of `ipc-sync` tell their next owner of a death; bytes alone cannot.
//!
//! A killed creator cannot remove its name. Each user of a name holds a lease on it that the kernel ends with the
//! user, so a name without living users is known to be stale: the next [`create`](SharedMemory::create) takes it
//! over, and [`sweep`] removes all that are left. No helper process keeps lists, and no name is ever removed under
//! a living user. Files without the mark, such as Python's, are never removed at all.
//!
//! # Reading and writing
//!
//! Another process may write at any moment, so there is no safe `&[u8]` of a segment.
//! [`read`](SharedMemory::read) and [`write`](SharedMemory::write) copy, checked against the bounds; a copy that
//! races with a writer is a mixture of old and new and nothing worse. Atomic words are used in place:
//!
//! ```
//! use std::sync::atomic::Ordering::{Acquire, Release};
//!
//! let segment = ipc_shm::SharedMemory::anonymous(4096)?;
//! segment.write(64, b"an answer")?;
//! segment.atomic_u32(0)?.store(1, Release); // after the bytes it announces
//!
//! // The other side:
//! if segment.atomic_u32(0)?.load(Acquire) == 1 {
//!     let mut answer = [0; 9];
//!     segment.read(64, &mut answer)?;
//!     assert_eq!(&answer, b"an answer");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Structures of plain numbers are [`Shareable`], structures of atomics are [`Cells`]. A [`Segment`] has a header
//! that tells its kind and layout, so that two versions of a program never take each other's bytes for something
//! else; all other types of the toolkit live in such segments.
//!
//! # Handles in messages
//!
//! A [`SharedMemory`] or a [`Descriptor`] is a plain serde field. Inside a message of a transport of this toolkit
//! it takes its descriptor along; a segment that is received twice is mapped once. Anywhere else (a JSON file, a
//! socket of your own) serializing it is an error and not a dead number. Module [`handle`] has the table that a
//! transport of your own would open around its messages.
//!
//! # What is not done
//!
//! - Segments do not grow. Make a larger one and send it.
//! - No locks: see `ipc-sync`. No messages: see `ipc-pipe` and `ipc-queue`.
//! - Nothing protects you from a process of the same user that writes wrong bytes, or cuts the file of a named
//!   segment short. Both are outside any safe use of this crate; an anonymous segment cannot be cut.
//! - A process that calls `exit` or is killed drops nothing: its names are stale, not gone.
//! - A process that forks shares its handles with the child. The child owns no names.
//! - Linux only; names need a tmpfs at /dev/shm, and before Linux 6.10 also /proc.

#[cfg(not(target_os = "linux"))]
compile_error!("multiprocess needs Linux: robust futex lists, memfd seals and O_TMPFILE exist nowhere else");

mod error;
pub mod fork;
pub mod handle;
mod header;
mod lease;
mod mapping;
mod name;
mod named;
mod parcel;
mod per_process;
mod place;
mod random;
mod segment;
mod sweep;

pub use error::{CreateError, NameError, OpenError};
pub use handle::Descriptor;
pub use header::{HEADER_SIZE, HeaderError, Kind, Segment, header_bytes, layout_hash};
pub use mapping::{Mapping, sealed_file};
pub use name::InvalidName;
pub use named::Origin;
pub use parcel::{Parcel, ParcelError};
pub use per_process::PerProcess;
pub use place::{Cells, OutOfBounds, Shareable, View, copy_in, copy_in_padded, copy_out, copy_out_padded};
pub use random::{random_bytes, random_id};
pub use segment::{Options, SharedMemory};
pub use sweep::{SegmentInfo, SegmentState, list, sweep};
