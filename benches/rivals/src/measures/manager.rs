//! A dict that a server process keeps, and clients of it.

use crate::cell::{Cell, Contender, Task, Unit};
use crate::errands::{get, get_by_four, get_in_batches, idle, make_proxies, set};
use crate::links::*;
use crate::processors::Placement;
use crate::store::Store;

const SIZE: usize = 64;
const LARGE: usize = 1 << 10;

pub fn cells() -> Vec<Cell> {
    let mut cells: Vec<Cell> = Placement::BOTH.into_iter().flat_map(of_placement).collect();
    let idle = vec![of::<OurManager>(idle::<OurManager>), of::<Redis>(idle::<Redis>)];
    cells.push(Cell::new("manager with 1000 idle clients", 0, Placement::Two, Unit::Percent, idle));
    cells
}

fn of_placement(placement: Placement) -> [Cell; 6] {
    let cell = |what, size, unit, contenders| Cell::new(what, size, placement, unit, contenders);
    [
        cell("manager get", SIZE, Unit::Microseconds, gets()),
        cell("manager get", LARGE, Unit::Microseconds, gets()),
        cell("manager set", SIZE, Unit::Microseconds, sets()),
        cell("manager get, 4 clients", SIZE, Unit::Millions, gets_by_four()),
        cell("manager get, batches of 100", SIZE, Unit::Millions, gets_in_batches()),
        cell("manager proxy made and dropped", 0, Unit::Microseconds, proxies()),
    ]
}

fn gets() -> Vec<Contender> {
    vec![
        of::<OurManager>(get::<OurManager>),
        of::<Redis>(get::<Redis>),
        of::<Tarpc>(get::<Tarpc>),
        python("manager_get"),
    ]
}

fn sets() -> Vec<Contender> {
    vec![
        of::<OurManager>(set::<OurManager>),
        of::<Redis>(set::<Redis>),
        of::<Tarpc>(set::<Tarpc>),
        python("manager_set"),
    ]
}

fn gets_by_four() -> Vec<Contender> {
    vec![
        of::<OurManager>(get_by_four::<OurManager>),
        of::<Redis>(get_by_four::<Redis>),
        of::<Tarpc>(get_by_four::<Tarpc>),
        python("manager_get_by_four"),
    ]
}

/// Without Python, which asks one by one.
fn gets_in_batches() -> Vec<Contender> {
    vec![
        of::<OurManager>(get_in_batches::<OurManager>),
        of::<Redis>(get_in_batches::<Redis>),
        of::<RedisMget>(get_in_batches::<RedisMget>),
        of::<Tarpc>(get_in_batches::<Tarpc>),
    ]
}

/// Beside Python only: what the others keep has no proxies.
fn proxies() -> Vec<Contender> {
    vec![of::<OurManager>(make_proxies::<OurManager>), python("manager_proxy")]
}

fn of<S: Store>(run: fn(Task) -> Result<f64, String>) -> Contender {
    Contender { name: S::NAME, wedges: None, run: Box::new(run) }
}

fn python(work: &'static str) -> Contender {
    python::contender("Python Manager", work, None)
}
