//! Random numbers whose seed is printed, so that a failure can be run again (xorshift64*, Vigna).

use std::time::{SystemTime, UNIX_EPOCH};

/// A small random number generator.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The generator that `seed` starts.
    pub fn new(seed: u64) -> Rng {
        // Zero is the one state that never leaves itself, and small seeds start alike: mix, and set a bit.
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high bits are the better ones.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// The seed of this run: `SEED` from the environment, else the clock. It is printed.
pub fn seed() -> u64 {
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(clock);
    println!("SEED={seed}");
    seed
}
