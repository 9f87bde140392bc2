//! Works that one process does alone, by calls into its toolkit.

use std::time::Instant;

use crate::crew::{WARM_UP, WINDOW};

/// How often something can be done in a second, one after another.
pub fn rate(mut call: impl FnMut()) -> Result<f64, String> {
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        call();
    }
    let (mut done, start) = (0, Instant::now());
    while start.elapsed() < WINDOW {
        call();
        done += 1;
    }
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}
