//! The buttons and links of web pages once more, without a queue: an executor, and a future for each page.
//!
//! `cargo run --release --example crawl_executor -- [URL…]` tells each page as soon as it is there, so the slow one comes
//! last. Without a URL it asks a small server of its own, so it needs no network.

#[path = "crawl/page.rs"]
mod page;
#[path = "crawl/table.rs"]
mod table;
#[path = "crawl/web.rs"]
mod web;

use multiprocess::{Executor, as_completed, cpu_count};
use table::Table;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    multiprocess::init();
    let mut urls: Vec<String> = std::env::args().skip(1).collect();
    if urls.is_empty() {
        urls = web::start()?;
    }
    let executor = Executor::processes(cpu_count().max(2))?; // one waits for a slow page, the other goes on
    let table = Table::new(&urls);
    let pages = urls.into_iter().map(|url| (url.clone(), executor.submit(page::load, url)));
    for (url, page) in as_completed(pages.collect::<Vec<_>>()) {
        // A worker that died of a page is the error of that page alone.
        let page = page.result().unwrap_or_else(|error| Err(error.to_string()));
        table.line(&url, &page, "");
    }
    Ok(())
}
