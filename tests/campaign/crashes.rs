//! Power loss after every change that a commit, a collection or a repack makes on the disk:
//! what was not synchronised is kept, lost or torn, and the invariants hold in every state.

use std::collections::BTreeMap;

use sparse_store::disk::sim::{Crash, SimDisk};
use sparse_store::flow::commit::BaseChoice;
use sparse_store::flow::{collect, repack};
use sparse_store::par::Pool;
use sparse_store::progress::Silent;
use sparse_store::store::Store;
use sparse_store::store::advance::Deed;
use sparse_store::store::gc::GcPolicy;
use store_format::reference::Change;

use crate::{
    Small, check, commit_dir, commit_on, content, every_kind, is_whole, open, pool, small,
};

/// A store with something dead in a pack of its own, and something dead beside what lives.
pub(crate) fn with_rubbish(pool: &Pool) -> Small {
    let mut small = small(pool);
    let store = open(&small.disk).expect("a store");
    let dir = tempfile::tempdir().expect("a folder");
    every_kind(dir.path(), 99, 1.0);
    let trial = commit_on(&store, pool, dir.path(), "trial", BaseChoice::None).expect("a commit");
    // Written with the trial, and kept by another branch: the pack is alive in part.
    std::fs::remove_file(dir.path().join("model.safetensors")).expect("it goes");
    let kept = commit_on(&store, pool, dir.path(), "kept", BaseChoice::None).expect("a commit");
    small
        .versions
        .push((kept, content(&store, &kept).expect("its files")));
    // Long ago, so that nothing is kept for undo.
    let deed = Deed {
        verb: "branch".into(),
        changes: vec![Change {
            name: "heads/trial".into(),
            old: Some(trial),
            new: None,
        }],
        ..Deed::default()
    };
    let outcome = store.begin().expect("a writer").publish(&deed, None);
    outcome.and_then(|outcome| outcome.done()).expect("it goes");
    small
}

fn strict() -> GcPolicy {
    GcPolicy {
        grace_ms: 0,
        keep_seconds: -1,
        keep_operations: 0,
        ..GcPolicy::default()
    }
}

pub(crate) fn collect(store: &Store) -> sparse_store::error::Result<collect::Report> {
    let request = collect::Request {
        policy: strict(),
        author: String::new(),
        time: 1_800_000_000,
        dry_run: false,
    };
    collect::collect(store, &request)
}

pub(crate) fn repack(store: &Store, pool: &Pool) -> sparse_store::error::Result<repack::Report> {
    let request = repack::Request {
        policy: strict(),
        level: None,
        author: String::new(),
        time: 1_800_000_000,
    };
    repack::repack(store, pool, &request, &Silent)
}

/// Files that only come, and go only by a collection's list (I6).
fn is_of_record(path: &str) -> bool {
    let dirs = ["packs/", "refs/", "ops/", "format"];
    dirs.iter().any(|dir| path.starts_with(dir)) && !path.ends_with(".idx")
}

fn of_record(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let files = disk.files().into_iter().filter(|path| is_of_record(path));
    files
        .map(|path| (path.clone(), disk.content(&path).expect("a file")))
        .collect()
}

/// One state: opens, holds everything that was acknowledged, keeps the invariants; and the next
/// commit and collection work in it.
fn survives(
    small: &Small,
    before: &BTreeMap<String, Vec<u8>>,
    left: &SimDisk,
    pool: &Pool,
    deep: bool,
    place: &str,
) {
    let store = open(left).unwrap_or_else(|error| panic!("{place}: {error}"));
    let head = store.head().expect("a table");
    assert_eq!(head.damaged, None, "{place}");
    // I2: every operation that was acknowledged before is on the chain.
    let chain = store.check_chain().expect("a chain");
    assert!(chain.lost.is_empty() && chain.broken.is_empty(), "{place}");
    // I6: what was of record is as it was, or on a collection's list.
    let condemned: Vec<String> = chain
        .operations
        .iter()
        .filter_map(|(_, operation)| operation.collection.as_ref())
        .flat_map(|collection| collection.packs.iter().map(ToString::to_string))
        .collect();
    for (path, bytes) in before {
        match left.content(path) {
            Some(found) => assert!(found == *bytes, "{place}: {path}"),
            None => assert!(
                condemned.iter().any(|pack| path.contains(pack.as_str())),
                "{place}: {path} is gone"
            ),
        }
    }
    // I1 and I4: what the references reach is there, bit by bit.
    for (commit, truth) in &small.versions {
        assert!(is_whole(&store, commit, truth), "{place}");
    }
    if deep {
        // I3, I4 and I5 for every file of the store.
        let report = check(&store, pool).expect("a report");
        let is_sound = report.bad_packs.is_empty()
            && report.bad_copies.is_empty()
            && !report.newest_table_is_hurt;
        // Nothing is kept for undo here, so what only undo reaches may be gone in part.
        let mut hurt = report.hurt.iter();
        let is_held = is_sound && hurt.all(|hurt| hurt.references.is_empty());
        assert!(is_held, "{place}: {:?}", report.findings);
        collect(&store).unwrap_or_else(|error| panic!("{place}: {error}"));
        for (commit, truth) in &small.versions {
            assert!(is_whole(&store, commit, truth), "{place}");
        }
    }
}

/// Tries every state of a verb; gives how many there were.
fn every_state(small: &Small, pool: &Pool, torn: u64, verb: impl Fn(&Store)) -> usize {
    let disk = small.disk.crashed(Crash::Kept);
    let before = of_record(&disk);
    let store = open(&disk).expect("a store");
    disk.record();
    verb(&store);
    let states = disk.crashes(torn);
    for (number, (prefix, crash, left)) in states.iter().enumerate() {
        let place = format!("after '{}', {crash:?}", disk.change(*prefix));
        let deep = number % 3 == 0 || prefix + 1 == disk.recorded();
        survives(small, &before, left, pool, deep, &place);
    }
    states.len()
}

#[test]
fn a_commit_survives_power_loss_at_any_point() {
    let pool = pool();
    let small = small(&pool);
    let dir = tempfile::tempdir().expect("a folder");
    every_kind(dir.path(), 5, 1.01);
    let states = every_state(&small, &pool, 4, |store| {
        commit_dir(store, &pool, dir.path(), "main").expect("a commit");
    });
    assert!(states > 200, "{states}");
}

#[test]
fn a_collection_survives_power_loss_at_any_point() {
    let pool = pool();
    let small = with_rubbish(&pool);
    let states = every_state(&small, &pool, 4, |store| {
        let report = collect(store).expect("a collection");
        assert!(report.deleted > 0 && report.rewritten > 0, "{report:?}");
    });
    assert!(states > 200, "{states}");
}

#[test]
fn a_repack_survives_power_loss_at_any_point() {
    let pool = pool();
    let small = with_rubbish(&pool);
    let states = every_state(&small, &pool, 4, |store| {
        let report = repack(store, &pool).expect("a repack");
        assert!(report.packs_after < report.packs_before, "{report:?}");
    });
    assert!(states > 200, "{states}");
}
