//! Merged indexes come, grow, are lost and damaged, and nobody notices but by the clock.
//!
//! May use: everything of the store.

use store_format::ids::ChunkId;

use super::support::*;
use crate::disk::Disk;
use crate::disk::sim::SimDisk;
use crate::store::Store;
use crate::store::merge::{self, SINGLE_PACKS_MAX};
use crate::store::merged::Merged;

fn merged(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter();
    files.filter(|path| path.starts_with("mpi/")).collect()
}

/// So many commits of one chunk each: two packs a commit.
fn many(commits: u32) -> (SimDisk, Store) {
    let (disk, store) = store();
    for k in 0..commits {
        commit(&store, "heads/main", &[&k.to_le_bytes()]).unwrap();
    }
    (disk, store)
}

fn all_found(store: &Store, commits: u32) {
    let reader = store.reader().unwrap();
    for k in 0..commits {
        let id = ChunkId::of(&k.to_le_bytes());
        assert_eq!(reader.places(&id.into()).len(), 1, "{k}");
    }
    let other = ChunkId::of(b"another");
    assert!(reader.places(&other.into()).is_empty());
    assert!(reader.record(&other.into()).unwrap().is_none());
    assert_eq!(
        check_whole(store).unwrap(),
        usize::try_from(commits).unwrap()
    );
}

#[test]
fn many_packs_are_merged_in_growing_steps() {
    let (disk, store) = many(8);
    assert!(merged(&disk).is_empty());
    commit(&store, "heads/main", &[&8_u32.to_le_bytes()]).unwrap();
    assert_eq!(merged(&disk).len(), 1);
    assert_eq!(store.reader().unwrap().view.single().count(), 0);
    for k in 9..200 {
        commit(&store, "heads/main", &[&u32::to_le_bytes(k)]).unwrap();
    }
    assert!(
        (1..=4).contains(&merged(&disk).len()),
        "{:?}",
        merged(&disk)
    );
    assert!(store.reader().unwrap().view.single().count() <= SINGLE_PACKS_MAX);
    all_found(&store, 200);
    all_found(&open(&disk).unwrap(), 200);
}

#[test]
fn a_lost_or_damaged_merged_index_changes_no_answer() {
    for damage in 0..4_u8 {
        let (disk, store) = many(20);
        for path in merged(&disk) {
            match damage {
                0 => disk.remove(&path).unwrap(),
                1 => disk.damage(&path, |bytes| bytes.truncate(100)),
                2 => disk.damage(&path, |bytes| bytes[80] ^= 1),
                _ => disk.damage(&path, Vec::clear),
            }
        }
        drop(store);
        let store = open(&disk).unwrap();
        all_found(&store, 20);
        gc(&store, &strict()).unwrap();
        all_found(&store, 20);
        commit(&store, "heads/main", &[&20_u32.to_le_bytes()]).unwrap();
        all_found(&open(&disk).unwrap(), 21);
    }
}

#[test]
fn packs_that_are_gone_are_not_found_through_a_merged_index() {
    let (disk, store) = many(20);
    let txn = store.begin().unwrap();
    let head = put_commit(&txn, &[], None).unwrap();
    let old = txn.head().table.get("heads/main");
    let outcome = txn
        .publish(&moves("heads/main", old, Some(head)), None)
        .unwrap();
    outcome.done().unwrap();
    assert!(gc(&store, &strict()).unwrap().deleted.len() >= 40);
    for store in [store, open(&disk).unwrap()] {
        let reader = store.reader().unwrap();
        assert!(!reader.contains(&ChunkId::of(&3_u32.to_le_bytes()).into()));
        commit(&store, "heads/x", &[&3_u32.to_le_bytes()]).unwrap();
        assert!(check_whole(&store).unwrap() > 0);
        reset(&store, "heads/x", None);
        gc(&store, &strict()).unwrap();
    }
}

#[test]
fn power_loss_while_indexes_are_merged_is_not_noticed() {
    let (disk, store) = many(8);
    disk.record();
    commit(&store, "heads/main", &[&8_u32.to_le_bytes()]).unwrap();
    assert_eq!(merged(&disk).len(), 1);
    for (prefix, crash, left) in disk.crashes(4) {
        let store = open(&left).unwrap();
        let commits = u32::try_from(store.head().unwrap().table.number).unwrap();
        assert!(
            (8..=9).contains(&commits),
            "after '{}', {crash:?}",
            disk.change(prefix)
        );
        all_found(&store, commits);
    }
}

#[test]
fn no_merged_index_covers_more_than_it_may() {
    let (disk, store) = many(8);
    merge::merge(&store.0, "tmp", 0, 10).unwrap();
    for round in 0..3 {
        // So few packs that no commit merges them by itself.
        for k in 8 + 6 * round..14 + 6 * round {
            commit(&store, "heads/main", &[&u32::to_le_bytes(k)]).unwrap();
        }
        merge::merge(&store.0, "tmp", 0, 10).unwrap();
    }
    let files = merged(&disk);
    assert!(files.len() >= 5, "{files:?}");
    for path in &files {
        let bytes = disk.map(path).unwrap();
        let records = Merged::check(&bytes).unwrap().len();
        assert!((1..=10).contains(&records), "{path}: {records}");
    }
    assert_eq!(store.reader().unwrap().view.single().count(), 0);
    all_found(&store, 26);
    all_found(&open(&disk).unwrap(), 26);
}
