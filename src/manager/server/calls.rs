//! Requests: what each asks of the server itself, and which object answers the rest.

use super::state::{Answered, Line, LinkId, Parked, State};
use crate::manager::hosted::{Caller, Hosted, Ticket, Verdict};
use crate::manager::message::{Answer, Budget, Header, MAX_BATCH, Malformed, Op, Reader, Write};

/// The first op that an object answers.
const FIRST_OF_OBJECTS: u8 = Op::MapGet as u8;

/// What an answer of a batch may take that says only that there is no room for more.
const REFUSAL: usize = 64;

/// Elements that one batch may look at or move, about: some milliseconds of the server's time.
const MOST_STEPS: usize = 1 << 22;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// The answer is on the desk.
    Answer,
    /// There is none, or not yet.
    None,
}

impl State {
    /// Does what a message asks for that came over `link`.
    ///
    /// # Errors
    ///
    /// It is not of the grammar: the link is to be closed.
    #[inline]
    pub(super) fn request(
        &mut self,
        link: LinkId,
        line: &mut Line,
        message: &[u8],
    ) -> Result<Reply, Malformed> {
        let mut arguments = Reader::new(message);
        let header = Header::read(&mut arguments)?;
        self.calls += 1;
        let Some(session) = line.session else { return self.hello(line, header, arguments) };
        if line.waits.is_some() || line.last.is_some() {
            if header.op == Op::Abandon {
                return self.abandon(line, arguments);
            }
            if line.waits.is_some() {
                return Err(Malformed);
            }
            line.last = None;
        }
        self.desk.room = self.limits.message;
        let ticket = Ticket(self.last_ticket + 1);
        let caller = Caller { session, pid: line.pid, thread: header.thread, ticket };
        if header.op.may_wait() {
            return self.call_waiting(link, line, caller, header, arguments);
        }
        if header.op as u8 >= FIRST_OF_OBJECTS {
            self.call(caller, header, arguments)?;
            return Ok(Reply::Answer);
        }
        self.serve(link, line, caller, header, arguments)
    }

    /// A request to an object, which answers at once.
    #[inline]
    fn call(&mut self, caller: Caller, header: Header, arguments: Reader<'_>) -> Result<(), Malformed> {
        self.call_unsettled(caller, header, arguments)?;
        self.settle();
        Ok(())
    }

    #[inline]
    fn call_unsettled(
        &mut self,
        caller: Caller,
        header: Header,
        arguments: Reader<'_>,
    ) -> Result<Verdict, Malformed> {
        let State { table, desk, sessions, limits, .. } = self;
        let session = sessions.get_mut(caller.session.0).ok_or(Malformed)?;
        let Some(entry) = table.get_mut(header.object) else {
            desk.tell(Answer::Gone);
            return Ok(Verdict::Answered);
        };
        let kind = entry.kind;
        if !kind.has(header.op) {
            desk.say(Answer::OtherKind).put_u8(kind as u8);
            return Ok(Verdict::Answered);
        }
        desk.allowance = limits.bytes.saturating_sub(session.bytes);
        let verdict = entry.object.call(header.op, caller, arguments, desk)?;
        if kind.has_stakes() {
            session.add_stake(header.object, |object| table.get(object).is_some());
        }
        Ok(verdict)
    }

    /// A request that may wait. The answer is kept until the client shows that it has it.
    fn call_waiting(
        &mut self,
        link: LinkId,
        line: &mut Line,
        caller: Caller,
        header: Header,
        arguments: Reader<'_>,
    ) -> Result<Reply, Malformed> {
        let waiting = self.session(caller.session).map_or(0, |session| session.waiting);
        if waiting >= self.limits.waits {
            self.exhausted(Budget::Waiting);
            return Ok(Reply::Answer);
        }
        self.last_ticket += 1;
        let Header { op, object, .. } = header;
        let reply = match self.call_unsettled(caller, header, arguments)? {
            Verdict::Answered => {
                let answer = self.desk.answer.clone();
                line.last = Some(Answered { op, object, caller, answer });
                Reply::Answer
            }
            Verdict::Waits(deadline) => {
                line.waits = Some(caller.ticket);
                self.park(Parked { link, op, object, caller, deadline });
                Reply::None
            }
        };
        self.settle();
        Ok(reply)
    }

    /// Many requests in one. The answers that have no room say so, and what they would answer is not done; nor is what comes after
    /// too much work.
    fn batch(&mut self, caller: Caller, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        let count = arguments.u32()?;
        if count > MAX_BATCH {
            return Err(Malformed);
        }
        if count as usize * REFUSAL > self.limits.message {
            self.failed("the answers to so many requests would be too large");
            return Ok(());
        }
        self.desk.steps = 0;
        let mut answers = std::mem::take(&mut self.batch);
        answers.clear();
        answers.put_u8(Answer::Done as u8);
        answers.put_u32(count);
        for left in (0..count as usize).rev() {
            let reserved = answers.len() + (left + 1) * REFUSAL;
            self.desk.room = self.limits.message.saturating_sub(reserved).max(REFUSAL);
            let request = Reader::new(arguments.bytes()?);
            if self.desk.steps > MOST_STEPS {
                self.failed("too much work for one batch");
            } else {
                self.one_of_batch(caller, request)?;
            }
            answers.put_bytes(&self.desk.answer);
        }
        arguments.end()?;
        self.calls += u64::from(count);
        std::mem::swap(&mut self.desk.answer, &mut answers);
        self.batch = answers;
        Ok(())
    }

    #[inline]
    fn one_of_batch(&mut self, caller: Caller, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        let header = Header::read(&mut arguments)?;
        let caller = Caller { thread: header.thread, ..caller };
        match header.op {
            Op::Retain => self.retain_more(caller, header.object, arguments),
            Op::Release => {
                self.release_one(caller, header.object, arguments)?;
                self.desk.tell(Answer::Done);
                Ok(())
            }
            op if op as u8 >= FIRST_OF_OBJECTS && !op.may_wait() => self.call(caller, header, arguments),
            _ => Err(Malformed),
        }
    }

    /// A request to the server itself.
    fn serve(
        &mut self,
        link: LinkId,
        line: &mut Line,
        caller: Caller,
        header: Header,
        arguments: Reader<'_>,
    ) -> Result<Reply, Malformed> {
        match header.op {
            Op::Batch => self.batch(caller, arguments)?,
            Op::Create => self.create(caller, arguments)?,
            Op::Open => self.open(caller, arguments)?,
            Op::Retain => self.retain_more(caller, header.object, arguments)?,
            Op::Release => {
                self.release_one(caller, header.object, arguments)?;
                return Ok(Reply::None);
            }
            Op::Lend => self.lend(caller, header.object, arguments)?,
            Op::Claim => self.claim(caller, header.object, arguments)?,
            Op::Remove => self.remove(arguments)?,
            Op::Save => return self.save(link, line, caller, arguments),
            Op::Load => self.load(line, arguments)?,
            _ => self.serve_plain(header.op, arguments)?,
        }
        Ok(Reply::Answer)
    }

    /// Requests without arguments.
    fn serve_plain(&mut self, op: Op, arguments: Reader<'_>) -> Result<(), Malformed> {
        arguments.end()?;
        match op {
            Op::Names => self.tell_names(),
            Op::Statistics => self.tell_statistics(),
            Op::Shutdown => {
                self.is_over = true;
                self.desk.tell(Answer::Done);
            }
            Op::Abandon => self.desk.tell(Answer::Abandoned),
            _ => return Err(Malformed),
        }
        Ok(())
    }
}
