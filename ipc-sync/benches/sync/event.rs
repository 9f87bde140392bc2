//! A wake there and back: one sets the ping, the other waits for it, clears it and sets the pong.

use ipc_sync::Event;

use crate::bare;
use crate::rally::{PLACES, rally};
use crate::table::{Better, Table, way};

trait Flag {
    fn set(&self);
    fn wait(&self);
    fn clear(&self);
}

impl Flag for Event {
    fn set(&self) {
        Event::set(self);
    }

    fn wait(&self) {
        Event::wait(self);
    }

    fn clear(&self) {
        Event::clear(self);
    }
}

impl Flag for bare::Event {
    fn set(&self) {
        bare::Event::set(self);
    }

    fn wait(&self) {
        bare::Event::wait(self);
    }

    fn clear(&self) {
        bare::Event::clear(self);
    }
}

fn there_and_back(processors: [usize; 2], [ping, pong]: [impl Flag; 2]) -> f64 {
    let serve = || {
        ping.set();
        pong.wait();
        pong.clear();
    };
    let answer = || {
        ping.wait();
        ping.clear();
        pong.set();
    };
    rally(processors, serve, answer)
}

pub(crate) fn run() {
    let table = Table::new("Event: ns there and back", Better::Less);
    for (place, processors) in PLACES {
        let ours = || there_and_back(processors, [(), ()].map(|()| Event::new().unwrap()));
        let bare = || there_and_back(processors, [(), ()].map(|()| bare::Event::new()));
        table.row(place, ours, &[way("two bare futexes", bare)]);
    }
}
