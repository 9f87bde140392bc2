//! Shared memory between processes.

#[cfg(not(target_os = "linux"))]
compile_error!("multiprocess needs Linux: robust futex lists, memfd seals and O_TMPFILE exist nowhere else");

mod error;
pub mod handle;
mod header;
mod lease;
mod mapping;
mod name;
mod named;
mod place;
mod random;
mod segment;
mod sweep;

pub use error::{CreateError, NameError, OpenError};
pub use handle::Descriptor;
pub use header::{HEADER_SIZE, HeaderError, Kind, Segment, header_bytes, layout_hash};
pub use mapping::Mapping;
pub use name::InvalidName;
pub use named::Origin;
pub use place::{Cells, OutOfBounds, Shareable, View, copy_in, copy_in_padded, copy_out, copy_out_padded};
pub use random::random_id;
pub use segment::{Options, SharedMemory};
pub use sweep::{SegmentInfo, SegmentState, list, sweep};
