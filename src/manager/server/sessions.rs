//! Requests that begin and end things: sessions, links of them, calls nobody listens to.

use super::calls::Reply;
use super::session::Session;
use super::state::{Line, State};
use crate::manager::hosted::SessionId;
use crate::manager::message::{Answer, Budget, Header, Malformed, Op, Reader, VERSION, Write};

impl State {
    /// The first request of a link.
    pub(super) fn hello(
        &mut self,
        line: &mut Line,
        header: Header,
        mut arguments: Reader<'_>,
    ) -> Result<Reply, Malformed> {
        let (version, session) = (arguments.number()?, arguments.number()?);
        let secret = arguments.array()?;
        arguments.end()?;
        if header.op != Op::Hello {
            return Err(Malformed);
        }
        if version != u64::from(VERSION) {
            self.failed(&format!("the server speaks version {VERSION}, and not {version}"));
        } else if session == 0 {
            self.begin(line);
        } else {
            self.join(line, SessionId(session), secret);
        }
        Ok(Reply::Answer)
    }

    fn begin(&mut self, line: &mut Line) {
        let is_alike = |session: &Session| session.pid == line.pid && line.pid != 0;
        if self.sessions.iter().filter(|(_, session)| is_alike(session)).count() >= self.limits.links {
            return self.exhausted(Budget::Links);
        }
        let secret = match ipc_shm::random_id() {
            Ok(secret) => secret.to_le_bytes(),
            Err(why) => return self.failed(&why.to_string()),
        };
        let id = SessionId(self.sessions.insert(Session::new(secret, line.pid)));
        line.session = Some(id);
        self.welcome(id, secret);
    }

    fn join(&mut self, line: &mut Line, id: SessionId, secret: [u8; 16]) {
        let most = self.limits.links;
        match self.session(id).filter(|session| session.has_secret(&secret)) {
            None => self.desk.tell(Answer::Nothing),
            Some(session) if session.links >= most => self.exhausted(Budget::Links),
            Some(session) => {
                session.links += 1;
                line.session = Some(id);
                self.welcome(id, secret);
            }
        }
    }

    fn welcome(&mut self, id: SessionId, secret: [u8; 16]) {
        let (instance, largest) = (self.instance.to_le_bytes(), self.limits.message as u64);
        let links = self.limits.links as u64;
        let answer = self.desk.say(Answer::Done);
        answer.put(&instance);
        answer.put_number(id.0);
        answer.put(&secret);
        answer.put_number(largest);
        answer.put_number(links);
    }

    /// Nobody listens to the call that the link asked last.
    pub(super) fn abandon(&mut self, line: &mut Line, arguments: Reader<'_>) -> Result<Reply, Malformed> {
        arguments.end()?;
        if let Some(ticket) = line.waits.take() {
            self.give_up(ticket);
        }
        if let Some(answered) = line.last.take() {
            self.undo(answered);
        }
        self.desk.tell(Answer::Abandoned);
        Ok(Reply::Answer)
    }
}
