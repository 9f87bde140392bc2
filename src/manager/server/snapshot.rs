//! Named data in a file, and back.

use super::state::State;
use crate::manager::message::{Malformed, Reader};

impl State {
    pub(super) fn save(&mut self, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        arguments.bytes()?;
        arguments.end()?;
        self.failed("not yet");
        Ok(())
    }

    pub(super) fn load(&mut self, mut arguments: Reader<'_>) -> Result<(), Malformed> {
        arguments.bytes()?;
        arguments.end()?;
        self.failed("not yet");
        Ok(())
    }
}
