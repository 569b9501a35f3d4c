//! What is disposable is deleted, damaged, stale or of another store between commands: every
//! answer stays what it was.

use std::fs;
use std::path::{Path, PathBuf};

use crate::killed::sparse;
use crate::{Chance, every_kind, model, scratch};

/// Everything in `.sparse` that may be deleted at any time, also by hand.
const DISPOSABLE: [&str; 3] = ["cache", "stat", "mpi"];

fn run(dir: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = sparse(dir, words);
    command.env("SPARSE_DATE", "2024-05-06T07:08:09Z");
    let output = command.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout) + &text(&output.stderr),
    )
}

/// A work tree with two versions and a change that is not committed.
fn work_tree(dir: &Path, seed: u64) {
    fs::create_dir_all(dir).expect("a folder");
    assert_eq!(run(dir, &["init", "-q", "."]).0, Some(0));
    for step in 0..2_u8 {
        every_kind(dir, seed, 1.0 + f32::from(step) / 100.0);
        let (code, said) = run(dir, &["-q", "commit", "-m", "step"]);
        assert_eq!(code, Some(0), "{said}");
    }
    fs::write(dir.join("notes.txt"), "other words\n").expect("a file");
    fs::write(dir.join("more.txt"), "more words\n").expect("a file");
    run(dir, &["status"]);
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let entry = entry.expect("an entry");
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.is_file() {
        fs::copy(from, to).expect("a copy");
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).expect("it goes");
    } else if path.exists() {
        fs::remove_file(path).expect("it goes");
    }
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    if dir.is_file() {
        found.push(dir.to_owned());
    }
    for entry in fs::read_dir(dir).into_iter().flatten() {
        files(&entry.expect("an entry").path(), found);
    }
}

/// What all reading commands say, and what a checkout gives.
fn answers(work: &Path) -> Vec<(Option<i32>, String)> {
    let out = work.join("../out");
    remove(&out);
    let mut all: Vec<_> = [
        &["status"][..],
        &["diff", "main"],
        &["log", "--json"],
        &["ls", "main"],
        &["cat", "main:notes.txt"],
        &["-q", "commit", "-n", "-m", "x"],
        &["checkout", "main", "../out"],
        &["fsck", "--read-data"],
    ]
    .into_iter()
    .map(|words| run(work, words))
    .collect();
    let model = fs::read(out.join("model.safetensors")).expect("a file");
    all.push((None, blake3::hash(&model).to_hex().to_string()));
    all
}

/// Damages a file in one of four ways.
fn damage(path: &Path, way: u32, chance: &mut Chance) {
    let mut bytes = fs::read(path).expect("a file");
    let length = bytes.len() as u64;
    match way % 4 {
        _ if bytes.is_empty() => {}
        0 => bytes.truncate(usize::try_from(chance.of(length)).expect("small")),
        1 => bytes
            .iter_mut()
            .skip(7)
            .step_by(64)
            .for_each(|byte| *byte ^= 16),
        2 => bytes.fill(0xff),
        _ => {
            let at = usize::try_from(chance.of(length)).expect("small");
            bytes[at] ^= 1;
        }
    }
    fs::remove_file(path).expect("it goes");
    fs::write(path, bytes).expect("it comes");
}

#[test]
fn nothing_that_is_disposable_changes_an_answer() {
    let dir = scratch();
    let (work, other) = (dir.path().join("work"), dir.path().join("other"));
    work_tree(&work, 5);
    work_tree(&other, 6);
    let store = work.join(".sparse");
    let stale = dir.path().join("stale");
    for name in DISPOSABLE {
        copy(&store.join(name), &stale.join(name));
    }
    let restore = |from: &Path| {
        for name in DISPOSABLE {
            remove(&store.join(name));
            copy(&from.join(name), &store.join(name));
        }
    };
    let truth = answers(&work);
    assert!(
        truth
            .iter()
            .all(|(code, _)| code.is_none_or(|code| code < 2))
    );
    let same = |what: &str| {
        for (found, truth) in answers(&work).iter().zip(&truth) {
            assert_eq!(found, truth, "{what}");
        }
    };
    same("untouched");
    for name in DISPOSABLE {
        remove(&store.join(name));
    }
    same("deleted");
    restore(&other.join(".sparse"));
    same("of another store");
    let mut chance = Chance(31);
    let mut kept = Vec::new();
    files(&stale, &mut kept);
    assert!(!kept.is_empty());
    for number in 0..12 {
        restore(&stale);
        let mut present = Vec::new();
        for name in DISPOSABLE {
            files(&store.join(name), &mut present);
        }
        for path in &present {
            damage(path, number, &mut chance);
        }
        same(&format!("damaged in way {number}"));
    }
    // Stale: what was remembered of the files before they changed under the same names.
    restore(&stale);
    fs::write(work.join("model.safetensors"), model(77, 1.0)).expect("a file");
    let with_stale = answers(&work);
    for name in DISPOSABLE {
        remove(&store.join(name));
    }
    assert_eq!(with_stale, answers(&work), "stale");
}
