//! Campaigns on whole stores: damage, full and failing disks, killed processes, many writers.
//!
//! Sized for a build machine; `SPARSE_CAMPAIGN=N` makes the random ones N times as long.

mod caches;
mod crashes;
mod damage;
mod faults;
mod killed;
mod many;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use sparse_store::codec::Level;
use sparse_store::disk::sim::SimDisk;
use sparse_store::error::Result;
use sparse_store::flow::commit::{self, BaseChoice, Request, Signature};
use sparse_store::flow::fsck;
use sparse_store::flow::read::Rebuilder;
use sparse_store::flow::tree::{self, Leafy};
use sparse_store::flow::worktree::Head;
use sparse_store::par::{Pool, Threads};
use sparse_store::progress::Silent;
use sparse_store::store::Store;
use sparse_store::store::advance::Deed;
use sparse_store::store::host::Host;
use store_format::commit::{Attribute, Commit};
use store_format::ids::CommitId;
use store_format::manifest::Manifest;
use store_format::reference::Change;

/// How many times as long as usual.
pub(crate) fn scale() -> u64 {
    let scale = std::env::var("SPARSE_CAMPAIGN").ok();
    scale.and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

/// Numbers by chance, from a seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn of(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % count
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let next = || u8::try_from(self.of(256)).expect("a byte");
        std::iter::repeat_with(next).take(count).collect()
    }
}

pub(crate) fn pool() -> Pool {
    Pool::new(Threads::new(2)).expect("threads")
}

/// A safetensors file of one matrix, near to others of the same seed.
pub(crate) fn model(seed: u64, factor: f32) -> Vec<u8> {
    let mut chance = Chance(seed);
    let mut weights = Vec::new();
    for _ in 0..64 * 32 {
        let number = u16::try_from(chance.of(4096)).expect("small");
        weights.push((f32::from(number) - 2048.0) / 65536.0 * factor);
    }
    let data = weights.len() * 4;
    let header =
        format!("{{\"w\":{{\"dtype\":\"F32\",\"shape\":[64,32],\"data_offsets\":[0,{data}]}}}}");
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
    file
}

/// A GGUF file without tensors, and one key.
fn gguf() -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(4_u64.to_le_bytes());
    file.extend(b"name");
    file.extend(8_u32.to_le_bytes());
    file.extend(5_u64.to_le_bytes());
    file.extend(b"small");
    file
}

/// A zip file of nothing.
fn zip() -> Vec<u8> {
    let mut file = b"PK\x05\x06".to_vec();
    file.extend([0; 18]);
    file
}

/// A folder with every kind of file.
pub(crate) fn every_kind(dir: &Path, seed: u64, factor: f32) {
    let write = |name: &str, bytes: &[u8]| fs::write(dir.join(name), bytes).expect("a file");
    fs::create_dir_all(dir.join("deep/empty")).expect("a folder");
    write("model.safetensors", &model(seed, factor));
    write("opaque.bin", &Chance(seed + 7).bytes(1500));
    write(
        "notes.txt",
        "what was tried, and what came of it\n"
            .repeat(20)
            .as_bytes(),
    );
    write("small.gguf", &gguf());
    write("small.zip", &zip());
    write("nothing", &[]);
    write("deep/run.sh", b"#!/bin/sh\nexit 0\n");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(dir.join("deep/run.sh"), mode).expect("a mode");
    let link = dir.join("deep/link");
    if !link.is_symlink() {
        std::os::unix::fs::symlink("run.sh", link).expect("a link");
    }
}

/// A folder for what need not survive a reboot: in memory where the system has that, since every
/// file that is checked out is synchronised.
pub(crate) fn scratch() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    dir.expect("a folder")
}

/// Commits a folder.
pub(crate) fn commit_dir(store: &Store, pool: &Pool, dir: &Path, branch: &str) -> Result<CommitId> {
    commit_on(store, pool, dir, branch, BaseChoice::Auto)
}

/// Commits a folder, compared with a base.
pub(crate) fn commit_on(
    store: &Store,
    pool: &Pool,
    dir: &Path,
    branch: &str,
    base: BaseChoice,
) -> Result<CommitId> {
    let request = Request {
        path: dir,
        branch,
        base,
        kind: None,
        message: "a step",
        signature: Signature {
            author: "Ada <ada@example.org>".into(),
            time: 1_800_000_000,
            offset_minutes: 0,
        },
        attributes: vec![Attribute {
            namespace: "eval".into(),
            json: "{\"loss\":0.5}".into(),
        }],
        level: Level::Default,
        work: None,
        head: None,
        factors: None,
        dry_run: false,
    };
    commit::commit(store, pool, &request, &Silent).map(|report| report.commit)
}

/// What a version holds: its files by path, or that they cannot be read.
pub(crate) type Content = BTreeMap<String, Result<Vec<u8>>>;

/// Puts every file of a version together from its chunks.
pub(crate) fn content(store: &Store, commit: &CommitId) -> Result<Content> {
    let rebuilder = Rebuilder::new(store.reader()?);
    let root = rebuilder.object::<Commit>(commit)?.tree;
    let mut files = Content::new();
    for leaf in tree::leaves(&rebuilder, &root)? {
        let bytes = match leaf.node {
            Leafy::File { manifest, .. } => rebuilder.object::<Manifest>(&manifest).and_then(|m| {
                let mut bytes = Vec::new();
                for chunk in &m.chunks {
                    bytes.extend_from_slice(rebuilder.chunk(&chunk.id)?.bytes());
                }
                Ok(bytes)
            }),
            Leafy::Symlink(target) => Ok(target.into_bytes()),
            Leafy::EmptyDirectory => Ok(b"a folder".to_vec()),
            Leafy::Attachment(_) => continue,
        };
        files.insert(leaf.path, bytes);
    }
    Ok(files)
}

/// Whether all of a version is what it was.
pub(crate) fn is_whole(store: &Store, commit: &CommitId, truth: &Content) -> bool {
    content(store, commit).is_ok_and(|found| {
        found.len() == truth.len()
            && found
                .iter()
                .zip(truth)
                .all(|(a, b)| a.0 == b.0 && matches!((a.1, b.1), (Ok(a), Ok(b)) if a == b))
    })
}

/// A small store with every kind of file, in memory: two branches, a tag, a work tree's `HEAD`.
pub(crate) struct Small {
    pub(crate) disk: SimDisk,
    pub(crate) versions: Vec<(CommitId, Content)>,
}

pub(crate) fn open(disk: &SimDisk) -> Result<Store> {
    Store::open_on(Arc::new(disk.clone()), Host::system())
}

pub(crate) fn small(pool: &Pool) -> Small {
    let disk = SimDisk::default();
    let store = Store::create_on(Arc::new(disk.clone()), Host::system()).expect("a store");
    let dir = tempfile::tempdir().expect("a folder");
    let mut versions = Vec::new();
    for (branch, factor) in [("main", 1.0), ("main", 1.001), ("tuned", 1.002)] {
        every_kind(dir.path(), 5, factor);
        let commit = commit_dir(&store, pool, dir.path(), branch).expect("a commit");
        versions.push((commit, content(&store, &commit).expect("its files")));
    }
    let deed = Deed {
        verb: "tag".into(),
        time: 1_800_000_000,
        changes: vec![Change {
            name: "tags/v1".into(),
            old: None,
            new: Some(versions[0].0),
        }],
        ..Deed::default()
    };
    let outcome = store.begin().expect("a writer").publish(&deed, None);
    outcome.and_then(|outcome| outcome.done()).expect("a tag");
    let head = Head {
        branch: Some("main".into()),
        commit: Some(versions[1].0),
    };
    head.write(&store).expect("a head");
    Small { disk, versions }
}

pub(crate) fn check(store: &Store, pool: &Pool) -> Result<fsck::Report> {
    fsck::fsck(store, pool, true, &Silent)
}

/// Every commit that a reference reaches.
pub(crate) fn history(store: &Store) -> HashSet<CommitId> {
    let rebuilder = Rebuilder::new(store.reader().expect("a reader"));
    let table = store.head().expect("a table").table;
    let mut open: Vec<_> = table.references.iter().map(|r| r.commit).collect();
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            open.extend(rebuilder.object::<Commit>(&id).expect("a commit").parents);
        }
    }
    seen
}
