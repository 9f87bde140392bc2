//! Terminals that have nothing in common but an address and a key file share a dict.
//!
//! In one terminal `cargo run --release --example manager -- serve [ADDRESS]`, in others `… -- put ADDRESS KEY VALUE` and
//! `… -- show ADDRESS`. Without a word it does all of that itself, with processes that know nothing of each other.

use std::env;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use multiprocess::{Address, Dict, Key, Manager};

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    multiprocess::init();
    let words: Vec<String> = env::args().skip(1).collect();
    match run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    match *words {
        [] => demonstrate(),
        ["serve"] => serve(Address::fresh()),
        ["serve", address] => serve(address.parse()?),
        ["put", address, key, value] => put(&open(address)?, key, value),
        ["show", address] => show(&open(address)?),
        _ => Err("serve [ADDRESS], put ADDRESS KEY VALUE, or show ADDRESS".into()),
    }
}

fn serve(address: Address) -> Result<(), Failure> {
    println!("at {address}, with the key in {}", key_file().display());
    Ok(Manager::builder().address(address).auth(key()?).serve()?)
}

/// The dict of a server, by nothing but an address, the key file and a name.
fn open(address: &str) -> Result<Dict<String, String>, Failure> {
    let manager = Manager::connect(&address.parse()?, &Key::read(key_file())?)?;
    Ok(manager.dict_named("shelf")?)
}

fn put(shelf: &Dict<String, String>, key: &str, value: &str) -> Result<(), Failure> {
    match shelf.insert(key, value)? {
        Some(old) => println!("{key}: {value}, no longer {old}"),
        None => println!("{key}: {value}"),
    }
    Ok(())
}

fn show(shelf: &Dict<String, String>) -> Result<(), Failure> {
    let items = shelf.items()?;
    items.iter().for_each(|(key, value)| println!("  {key} = {value}"));
    println!("{} on the shelf", items.len());
    Ok(())
}

/// A server, and this program three times beside it, as if somebody typed that in other terminals.
fn demonstrate() -> Result<(), Failure> {
    let server = Manager::builder().auth(key()?).start()?;
    let address = server.address().to_string();
    for words in
        [&["put", &address, "apples", "3"][..], &["put", &address, "apples", "5"], &["show", &address]]
    {
        println!("$ manager {}", words.join(" "));
        let status = Command::new(env::current_exe()?).args(words).status()?;
        assert!(status.success(), "{status}");
    }
    Ok(server.shutdown()?)
}

fn key_file() -> PathBuf {
    env::var_os("XDG_RUNTIME_DIR").map_or(env::temp_dir(), PathBuf::from).join("multiprocess-seed.key")
}

/// The key of the file; the first one makes it, for this user's eyes only.
fn key() -> Result<Key, Failure> {
    let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(key_file());
    if let Ok(mut file) = new {
        file.write_all(Key::random()?.expose())?;
    }
    Ok(Key::read(key_file())?) // refuses a file that others may read, or that somebody else has put there
}
