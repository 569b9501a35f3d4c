//! What is hurt is named, and what can be made again is.
//!
//! May use: everything of the store.

use store_format::ids::PackId;

use super::support::*;
use crate::disk::Disk;
use crate::disk::sim::Crash;
use crate::store::paths;

#[test]
fn every_flipped_byte_of_a_pack_or_index_is_found() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    for pack in store.packs().unwrap() {
        let check = store.check_pack(&pack).unwrap();
        assert!(check.hurt.is_empty() && check.hurt_records.is_empty());
        assert!(check.records > 0);
        for path in [paths::pack(&pack), paths::index(&pack)] {
            for at in 0..disk.content(&path).unwrap().len() {
                let copy = disk.crashed(Crash::Kept);
                copy.damage(&path, |bytes| bytes[at] ^= 1 << (at % 8));
                let check = open(&copy).unwrap().check_pack(&pack).unwrap();
                assert!(!check.hurt.is_empty(), "{path} {at}");
            }
        }
    }
}

#[test]
fn an_index_is_written_anew_and_a_damaged_record_is_named() {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    let pack = store.packs().unwrap()[0];
    let before = disk.content(&paths::index(&pack));
    disk.remove(&paths::index(&pack)).unwrap();
    assert_eq!(
        open(&disk).unwrap().check_pack(&pack).unwrap().hurt.len(),
        1
    );
    store.repair_index(&pack).unwrap();
    assert_eq!(disk.content(&paths::index(&pack)), before);
    disk.damage(&paths::pack(&pack), |bytes| bytes[130] ^= 1);
    let store = open(&disk).unwrap();
    let check = store.check_pack(&pack).unwrap();
    assert_eq!(check.hurt_records.len(), 1);
    let hurt = [check.hurt_records[0].0];
    assert_eq!(store.only_in(&pack, &hurt).unwrap(), hurt);
    assert_eq!(store.only_in(&PackId::of(b"other"), &hurt).unwrap(), []);
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
        assert_eq!(store.repair_newest_table().unwrap(), Some(3));
        let head = store.head().unwrap();
        assert_eq!((head.damaged, head.table.operation), (None, operation));
        assert_eq!(head.table.get("heads/x"), Some(last));
        assert_eq!(store.check_operations().unwrap(), 4);
        commit(&store, "heads/x", &[b"four"]).unwrap();
        assert_eq!(store.repair_newest_table().unwrap(), None);
    }
}
