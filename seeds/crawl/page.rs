//! One page: it is fetched, and looked through for buttons and links.

pub(crate) mod html;
pub(crate) mod link;

use std::time::{Duration, Instant};

use ureq::http::StatusCode;
use ureq::{Agent, Error, ResponseExt};

use html::Found;

const TIME: Duration = Duration::from_secs(10);
const BYTES: u64 = 1 << 20;

/// What there is to say of a page that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Page {
    /// Its size.
    pub(crate) bytes: usize,
    /// What took its time.
    pub(crate) took: Duration,
    /// Whether its text is UTF-8.
    pub(crate) is_utf8: bool,
    /// What is in it.
    pub(crate) found: Found,
}

/// Loads a page of at most 1 MiB, in at most 10 seconds; or says why not.
pub(crate) fn load(url: String) -> Result<Page, String> {
    load_within(&url, TIME, BYTES)
}

/// The same with other limits.
pub(crate) fn load_within(url: &str, time: Duration, bytes: u64) -> Result<Page, String> {
    let start = Instant::now();
    fetch(url, time, bytes).map(|page| look(page, start)).map_err(|error| reason(error, time, bytes))
}

/// The bytes of a page, and the address that redirections led to.
fn fetch(url: &str, time: Duration, bytes: u64) -> Result<(Vec<u8>, String), Error> {
    let mut config = Agent::config_builder().timeout_global(Some(time));
    if ["http://127.0.0.1", "http://[::1]", "http://localhost"].iter().any(|local| url.starts_with(local)) {
        config = config.proxy(None); // what the environment names leads away from here
    }
    let mut answer = config.build().new_agent().get(url).call()?;
    let url = answer.get_uri().to_string();
    let body = answer.body_mut().with_config().limit(bytes + 1); // a body of just its limit is refused
    Ok((body.read_to_vec()?, url))
}

fn look((bytes, url): (Vec<u8>, String), start: Instant) -> Page {
    let (text, is_utf8) = text(&bytes);
    Page { bytes: bytes.len(), is_utf8, found: html::find(&text, &url), took: start.elapsed() }
}

/// What is not UTF-8 is taken for Latin-1, where each byte is the number of its character.
fn text(bytes: &[u8]) -> (String, bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), true),
        Err(_) => (bytes.iter().map(|byte| char::from(*byte)).collect(), false),
    }
}

fn reason(error: Error, time: Duration, bytes: u64) -> String {
    match error {
        Error::StatusCode(code) => {
            StatusCode::from_u16(code).map_or(code.to_string(), |code| code.to_string())
        }
        Error::Timeout(_) => format!("not there within {time:?}"),
        Error::BodyExceedsLimit(_) => format!("larger than {bytes} bytes"),
        Error::Io(error) if error.raw_os_error().is_some() => error.kind().to_string(),
        Error::Io(error) => error.to_string(),
        Error::TlsRequired => "https needs `--features ureq/rustls`".into(),
        error => error.to_string(),
    }
}
