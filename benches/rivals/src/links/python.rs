//! Python's `multiprocessing`: the repetition becomes `python.py`, which does the work there.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cell::Contender;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/links/python.py");

/// `work` is a name in the script.
pub fn contender(name: &'static str, work: &'static str, wedges: Option<&'static str>) -> Contender {
    let run = Box::new(move |task: crate::cell::Task| {
        let [size, placement] = [task.size.0.to_string(), task.placement.to_string()];
        let error = Command::new("python3").args([SCRIPT, work, &size, &placement]).exec();
        Err(format!("python3: {error}"))
    });
    Contender { name, wedges, run }
}
