//! The rules of the objects, without a server around them.

use super::barrier::Barrier;
use super::dict::Dict;
use super::event::Event;
use super::list::List;
use super::lock::Lock;
use super::queue::Queue;
use super::semaphore::Semaphore;
use super::*;
use crate::manager::message::{Answer, Breach, Write};

/// An object and its desk, used by clients 1, 2, 3 with one thread each.
struct Room<H> {
    object: H,
    desk: Desk,
    calls: u64,
}

const FOR_EVER: u64 = u64::MAX;

/// What became of a call: the answer, or the ticket with which it waits.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Said(Vec<u8>),
    Waits(Ticket),
}

fn said(answer: Answer, rest: &[u8]) -> Fate {
    Fate::Said([&[answer as u8], rest].concat())
}

impl<H: Hosted> Room<H> {
    /// A new object of `kind`.
    fn new(kind: Kind, arguments: &[u8]) -> Room<H> {
        let mut desk = Desk { allowance: 1000, room: 1000, ..Desk::default() };
        let caller = Caller { session: SessionId(1), pid: 0, thread: 0, ticket: Ticket(0) };
        let object = H::create(kind, caller, Reader::new(arguments), &mut desk).unwrap().unwrap();
        Room { object, desk, calls: 0 }
    }

    fn caller(&mut self, session: u64) -> Caller {
        self.calls += 1;
        Caller {
            session: SessionId(session),
            pid: 100 + session as u32,
            thread: 1,
            ticket: Ticket(self.calls),
        }
    }

    fn ask(&mut self, session: u64, op: Op, write: impl FnOnce(&mut Vec<u8>)) -> Fate {
        let (caller, mut arguments) = (self.caller(session), Vec::new());
        write(&mut arguments);
        match self.object.call(op, caller, Reader::new(&arguments), &mut self.desk).unwrap() {
            Verdict::Answered => Fate::Said(self.desk.answer.clone()),
            Verdict::Waits(_) => Fate::Waits(caller.ticket),
        }
    }

    /// A call with a time and nothing else.
    fn timed(&mut self, session: u64, op: Op, time: u64) -> Fate {
        self.ask(session, op, |arguments| arguments.put_number(time))
    }

    fn waits(&mut self, session: u64, op: Op) -> Ticket {
        match self.timed(session, op, FOR_EVER) {
            Fate::Waits(ticket) => ticket,
            fate => panic!("{fate:?} at once"),
        }
    }

    fn plain(&mut self, session: u64, op: Op) -> Fate {
        self.ask(session, op, |_| ())
    }

    /// Who was woken since this was asked last, and the answer's code and rest.
    fn woken(&mut self) -> Vec<(Ticket, Fate)> {
        self.desk.woken.drain(..).map(|(ticket, answer)| (ticket, Fate::Said(answer))).collect()
    }

    fn time_up(&mut self, ticket: Ticket) {
        self.object.give_up(ticket, End::TimeUp, &mut self.desk);
    }

    fn cut_off(&mut self, ticket: Ticket) {
        self.object.give_up(ticket, End::Gone, &mut self.desk);
    }

    fn bury(&mut self, session: u64) {
        self.object.bury(SessionId(session), &mut self.desk);
    }

    fn undo(&mut self, session: u64, op: Op, answer: &[u8]) {
        let caller = self.caller(session);
        self.object.undo(op, caller, Reader::new(answer), &mut self.desk);
    }

    /// Bytes that sessions are charged with.
    fn charged(&self) -> i64 {
        self.desk.taken.iter().map(|(_, bytes)| bytes).sum()
    }
}

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn lock(reentrant: bool) -> Room<Lock> {
    Room::new(if reentrant { Kind::RLock } else { Kind::Lock }, &[])
}

impl Room<Lock> {
    fn acquire(&mut self, session: u64) -> Fate {
        self.timed(session, Op::LockAcquire, FOR_EVER)
    }

    fn release(&mut self, session: u64) -> Fate {
        self.ask(session, Op::LockRelease, |arguments| arguments.put_u8(0))
    }

    fn wait(&mut self, session: u64) -> Ticket {
        let fate = self.ask(session, Op::ConditionWait, |arguments| arguments.put(&numbers(&[7, FOR_EVER])));
        let Fate::Waits(ticket) = fate else { panic!("{fate:?} at once") };
        ticket
    }

    fn notify(&mut self, count: u64) -> Fate {
        self.ask(9, Op::ConditionNotify, |arguments| arguments.put(&numbers(&[7, count])))
    }
}

const FREE: [u8; 1] = [0];
const DIED: [u8; 1] = [1];

#[test]
fn a_lock_goes_to_the_oldest_waiter() {
    let mut room = lock(false);
    assert_eq!(room.acquire(1), said(Answer::Done, &FREE));
    assert_eq!(room.acquire(1), said(Answer::Deadlock, &[]));
    assert_eq!(room.timed(2, Op::LockAcquire, 0), said(Answer::TimedOut, &[]));
    let (second, third) = (room.waits(2, Op::LockAcquire), room.waits(3, Op::LockAcquire));
    assert_eq!(room.release(2), said(Answer::NotHeld, &[]));
    assert_eq!(room.release(1), said(Answer::Done, &[]));
    assert_eq!(room.woken(), [(second, said(Answer::Done, &FREE))]);
    room.release(2);
    assert_eq!(room.woken(), [(third, said(Answer::Done, &FREE))]);
    room.release(3);
    assert_eq!(room.plain(1, Op::LockIsLocked), said(Answer::Done, &[0]));
}

#[test]
fn a_dead_owner_poisons_until_somebody_says_it_is_whole() {
    let mut room = lock(false);
    room.acquire(1);
    let second = room.waits(2, Op::LockAcquire);
    room.bury(1);
    assert_eq!(room.woken(), [(second, said(Answer::Done, &DIED))]);
    room.release(2);
    assert_eq!(room.acquire(3), said(Answer::Done, &DIED));
    assert_eq!(room.plain(3, Op::LockMarkConsistent), said(Answer::Done, &[]));
    room.release(3);
    assert_eq!(room.acquire(1), said(Answer::Done, &FREE));
    assert_eq!(room.plain(2, Op::LockMarkConsistent), said(Answer::NotHeld, &[]));
}

#[test]
fn levels_belong_to_one_thread() {
    let mut room = lock(true);
    room.acquire(1);
    assert_eq!(room.acquire(1), said(Answer::Done, &FREE));
    let second = room.waits(2, Op::LockAcquire);
    room.release(1);
    assert_eq!(room.woken(), []);
    room.release(1);
    assert_eq!(room.woken(), [(second, said(Answer::Done, &FREE))]);
}

#[test]
fn who_waits_too_long_for_a_lock_is_out_of_the_row() {
    let mut room = lock(false);
    room.acquire(1);
    let (second, third) = (room.waits(2, Op::LockAcquire), room.waits(3, Op::LockAcquire));
    room.time_up(second);
    assert_eq!(room.woken(), [(second, said(Answer::TimedOut, &[]))]);
    room.cut_off(third);
    room.release(1);
    assert_eq!(room.woken(), []);
}

#[test]
fn a_lock_that_nobody_heard_of_is_free_and_not_poisoned() {
    let mut room = lock(false);
    room.acquire(1);
    let second = room.waits(2, Op::LockAcquire);
    room.undo(1, Op::LockAcquire, &FREE);
    assert_eq!(room.woken(), [(second, said(Answer::Done, &FREE))]);
}

#[test]
fn a_condition_gives_all_levels_back_and_takes_them_again() {
    let mut room = lock(true);
    room.acquire(1);
    room.acquire(1);
    let first = room.wait(1);
    assert_eq!(room.acquire(2), said(Answer::Done, &FREE));
    assert_eq!(room.notify(5), said(Answer::Done, &numbers(&[1])));
    assert_eq!(room.woken(), []); // it has to wait for the lock
    room.release(2);
    assert_eq!(room.woken(), [(first, said(Answer::Done, &[1, 0]))]);
    let second = room.waits(2, Op::LockAcquire);
    room.release(1);
    assert_eq!(room.woken(), []);
    room.release(1);
    assert_eq!(room.woken(), [(second, said(Answer::Done, &FREE))]);
}

#[test]
fn a_wait_that_is_over_still_needs_the_lock() {
    let mut room = lock(false);
    room.acquire(1);
    let first = room.wait(1);
    room.acquire(2);
    room.time_up(first);
    assert_eq!(room.woken(), []);
    room.time_up(first); // in the row of the lock no time counts
    assert_eq!(room.woken(), []);
    room.bury(2);
    assert_eq!(room.woken(), [(first, said(Answer::Done, &[0, 1]))]);
}

#[test]
fn a_notified_waiter_that_is_cut_off_passes_it_on() {
    let mut room = lock(false);
    let mut tickets = Vec::new();
    for session in 1..=3 {
        room.acquire(session);
        tickets.push(room.wait(session));
    }
    room.acquire(4);
    assert_eq!(room.notify(1), said(Answer::Done, &numbers(&[1])));
    room.cut_off(tickets[0]); // in the row
    room.release(4);
    assert_eq!(room.woken(), [(tickets[1], said(Answer::Done, &[1, 0]))]);
    room.bury(2); // with the lock in its hands
    assert_eq!(room.woken(), [(tickets[2], said(Answer::Done, &[1, 1]))]);
    room.release(3);
    assert!(room.object.conditions_are_empty());
}

#[test]
fn permits_come_back_with_the_death_of_their_holder() {
    let mut room = Room::new(Kind::Semaphore, &[2, 0, 0, 0, 0, 0, 0, 0, 1]);
    let release = |room: &mut Room<Semaphore>, session, own| {
        room.ask(session, Op::SemaphoreRelease, |arguments| arguments.put_u8(own))
    };
    room.timed(1, Op::SemaphoreAcquire, 0);
    room.timed(1, Op::SemaphoreAcquire, 0);
    assert_eq!(release(&mut room, 2, 0), said(Answer::OutOfRange, &[]));
    assert_eq!(release(&mut room, 2, 1), said(Answer::NotHeld, &[]));
    assert_eq!(room.timed(2, Op::SemaphoreAcquire, 0), said(Answer::TimedOut, &[]));
    let (second, third) = (room.waits(2, Op::SemaphoreAcquire), room.waits(3, Op::SemaphoreAcquire));
    room.time_up(third);
    assert_eq!(room.woken(), [(third, said(Answer::TimedOut, &[]))]);
    room.bury(1);
    assert_eq!(room.woken(), [(second, said(Answer::Done, &[]))]);
    assert_eq!(room.plain(1, Op::SemaphoreValue), said(Answer::Done, &numbers(&[1, 2])));
    assert_eq!(room.plain(2, Op::SemaphoreForget), said(Answer::Done, &[]));
    room.bury(2);
    assert_eq!(room.plain(1, Op::SemaphoreValue), said(Answer::Done, &numbers(&[1, 2])));
    assert_eq!(release(&mut room, 3, 0), said(Answer::Done, &[]));
    assert_eq!(release(&mut room, 3, 0), said(Answer::OutOfRange, &[]));
}

#[test]
fn an_event_wakes_all_who_wait() {
    let mut room = Room::<Event>::new(Kind::Event, &[]);
    assert_eq!(room.timed(1, Op::EventWait, 0), said(Answer::TimedOut, &[]));
    let (first, second) = (room.waits(1, Op::EventWait), room.waits(2, Op::EventWait));
    room.plain(3, Op::EventSet);
    assert_eq!(room.woken(), [(first, said(Answer::Done, &[])), (second, said(Answer::Done, &[]))]);
    assert_eq!(room.timed(1, Op::EventWait, 0), said(Answer::Done, &[]));
    room.plain(3, Op::EventClear);
    assert_eq!(room.plain(3, Op::EventIsSet), said(Answer::Done, &[0]));
}

fn barrier() -> Room<Barrier> {
    Room::new(Kind::Barrier, &numbers(&[3]))
}

fn broken(breach: Breach, pid: u32) -> Fate {
    said(Answer::Broken, &[&[breach as u8], &pid.to_le_bytes()[..]].concat())
}

#[test]
fn each_party_has_another_index() {
    let mut room = barrier();
    for _ in 0..2 {
        let (first, second) = (room.waits(1, Op::BarrierWait), room.waits(2, Op::BarrierWait));
        assert_eq!(room.timed(3, Op::BarrierWait, 0), said(Answer::Done, &numbers(&[0])));
        let woken =
            [(first, said(Answer::Done, &numbers(&[2]))), (second, said(Answer::Done, &numbers(&[1])))];
        assert_eq!(room.woken(), woken);
    }
}

#[test]
fn a_party_that_dies_breaks_the_barrier() {
    let mut room = barrier();
    let (first, second) = (room.waits(1, Op::BarrierWait), room.waits(2, Op::BarrierWait));
    room.cut_off(first);
    assert_eq!(room.woken(), [(second, broken(Breach::Died, 101))]);
    assert_eq!(room.timed(3, Op::BarrierWait, FOR_EVER), broken(Breach::Died, 101));
    room.ask(3, Op::BarrierReset, |arguments| arguments.put_u8(1));
    let again = room.ask(3, Op::BarrierReset, |arguments| arguments.put_u8(1));
    assert_eq!(again, said(Answer::Nothing, &[]));
    let third = room.waits(3, Op::BarrierWait);
    room.plain(1, Op::BarrierAbort);
    assert_eq!(room.woken(), [(third, broken(Breach::Aborted, 0))]);
}

#[test]
fn a_party_whose_time_is_up_breaks_the_barrier() {
    let mut room = barrier();
    let (first, second) = (room.waits(1, Op::BarrierWait), room.waits(2, Op::BarrierWait));
    room.time_up(second);
    assert_eq!(room.woken(), [(second, said(Answer::TimedOut, &[])), (first, broken(Breach::TimedOut, 0))]);
}

fn queue(bound: u64, joinable: bool) -> Room<Queue> {
    Room::new(if joinable { Kind::JoinableQueue } else { Kind::Queue }, &numbers(&[bound]))
}

impl Room<Queue> {
    fn put(&mut self, session: u64, item: u8, time: u64) -> Fate {
        self.ask(session, Op::QueuePut, |arguments| {
            arguments.put_number(time);
            arguments.put_value(&[5], &[item]);
        })
    }

    fn get(&mut self, session: u64) -> Fate {
        self.timed(session, Op::QueueGet, 0)
    }
}

fn value(item: u8) -> Vec<u8> {
    let mut value = Vec::new();
    value.put_value(&[5], &[item]);
    value
}

fn got(item: u8) -> Fate {
    said(Answer::Done, &value(item))
}

#[test]
fn items_come_in_the_order_in_which_they_were_put() {
    let mut room = queue(2, false);
    (1..=2).for_each(|item| assert_eq!(room.put(1, item, 0), said(Answer::Done, &[])));
    assert_eq!(room.put(1, 3, 0), said(Answer::TimedOut, &[]));
    let Fate::Waits(third) = room.put(1, 3, FOR_EVER) else { panic!("there is no room") };
    assert_eq!(room.get(2), got(1));
    assert_eq!(room.woken(), [(third, said(Answer::Done, &[]))]);
    assert_eq!((room.get(2), room.get(2), room.get(2)), (got(2), got(3), said(Answer::TimedOut, &[])));
    let (first, second) = (room.waits(2, Op::QueueGet), room.waits(3, Op::QueueGet));
    room.put(1, 4, 0);
    room.put(1, 5, 0);
    assert_eq!(room.woken(), [(first, got(4)), (second, got(5))]);
    assert_eq!(room.charged(), 0);
    let count = |ids: &[u64]| ids.iter().filter(|id| **id == 5).count();
    assert_eq!(count(&room.desk.stored), count(&room.desk.dropped));
    assert_eq!(room.desk.given.len(), 5);
}

#[test]
fn many_items_go_as_far_as_there_is_room() {
    let mut room = queue(3, false);
    let put = |room: &mut Room<Queue>, items: &[u8]| {
        room.ask(1, Op::QueuePutMany, |arguments| {
            arguments.put_u32(items.len() as u32);
            items.iter().for_each(|item| arguments.put_value(&[5], &[*item]));
        })
    };
    let getter = room.waits(2, Op::QueueGet);
    assert_eq!(put(&mut room, &[1, 2, 3, 4, 5]), said(Answer::Done, &numbers(&[4])));
    assert_eq!(room.woken(), [(getter, got(1))]);
    assert_eq!(put(&mut room, &[5]), said(Answer::Done, &numbers(&[0])));
    let Fate::Waits(fifth) = room.put(1, 5, FOR_EVER) else { panic!("there is no room") };
    let many = |items: &[u8]| {
        let values = items.iter().flat_map(|item| value(*item));
        said(
            Answer::Done,
            &[items.len() as u32]
                .map(u32::to_le_bytes)
                .concat()
                .into_iter()
                .chain(values)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(room.timed(2, Op::QueueGetMany, 2), many(&[2, 3]));
    assert_eq!(room.woken(), [(fifth, said(Answer::Done, &[]))]);
    assert_eq!(room.timed(2, Op::QueueGetMany, 9), many(&[4, 5]));
    assert_eq!(room.timed(2, Op::QueueGetMany, 9), many(&[]));
    assert_eq!(room.charged(), 0);
}

#[test]
fn what_a_dead_putter_waited_with_goes() {
    let mut room = queue(1, false);
    room.put(1, 1, 0);
    let Fate::Waits(second) = room.put(2, 2, FOR_EVER) else { panic!("there is no room") };
    let Fate::Waits(third) = room.put(3, 3, FOR_EVER) else { panic!("there is no room") };
    room.cut_off(second);
    room.get(1);
    assert_eq!(room.woken(), [(third, said(Answer::Done, &[]))]);
    assert_eq!(room.get(1), got(3));
    assert_eq!(room.charged(), 0);
}

#[test]
fn an_item_that_nobody_saw_is_the_next_one_again() {
    let mut room = queue(1, true);
    room.put(1, 1, 0);
    assert_eq!(room.get(2), got(1));
    room.put(1, 2, 0);
    room.undo(2, Op::QueueGet, &value(1));
    assert_eq!((room.get(3), room.get(3)), (got(1), got(2)));
    assert_eq!(room.charged(), 0);
    assert_eq!(room.plain(2, Op::QueueTaskDone), said(Answer::OutOfRange, &[]));
}

#[test]
fn join_waits_for_the_living_only() {
    let mut room = queue(0, true);
    room.put(1, 1, 0);
    room.put(1, 2, 0);
    let first = room.waits(1, Op::QueueJoin);
    room.get(2);
    room.get(3);
    assert_eq!(room.plain(2, Op::QueueTaskDone), said(Answer::Done, &[]));
    assert_eq!(room.woken(), []);
    room.bury(3);
    assert_eq!(room.woken(), [(first, said(Answer::Done, &[]))]);
    let state = [numbers(&[0, 0, 0, 1]), vec![0]].concat();
    assert_eq!(room.plain(1, Op::QueueState), said(Answer::Done, &state));
}

#[test]
fn a_queue_that_is_shut_down_gives_what_it_has() {
    let mut room = queue(1, false);
    room.put(1, 1, 0);
    let Fate::Waits(second) = room.put(2, 2, FOR_EVER) else { panic!("there is no room") };
    let shutdown = room.ask(3, Op::QueueShutdown, |arguments| arguments.put_u8(0));
    assert_eq!(shutdown, said(Answer::Done, &numbers(&[0])));
    assert_eq!(room.woken(), [(second, said(Answer::Closed, &[]))]);
    assert_eq!(room.put(1, 3, FOR_EVER), said(Answer::Closed, &[]));
    assert_eq!((room.get(1), room.get(1)), (got(1), said(Answer::Closed, &[])));
    assert_eq!(room.charged(), 0);
}

#[test]
fn a_budget_that_is_used_up_stores_nothing() {
    let mut room = queue(0, false);
    room.desk.allowance = 1;
    let Fate::Said(answer) = room.put(1, 1, 0) else { panic!("it was kept") };
    assert_eq!(answer[0], Answer::Exhausted as u8);
    assert_eq!(room.get(1), said(Answer::TimedOut, &[]));
}

#[test]
fn what_was_large_gives_memory_back() {
    let many = |arguments: &mut Vec<u8>| {
        arguments.put_u32(100_000);
        (0..100_000).for_each(|_| arguments.put_value(&[], b""));
    };
    let mut list: Room<List> = Room::new(Kind::List, &[]);
    list.desk.allowance = u64::MAX;
    list.ask(1, Op::ListExtend, many);
    (0..99_999).for_each(|_| _ = list.ask(1, Op::ListPop, |arguments| arguments.put_index(-1)));
    assert!(list.object.places() < 10_000);
    list.ask(1, Op::ListExtend, many);
    list.plain(1, Op::ListClear);
    assert!(list.object.places() < 10_000);
    let mut queue: Room<Queue> = Room::new(Kind::Queue, &[0; 8]);
    queue.desk.allowance = u64::MAX;
    queue.ask(1, Op::QueuePutMany, many);
    (0..99_999).for_each(|_| _ = queue.timed(1, Op::QueueGet, 0));
    assert!(queue.object.places() < 10_000);
    let mut dict: Room<Dict> = Room::new(Kind::Dict, &[]);
    dict.desk.allowance = u64::MAX;
    dict.ask(1, Op::MapExtend, |arguments| {
        arguments.put_u32(100_000);
        (0..100_000).for_each(|_| {
            arguments.put_bytes(b"one key");
            arguments.put_value(&[], b"");
        });
    });
    assert!(dict.object.places() < 10_000);
}
