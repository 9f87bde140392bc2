//! Descriptors beside bytes: the only `SCM_RIGHTS` calls.
//!
//! The control buffer is parsed here and not by nix, whose iterator drops raw numbers, and so leaks descriptors, when
//! the kernel says `MSG_CTRUNC`. Whatever the kernel installed is an [`OwnedFd`] before anything else is looked at.
#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of_val, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Most descriptors of one packet; the kernel's `SCM_MAX_FD`.
pub const MAX_DESCRIPTORS: usize = 253;

/// Room for a control message with [`MAX_DESCRIPTORS`], aligned for its header.
const CONTROL: usize = 1040;

/// The kernel's `SO_PASSRIGHTS`.
const PASS_RIGHTS: libc::c_int = 83;

#[repr(C, align(8))]
struct Control([MaybeUninit<u8>; CONTROL]);

const _: () = {
    // SAFETY: arithmetic only.
    let need = unsafe { libc::CMSG_SPACE((MAX_DESCRIPTORS * size_of::<RawFd>()) as u32) };
    assert!(need as usize <= CONTROL);
    assert!(align_of::<libc::cmsghdr>() <= 8);
};

/// A packet and what came with it.
#[derive(Debug)]
pub(crate) struct Received {
    /// Bytes of the packet that were written to the buffer.
    pub(crate) length: usize,
    /// What came beside them, CLOEXEC from birth.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// More came than this process may have open.
    pub(crate) truncated: bool,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is gone from the socket.
    Gone,
    /// It stays in front, and its descriptors in it: what came are duplicates.
    Stays,
}

/// Sends one packet with descriptors. Does not block.
///
/// # Errors
///
/// What sendmsg answers: EAGAIN, ETOOMANYREFS, EPIPE among others; EINTR is retried.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let rights = size_of_val(descriptors);
    if descriptors.is_empty() || descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut control = Control([MaybeUninit::zeroed(); CONTROL]);
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = header(&mut slice, &mut control);
    // SAFETY: `rights` is at most what CONTROL was made for (checked above), so CMSG_SPACE of it fits the buffer and
    // CMSG_FIRSTHDR answers its aligned start; a `BorrowedFd` is a transparent RawFd.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(rights as u32) as usize;
        let message = libc::CMSG_FIRSTHDR(&header);
        (*message).cmsg_level = libc::SOL_SOCKET;
        (*message).cmsg_type = libc::SCM_RIGHTS;
        (*message).cmsg_len = libc::CMSG_LEN(rights as u32) as usize;
        ptr::copy_nonoverlapping(descriptors.as_ptr().cast::<u8>(), libc::CMSG_DATA(message), rights);
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header names one slice, alive and only read, and a control message of ours.
    retry(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &header, flags) }).map(drop)
}

/// Reads one packet, with all descriptors it brought; what does not fit `bytes` is cut off. Does not block.
///
/// Fewer descriptors than were sent means that this process was at its limit.
///
/// # Errors
///
/// What recvmsg answers: EAGAIN, ECONNRESET among others; EINTR is retried.
pub(crate) fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8], then: Then) -> io::Result<Received> {
    let mut control = Control([MaybeUninit::uninit(); CONTROL]);
    let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut header = header(&mut slice, &mut control);
    let peek = if then == Then::Stays { libc::MSG_PEEK } else { 0 };
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | peek;
    // SAFETY: the header names one writable slice and a control buffer of the length it says.
    let length = retry(|| unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) })?;
    // SAFETY: `header` was filled by recvmsg just now and its control buffer is untouched.
    let descriptors = unsafe { adopt(&header) };
    Ok(Received { length, descriptors, truncated: header.msg_flags & libc::MSG_CTRUNC != 0 })
}

/// From now on the kernel lets nobody send descriptors to `socket`. Linux before 6.16 cannot; there they are closed when the
/// bytes beside them are read without asking for them.
pub(crate) fn refuse(socket: BorrowedFd<'_>) {
    let no: libc::c_int = 0;
    // SAFETY: the option is a number of this size, alive during the call; a kernel that does not know it says so.
    unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            PASS_RIGHTS,
            ptr::from_ref(&no).cast(),
            length,
        );
    }
}

fn header(slice: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: a msghdr is plain numbers and pointers, for which zero is valid.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = slice;
    header.msg_iovlen = 1;
    header.msg_control = ptr::from_mut(control).cast();
    header.msg_controllen = CONTROL;
    header
}

/// Takes over every descriptor that the kernel installed, truncated or not.
///
/// # Safety
///
/// `header` was filled by a successful recvmsg; nobody owns these descriptors yet.
unsafe fn adopt(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel wrote whole control messages and told their length in `msg_controllen`; the macros stay within
    // it. A SCM_RIGHTS message holds as many numbers as its length says, all new and nobody's but ours.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = message.as_ref() {
            if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let length = control.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let first = libc::CMSG_DATA(message).cast::<RawFd>();
                let numbers = (0..length / size_of::<RawFd>()).map(|i| first.add(i).read_unaligned());
                descriptors.extend(numbers.map(|number| OwnedFd::from_raw_fd(number)));
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    descriptors
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
