//! Damage to every file of a small store: it is reported, and no wrong byte comes out.

use sparse_store::disk::sim::{Crash, SimDisk};
use sparse_store::flow::repair;
use sparse_store::par::Pool;
use sparse_store::progress::Silent;

use crate::{Chance, Small, check, content, is_whole, open, pool, small};

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
    if is_derived(path) {
        assert_eq!(whole, small.versions.len(), "{path}");
    }
    let report = check(&store, pool).expect("a report");
    if whole < small.versions.len() {
        assert!(report.is_hurt() && !report.hurt.is_empty(), "{path}");
    }
    !report.findings.is_empty()
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
            // What is left is lost content and operations, and nothing else.
            let after = check(&store, &pool).expect("a report");
            assert!(
                after.bad_packs.is_empty(),
                "{path} {at}: {:?}",
                after.findings
            );
            assert!(after.indexes.is_empty(), "{path} {at}: {:?}", after.indexes);
            if path.starts_with("refs/") || path.ends_with(".idx") {
                assert!(!after.is_hurt(), "{path} {at}: {:?}", report.refused);
            }
        }
    }
}
