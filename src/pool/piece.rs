//! The results of one chunk.

use std::vec;

use serde::de::DeserializeOwned;

use super::result::open;
use super::task::{Failure, Outcome};
use crate::executor::TaskError;

/// The results of one chunk, in the order of its arguments.
pub(super) enum Piece<R> {
    All(vec::IntoIter<R>),
    Some(vec::IntoIter<Result<R, TaskError>>),
    /// The chunk as a whole had an error, which is that of so many arguments.
    None(TaskError, usize),
}

impl<R: DeserializeOwned> Piece<R> {
    /// What came of a chunk with so many arguments.
    pub(super) fn of(outcome: Result<Outcome, TaskError>, length: usize) -> Piece<R> {
        let read = outcome.and_then(|outcome| match outcome {
            Outcome::Returned(payload) => {
                let results: Vec<R> = open(payload)?;
                Ok((results.len() == length).then_some(Piece::All(results.into_iter())))
            }
            Outcome::Mixed(payload, failures) => Ok(mix(open(payload)?, failures, length)),
            Outcome::Failed(failure) => Err(failure.into()),
        });
        match read {
            Ok(Some(piece)) => piece,
            Ok(None) => {
                Piece::None(TaskError::Result { message: "there are too few of them".to_owned() }, length)
            }
            Err(error) => Piece::None(error, length),
        }
    }
}

/// Failures, in ascending order, among the results of the others. `None` = together they are not `length`.
fn mix<R>(results: Vec<R>, failures: Vec<(u32, Failure)>, length: usize) -> Option<Piece<R>> {
    let mut results = results.into_iter();
    let mut failures = failures.into_iter().peekable();
    let items: Option<Vec<_>> = (0..length as u32)
        .map(|i| match failures.next_if(|(at, _)| *at == i) {
            Some((_, failure)) => Some(Err(failure.into())),
            None => results.next().map(Ok),
        })
        .collect();
    Some(Piece::Some(items?.into_iter()))
}

impl<R> Piece<R> {
    /// Puts the results behind `all`; the first error of the piece, if it has one.
    pub(super) fn append_to(self, all: &mut Vec<R>) -> Option<TaskError> {
        let mut first = None;
        match self {
            Piece::All(results) => all.extend(results),
            Piece::Some(results) => results.for_each(|result| match result {
                Ok(result) => all.push(result),
                Err(error) => _ = first.get_or_insert(error),
            }),
            Piece::None(error, _) => first = Some(error),
        }
        first
    }
}

impl<R> Iterator for Piece<R> {
    type Item = Result<R, TaskError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Piece::All(results) => results.next().map(Ok),
            Piece::Some(results) => results.next(),
            Piece::None(error, left) => {
                *left = left.checked_sub(1)?;
                Some(Err(error.clone()))
            }
        }
    }
}
