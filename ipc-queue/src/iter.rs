//! Items one after another.

use std::iter::FusedIterator;

use ipc_sync::Deadline;
use serde::de::DeserializeOwned;

use crate::{GetError, Queue};

/// Takes items as they come; see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
    deadline: Deadline,
    ended: bool,
}

impl<'a, T> Iter<'a, T> {
    pub(crate) fn new(queue: &'a Queue<T>, deadline: Deadline) -> Self {
        Iter { queue, deadline, ended: false }
    }
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.queue.get_until(self.deadline);
        self.ended = !matches!(item, Ok(_) | Err(GetError::Decode { .. } | GetError::Lost));
        match item {
            Err(GetError::Empty | GetError::Closed | GetError::ShutDown) => None,
            item => Some(item),
        }
    }
}

impl<T: DeserializeOwned> FusedIterator for Iter<'_, T> {}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}
