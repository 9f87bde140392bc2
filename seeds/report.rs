//! What each process did, what all of them did, and how it is told.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::words::Counts;

/// What a process did, or all of them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Done {
    pub(crate) files: u64,
    pub(crate) counts: Counts,
    /// Files that are no text.
    notes: Vec<String>,
    /// What is missing, cannot be read, or died.
    troubles: Vec<String>,
}

impl Done {
    /// One more file was counted.
    pub(crate) fn file(&mut self, path: &Path, counts: Counts, is_text: bool) {
        self.files += 1;
        self.counts += counts;
        if !is_text {
            self.notes.push(format!("{}: not UTF-8, no words", path.display()));
        }
    }

    /// Something could not be done; the rest goes on.
    pub(crate) fn trouble(&mut self, what: impl fmt::Display, error: impl fmt::Display) {
        self.troubles.push(format!("{what}: {error}"));
    }

    /// Takes over what another process did.
    pub(crate) fn add(&mut self, other: Done) {
        self.files += other.files;
        self.counts += other.counts;
        self.name_all(other);
    }

    /// Takes over only what another process names.
    pub(crate) fn name_all(&mut self, other: Done) {
        self.notes.extend(other.notes);
        self.troubles.extend(other.troubles);
    }

    /// Prints the grand total and what is to be named. The exit code is 1 if something could not be done.
    pub(crate) fn report(&self, time: Duration) -> ExitCode {
        self.notes.iter().for_each(|note| println!("{note}"));
        self.troubles.iter().for_each(|trouble| eprintln!("{trouble}"));
        let seconds = time.as_secs_f64();
        let (files, megabytes) = (self.files as f64 / seconds, self.counts.bytes as f64 / 1e6 / seconds);
        println!("total: {self}");
        println!("rate: {files:.0} files/s, {megabytes:.1} MB/s in {seconds:.3} s");
        ExitCode::from(u8::from(!self.troubles.is_empty()))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { lines, words, bytes } = self.counts;
        write!(f, "{} files, {lines} lines, {words} words, {bytes} bytes", self.files)
    }
}
