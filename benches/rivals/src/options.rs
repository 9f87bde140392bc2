//! What the command line asks for.

use std::process::exit;

pub enum Options {
    /// Measure the cells whose names contain `only`.
    Run { only: String, json: bool },
    /// Tell the names.
    List,
    /// One repetition, asked for by a run: see [`crate::repetition`].
    Repeat { cell: usize, contender: usize },
}

const USAGE: &str = "usage: rivals [--only NAME] [--json] [--list]
  --only NAME   cells whose name contains NAME, as in \"queue 4 to 1\" or \"64 KiB, two\"
  --json        one object a line instead of tables
  --list        the names, and who takes part";

impl Options {
    pub fn of_command_line() -> Options {
        parse(std::env::args().skip(1)).unwrap_or_else(|| {
            eprintln!("{USAGE}");
            exit(2)
        })
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let (mut only, mut json) = (String::new(), false);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--only" => only = arguments.next()?,
            "--json" => json = true,
            "--list" => return Some(Options::List),
            "--repeat" => return repeat(arguments),
            _ => return None,
        }
    }
    Some(Options::Run { only, json })
}

fn repeat(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut number = || arguments.next()?.parse().ok();
    Some(Options::Repeat { cell: number()?, contender: number()? })
}
