//! Damage to every file of a small store: it is reported, and no wrong byte comes out.

use std::fs;

use sparse_store::disk::sim::{Crash, SimDisk};
use sparse_store::flow::read::Rebuilder;
use sparse_store::flow::{checkout, list, repair};
use sparse_store::par::Pool;
use sparse_store::progress::Silent;
use sparse_store::store::Store;

use crate::{
    Chance, Small, check, commit_dir, content, every_kind, is_whole, open, pool, scratch, small,
};

/// Files that hold nothing that can be lost: a reserve of room, and the oldest reference tables,
/// which nothing looks at any more.
fn is_spare(path: &str) -> bool {
    path == "reserve" || path.starts_with("tmp/") || path.starts_with("leases/")
}

fn is_derived(path: &str) -> bool {
    path.ends_with(".idx") || path.starts_with("mpi/")
}

/// Looks at a damaged copy. Gives whether the check says that something is wrong.
fn look(small: &Small, pool: &Pool, copy: &SimDisk, path: &str) -> bool {
    let Ok(store) = open(copy) else {
        assert_eq!(path, "format");
        return true;
    };
    let mut whole = 0;
    for (commit, truth) in &small.versions {
        whole += usize::from(is_whole(&store, commit, truth));
        for (name, found) in content(&store, commit).unwrap_or_default() {
            if let Ok(found) = found {
                let truth = truth.get(&name).and_then(|truth| truth.as_ref().ok());
                assert_eq!(Some(&found), truth, "{path}: {name}");
            }
        }
    }
    come_out(small, pool, &store, path);
    if is_derived(path) {
        assert_eq!(whole, small.versions.len(), "{path}");
    }
    let report = check(&store, pool).expect("a report");
    if whole < small.versions.len() {
        assert!(report.is_hurt() && !report.hurt.is_empty(), "{path}");
    }
    !report.findings.is_empty()
}

/// Checks out and prints every version as people do: what comes out is right, or nothing does.
fn come_out(small: &Small, pool: &Pool, store: &Store, place: &str) {
    let rebuilder = Rebuilder::new(store.reader().expect("a reader"));
    let dir = scratch();
    for (number, (commit, truth)) in small.versions.iter().enumerate() {
        let target = dir.path().join(number.to_string());
        let request = checkout::Request {
            commit: *commit,
            target: &target,
            tensors: &[],
            force: false,
            before: None,
        };
        let done = checkout::checkout(&rebuilder, pool, &request, &Silent).is_ok();
        for (path, truth) in truth {
            let truth = truth.as_ref().expect("a whole file");
            let out = target.join(path);
            if out.is_file() && !out.is_symlink() {
                assert!(fs::read(&out).expect("a file") == *truth, "{place}: {path}");
            } else {
                assert!(!done || out.exists(), "{place}: {path} is missing");
            }
            let Ok(manifest) = list::manifest(&rebuilder, commit, path) else {
                continue;
            };
            let mut printed = Vec::new();
            let give = |bytes: &[u8]| {
                printed.extend_from_slice(bytes);
                Ok(())
            };
            let done = checkout::write_file(&rebuilder, pool, &manifest, give, &Silent).is_ok();
            assert!(truth.starts_with(&printed), "{place}: {path}");
            assert!(!done || printed == *truth, "{place}: {path}");
        }
    }
}

#[test]
fn every_flipped_bit_is_reported_and_none_comes_out() {
    let pool = pool();
    let small = small(&pool);
    let mut chance = Chance(11);
    let mut flips = 0;
    for path in small.disk.files() {
        if is_spare(&path) {
            continue;
        }
        let bytes = small.disk.content(&path).expect("a file").len();
        for start in (0..bytes).step_by(64) {
            let at = start + usize::try_from(chance.of(64)).expect("small");
            if at >= bytes {
                continue;
            }
            let bit = 1 << chance.of(8);
            let copy = small.disk.crashed(Crash::Kept);
            copy.damage(&path, |bytes| bytes[at] ^= bit);
            assert!(look(&small, &pool, &copy, &path), "{path} {at} {bit}");
            flips += 1;
        }
    }
    assert!(flips > 300, "{flips}");
}

#[test]
fn cut_longer_swapped_and_lost_files_are_reported() {
    let pool = pool();
    let small = small(&pool);
    let files = small.disk.files();
    let files: Vec<_> = files.iter().filter(|path| !is_spare(path)).collect();
    for path in &files {
        let bytes = small.disk.content(path).expect("a file").len();
        for cut in [0, 1, bytes / 2, bytes - 1] {
            let copy = small.disk.crashed(Crash::Kept);
            copy.damage(path, |bytes| bytes.truncate(cut));
            // A `HEAD` that is cut short may say less, but nothing wrong.
            let found = look(&small, &pool, &copy, path);
            assert!(found || *path == "HEAD", "{path} cut to {cut}");
        }
        for more in [1, 64] {
            let copy = small.disk.crashed(Crash::Kept);
            copy.damage(path, |bytes| bytes.resize(bytes.len() + more, 7));
            assert!(look(&small, &pool, &copy, path), "{path} longer by {more}");
        }
        let copy = small.disk.crashed(Crash::Kept);
        sparse_store::disk::Disk::remove(&copy, path).expect("it goes");
        let found = look(&small, &pool, &copy, path);
        // Tables before the newest are history that the cleaner removes as well.
        let is_newest = *path == "refs/0000000000000004";
        let is_harmless = *path == "HEAD" || (path.starts_with("refs/") && !is_newest);
        assert!(found || is_harmless, "{path} lost");
        if is_newest {
            lost_table(&small, &pool, &copy);
        }
    }
    let kind = |path: &str| {
        let (dir, _) = path.split_once('/').unwrap_or((path, ""));
        (dir.to_owned(), path.ends_with(".idx"))
    };
    for one in &files {
        for other in files
            .iter()
            .filter(|other| kind(other) == kind(one) && *other > one)
        {
            let copy = small.disk.crashed(Crash::Kept);
            let (a, b) = (copy.content(one), copy.content(other));
            let (a, b) = (a.expect("a file"), b.expect("a file"));
            copy.damage(one, |bytes| *bytes = b);
            copy.damage(other, |bytes| *bytes = a);
            assert!(look(&small, &pool, &copy, one), "{one} and {other}");
        }
    }
}

/// The newest table is gone: that is damage, and `repair` makes it again.
fn lost_table(small: &Small, pool: &Pool, copy: &SimDisk) {
    let store = open(copy).expect("a store");
    let report = check(&store, pool).expect("a report");
    assert!(report.is_hurt() && report.newest_table_is_hurt);
    let request = repair::Request {
        author: "Ada <ada@example.org>".into(),
        time: 1_800_000_000,
        dry_run: false,
    };
    let report = repair::repair(&store, pool, &request, &Silent).expect("a repair");
    assert_eq!((report.table, report.moved), (Some(4), 0), "{report:?}");
    assert!(report.after.findings.is_empty(), "{:?}", report.after);
    let table = store.head().expect("a table").table;
    assert_eq!(table.get("tags/v1"), Some(small.versions[0].0));
}

#[test]
fn content_that_was_lost_heals_when_it_is_committed_again() {
    let pool = pool();
    let small = small(&pool);
    let request = repair::Request {
        author: "Ada <ada@example.org>".into(),
        time: 1_800_000_000,
        dry_run: false,
    };
    let packs = small.disk.files();
    let packs: Vec<_> = packs
        .iter()
        .filter(|path| path.ends_with(".pack"))
        .collect();
    let mut healed = 0;
    for path in packs {
        let bytes = small.disk.content(path).expect("a pack").len();
        for at in (40..bytes).step_by(bytes / 6) {
            let copy = small.disk.crashed(Crash::Kept);
            copy.damage(path, |bytes| bytes[at] ^= 64);
            let store = open(&copy).expect("a store");
            repair::repair(&store, &pool, &request, &Silent).expect("a repair");
            let lost = small.versions.iter();
            let lost = lost.filter(|(commit, truth)| !is_whole(&store, commit, truth));
            healed += lost.count();
            // The same three versions once more, from the files that they were made from.
            let dir = tempfile::tempdir().expect("a folder");
            for (number, factor) in [1.0, 1.001, 1.002].into_iter().enumerate() {
                every_kind(dir.path(), 5, factor);
                let branch = format!("again-{number}");
                commit_dir(&store, &pool, dir.path(), &branch).expect("a commit");
            }
            for (commit, _) in &small.versions {
                let Ok(files) = content(&store, commit) else {
                    continue; // its own objects were hurt, and hold its time and message
                };
                assert!(files.values().all(Result::is_ok), "{path} {at}");
            }
        }
    }
    assert!(healed > 0, "nothing was lost at all");
}

#[test]
fn what_is_damaged_is_repaired_as_far_as_can_be_and_never_made_worse() {
    let pool = pool();
    let small = small(&pool);
    let mut chance = Chance(17);
    let request = repair::Request {
        author: "Ada <ada@example.org>".into(),
        time: 1_800_000_000,
        dry_run: false,
    };
    for path in small.disk.files() {
        if is_spare(&path) || path == "format" {
            continue;
        }
        let bytes = small.disk.content(&path).expect("a file").len();
        for _ in 0..3 {
            let at = usize::try_from(chance.of(bytes as u64)).expect("small");
            let copy = small.disk.crashed(Crash::Kept);
            copy.damage(&path, |bytes| bytes[at] ^= 16);
            let store = open(&copy).expect("a store");
            let readable = |store: &_| -> usize {
                let of = |(commit, _): &(_, _)| {
                    let found = content(store, commit).unwrap_or_default();
                    found.values().filter(|file| file.is_ok()).count()
                };
                small.versions.iter().map(of).sum()
            };
            let before = readable(&store);
            let report = repair::repair(&store, &pool, &request, &Silent).expect("a repair");
            let store = open(&copy).expect("a store");
            assert!(readable(&store) >= before, "{path} {at}");
            // What is left is lost content, and nothing else that hurts.
            let after = check(&store, &pool).expect("a report");
            assert!(
                after.bad_packs.is_empty(),
                "{path} {at}: {:?}",
                after.findings
            );
            assert!(after.indexes.is_empty(), "{path} {at}: {:?}", after.indexes);
            let is_derived = path.starts_with("refs/") || path.ends_with(".idx");
            if is_derived || path.starts_with("ops/") {
                assert!(!after.is_hurt(), "{path} {at}: {:?}", report.refused);
            }
        }
    }
}
