//! The side of a result that makes it.

use std::sync::Arc;

use super::cell::{Cell, Helper, RUNNING};
use super::error::TaskError;
use super::future::Future;

/// Whoever has it owes one result. Dropped without, it settles the cell too: nobody waits for ever.
pub(crate) struct Promise<R> {
    cell: Arc<Cell<R>>,
}

/// The two sides of one result.
pub(crate) fn promise<R>() -> (Promise<R>, Future<R>) {
    sides(Cell::new(None))
}

/// The same; whoever waits calls `helper`, which knows the task by `ticket`.
pub(crate) fn helped_promise<R>(helper: Arc<dyn Helper>, ticket: u64) -> (Promise<R>, Future<R>) {
    sides(Cell::new(Some((helper, ticket))))
}

fn sides<R>(cell: Cell<R>) -> (Promise<R>, Future<R>) {
    let cell = Arc::new(cell);
    (Promise { cell: Arc::clone(&cell) }, Future::new(cell))
}

impl<R> Promise<R> {
    /// The task begins now and can no longer be cancelled; false = it was, and must not run.
    pub(crate) fn start(&self) -> bool {
        self.cell.start()
    }

    /// The task is done. Runs the callbacks.
    pub(crate) fn finish(self, outcome: Result<R, TaskError>) {
        self.cell.settle(outcome);
    }
}

impl<R> Drop for Promise<R> {
    fn drop(&mut self) {
        if !self.cell.is_settled() {
            let started = self.cell.state() == RUNNING;
            self.cell.settle(Err(if started { TaskError::Terminated } else { TaskError::Cancelled }));
        }
    }
}
