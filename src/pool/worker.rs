//! The life of a worker: it prepares itself, says so, and then runs what comes until nothing can come any more.

use ipc_pipe::{Connection, RecvError, SendError};
use ipc_shm::View;
use ipc_sync::Me;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::payload::Payload;
use super::table::{Lane, Table};
use super::task::{self, Failure, Order, Outcome, Reply};
use crate::process::{Call, servant};

/// What a worker is given.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) connection: Connection,
    pub(super) table: Table,
    /// Which lane is its own.
    pub(super) place: usize,
    pub(super) initializer: Option<(Call, Payload)>,
}

/// Nanoseconds of the clock that the pool and its workers share.
pub(super) fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

/// The function of a worker's process. Whatever it cannot do, the pool learns by its end.
pub(super) fn live(start: Start) {
    servant::leave_terminal_to_parent();
    servant::leave_no_core();
    let Start { connection, table, place, initializer } = start;
    let (Some(lane), Ok(me)) = (table.lane(place), Me::get()) else { return };
    connection.set_max_message(usize::MAX); // both ends are this program
    let worker = Worker { connection, table, lane };
    let failure = initializer.and_then(|(call, payload)| match task::run(call, payload) {
        Outcome::Failed(failure) => Some(failure),
        _ => None,
    });
    let failed = failure.is_some();
    if worker.tell(&Reply::Hello { token: me.token(), failure }).is_ok() && !failed {
        worker.work();
    }
}

/// The task was over its time, and the pool is about to kill this process.
#[cold]
fn wait_for_death() -> ! {
    loop {
        std::thread::park();
    }
}

struct Worker {
    connection: Connection,
    table: Table,
    lane: View<Lane>,
}

impl Worker {
    /// Runs tasks until the pool closes the connection, or is gone.
    fn work(&self) {
        for number in 1.. {
            // The end of the connection is no order: by then the lane may be another worker's.
            let told = match self.connection.recv::<Order>() {
                Ok(order) => {
                    self.lane.note_order();
                    self.run(order)
                }
                Err(RecvError::HandlesLost { sent, received }) => {
                    self.lane.note_order();
                    let message = RecvError::HandlesLost { sent, received }.to_string();
                    self.tell(&Reply::Unread { number, message })
                }
                Err(_) => return,
            };
            if told.is_err() {
                return;
            }
        }
    }

    fn run(&self, order: Order) -> Result<(), SendError> {
        let Order { slot, ticket, call, payload } = order;
        let began = now();
        if !self.lane.slot(slot).start(ticket, began) {
            return Ok(()); // recalled
        }
        let outcome = task::run(call, payload);
        let nanoseconds = now().saturating_sub(began);
        if !self.lane.slot(slot).finish(ticket) {
            wait_for_death();
        }
        match self.tell(&Reply::Done { slot, ticket, nanoseconds, outcome }) {
            Err(error) if !matches!(error, SendError::Closed) => {
                let outcome = Outcome::Failed(Failure::Result(error.to_string()));
                self.tell(&Reply::Done { slot, ticket, nanoseconds, outcome })
            }
            told => told,
        }
    }

    fn tell(&self, reply: &Reply) -> Result<(), SendError> {
        self.connection.send(reply)?;
        self.table.shared.tell(&self.lane);
        Ok(())
    }
}
