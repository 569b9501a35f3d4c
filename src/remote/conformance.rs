//! The laws of a remote, tried on a real one: for tests, and before a remote is trusted.
//!
//! May use: `error`, `bytes`, `remote`. Works under a scratch prefix only and clears it up.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Kind, Result};
use crate::remote::{Created, Listed, Remote, Span, get_exact, get_whole, list_all};

/// Files of the test of listing: more than one page anywhere.
const MANY: usize = 1100;
/// Rounds and writers of the test of creation.
const RACES: usize = 5;
const RACERS: usize = 16;
/// Larger than one part of an upload in parts.
const LARGE_BYTES: usize = (16 << 20) + 1;

/// A law that a remote does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The law.
    pub law: Law,
    /// What was seen.
    pub seen: String,
}

/// What every remote must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// A second creation is refused and changes nothing.
    CreatesOnce,
    /// Of many who create one file at a time, one wins, and it is his file.
    OneWinner,
    /// What was put, replaced or deleted is seen by the next call.
    SeesItsWrites,
    /// A list holds every file once, ascending, from where it was asked to start.
    ListsAll,
    /// Ranges are what was asked for, and end with the file.
    ReadsRanges,
    /// Whoever reads a file that is being replaced gets the old or the new one whole.
    ReplacesWhole,
    /// Files of any size come back as they were.
    KeepsBytes,
    /// Paths that lead elsewhere are refused.
    RefusesPaths,
}

impl Law {
    /// Every law, in the order in which they are tried.
    pub const ALL: [Self; 8] = [
        Self::CreatesOnce,
        Self::OneWinner,
        Self::SeesItsWrites,
        Self::ListsAll,
        Self::ReadsRanges,
        Self::ReplacesWhole,
        Self::KeepsBytes,
        Self::RefusesPaths,
    ];
}

/// Tries every law under `scratch`, a path that nobody else uses, and gives those that do not
/// hold. A call that fails breaks the law that it belongs to.
#[must_use]
pub fn run(remote: &dyn Remote, scratch: &str) -> Vec<Broken> {
    let broken = Law::ALL.iter().filter_map(|law| {
        let dir = format!("{scratch}/{law:?}");
        let seen = match try_law(remote, *law, &dir) {
            Ok(()) => None,
            Err(error) => Some(format!("{error} {}", error.causes().join(", "))),
        };
        clear(remote, &format!("{dir}/"));
        seen.map(|seen| Broken { law: *law, seen })
    });
    broken.collect()
}

fn try_law(remote: &dyn Remote, law: Law, dir: &str) -> Result<()> {
    match law {
        Law::CreatesOnce => creates_once(remote, dir),
        Law::OneWinner => one_winner(remote, dir),
        Law::SeesItsWrites => sees_its_writes(remote, dir),
        Law::ListsAll => lists_all(remote, dir),
        Law::ReadsRanges => reads_ranges(remote, dir),
        Law::ReplacesWhole => replaces_whole(remote, dir),
        Law::KeepsBytes => keeps_bytes(remote, dir),
        Law::RefusesPaths => refuses_paths(remote, dir),
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let mut seen = format!("{what}: found {found:?}, expected {expected:?}");
    seen.truncate(300); // ASCII: bodies are shown as numbers
    Err(Error::corrupt(seen))
}

fn creates_once(remote: &dyn Remote, dir: &str) -> Result<()> {
    let path = format!("{dir}/a");
    expect(
        "first",
        &remote.put_new(&path, &&b"one"[..])?,
        &Created::New,
    )?;
    expect(
        "second",
        &remote.put_new(&path, &&b"second"[..])?,
        &Created::Taken,
    )?;
    expect(
        "same again",
        &remote.put_new(&path, &&b"one"[..])?,
        &Created::Taken,
    )?;
    expect(
        "body",
        &get_whole(remote, &path, 9)?,
        &Some(b"one".to_vec()),
    )?;
    remote.delete(&path)?;
    expect(
        "after deletion",
        &remote.put_new(&path, &&b"two"[..])?,
        &Created::New,
    )?;
    expect(
        "body",
        &get_whole(remote, &path, 9)?,
        &Some(b"two".to_vec()),
    )
}

fn one_winner(remote: &dyn Remote, dir: &str) -> Result<()> {
    for race in 0..RACES {
        let path = format!("{dir}/{race}");
        let ready = AtomicUsize::new(0);
        let answers: Vec<Result<Created>> = std::thread::scope(|scope| {
            let racer = |number: usize| {
                let (path, ready) = (&path, &ready);
                scope.spawn(move || {
                    ready.fetch_add(1, Ordering::SeqCst);
                    while ready.load(Ordering::SeqCst) < RACERS {
                        std::thread::yield_now();
                    }
                    remote.put_new(path, &body_of(number).as_slice())
                })
            };
            let racers: Vec<_> = (0..RACERS).map(racer).collect();
            let lost = || Err(Error::corrupt("a call panicked"));
            racers
                .into_iter()
                .map(|r| r.join().unwrap_or_else(|_| lost()))
                .collect()
        });
        let mut winners = Vec::new();
        for (number, answer) in answers.into_iter().enumerate() {
            if answer? == Created::New {
                winners.push(number);
            }
        }
        expect("winners", &winners.len(), &1)?;
        let body = winners.first().map(|number| body_of(*number));
        expect("body", &get_whole(remote, &path, 1 << 20)?, &body)?;
    }
    Ok(())
}

/// Long enough to be written in several steps.
fn body_of(number: usize) -> Vec<u8> {
    format!("{number:>8}").into_bytes().repeat(2000)
}

fn sees_its_writes(remote: &dyn Remote, dir: &str) -> Result<()> {
    let path = format!("{dir}/a/b");
    let names = |remote: &dyn Remote| -> Result<Vec<String>> {
        let listed = list_all(remote, &format!("{dir}/"))?;
        Ok(listed.into_iter().map(|file| file.path).collect())
    };
    expect("before", &get_whole(remote, &path, 9)?, &None)?;
    for body in [&b"one"[..], b"longer", b""] {
        remote.put(&path, &body)?;
        expect("body", &get_whole(remote, &path, 9)?, &Some(body.to_vec()))?;
        expect("list", &names(remote)?, &vec![path.clone()])?;
    }
    remote.delete(&path)?;
    expect("after deletion", &get_whole(remote, &path, 9)?, &None)?;
    expect("list after deletion", &names(remote)?, &Vec::new())?;
    remote.delete(&path)
}

fn lists_all(remote: &dyn Remote, dir: &str) -> Result<()> {
    // Names that sort differently by component and by byte.
    let mut files: Vec<Listed> = ["a", "a-b", "a.b", "b/x", "b/y/z", "b-c", "ba"]
        .iter()
        .map(|name| (name.to_string(), 1))
        .chain((0..MANY).map(|k| (format!("many/{k:05}"), k % 3)))
        .map(|(name, bytes)| Listed {
            path: format!("{dir}/{name}"),
            bytes: bytes as u64,
        })
        .collect();
    files.sort_unstable();
    for file in &files {
        let body = vec![7; usize::try_from(file.bytes).unwrap_or_default()];
        remote.put_new(&file.path, &body.as_slice())?;
    }
    let all = list_all(remote, &format!("{dir}/"))?;
    expect("count", &all.len(), &files.len())?;
    let differs = all.iter().zip(&files).find(|(found, file)| found != file);
    expect("list", &differs, &None)?;
    let many = list_all(remote, &format!("{dir}/many/"))?;
    expect("count under a prefix", &many.len(), &MANY)?;
    let part = list_all(remote, &format!("{dir}/b/"))?;
    let names: Vec<_> = part.iter().map(|file| file.path.as_str()).collect();
    let expected = [format!("{dir}/b/x"), format!("{dir}/b/y/z")];
    expect(
        "prefix",
        &names,
        &expected.iter().map(String::as_str).collect(),
    )?;
    // From a name that is not there.
    let rest = remote.list(&format!("{dir}/many/"), &format!("{dir}/many/01098x"))?;
    let names: Vec<_> = rest.into_iter().map(|file| file.path).collect();
    expect("after", &names, &vec![format!("{dir}/many/01099")])
}

fn reads_ranges(remote: &dyn Remote, dir: &str) -> Result<()> {
    let path = format!("{dir}/a");
    remote.put(&path, &&b"0123456789"[..])?;
    let spans = [
        (
            Span::Part {
                start: 0,
                bytes: 10,
            },
            &b"0123456789"[..],
        ),
        (Span::Part { start: 3, bytes: 4 }, b"3456"),
        (Span::Part { start: 8, bytes: 9 }, b"89"),
        (
            Span::Part {
                start: 10,
                bytes: 5,
            },
            b"",
        ),
        (Span::Part { start: 4, bytes: 0 }, b""),
        (Span::Last(3), b"789"),
        (Span::Last(30), b"0123456789"),
        (Span::Whole(10), b"0123456789"),
    ];
    for (span, expected) in spans {
        let got = remote.get(&path, span)?;
        expect(&format!("{span:?}"), &got.bytes, &expected.to_vec())?;
        expect("total", &got.total, &10)?;
    }
    for span in [
        Span::Part {
            start: 11,
            bytes: 1,
        },
        Span::Whole(9),
    ] {
        let refused = remote.get(&path, span).err().map(|error| error.kind());
        expect(&format!("{span:?}"), &refused, &Some(Kind::Corrupt))?;
    }
    let none = remote.get(&format!("{dir}/none"), Span::Last(1));
    expect(
        "missing",
        &none.err().map(|error| error.kind()),
        &Some(Kind::NotFound),
    )
}

fn replaces_whole(remote: &dyn Remote, dir: &str) -> Result<()> {
    let path = format!("{dir}/a");
    let bodies = [vec![1_u8; 300_000], vec![2_u8; 200_000]];
    remote.put(&path, &bodies[0].as_slice())?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            bodies
                .iter()
                .cycle()
                .take(20)
                .try_for_each(|body| remote.put(&path, &body.as_slice()))
        });
        while !writer.is_finished() {
            let found = get_whole(remote, &path, 1 << 20)?.unwrap_or_default();
            if !bodies.contains(&found) {
                let bytes = found.len();
                return Err(Error::corrupt(format!("{bytes} bytes of neither file")));
            }
        }
        writer
            .join()
            .unwrap_or_else(|_| Err(Error::corrupt("a call panicked")))
    })
}

fn keeps_bytes(remote: &dyn Remote, dir: &str) -> Result<()> {
    for bytes in [0, 1, 4096, LARGE_BYTES] {
        let path = format!("{dir}/{bytes}");
        let body: Vec<u8> = (0..=u8::MAX).cycle().take(bytes).collect();
        expect(
            "creation",
            &remote.put_new(&path, &body.as_slice())?,
            &Created::New,
        )?;
        let back = get_exact(remote, &path, 0, bytes as u64)?;
        expect("bytes", &(back == body), &true)?;
        expect(
            "total",
            &remote.get(&path, Span::Last(1))?.total,
            &(bytes as u64),
        )?;
    }
    Ok(())
}

fn refuses_paths(remote: &dyn Remote, dir: &str) -> Result<()> {
    for name in [
        "", "../x", "a//b", "/a", "a/", "a/./b", "a\\b", "a b", "a\0b", "ä",
    ] {
        let path = format!("{dir}/{name}");
        let answers = [
            remote.put_new(&path, &&b"x"[..]).err(),
            remote.put(&path, &&b"x"[..]).err(),
            remote.get(&path, Span::Last(1)).err(),
            remote.delete(&path).err(),
        ];
        for answer in answers {
            let kind = answer.map(|error| error.kind());
            expect(&format!("path {path:?}"), &kind, &Some(Kind::Usage))?;
        }
    }
    let prefix = remote.list(dir, "").err().map(|error| error.kind());
    expect("prefix within a name", &prefix, &Some(Kind::Usage))
}

fn clear(remote: &dyn Remote, prefix: &str) {
    for file in list_all(remote, prefix).unwrap_or_default() {
        let _ = remote.delete(&file.path);
    }
}
