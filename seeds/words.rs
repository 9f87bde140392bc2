//! Lines, words and bytes, as `LC_ALL=C.UTF-8 wc` counts them.
//!
//! A word begins with a printable character and ends at a white one. What is neither, such as a control character,
//! neither begins nor ends one: so does `wc` up to coreutils 9.4. Words are for text only: a file that is not valid
//! UTF-8 has lines and bytes.
#![allow(unsafe_code)] // what is printable is the C library's to say

use std::io::{self, Read};
use std::ops::AddAssign;
use std::str;
use std::sync::LazyLock;

/// What is in a file, or in many.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Counts {
    /// Newlines.
    pub(crate) lines: u64,
    /// Words of what is text.
    pub(crate) words: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.lines += other.lines;
        self.words += other.words;
        self.bytes += other.bytes;
    }
}

/// Reads a file to its end, in pieces. Answers the counts, and whether it is text.
pub(crate) fn count(file: &mut impl Read) -> io::Result<(Counts, bool)> {
    let mut counter = Counter::default();
    let mut buffer = vec![0; 64 << 10];
    let mut kept = 0; // bytes of a character that the last piece cut
    loop {
        let length = match file.read(&mut buffer[kept..]) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(counter.end(kept));
        }
        counter.counts.bytes += length as u64;
        counter.counts.lines += newlines(&buffer[kept..kept + length]);
        let piece = kept + length;
        let rest = counter.text(&buffer[..piece]);
        buffer.copy_within(piece - rest..piece, 0);
        kept = rest;
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[derive(Default)]
struct Counter {
    counts: Counts,
    in_word: bool,
    not_text: bool,
}

impl Counter {
    /// Counts the words of a piece; answers how many bytes at its end begin a character that comes with the next.
    fn text(&mut self, piece: &[u8]) -> usize {
        if self.not_text {
            return 0;
        }
        let (valid, rest) = match str::from_utf8(piece) {
            Ok(text) => (text, 0),
            Err(error) => {
                self.not_text = error.error_len().is_some();
                let (valid, rest) = piece.split_at(error.valid_up_to());
                (str::from_utf8(valid).unwrap_or_default(), rest.len())
            }
        };
        self.words(valid);
        if self.not_text { 0 } else { rest }
    }

    fn words(&mut self, text: &str) {
        for c in text.chars() {
            match class(c) {
                Class::White => self.in_word = false,
                Class::Printable => {
                    self.counts.words += u64::from(!self.in_word);
                    self.in_word = true;
                }
                Class::Other => (),
            }
        }
    }

    fn end(mut self, cut: usize) -> (Counts, bool) {
        let is_text = !self.not_text && cut == 0;
        if !is_text {
            self.counts.words = 0;
        }
        (self.counts, is_text)
    }
}

#[derive(Clone, Copy)]
enum Class {
    White,
    Printable,
    Other,
}

fn class(c: char) -> Class {
    match c {
        '\t'..='\r' | ' ' => Class::White,
        '!'..='~' => Class::Printable,
        _ if !is_printable(c) => Class::Other,
        // Unicode calls the word joiner no white space; wc does.
        _ if c.is_whitespace() || c == '\u{2060}' => Class::White,
        _ => Class::Printable,
    }
}

unsafe extern "C" {
    /// Of <wctype.h>; the libc crate has it not.
    fn iswprint_l(c: libc::c_uint, locale: libc::locale_t) -> libc::c_int;
}

struct Locale(libc::locale_t);

// SAFETY: a locale object is never changed after it was made.
unsafe impl Send for Locale {}
// SAFETY: as above.
unsafe impl Sync for Locale {}

static UTF8: LazyLock<Locale> = LazyLock::new(|| {
    // SAFETY: the name ends with a NUL; a null base asks for a new object, which lives as long as the process.
    Locale(unsafe { libc::newlocale(libc::LC_CTYPE_MASK, c"C.UTF-8".as_ptr(), std::ptr::null_mut()) })
});

fn is_printable(c: char) -> bool {
    if UTF8.0.is_null() {
        return !c.is_control(); // a C library without C.UTF-8
    }
    // SAFETY: the locale is alive, and any number may be asked for.
    unsafe { iswprint_l(c.into(), UTF8.0) != 0 }
}
