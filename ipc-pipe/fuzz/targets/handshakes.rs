#![no_main]

#[path = "../play.rs"]
mod play;

libfuzzer_sys::fuzz_target!(|input: &[u8]| play::handshakes(input));
