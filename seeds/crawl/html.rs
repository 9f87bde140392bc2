//! The buttons and links in the text of a page, found by regular expressions.
//!
//! What is no tag to a browser is none here: in comments, in scripts, in the text of a title. A page that is broken
//! gives what can be read of it, as in a browser.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::link::resolve;

/// What is in a page.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Found {
    /// How many buttons.
    pub(crate) buttons: usize,
    /// The ids of those that have one.
    pub(crate) ids: Vec<String>,
    /// Where links lead, each once, without fragments.
    pub(crate) links: Vec<String>,
}

/// A comment, an element whose text is no markup, or a tag: its name is 1, its attributes are 2.
static TAG: LazyLock<Regex> = LazyLock::new(|| {
    let no_markup = ["script", "style", "textarea", "title"]
        .map(|name| format!(r"<(?i-u:{name})(?-u:\b).*?(?:</(?i-u:{name})(?-u:\b)|$)"))
        .join("|");
    let tag = r#"<([A-Za-z][A-Za-z0-9-]*)((?:=[ \t\r\n\f]*"[^"]*"|=[ \t\r\n\f]*'[^']*'|[^>])*)>"#;
    regex(&format!(r"(?s)<!--.*?(?:-->|$)|{no_markup}|{tag}"))
});

/// A name, and a value in double quotes, in single quotes, or in none.
static ATTRIBUTE: LazyLock<Regex> = LazyLock::new(|| {
    let value = r#"(?:"([^"]*)"|'([^']*)'|([^ \t\r\n\f"'>][^ \t\r\n\f>]*))"#;
    regex(&format!(r#"([^ \t\r\n\f"'<>/=]+)[ \t\r\n\f]*=[ \t\r\n\f]*{value}"#))
});

/// A character by its number, in tens or in sixteens, or by one of the names that all of HTML has.
static ENTITY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"&(?:#([0-9]{1,8})|#[xX]([0-9A-Fa-f]{1,8})|(amp|lt|gt|quot|apos));"));

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("it was tried")
}

/// Looks through the text of the page at `url`.
pub(crate) fn find(text: &str, url: &str) -> Found {
    let (mut found, mut seen, mut base) = (Found::default(), HashSet::new(), Cow::Borrowed(url));
    for tag in TAG.captures_iter(text) {
        let (Some(name), Some(attributes)) = (tag.get(1), tag.get(2)) else {
            continue;
        };
        let attribute = |name| attribute(attributes.as_str(), name);
        match &*name.as_str().to_ascii_lowercase() {
            "button" => found.add_button(attribute("id")),
            "input" if attribute("type").is_some_and(is_button) => found.add_button(attribute("id")),
            "base" => base = attribute("href").map_or(base, |href| resolve(url, &href).into()),
            "a" | "area" => {
                let link =
                    attribute("href").filter(|href| leads_on(href)).map(|href| resolve(&base, href.trim()));
                found.links.extend(link.filter(|link| seen.insert(link.clone())));
            }
            _ => (),
        }
    }
    found
}

impl Found {
    fn add_button(&mut self, id: Option<String>) {
        self.buttons += 1;
        self.ids.extend(id.filter(|id| !id.is_empty()));
    }
}

fn is_button(kind: String) -> bool {
    ["button", "submit", "reset", "image"].contains(&&*kind.to_ascii_lowercase())
}

/// Not to a place in the same page, and not to a script.
fn leads_on(href: &str) -> bool {
    let href = href.trim();
    let scheme = href.split(':').next().unwrap_or_default();
    !href.is_empty() && !href.starts_with('#') && !scheme.eq_ignore_ascii_case("javascript")
}

/// The value of the first attribute of this name.
fn attribute(attributes: &str, name: &str) -> Option<String> {
    let attribute = ATTRIBUTE.captures_iter(attributes).find(|found| found[1].eq_ignore_ascii_case(name))?;
    let value = [2, 3, 4].into_iter().find_map(|i| attribute.get(i))?;
    Some(ENTITY.replace_all(value.as_str(), character).into_owned())
}

fn character(entity: &Captures<'_>) -> String {
    let number = |i, radix| entity.get(i).map(|digits| u32::from_str_radix(digits.as_str(), radix));
    match (number(1, 10).or(number(2, 16)), entity.get(3).map(|name| name.as_str())) {
        (Some(number), _) => number.ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        (None, Some("amp")) => '&',
        (None, Some("lt")) => '<',
        (None, Some("gt")) => '>',
        (None, Some("quot")) => '"',
        (None, _) => '\'',
    }
    .into()
}
