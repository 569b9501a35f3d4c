//! Several processes on one store in a directory: each acknowledged change is there, also of
//! those that are killed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use sparse_store::error::Result;
use sparse_store::store::Store;
use sparse_store::store::advance::{Deed, Outcome};
use sparse_store::store::gc::{GcPolicy, Root};
use sparse_store::store::host::Host;
use sparse_store::store::read::Reader;
use store_format::ids::{ChunkId, CommitId, OperationId, RecordId};
use store_format::record::{Coding, Kind, Recipe};
use store_format::reference::Change;

const DIR: &str = "SPARSE_TEST_STORE";
const NAME: &str = "SPARSE_TEST_WRITER";

/// One addition: a commit of one chunk on a branch of its own. Gives the operation.
fn add(store: &Store, writer: &str, number: u32) -> OperationId {
    let plain = format!("{writer} {number}").repeat(50).into_bytes();
    let name = format!("heads/{writer}");
    loop {
        let txn = store.begin().unwrap();
        let recipe = || Recipe::plain(Coding::Stored, Vec::new());
        let id = ChunkId::of(&plain);
        let bytes = plain.len() as u64;
        txn.append(Kind::Chunk, id.into(), recipe(), bytes, &plain)
            .unwrap();
        let commit = CommitId::of(id.as_bytes());
        txn.append(Kind::Commit, commit.into(), recipe(), 32, id.as_bytes())
            .unwrap();
        let deed = Deed {
            verb: "commit".into(),
            author: writer.into(),
            time: i64::from(number),
            changes: vec![Change {
                old: txn.head().table.get(&name),
                name: name.clone(),
                new: Some(commit),
            }],
            undoes: None,
        };
        match txn.publish(&deed, None).unwrap() {
            Outcome::Done(published) => return published.operation,
            Outcome::Collected { .. } => {}
            Outcome::Moved { .. } => panic!("nobody else moves it"),
        }
    }
}

/// Runs as a process of its own when it is asked to; else does nothing.
#[test]
fn writer_process() {
    let (Ok(dir), Ok(name)) = (std::env::var(DIR), std::env::var(NAME)) else {
        return;
    };
    let store = Store::open(Path::new(&dir), Host::system()).unwrap();
    for number in 0.. {
        println!("acknowledged {}", add(&store, &name, number));
    }
}

/// Starts a writer, waits for so many acknowledgments, kills it, and gives all it has printed.
fn killed_writer(dir: &Path, name: &str, lines: usize) -> Vec<OperationId> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--nocapture"])
        .env(DIR, dir)
        .env(NAME, name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(writer.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let id = line.split("acknowledged ").nth(1);
        acknowledged.extend(id.and_then(|id| id.parse::<OperationId>().ok()));
        if acknowledged.len() == lines {
            writer.kill().unwrap();
        }
    }
    writer.wait().unwrap();
    acknowledged
}

fn mark(reader: &Reader, roots: &[Root]) -> Result<HashSet<RecordId>> {
    let mut live = HashSet::new();
    for root in roots {
        if let Some(commit) = reader.record(&root.commit.into())? {
            let chunk = ChunkId::from_bytes(commit.coded.try_into().unwrap());
            live.insert(RecordId::from(root.commit));
            live.insert(RecordId::from(chunk));
        }
    }
    Ok(live)
}

#[test]
fn acknowledged_changes_of_killed_processes_are_there_and_their_rubbish_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let store = Store::create(path, Host::system()).unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        std::thread::scope(|scope| {
            let names = [format!("{round}-a"), format!("{round}-b")];
            let start = |name: String| scope.spawn(move || killed_writer(path, &name, 3 + round));
            for writer in names.map(start) {
                acknowledged.extend(writer.join().unwrap());
            }
        });
    }
    let mut chain = HashSet::new();
    let mut next = Some(store.head().unwrap().table.operation);
    while let Some(id) = next {
        chain.insert(id);
        next = store.operation(&id).unwrap().parent;
    }
    assert!(acknowledged.len() >= 2 * (3 + 4 + 5 + 6 + 7 + 8));
    assert!(acknowledged.iter().all(|id| chain.contains(id)));
    let check = || {
        for reference in store.head().unwrap().table.references {
            let reader = store.reader().unwrap();
            let commit = reader.record(&reference.commit.into()).unwrap().unwrap();
            let chunk = ChunkId::from_bytes(commit.coded.try_into().unwrap());
            let plain = reader.record(&chunk.into()).unwrap().unwrap().coded;
            assert_eq!(ChunkId::of(&plain), chunk);
        }
    };
    check();
    let policy = GcPolicy {
        grace_ms: 0,
        ..GcPolicy::default()
    };
    store.gc(&Deed::default(), &policy, &mut mark).unwrap();
    check();
    let left = |name: &str| std::fs::read_dir(path.join(name)).unwrap().count();
    assert_eq!((left("tmp"), left("leases"), left("condemned")), (0, 0, 0));
}
