//! The same work done by this toolkit and by others, in turns, in one run. See the README beside.

mod calls;
mod cell;
mod crew;
mod errands;
mod figure;
mod link;
mod links;
mod measures;
mod names;
mod options;
mod processors;
mod record;
mod repetition;
mod report;
mod store;
mod work;

use options::Options;

fn main() {
    multiprocess::init();
    procspawn::init();

    let cells = measures::cells();
    match Options::of_command_line() {
        Options::List => cells.iter().for_each(report::list),
        Options::Repeat { cell, contender } => repetition::serve(&cells[cell], contender),
        Options::Run { only, json } => {
            repetition::prepare();
            let chosen = cells.iter().enumerate().filter(|(_, cell)| cell.is_called(&only));
            chosen.for_each(|(number, cell)| report::print(cell, &figure::take(number, cell), json));
        }
    }
}
