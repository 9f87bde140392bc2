//! What an initializer leaves to the tasks of its worker.

use std::any::Any;
use std::cell::Cell;

thread_local! {
    static STATE: Cell<Option<&'static dyn Any>> = const { Cell::new(None) };
}

/// What the [initializer](crate::PoolBuilder::initializer) of this worker returned, for the tasks that run in it.
///
/// It is made once for each worker process and lives until that ends; it is not dropped then. A task that changes it wraps it in
/// a [`RefCell`](std::cell::RefCell) or a [`Cell`]. `None` in a process that is no worker, in other threads than that of
/// the tasks, and for another type than the initializer's.
///
/// ```
/// multiprocess::testing!();
/// use multiprocess::{Pool, worker_state};
/// use std::collections::HashMap;
///
/// type Prices = HashMap<String, u64>;
///
/// let pool = Pool::builder()
///     .workers(2)
///     .initializer(|prices: Vec<(String, u64)>| -> Prices { prices.into_iter().collect() }, vec![("tea".into(), 3)])?
///     .start()?;
/// let price = pool.apply(|name: String| worker_state::<Prices>().unwrap().get(&name).copied(), "tea".to_owned())?;
/// assert_eq!(price, Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn worker_state<T: 'static>() -> Option<&'static T> {
    STATE.get()?.downcast_ref()
}

/// Keeps the state of this worker for as long as it lives.
pub(super) fn keep<T: 'static>(state: T) {
    STATE.set(Some(Box::leak(Box::new(state))));
}
