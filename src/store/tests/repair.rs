//! What is hurt is named, and what can be made again is.
//!
//! May use: everything of the store.

use std::collections::HashSet;

use store_format::ids::{ChunkId, RecordId};

use super::support::*;
use crate::disk::Disk;
use crate::disk::sim::Crash;
use crate::error::Kind;
use crate::store::Store;
use crate::store::advance::Deed;
use crate::store::check::PackState;
use crate::store::paths;

fn deed() -> Deed {
    Deed {
        verb: "repair".into(),
        ..Deed::default()
    }
}

fn check(store: &Store, pack: &store_format::ids::PackId) -> PackState {
    store.check_pack(pack, true, &mut |_| Ok(())).unwrap()
}

#[test]
fn every_flipped_byte_of_a_pack_or_index_is_found() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    for pack in packs(&store) {
        let state = check(&store, &pack);
        assert!(state.damage.is_empty() && state.hurt.is_empty() && state.records > 0);
        for at in 0..disk.content(&paths::pack(&pack)).unwrap().len() {
            let copy = disk.crashed(Crash::Kept);
            copy.damage(&paths::pack(&pack), |bytes| bytes[at] ^= 1 << (at % 8));
            let state = check(&open(&copy).unwrap(), &pack);
            assert!(!state.damage.is_empty(), "{at}");
        }
        for at in 0..disk.content(&paths::index(&pack)).unwrap().len() {
            let copy = disk.crashed(Crash::Kept);
            copy.damage(&paths::index(&pack), |bytes| bytes[at] ^= 1 << (at % 8));
            let hurt = open(&copy).unwrap().check_indexes().unwrap();
            assert_eq!(hurt.len(), 1, "{at}");
        }
    }
}

#[test]
fn an_index_is_written_anew_as_it_was() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    let path = paths::index(&packs(&store)[0]);
    let before = disk.content(&path);
    disk.remove(&path).unwrap();
    let store = open(&disk).unwrap();
    let hurt = store.check_indexes().unwrap();
    assert_eq!(store.rebuild_indexes(&hurt).unwrap(), 1);
    assert_eq!(disk.content(&path), before);
    assert!(store.check_indexes().unwrap().is_empty());
}

#[test]
fn a_damaged_newest_table_is_made_again_from_its_operation() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one"]).unwrap();
    commit(&store, "heads/main", &[b"two"]).unwrap();
    let (last, _) = commit(&store, "heads/x", &[b"three"]).unwrap();
    let operation = store.head().unwrap().table.operation;
    let newest = paths::table(3);
    for at in 0..disk.content(&newest).unwrap().len() {
        let copy = disk.crashed(Crash::Kept);
        copy.damage(&newest, |bytes| bytes[at] ^= 1 << (at % 8));
        let store = open(&copy).unwrap();
        assert_eq!(store.rebuild_table(&deed()).unwrap(), Some(4));
        let head = store.head().unwrap();
        assert_eq!(
            (head.damaged, head.table.get("heads/x")),
            (None, Some(last))
        );
        let parent = store.operation(&head.table.operation).unwrap().parent;
        assert_eq!(parent, Some(operation));
        commit(&store, "heads/x", &[b"four"]).unwrap();
        assert_eq!(store.rebuild_table(&deed()).unwrap(), None);
    }
}

#[test]
fn several_damaged_tables_are_made_again_and_a_lost_operation_is_not_guessed() {
    let (disk, store) = store();
    for text in [b"one", b"two", b"six"] {
        commit(&store, "heads/main", &[text]).unwrap();
    }
    let tip = store.head().unwrap().table.get("heads/main");
    for number in 0..4 {
        disk.damage(&paths::table(number), |bytes| bytes.truncate(9));
    }
    let copy = disk.crashed(Crash::Kept);
    let store = open(&copy).unwrap();
    assert_eq!(store.rebuild_table(&deed()).unwrap(), Some(4));
    assert_eq!(store.head().unwrap().table.get("heads/main"), tip);
    assert_eq!(check_whole(&store).unwrap(), 3);
    let lost = disk
        .files()
        .into_iter()
        .find(|path| path.starts_with("ops/"));
    disk.remove(&lost.unwrap()).unwrap();
    assert!(open(&disk).unwrap().rebuild_table(&deed()).is_err());
}

#[test]
fn a_damaged_pack_goes_aside_and_all_but_the_damage_is_saved() {
    let chunks: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];
    let (disk, store) = store();
    commit(&store, "heads/main", &chunks).unwrap();
    let reader = store.reader().unwrap();
    let pack = |id: &RecordId| match reader.places(id)[0].origin {
        crate::store::index::Origin::Pack(pack) => pack,
        crate::store::index::Origin::Staged(_) => unreachable!(),
    };
    let pack = pack(&ChunkId::of(b"two").into());
    let bytes = disk.content(&paths::pack(&pack)).unwrap();
    for at in (0..bytes.len()).step_by(3) {
        let copy = disk.crashed(Crash::Kept);
        copy.damage(&paths::pack(&pack), |bytes| bytes[at] ^= 1 << (at % 8));
        let store = open(&copy).unwrap();
        let saved = store.set_aside(&deed(), &[pack], &HashSet::new()).unwrap();
        assert!(saved.records >= 3, "{at}: {saved:?}");
        assert!(!packs(&store).contains(&pack));
        assert!(
            copy.files()
                .iter()
                .any(|path| path.starts_with(paths::QUARANTINE))
        );
        let txn = store.begin().unwrap();
        let held = chunks.map(|chunk| txn.contains(&ChunkId::of(chunk).into()));
        let count = held.iter().filter(|held| **held).count();
        assert_eq!(count as u64, saved.records, "{at}");
        drop(txn);
        // What was lost heals when the same is stored again.
        commit(&store, "heads/again", &chunks).unwrap();
        assert_eq!(check_whole(&open(&copy).unwrap()).unwrap(), 8);
    }
}

/// Without the newest tables, as if somebody had deleted them.
fn without(disk: &crate::disk::sim::SimDisk, tables: &[u64]) -> crate::disk::sim::SimDisk {
    let copy = disk.crashed(Crash::Kept);
    for number in tables {
        copy.remove(&paths::table(*number)).unwrap();
    }
    copy
}

#[test]
fn a_lost_newest_table_is_told_from_a_writer_that_stopped_and_made_again() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one"]).unwrap();
    commit(&store, "heads/main", &[b"two"]).unwrap();
    reset(
        &store,
        "heads/x",
        store.head().unwrap().table.get("heads/main"),
    );
    let whole = store.head().unwrap().table;
    for lost in [&[3][..], &[2, 3], &[1, 2, 3]] {
        let copy = without(&disk, lost);
        let store = open(&copy).unwrap();
        let chain = store.check_chain().unwrap();
        assert_eq!((chain.lost.len(), chain.unpublished.len()), (1, 0));
        // A collection would take what the lost tables keep.
        assert_eq!(gc(&store, &strict()).unwrap_err().kind(), Kind::Corrupt);
        assert_eq!(store.rebuild_table(&deed()).unwrap(), Some(3));
        let table = store.head().unwrap().table;
        assert_eq!(table.references, whole.references);
        assert_eq!(table.operation, whole.operation);
        assert!(store.check_chain().unwrap().lost.is_empty());
        assert_eq!(check_whole(&store).unwrap(), 4);
        gc(&store, &strict()).unwrap();
    }
}

#[test]
fn what_a_killed_writer_left_is_no_lost_table() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one"]).unwrap();
    disk.record();
    commit(&store, "heads/main", &[b"two"]).unwrap();
    let mut unfinished = 0;
    for (prefix, crash, left) in disk.crashes(8) {
        let place = format!("after '{}', {crash:?}", disk.change(prefix));
        let mut host = host(5);
        host.runs = std::sync::Arc::new(|_| false); // the writer is no more
        let disk = std::sync::Arc::new(left);
        let store = Store::open_on(disk, host).unwrap();
        let chain = store.check_chain().unwrap();
        assert!(chain.lost.is_empty(), "{place}");
        unfinished += chain.unpublished.len();
        // A collection takes the lease, and leaves no trace that could be taken for damage.
        gc(&store, &strict()).unwrap();
        let chain = store.check_chain().unwrap();
        assert!(
            chain.lost.is_empty() && chain.unpublished.is_empty(),
            "{place}"
        );
    }
    assert!(unfinished > 5, "{unfinished}");
}
