//! Works that one process does alone, by calls into its toolkit.

use std::time::Instant;

use crate::cell::{Contender, Task};
use crate::crew::{WARM_UP, WINDOW};

/// One whose work is a call of what `prepare` makes; a call does `count` operations. All of it stays on the processors of
/// the task.
pub fn contender<C: FnMut()>(
    name: &'static str,
    count: u32,
    prepare: impl Fn(Task) -> C + 'static,
) -> Contender {
    let run = move |task: Task| {
        task.placement.confine();
        Ok(rate(prepare(task)) * f64::from(count))
    };
    Contender { name, wedges: None, run: Box::new(run) }
}

/// How often something can be done in a second, one after another.
fn rate(mut call: impl FnMut()) -> f64 {
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        call();
    }
    let (mut done, start) = (0, Instant::now());
    while start.elapsed() < WINDOW {
        call();
        done += 1;
    }
    f64::from(done) / start.elapsed().as_secs_f64()
}
