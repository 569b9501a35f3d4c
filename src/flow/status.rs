//! What differs between a version and a work tree.
//!
//! May use: tiers 0 to 4, and `cache`, in which every miss is a right answer: a file that was
//! read before and cannot have changed since is not read again.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use store_format::commit::Commit;
use store_format::ids::{CommitId, FileId};
use store_format::manifest::Manifest;

use crate::bytes::FileBytes;
use crate::cache::{self, Cache, FileKey, FileState};
use crate::error::Result;
use crate::flow::checkout::file_id;
use crate::flow::read::Rebuilder;
use crate::flow::scan::{Stat, What, scan};
use crate::flow::tree::{self, Leafy};
use crate::progress::Progress;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was not there before.
    New,
    /// Its content is another.
    Content,
    /// It is a link or directory where it was a file, or the other way round.
    Kind,
    /// Only whether it may be executed is another.
    Mode,
    /// It is no longer there.
    Deleted,
}

/// A path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The path.
    pub path: String,
    /// How it differs.
    pub change: Change,
}

/// What a look at a work tree found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What differs, ascending by path.
    pub changes: Vec<Changed>,
    /// Files in the work tree.
    pub files: u64,
    /// Files that had to be read.
    pub read: u64,
}

/// What was learnt about files before.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Where it is kept.
    pub cache: &'a Cache,
    /// Which work tree; see [`root_key`].
    pub root: [u8; 16],
    /// The time, in nanoseconds since 1970, before anything was looked at.
    pub now_ns: i64,
}

/// Tells work trees of one store apart.
#[must_use]
pub fn root_key(root: &Path) -> [u8; 16] {
    let path = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut key = [0; 16];
    let mut hasher = blake3::Hasher::new();
    hasher.update(path.as_os_str().as_bytes());
    hasher.finalize_xof().fill(&mut key);
    key
}

impl Known<'_> {
    /// Keeps what a file holds, unless the file is too young for that to be of use.
    pub fn learn(&self, path: &str, stat: &Stat, file: &FileId) {
        if let Some(stat) = cached(stat) {
            let state = FileState {
                stat,
                object: *file.as_bytes(),
                observed_ns: self.now_ns,
            };
            if state.object_for(&stat).is_some() {
                self.cache.put(&self.key(path), &state);
            }
        }
    }

    fn file(&self, path: &str, stat: &Stat) -> Option<FileId> {
        let object = self.cache.known_file(&self.key(path), &cached(stat)?)?;
        Some(FileId::from_bytes(object))
    }

    fn key(&self, path: &str) -> FileKey {
        FileKey::of(self.root, path.as_bytes())
    }
}

/// A state as the cache keeps it; nothing for times beyond the year 2262.
fn cached(stat: &Stat) -> Option<cache::Stat> {
    Some(cache::Stat {
        device: stat.device,
        inode: stat.inode,
        size: stat.bytes,
        mtime_ns: i64::try_from(stat.modified_ns).ok()?,
        ctime_ns: i64::try_from(stat.changed_ns).ok()?,
    })
}

/// Compares a work tree with a version, or with nothing.
///
/// # Errors
/// What cannot be stored; damaged objects; failures of the disk.
pub fn status(
    rebuilder: &Rebuilder,
    root: &Path,
    commit: Option<CommitId>,
    known: &Known<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut before = BTreeMap::new();
    if let Some(commit) = commit {
        let tree = rebuilder.object::<Commit>(&commit)?.tree;
        for leaf in tree::leaves(rebuilder, &tree)? {
            before.insert(leaf.path, leaf.node);
        }
    }
    let scanned = scan(root, progress)?;
    progress.begin("comparing", None);
    let mut report = Report::default();
    for one in scanned {
        progress.check()?;
        report.files += u64::from(matches!(one.what, What::File { .. }));
        let change = match before.remove(&one.path) {
            None => Some(Change::New),
            Some(old) => compare(rebuilder, &one.path, &old, &one.what, known, &mut report)?,
        };
        let path = one.path;
        report
            .changes
            .extend(change.map(|change| Changed { path, change }));
    }
    progress.end();
    report
        .changes
        .extend(before.into_keys().map(|path| Changed {
            path,
            change: Change::Deleted,
        }));
    report.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(report)
}

fn compare(
    rebuilder: &Rebuilder,
    path: &str,
    old: &Leafy,
    new: &What,
    known: &Known<'_>,
    report: &mut Report,
) -> Result<Option<Change>> {
    let (manifest, bytes, was_executable) = match (old, new) {
        (
            Leafy::File {
                manifest,
                bytes,
                executable,
            },
            What::File { .. },
        ) => (manifest, *bytes, *executable),
        (Leafy::Symlink(old), What::Symlink(new)) => {
            return Ok((old != new).then_some(Change::Content));
        }
        (Leafy::EmptyDirectory, What::EmptyDirectory) => return Ok(None),
        _ => return Ok(Some(Change::Kind)),
    };
    let What::File {
        source,
        stat,
        executable,
    } = new
    else {
        return Ok(Some(Change::Kind));
    };
    if stat.bytes != bytes {
        return Ok(Some(Change::Content));
    }
    let found = match known.file(path, stat) {
        Some(found) => found,
        None => {
            report.read += 1;
            let found = file_id(&FileBytes::open(source)?, &crate::progress::Silent)?;
            known.learn(path, stat, &found);
            found
        }
    };
    if found != rebuilder.object::<Manifest>(manifest)?.file {
        return Ok(Some(Change::Content));
    }
    Ok((*executable != was_executable).then_some(Change::Mode))
}
