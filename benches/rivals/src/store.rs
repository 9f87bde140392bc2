//! What every dict that a server keeps looks like to the works: a process that serves, and clients that ask it.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

/// A dict from numbers to bytes in a server process.
///
/// It is created before the processes start; one of them becomes the server, and each other connects for itself.
pub trait Store: Sync + Sized + 'static {
    const NAME: &'static str;
    type Client: Client;

    /// Or why it is not to be had here.
    fn create() -> Result<Self, String>;

    /// The calling process does nothing else from now on.
    fn serve(&self);

    /// May come before the server is there, and waits for it.
    fn connect(&self) -> Self::Client;
}

/// What one process has of a store. What goes wrong here is a panic, and ends the repetition.
///
/// Values are copied in, and out into memory of the client's own.
pub trait Client {
    fn set(&mut self, key: u64, value: &[u8]);

    fn get(&mut self, key: u64) -> impl AsRef<[u8]>;
}

/// A client that can ask for many values in one trip.
pub trait Batching: Client {
    /// Gives each value to `each`, in the order of the keys.
    fn get_many(&mut self, keys: &[u64], each: impl FnMut(&[u8]));
}

/// A client that can have dicts made, and stands for them by proxies.
pub trait Proxying: Client {
    /// The dict is there when this begins to drop its proxy, and goes with it.
    fn make_and_drop(&mut self);
}

/// What comes of an attempt as soon as there is a server; a repetition has its limit.
pub fn as_soon_as_served<T, E: Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
