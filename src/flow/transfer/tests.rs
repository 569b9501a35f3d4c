//! Transfers between stores, through the five verbs too, over bad lines and beside collections.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store_format::commit::{Attachment, Attribute};
use store_format::ids::ChunkId;
use store_format::manifest::Manifest;
use store_format::record::{Coding, Predictor, Recipe};
use store_format::reference::{Change, NOTES};
use tempfile::TempDir;

use super::*;
use crate::codec::Level;
use crate::disk::real::RealDisk;
use crate::flow::closure::{self, Closure};
use crate::flow::commit::{self, BaseChoice, Signature};
use crate::flow::fetch::{self, Select, Under};
use crate::flow::push::{self, Force};
use crate::flow::tree::{self, Leaf, Leafy};
use crate::par::Threads;
use crate::progress::Silent;
use crate::remote::Remote;
use crate::remote::directory::DirectoryRemote;
use crate::remote::faulty::{Fault, FaultyRemote};
use crate::remote::memory::MemoryRemote;
use crate::remote::mount::RemoteDisk;
use crate::store::Store;
use crate::store::advance::Deed;
use crate::store::gc::GcPolicy;
use crate::store::host::Host;

/// A machine that does not wait.
fn host() -> Host {
    Host {
        pause: Arc::new(|_| {}),
        ..Host::system()
    }
}

fn pool() -> Pool {
    Pool::new(Threads::new(2)).unwrap()
}

fn signature() -> Signature {
    Signature {
        author: "A <a@example.org>".into(),
        time: 1_700_000_000,
        offset_minutes: 0,
    }
}

/// A store with a folder of files beside it.
struct Side {
    dir: TempDir,
    store: Store,
}

impl Side {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::create(&dir.path().join("store"), host()).unwrap();
        Self { dir, store }
    }

    fn commit(&self, branch: &str, base: BaseChoice, files: &[(&str, Vec<u8>)]) -> CommitId {
        let folder = self.dir.path().join("files");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        let request = commit::Request {
            path: &folder,
            branch,
            base,
            kind: None,
            message: "m",
            signature: signature(),
            attributes: Vec::new(),
            level: Level::Fast,
            work: None,
            head: None,
            factors: None,
            dry_run: false,
        };
        commit::commit(&self.store, &pool(), &request, &Silent)
            .unwrap()
            .commit
    }

    /// A model on `main`, and one made from it on `tuned`.
    fn with_models() -> Self {
        let side = Self::new();
        side.commit("main", BaseChoice::None, &[("m.safetensors", model(0))]);
        let base = BaseChoice::Revision("main".into());
        side.commit("tuned", base, &[("m.safetensors", model(7))]);
        side
    }
}

/// A model of one tensor; those of different seeds differ a little.
fn model(seed: u32) -> Vec<u8> {
    let elements = 40_000_u32;
    let header = format!(
        r#"{{"w":{{"dtype":"F32","shape":[200,200],"data_offsets":[0,{}]}}}}"#,
        4 * elements
    );
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    for at in 0..elements {
        let noise = at.wrapping_mul(2_654_435_761).rotate_left(13) ^ at;
        let value = (f64::from(noise) / f64::from(u32::MAX) - 0.5) as f32;
        let step = if at % 5 == 0 { seed } else { 0 };
        bytes.extend_from_slice(&f32::from_bits(value.to_bits() + step).to_le_bytes());
    }
    bytes
}

fn push(near: &Store, far: &Store, names: &[&str], force: Force) -> Result<push::Report> {
    let request = push::Request {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        force,
        remote: Some("team"),
        signature: signature(),
        dry_run: false,
    };
    push::push(near, far, &pool(), &request, &Silent)
}

fn fetch(near: &Store, far: &Store) -> Result<fetch::Report> {
    let request = fetch::Request {
        select: Select::All,
        under: Under::Remote("team"),
        signature: signature(),
        verb: "fetch",
        heal: false,
        dry_run: false,
    };
    fetch::fetch(near, far, &pool(), &request, &Silent)
}

fn at(remote: impl Remote + 'static) -> Result<Store> {
    Store::open_on(Arc::new(RemoteDisk::new(Arc::new(remote))), host())
}

fn new_at(remote: impl Remote + 'static) -> Store {
    Store::create_on(Arc::new(RemoteDisk::new(Arc::new(remote))), host()).unwrap()
}

/// Every file of every reference can be rebuilt and is what its id says.
fn assert_whole(store: &Store) {
    let rebuilder = Rebuilder::new(store.reader().unwrap());
    let table = store.head().unwrap().table;
    for reference in &table.references {
        let tips = [reference.commit];
        let missing = closure::missing(rebuilder.reader(), &tips).unwrap();
        assert!(missing.is_empty(), "{}: {missing:?}", reference.name);
        let root = rebuilder.object::<Commit>(&reference.commit).unwrap().tree;
        for leaf in tree::leaves(&rebuilder, &root).unwrap() {
            let Leafy::File { manifest, .. } = leaf.node else {
                continue;
            };
            let manifest = rebuilder.object::<Manifest>(&manifest).unwrap();
            for chunk in manifest.chunks {
                rebuilder.chunk(&chunk.id).unwrap();
            }
        }
    }
}

fn get(store: &Store, name: &str) -> Option<CommitId> {
    store.head().unwrap().table.get(name)
}

fn goes_round(far: &Store) {
    let side = Side::with_models();
    let report = push(&side.store, far, &["heads/tuned"], Force::No).unwrap();
    assert_whole(far);
    assert_eq!(
        report.logical_bytes,
        2 * model(0).len() as u64,
        "the base came along"
    );
    assert_eq!(get(far, "heads/tuned"), get(&side.store, "heads/tuned"));
    assert_eq!(get(far, "heads/main"), None);
    assert_eq!(
        get(&side.store, "remotes/team/tuned"),
        get(far, "heads/tuned")
    );
    // A delta stays a delta.
    let rebuilder = Rebuilder::new(far.reader().unwrap());
    let tip = get(far, "heads/tuned").unwrap();
    let root = rebuilder.object::<Commit>(&tip).unwrap().tree;
    let leaves = tree::leaves(&rebuilder, &root).unwrap();
    let Leafy::File { manifest, .. } = leaves[0].node else {
        panic!("a file");
    };
    let chunks = rebuilder.object::<Manifest>(&manifest).unwrap().chunks;
    let mut places = chunks
        .iter()
        .flat_map(|chunk| rebuilder.reader().places(&chunk.id.into()));
    assert!(places.any(|place| place.entry.predictor == Predictor::Base));

    let main = push(&side.store, far, &["heads/main"], Force::No).unwrap();
    assert_eq!(
        (main.logical_bytes, main.sent_bytes),
        (0, 0),
        "all of it is there"
    );
    let again = push(&side.store, far, &["heads/main"], Force::No).unwrap();
    assert_eq!(again.refs[0].old, Some(again.refs[0].new));

    let other = Side::new();
    let report = fetch(&other.store, far).unwrap();
    assert_eq!(report.refs.len(), 2);
    assert_whole(&other.store);
    assert_eq!(
        get(&other.store, "remotes/team/tuned"),
        get(far, "heads/tuned")
    );
    assert_eq!(fetch(&other.store, far).unwrap().received_bytes, 0);
}

#[test]
fn what_is_pushed_through_five_verbs_is_fetched_from_there() {
    goes_round(&new_at(MemoryRemote::default()));
    let dir = TempDir::new().unwrap();
    let remote = DirectoryRemote::open(dir.path(), host().fill).unwrap();
    goes_round(&new_at(remote));
    // The very same directory is a store for those who reach it as one.
    assert_whole(&Store::open(dir.path(), host()).unwrap());
    goes_round(&Side::new().store);
}

/// A line that fails in one way for some calls, from one call on.
fn bad_line(remote: MemoryRemote, fault: Fault, from: u64, calls: u64) -> impl Remote + 'static {
    let choose = move |number: u64| {
        let hit = (from..from + calls).contains(&number);
        if hit { fault } else { Fault::Fine }
    };
    FaultyRemote::new(remote, Box::new(choose))
}

#[test]
fn a_push_over_a_bad_line_is_done_or_not_and_can_be_repeated() {
    let side = Side::with_models();
    let mut refused = 0;
    for fault in [Fault::Failed, Fault::Lost, Fault::Short] {
        for (from, calls) in (1..60).step_by(4).flat_map(|from| [(from, 1), (from, 9)]) {
            let remote = MemoryRemote::default();
            drop(new_at(remote.clone()));
            let line = bad_line(remote.clone(), fault, from, calls);
            let pushed =
                at(line).and_then(|far| push(&side.store, &far, &["heads/tuned"], Force::No));
            let far = at(remote).unwrap();
            assert_whole(&far);
            let there = get(&far, "heads/tuned");
            match pushed {
                Ok(_) => assert_eq!(there, get(&side.store, "heads/tuned")),
                Err(_) => refused += 1,
            }
            push(&side.store, &far, &["heads/tuned", "heads/main"], Force::No).unwrap();
            assert_whole(&far);
        }
    }
    assert!(refused > 0, "the line was bad");
}

#[test]
fn a_fetch_over_a_bad_line_moves_nothing_that_is_not_whole() {
    let side = Side::with_models();
    let remote = MemoryRemote::default();
    let far = new_at(remote.clone());
    push(&side.store, &far, &["heads/tuned", "heads/main"], Force::No).unwrap();
    let mut refused = 0;
    for fault in [Fault::Failed, Fault::Short] {
        for (from, calls) in (1..40).step_by(3).flat_map(|from| [(from, 1), (from, 9)]) {
            let other = Side::new();
            let line = bad_line(remote.clone(), fault, from, calls);
            match at(line).and_then(|far| fetch(&other.store, &far)) {
                Ok(report) => assert_eq!(report.refs.len(), 2),
                Err(_) => refused += 1,
            }
            assert_whole(&other.store);
            fetch(&other.store, &far).unwrap();
            assert_whole(&other.store);
        }
    }
    assert!(refused > 0, "the line was bad");
}

#[test]
fn a_store_that_lies_about_a_chunk_is_refused() {
    let side = Side::new();
    let tip = side.commit("main", BaseChoice::None, &[("x", vec![1; 1000])]);
    let far = Side::new();
    let from = Rebuilder::new(side.store.reader().unwrap());
    let reader = far.store.reader().unwrap();
    let none = HashSet::new();
    let plan = plan(&from, &from, &reader, &[tip], &none, &Silent).unwrap();
    let txn = far.store.begin().unwrap();
    let mut lied = None;
    for (id, place) in &plan.records {
        let record = from.reader().read(id, place).unwrap();
        if record.header.kind == RecordKind::Chunk {
            lied = Some(*id);
            let recipe = Recipe::plain(Coding::Stored, Vec::new());
            txn.append(RecordKind::Chunk, *id, recipe, 4, b"lies")
                .unwrap();
        } else {
            txn.append_stored(&record).unwrap();
        }
    }
    publish(txn, "heads/main", None, tip);
    let near = Side::new();
    let error = fetch(&near.store, &far.store).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error}");
    assert!(near.store.head().unwrap().table.references.is_empty());
    let lied = lied.unwrap();
    assert!(
        !near.store.reader().unwrap().contains(&lied),
        "the lie was not kept"
    );
}

fn publish(txn: Txn, name: &str, old: Option<CommitId>, new: CommitId) {
    let deed = Deed {
        verb: "commit".into(),
        author: String::new(),
        time: 0,
        changes: vec![Change {
            name: name.into(),
            old,
            new: Some(new),
        }],
        undoes: None,
    };
    txn.publish(&deed, None).unwrap().done().unwrap();
}

#[test]
fn commits_of_others_are_lost_only_by_force() {
    let (one, two, far) = (Side::new(), Side::new(), Side::new());
    one.commit("main", BaseChoice::None, &[("x", vec![1; 100])]);
    push(&one.store, &far.store, &["heads/main"], Force::No).unwrap();
    let own = two.commit("main", BaseChoice::None, &[("x", vec![2; 100])]);
    let theirs = get(&far.store, "heads/main").unwrap();

    let refused = |force| push(&two.store, &far.store, &["heads/main"], force).unwrap_err();
    let error = refused(Force::No);
    assert_eq!(error.kind(), Kind::Conflict);
    assert_eq!(
        error.hint_text(),
        Some("sparse pull first, then push again")
    );
    assert_eq!(
        refused(Force::Seen).kind(),
        Kind::Conflict,
        "nothing was seen yet"
    );
    let expected = |commit| Force::Expected("heads/main".into(), commit);
    assert_eq!(refused(expected(own)).kind(), Kind::Conflict);
    assert_eq!(get(&far.store, "heads/main"), Some(theirs));

    let report = push(&two.store, &far.store, &["heads/main"], expected(theirs)).unwrap();
    assert!(report.refs[0].forced);
    assert_eq!(get(&far.store, "heads/main"), Some(own));
    // The first side saw its own commit last: somebody moved the branch since.
    let error = push(&one.store, &far.store, &["heads/main"], Force::Seen).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    fetch(&one.store, &far.store).unwrap();
    push(&one.store, &far.store, &["heads/main"], Force::Seen).unwrap();
    push(&two.store, &far.store, &["heads/main"], Force::Always).unwrap();
    assert_whole(&far.store);
}

/// Collects everything that no reference needs, at once.
fn collect(store: &Store) {
    let deed = Deed {
        verb: "gc".into(),
        author: String::new(),
        time: 1_700_000_000,
        changes: Vec::new(),
        undoes: None,
    };
    let policy = GcPolicy {
        grace_ms: 0,
        keep_seconds: -1,
        keep_operations: 0,
        ..GcPolicy::default()
    };
    let mut mark = |reader: &Reader, roots: &[crate::store::gc::Root]| {
        let rebuilder = Rebuilder::new(reader.clone());
        let roots: Vec<_> = roots.iter().map(|root| root.commit).collect();
        let mut closure = Closure::default();
        closure.add(&rebuilder, &roots, &|_| false)?;
        Ok(closure.live)
    };
    store.gc(&deed, &policy, &mut mark).unwrap();
}

/// A store whose references need nothing, with packs that hold the models all the same.
fn with_leftovers(dir: &Path, side: &Side) -> Store {
    let far = Store::create(dir, host()).unwrap();
    push(&side.store, &far, &["heads/main"], Force::No).unwrap();
    let deed = Deed {
        verb: "branch".into(),
        author: String::new(),
        time: 0,
        changes: vec![Change {
            name: "heads/main".into(),
            old: get(&far, "heads/main"),
            new: None,
        }],
        undoes: None,
    };
    far.begin()
        .unwrap()
        .publish(&deed, None)
        .unwrap()
        .done()
        .unwrap();
    far
}

#[test]
fn what_a_collection_takes_during_a_push_is_sent_again() {
    let side = Side::with_models();
    let mut resent = 0;
    for moment in (1..50).step_by(3) {
        let dir = TempDir::new().unwrap();
        let far = with_leftovers(dir.path(), &side);
        let calls = Arc::new(AtomicU64::new(0));
        let choose = {
            let far = far.clone();
            let calls = Arc::clone(&calls);
            move |number: u64| {
                calls.store(number, Ordering::Relaxed);
                if number == moment {
                    collect(&far);
                }
                Fault::Fine
            }
        };
        let disk = Arc::new(RealDisk::open(dir.path()).unwrap());
        let remote = DirectoryRemote::on(disk, host().fill);
        let line = FaultyRemote::new(remote, Box::new(choose));
        let report = push(&side.store, &at(line).unwrap(), &["heads/tuned"], Force::No).unwrap();
        let far = Store::open(dir.path(), host()).unwrap();
        assert_whole(&far);
        assert_eq!(get(&far, "heads/tuned"), get(&side.store, "heads/tuned"));
        // The base alone takes more than that; the change to it some thousands.
        if calls.load(Ordering::Relaxed) >= moment && report.sent_bytes > 60_000 {
            resent += 1;
        }
    }
    assert!(resent > 0, "a collection hit at least once");
}

/// Says something about a commit.
fn note(store: &Store, namespace: &str, about: CommitId) {
    let txn = store.begin().unwrap();
    let rebuilder = Rebuilder::new(txn.reader().clone());
    let old = txn.head().table.get(NOTES);
    let mut leaves = match old {
        Some(old) => {
            let root = rebuilder.object::<Commit>(&old).unwrap().tree;
            tree::leaves(&rebuilder, &root).unwrap()
        }
        None => Vec::new(),
    };
    let attachment = Attachment {
        commit: about,
        attribute: Attribute {
            namespace: namespace.into(),
            json: "{}".into(),
        },
        author: "a".into(),
        time: 1,
    };
    let id = tree::put(&txn, RecordKind::Attachment, &attachment).unwrap();
    leaves.push(Leaf {
        path: format!("{about}/{namespace}"),
        node: Leafy::Attachment(id),
    });
    let commit = Commit {
        tree: tree::write(&txn, &leaves).unwrap(),
        parents: old.into_iter().collect(),
        origins: Vec::new(),
        author: "a".into(),
        time: 1,
        offset_minutes: 0,
        message: String::new(),
        attributes: Vec::new(),
    };
    let new = tree::put(&txn, RecordKind::Commit, &commit).unwrap();
    publish(txn, NOTES, old, new);
}

fn notes(store: &Store) -> Vec<String> {
    let rebuilder = Rebuilder::new(store.reader().unwrap());
    let tip = get(store, NOTES).unwrap();
    let root = rebuilder.object::<Commit>(&tip).unwrap().tree;
    let leaves = tree::leaves(&rebuilder, &root).unwrap();
    let names = leaves
        .iter()
        .filter_map(|leaf| leaf.path.rsplit('/').next());
    names.map(str::to_owned).collect()
}

#[test]
fn notes_of_both_sides_end_on_both_sides() {
    let (one, two) = (Side::new(), Side::new());
    let far = new_at(MemoryRemote::default());
    let commit = one.commit("main", BaseChoice::None, &[("x", vec![1; 100])]);
    note(&one.store, "eval", commit);
    push(&one.store, &far, &["heads/main"], Force::No).unwrap();
    fetch(&two.store, &far).unwrap();
    assert_eq!(notes(&two.store), ["eval"]);

    note(&one.store, "routing", commit);
    note(&two.store, "prune", commit);
    push(&one.store, &far, &["heads/main"], Force::No).unwrap();
    two.commit("own", BaseChoice::None, &[("y", vec![2; 100])]);
    push(&two.store, &far, &["heads/own"], Force::No).unwrap();
    fetch(&one.store, &far).unwrap();
    for store in [&one.store, &two.store, &far] {
        assert_eq!(notes(store), ["eval", "prune", "routing"]);
        assert_whole(store);
    }
}

#[test]
fn pushes_at_the_same_time_all_arrive() {
    let far = Side::new();
    let remote = || at(DirectoryRemote::open(&far.dir.path().join("store"), host().fill).unwrap());
    std::thread::scope(|scope| {
        for writer in 0..3_u8 {
            scope.spawn(move || {
                let side = Side::new();
                for number in 0..4_u8 {
                    let branch = format!("w{writer}");
                    let bytes = vec![writer * 10 + number; 5000];
                    side.commit(&branch, BaseChoice::Auto, &[("x", bytes)]);
                    let name = format!("heads/{branch}");
                    push(&side.store, &remote().unwrap(), &[&name], Force::No).unwrap();
                    assert_eq!(get(&remote().unwrap(), &name), get(&side.store, &name));
                }
            });
        }
    });
    assert_eq!(far.store.head().unwrap().table.references.len(), 3);
    assert_whole(&far.store);
}

#[test]
fn a_source_that_is_too_deep_over_there_travels_again() {
    // Over there the base is a residual itself; here it is plain, and the record counts on that.
    let (side, far) = (Side::with_models(), Side::new());
    let chunk_of = |store: &Store, name: &str| -> Vec<ChunkId> {
        let rebuilder = Rebuilder::new(store.reader().unwrap());
        let root = get(store, name).unwrap();
        let root = rebuilder.object::<Commit>(&root).unwrap().tree;
        let leaves = tree::leaves(&rebuilder, &root).unwrap();
        let Leafy::File { manifest, .. } = leaves[0].node else {
            panic!("a file");
        };
        let chunks = rebuilder.object::<Manifest>(&manifest).unwrap().chunks;
        chunks.into_iter().map(|chunk| chunk.id).collect()
    };
    far.commit("first", BaseChoice::None, &[("m.safetensors", model(3))]);
    let base = BaseChoice::Revision("first".into());
    far.commit("second", base, &[("m.safetensors", model(0))]);
    assert_eq!(
        chunk_of(&far.store, "heads/second"),
        chunk_of(&side.store, "heads/main")
    );
    push(&side.store, &far.store, &["heads/tuned"], Force::No).unwrap();
    assert_whole(&far.store);
}
