//! The files of a store themselves, whose own checks are right.

use std::fs;
use std::path::PathBuf;

use sparse_store::store::Store;
use sparse_store::store::host::Host;
use store_format::pack::TRAILER_BYTES;

use crate::Sandbox;
use crate::forge::{Forge, GOOD, file_entry};

/// A change to a good store behind its back.
pub(crate) struct Case {
    pub(crate) name: String,
    change: Box<dyn Fn(&Sandbox)>,
}

fn case(name: impl Into<String>, change: impl Fn(&Sandbox) + 'static) -> Case {
    Case {
        name: name.into(),
        change: Box::new(change),
    }
}

/// The files of a kind: by their folder and the end of their name.
fn find(sandbox: &Sandbox, dir: &str, end: &str) -> Vec<PathBuf> {
    let mut open = vec![sandbox.path("evil/.sparse").join(dir)];
    let mut found = Vec::new();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Files of the store are read-only.
fn write(path: &PathBuf, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).expect("a file");
}

fn rewrite(path: &PathBuf, change: &dyn Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    write(path, &bytes);
}

/// With the check at the end made right.
fn rechecked(bytes: &mut [u8]) {
    let (covered, check) = bytes.split_last_chunk_mut::<32>().expect("a check");
    *check = *blake3::hash(covered).as_bytes();
}

fn newest(sandbox: &Sandbox) -> PathBuf {
    find(sandbox, "refs", "").pop().expect("a table")
}

/// The newest table with other bytes and a right check.
fn table(name: &str, change: impl Fn(&mut Vec<u8>) + 'static) -> Case {
    case(format!("table {name}"), move |sandbox| {
        rewrite(&newest(sandbox), &|bytes| {
            change(bytes);
            rechecked(bytes);
        });
    })
}

fn replace(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|part| part == from);
    let at = at.expect("it is there");
    bytes.splice(at..at + from.len(), to.iter().copied());
}

fn tables() -> Vec<Case> {
    vec![
        case("table of nothing", |s| write(&newest(s), b"")),
        case("table of zeros", |s| write(&newest(s), &[0; 5000])),
        case("table of twenty megabytes", |s| {
            write(&newest(s), &[7; 20 << 20])
        }),
        table("of another magic", |bytes| bytes[0] ^= 1),
        table("of a later version", |bytes| bytes[8] = 9),
        table("with a way out as a name", |b| {
            replace(b, b"heads/main", b"heads/../x")
        }),
        table("with an absolute name", |b| {
            replace(b, b"heads/main", b"/etc/passw")
        }),
        table("with NUL in a name", |b| {
            replace(b, b"heads/main", b"heads/ma\0n")
        }),
        table("with a line in a name", |b| {
            replace(b, b"heads/main", b"heads/m\nin")
        }),
        table("with a lock as a name", |b| {
            replace(b, b"heads/main", b"heads.lock")
        }),
        table("with an option as a name", |b| {
            replace(b, b"heads/main", b"--force-wx")
        }),
        table("with an escape in a name", |b| {
            replace(b, b"heads/main", b"heads/\x1b[2J")
        }),
        table("nested without end", |bytes| {
            bytes.truncate(12);
            bytes.extend(vec![0x81; 1 << 20]);
        }),
        table("of a claimed 2^64 references", |bytes| {
            replace(
                bytes,
                &[5, 0x81],
                &[5, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255],
            );
        }),
        case("table under the number of another", |s| {
            let bytes = fs::read(newest(s)).expect("a table");
            write(&s.path("evil/.sparse/refs/0000000000000009"), &bytes);
        }),
        case("table with the greatest number", |s| {
            write(&s.path("evil/.sparse/refs/9999999999999999"), b"x");
        }),
        case("table that is a folder", |s| {
            fs::create_dir(s.path("evil/.sparse/refs/0000000000000009")).expect("a folder");
        }),
        case("table that is a link to a file outside", |s| {
            let link = s.path("evil/.sparse/refs/0000000000000009");
            std::os::unix::fs::symlink("../../../outside/canary", link).expect("a link");
        }),
        case("tables that are all gone", |s| {
            for path in find(s, "refs", "") {
                fs::remove_file(path).expect("it goes");
            }
        }),
    ]
}

/// The pack of the chunks with other bytes; its name is what they are then.
fn pack(name: &str, change: impl Fn(&mut Vec<u8>) + 'static) -> Case {
    case(format!("pack {name}"), move |sandbox| {
        for path in find(sandbox, "packs", ".pack") {
            let mut bytes = fs::read(&path).expect("a pack");
            fs::remove_file(&path).expect("it goes");
            fs::remove_file(path.with_extension("idx")).expect("it goes");
            change(&mut bytes);
            let id = blake3::hash(&bytes).to_hex();
            let dir = sandbox.path("evil/.sparse/packs").join(&id[..2]);
            fs::create_dir_all(&dir).expect("a folder");
            write(&dir.join(format!("{id}.pack")), &bytes);
        }
    })
}

/// Changes the table of a pack and makes the trailer's check of it right.
fn in_table(bytes: &mut [u8], change: &dyn Fn(&mut [u8])) {
    let end = bytes.len() - TRAILER_BYTES;
    let (before, tail) = bytes.split_at_mut(end);
    let start = u64::from_le_bytes(*tail.first_chunk().expect("an offset"));
    let table = &mut before[usize::try_from(start).expect("small")..];
    change(table);
    tail[16..48].copy_from_slice(blake3::hash(table).as_bytes());
}

fn packs() -> Vec<Case> {
    let trailer = |name: &str, at: usize, value: &'static [u8]| {
        pack(name, move |bytes| {
            let at = bytes.len() - TRAILER_BYTES + at;
            bytes[at..at + value.len()].copy_from_slice(value);
        })
    };
    vec![
        pack("of nothing", Vec::clear),
        pack("of a header", |bytes| bytes.truncate(32)),
        pack("of a megabyte of zeros", |bytes| *bytes = vec![0; 1 << 20]),
        pack("without its trailer", |bytes| {
            bytes.truncate(bytes.len() - 64)
        }),
        pack("of another magic", |bytes| bytes[0] ^= 1),
        pack("of a later version", |bytes| bytes[8] = 9),
        pack("of an unknown kind", |bytes| bytes[10] = 99),
        pack("with reserved bytes", |bytes| bytes[12] = 1),
        pack("with bytes behind it", |bytes| bytes.extend([0; 100])),
        trailer("whose table lies at 2^64", 0, &[0xff; 8]),
        trailer("whose table lies in its header", 0, &[0; 8]),
        trailer("of 2^32 records", 8, &[0xff; 4]),
        trailer("of no records", 8, &[0; 4]),
        trailer("of 2^32 needs", 12, &[0xff; 4]),
        trailer("with a wrong check", 16, &[0; 32]),
        trailer("with a later trailer", 48, &[9, 9, 9, 9, 9, 9, 9, 9]),
        pack("whose table is all ones", |b| {
            in_table(b, &|table| table.fill(0xff))
        }),
        pack("whose table is zeros", |b| {
            in_table(b, &|table| table.fill(0))
        }),
        pack("whose table is turned round", |b| {
            in_table(b, &|table| table.reverse())
        }),
        pack("whose records lie in its table", |b| {
            in_table(b, &|table| {
                let half = table.len() / 2;
                table[half..].fill(0x77);
            });
        }),
        pack("whose records are one record", |bytes| {
            let end = bytes.len() - 300.min(bytes.len());
            let first = bytes[32..64].to_vec();
            if end > 200 {
                bytes[96..128].copy_from_slice(&first);
            }
        }),
    ]
}

fn others() -> Vec<Case> {
    let in_index = |name: &str, change: fn(&mut Vec<u8>)| {
        case(format!("index {name}"), move |s| {
            for path in find(s, "packs", ".idx") {
                rewrite(&path, &|bytes| {
                    change(bytes);
                    if bytes.len() > 100 {
                        rechecked(bytes);
                    }
                });
            }
        })
    };
    let file = |name: &str, path: &'static str, bytes: &'static [u8]| {
        case(name, move |s: &Sandbox| write(&s.path(path), bytes))
    };
    let big: &'static [u8] = vec![b'x'; 8 << 20].leak();
    vec![
        in_index("of nothing", Vec::clear),
        in_index("of all ones", |bytes| bytes.fill(0xff)),
        in_index("of another pack", |bytes| bytes[20] ^= 1),
        in_index("whose rows are noise", |bytes| {
            let end = bytes.len() - 32;
            bytes[64..end].fill(0x5a);
        }),
        in_index("whose offsets are huge", |bytes| {
            let end = bytes.len() - 32;
            let from = end - (end - 64) / 3;
            bytes[from..end].fill(0xff);
        }),
        in_index("that is cut", |bytes| bytes.truncate(90)),
        file(
            "merged index of noise",
            "evil/.sparse/mpi/0000000000000001-00.mpi",
            big,
        ),
        file("merged index of nothing", "evil/.sparse/mpi/x.mpi", b""),
        case("operation of noise", |s| {
            for path in find(s, "ops", "") {
                write(&path, &[0x81; 9000]);
            }
        }),
        case("operation of another name", |s| {
            let paths = find(s, "ops", "");
            let bytes = fs::read(&paths[0]).expect("an operation");
            write(&paths[1], &bytes);
        }),
        case("operations that are gone", |s| {
            for path in find(s, "ops", "") {
                fs::remove_file(path).expect("it goes");
            }
        }),
        file(
            "operation that nobody knows",
            "evil/.sparse/ops/stray",
            b"x",
        ),
        file("format of nothing", "evil/.sparse/format", b""),
        file("format of eight megabytes", "evil/.sparse/format", big),
        file(
            "format that is no text",
            "evil/.sparse/format",
            &[0xff; 200],
        ),
        case("format of a later version", |s| {
            rewrite(&s.path("evil/.sparse/format"), &|bytes| {
                let text = String::from_utf8(bytes.clone()).expect("text");
                let body = &text[..text.rfind("check ").expect("a check")];
                let body = body
                    .replace("version 1", "version 77")
                    .replace("reader 1", "reader 77");
                let check = blake3::hash(body.as_bytes()).to_hex();
                *bytes = format!("{body}check {check}\n").into_bytes();
            });
        }),
        file(
            "HEAD with a way out",
            "evil/.sparse/HEAD",
            b"branch ../../outside/canary\n",
        ),
        file("HEAD of eight megabytes", "evil/.sparse/HEAD", big),
        file("HEAD that is no text", "evil/.sparse/HEAD", &[0xff, 0, 10]),
        file("stat of eight megabytes", "evil/.sparse/stat", big),
        file(
            "settings of noise",
            "evil/.sparse/config.toml",
            &[0xfe; 300],
        ),
        file(
            "settings nested without end",
            "evil/.sparse/config.toml",
            vec![b'['; 100_000].leak(),
        ),
        file(
            "settings of eight megabytes",
            "evil/.sparse/config.toml",
            big,
        ),
        file("lease of noise", "evil/.sparse/leases/x", big),
        file("condemned list of noise", "evil/.sparse/condemned/x", big),
        file("condemned list of nothing", "evil/.sparse/condemned/y", b""),
    ]
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = tables();
    cases.extend(packs());
    cases.extend(others());
    cases
}

#[test]
fn a_pack_with_bytes_between_its_records_and_its_table_is_damaged() {
    let sandbox = Sandbox::new();
    let mut forge = Forge::new(&sandbox);
    let good = forge.good();
    let tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
    forge.publish(&sandbox, tree);
    let between = pack("with bytes between", |bytes| {
        let end = bytes.len() - TRAILER_BYTES;
        let start = u64::from_le_bytes(*bytes[end..].first_chunk().expect("an offset"));
        let at = usize::try_from(start).expect("small");
        bytes[end..end + 8].copy_from_slice(&(start + 8).to_le_bytes());
        bytes.splice(at..at, *b"garbage!");
    });
    let whole = sandbox.run("before", &["-C", "evil", "fsck"]);
    assert_eq!(whole.code, Some(0));
    (between.change)(&sandbox);
    let seen = sandbox.run(&between.name, &["-C", "evil", "fsck"]);
    assert_ne!(seen.code, Some(0));
    let seen = sandbox.run(&between.name, &["-C", "evil", "cat", "main:a"]);
    assert_eq!(seen.out, GOOD);
}

#[test]
fn forged_files_of_a_store_are_refused_or_do_not_matter() {
    for case in cases() {
        let sandbox = Sandbox::new();
        let mut forge = Forge::new(&sandbox);
        let good = forge.good();
        let tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
        forge.publish(&sandbox, tree);
        (case.change)(&sandbox);
        let name = &case.name;
        let before = sandbox.outside();
        let seen = sandbox.run(name, &["-C", "evil", "checkout", "main", "../out"]);
        let out = fs::read(sandbox.path("out/a"));
        match seen.code {
            Some(0) => assert_eq!(out.expect("a file"), GOOD, "{name}"),
            _ => assert!(out.is_err(), "{name}"),
        }
        for words in [
            &["-C", "evil", "cat", "main:a"][..],
            &["-C", "evil", "log"],
            &["-C", "evil", "status"],
            &["-C", "evil", "fsck", "--read-data"],
            &["-C", "evil", "gc", "--grace", "0s"],
            &["clone", "evil", "copy"],
            &["-C", "evil", "repair"],
        ] {
            let seen = sandbox.run(name, words);
            let is_cat = words.contains(&"cat");
            assert!(!is_cat || GOOD.starts_with(&seen.out), "{name}");
        }
        assert_eq!(sandbox.outside(), before, "{name}");
    }
}

#[test]
fn a_clone_of_a_store_that_lies_moves_no_reference() {
    for case in packs() {
        let sandbox = Sandbox::new();
        let mut forge = Forge::new(&sandbox);
        let good = forge.good();
        let tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
        forge.publish(&sandbox, tree);
        let seen = sandbox.run("bare", &["init", "-q", "bare"]);
        assert_eq!(seen.code, Some(0), "{}", seen.err);
        let words = ["-C", "bare", "remote", "add", "origin", "../evil"];
        let seen = sandbox.run("bare", &words);
        assert_eq!(seen.code, Some(0), "{}", seen.err);
        (case.change)(&sandbox);
        let seen = sandbox.run(&case.name, &["-C", "bare", "fetch", "origin"]);
        let near = Store::open(&sandbox.path("bare/.sparse"), Host::system()).expect("a store");
        let moved = !near.head().expect("a table").table.references.is_empty();
        assert_eq!(moved, seen.code == Some(0), "{}: {}", case.name, seen.err);
        if moved {
            let seen = sandbox.run(&case.name, &["-C", "bare", "fsck", "--read-data"]);
            assert_eq!(seen.code, Some(0), "{}: {}", case.name, seen.err);
        }
    }
}
