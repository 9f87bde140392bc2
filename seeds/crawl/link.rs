//! Where a link leads: a reference made whole by the address of its page, as RFC 3986, section 5.2, says.

use std::sync::LazyLock;

use regex::Regex;

/// Of appendix B of the RFC, with what a scheme may consist of; the fragment is left out.
static PARTS: LazyLock<Regex> = LazyLock::new(|| {
    let parts = r"^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?";
    Regex::new(parts).expect("it was tried")
});

struct Parts<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

fn split(reference: &str) -> Parts<'_> {
    let parts = PARTS.captures(reference).expect("anything has parts, if only empty ones");
    let part = |i| parts.get(i).map(|part| part.as_str());
    Parts { scheme: part(1), authority: part(2), path: part(3).unwrap_or_default(), query: part(4) }
}

/// The address that `reference` stands for on the page `base`, without its fragment.
pub(crate) fn resolve(base: &str, reference: &str) -> String {
    let (base, mut whole) = (split(base), split(reference));
    let mut path = whole.path.to_owned();
    if whole.scheme.is_none() {
        if whole.authority.is_none() {
            if path.is_empty() {
                path = base.path.to_owned();
                whole.query = whole.query.or(base.query);
            } else if !path.starts_with('/') {
                path = beside(&base, &path);
            }
            whole.authority = base.authority;
        }
        whole.scheme = base.scheme;
    }
    let mut url = whole.scheme.map(|scheme| format!("{scheme}:")).unwrap_or_default();
    url.extend(whole.authority.into_iter().flat_map(|authority| ["//", authority]));
    url += &without_dots(&path);
    url.extend(whole.query.into_iter().flat_map(|query| ["?", query]));
    url
}

/// A path in the folder of the page.
fn beside(base: &Parts<'_>, path: &str) -> String {
    match base.path.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{path}"),
        None if base.authority.is_some() => format!("/{path}"),
        None => path.to_owned(),
    }
}

/// Takes the steps that `.` and `..` are; nothing lies above the root.
fn without_dots(path: &str) -> String {
    if !path.starts_with('/') {
        return path.to_owned(); // that of `mailto:` is none to walk along
    }
    let mut steps = Vec::new();
    for step in path[1..].split('/') {
        match step {
            "." => (),
            ".." => drop(steps.pop()),
            step => steps.push(step),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        steps.push(""); // a folder, not a page
    }
    format!("/{}", steps.join("/"))
}
