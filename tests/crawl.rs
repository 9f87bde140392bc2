//! The crawler finds in a page what a browser finds in it, and loses no page with a process.

#[path = "../seeds/crawl/page.rs"]
mod page;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use page::html::{Found, find};
use page::link::resolve;
use page::{Page, load, load_within};
use support::example;

const SITE: &str = "http://garden.example/tools/spade.html";
const SECOND: Duration = Duration::from_secs(1);

/// How many buttons, and the ids.
fn buttons(html: &str) -> (usize, Vec<String>) {
    let Found { buttons, ids, .. } = find(html, SITE);
    (buttons, ids)
}

#[track_caller]
fn assert_id(html: &str, id: &str) {
    assert_eq!(buttons(html), (1, vec![id.to_owned()]), "{html}");
}

#[track_caller]
fn assert_links(html: &str, links: &[&str]) {
    assert_eq!(find(html, SITE).links, links, "{html}");
}

#[test]
fn id_of_a_button_is_read_in_every_notation() {
    assert_id(r#"<button id="buy">"#, "buy");
    assert_id("<button id='buy'>Buy</button>", "buy");
    assert_id("<button id=buy>Buy</button>", "buy");
    assert_id("<button disabled id=buy/now class=big>", "buy/now");
    assert_id("<BUTTON CLASS=big ID=Buy>", "Buy");
    assert_id("<button\n\tclass = 'big'\n\tid\n=\n\"buy\"\n>", "buy");
    assert_id(r#"<button id='say "yes"'>"#, r#"say "yes""#);
    assert_id(
        r#"<button id="a&amp;b &#60;&#x3E; &quot;c&quot; d&apos;s &eacute; &#0000000; &#xD800;">"#,
        "a&b <> \"c\" d's &eacute; \0 \u{FFFD}",
    );
    assert_id(r#"<button id="&amp;lt;">"#, "&lt;"); // once, and not twice
    assert_id(r#"<button data-id="no" id="buy" id="second">"#, "buy");
    assert_id(r#"<button title="id=no" onclick='if (a > b) id="no"' id=buy>"#, "buy");
    assert_id("<button id=schließen>", "schließen");
    assert_id("<input type=submit id=send>", "send");
    assert_id("<INPUT ID='send' TYPE='Button' />", "send");
}

#[test]
fn button_without_an_id_is_counted() {
    assert_eq!(buttons("<button>Close</button>"), (1, vec![]));
    assert_eq!(
        buttons("<button id=''>a</button><button id>b</button><button/><button id=c>"),
        (4, vec!["c".into()])
    );
    let same = "<button id=x></button><button id=x></button>";
    assert_eq!(buttons(same), (2, vec!["x".into(), "x".into()]));
}

#[test]
fn what_is_no_tag_to_a_browser_is_none() {
    for html in [
        "<!-- <button id=a> --> <!-- <a href=b>",
        "<script>'<button id=a>'</script>",
        "<SCRIPT type=module>'</style><button id=a>'</Script >",
        "<style>/* <button id=a> */",
        "<title><button id=a></title><textarea><a href=b></textarea>",
        "< button id=a> &lt;button id=a&gt; </button> </a href=b>",
        "<buttons id=a> <button-like id=a> <abbr href=b> <link href=b> <input id=a> <input type=text id=a>",
        "<p title='<button id=a>'>",
        "<p <button id=a>", // a tag with odd attributes
    ] {
        assert_eq!(find(html, SITE), Found::default(), "{html}");
    }
    assert_id("<scripts><button id=a></scripts>", "a");
    assert_id("<script>1</script><button id=a><!----><style></style>", "a");
}

#[test]
fn broken_page_gives_what_can_be_read_of_it() {
    assert_eq!(find("", SITE), Found::default());
    assert_eq!(find("<", SITE), Found::default());
    assert_eq!(find("<button id=a", SITE), Found::default()); // the page is cut off: there is no tag yet
    assert_eq!(find(r#"<a href="never closed>…"#, SITE).links, [""; 0]);
    assert_id("<<button id=a>>", "a");
    assert_id("<p></i></b><button id=a></p></a>", "a");
    assert_id("<p class='open><button id=a>", "a");
    assert_links(
        "<a href=x>1<a href=y>2</p><a =z href=z>",
        &["http://garden.example/tools/x", "http://garden.example/tools/y", "http://garden.example/tools/z"],
    );
    let many = "<a href=x".repeat(100_000);
    assert_eq!(find(&many, SITE), Found::default());
}

#[test]
fn links_are_made_whole_and_named_once() {
    assert_links(
        r##"<a href="fork.html">1</a> <a href='../basket.html#sum'>2</a> <A HREF=/help.html?a=1&amp;b=2>3</A>
            <a href=" https://other.example/x#y ">4</a> <a href="//maps.example">5</a> <area href="?page=2">
            <a href="mailto:me@garden.example">7</a> <a href="fork.html#handle">again</a> <a href="./fork.html">again</a>"##,
        &[
            "http://garden.example/tools/fork.html",
            "http://garden.example/basket.html",
            "http://garden.example/help.html?a=1&b=2",
            "https://other.example/x",
            "http://maps.example",
            "http://garden.example/tools/spade.html?page=2",
            "mailto:me@garden.example",
        ],
    );
    assert_links(r##"<a href="#top"> <a href=""> <a href> <a name=x> <a href="JavaScript:go()">"##, &[]);
    assert_links("<base target=_top><base href=/shop/><a href=x>", &["http://garden.example/shop/x"]);
}

/// The examples of RFC 3986, sections 5.4.1 and 5.4.2; those with a fragment lose it.
#[test]
fn references_resolve_as_in_the_rfc() {
    for (reference, whole) in [
        ("g:h", "g:h"),
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q"),
        ("g#s", "http://a/b/c/g"),
        ("g?y#s", "http://a/b/c/g?y"),
        (";x", "http://a/b/c/;x"),
        ("g;x?y#s", "http://a/b/c/g;x?y"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("./", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../", "http://a/"),
        ("../../g", "http://a/g"),
        ("../../../g", "http://a/g"),
        ("../../../../g", "http://a/g"),
        ("/./g", "http://a/g"),
        ("/../g", "http://a/g"),
        ("g.", "http://a/b/c/g."),
        (".g", "http://a/b/c/.g"),
        ("g..", "http://a/b/c/g.."),
        ("..g", "http://a/b/c/..g"),
        ("./../g", "http://a/b/g"),
        ("./g/.", "http://a/b/c/g/"),
        ("g/./h", "http://a/b/c/g/h"),
        ("g/../h", "http://a/b/c/h"),
        ("g;x=1/./y", "http://a/b/c/g;x=1/y"),
        ("g;x=1/../y", "http://a/b/c/y"),
        ("g?y/./x", "http://a/b/c/g?y/./x"),
        ("g?y/../x", "http://a/b/c/g?y/../x"),
        ("g#s/../x", "http://a/b/c/g"),
        ("http:g", "http:g"),
    ] {
        assert_eq!(resolve("http://a/b/c/d;p?q", reference), whole, "{reference}");
    }
    assert_eq!(resolve("http://a", "g"), "http://a/g");
    assert_eq!(resolve("http://a?q", "g?z"), "http://a/g?z");
}

/// What a client asks for.
fn request(client: &mut TcpStream) -> String {
    let (mut request, mut piece) = (Vec::new(), [0; 4096]);
    while !request.ends_with(b"\r\n\r\n") {
        let length = client.read(&mut piece).unwrap();
        assert_ne!(length, 0, "half a request");
        request.extend(&piece[..length]);
    }
    String::from_utf8(request).unwrap().split(' ').nth(1).unwrap().to_owned()
}

/// A server for one connection after another, each with its answer to whatever is asked; then it is gone. What it
/// answers is told with its own address in the place of `SITE`.
fn serve<'a>(scope: &'a thread::Scope<'a, '_>, answers: &'a [&[u8]]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/tools/spade.html", listener.local_addr().unwrap());
    scope.spawn(move || {
        for answer in answers {
            let (mut client, _) = listener.accept().unwrap();
            request(&mut client);
            drop(client.write_all(answer)); // whoever has enough need not read it all
        }
    });
    url
}

#[track_caller]
fn loaded(answers: &[&[u8]], bytes: u64) -> Result<Page, String> {
    thread::scope(|scope| load_within(&serve(scope, answers), 10 * SECOND, bytes))
}

fn body(length: usize) -> Vec<u8> {
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    [&head[..], &vec![b'x'; length][..]].concat()
}

#[test]
fn page_that_cannot_be_had_says_why() {
    let _test = support::test(60);
    let why = |answer: &[u8]| loaded(&[answer], 1000).unwrap_err();
    assert_eq!(why(b"HTTP/1.1 404 Not Found\r\n\r\n<button id=a>"), "404 Not Found");
    assert_eq!(why(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "503 Service Unavailable");
    assert_eq!(why(b"HTTP/1.1 299 Odd\r\nContent-Length: 9\r\n\r\ncut"), "Peer disconnected");
    assert_eq!(why(b""), "Peer disconnected");
    assert!(why(b"SSH-2.0-OpenSSH\r\n\r\n").starts_with("protocol: "));

    assert_eq!(load("http://127.0.0.1:1/".into()).unwrap_err(), "connection refused");
    assert!(load("http://no-such-host.invalid/".into()).unwrap_err().contains("lookup"));
    let secure = TcpListener::bind("127.0.0.1:0").unwrap();
    let secure = load(format!("https://{}/", secure.local_addr().unwrap()));
    assert_eq!(secure.unwrap_err(), "https needs `--features ureq/rustls`");
    for strange in ["gopher://old", "no address", "", "/etc/passwd", "https://127.0.0.1:1/"] {
        assert!(!load(strange.into()).unwrap_err().is_empty(), "{strange}");
    }
}

#[test]
fn page_that_does_not_come_is_given_up_in_time() {
    let _test = support::test(60);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // the kernel connects, and nobody answers
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let start = Instant::now();
    assert_eq!(load_within(&url, SECOND / 2, 1000).unwrap_err(), "not there within 500ms");
    assert!(start.elapsed() >= SECOND / 2 && start.elapsed() < 5 * SECOND);
}

#[test]
fn page_may_be_as_large_as_its_limit_and_no_larger() {
    let _test = support::test(60);
    assert_eq!(loaded(&[&body(1000)], 1000).unwrap().bytes, 1000);
    assert_eq!(loaded(&[&body(1001)], 1000).unwrap_err(), "larger than 1000 bytes");
    assert_eq!(loaded(&[&body(3_000_000)], 1000).unwrap_err(), "larger than 1000 bytes");
    assert_eq!(loaded(&[&body(0)], 1000).unwrap().found, Found::default());
}

#[test]
fn page_that_is_not_utf8_is_read_as_latin_1() {
    let _test = support::test(60);
    let latin = [&body(0)[..], b"<button id=schlie\xdfen><a href=\xfcber-uns>"].concat();
    let page = loaded(&[&latin], 1000).unwrap();
    assert!(!page.is_utf8);
    assert_eq!(page.found.ids, ["schließen"]);
    assert!(page.found.links[0].ends_with("/tools/über-uns"), "{:?}", page.found.links);
}

#[test]
fn links_lead_on_from_where_the_page_was_moved_to() {
    let _test = support::test(60);
    let moved: &[u8] =
        b"HTTP/1.1 301 Moved\r\nLocation: /garden/\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let page = loaded(&[moved, &[&body(0)[..], b"<a href=pond.html>"].concat()], 1000).unwrap();
    assert!(page.found.links[0].ends_with("/garden/pond.html"), "{:?}", page.found.links);
    let round = loaded(&[moved; 11], 1000).unwrap_err();
    assert_eq!(round, "too many redirects");
}

/// The process that has the other end of a connection of this machine.
fn reader(client: &TcpStream) -> i32 {
    let end = |port| format!("0100007F:{port:04X}");
    let ends = [client.peer_addr(), client.local_addr()].map(|address| end(address.unwrap().port()));
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut sockets = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let socket = sockets.find(|socket| socket[1..3] == ends).unwrap();
    let link = format!("socket:[{}]", socket[9]);
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let has_it = |pid: &i32| {
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.as_os_str() == &*link))
    };
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).find(has_it).unwrap()
}

/// Crawls pages of a server of ours, which kills who asks for `/deadly`, so often; answers what was printed, and who was
/// killed.
fn crawl(deaths: usize, pages: &[&str]) -> (Output, Vec<i32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let site = format!("http://{}", listener.local_addr().unwrap());
    let (is_over, mut killed) = (&AtomicBool::new(false), Vec::new());
    let output = thread::scope(|scope| {
        let server = scope.spawn(|| {
            for mut client in listener.incoming().flatten() {
                if is_over.load(Relaxed) {
                    break;
                }
                let path = request(&mut client);
                if path == "/deadly" && killed.len() < deaths {
                    let reader = reader(&client);
                    kill(Pid::from_raw(reader), Signal::SIGKILL).unwrap();
                    killed.push(reader);
                } else {
                    client.write_all(&[&body(0), &*page_at(&path)].concat()).unwrap();
                }
            }
        });
        let output = example("crawl").args(pages.iter().map(|page| format!("{site}{page}"))).output();
        is_over.store(true, Relaxed);
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        server.join().unwrap();
        output.unwrap()
    });
    (output, killed)
}

fn page_at(path: &str) -> Vec<u8> {
    if path == "/rude" {
        return b"<button id='\x1b[2J\n&#27;'><button id=\x9b>".into(); // \x9b: as Latin-1 a control, too
    }
    format!("<button id={}-button><a href={path}/link>", &path[1..]).into()
}

/// The line of a page.
#[track_caller]
fn line(output: &Output, page: &str) -> String {
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let is = |line: &&str| line.split(' ').next().is_some_and(|url| url.ends_with(page));
    text.lines().find(is).unwrap_or_else(|| panic!("no {page}: {text}")).to_owned()
}

const MANY: [&str; 10] = ["/1", "/2", "/3", "/deadly", "/5", "/6", "/7", "/8", "/9", "/10"];

#[test]
fn page_of_a_dead_consumer_is_read_by_another() {
    let _test = support::test(60);
    let (output, killed) = crawl(1, &MANY);
    for page in MANY {
        let cells = [format!("1: {}-button ", &page[1..]), format!("1: {page}/link")];
        let line = line(&output, page);
        assert!(cells.iter().all(|cell| line.contains(cell)), "{line}");
        assert_eq!(line.ends_with("died of it before)"), page == "/deadly", "{line}");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let death = format!("(pid {}): process ended without a result, with signal 9 (SIGKILL)", killed[0]);
    assert!(text.contains(&death) && text.lines().count() == 13, "{text}");
}

#[test]
fn page_that_all_die_of_is_given_up_and_the_others_are_read() {
    let _test = support::test(60);
    let (output, killed) = crawl(usize::MAX, &MANY);
    assert!((2..=3).contains(&killed.len()), "{killed:?}");
    let given_up = line(&output, "/deadly");
    assert!(given_up.contains(" given up ("), "{given_up}");
    for page in MANY.iter().filter(|page| **page != "/deadly") {
        let line = line(&output, page);
        assert!(line.contains(&format!("1: {}-button ", &page[1..])), "{line}");
    }
}

#[test]
fn page_cannot_write_beyond_its_cell() {
    let _test = support::test(60);
    let (output, _) = crawl(0, &["/rude", "/2"]);
    assert!(line(&output, "/rude").contains(" 2: \u{FFFD}[2J\u{FFFD}\u{FFFD} \u{FFFD} "), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 4, "{output:?}");
}
