//! Named data goes to a file and comes back.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn a_snapshot_has_all_named_data() {
    let _test = test(60);
    let folder = Folder::new();
    let path = folder.file("data", b"");
    let bytes = path.as_os_str().as_encoded_bytes();
    let server = Server::start(Limits::default());
    let client = server.client();
    let [dict, list] =
        [(Kind::Dict, &b"dict"[..]), (Kind::List, b"")].map(|(kind, name)| client.create(kind, name));
    let lock = client.create(Kind::Lock, b"lock");
    for n in [3u8, 1, 2] {
        client.ask(Op::ListPush, list, |message| message.put_value(&[dict], &[n]));
        client.set(dict, &[n], &[n; 3]);
    }
    client.ask(Op::MapSet, dict, |message| {
        message.put_bytes(b"list");
        message.put_value(&[list, lock], b"both");
    });
    assert_eq!(client.ask(Op::Save, 0, |message| message.put_bytes(bytes)), (Answer::Done, vec![]));
    let saved = std::fs::read(&path).unwrap();

    let server = Server::start(Limits::default());
    let client = server.client();
    let before = client.create(Kind::Dict, b"dict");
    client.set(before, b"former", b"");
    let (answer, rest) = client.ask(Op::Load, 0, |message| message.put_bytes(bytes));
    assert_eq!((answer, number(&rest)), (Answer::Done, 1));
    assert_eq!(client.get(before, b"former").0, Answer::Nothing);
    assert_eq!(client.get(before, &[1]).1[8..], [1; 3]);
    let (_, rest) = client.get(before, b"list");
    let both = Reader::new(&rest).value().unwrap();
    let references: Vec<u64> = both.references().collect();
    assert_eq!((both.bytes, references[1]), (&b"both"[..], 0), "a lock is no data");
    let (_, rest) = client.ask(Op::ListGet, references[0], |message| message.put_index(0));
    let first = Reader::new(&rest).value().unwrap();
    assert_eq!(first.bytes, [3]);
    assert!(first.references().eq([before]), "a cycle is a cycle again");
    client.ask(Op::MapClear, before, |_| ());
    client.tell(Op::Release, references[0], |_| ());

    // Whatever is damaged is said, and nothing comes of it.
    let empty = client.create(Kind::List, b"other");
    for at in 0..saved.len() {
        let mut damaged = saved.clone();
        damaged[at] ^= 1 << (at % 8);
        let cut = &saved[..at];
        for bytes in [&damaged[..], cut] {
            let path = folder.file("damaged", bytes);
            let path = path.as_os_str().as_encoded_bytes();
            let said = client.ask(Op::Load, 0, |message| message.put_bytes(path));
            assert_eq!(said.0, Answer::Failed, "byte {at}");
        }
    }
    assert_eq!(client.ask(Op::ListLen, empty, |_| ()).1, [0; 8]);
    for (name, said) in [(&b"here"[..], b"the path must"), (&b"/nowhere/at/all"[..], b"/nowhere/at/a")] {
        let (answer, rest) = client.ask(Op::Save, 0, |message| message.put_bytes(name));
        assert_eq!((answer, &rest[4..17]), (Answer::Failed, &said[..]));
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "nothing is left behind");
}

/// A whole file with that content.
fn forge(objects: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut rest = Vec::new();
    objects(&mut rest);
    let mut file = Vec::new();
    file.put(b"mpdata\r\n");
    file.put_u32(1);
    file.put_u32(0);
    file.put_number(rest.len() as u64);
    file.put_number(crate::manager::server::snapshot::checksum(&rest));
    file.put(&rest);
    file
}

#[test]
fn names_that_a_snapshot_has_twice_are_no_names() {
    let _test = test(60);
    let folder = Folder::new();
    let server = Server::start(Limits::default());
    let client = server.client();
    let names: [&[(&[u8], u64)]; 4] =
        [&[(b"a", 1), (b"b", 1)], &[(b"a", 1), (b"a", 2)], &[(b"a", 3)], &[(&[b'a'; 1025], 1)]];
    for names in names {
        let bytes = forge(&|bytes| {
            bytes.put_u32(2);
            for _ in 0..2 {
                bytes.put_u8(Kind::Dict as u8);
                bytes.put_number(0);
            }
            bytes.put_u32(names.len() as u32);
            for (name, place) in names {
                bytes.put_bytes(name);
                bytes.put_number(*place);
            }
        });
        let path = folder.file("forged", &bytes);
        let said = client.ask(Op::Load, 0, |message| message.put_bytes(path.as_os_str().as_encoded_bytes()));
        assert_eq!(said.0, Answer::Failed, "{names:?}");
        assert!(at_base(&client.statistics()));
    }
}
