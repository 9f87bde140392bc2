//! What a pool and a worker tell each other, and how a worker runs a function whose types it does not know.
//!
//! ```text
//! pool                              worker
//!        ◀──────────────────────────  Reply::Hello      it is ready, or its initializer failed
//!   Order  ────────────────────────▶  a task, which waits in the connection until the worker comes to it
//!        ◀──────────────────────────  Reply::Done       what came of it
//! ```
//!
//! The end of the connection ends the worker.
#![allow(unsafe_code)]

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::payload::Payload;
use crate::executor::TaskError;
use crate::process::{Call, Image, Panic, catch};

/// A task, as the worker gets it.
#[derive(Debug, Deserialize)]
pub(super) struct Order {
    pub(super) slot: u32,
    pub(super) ticket: u64,
    pub(super) call: Call,
    pub(super) payload: Payload,
}

/// The same, as the pool sends it: the payload stays, for a worker may die.
#[derive(Debug, Serialize)]
pub(super) struct Offer<'a> {
    pub(super) slot: u32,
    pub(super) ticket: u64,
    pub(super) call: Call,
    pub(super) payload: &'a Payload,
}

/// What a worker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// First of all, and with the token that it lives by.
    Hello {
        token: u32,
        failure: Option<Failure>,
    },
    Done {
        slot: u32,
        ticket: u64,
        nanoseconds: u64,
        outcome: Outcome,
    },
    /// The order that came as number so and so could not be read: its descriptors could not be had, mostly.
    Unread {
        number: u64,
        message: String,
    },
}

/// What came of a task.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Returned(Payload),
    Failed(Failure),
    /// Of a chunk: the results of those that have one, and which have none.
    Mixed(Payload, Vec<(u32, Failure)>),
}

/// Why there is no result, as far as a worker can say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked { message: String, location: String },
    Arguments(String),
    Result(String),
    NotInExecutable,
}

impl From<Failure> for TaskError {
    fn from(failure: Failure) -> TaskError {
        match failure {
            Failure::Panicked { message, location } => TaskError::Panicked { message, location },
            Failure::Arguments(message) => TaskError::Arguments { message },
            Failure::Result(message) => TaskError::Result { message },
            Failure::NotInExecutable => TaskError::NotInExecutable,
        }
    }
}

impl From<Panic> for Failure {
    fn from(Panic { message, location }: Panic) -> Failure {
        Failure::Panicked { message, location }
    }
}

/// Runs a function whose types it knows.
type Trampoline = fn(Call, Payload) -> Outcome;

/// How a worker calls `f`.
pub(crate) fn single<A: DeserializeOwned, R: Serialize>(f: fn(A) -> R) -> Result<Call, TaskError> {
    through(run_single::<A, R>, f)
}

/// How a worker calls `f` for each of many arguments, which are a `Vec<A>`.
pub(crate) fn chunk<A: DeserializeOwned, R: Serialize>(f: fn(A) -> R) -> Result<Call, TaskError> {
    through(run_chunk::<A, R>, f)
}

/// How a worker prepares itself with `f`, and keeps what that answers.
pub(crate) fn preparation<A: DeserializeOwned, T: 'static>(f: fn(A) -> T) -> Result<Call, TaskError> {
    through(prepare::<A, T>, f)
}

fn through<A, R>(trampoline: Trampoline, f: fn(A) -> R) -> Result<Call, TaskError> {
    Call::through(trampoline as *const (), f).ok_or(TaskError::NotInExecutable)
}

/// Runs a task.
pub(super) fn run(call: Call, payload: Payload) -> Outcome {
    let Some(code) = Image::get().code(call.trampoline) else {
        return Outcome::Failed(Failure::NotInExecutable);
    };
    // SAFETY: the offset was made by `through` from a `Trampoline`, in a process that runs the same file.
    let trampoline = unsafe { std::mem::transmute::<*const (), Trampoline>(code) };
    trampoline(call, payload)
}

fn run_single<A: DeserializeOwned, R: Serialize>(call: Call, payload: Payload) -> Outcome {
    let Some(f) = call.function::<A, R>() else { return Outcome::Failed(Failure::NotInExecutable) };
    let life = || {
        let args = payload.open::<A>().map_err(Failure::Arguments)?;
        Payload::of(&f(args)).map_err(Failure::Result)
    };
    match catch(life) {
        Ok(Ok(result)) => Outcome::Returned(result),
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(panic) => Outcome::Failed(panic.into()),
    }
}

fn run_chunk<A: DeserializeOwned, R: Serialize>(call: Call, payload: Payload) -> Outcome {
    let Some(f) = call.function::<A, R>() else { return Outcome::Failed(Failure::NotInExecutable) };
    let life = || {
        let args = payload.open::<Vec<A>>().map_err(Failure::Arguments)?;
        let mut failures = Vec::new();
        let results = run_each(f, args, &mut failures);
        match Payload::of(&results) {
            Ok(results) => Ok((results, failures)),
            Err(_) => without_refused(results, failures),
        }
    };
    match catch(life) {
        Ok(Ok((results, failures))) if failures.is_empty() => Outcome::Returned(results),
        Ok(Ok((results, failures))) => Outcome::Mixed(results, failures),
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(panic) => Outcome::Failed(panic.into()),
    }
}

fn run_each<A, R>(f: fn(A) -> R, args: Vec<A>, failures: &mut Vec<(u32, Failure)>) -> Vec<R> {
    let mut results = Vec::with_capacity(args.len());
    for (i, args) in args.into_iter().enumerate() {
        match catch(|| f(args)) {
            Ok(result) => results.push(result),
            Err(panic) => failures.push((i as u32, panic.into())),
        }
    }
    results
}

/// One of the results cannot be serialized: that is its own failure, and the others travel.
#[cold]
fn without_refused<R: Serialize>(
    results: Vec<R>,
    mut failures: Vec<(u32, Failure)>,
) -> Result<(Payload, Vec<(u32, Failure)>), Failure> {
    let failed: Vec<u32> = failures.iter().map(|(i, _)| *i).collect();
    let numbers = (0..).filter(|i| failed.binary_search(i).is_err());
    let mut kept = Vec::with_capacity(results.len());
    for (i, result) in numbers.zip(results) {
        match Payload::refusal(&result) {
            Some(message) => failures.push((i, Failure::Result(message))),
            None => kept.push(result),
        }
    }
    failures.sort_by_key(|(i, _)| *i);
    Ok((Payload::of(&kept).map_err(Failure::Result)?, failures))
}

fn prepare<A: DeserializeOwned, T: 'static>(call: Call, payload: Payload) -> Outcome {
    let Some(f) = call.function::<A, T>() else { return Outcome::Failed(Failure::NotInExecutable) };
    let life = || {
        let state = f(payload.open::<A>()?);
        super::local::keep(state);
        Ok(())
    };
    match catch(life) {
        Ok(Ok(())) => Outcome::Returned(Payload::default()),
        Ok(Err(message)) => Outcome::Failed(Failure::Arguments(message)),
        Err(panic) => Outcome::Failed(panic.into()),
    }
}
