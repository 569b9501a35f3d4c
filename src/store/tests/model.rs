//! Many writers, a cleaner and collections in random interleavings, one seed each.
//!
//! May use: everything of the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use store_format::ids::{ChunkId, CommitId, OperationId};

use super::support::*;
use super::turns::Turns;
use crate::disk::sim::{Chance, SimDisk};
use crate::error::Kind;
use crate::store::Store;
use crate::store::advance::Outcome;
use crate::store::host::Host;
use crate::store::ops;
use crate::store::refs::{self, Keep};

/// A store seen by one of several threads that take turns.
fn seat(disk: &SimDisk, turns: &Arc<Turns>, thread: usize, seed: u64) -> (Arc<SimDisk>, Host) {
    let mut host = host(seed << 8 | thread as u64);
    let pausing = Arc::clone(turns);
    host.pause = Arc::new(move |_| pausing.pass(thread));
    host.process = u32::try_from(thread).unwrap() + 1;
    (Arc::new(disk.with_gate(turns.gate(thread))), host)
}

/// Runs one function a thread, each in its turn; a panic in one ends the test.
fn in_turns<T: Send>(
    turns: &Arc<Turns>,
    threads: usize,
    run: impl Fn(usize) -> T + Sync,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let run = &run;
        let handles: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    turns.start(thread);
                    let result =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(thread)));
                    turns.end(thread);
                    result
                })
            })
            .collect();
        handles
            .into_iter()
            .map(|handle| match handle.join().unwrap() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

/// Every operation of the chain, newest first.
fn chain(store: &Store) -> Vec<OperationId> {
    let mut chain = vec![store.head().unwrap().table.operation];
    while let Some(parent) = store.operation(chain.last().unwrap()).unwrap().parent {
        chain.push(parent);
    }
    chain
}

/// Writers add to one counter, each on what it sees; the cleaner keeps few tables. Gives the
/// acknowledged additions and those that are there.
fn count_up(seed: u64, writers: usize, additions: usize) {
    let (disk, store) = store();
    disk.lose_answers(seed, 10);
    let turns = Turns::new(seed, writers + 1, 600);
    let acknowledged = in_turns(&turns, writers + 1, |thread| {
        let (disk, host) = seat(&disk, &turns, thread, seed);
        if thread == writers {
            for _ in 0..writers * additions {
                let keep = Keep {
                    tables: 4,
                    seconds: -1,
                };
                let _ = refs::clean(&*disk, keep, 1_800_000_000);
            }
            return Vec::new();
        }
        let store = Store::open_on(disk, host).unwrap();
        let mut done = Vec::new();
        while done.len() < additions {
            let txn = store.begin().unwrap();
            let old = txn.head().table.get("heads/main");
            let mut next = old.map_or(Vec::new(), |old| old.as_bytes().to_vec());
            next.extend([
                u8::try_from(thread).unwrap(),
                u8::try_from(done.len()).unwrap(),
            ]);
            let new = CommitId::of(&next);
            match txn.publish(&moves("heads/main", old, Some(new)), None) {
                Ok(Outcome::Done(published)) => done.push((published.operation, new)),
                Ok(Outcome::Moved { .. }) => {}
                Ok(Outcome::Collected { .. }) => panic!("nothing is collected here"),
                // Too many at once, or a table that the cleaner took while it was read.
                Err(error) => assert!(
                    matches!(error.kind(), Kind::Conflict | Kind::Io),
                    "{seed} {error:?}"
                ),
            }
        }
        done
    });
    let chain = chain(&store);
    let mut seen = BTreeMap::new();
    for id in &chain {
        let operation = store.operation(id).unwrap();
        for change in operation.changes {
            *seen.entry(change.new).or_insert(0) += 1;
        }
    }
    for (operation, commit) in acknowledged.iter().flatten() {
        assert!(
            chain.contains(operation),
            "seed {seed}: an acknowledged operation is lost"
        );
        assert_eq!(
            seen.get(&Some(*commit)),
            Some(&1),
            "seed {seed}: applied twice"
        );
    }
    let acknowledged = acknowledged.iter().flatten().count();
    assert_eq!(acknowledged, writers * additions);
    assert_eq!(chain.len(), acknowledged + 1, "seed {seed}");
}

#[test]
fn no_acknowledged_change_is_lost_beside_slow_writers_and_a_cleaner() {
    for seed in 0..12 {
        count_up(seed, 6, 15);
    }
}

/// Writers commit few distinct chunks, some as residuals, and drop branches; one collects.
fn write_and_collect(seed: u64) -> (usize, usize) {
    let (disk, store) = store();
    let writers = 4;
    let turns = Turns::new(seed, writers + 1, 1500);
    let counts = in_turns(&turns, writers + 1, |thread| {
        let (disk, host) = seat(&disk, &turns, thread, seed);
        let store = Store::open_on(disk, host).unwrap();
        let mut chance = Chance(seed ^ (thread as u64) << 32);
        let mut counts = (0, 0);
        for _ in 0..if thread == writers { 6 } else { 5 } {
            if thread == writers {
                match gc(&store, &strict()) {
                    Ok(report) => counts.1 += report.deleted.len(),
                    Err(error) => assert_eq!(error.kind(), Kind::Conflict, "{seed} {error:?}"),
                }
            } else {
                counts.0 += write_some(&store, &mut chance, thread, seed);
            }
        }
        counts
    });
    let place = |error| panic!("seed {seed}: {error:?}");
    check_whole(&open(&disk).unwrap()).unwrap_or_else(place);
    gc(&store, &strict()).unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
    check_whole(&open(&disk).unwrap()).unwrap_or_else(place);
    let sum = |a: (usize, usize), b: &(usize, usize)| (a.0 + b.0, a.1 + b.1);
    counts.iter().fold((0, 0), sum)
}

fn write_some(store: &Store, chance: &mut Chance, thread: usize, seed: u64) -> usize {
    let name = format!("heads/{thread}");
    let txn = store.begin().unwrap();
    let old = txn.head().table.get(&name);
    let mut ids = Vec::new();
    for _ in 0..3 {
        let number = chance.of(12);
        let plain = [u8::try_from(number).unwrap(); 40];
        let id = ChunkId::of(&plain);
        let base = [u8::try_from(number / 2).unwrap(); 40];
        if txn.contains(&id.into()) {
        } else if number > 3 && txn.contains(&ChunkId::of(&base).into()) {
            let depth = txn.reader().places(&ChunkId::of(&base).into());
            let depth = depth.first().map_or(0, |place| place.entry.depth);
            put_on(&txn, &plain, &base, depth + 1).unwrap();
        } else {
            put(&txn, &plain).unwrap();
        }
        ids.push(id);
    }
    let parent = if chance.of(2) == 0 { old } else { None };
    let new = put_commit(&txn, &ids, parent).unwrap();
    let new = if chance.of(4) == 0 { None } else { Some(new) };
    match txn.publish(&moves(&name, old, new), None) {
        Ok(Outcome::Done(_)) => 1,
        Ok(Outcome::Collected { .. }) => 0,
        Ok(Outcome::Moved { .. }) => panic!("seed {seed}: nobody else moves it"),
        Err(error) => {
            assert_eq!(error.kind(), Kind::Conflict, "seed {seed}: {error:?}");
            0
        }
    }
}

#[test]
fn collections_beside_writers_leave_nothing_dangling() {
    let mut counts = (0, 0);
    for seed in 0..60 {
        let (published, deleted) = write_and_collect(seed);
        counts = (counts.0 + published, counts.1 + deleted);
    }
    // The runs meet what they are about.
    assert!(counts.0 > 300 && counts.1 > 300, "{counts:?}");
}

#[test]
#[ignore = "minutes; the campaign before a release"]
fn many_more_histories_of_collections() {
    for seed in 1000..5000 {
        write_and_collect(seed);
    }
}

#[test]
#[ignore = "a minute; the campaign before a release"]
fn many_more_histories_of_changes() {
    for seed in 1000..1200 {
        count_up(seed, 6, 40);
    }
}

#[test]
fn the_chain_of_operations_is_walked_no_further_than_asked() {
    let (disk, store) = store();
    for k in 0..5 {
        commit(&store, "heads/main", &[&[k]]).unwrap();
    }
    let chain = chain(&store);
    let is =
        |wanted: usize, steps| ops::is_ancestor(&disk, &chain[wanted], &chain[0], steps).unwrap();
    assert!(is(0, 0) && is(2, 2) && is(5, 9) && !is(3, 2));
    let other = OperationId::of(b"none");
    assert!(!ops::is_ancestor(&disk, &other, &chain[0], 100).unwrap());
}
