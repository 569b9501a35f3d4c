//! Small records, commits and hosts for tests.
//!
//! May use: everything of the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store_format::ids::{ChunkId, CommitId, PackId, RecordId};
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, View};
use store_format::reference::Change;

use crate::disk::sim::{Chance, SimDisk};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::advance::{Deed, Published};
use crate::store::gc::{GcPolicy, GcReport, Root};
use crate::store::host::Host;
use crate::store::read::Reader;
use crate::store::txn::Txn;

/// A machine whose clock and chances a seed gives, and on which every process but 0 runs.
pub fn host(seed: u64) -> Host {
    let clock = AtomicU64::new(1_800_000_000_000);
    let chance = std::sync::Mutex::new(Chance(seed));
    Host {
        now_ms: Arc::new(move || clock.fetch_add(1, Ordering::Relaxed)),
        fill: Arc::new(move |buffer| {
            let mut chance = chance.lock().unwrap();
            for byte in buffer {
                *byte = u8::try_from(chance.of(256)).unwrap();
            }
            Ok(())
        }),
        pause: Arc::new(|_| {}),
        runs: Arc::new(|process| process != 0),
        name: "test".into(),
        process: 1,
    }
}

pub fn store() -> (SimDisk, Store) {
    let disk = SimDisk::default();
    let store = Store::create_on(Arc::new(disk.clone()), host(1)).unwrap();
    (disk, store)
}

pub fn open(disk: &SimDisk) -> Result<Store> {
    Store::open_on(Arc::new(disk.clone()), host(2))
}

/// Appends a chunk as it is.
pub fn put(txn: &Txn, plain: &[u8]) -> Result<ChunkId> {
    let id = ChunkId::of(plain);
    let recipe = Recipe::plain(Coding::Stored, Vec::new());
    txn.append(Kind::Chunk, id.into(), recipe, plain.len() as u64, plain)?;
    Ok(id)
}

/// Appends a chunk as a residual: here simply the exclusive or with its base.
pub fn put_on(txn: &Txn, plain: &[u8], base: &[u8], depth: u8) -> Result<ChunkId> {
    assert_eq!(plain.len(), base.len());
    let id = ChunkId::of(plain);
    let recipe = Recipe {
        predictor: Predictor::Base,
        sources: vec![View {
            parts: vec![Part {
                chunk: ChunkId::of(base),
                start: 0,
                bytes: base.len() as u64,
            }],
        }],
        depth,
        ..Recipe::plain(Coding::Difference, Vec::new())
    };
    let coded: Vec<_> = plain.iter().zip(base).map(|(a, b)| a ^ b).collect();
    txn.append(Kind::Chunk, id.into(), recipe, plain.len() as u64, &coded)?;
    Ok(id)
}

/// Appends a "commit": the ids of the chunks it needs, one after the other.
pub fn put_commit(txn: &Txn, chunks: &[ChunkId], parent: Option<CommitId>) -> Result<CommitId> {
    let mut bytes: Vec<u8> = chunks.iter().flat_map(|id| *id.as_bytes()).collect();
    bytes.extend(parent.iter().flat_map(|id| *id.as_bytes()));
    bytes.push(u8::from(parent.is_some()));
    let id = CommitId::of(&bytes);
    let recipe = Recipe::plain(Coding::Stored, Vec::new());
    txn.append(Kind::Commit, id.into(), recipe, bytes.len() as u64, &bytes)?;
    Ok(id)
}

/// What a "commit" names.
pub fn parse_commit(bytes: &[u8]) -> (Vec<ChunkId>, Option<CommitId>) {
    let (flag, ids) = bytes.split_last().unwrap();
    let mut ids: Vec<[u8; 32]> = ids.as_chunks().0.to_vec();
    let parent = (*flag == 1).then(|| CommitId::from_bytes(ids.pop().unwrap()));
    (ids.into_iter().map(ChunkId::from_bytes).collect(), parent)
}

pub fn moves(name: &str, old: Option<CommitId>, new: Option<CommitId>) -> Deed {
    Deed {
        verb: "commit".into(),
        author: "somebody".into(),
        time: 1_800_000_000,
        changes: vec![Change {
            name: name.into(),
            old,
            new,
        }],
        undoes: None,
    }
}

/// Commits chunks on a branch, on top of what it points to.
pub fn commit(store: &Store, branch: &str, chunks: &[&[u8]]) -> Result<(CommitId, Published)> {
    let txn = store.begin()?;
    let mut ids = Vec::new();
    for chunk in chunks {
        let id = ChunkId::of(chunk);
        if !txn.contains(&id.into()) {
            put(&txn, chunk)?;
        }
        ids.push(id);
    }
    let old = txn.head().table.get(branch);
    let new = put_commit(&txn, &ids, old)?;
    let published = txn.publish(&moves(branch, old, Some(new)), None)?.done()?;
    Ok((new, published))
}

/// Rebuilds a chunk: plain, or the exclusive or with its base.
pub fn rebuild(store: &Store, id: RecordId) -> Result<Vec<u8>> {
    let reader = store.reader()?;
    let mut hurt = Error::not_found(format!("{id} is not there"));
    for place in reader.places(&id) {
        let Ok(record) = reader.read(&id, &place) else {
            continue;
        };
        let mut plain = record.coded;
        if let Some(view) = record.header.recipe.sources.first() {
            match rebuild(store, view.parts[0].chunk.into()) {
                Ok(base) => plain.iter_mut().zip(base).for_each(|(a, b)| *a ^= b),
                Err(error) => {
                    hurt = error;
                    continue;
                }
            }
        }
        return Ok(plain);
    }
    Err(hurt)
}

/// Every chunk of every commit of every reference, rebuilt and compared with its id (I1, I4).
pub fn check_whole(store: &Store) -> Result<usize> {
    let mut checked = 0;
    for reference in store.head()?.table.references {
        let mut next = Some(reference.commit);
        while let Some(commit) = next {
            let bytes = rebuild(store, commit.into())?;
            assert_eq!(CommitId::of(&bytes), commit);
            let (chunks, parent) = parse_commit(&bytes);
            for chunk in chunks {
                assert_eq!(ChunkId::of(&rebuild(store, chunk.into())?), chunk);
                checked += 1;
            }
            next = parent;
        }
    }
    Ok(checked)
}

/// What commits reach, as the flows above will find it.
pub fn mark(reader: &Reader, roots: &[Root]) -> Result<HashSet<RecordId>> {
    let mut live = HashSet::new();
    for root in roots {
        let mut next = Some(root.commit);
        while let Some(commit) = next {
            let Some(record) = reader.record(&commit.into())? else {
                if root.required {
                    return Err(Error::not_found(format!("{commit} is not there")));
                }
                break;
            };
            live.insert(commit.into());
            let (chunks, parent) = parse_commit(&record.coded);
            live.extend(chunks.into_iter().map(RecordId::from));
            next = parent;
        }
    }
    Ok(live)
}

/// Keeps nothing for undo and waits for nobody.
pub fn strict() -> GcPolicy {
    GcPolicy {
        grace_ms: 0,
        keep_seconds: -1,
        keep_operations: 0,
        ..GcPolicy::default()
    }
}

pub fn gc(store: &Store, policy: &GcPolicy) -> Result<GcReport> {
    let deed = Deed {
        verb: "gc".into(),
        ..Deed::default()
    };
    store.gc(&deed, policy, &mut mark)
}

/// Moves a reference to a commit whatever it points to.
pub fn reset(store: &Store, branch: &str, new: Option<CommitId>) {
    let old = store.head().unwrap().table.get(branch);
    let txn = store.begin().unwrap();
    let outcome = txn.publish(&moves(branch, old, new), None).unwrap();
    outcome.done().unwrap();
}

/// The packs of a store.
pub fn packs(store: &Store) -> Vec<PackId> {
    store.reader().unwrap().view.packs().collect()
}
