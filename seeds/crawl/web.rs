//! A web server on this machine, in a process of its own: the pages of `seeds/pages`, and some that are only trouble.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};
use std::thread;
use std::time::Duration;

use multiprocess::{Descriptor, Process};

const PAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/seeds/pages");
const SLOW: Duration = Duration::from_secs(2);
const REQUEST: u64 = 16 << 10;

/// Starts a server that ends with this process, and answers what to ask it for.
pub(crate) fn start() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let site = format!("http://{}/", listener.local_addr()?);
    let listener = Descriptor::from(OwnedFd::from(listener));
    let _server: Process<()> = Process::builder().name("web").daemon(true).spawn(serve, listener)?;
    let mut pages = Vec::new();
    list(Path::new(PAGES), &mut pages)?;
    pages.extend(["huge.html".into(), "missing.html".into()]);
    pages.sort_by_key(|page| (page != "slow.html", page.clone())); // the slow one first: who waits for it?
    let urls = pages.iter().map(|page| format!("{site}{page}"));
    Ok(urls.chain(["http://127.0.0.1:1/refused.html".into()]).collect())
}

fn list(folder: &Path, pages: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, pages)?;
        } else if let Some(page) = path.strip_prefix(PAGES).ok().and_then(Path::to_str) {
            pages.push(page.to_owned());
        }
    }
    Ok(())
}

fn serve(listener: Descriptor) {
    let listener = TcpListener::from(listener.try_into_owned().expect("nobody else has it here"));
    for client in listener.incoming().flatten() {
        thread::spawn(|| answer(client)); // a slow page holds up no other
    }
}

fn answer(mut client: TcpStream) -> io::Result<()> {
    // All of the request: a socket that is closed with something unread resets the connection.
    let request: Vec<String> = BufReader::new((&client).take(REQUEST))
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    let path = request.first().and_then(|line| line.split([' ', '?']).nth(1)).unwrap_or("/");
    match path.trim_start_matches('/') {
        "" => send(&mut client, "200 OK", &read("index.html")?),
        "huge.html" => send_huge(&mut client),
        page => {
            if page == "slow.html" {
                thread::sleep(SLOW);
            }
            match read(page) {
                Ok(bytes) => send(&mut client, "200 OK", &bytes),
                Err(_) => send(&mut client, "404 Not Found", b"<h1>No such page</h1>"),
            }
        }
    }
}

/// A file below the folder of the pages.
fn read(page: &str) -> io::Result<Vec<u8>> {
    let page = Path::new(page);
    if !page.components().all(|step| matches!(step, Component::Normal(_))) {
        return Err(io::ErrorKind::NotFound.into());
    }
    fs::read(Path::new(PAGES).join(page))
}

fn head(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: text/html\r\nConnection: close\r\n")
}

fn send(client: &mut TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    write!(client, "{}Content-Length: {}\r\n\r\n", head(status), body.len())?;
    client.write_all(body)
}

/// Some 8 MiB, for whoever reads that much.
fn send_huge(client: &mut TcpStream) -> io::Result<()> {
    let row = "<tr><td><a href=\"/order.html\">an order</a></td><td><button>cancel</button></td></tr>\n";
    let rows = row.repeat(1000);
    write!(client, "{}\r\n<table>\n", head("200 OK"))?;
    (0..100).try_for_each(|_| client.write_all(rows.as_bytes()))
}
