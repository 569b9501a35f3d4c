//! The laws on every remote of this crate, and certainty behind a bad line.
//!
//! May use: everything of the remotes.

use std::sync::Arc;

use super::conformance::{self, Law};
use super::directory::DirectoryRemote;
use super::faulty::{Fault, FaultyRemote};
use super::memory::MemoryRemote;
use super::*;
use crate::disk::Fill;
use crate::disk::sim::{Chance, Crash, SimDisk};

fn fill() -> Fill {
    let chance = std::sync::Mutex::new(Chance(3));
    Arc::new(move |buffer| {
        let mut chance = chance.lock().unwrap();
        buffer.fill_with(|| u8::try_from(chance.of(256)).unwrap());
        Ok(())
    })
}

#[test]
fn memory_keeps_the_laws() {
    let remote = MemoryRemote::default();
    assert_eq!(conformance::run(&remote, ".doctor/1"), []);
    assert!(list_all(&remote, "").unwrap().is_empty());
}

#[test]
fn a_directory_keeps_the_laws() {
    let dir = tempfile::tempdir().unwrap();
    let remote = DirectoryRemote::open(dir.path(), fill()).unwrap();
    assert_eq!(conformance::run(&remote, ".doctor/1"), []);
    assert!(list_all(&remote, "").unwrap().is_empty());
    assert_eq!(
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
        0
    );
}

/// Breaks one promise.
struct Liar(MemoryRemote, Law);

impl Remote for Liar {
    fn get(&self, path: &str, span: Span) -> Result<Got> {
        match (self.1, span) {
            (Law::ReadsRanges, Span::Last(bytes)) => {
                self.0.get(path, Span::Part { start: 0, bytes })
            }
            (Law::KeepsBytes, Span::Part { .. }) => {
                let mut got = self.0.get(path, span)?;
                if let Some(last) = got.bytes.last_mut().filter(|_| got.total > 1 << 20) {
                    *last ^= 1;
                }
                Ok(got)
            }
            _ => self.0.get(path, span),
        }
    }

    fn put_new(&self, path: &str, body: &dyn ReadAt) -> Result<Created> {
        match self.1 {
            Law::CreatesOnce => self.0.put(path, body).map(|()| Created::New),
            Law::OneWinner => {
                // Looks, then writes: right one after the other, wrong at the same time.
                if self.0.get(path, Span::Last(0)).is_ok() {
                    return Ok(Created::Taken);
                }
                for _ in 0..1000 {
                    std::thread::yield_now();
                }
                self.0.put(path, body).map(|()| Created::New)
            }
            _ => self.0.put_new(path, body),
        }
    }

    fn put(&self, path: &str, body: &dyn ReadAt) -> Result<()> {
        if self.1 == Law::ReplacesWhole {
            let half = body.read_vec(0, usize::try_from(body.len() / 2).unwrap())?;
            self.0.put(path, &half.as_slice())?;
            std::thread::yield_now();
        }
        self.0.put(path, body)
    }

    fn list(&self, prefix: &str, after: &str) -> Result<Vec<Listed>> {
        let mut listed = self.0.list(prefix, after)?;
        if self.1 == Law::ListsAll {
            listed.reverse();
            listed.truncate(999);
        }
        Ok(listed)
    }

    fn delete(&self, path: &str) -> Result<()> {
        match self.1 {
            Law::SeesItsWrites => Ok(()),
            _ => self.0.delete(path),
        }
    }
}

#[test]
fn each_broken_promise_is_found() {
    for law in Law::ALL {
        if law == Law::RefusesPaths {
            continue; // the remote below refuses them whatever stands before it
        }
        let liar = Liar(MemoryRemote::default(), law);
        let broken = conformance::run(&liar, "x");
        assert!(
            broken.iter().any(|broken| broken.law == law),
            "{law:?} {broken:?}"
        );
    }
}

#[test]
fn an_own_file_is_known_behind_a_bad_line() {
    let faults = [Fault::Fine, Fault::Failed, Fault::Lost, Fault::Short];
    for first in faults {
        for second in faults {
            for others in [None, Some(&b"theirs"[..]), Some(b"theirs, and longer")] {
                let inner = MemoryRemote::default();
                if let Some(others) = others {
                    inner.put("refs/1", &others).unwrap();
                }
                let choose = move |call| match call {
                    1 => first,
                    2 => second,
                    _ => Fault::Fine,
                };
                let remote = FaultyRemote::new(inner.clone(), Box::new(choose));
                let answer = put_own(&remote, "refs/1", b"mine!!");
                let there = get_whole(&inner, "refs/1", 99).unwrap();
                let mine = there.as_deref() == Some(b"mine!!");
                match answer {
                    Ok(Created::New) => assert!(mine),
                    Ok(Created::Taken) => assert!(others.is_some() && !mine),
                    Err(error) => assert_eq!(error.kind(), Kind::Unreachable),
                }
            }
        }
    }
}

#[test]
fn a_short_answer_is_not_taken_for_the_file() {
    let inner = MemoryRemote::default();
    inner.put("a", &&b"0123456789"[..]).unwrap();
    let remote = FaultyRemote::new(inner, Box::new(|_| Fault::Short));
    let cut = get_whole(&remote, "a", 99).unwrap_err();
    assert_eq!(cut.kind(), Kind::Unreachable);
    let cut = get_exact(&remote, "a", 2, 4).unwrap_err();
    assert_eq!(cut.kind(), Kind::Unreachable);
    let end = get_exact(&remote, "a", 2, 40).unwrap_err();
    assert_eq!(end.kind(), Kind::Corrupt);
}

#[test]
fn what_a_directory_acknowledged_survives_power_loss() {
    let disk = SimDisk::default();
    let remote = DirectoryRemote::on(Arc::new(disk.clone()), fill());
    remote.put("packs/ab/old", &&b"old"[..]).unwrap();
    disk.record();
    remote.put_new("packs/cd/new", &&[7; 5000][..]).unwrap();
    let created = disk.recorded();
    remote.put("packs/ab/old", &&b"replaced"[..]).unwrap();
    let replaced = disk.recorded();
    for (prefix, crash, left) in disk.crashes(8) {
        let remote = DirectoryRemote::on(Arc::new(left), fill());
        let new = get_whole(&remote, "packs/cd/new", 9999).unwrap();
        let old = get_whole(&remote, "packs/ab/old", 9999).unwrap();
        let place = format!("after '{}', {crash:?}", disk.change(prefix));
        assert!(
            new.as_deref().is_none_or(|body| body == [7; 5000]),
            "{place}"
        );
        assert!(new.is_some() || prefix + 1 < created, "{place}");
        // While a file is being replaced the harshest disk may lose both names of it.
        let known: [&[u8]; 2] = [b"old", b"replaced"];
        assert!(
            old.as_deref().is_none_or(|body| known.contains(&body)),
            "{place}"
        );
        let certain = prefix + 1 < created || crash == Crash::Lost;
        assert!(!certain || old.is_some(), "{place}");
        let done = prefix + 1 >= replaced;
        assert!(!done || old.as_deref() == Some(b"replaced"), "{place}");
    }
}
