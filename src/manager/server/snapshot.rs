//! Named data in a file, and back.
//!
//! ```text
//!  0  8 bytes "mpdata\r\n"
//!  8  u32 version, 1
//! 12  u32 0
//! 16  u64 bytes from 32 on
//! 24  u64 checksum of them
//! 32  u32 number of objects | each: u8 kind, what is in it (hosted/data.rs)
//!     u32 number of names | each: bytes of the name, u64 number of its object
//! ```
//!
//! An object's number is its place in the file, from 1 on. All named data is there, and all data that it refers to. What is
//! no data, such as a lock, has number 0: after a load it is gone.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ipc_sync::Deadline;

use super::calls::Reply;
use super::file;
use super::saver::Job;
use super::slab::ByNumber;
use super::state::{Line, LinkId, Parked, State};
use super::table::{Entry, Table};
use crate::manager::hosted::{Caller, Hosted, NOBODY, Object, Ticket};
use crate::manager::message::{Answer, Kind, MAX_NAME, Malformed, ObjectId, Op, Reader, Write};

const MAGIC: [u8; 8] = *b"mpdata\r\n";
const VERSION: u32 = 1;
const HEADER: usize = 32;

impl State {
    /// Takes the snapshot and begins to write it, when the ones that were asked for before are written: no two of them take memory
    /// at a time. The answer comes when it is on the disk.
    pub(super) fn save(
        &mut self,
        link: LinkId,
        line: &mut Line,
        caller: Caller,
        arguments: Reader<'_>,
    ) -> Result<Reply, Malformed> {
        let Some(path) = self.path(line, arguments)? else { return Ok(Reply::Answer) };
        let Caller { ticket, .. } = caller;
        self.last_ticket += 1;
        line.waits = Some(ticket);
        self.park(Parked { link, op: Op::Save, object: 0, caller, deadline: Deadline::NEVER });
        self.saves.push_back((ticket, path));
        self.begin_save();
        Ok(Reply::None)
    }

    /// Begins with the next snapshot that somebody still waits for, if none is being written.
    fn begin_save(&mut self) {
        while !self.saver.is_busy() {
            let Some((ticket, path)) = self.saves.pop_front() else { return };
            if !self.parked.contains_key(&ticket) {
                continue;
            }
            let job = Job { ticket, path, bytes: pack(&self.table) };
            if let Err(why) = self.saver.begin(job) {
                self.desk.wake(ticket, Answer::Failed).put_bytes(why.to_string().as_bytes());
                self.settle();
            }
        }
    }

    /// Answers those whose snapshots were written.
    pub(super) fn finish_saves(&mut self) {
        for (ticket, outcome) in self.saver.outcomes() {
            match outcome {
                Ok(()) => _ = self.desk.wake(ticket, Answer::Done),
                Err(why) => self.desk.wake(ticket, Answer::Failed).put_bytes(why.as_bytes()),
            }
        }
        self.settle();
        self.begin_save();
    }

    pub(super) fn load(&mut self, line: &Line, arguments: Reader<'_>) -> Result<(), Malformed> {
        if let Some(path) = self.path(line, arguments)? {
            let loaded = file::read(&path, &MAGIC).map_err(Fault::Io).and_then(|bytes| self.unpack(&bytes));
            match loaded {
                Ok(names) => self.desk.say(Answer::Done).put_number(names),
                Err(why) => self.failed(&format!("{}: {why}", path.display())),
            }
        }
        Ok(())
    }

    /// The file that a request names; `None` = it is not for this client to name one, or it is not whole, and the answer says so.
    fn path(&mut self, line: &Line, mut arguments: Reader<'_>) -> Result<Option<PathBuf>, Malformed> {
        let path = PathBuf::from(OsStr::from_bytes(arguments.bytes()?));
        arguments.end()?;
        if !line.is_own {
            self.failed("only the user of the server can name its files");
        } else if !path.is_absolute() {
            self.failed("the path must be absolute: the server may be in another directory");
        } else {
            return Ok(Some(path));
        }
        Ok(None)
    }

    /// Takes what the file has. A name that is there already keeps its object, which has then what the file has.
    fn unpack(&mut self, bytes: &[u8]) -> Result<u64, Fault> {
        let content = Content::read(bytes)?;
        for (name, place) in &content.names {
            let (found, wanted) = (self.table.named(name), content.kind(*place));
            match found.and_then(|id| self.table.get(id)).map(|entry| entry.kind) {
                Some(found) if found != wanted => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    return Err(Fault::OtherKind { name, found, wanted });
                }
                _ => {}
            }
        }
        let ids = self.places(&content)?;
        for ((_, mut data), id) in content.objects.iter().copied().zip(&ids) {
            let number = |place: ObjectId| match place {
                0 => 0,
                place => ids[place as usize - 1],
            };
            let Some(entry) = self.table.get_mut(*id) else { continue };
            entry.object.unpack(&mut data, &number, &mut self.desk).map_err(|_| Fault::Damaged)?;
        }
        self.settle();
        Ok(content.names.len() as u64)
    }

    /// The objects that the objects of a file become. New ones are kept by the names and the values that refer to them.
    fn places(&mut self, content: &Content<'_>) -> Result<Vec<ObjectId>, Fault> {
        let mut ids: Vec<ObjectId> = vec![0; content.objects.len()];
        for (name, place) in &content.names {
            ids[*place as usize - 1] = self.table.named(name).unwrap_or(0);
        }
        for ((kind, _), id) in content.objects.iter().zip(&mut ids) {
            if *id == 0 {
                let object = self.empty(*kind)?;
                *id = self.table.insert(Entry::new(*kind, object));
            }
        }
        for (name, place) in &content.names {
            if self.table.named(name).is_none() {
                self.table.set_name(ids[*place as usize - 1], name, NOBODY);
            }
        }
        Ok(ids)
    }

    fn empty(&mut self, kind: Kind) -> Result<Object, Fault> {
        let caller = Caller { session: NOBODY, pid: 0, thread: 0, ticket: Ticket(0) };
        let arguments: &[u8] = match kind {
            Kind::Value => &[0; 8],
            Kind::Array => &[0; 4],
            _ => &[],
        };
        self.desk.allowance = u64::MAX;
        let made = Object::create(kind, caller, Reader::new(arguments), &mut self.desk);
        made.ok().flatten().ok_or(Fault::Damaged)
    }
}

/// All named data of `table`, and what it refers to.
fn pack(table: &Table) -> Vec<u8> {
    let names: Vec<_> = table.names().filter(|(.., kind)| is_data(*kind)).collect();
    let mut places = Places { table, places: HashMap::default(), order: Vec::new() };
    let named: Vec<(&[u8], u64)> = names.iter().map(|(name, id, _)| (*name, places.of(*id))).collect();
    let mut bytes = vec![0; HEADER];
    bytes.put_u32(0);
    let mut at = 0;
    while let Some(id) = places.order.get(at).copied() {
        at += 1;
        let Some(entry) = table.get(id) else { continue };
        bytes.put_u8(entry.kind as u8);
        entry.object.pack(&mut bytes, &mut |id| places.of(id));
    }
    bytes[HEADER..HEADER + 4].copy_from_slice(&(at as u32).to_le_bytes());
    bytes.put_u32(named.len() as u32);
    for (name, place) in named {
        bytes.put_bytes(name);
        bytes.put_number(place);
    }
    let mut header = Vec::with_capacity(HEADER);
    header.put(&MAGIC);
    header.put_u32(VERSION);
    header.put_u32(0);
    header.put_number((bytes.len() - HEADER) as u64);
    header.put_number(checksum(&bytes[HEADER..]));
    bytes[..HEADER].copy_from_slice(&header);
    bytes
}

/// The places of objects in a file, in the order in which they were first asked for.
struct Places<'a> {
    table: &'a Table,
    places: HashMap<ObjectId, u64, ByNumber>,
    order: Vec<ObjectId>,
}

impl Places<'_> {
    fn of(&mut self, id: ObjectId) -> u64 {
        if !self.table.get(id).is_some_and(|entry| is_data(entry.kind)) {
            return 0;
        }
        *self.places.entry(id).or_insert_with(|| {
            self.order.push(id);
            self.order.len() as u64
        })
    }
}

fn is_data(kind: Kind) -> bool {
    !kind.has_stakes()
}

fn has_keys(kind: Kind) -> bool {
    matches!(kind, Kind::Dict | Kind::Namespace)
}

/// Tells a damaged file from a whole one; it is no defence against somebody who wants to deceive.
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64;
    let mut mix = |word: u64| sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    words.for_each(|word| mix(u64::from_le_bytes(word.try_into().unwrap_or_default())));
    rest.iter().for_each(|byte| mix(u64::from(*byte)));
    sum ^ sum >> 32
}

/// A file that was looked through: every length fits, every number is an object's, and no object or name is named twice.
struct Content<'a> {
    /// Kinds, and where what is in them begins.
    objects: Vec<(Kind, Reader<'a>)>,
    names: Vec<(&'a [u8], u64)>,
}

impl<'a> Content<'a> {
    fn read(bytes: &'a [u8]) -> Result<Content<'a>, Fault> {
        let mut header = Reader::new(bytes);
        let (magic, version) = (header.array(), header.u32());
        if magic != Ok(MAGIC) {
            return Err(Fault::NoSnapshot);
        }
        if version != Ok(VERSION) {
            return Err(Fault::OtherVersion);
        }
        Content::check(header).map_err(|Malformed| Fault::Damaged)
    }

    fn check(mut header: Reader<'a>) -> Result<Content<'a>, Malformed> {
        let (zero, length, sum) = (header.u32()?, header.number()?, header.number()?);
        let rest = header.rest();
        if zero != 0 || rest.len() as u64 != length || checksum(rest) != sum {
            return Err(Malformed);
        }
        Content::parse(Reader::new(rest))
    }

    fn parse(mut bytes: Reader<'a>) -> Result<Content<'a>, Malformed> {
        let (count, mut objects, mut names) = (bytes.u32()?, Vec::new(), Vec::new());
        let known = |place: u64| place <= u64::from(count);
        for _ in 0..count {
            let kind = Kind::of(bytes.u8()?).filter(|kind| is_data(*kind)).ok_or(Malformed)?;
            objects.push((kind, bytes));
            Object::skip(&mut bytes, has_keys(kind), known)?;
        }
        let (mut seen, mut named) = (HashSet::new(), HashSet::new());
        for _ in 0..bytes.u32()? {
            let (name, place) = (bytes.bytes()?, bytes.number()?);
            let fits = !name.is_empty() && name.len() <= MAX_NAME && place != 0 && known(place);
            if !fits || !seen.insert(name) || !named.insert(place) {
                return Err(Malformed);
            }
            names.push((name, place));
        }
        bytes.end()?;
        Ok(Content { objects, names })
    }

    fn kind(&self, place: u64) -> Kind {
        self.objects[place as usize - 1].0
    }
}

/// Why nothing was loaded.
#[derive(Debug)]
enum Fault {
    Io(io::Error),
    NoSnapshot,
    OtherVersion,
    Damaged,
    OtherKind { name: String, found: Kind, wanted: Kind },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io(error) => error.fmt(f),
            Fault::NoSnapshot => f.write_str("it is not a snapshot of a manager"),
            Fault::OtherVersion => f.write_str("the snapshot has another version"),
            Fault::Damaged => f.write_str("the snapshot is damaged"),
            Fault::OtherKind { name, found, wanted } => {
                write!(f, "{name:?} is a {found:?} here, and a {wanted:?} in the snapshot")
            }
        }
    }
}
