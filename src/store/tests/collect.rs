//! Collections: what goes, what stays, and what a writer beside them sees.
//!
//! May use: everything of the store.

use store_format::ids::ChunkId;

use super::crash::fail_every_call;
use super::support::*;
use crate::disk::sim::SimDisk;
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::store::advance::Outcome;
use crate::store::gc::GcPolicy;

/// A store with something dead of each sort: a dead pack, a nearly dead pack, a base that only
/// a residual keeps alive, a metadata pack with dead commits.
fn rubbish() -> (SimDisk, Store) {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"base", b"keep"]).unwrap();
    commit(&store, "heads/dead", &[&[1; 900]]).unwrap();
    commit(&store, "heads/dead", &[b"base", &[2; 900], &[3; 900]]).unwrap();
    let txn = store.begin().unwrap();
    let ids = [
        put_on(&txn, b"next", b"base", 1).unwrap(),
        put(&txn, b"some").unwrap(),
        put(&txn, &[4; 900]).unwrap(),
    ];
    let new = put_commit(&txn, &ids[..2], None).unwrap();
    txn.publish(&moves("heads/other", None, Some(new)), None)
        .unwrap()
        .done()
        .unwrap();
    reset(&store, "heads/dead", None);
    reset(&store, "heads/main", None);
    (disk, store)
}

fn collect(store: &Store) -> Result<()> {
    gc(store, &strict()).map(|_| ())
}

#[test]
fn what_is_dead_goes_and_the_rest_stays_whole() {
    let (_disk, store) = rubbish();
    let before = packs(&store).len();
    let report = gc(&store, &strict()).unwrap();
    assert_eq!(check_whole(&store).unwrap(), 2);
    assert_eq!(report.rewritten.len(), 2, "{report:?}");
    assert!(report.waiting.is_empty());
    assert_eq!(packs(&store).len() + report.deleted.len(), before + 1);
    let reader = store.reader().unwrap();
    let has = |plain: &[u8]| reader.contains(&ChunkId::of(plain).into());
    assert!(has(b"base") && has(b"next") && has(b"some"));
    assert!(!has(&[1; 900]) && !has(&[2; 900]) && !has(&[4; 900]) && !has(b"keep"));
    // A second collection finds nothing, and does not publish.
    let number = store.head().unwrap().table.number;
    let again = gc(&store, &strict()).unwrap();
    assert_eq!((again.deleted.len(), again.rewritten.len()), (0, 0));
    assert_eq!(store.head().unwrap().table.number, number);
}

#[test]
fn undo_keeps_what_it_needs() {
    let (_disk, store) = rubbish();
    let policy = GcPolicy {
        grace_ms: 0,
        ..GcPolicy::default()
    };
    let old = store.head().unwrap().table.number;
    gc(&store, &policy).unwrap();
    assert!(
        store
            .reader()
            .unwrap()
            .is_whole(&ChunkId::of(&[1; 900]).into())
    );
    assert!(
        !store
            .reader()
            .unwrap()
            .contains(&ChunkId::of(&[4; 900]).into())
    );
    assert!(store.head().unwrap().table.number > old);
}

#[test]
fn the_grace_holds_packs_back_and_writers_do_not_count_on_them() {
    let (_disk, store) = rubbish();
    let policy = GcPolicy {
        grace_ms: 1 << 40,
        ..strict()
    };
    let dead = ChunkId::of(&[1; 900]).into();
    let report = gc(&store, &policy).unwrap();
    assert!(report.deleted.is_empty() && !report.waiting.is_empty());
    assert!(store.reader().unwrap().contains(&dead));
    let txn = store.begin().unwrap();
    assert!(!txn.contains(&dead));
    // What comes back to life meanwhile is found and stays.
    drop(txn);
    commit(&store, "heads/again", &[&[1; 900]]).unwrap();
    gc(&store, &strict()).unwrap();
    assert_eq!(check_whole(&store).unwrap(), 3);
}

#[test]
fn a_writer_that_counted_on_a_dead_chunk_is_told() {
    let (_disk, store) = rubbish();
    let dead = ChunkId::of(&[1; 900]);
    let txn = store.begin().unwrap();
    assert!(txn.contains(&dead.into()));
    let head = put_commit(&txn, &[dead], None).unwrap();
    gc(&store, &strict()).unwrap();
    let outcome = txn
        .publish(&moves("heads/x", None, Some(head)), None)
        .unwrap();
    let missing = vec![dead.into()];
    assert_eq!(outcome, Outcome::Collected { missing });
    assert_eq!(outcome.done().unwrap_err().kind(), Kind::Conflict);
    commit(&store, "heads/x", &[&[1; 900]]).unwrap();
    assert_eq!(check_whole(&store).unwrap(), 3);
}

#[test]
fn what_a_writer_counted_on_and_published_first_is_spared() {
    let (_disk, store) = rubbish();
    let dead = ChunkId::of(&[1; 900]);
    let txn = store.begin().unwrap();
    assert!(txn.contains(&dead.into()));
    let head = put_commit(&txn, &[dead], None).unwrap();
    let mut txn = Some(txn);
    // The writer publishes between the first mark and the second.
    let mut marks = 0;
    let mut late = |reader: &crate::store::read::Reader, roots: &[crate::store::gc::Root]| {
        marks += 1;
        if marks == 2 {
            let moved = moves("heads/x", None, Some(head));
            txn.take().unwrap().publish(&moved, None)?.done()?;
        }
        mark(reader, roots)
    };
    store.gc(&Default::default(), &strict(), &mut late).unwrap();
    assert_eq!(check_whole(&store).unwrap(), 3);
}

#[test]
fn the_closure_of_a_publication_is_asked_for_after_a_collection() {
    let (_disk, store) = rubbish();
    for missing in [Vec::new(), vec![ChunkId::of(b"gone").into()]] {
        let txn = store.begin().unwrap();
        let old = store.head().unwrap().table.get("heads/x");
        let head = put_commit(&txn, &[], old).unwrap();
        commit(
            &store,
            "heads/rubbish",
            &[format!("{missing:?}").as_bytes()],
        )
        .unwrap();
        reset(&store, "heads/rubbish", None);
        gc(&store, &strict()).unwrap();
        let closure = |_: &crate::store::read::Reader| Ok(missing.clone());
        let moved = moves("heads/x", old, Some(head));
        let outcome = txn.publish(&moved, Some(&closure)).unwrap();
        assert_eq!(matches!(outcome, Outcome::Done(_)), missing.is_empty());
    }
}

#[test]
fn power_loss_during_a_collection_loses_nothing_alive() {
    let (disk, store) = rubbish();
    disk.record();
    collect(&store).unwrap();
    for (prefix, crash, left) in disk.crashes(8) {
        let place = format!("after '{}', {crash:?}", disk.change(prefix));
        let store = open(&left).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        assert_eq!(store.head().unwrap().damaged, None, "{place}");
        assert_eq!(check_whole(&store).unwrap(), 2, "{place}");
        commit(&store, "heads/x", &[&[1; 900]]).unwrap_or_else(|e| panic!("{place}: {e:?}"));
        collect(&store).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        assert_eq!(check_whole(&store).unwrap(), 3, "{place}");
    }
}

#[test]
fn a_collection_survives_the_failure_of_any_call() {
    fail_every_call(rubbish, collect, |store, done| {
        assert!(check_whole(store).unwrap() == 2);
        let dead = ChunkId::of(&[1; 900]).into();
        assert!(!done || !store.reader().unwrap().contains(&dead));
    });
}

#[test]
fn a_collection_works_on_a_full_disk() {
    let (disk, store) = rubbish();
    let before = disk.used_bytes();
    disk.set_capacity(Some(before));
    assert_eq!(
        commit(&store, "heads/x", &[b"new"]).unwrap_err().kind(),
        Kind::Full
    );
    let report = gc(&store, &strict()).unwrap();
    assert!(report.deleted_bytes > 0);
    assert_eq!(check_whole(&store).unwrap(), 2);
    commit(&store, "heads/x", &[b"new"]).unwrap();
}

#[test]
fn what_dead_writers_left_is_swept() {
    let (disk, store) = rubbish();
    let mut gone = host(9);
    gone.process = 0;
    let other = Store::open_on(std::sync::Arc::new(disk.clone()), gone).unwrap();
    let txn = other.begin().unwrap();
    put(&txn, b"never published").unwrap();
    std::mem::forget(txn);
    let alive = store.begin().unwrap();
    put(&alive, b"being written").unwrap();
    assert_eq!(gc(&store, &strict()).unwrap().abandoned, 1);
    let left = |dir: &str| disk.files().iter().filter(|p| p.starts_with(dir)).count();
    assert_eq!((left("tmp/"), left("leases/")), (1, 1));
    let head = put_commit(&alive, &[], None).unwrap();
    let outcome = alive
        .publish(&moves("heads/x", None, Some(head)), None)
        .unwrap();
    outcome.done().unwrap();
}

#[test]
fn nothing_is_collected_while_a_pack_cannot_be_read() {
    let (disk, store) = rubbish();
    for path in disk.files() {
        if path.ends_with(".idx") {
            disk.damage(&path, |bytes| bytes.truncate(7));
        } else if path.ends_with(".pack") {
            disk.damage(&path, |bytes| {
                let end = bytes.len() - 70;
                bytes[end] ^= 1;
            });
        }
    }
    let refused = collect(&open(&disk).unwrap()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupt);
    assert_eq!(check_whole(&store).unwrap(), 2);
}

#[test]
fn a_damaged_copy_that_would_stay_keeps_the_other() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"twice"]).unwrap();
    let first = packs(&store);
    let txn = store.begin().unwrap();
    put(&txn, b"twice").unwrap();
    put(&txn, b"more").unwrap();
    let new = put_commit(&txn, &[ChunkId::of(b"more")], None).unwrap();
    let outcome = txn
        .publish(&moves("heads/b", None, Some(new)), None)
        .unwrap();
    outcome.done().unwrap();
    for pack in packs(&store) {
        let path = crate::store::paths::pack(&pack);
        let bytes = disk.content(&path).unwrap();
        let twice = bytes.windows(5).position(|w| w == b"twice");
        if let Some(at) = twice.filter(|_| !first.contains(&pack)) {
            disk.damage(&path, |bytes| bytes[at] ^= 1);
        }
    }
    let policy = GcPolicy {
        unwanted: first,
        ..strict()
    };
    let store = open(&disk).unwrap();
    let _ = gc(&store, &policy);
    let id = ChunkId::of(b"twice").into();
    assert_eq!(
        store.reader().unwrap().record(&id).unwrap().unwrap().coded,
        b"twice"
    );
}

#[test]
fn unwanted_packs_go_once_all_in_them_is_elsewhere() {
    let (_disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    let old = packs(&store);
    let txn = store.begin().unwrap();
    put(&txn, b"one").unwrap();
    put_on(&txn, b"two", b"one", 1).unwrap(); // deeper, and all the same preferred now
    let _ = txn.publish(&moves("heads/none", None, None), None).unwrap();
    let policy = GcPolicy {
        unwanted: old.clone(),
        ..strict()
    };
    let report = gc(&store, &policy).unwrap();
    assert_eq!(report.deleted.len(), 1);
    assert!(old.contains(&report.deleted[0]));
    assert_eq!(check_whole(&store).unwrap(), 2);
}

#[test]
fn a_damaged_record_is_not_copied_and_its_pack_stays() {
    let (disk, store) = rubbish();
    let plan = store.gc_plan(&strict(), &mut mark).unwrap();
    let (pack, live) = plan.rewrite.first().unwrap();
    let path = crate::store::paths::pack(pack);
    let entry = live.first().unwrap().place.entry;
    let at = usize::try_from(entry.offset).unwrap() + usize::try_from(entry.header_bytes).unwrap();
    disk.damage(&path, |bytes| bytes[at] ^= 1);
    let store = open(&disk).unwrap();
    let refused = gc(&store, &strict()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupt, "{refused}");
    assert!(packs(&store).contains(pack));
}
