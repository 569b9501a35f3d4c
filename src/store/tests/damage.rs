//! Every file of a small store cut at every length, and every bit of it flipped: an error or
//! the right bytes, never others, and never a hang.
//!
//! May use: everything of the store.

use super::support::*;
use crate::disk::sim::{Crash, SimDisk};

fn small() -> SimDisk {
    let (disk, store) = store();
    commit(&store, "heads/main", &[b"one", b"two"]).unwrap();
    let txn = store.begin().unwrap();
    let ids = [put_on(&txn, b"six", b"two", 1).unwrap()];
    let old = txn.head().table.get("heads/main");
    let new = put_commit(&txn, &ids, old).unwrap();
    let outcome = txn
        .publish(&moves("heads/main", old, Some(new)), None)
        .unwrap();
    outcome.done().unwrap();
    disk
}

/// Reads what can be read: whatever is delivered is what was stored, as `check_whole` compares.
fn read_all(disk: &SimDisk) -> bool {
    let Ok(store) = open(disk) else {
        return false;
    };
    check_whole(&store).is_ok()
}

#[test]
fn no_cut_file_delivers_other_bytes() {
    let disk = small();
    let (mut whole, mut refused) = (0, 0);
    for path in disk.files() {
        if path == "reserve" {
            continue;
        }
        let bytes = disk.content(&path).unwrap().len();
        for cut in 0..bytes {
            let copy = disk.crashed(Crash::Kept);
            copy.damage(&path, |bytes| bytes.truncate(cut));
            *if read_all(&copy) {
                &mut whole
            } else {
                &mut refused
            } += 1;
        }
    }
    assert!(whole > 100 && refused > 100, "{whole} {refused}");
}

#[test]
fn no_flipped_bit_delivers_other_bytes() {
    let disk = small();
    let (mut whole, mut refused) = (0, 0);
    for path in disk.files() {
        if path == "reserve" {
            continue;
        }
        for at in 0..disk.content(&path).unwrap().len() {
            let copy = disk.crashed(Crash::Kept);
            copy.damage(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            *if read_all(&copy) {
                &mut whole
            } else {
                &mut refused
            } += 1;
        }
    }
    assert!(whole > 100 && refused > 100, "{whole} {refused}");
}

#[test]
fn a_damaged_index_costs_nothing_but_time() {
    let disk = small();
    for path in disk.files().iter().filter(|path| path.ends_with(".idx")) {
        for at in 0..disk.content(path).unwrap().len() {
            let copy = disk.crashed(Crash::Kept);
            copy.damage(path, |bytes| bytes[at] ^= 1 << (at % 8));
            assert!(read_all(&copy), "{path} {at}");
            copy.damage(path, |bytes| bytes.truncate(at));
            assert!(read_all(&copy), "{path} {at}");
        }
    }
}

#[test]
fn nothing_is_written_over_a_damaged_newest_table() {
    let disk = small();
    let newest = crate::store::paths::table(2);
    for at in 0..disk.content(&newest).unwrap().len() {
        let copy = disk.crashed(Crash::Kept);
        copy.damage(&newest, |bytes| bytes[at] ^= 1 << (at % 8));
        let store = open(&copy).unwrap();
        assert_eq!(store.head().unwrap().damaged, Some(2));
        assert!(commit(&store, "heads/x", &[b"new"]).is_err());
    }
}
