//! Power loss after every change of the directory; every call failing, once or for ever.
//!
//! May use: everything of the store.

use std::io::ErrorKind;
use std::sync::Arc;

use store_format::ids::{ChunkId, CommitId};

use super::support::*;
use crate::disk::sim::{Fault, SimDisk};
use crate::error::{Kind, Result};
use crate::store::Store;
use crate::store::advance::Published;
use crate::store::staged::PackSizes;

/// A commit with several packs, known chunks and residuals, on top of what is there.
fn rich_commit(store: &Store) -> Result<(CommitId, Published)> {
    let sizes = PackSizes {
        data_bytes: 5000,
        metadata_bytes: 5000,
    };
    let txn = store.begin_sized(sizes)?;
    let known = ChunkId::of(b"one");
    if !txn.contains(&known.into()) {
        put(&txn, b"one")?; // its index could not be read
    }
    let ids = [
        known,
        put_on(&txn, b"two", b"one", 1)?,
        put(&txn, &[5; 6000])?,
        put(&txn, &[6; 700])?,
    ];
    let old = txn.head().table.get("heads/main");
    let new = put_commit(&txn, &ids, old)?;
    let published = txn
        .publish(&moves("heads/main", old, Some(new)), None)?
        .done()?;
    Ok((new, published))
}

#[test]
fn power_loss_at_any_point_leaves_the_old_or_the_new_commit_whole() {
    let (disk, store) = store();
    let (old, _) = commit(&store, "heads/main", &[b"one"]).unwrap();
    disk.record();
    let (new, _) = rich_commit(&store).unwrap();
    let acknowledged = disk.recorded();
    let mut seen = [0, 0];
    for (prefix, crash, left) in disk.crashes(16) {
        let place = format!("after '{}', {crash:?}", disk.change(prefix));
        let store = open(&left).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        let head = store.head().unwrap();
        assert_eq!(head.damaged, None, "{place}");
        let found = head.table.get("heads/main").unwrap();
        assert!(found == old || found == new, "{place}");
        assert!(
            found == new || prefix + 1 < acknowledged,
            "{place}: an acknowledged commit is lost"
        );
        seen[usize::from(found == new)] += 1;
        check_whole(&store).unwrap_or_else(|error| panic!("{place}: {error:?}"));
        // And life goes on.
        commit(&store, "heads/main", &[b"three"]).unwrap_or_else(|e| panic!("{place}: {e:?}"));
    }
    assert!(seen[0] > 50 && seen[1] > 50, "{seen:?}");
}

/// Runs a verb with each call failing in turn until it succeeds untouched, checks after each
/// that the store is whole and that the verb succeeds once the fault is gone.
pub fn fail_every_call(
    make: impl Fn() -> (SimDisk, Store),
    verb: impl Fn(&Store) -> Result<()>,
    check: impl Fn(&Store, bool),
) {
    let faults = [
        (ErrorKind::Other, false, false),
        (ErrorKind::Other, true, false),
        (ErrorKind::StorageFull, false, false),
        (ErrorKind::StorageFull, true, false),
        (ErrorKind::Other, false, true), // the answer is lost
        (ErrorKind::AlreadyExists, false, true),
    ];
    for (error, lasting, done) in faults {
        for call in 1.. {
            let (disk, store) = make();
            disk.set_fault(Some(Fault {
                call,
                error,
                lasting,
                done,
            }));
            let answer = verb(&store);
            let reached = disk.calls() >= call;
            disk.set_fault(None);
            let place = format!("call {call}, {error:?}, lasting {lasting}, done {done}");
            if error == ErrorKind::StorageFull
                && let Err(error) = &answer
            {
                assert_eq!(error.kind(), Kind::Full, "{place}: {error:?}");
            }
            let store = open(&disk).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            check_whole(&store).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            check(&store, answer.is_ok());
            verb(&store).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            check_whole(&store).unwrap_or_else(|error| panic!("{place}: {error:?}"));
            check(&store, true);
            if !reached {
                assert!(call > 20, "the verb makes {call} calls only");
                break;
            }
        }
    }
}

#[test]
fn a_commit_survives_the_failure_of_any_call() {
    let make = || {
        let (disk, store) = store();
        commit(&store, "heads/main", &[b"one"]).unwrap();
        (disk, store)
    };
    let verb = |store: &Store| rich_commit(store).map(|_| ());
    fail_every_call(make, verb, |store, acknowledged| {
        let commits = store.head().unwrap().table.number;
        assert!(commits > u64::from(acknowledged));
    });
}

#[test]
fn a_creation_survives_the_failure_of_any_call() {
    for call in 1.. {
        let disk = SimDisk::default();
        disk.set_fault(Some(Fault {
            call,
            error: ErrorKind::Other,
            lasting: false,
            done: false,
        }));
        let made = Store::create_on(Arc::new(disk.clone()), host(1));
        let reached = disk.calls() >= call;
        disk.set_fault(None);
        if open(&disk).is_err() {
            assert!(made.is_err());
            Store::create_on(Arc::new(disk.clone()), host(3)).unwrap();
        }
        commit(&open(&disk).unwrap(), "heads/main", &[b"one"]).unwrap();
        if !reached {
            break;
        }
    }
}
