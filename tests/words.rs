//! The counts of the main seed are those of `wc`, byte for byte and character for character.

#[path = "../seeds/words.rs"]
mod words;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Folder, Rng, say, seed};
use words::count;

/// Lines, words and bytes of each file, by `wc`.
fn wc(files: &[PathBuf]) -> Vec<[u64; 3]> {
    let list = files.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join("\0");
    let list_file = files[0].with_file_name("list");
    fs::write(&list_file, list).unwrap();
    let mut wc = Command::new("wc");
    wc.arg("-lwc").arg(format!("--files0-from={}", list_file.display()));
    let output = wc.env("LC_ALL", "C.UTF-8").env_remove("POSIXLY_CORRECT").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers = |line: &str| {
        let mut words = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
        [(); 3].map(|()| words.next().unwrap())
    };
    text.lines().take(files.len()).map(numbers).collect()
}

fn ours(path: &Path) -> ([u64; 3], bool) {
    let (counts, is_text) = count(&mut fs::File::open(path).unwrap()).unwrap();
    ([counts.lines, counts.words, counts.bytes], is_text)
}

#[track_caller]
fn compare(files: &[PathBuf]) {
    for (path, expected) in files.iter().zip(wc(files)) {
        let (found, is_text) = ours(path);
        assert!(is_text, "{}", path.display());
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(&fs::read(path).unwrap()));
    }
}

/// From coreutils 9.5 on, control characters make words.
fn wc_counts_unprintable_characters(folder: &Folder) -> bool {
    wc(&[folder.file("control", "\u{1}")])[0][1] != 0
}

/// Alone, before a letter and behind one: whether it is printable, white, or neither, shows in the count.
#[test]
fn every_character_counts_as_in_wc() {
    let _test = support::test(60);
    let folder = Folder::new();
    if wc_counts_unprintable_characters(&folder) {
        return say("skipped: this wc counts unprintable characters as words");
    }
    let block = |first: u32| {
        let characters = (first..first + 256).filter_map(char::from_u32);
        let [alone, inside]: [String; 2] = [" ", "x"].map(|edge| {
            characters
                .clone()
                .flat_map(|c| [edge, &c.to_string(), edge, " "].concat().chars().collect::<Vec<_>>())
                .collect()
        });
        [alone, inside]
    };
    let blocks = (0..0x11_0000).step_by(256).flat_map(block);
    let files: Vec<_> = blocks.enumerate().map(|(i, text)| folder.file(format!("{i:08}"), text)).collect();
    assert_eq!(files.len(), 2 * 0x11_0000 / 256);
    compare(&files);
}

/// Text of all kinds of characters, some of it longer than one read.
#[test]
fn random_text_counts_as_in_wc() {
    let _test = support::test(60);
    let folder = Folder::new();
    let mut alphabet: Vec<char> =
        "ab \n\t\r\u{b}\u{c}é\u{a0}\u{2007}\u{202f}\u{2060}\u{2003}\u{3000}漢🦀\u{301}".chars().collect();
    if !wc_counts_unprintable_characters(&folder) {
        alphabet.extend("\0\u{1}\u{7f}\u{85}\u{2028}\u{200b}\u{e000}\u{fffe}\u{10ffff}".chars());
    }
    let mut rng = Rng::new(seed());
    let mut text = |i: u64| -> String {
        let length = if i % 10 == 0 { 200_000 } else { rng.below(40) };
        (0..length).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect()
    };
    let files: Vec<_> = (0..500).map(|i| folder.file(format!("{i:08}"), text(i))).collect();
    compare(&files);
}

/// Gives one byte at a time, and is interrupted before each.
struct Drops<'a>(&'a [u8], bool);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = !self.1;
        if self.1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.read(&mut buffer[..1])
    }
}

#[test]
fn pieces_make_no_difference() {
    let text = "é漢🦀 a\u{2003}b\nç 🦀\n".as_bytes();
    let whole = count(&mut { text }).unwrap();
    assert_eq!(count(&mut Drops(text, false)).unwrap(), whole);
    assert_eq!((whole.0.lines, whole.0.words, whole.1), (2, 5, true));
}

#[test]
fn bytes_that_are_no_text_have_lines_and_no_words() {
    let cases: &[&[u8]] =
        &[b"a b\n\xff c\n", b"a b\n\xe6\xbc", b"\n\xed\xa0\x80a", b"\n\xc0\x80", b"\n\xf4\x90\x80\x80"];
    for bytes in cases {
        for result in [count(&mut { *bytes }), count(&mut Drops(bytes, false))] {
            let (counts, is_text) = result.unwrap();
            let newlines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(
                (counts.lines, counts.words, counts.bytes, is_text),
                (newlines, 0, bytes.len() as u64, false)
            );
        }
    }
}
