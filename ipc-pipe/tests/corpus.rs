//! What the fuzzer has found, or was given to begin with, is played again: no panic, no hang, no memory.

use std::fs;

#[path = "../fuzz/play.rs"]
mod play;

fn replay(name: &str, play: fn(&[u8])) {
    let _test = support::test(60);
    let folder = format!("{}/fuzz/corpus/{name}", env!("CARGO_MANIFEST_DIR"));
    let inputs: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(inputs.len() >= 10, "the corpus is here");
    for input in &inputs {
        play(input);
        // A hostile peer stops anywhere.
        (0..input.len()).step_by(1 + input.len() / 20).for_each(|end| play(&input[..end]));
    }
    println!("{name}: {} inputs", inputs.len());
}

/// The registry stays.
fn registry() {
    drop(ipc_pipe::pipe().unwrap());
}

#[test]
fn hostile_peers_of_the_corpus_do_no_harm() {
    registry();
    replay("frames", play::frames);
}

#[test]
fn messages_of_the_corpus_mean_one_value_each_or_none() {
    registry();
    replay("values", play::values);
}

#[test]
fn nobody_of_the_corpus_gets_in() {
    registry();
    replay("handshakes", play::handshakes);
}
