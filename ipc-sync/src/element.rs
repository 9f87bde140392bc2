//! One value in shared memory that is always whole: old or new, whoever reads, writes or dies.
//!
//! Up to 8 bytes it is one atomic. What is larger lies twice: a store fills the room that nobody reads and then turns
//! to it, and that turn is one instruction. So there is nothing to mend after a death, and a load needs no lock: it
//! copies, and looks whether the value was replaced meanwhile. Stores of larger values exclude each other by the lock
//! of whoever has the element; a store without it leaves a wrong value, and nothing worse.
//!
//! A load that is disturbed too often raises a flag, and the next store pauses until a load has lowered it: so who
//! stores all the time does not keep others from reading. The pause has an end, for who raised the flag may be dead.
//! Who is stopped or dies in a store disturbs nobody, for it was filling the other room.
//!
//! ```text
//! up to 8 bytes   an atomic of that size, rounded up to a power of two
//!
//! larger (n bytes, m = n rounded up to 8)
//!     0  8  turn    bits 0..63 how often it was stored; the lowest is the room that holds the value   63 STARVED
//!     8  m  room 0
//! 8 + m  m  room 1
//! ```
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, fence};
use std::time::Duration;

use ipc_shm::{HEADER_SIZE, Segment, Shareable, copy_in_padded, copy_out_padded, layout_hash};

use crate::Deadline;
use crate::integer::Integer;
use crate::primitive::{AtomicU32, AtomicU64, Ordering::*, yield_now};

const WORD: usize = size_of::<u64>();

/// Copies that were disturbed by stores, after which a load asks for a pause.
const LOOKS: u32 = 100;

/// In `turn`: a load was disturbed so often. It goes with the load's end, or with the next store.
const STARVED: u64 = 1 << 63;

/// A store pauses so long at most: time for a copy by somebody who has to get a processor first.
const PAUSE: Duration = Duration::from_millis(10);

/// A hash of the type's name: with size and alignment, what both sides must agree on. The compiler gives the name at
/// run time only, so it lies beside the value.
pub(crate) fn type_hash<T>() -> u64 {
    layout_hash(std::any::type_name::<T>())
}

/// What can be told of a type at compile time.
pub(crate) const fn shape<T>() -> u64 {
    (size_of::<T>() as u64) << 32 | align_of::<T>() as u64
}

/// Memory for one element, aligned to 8. The types below are only there for its size.
#[repr(transparent)]
pub(crate) struct Room<T>(UnsafeCell<MaybeUninit<Layout<T>>>);

#[repr(C)]
struct Layout<T> {
    turn: u64,
    rooms: [Padded<T>; 2],
}

#[repr(C)]
struct Padded<T> {
    words: [u64; 0],
    bytes: Packed<T>,
}

/// A `T` that needs no more than the alignment of a cell.
#[repr(C, packed(8))]
struct Packed<T>(MaybeUninit<T>);

// SAFETY: the memory is touched through `Element` alone, with atomics and with copies that bear other writers; `T` is
// plain data.
unsafe impl<T: Shareable> Sync for Room<T> {}

impl<T: Shareable> Room<T> {
    #[inline(always)]
    pub(crate) fn element(&self) -> Element<'_, T> {
        const { assert!(Element::<T>::BYTES <= size_of::<Self>() && align_of::<Self>() == WORD) };
        Element { at: NonNull::from(&self.0).cast(), lives: PhantomData }
    }
}

/// So many elements in a row, in a segment of which nothing can be cut off.
#[derive(Clone)]
pub(crate) struct Elements<T> {
    segment: Segment,
    first: usize,
    len: usize,
    of: PhantomData<fn() -> T>,
}

impl<T: Shareable> Elements<T> {
    /// Bytes of `len` of them; `None` = more than there can be.
    pub(crate) fn size(len: usize) -> Option<usize> {
        Element::<T>::BYTES.checked_mul(len)
    }

    /// Those from `first` in the body of `segment` up to its end; `None` if there are more or fewer.
    pub(crate) fn new(segment: Segment, first: usize, len: usize) -> Option<Self> {
        let end = Self::size(len)?.checked_add(first)?;
        let fits = end == segment.size() && first % WORD == 0;
        fits.then_some(Elements { segment, first, len, of: PhantomData })
    }

    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> Option<Element<'_, T>> {
        if index >= self.len {
            return None;
        }
        let offset = HEADER_SIZE + self.first + index * Element::<T>::BYTES;
        // SAFETY: `new` saw that `len` elements lie in the segment, whose size is fixed and which is mapped as long as
        // `self` lives; the base of a mapping is not null.
        let at = unsafe { NonNull::new_unchecked(self.segment.mapping().base().add(offset)) };
        Some(Element { at, lives: PhantomData })
    }
}

/// Where one value lies. For as long as `'a`, `BYTES` bytes from `at` on are mapped, and aligned for its atomics: to 8,
/// or to their power of two if they are fewer.
pub(crate) struct Element<'a, T> {
    at: NonNull<u8>,
    lives: PhantomData<&'a T>,
}

impl<T> Clone for Element<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Element<'_, T> {}

impl<'a, T: Shareable> Element<'a, T> {
    /// Bytes from one element to the next.
    pub(crate) const BYTES: usize = match size_of::<T>() {
        0 => panic!("a value without bytes needs no shared memory"),
        small if small <= WORD => small.next_power_of_two(),
        large => WORD + 2 * large.next_multiple_of(WORD),
    };

    /// One atomic holds it: a store needs no lock.
    pub(crate) const IS_SMALL: bool = size_of::<T>() <= WORD;

    /// The value. A large one is copied until no store has disturbed it.
    #[inline(always)]
    pub(crate) fn load(self) -> T {
        if Self::IS_SMALL { self.load_small() } else { self.load_large() }
    }

    /// The value, for whoever keeps others from storing.
    #[inline(always)]
    pub(crate) fn load_undisturbed(self) -> T {
        if Self::IS_SMALL { self.load_small() } else { self.copy_out(self.turn().load(Acquire)) }
    }

    /// Replaces the value, by one instruction at the end. Large values are stored one at a time: the caller has the
    /// lock.
    #[inline(always)]
    pub(crate) fn store(self, value: T) {
        if Self::IS_SMALL { self.store_small(value) } else { self.store_large(value) }
    }

    #[inline(always)]
    fn load_small(self) -> T {
        let at = self.at.as_ptr();
        // SAFETY: `at` is mapped and aligned for an atomic of `BYTES` bytes during `'a`, and any bits are a `T`.
        unsafe {
            match Self::BYTES {
                1 => from_word(AtomicU8::from_ptr(at).load(SeqCst)),
                2 => from_word(AtomicU16::from_ptr(at.cast()).load(SeqCst)),
                4 => from_word(AtomicU32::from_ptr(at.cast()).load(SeqCst)),
                _ => from_word(AtomicU64::from_ptr(at.cast()).load(SeqCst)),
            }
        }
    }

    #[inline(always)]
    fn store_small(self, value: T) {
        let at = self.at.as_ptr();
        // SAFETY: as in `load_small`.
        unsafe {
            match Self::BYTES {
                1 => AtomicU8::from_ptr(at).store(into_word(value), SeqCst),
                2 => AtomicU16::from_ptr(at.cast()).store(into_word(value), SeqCst),
                4 => AtomicU32::from_ptr(at.cast()).store(into_word(value), SeqCst),
                _ => AtomicU64::from_ptr(at.cast()).store(into_word(value), SeqCst),
            }
        }
    }

    #[inline]
    fn load_large(self) -> T {
        let look = |_| self.copy_undisturbed(self.turn().load(Acquire));
        (0..LOOKS).find_map(look).unwrap_or_else(|| self.load_starved())
    }

    /// Has the next store pause, as often as it takes.
    #[cold]
    #[inline(never)]
    fn load_starved(self) -> T {
        let look = |()| self.copy_undisturbed(self.turn().fetch_or(STARVED, AcqRel));
        let value = std::iter::repeat(()).find_map(look).expect("it goes on until there is one");
        self.turn().fetch_and(!STARVED, Release);
        value
    }

    /// A copy of what was stored as the one of this turn; `None` = it was replaced meanwhile.
    #[inline(always)]
    fn copy_undisturbed(self, turn: u64) -> Option<T> {
        let value = self.copy_out(turn);
        fence(Acquire); // the copy is complete before the second look
        ((self.turn().load(Relaxed) ^ turn) & !STARVED == 0).then_some(value)
    }

    #[inline]
    fn store_large(self, value: T) {
        let turn = self.turn().load(Relaxed);
        if turn & STARVED != 0 {
            self.pause();
        }
        let next = turn.wrapping_add(1) & !STARVED;
        fence(Release); // whoever sees a byte of the new value sees the turn before it, too
        let source = (&raw const value).cast();
        // SAFETY: `value` is ours; the room has place for it, rounded up to 8, and is aligned to 8.
        unsafe { copy_in_padded(self.room(next), source, size_of::<T>()) };
        self.turn().store(next, Release);
    }

    /// Lets a load have its copy, which lies in the room that the next store but one would fill.
    #[cold]
    #[inline(never)]
    fn pause(self) {
        let end = Deadline::after(PAUSE);
        while self.turn().load(Relaxed) & STARVED != 0 && !end.has_passed() {
            yield_now();
        }
    }

    fn copy_out(self, turn: u64) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the room holds a value rounded up to 8 bytes, and is aligned to 8; after the copy all of `value` is
        // written, and any bits are a `T`.
        unsafe {
            copy_out_padded(value.as_mut_ptr().cast(), self.room(turn), size_of::<T>());
            value.assume_init()
        }
    }

    fn turn(self) -> &'a AtomicU64 {
        // SAFETY: a large element begins with this word, mapped and aligned to 8 during `'a`.
        unsafe { AtomicU64::from_ptr(self.at.as_ptr().cast()) }
    }

    fn room(self, turn: u64) -> *mut u8 {
        let offset = WORD + (turn & 1) as usize * size_of::<T>().next_multiple_of(WORD);
        // SAFETY: both rooms lie within the element.
        unsafe { self.at.as_ptr().add(offset) }
    }

    /// The atomic that holds it.
    #[inline(always)]
    pub(crate) fn atomic(self) -> &'a T::Atomic
    where
        T: Integer,
    {
        const { assert!(size_of::<T::Atomic>() == Self::BYTES && align_of::<T::Atomic>() == Self::BYTES) };
        // SAFETY: mapped and aligned during `'a`; an atomic integer is valid for any bits.
        unsafe { self.at.cast::<T::Atomic>().as_ref() }
    }
}

/// The value whose bytes are the first ones of `word`.
#[inline(always)]
fn from_word<T: Shareable, W: Copy>(word: W) -> T {
    // SAFETY: any bits are a `T`; that `word` is not too short for it is asserted by the call.
    unsafe { std::mem::transmute_copy(&word) }
}

/// A word that begins with the bytes of `value`; the others are zero.
#[inline(always)]
fn into_word<T: Shareable, W: Integer>(value: T) -> W {
    assert!(size_of::<T>() <= size_of::<W>());
    let mut word = MaybeUninit::<W>::zeroed();
    // SAFETY: the word has room for the value and may lie at any address; zeroed and written over, it is an integer.
    unsafe {
        word.as_mut_ptr().cast::<T>().write_unaligned(value);
        word.assume_init()
    }
}
