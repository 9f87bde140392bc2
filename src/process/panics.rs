//! What a child says when its function panics.
//!
//! The hook writes down where the panic was. Where panics abort it is also the last code of ours that runs, and says
//! all of it to the parent itself.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

use ipc_pipe::Connection;
use parking_lot::Mutex;

use super::logs;
use super::message::Outcome;

thread_local! {
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Whom the hook tells.
static PARENT: Mutex<Option<&'static Connection>> = Mutex::new(None);

/// From now on `parent` is told where panics abort, and [`caught`] knows the place of a panic.
pub(crate) fn watch(parent: &'static Connection) {
    *PARENT.lock() = Some(parent);
    listen();
}

/// Puts our hook before the one that is there, once. A panicking thread may not, and only misses the places.
pub(crate) fn listen() {
    static LISTENING: Once = Once::new();
    if std::thread::panicking() {
        return;
    }
    LISTENING.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            usual(info);
        }));
    });
}

fn note(info: &PanicHookInfo<'_>) {
    let location = info.location().map_or(String::new(), ToString::to_string);
    let message = message(info.payload());
    logs::note(info, &message);
    if cfg!(panic = "abort") {
        let parent = *PARENT.lock();
        let _ = parent.map(|parent| parent.send(&Outcome::<()>::Panicked { message, location }));
    } else {
        PLACE.with_borrow_mut(|place| *place = location);
    }
}

/// The panic that this thread has just caught.
pub(crate) fn caught(payload: &(dyn Any + Send)) -> Outcome<()> {
    Outcome::Panicked { message: message(payload), location: PLACE.take() }
}

/// A panic's text and place; the place is empty if [`listen`] was not called.
pub(crate) struct Panic {
    pub(crate) message: String,
    pub(crate) location: String,
}

/// Runs code of somebody else's, which may panic.
#[inline]
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    panic::catch_unwind(AssertUnwindSafe(f))
        .map_err(|payload| Panic { message: message(&*payload), location: PLACE.take() })
}

/// `panic!` makes a `&str` or a `String`; `panic_any` makes anything.
fn message(payload: &dyn Any) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}
