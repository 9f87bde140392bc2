//! The handshake: both sides prove to each other that they have the key, and never send it.
//!
//! Messages in, messages out, and no system call but for random numbers, so that one thread can have many of them under way. Each
//! message has 256 bytes at most.
//!
//! ```text
//! server   #CHALLENGE#{sha256} C             C   40 random bytes
//! client   {mp1} N code(proof)               N   32 random bytes
//! server   #WELCOME# code(greeting)          or #FAILURE#
//! client   w code(choice, w)                 w   1 = rings, please; 0 = this stream, which ends the handshake
//! server   o code(offer, o)                  o   1 = here they are; 0 = this stream, which ends the handshake
//! client   a code(answer, a)                 a   1 = taken; 0 = this stream
//!
//! code(label, x)   HMAC-SHA-256 of the key over: 16 bytes of label, {sha256} C, N, x
//! ```
//!
//! Both nonces are in each code, so nothing can be played again; each message has a label of its own, so none can be
//! sent back to its sender or in the place of another. What the server opens with is what CPython opens with, and a client
//! that answers as CPython 3.12 and later does is served that way:
//!
//! ```text
//! client   {sha256} HMAC(key, {sha256} C)    server   #WELCOME#, or #FAILURE#
//! client   #CHALLENGE#{sha256} D             server   {sha256} HMAC(key, {sha256} D)
//! client   #WELCOME#, or #FAILURE#
//! ```
//!
//! Older ones answer by MD5 and are refused. Our own client does not fall back to this by itself: nobody can talk it down.
//!
//! | state       | side   | waits for                                 |
//! |-------------|--------|-------------------------------------------|
//! | Challenged  | server | the client's proof, of either kind        |
//! | Greeted     | server | its choice                                |
//! | Wanted      | server | our own `offer`                           |
//! | Offered     | server | its answer                                |
//! | Questioned  | server | CPython's challenge                       |
//! | Judged      | server | CPython's verdict                         |
//! | Opened      | client | the challenge                             |
//! | Proven      | client | the server's greeting                     |
//! | Chosen      | client | the offer                                 |
//! | Tempted     | client | our own `answer`                          |
//! | Answered    | client | CPython's verdict                         |
//! | Questioning | client | CPython's answer to our challenge         |
//! | Over        | both   | nothing                                   |
//! | Denied      | both   | nothing; something was wrong              |

use std::{fmt, io};

use ipc_shm::random_bytes;

use crate::key::{Key, MAC};

/// Bytes of a message of a handshake, at most. As in CPython.
pub const LONGEST: usize = 256;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
const SHA256: &[u8] = b"{sha256}";
const OURS: &[u8] = b"{mp1}";

/// Random bytes of a challenge, and of the client's nonce.
const RANDOM: usize = 40;
const NONCE: usize = 32;

/// One for each message that has a code, all of one length: no code can be taken for another.
type Label = [u8; 16];
const PROOF: &Label = b"mp1 client proof";
const GREETING: &Label = b"mp1 server greet";
const CHOICE: &Label = b"mp1 client wants";
const OFFER: &Label = b"mp1 server offer";
const ANSWER: &Label = b"mp1 client takes";

/// Which side this is, and what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one that listens.
    Server,
    /// The one that connects.
    Client {
        /// It asks for rings.
        rings: bool,
    },
    /// The one that connects to a listener of CPython's.
    PythonClient,
}

/// What to do after a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this; the other side will answer.
    Say(Vec<u8>),
    /// Send this, if it is something. The handshake is over, and the stream is open.
    Stream(Option<Vec<u8>>),
    /// Ask [`Handshake::offer`] what to send.
    Wanted,
    /// Ask [`Handshake::answer`] what to send.
    Offered,
    /// The handshake is over, and the client has the rings.
    Rings,
}

/// Why there will be no connection. Messages that lead here are answered with [`refusal`] or with nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum Denial {
    /// The other side says that our proof is wrong.
    WrongKey,
    /// The proof of the other side is wrong.
    NotAuthentic,
    /// It does not keep to the handshake, or speaks another one.
    Protocol,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denial::WrongKey => "the other side refuses our key",
            Denial::NotAuthentic => "the other side does not know the key",
            Denial::Protocol => "the other side does not keep to the handshake",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Challenged,
    Greeted,
    Wanted,
    Offered,
    Questioned,
    Judged,
    Opened,
    Proven,
    Chosen,
    Tempted,
    Answered,
    Questioning,
    Over,
    Denied,
}

/// One side of one handshake.
#[derive(Debug)]
pub struct Handshake {
    key: Key,
    role: Role,
    state: State,
    /// `{sha256}` and 40 bytes: the challenge that all is sealed with; with CPython, the one that we sent.
    challenge: Vec<u8>,
    nonce: [u8; NONCE],
}

/// What the other side is told when it does not know the key.
pub fn refusal() -> Vec<u8> {
    FAILURE.to_vec()
}

impl Handshake {
    /// A new one.
    ///
    /// # Errors
    ///
    /// The kernel has no random numbers to give.
    pub fn new(key: Key, role: Role) -> io::Result<Handshake> {
        let state = if role == Role::Server { State::Challenged } else { State::Opened };
        let challenge = [SHA256, &random_bytes::<RANDOM>()?].concat();
        Ok(Handshake { key, role, state, challenge, nonce: random_bytes()? })
    }

    /// What the server says first.
    pub fn challenge(&self) -> Vec<u8> {
        [CHALLENGE, &self.challenge].concat()
    }

    /// Whether the other side has proved that it knows the key.
    pub fn is_authentic(&self) -> bool {
        use State::*;
        match self.state {
            Challenged | Opened | Proven | Answered | Questioning | Denied => false,
            Greeted | Wanted | Offered | Questioned | Judged | Chosen | Tempted | Over => true,
        }
    }

    /// Whether descriptors may come beside the next message.
    pub fn awaits_descriptors(&self) -> bool {
        self.state == State::Chosen
    }

    /// Takes a message from the other side.
    ///
    /// # Errors
    ///
    /// See [`Denial`]; the handshake is over.
    pub fn hear(&mut self, message: &[u8]) -> Result<Step, Denial> {
        let step = match self.state {
            State::Challenged => self.examine(message),
            State::Greeted => self.choice(message),
            State::Offered => self.outcome(message),
            State::Questioned => self.question(message),
            State::Judged => verdict(message).map(|()| (Step::Stream(None), State::Over)),
            State::Opened => self.challenged(message),
            State::Proven => self.greeted(message),
            State::Chosen => self.offered(message),
            State::Answered => verdict(message).map(|()| (Step::Say(self.challenge()), State::Questioning)),
            State::Questioning => self.questioned(message),
            State::Wanted | State::Tempted | State::Over | State::Denied => Err(Denial::Protocol),
        };
        let (step, state) = step.inspect_err(|_| self.state = State::Denied)?;
        self.state = state;
        Ok(step)
    }

    /// Offers the rings that the client wants, or the stream alone, which ends the handshake. An offer of rings that could not
    /// be sent may be followed by one of the stream.
    pub fn offer(&mut self, rings: bool) -> Vec<u8> {
        debug_assert!(matches!(self.state, State::Wanted | State::Offered));
        self.state = if rings { State::Offered } else { State::Over };
        self.sealed(OFFER, rings)
    }

    /// Takes the rings that the server offers, or the stream. The handshake is over.
    pub fn answer(&mut self, rings: bool) -> Vec<u8> {
        debug_assert_eq!(self.state, State::Tempted);
        self.state = State::Over;
        self.sealed(ANSWER, rings)
    }

    fn examine(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        if let Some(code) = message.strip_prefix(SHA256) {
            let known = self.key.verify(&[&self.challenge], code);
            return known
                .then(|| (Step::Say(WELCOME.to_vec()), State::Questioned))
                .ok_or(Denial::NotAuthentic);
        }
        let proof = message.strip_prefix(OURS).and_then(|proof| proof.split_first_chunk());
        let (nonce, code) = proof.ok_or(Denial::Protocol)?;
        self.nonce = *nonce;
        self.check(PROOF, &[], code)?;
        Ok((Step::Say([WELCOME, &self.code(GREETING, &[])].concat()), State::Greeted))
    }

    fn choice(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        let step =
            |rings| if rings { (Step::Wanted, State::Wanted) } else { (Step::Stream(None), State::Over) };
        self.unseal(CHOICE, message).map(step)
    }

    fn outcome(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        let rings = self.unseal(ANSWER, message)?;
        Ok((if rings { Step::Rings } else { Step::Stream(None) }, State::Over))
    }

    /// It proved that it knows the key: now it may ask the same of us.
    fn question(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        Ok((Step::Say(self.python_proof(message)?), State::Judged))
    }

    fn challenged(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        let Role::Client { .. } = self.role else {
            return Ok((Step::Say(self.python_proof(message)?), State::Answered));
        };
        let challenge = message.strip_prefix(CHALLENGE).ok_or(Denial::Protocol)?;
        if !challenge.starts_with(SHA256) || challenge.len() != self.challenge.len() {
            return Err(Denial::Protocol);
        }
        self.challenge = challenge.to_vec();
        Ok((Step::Say([OURS, &self.nonce, &self.code(PROOF, &[])].concat()), State::Proven))
    }

    fn greeted(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        let code = said(message, WELCOME)?;
        self.check(GREETING, &[], code)?;
        let rings = self.role == Role::Client { rings: true };
        let choice = self.sealed(CHOICE, rings);
        Ok(if rings { (Step::Say(choice), State::Chosen) } else { (Step::Stream(Some(choice)), State::Over) })
    }

    fn offered(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        let step =
            |rings| if rings { (Step::Offered, State::Tempted) } else { (Step::Stream(None), State::Over) };
        self.unseal(OFFER, message).map(step)
    }

    fn questioned(&mut self, message: &[u8]) -> Result<(Step, State), Denial> {
        let code = message.strip_prefix(SHA256).ok_or(Denial::Protocol)?;
        let known = self.key.verify(&[&self.challenge], code);
        known.then(|| (Step::Stream(Some(WELCOME.to_vec())), State::Over)).ok_or(Denial::NotAuthentic)
    }

    /// Answers a challenge of CPython's. It must name our digest: no other bytes are ever sealed for a stranger, so that what
    /// he gets fits nowhere else.
    fn python_proof(&self, message: &[u8]) -> Result<Vec<u8>, Denial> {
        let challenge = message.strip_prefix(CHALLENGE).ok_or(Denial::Protocol)?;
        let random = challenge.strip_prefix(SHA256).ok_or(Denial::Protocol)?;
        // Shorter ones repeat; and what comes back to its sender proves nothing.
        if random.len() < NONCE || challenge == self.challenge {
            return Err(Denial::Protocol);
        }
        Ok([SHA256, &self.key.seal(&[challenge])].concat())
    }

    fn sealed(&self, label: &Label, yes: bool) -> Vec<u8> {
        let word = [yes.into()];
        [&word[..], &self.code(label, &word)].concat()
    }

    fn unseal(&self, label: &Label, message: &[u8]) -> Result<bool, Denial> {
        let (word, code) = message.split_first_chunk::<1>().ok_or(Denial::Protocol)?;
        self.check(label, word, code)?;
        if word[0] > 1 { Err(Denial::Protocol) } else { Ok(word[0] == 1) }
    }

    fn code(&self, label: &Label, word: &[u8]) -> [u8; MAC] {
        self.key.seal(&[label, &self.challenge, &self.nonce, word])
    }

    fn check(&self, label: &Label, word: &[u8], code: &[u8]) -> Result<(), Denial> {
        let known = self.key.verify(&[label, &self.challenge, &self.nonce, word], code);
        known.then_some(()).ok_or(Denial::NotAuthentic)
    }
}

/// What follows `word` in a message that says it, or that says `#FAILURE#` instead.
fn said<'a>(message: &'a [u8], word: &[u8]) -> Result<&'a [u8], Denial> {
    if message == FAILURE {
        return Err(Denial::WrongKey);
    }
    message.strip_prefix(word).ok_or(Denial::Protocol)
}

fn verdict(message: &[u8]) -> Result<(), Denial> {
    said(message, WELCOME)?.is_empty().then_some(()).ok_or(Denial::Protocol)
}
