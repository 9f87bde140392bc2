//! A table of pages: a line for each, with its buttons and links, or with why there are none.

use crate::page::Page;

const IDS: usize = 40;
const LINKS: usize = 60;

/// How wide the column of addresses is.
pub(crate) struct Table(usize);

impl Table {
    /// Prints the head of a table of these pages.
    pub(crate) fn new(urls: &[String]) -> Table {
        let width = urls.iter().map(|url| url.chars().count()).max().unwrap_or_default();
        println!("{:width$}   bytes    ms  {:IDS$}  links", "page", "buttons");
        Table(width)
    }

    /// Prints the line of one page.
    pub(crate) fn line(&self, url: &str, page: &Result<Page, String>, note: &str) {
        let width = self.0;
        match page {
            Ok(Page { bytes, took, is_utf8, found }) => {
                let links: Vec<_> = found.links.iter().map(|link| within(url, link)).collect();
                let (ids, links) = (cell(IDS, found.buttons, &found.ids), cell(LINKS, links.len(), &links));
                let latin = if *is_utf8 { "" } else { " (Latin-1)" };
                println!("{url:width$} {bytes:>7} {:>5}  {ids:IDS$}  {links}{latin}{note}", took.as_millis());
            }
            Err(reason) => println!("{url:width$}       -     -  {}{note}", plain(reason)),
        }
    }
}

/// What is on the same site is told by its path.
fn within<'a>(url: &str, link: &'a str) -> &'a str {
    let site = url.match_indices('/').nth(2).map_or(url, |(end, _)| &url[..end]);
    link.strip_prefix(site).filter(|path| path.starts_with('/')).unwrap_or(link)
}

/// How many there are, and as many of them as there is room for.
fn cell(room: usize, count: usize, names: &[impl AsRef<str>]) -> String {
    let mut cell = count.to_string();
    for (i, name) in names.iter().map(|name| plain(name.as_ref())).enumerate() {
        if cell.chars().count() + name.chars().count() > room - 3 {
            return cell + " …";
        }
        cell.extend([if i == 0 { ": " } else { " " }, &name]);
    }
    cell
}

/// What a stranger says must not move the cursor.
fn plain(words: &str) -> String {
    words.replace(char::is_control, "\u{FFFD}")
}
