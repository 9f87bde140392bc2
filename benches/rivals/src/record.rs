//! A struct of about 60 bytes, as programs send them.

use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
pub struct Record {
    pub number: u64,
    count: u32,
    value: f64,
    tags: [u32; 6],
    name: [u8; 16],
}

impl Record {
    pub const SIZE: usize = 60;

    pub fn new(number: u64) -> Record {
        Record { number, count: 1, value: 2.5, tags: [3; 6], name: *b"sixteen letters." }
    }
}
