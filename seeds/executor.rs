//! The sizes of web pages, each told as soon as it is there, and what went wrong with the others.
//!
//! `cargo run --release --example executor -- [http://…]` fetches the pages that are named. Without any it fetches those of
//! a small server of its own, some of which are not there, so it needs no network.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use multiprocess::{Executor, Future, as_completed};

type Failure = Box<dyn std::error::Error>;

const TIMEOUT: Duration = Duration::from_secs(10);

/// The size of a page, or why there is none.
fn load(url: String) -> Result<usize, String> {
    let rest = url.strip_prefix("http://").expect("http is all I know");
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let fetch = || {
        let mut server = TcpStream::connect(address)?;
        server.set_read_timeout(Some(TIMEOUT))?;
        server.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = fetch().map_err(|error| error.kind().to_string())?;
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").ok_or("no answer of a web server")?;
    let status = String::from_utf8_lossy(&answer[..head]).split(' ').nth(1).unwrap_or("?").to_owned();
    if status == "200" { Ok(answer.len() - head - 4) } else { Err(format!("status {status}")) }
}

fn main() -> Result<(), Failure> {
    multiprocess::init();
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls = serve_pages()?;
    }
    let executor = Executor::threads(5)?;
    let pages: Vec<(String, Future<_>)> =
        urls.into_iter().map(|url| (url.clone(), executor.submit(load, url))).collect();
    for (url, page) in as_completed(pages) {
        match page.result() {
            Ok(Ok(size)) => println!("{url} has {size} bytes"),
            Ok(Err(reason)) => println!("{url} was not loaded: {reason}"),
            Err(error) => println!("{url} brought the task down: {error}"),
        }
    }
    Ok(())
}

/// Starts a server, and answers what to ask it for: `/n` has n times 1000 bytes, and `/4…` is missing.
fn serve_pages() -> Result<Vec<String>, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|client| drop(answer(client))));
    let page = |page| format!("http://127.0.0.1:{port}/{page}");
    let mut urls = ["1", "20", "300", "404"].map(page).to_vec();
    urls.extend(["http://127.0.0.1:1/".into(), "gopher://old".into()]);
    Ok(urls)
}

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    // All of the request: a socket that is closed with something unread resets the connection.
    let request: Vec<String> =
        BufReader::new(&client).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let page = request.first().and_then(|line| line.split(['/', ' ']).nth(2)).unwrap_or_default();
    match page.parse::<usize>() {
        Ok(n) if !page.starts_with('4') => {
            write!(client, "HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(n * 1000))
        }
        _ => write!(client, "HTTP/1.0 404 Not Found\r\n\r\nno such page"),
    }
}
