//! Trees, manifests and commits that break the rules, under the ids that their bytes have.

mod manifests;

use std::fs;

use store_format::ids::TreeId;
use store_format::object::Object;
use store_format::record::Kind;

use crate::Sandbox;
use crate::forge::{Forge, GOOD, cbor, commit, file_entry, id_of, link_entry, tree_entry};

/// A forged version on `main`, and the exit codes with which its checkout may be refused.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) codes: &'static [i32],
    pub(crate) make: Box<dyn Fn(&Sandbox)>,
}

const CORRUPT: &[i32] = &[6];
/// A limit.
const FULL: &[i32] = &[8];
/// Something that was named is not there.
const LOST: &[i32] = &[3, 6];

fn case(name: impl Into<String>, codes: &'static [i32], make: impl Fn(&Sandbox) + 'static) -> Case {
    Case {
        name: name.into(),
        codes,
        make: Box::new(make),
    }
}

/// A version whose root is made from a good file.
fn root(
    name: impl Into<String>,
    codes: &'static [i32],
    make: impl Fn(&mut Forge, [u8; 32]) -> [u8; 32] + 'static,
) -> Case {
    case(name, codes, move |sandbox| {
        let mut forge = Forge::new(sandbox);
        let good = forge.good();
        let tree = make(&mut forge, good);
        forge.publish(sandbox, tree);
    })
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(links());
    cases.extend(trees());
    cases.extend(deep());
    cases.extend(manifests::cases());
    cases.extend(commits());
    cases
}

fn names() -> Vec<Case> {
    let long = vec![b'x'; 256];
    let names: [(&str, &[u8]); 31] = [
        ("the directory above", b".."),
        ("the directory itself", b"."),
        ("no name", b""),
        ("a path", b"a/b"),
        ("an absolute path", b"/etc/cron.d/x"),
        ("a way out", b"../../outside/canary"),
        ("a way out behind a name", b"a/../../outside/canary"),
        ("a slash at the end", b"a/"),
        ("a backslash", b"..\\outside"),
        ("NUL", b"a\0b"),
        ("a home", b"~"),
        ("somebody's home", b"~root"),
        ("a drive", b"c:"),
        ("a path on a drive", b"C:\\x"),
        ("a long path prefix", b"\\\\?\\C:\\x"),
        ("the store", b".sparse"),
        ("the store in capitals", b".SPARSE"),
        ("the store with a dot", b".sparse."),
        ("the store with a space", b".sparse "),
        ("the store with a long s", ".\u{17f}parse".as_bytes()),
        ("the store with a joiner", ".spa\u{200c}rse".as_bytes()),
        ("the store by its short name", b"SPARSE~1"),
        ("git", b".git"),
        ("git in capitals", b".GIT"),
        ("git by its short name", b"git~1"),
        ("git's stream", b".git::$INDEX_ALLOCATION"),
        ("git behind a mark", "\u{feff}.git".as_bytes()),
        ("git turned round", "\u{202e}.git".as_bytes()),
        ("too long a name", &long),
        ("no text", b"a\xff\xfe"),
        ("half a letter", b"a\xe2\x82"),
    ];
    let mut cases = Vec::new();
    for (what, name) in names {
        let name = name.to_vec();
        cases.push(root(
            format!("name: {what}"),
            CORRUPT,
            move |forge, good| forge.tree(&[file_entry(&name, good, GOOD.len() as u64)]),
        ));
    }
    // The same for a directory and a link, whose names take other ways.
    for (what, name) in [
        ("a directory above", &b".."[..]),
        ("a directory that is the store", b".sparse"),
    ] {
        cases.push(root(
            format!("name: {what}"),
            CORRUPT,
            move |forge, good| {
                let inner = forge.tree(&[file_entry(b"canary", good, GOOD.len() as u64)]);
                forge.tree(&[tree_entry(name, inner)])
            },
        ));
    }
    cases.push(root("name: a link called git", CORRUPT, |forge, _| {
        forge.tree(&[link_entry(b".git", b"x")])
    }));
    cases
}

fn links() -> Vec<Case> {
    let long = vec![b'x'; 4097];
    let alone: [(&str, &[u8]); 10] = [
        ("an absolute path", b"/etc/passwd"),
        ("the folder above", b".."),
        ("a way out", b"../outside/canary"),
        ("a way out behind a name", b"a/../../outside/canary"),
        ("a way out with dots between", b"./.././outside/canary"),
        ("a way out with empty parts", b"a//..//..//outside"),
        ("nothing", b""),
        ("NUL", b"a\0b"),
        ("too long a path", &long),
        ("no text", b"\xff"),
    ];
    let mut cases: Vec<_> = alone
        .into_iter()
        .map(|(what, target)| {
            let target = target.to_vec();
            root(format!("link to {what}"), CORRUPT, move |forge, _| {
                forge.tree(&[link_entry(b"l", &target)])
            })
        })
        .collect();
    cases.push(root("link out of a deep folder", CORRUPT, |forge, _| {
        let inner = forge.tree(&[link_entry(b"l", b"../../../outside")]);
        let middle = forge.tree(&[tree_entry(b"b", inner)]);
        forge.tree(&[tree_entry(b"a", middle)])
    }));
    cases.push(root("links that lead out together", CORRUPT, |forge, _| {
        forge.tree(&[
            link_entry(b"a", b"."),
            link_entry(b"z", b"a/a/../../outside/canary"),
        ])
    }));
    cases.push(root(
        "a folder's link and a way up behind it",
        CORRUPT,
        |forge, good| {
            let inner = forge.tree(&[file_entry(b"x", good, GOOD.len() as u64)]);
            let deep = forge.tree(&[tree_entry(b"b", inner)]);
            forge.tree(&[
                tree_entry(b"d", deep),
                link_entry(b"l", b"d/b"),
                link_entry(b"z", b"l/../../../outside"),
            ])
        },
    ));
    cases.push(root(
        "a file below a link of its own name",
        CORRUPT,
        |forge, good| {
            let inner = forge.tree(&[file_entry(b"canary", good, GOOD.len() as u64)]);
            forge.tree(&[link_entry(b"d", b"../outside"), tree_entry(b"d", inner)])
        },
    ));
    cases
}

fn trees() -> Vec<Case> {
    let entry = |good| file_entry(b"a", good, GOOD.len() as u64);
    let raw = |name: &str, bytes: fn([u8; 32], Vec<u8>) -> Vec<u8>| {
        root(format!("tree {name}"), CORRUPT, move |forge, good| {
            forge.put(Kind::Tree, &bytes(good, entry(good)))
        })
    };
    let b = |good| file_entry(b"b", good, GOOD.len() as u64);
    vec![
        root(
            "tree with names that do not ascend",
            CORRUPT,
            move |forge, good| forge.tree(&[b(good), entry(good)]),
        ),
        root(
            "tree with a name that stands twice",
            CORRUPT,
            move |forge, good| forge.tree(&[entry(good), entry(good)]),
        ),
        raw("with an entry of an unknown kind", |good, _| {
            let strange = [cbor::text(b"a"), cbor::number(9), cbor::bytes(&good)];
            cbor::map(&[cbor::array(&[cbor::array(&strange)])])
        }),
        raw("with an entry that is too long", |good, _| {
            let many = [
                &[cbor::text(b"a"), cbor::number(2), cbor::bytes(&good)][..],
                &[cbor::number(0)],
            ];
            cbor::map(&[cbor::array(&[cbor::array(&many.concat())])])
        }),
        raw("with a short id", |good, _| {
            let short = [cbor::text(b"a"), cbor::number(2), cbor::bytes(&good[..31])];
            cbor::map(&[cbor::array(&[cbor::array(&short)])])
        }),
        raw("with bytes behind it", |_, entry| {
            [cbor::map(&[cbor::array(&[entry])]), vec![0]].concat()
        }),
        raw("that ends too early", |_, entry| {
            let mut whole = cbor::map(&[cbor::array(&[entry])]);
            whole.truncate(whole.len() - 3);
            whole
        }),
        raw("with a key more", |_, entry| {
            cbor::map(&[cbor::array(&[entry]), cbor::number(1)])
        }),
        raw("without its key", |_, _| cbor::head(5, 0)),
        raw("with a long number", |_, entry| {
            [&[0xa1, 0x18, 0][..], &cbor::array(&[entry])].concat()
        }),
        raw("of unbounded length", |_, entry| {
            [&[0xa1, 0, 0x9f][..], &entry, &[0xff]].concat()
        }),
        raw("with a key twice", |_, entry| {
            [&[0xa2, 0][..], &cbor::array(&[entry]), &[0, 0x80]].concat()
        }),
        raw("that claims 2^32 entries", |_, entry| {
            [&[0xa1, 0, 0x9a, 0xff, 0xff, 0xff, 0xff][..], &entry].concat()
        }),
        raw("that claims 2^64 entries", |_, entry| {
            [&[0xa1, 0, 0x9b][..], &[0xff; 8], &entry].concat()
        }),
        raw("that claims a name of 2^63 bytes", |_, _| {
            [&[0xa1, 0, 0x81, 0x84, 0x7b, 0x80][..], &[0; 7], b"a"].concat()
        }),
        raw("nested without end", |_, _| vec![0x81; 1 << 20]),
        raw("of no bytes but zeros", |_, _| vec![0; 4096]),
        raw("that is a number", |_, _| vec![1]),
        raw("with a tag", |_, entry| {
            [&[0xc6][..], &cbor::map(&[cbor::array(&[entry])])].concat()
        }),
        root("tree that is a manifest", &[3, 6], |_, good| good),
        root("tree that is not there", LOST, |_, _| [9; 32]),
        root("file whose manifest is a tree", LOST, |forge, good| {
            let tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
            forge.tree(&[file_entry(b"a", tree, 11)])
        }),
        root("file whose manifest is not there", LOST, |forge, _| {
            forge.tree(&[file_entry(b"a", [8; 32], 11)])
        }),
        root("attachment that is a file", LOST, |forge, good| {
            let entry = [cbor::text(b"a"), cbor::number(4), cbor::bytes(&good)];
            let other = file_entry(b"b", [8; 32], 1);
            forge.tree(&[cbor::array(&entry), other])
        }),
        case("tree under the id of another", CORRUPT, |sandbox| {
            let mut forge = Forge::new(sandbox);
            let good = forge.good();
            let plain = cbor::map(&[cbor::array(&[file_entry(b"a", good, 11)])]);
            let id = TreeId::of(b"another");
            forge.put_as(Kind::Tree, id.into(), &plain);
            forge.publish(sandbox, *id.as_bytes());
        }),
    ]
}

/// Trees in trees: `width` times the same, `height` levels.
fn tower(forge: &mut Forge, mut tree: [u8; 32], width: usize, height: usize) -> [u8; 32] {
    for _ in 0..height {
        let entries: Vec<_> = (0..width)
            .map(|at| tree_entry(format!("{at:03}").as_bytes(), tree))
            .collect();
        tree = forge.tree(&entries);
    }
    tree
}

fn deep() -> Vec<Case> {
    let of = |name: &str, codes, width, height, empty: bool| {
        root(name, codes, move |forge, good| {
            let entry = file_entry(b"a", good, GOOD.len() as u64);
            let entries = if empty { vec![] } else { vec![entry] };
            let bottom = forge.tree(&entries);
            tower(forge, bottom, width, height)
        })
    };
    vec![
        of("a level too many", CORRUPT, 1, 65, false),
        of("a thousand levels", CORRUPT, 1, 1000, false),
        of("two to the fortieth files", FULL, 2, 40, false),
        of("two to the sixtieth folders", FULL, 2, 60, true),
        of("a thousand to the twentieth files", FULL, 1000, 20, false),
        root(
            "files of more bytes than a number holds",
            CORRUPT,
            |forge, good| {
                forge.tree(&[
                    file_entry(b"a", good, u64::MAX),
                    file_entry(b"b", good, u64::MAX),
                ])
            },
        ),
        root("long names many times", FULL, |forge, good| {
            let mut tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
            for _ in 0..20 {
                let name = |letter| vec![letter; 255];
                tree = forge.tree(&[tree_entry(&name(b'a'), tree), tree_entry(&name(b'b'), tree)]);
            }
            tree
        }),
    ]
}

fn commits() -> Vec<Case> {
    let of = |name: &str, codes, bytes: fn(Vec<u8>) -> Vec<u8>| {
        case(format!("commit {name}"), codes, move |sandbox: &Sandbox| {
            let mut forge = Forge::new(sandbox);
            let good = forge.good();
            let tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
            let (_, plain) = commit(tree).to_bytes().expect("a commit");
            forge.publish_commit(sandbox, &bytes(plain));
        })
    };
    vec![
        of("of no bytes but one", CORRUPT, |_| vec![0]),
        of("that is cut", CORRUPT, |plain| {
            plain[..plain.len() / 2].to_vec()
        }),
        of("with bytes behind it", CORRUPT, |plain| {
            [plain, vec![0; 9]].concat()
        }),
        of("nested without end", CORRUPT, |_| vec![0xbf; 1 << 20]),
        of("with a message that is no text", CORRUPT, |mut plain| {
            let at = plain
                .windows(4)
                .position(|w| w == b"harm")
                .expect("a message");
            plain[at] = 0xff;
            plain
        }),
        of("with a message of 2^62 bytes", CORRUPT, |plain| {
            let at = plain
                .windows(4)
                .position(|w| w == b"harm")
                .expect("a message");
            let huge = cbor::head(3, 1 << 62);
            [&plain[..at - 1], &huge, &plain[at..]].concat()
        }),
        case("commit with a hundred parents", CORRUPT, |sandbox| {
            let mut forge = Forge::new(sandbox);
            let good = forge.good();
            let tree = forge.tree(&[file_entry(b"a", good, GOOD.len() as u64)]);
            let (_, plain) = commit(tree).to_bytes().expect("a commit");
            // The tree's key and id come first, then the empty list of parents.
            let at = plain
                .windows(2)
                .position(|w| w == [1, 0x80])
                .expect("no parents");
            let parents: Vec<_> = (0..100_u8).map(|n| cbor::bytes(&[n; 32])).collect();
            let plain = [&plain[..=at], &cbor::array(&parents), &plain[at + 2..]].concat();
            forge.publish_commit(sandbox, &plain);
        }),
        case("commit that is a tree", LOST, |sandbox| {
            let mut forge = Forge::new(sandbox);
            let good = forge.good();
            let plain = cbor::map(&[cbor::array(&[file_entry(b"a", good, 11)])]);
            let id = id_of(Kind::Commit, &plain);
            forge.put_as(Kind::Tree, id, &plain);
            forge.publish_commit(sandbox, &plain);
        }),
    ]
}

#[test]
fn forged_versions_are_refused_and_nothing_is_written_outside() {
    for case in cases() {
        let sandbox = Sandbox::new();
        (case.make)(&sandbox);
        refused(&sandbox, &case.name, case.codes);
    }
}

/// Every command that reads a version refuses it, or does no harm.
pub(crate) fn refused(sandbox: &Sandbox, name: &str, codes: &[i32]) {
    let before = sandbox.outside();
    for words in [
        &["-C", "evil", "checkout", "main", "../out"][..],
        &["-C", "evil", "checkout", "main", "../out", "--force"],
    ] {
        let seen = sandbox.run(name, words);
        let code = seen.code.expect("it ends");
        assert!(codes.contains(&code), "{name}: {code}: {}", seen.err);
    }
    // What a checkout leaves behind that was refused is no file of the version.
    if let Ok(out) = fs::read_dir(sandbox.path("out")) {
        let left: Vec<_> = out
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert!(left.len() <= 1, "{name}: {left:?}");
    }
    for words in [
        &["-C", "evil", "fsck", "--read-data"][..],
        &["-C", "evil", "ls", "main"],
        &["-C", "evil", "cat", "main:a"],
        &["-C", "evil", "log"],
        &["-C", "evil", "stats"],
        &["clone", "evil", "copy"],
    ] {
        let seen = sandbox.run(name, words);
        // Whatever is printed of a file is good.
        let is_cat = words.contains(&"cat");
        assert!(
            !is_cat || GOOD.starts_with(&seen.out) || seen.code != Some(0),
            "{name}"
        );
    }
    assert_eq!(sandbox.outside(), before, "{name}");
}

#[test]
fn a_good_forged_version_is_taken() {
    let sandbox = Sandbox::new();
    let mut forge = Forge::new(&sandbox);
    let good = forge.good();
    let inner = forge.tree(&[link_entry(b"up", b"../a")]);
    let tree = forge.tree(&[
        file_entry(b"a", good, GOOD.len() as u64),
        tree_entry(b"d", inner),
        link_entry(b"l", b"d/../a"),
    ]);
    forge.publish(&sandbox, tree);
    for words in [
        &["-C", "evil", "checkout", "main", "../out"][..],
        &["-C", "evil", "fsck", "--read-data"],
        &["clone", "evil", "copy"],
    ] {
        let seen = sandbox.run("a good version", words);
        assert_eq!(seen.code, Some(0), "{words:?}: {}", seen.err);
    }
    for path in ["out/a", "out/d/up", "out/l", "copy/a"] {
        assert_eq!(
            fs::read(sandbox.path(path)).expect("a file"),
            GOOD,
            "{path}"
        );
    }
}
