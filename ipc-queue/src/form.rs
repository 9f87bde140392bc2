//! What kind of queue the memory is: written once, and asked when it is opened.

use std::fmt;

/// What kind of queue it is.
///
/// ```text
/// word  0 plain   1 leased   2 joinable   3 simple   anything else: damaged
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// What the ring cannot take waits in its process.
    Plain,
    /// Items are lent, and come back if nobody acknowledges them.
    Leased,
    /// Items taken are counted until they are done.
    Joinable,
    /// What the ring cannot take waits in its caller.
    Simple,
}

impl Form {
    pub(crate) fn of(word: u32) -> Option<Form> {
        [Form::Plain, Form::Leased, Form::Joinable, Form::Simple].into_iter().find(|form| form.word() == word)
    }

    pub(crate) fn word(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Plain => "plain",
            Form::Leased => "leased",
            Form::Joinable => "joinable",
            Form::Simple => "simple",
        })
    }
}
