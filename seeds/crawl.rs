//! The buttons and links of web pages: addresses in a queue, a process per core that fetches them, results in a dict.
//!
//! `cargo run --release --example crawl -- [URL…]` prints a table of them. Without a URL it asks a small server of its own,
//! so it needs no network; `--features ureq/rustls` adds https. A page that cannot be had is a line that says why. The
//! queue lends its items, so none is lost with a process: a page whose reader dies is read again by another one, and one
//! that they all die of is given up.

#[path = "crawl/page.rs"]
mod page;
#[path = "crawl/table.rs"]
mod table;
#[path = "crawl/web.rs"]
mod web;

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::time::Instant;

use multiprocess::manager::CallError;
use multiprocess::{Dict, JoinError, Manager, Process, Queue, cpu_count, current_process};
use page::Page;
use table::Table;

/// What came of a page, who read it, and how many died of it before.
type Row = (Result<Page, String>, String, u32);

type Results = Dict<String, Row>;

const TRIES: u32 = 3;

fn consume((urls, results): (Queue<String>, Results)) -> Result<(), String> {
    while let Ok(url) = urls.get_lease() {
        let deaths = url.redelivered();
        let page = if deaths < TRIES { page::load(url.clone()) } else { Err("given up".into()) };
        let row = (page, current_process().name().to_owned(), deaths);
        results.set(&*url, &row).map_err(|error| error.to_string())?;
        url.ack().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiprocess::init();
    let start = Instant::now();
    let mut seen = HashSet::new();
    let mut urls: Vec<String> = std::env::args().skip(1).filter(|url| seen.insert(url.clone())).collect();
    if urls.is_empty() {
        urls = web::start()?;
    }
    let queue = Queue::options().leased().create()?;
    let manager = Manager::start()?;
    let results: Results = manager.dict()?;
    let consumer =
        |name| Process::builder().name(name).daemon(true).spawn(consume, (queue.clone(), results.clone()));
    let names = (1..=cpu_count().max(2)).map(|i| format!("consumer-{i}")); // one waits, the other goes on
    let consumers = names.map(&consumer).collect::<Result<Vec<_>, _>>()?;
    urls.iter().try_for_each(|url| queue.put(url.clone()))?;
    queue.shutdown(); // from now on a consumer ends when nothing is left, and nothing can come back

    for mut process in consumers {
        loop {
            match process.join() {
                Ok(done) => break done?,
                Err(death @ (JoinError::Died { .. } | JoinError::Panicked { .. })) => {
                    println!("{} (pid {}): {death}", process.name(), process.pid());
                    process = consumer(process.name().to_owned())?; // it finds what came back, if nobody did
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    report(&urls, &results)?;
    println!("{} pages in {:.2?}", urls.len(), start.elapsed());
    Ok(())
}

fn report(urls: &[String], results: &Results) -> Result<(), CallError> {
    let (table, mut shares) = (Table::new(urls), BTreeMap::<String, u32>::new());
    for url in urls {
        let lost = || (Err("lost".to_owned()), "nobody".to_owned(), 0);
        let (page, by, deaths) = results.get(url)?.unwrap_or_else(lost);
        let note = if deaths > 0 { format!(" ({deaths} died of it before)") } else { String::new() };
        table.line(url, &page, &note);
        *shares.entry(by).or_default() += 1;
    }
    shares.iter().for_each(|(by, pages)| print!("{by}: {pages}, "));
    Ok(())
}
