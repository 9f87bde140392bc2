//! How the workers of a pool come to be.

use super::error::PoolError;
use super::payload::Payload;
use crate::process::{Builder, Call, Process, StartMethod, cpu_count, start_method};

/// How the workers of a pool come to be.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) workers: usize,
    pub(crate) name: String,
    pub(crate) method: Option<StartMethod>,
    pub(crate) initializer: Option<(Call, Payload)>,
    pub(crate) max_tasks: Option<u32>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            workers: cpu_count(),
            name: "PoolWorker".to_owned(),
            method: None,
            initializer: None,
            max_tasks: None,
        }
    }
}

impl Setup {
    pub(super) fn check(&self) -> Result<(), PoolError> {
        let forks = matches!(self.method.unwrap_or_else(start_method), StartMethod::Fork(_));
        match self.workers {
            0 => Err(PoolError::NoWorkers),
            _ if forks => Err(PoolError::Fork),
            _ => Ok(()),
        }
    }

    /// The process of a worker, the `number`th of its pool.
    pub(super) fn process(&self, number: u32) -> Builder {
        let builder = Process::builder().name(format!("{}-{number}", self.name)).daemon(true);
        match self.method {
            Some(method) => builder.start_method(method),
            None => builder,
        }
    }
}
