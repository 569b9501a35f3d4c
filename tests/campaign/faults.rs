//! Disks that are full or fail at any call: a clear error, the old state, and a retry that works.

use std::io::ErrorKind;
use std::sync::Arc;

use sparse_store::disk::sim::{Crash, Fault};
use sparse_store::error::{Kind, Result};
use sparse_store::flow::collect;
use sparse_store::store::Store;
use sparse_store::store::advance::Deed;
use sparse_store::store::gc::GcPolicy;
use sparse_store::store::host::Host;
use store_format::reference::Change;

use crate::crashes::{self, with_rubbish};
use crate::{check, commit_dir, content, every_kind, is_whole, open, pool, small};

#[test]
fn a_commit_that_fails_at_any_call_leaves_the_old_state_and_can_be_tried_again() {
    let pool = pool();
    let small = small(&pool);
    let dir = tempfile::tempdir().expect("a folder");
    every_kind(dir.path(), 5, 1.01);
    for (error, kind) in [
        (ErrorKind::StorageFull, Kind::Full),
        (ErrorKind::Other, Kind::Io),
    ] {
        let mut refused = 0;
        for call in 1.. {
            let disk = small.disk.crashed(Crash::Kept);
            let store = open(&disk).expect("a store");
            disk.set_fault(Some(Fault {
                call,
                error,
                lasting: false,
                done: false,
            }));
            let start = disk.calls();
            let outcome = commit_dir(&store, &pool, dir.path(), "main");
            let calls = disk.calls().saturating_sub(start);
            disk.set_fault(None);
            if let Err(error) = &outcome {
                assert!(
                    matches!(error.kind(), k if k == kind || k == Kind::Conflict),
                    "{error}"
                );
                refused += 1;
            }
            let store = open(&disk).expect("a store");
            for (commit, truth) in &small.versions {
                assert!(is_whole(&store, commit, truth), "call {call}");
            }
            let commit = commit_dir(&store, &pool, dir.path(), "main").expect("a retry");
            assert!(content(&store, &commit).is_ok_and(|files| files.values().all(Result::is_ok)));
            if call % 8 == 0 || outcome.is_err() {
                assert!(
                    !check(&store, &pool).expect("a report").is_hurt(),
                    "call {call}"
                );
            }
            if outcome.is_ok() && call > calls {
                break;
            }
        }
        assert!(refused > 10, "{refused}");
    }
}

/// A collection and a repack that fail at any call lose nothing, and can be tried again.
#[test]
fn a_collection_or_repack_that_fails_at_any_call_can_be_tried_again() {
    let pool = pool();
    let small = with_rubbish(&pool);
    type Verb<'a> = &'a dyn Fn(&Store) -> Result<()>;
    let verbs: [(&str, Verb<'_>); 2] = [
        ("gc", &|store| crashes::collect(store).map(|_| ())),
        ("repack", &|store| crashes::repack(store, &pool).map(|_| ())),
    ];
    for (name, verb) in verbs {
        for error in [ErrorKind::StorageFull, ErrorKind::Other] {
            let mut refused = 0;
            for call in 1.. {
                let disk = small.disk.crashed(Crash::Kept);
                let store = open(&disk).expect("a store");
                disk.set_fault(Some(Fault {
                    call,
                    error,
                    lasting: false,
                    done: false,
                }));
                let outcome = verb(&store);
                let reached = disk.calls() >= call;
                disk.set_fault(None);
                let place = format!("{name}, call {call}, {error:?}");
                let store = open(&disk).expect("a store");
                for (commit, truth) in &small.versions {
                    assert!(is_whole(&store, commit, truth), "{place}");
                }
                if outcome.is_err() || call % 16 == 0 {
                    refused += u64::from(outcome.is_err());
                    let report = check(&store, &pool).expect("a report");
                    let mut hurt = report.hurt.iter();
                    let is_held =
                        report.bad_packs.is_empty() && hurt.all(|hurt| hurt.references.is_empty());
                    assert!(is_held, "{place}: {:?}", report.findings);
                    verb(&store).unwrap_or_else(|error| panic!("{place}: {error}"));
                }
                if !reached {
                    break;
                }
            }
            // A collection goes on where there is no room: it has a reserve.
            let goes_on = name == "gc" && error == ErrorKind::StorageFull;
            assert!(goes_on || refused > 5, "{name}: {refused}");
        }
    }
}

#[test]
fn gc_makes_room_on_a_full_disk() {
    let pool = pool();
    let small = small(&pool);
    let disk = small.disk.crashed(Crash::Kept);
    let store = Store::open_on(Arc::new(disk.clone()), Host::system()).expect("a store");
    // A branch of its own content, then forgotten.
    let dir = tempfile::tempdir().expect("a folder");
    every_kind(dir.path(), 99, 1.0);
    let commit = commit_dir(&store, &pool, dir.path(), "trial").expect("a commit");
    let deed = Deed {
        verb: "branch".into(),
        changes: vec![Change {
            name: "heads/trial".into(),
            old: Some(commit),
            new: None,
        }],
        ..Deed::default()
    };
    let outcome = store.begin().expect("a writer").publish(&deed, None);
    outcome.and_then(|outcome| outcome.done()).expect("it goes");
    disk.set_capacity(Some(disk.used_bytes()));
    every_kind(dir.path(), 123, 1.0);
    let refused = commit_dir(&store, &pool, dir.path(), "main").expect_err("no room");
    assert_eq!(refused.kind(), Kind::Full, "{refused}");
    let request = collect::Request {
        policy: GcPolicy {
            grace_ms: 0,
            keep_seconds: -1,
            keep_operations: 0,
            ..GcPolicy::default()
        },
        author: String::new(),
        time: 1_800_000_000,
        dry_run: false,
    };
    let report = collect::collect(&store, &request).expect("a collection");
    assert!(report.freed_bytes > 8000, "{report:?}");
    let store = open(&disk).expect("a store");
    for (commit, truth) in &small.versions {
        assert!(is_whole(&store, commit, truth));
    }
    assert!(!check(&store, &pool).expect("a report").is_hurt());
}
