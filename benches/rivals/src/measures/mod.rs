//! What is measured, one file for each part of the toolkit.

mod connection;
mod executor;
mod manager;
mod pool;
mod process;
mod queue;

use crate::cell::Cell;

pub fn cells() -> Vec<Cell> {
    let parts =
        [connection::cells, queue::cells, process::cells, pool::cells, executor::cells, manager::cells];
    parts.into_iter().flat_map(|cells| cells()).collect()
}

/// One contender for each link, all doing the same work.
macro_rules! contenders {
    ($size:expr, $work:ident; $($link:ty),+ $(,)?) => {
        vec![$($crate::cell::Contender {
            name: <$link as $crate::link::Link>::NAME,
            wedges: <$link as $crate::link::Link>::wedges($size),
            run: Box::new($crate::work::$work::<$link>),
        }),+]
    };
}
use contenders;
