//! Creating, appending, publishing and reading.
//!
//! May use: everything of the store.

use std::sync::Arc;

use store_format::ids::{ChunkId, RecordId};
use store_format::pack::Index;

use super::support::*;
use crate::disk::Disk;
use crate::error::Kind;
use crate::store::Store;
use crate::store::advance::Outcome;
use crate::store::host::Host;
use crate::store::index::Origin;
use crate::store::paths;
use crate::store::staged::PackSizes;

#[test]
fn what_was_published_is_read_back_after_opening_again() {
    let (disk, store) = store();
    let (first, _) = commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    let (second, published) = commit(&store, "heads/main", &[b"two", b"three"]).unwrap();
    assert_eq!(published.number, 2);
    for store in [store, open(&disk).unwrap()] {
        let head = store.head().unwrap();
        assert_eq!(head.table.get("heads/main"), Some(second));
        assert_eq!(check_whole(&store).unwrap(), 4);
        let operation = store.operation(&head.table.operation).unwrap();
        assert_eq!(operation.changes[0].old, Some(first));
        assert_eq!(operation.verb, "commit");
    }
    assert!(disk.files().iter().all(|path| !path.starts_with("tmp/")));
    assert!(disk.files().iter().all(|path| !path.starts_with("leases/")));
}

#[test]
fn a_real_directory_does_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/.sparse");
    let store = Store::create(&path, Host::system()).unwrap();
    commit(&store, "heads/main", &[b"one", &[7; 1 << 20]]).unwrap();
    let again = Store::open(&path, Host::system()).unwrap();
    commit(&again, "heads/main", &[b"one", b"three"]).unwrap();
    assert_eq!(check_whole(&store).unwrap(), 4);
    let taken = Store::create(&path, Host::system()).err().unwrap();
    assert_eq!(taken.kind(), Kind::Conflict);
    let none = Store::open(dir.path(), Host::system()).err().unwrap();
    assert_eq!(none.kind(), Kind::NotFound);
}

#[test]
fn nothing_is_visible_before_it_is_published() {
    let (disk, store) = store();
    let txn = store.begin().unwrap();
    let id = put(&txn, b"one").unwrap();
    assert!(txn.contains(&id.into()) && txn.reader().contains(&id.into()));
    let staged = txn.reader().record(&id.into()).unwrap().unwrap();
    assert_eq!(staged.coded, b"one");
    assert!(!store.reader().unwrap().contains(&id.into()));
    assert!(
        store
            .reader()
            .unwrap()
            .record(&id.into())
            .unwrap()
            .is_none()
    );
    drop(txn);
    assert!(disk.files().iter().all(|path| !path.starts_with("tmp/")));
    assert!(!open(&disk).unwrap().reader().unwrap().contains(&id.into()));
}

#[test]
fn large_and_small_staged_records_are_read_back_from_several_packs() {
    let (_disk, store) = store();
    let sizes = PackSizes {
        data_bytes: 1 << 20,
        metadata_bytes: 200,
    };
    let txn = store.begin_sized(sizes).unwrap();
    let chunks: Vec<Vec<u8>> = (0..40_u8)
        .map(|k| vec![k; if k % 3 == 0 { 300_000 } else { 1000 }])
        .collect();
    for chunk in &chunks {
        put(&txn, chunk).unwrap();
        for known in [chunk, &chunks[0]] {
            let id = ChunkId::of(known).into();
            assert_eq!(&txn.reader().record(&id).unwrap().unwrap().coded, known);
        }
    }
    let ids: Vec<_> = chunks.iter().map(|chunk| ChunkId::of(chunk)).collect();
    let head = put_commit(&txn, &ids, None).unwrap();
    txn.publish(&moves("heads/main", None, Some(head)), None)
        .unwrap()
        .done()
        .unwrap();
    assert_eq!(check_whole(&store).unwrap(), 40);
    assert_eq!(store.reader().unwrap().view.packs().count(), 5);
}

#[test]
fn a_moved_reference_is_refused_and_named() {
    let (_disk, store) = store();
    let txn = store.begin().unwrap();
    let mine = put_commit(&txn, &[], None).unwrap();
    let (theirs, _) = commit(&store, "heads/main", &[b"one"]).unwrap();
    let outcome = txn
        .publish(&moves("heads/main", None, Some(mine)), None)
        .unwrap();
    let expected = Outcome::Moved {
        name: "heads/main".into(),
        expected: None,
        found: Some(theirs),
    };
    assert_eq!(outcome, expected);
    assert_eq!(outcome.done().unwrap_err().kind(), Kind::Conflict);
    assert_eq!(store.head().unwrap().table.get("heads/main"), Some(theirs));
}

#[test]
fn two_writers_of_different_references_both_succeed() {
    let (_disk, store) = store();
    let txn = store.begin().unwrap();
    let mine = put_commit(&txn, &[], None).unwrap();
    let (theirs, _) = commit(&store, "heads/a", &[b"one"]).unwrap();
    txn.publish(&moves("heads/b", None, Some(mine)), None)
        .unwrap()
        .done()
        .unwrap();
    let table = store.head().unwrap().table;
    assert_eq!(
        (table.get("heads/a"), table.get("heads/b")),
        (Some(theirs), Some(mine))
    );
}

#[test]
fn a_residual_without_its_base_is_not_published() {
    let (_disk, store) = store();
    let txn = store.begin().unwrap();
    put_on(&txn, b"two", b"one", 1).unwrap();
    let outcome = txn.publish(&moves("heads/main", None, None), None).unwrap();
    let missing = vec![ChunkId::of(b"one").into()];
    assert_eq!(outcome, Outcome::Collected { missing });
}

#[test]
fn a_residual_is_whole_with_its_base_in_either_place() {
    let (_disk, store) = store();
    commit(&store, "heads/main", &[b"one"]).unwrap();
    let txn = store.begin().unwrap();
    let two = put_on(&txn, b"two", b"one", 1).unwrap();
    let six = put_on(&txn, b"six", b"two", 2).unwrap();
    let old = txn.head().table.get("heads/main");
    let new = put_commit(&txn, &[two, six], old).unwrap();
    txn.publish(&moves("heads/main", old, Some(new)), None)
        .unwrap()
        .done()
        .unwrap();
    assert_eq!(check_whole(&store).unwrap(), 3);
    assert!(store.reader().unwrap().is_whole(&six.into()));
}

#[test]
fn a_lost_or_damaged_index_is_made_again() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    let indexes: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|p| p.ends_with(".idx"))
        .collect();
    assert_eq!(indexes.len(), 2);
    let before: Vec<_> = indexes.iter().map(|path| disk.content(path)).collect();
    disk.remove(&indexes[0]).unwrap();
    disk.damage(&indexes[1], |bytes| bytes[1200] ^= 4);
    let store = open(&disk).unwrap();
    assert_eq!(check_whole(&store).unwrap(), 2);
    commit(&store, "heads/main", &[b"three"]).unwrap();
    let after: Vec<_> = indexes.iter().map(|path| disk.content(path)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_pack_whose_table_is_damaged_is_read_by_its_records() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    for path in disk.files() {
        if path.ends_with(".idx") {
            disk.remove(&path).unwrap();
        } else if path.ends_with(".pack") {
            disk.damage(&path, |bytes| {
                let end = bytes.len() - 70;
                bytes[end] ^= 1;
            });
        }
    }
    assert_eq!(check_whole(&open(&disk).unwrap()).unwrap(), 2);
}

#[test]
fn a_damaged_copy_falls_through_to_the_next() {
    let (disk, store) = store();
    let txn = store.begin().unwrap();
    put(&txn, b"one").unwrap();
    let _ = txn.publish(&moves("heads/a", None, None), None).unwrap();
    let first = disk
        .files()
        .into_iter()
        .find(|p| p.ends_with(".pack"))
        .unwrap();
    let txn = store.begin().unwrap();
    put(&txn, b"one").unwrap();
    let _ = txn.publish(&moves("heads/a", None, None), None).unwrap();
    let id = ChunkId::of(b"one").into();
    assert_eq!(store.reader().unwrap().places(&id).len(), 2);
    let at = disk
        .content(&first)
        .unwrap()
        .windows(3)
        .position(|w| w == b"one")
        .unwrap();
    disk.damage(&first, |bytes| bytes[at] ^= 1);
    let store = open(&disk).unwrap();
    assert_eq!(
        store.reader().unwrap().record(&id).unwrap().unwrap().coded,
        b"one"
    );
    for path in disk.files().iter().filter(|p| p.ends_with(".pack")) {
        let at = disk
            .content(path)
            .unwrap()
            .windows(3)
            .position(|w| w == b"one")
            .unwrap_or(at);
        disk.damage(path, |bytes| bytes[at] ^= 2);
    }
    let hurt = open(&disk)
        .unwrap()
        .reader()
        .unwrap()
        .record(&id)
        .unwrap_err();
    assert_eq!(hurt.kind(), Kind::Corrupt);
    assert!(hurt.to_string().contains(".pack"), "{hurt}");
}

#[test]
fn a_pack_is_named_by_its_bytes_and_its_index_by_the_pack() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one"]).unwrap();
    for path in disk.files() {
        if let Some(pack) = path.rsplit('/').next().and_then(paths::parse_pack) {
            let bytes = disk.content(&path).unwrap();
            assert_eq!(store_format::ids::PackId::of(&bytes), pack);
            let index = disk.content(&paths::index(&pack)).unwrap();
            assert_eq!(Index::check(&index).unwrap().pack, pack);
        }
    }
}

#[test]
fn a_damaged_newest_table_makes_the_store_read_only() {
    let (disk, store) = store();
    let (first, _) = commit(&store, "heads/main", &[b"one"]).unwrap();
    commit(&store, "heads/main", &[b"two"]).unwrap();
    disk.damage(&paths::table(2), |bytes| bytes[20] ^= 1);
    let store = open(&disk).unwrap();
    let head = store.head().unwrap();
    assert_eq!(
        (head.damaged, head.table.get("heads/main")),
        (Some(2), Some(first))
    );
    let refused = commit(&store, "heads/main", &[b"three"]).unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupt);
    assert!(disk.content(&paths::table(3)).is_none());
}

#[test]
fn a_newer_store_is_refused_by_name() {
    use store_format::store_file::StoreFile;
    let (disk, store) = store();
    let newer = |change: fn(&mut StoreFile)| {
        let mut file = store.file().clone();
        change(&mut file);
        disk.damage(paths::FORMAT, |bytes| *bytes = file.encode().into_bytes());
        open(&disk)
    };
    let kind = |opened: crate::error::Result<Store>| opened.err().map(|error| error.kind());
    assert_eq!(kind(newer(|f| f.reader = 2)), Some(Kind::Unsupported));
    assert_eq!(
        kind(newer(|f| f.features = "x".into())),
        Some(Kind::Unsupported)
    );
    let readable = newer(|f| f.writer = 2).unwrap();
    assert_eq!(readable.begin().err().unwrap().kind(), Kind::Unsupported);
    disk.damage(paths::FORMAT, |bytes| bytes[30] ^= 1);
    assert_eq!(kind(open(&disk)), Some(Kind::Corrupt));
}

#[test]
fn a_store_that_was_half_made_is_made_again() {
    let disk = crate::disk::sim::SimDisk::default();
    disk.record();
    Store::create_on(Arc::new(disk.clone()), host(1)).unwrap();
    for (prefix, crash, left) in disk.crashes(8) {
        let store = match open(&left) {
            Ok(store) => store,
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotFound, "{prefix} {crash:?} {error}");
                Store::create_on(Arc::new(left.clone()), host(3)).unwrap()
            }
        };
        commit(&store, "heads/main", &[b"one"])
            .unwrap_or_else(|error| panic!("{} {crash:?} {error:?}", disk.change(prefix)));
    }
}

#[test]
fn a_record_whose_source_came_back_deeper_is_not_whole_and_is_stored_again() {
    let (disk, store) = store();
    commit(&store, "heads/first", &[b"one"]).unwrap();
    let one = ChunkId::of(b"one").into();
    let place = store.reader().unwrap().places(&one).remove(0);
    let txn = store.begin().unwrap();
    let two = put_on(&txn, b"two", b"one", 1).unwrap();
    let head = put_commit(&txn, &[two], None).unwrap();
    let deed = moves("heads/main", None, Some(head));
    txn.publish(&deed, None).unwrap().done().unwrap();
    // The source goes, as after a collection when nothing live needed it, and comes back deeper.
    let Origin::Pack(pack) = place.origin else {
        panic!("it was published");
    };
    disk.remove(&paths::index(&pack)).unwrap();
    disk.remove(&paths::pack(&pack)).unwrap();
    let store = open(&disk).unwrap();
    let txn = store.begin().unwrap();
    put(&txn, b"six").unwrap();
    put_on(&txn, b"one", b"six", 1).unwrap();
    assert_eq!(txn.depth(&one), Some(1));
    let two = RecordId::from(two);
    assert!(!txn.contains(&two) && !txn.reader().is_whole(&two));
    // A copy of it is here at depth 1, from which others may be predicted: no deeper, then.
    assert_eq!(txn.depth_max(&two), 1);
    put_on(&txn, b"two", b"six", 1).unwrap();
    assert!(txn.contains(&two) && txn.reader().is_whole(&two));
}
