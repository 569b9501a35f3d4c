//! A version to files: the whole tree, some paths, or some tensors.
//!
//! May use: tiers 0 to 4. Holds: a file gets its name only after its whole content was compared
//! with its id; a file that is right already is not touched; nothing is written outside of the
//! target.

mod plan;

use std::path::Path;

use store_format::commit::Commit;
use store_format::ids::{CommitId, FileId};
use store_format::manifest::Manifest;

use crate::error::{Error, Result};
use crate::flow::output::{Directory, Standing};
use crate::flow::partial;
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leaf, Leafy};
use crate::par::{Budget, Pool};
use crate::progress::Progress;

use plan::{Action, Place, locate, plan};
pub use plan::{file_id, refuse_standing};

/// Bytes of chunks in work: each job states its plain bytes three times, for its prediction and
/// its coded bytes.
pub const IN_FLIGHT: Budget = Budget {
    bytes_max: 160 << 20,
    count_max: 256,
};

/// What to check out, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The version.
    pub commit: CommitId,
    /// The directory.
    pub target: &'a Path,
    /// Only the tensors that one of these patterns fits; all of every file where empty.
    pub tensors: &'a [String],
    /// Overwrite files that hold something else.
    pub force: bool,
    /// The version that the target holds so far, as far as is known: its files may be replaced
    /// and removed where they are unchanged.
    pub before: Option<CommitId>,
}

/// What a checkout did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files of the version.
    pub files: u64,
    /// Files that were written.
    pub written: u64,
    /// Files of the version before that were removed.
    pub removed: u64,
    /// Plain bytes of the version's files.
    pub logical_bytes: u64,
    /// Plain bytes that were written.
    pub written_bytes: u64,
}

/// Checks a version out.
///
/// # Errors
/// `Conflict` where something else would be overwritten, `NotFound` and `Corrupt` where the
/// store is hurt, failures of the disk.
pub fn checkout(
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let leaves = leaves_of(rebuilder, &request.commit)?;
    if !request.tensors.is_empty() {
        return partial::checkout(rebuilder, pool, request, &leaves, progress);
    }
    let before = match &request.before {
        Some(before) => leaves_of(rebuilder, before)?,
        None => Vec::new(),
    };
    let target = Directory::target(request.target)?;
    write_leaves(
        rebuilder,
        pool,
        &target,
        &leaves,
        &before,
        request.force,
        progress,
    )
}

/// Brings a directory from some leaves to others.
///
/// # Errors
/// As [`checkout`].
pub fn write_leaves(
    rebuilder: &Rebuilder,
    pool: &Pool,
    target: &Directory,
    leaves: &[Leaf],
    before: &[Leaf],
    force: bool,
    progress: &dyn Progress,
) -> Result<Report> {
    let plan = plan(rebuilder, target, leaves, before, force, progress)?;
    let logical_bytes = tree::bytes_of(leaves);
    let mut report = Report {
        logical_bytes,
        ..Report::default()
    };
    report.files = leaves
        .iter()
        .filter(|leaf| matches!(leaf.node, Leafy::File { .. }))
        .count() as u64;
    progress.begin("checking out", Some(plan.iter().map(Action::bytes).sum()));
    for action in plan {
        progress.check()?;
        execute(rebuilder, pool, target, action, &mut report, progress)?;
    }
    progress.end();
    Ok(report)
}

fn leaves_of(rebuilder: &Rebuilder, commit: &CommitId) -> Result<Vec<Leaf>> {
    let tree = rebuilder.object::<Commit>(commit)?.tree;
    tree::leaves(rebuilder, &tree)
}

fn execute(
    rebuilder: &Rebuilder,
    pool: &Pool,
    target: &Directory,
    action: Action<'_>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    match action {
        Action::Write {
            path,
            manifest,
            executable,
        } => {
            let (directory, name) = make_parents(target, path)?;
            if directory.look(name)? == Standing::Symlink {
                directory.remove(name)?;
            }
            let mut file = directory.begin(name, executable)?;
            write_file(
                rebuilder,
                pool,
                &manifest,
                |bytes| file.append(bytes),
                progress,
            )
            .map_err(|error| error.while_doing(format!("cannot check out '{path}'")))?;
            file.finish()?;
            report.written += 1;
            report.written_bytes += manifest.bytes;
        }
        Action::SetExecutable { path, executable } => {
            let (directory, name) = make_parents(target, path)?;
            directory.set_executable(name, executable)?;
        }
        Action::Link { path, to, replace } => {
            let (directory, name) = make_parents(target, path)?;
            if replace {
                directory.remove(name)?;
            }
            directory.symlink(name, to)?;
            report.written += 1;
        }
        Action::MakeDirectory { path, replace } => {
            let (directory, name) = make_parents(target, path)?;
            if replace {
                directory.remove(name)?;
            }
            directory.child(name)?;
        }
        Action::Remove { path } => {
            let (directory, name) = make_parents(target, &path)?;
            directory.remove(name)?;
            remove_empty_parents(target, &path)?;
            report.removed += 1;
        }
        Action::RemoveDirectory { path } => {
            // Removing what was in it may have removed it.
            if let Place::Here(directory, name) = locate(target, path)? {
                directory.remove_if_empty(name);
                remove_empty_parents(target, path)?;
            }
        }
    }
    Ok(())
}

/// Removes the directories above a path that hold nothing more, as git does.
fn remove_empty_parents(target: &Directory, path: &str) -> Result<()> {
    let mut path = path;
    while let Some((parent, _)) = path.rsplit_once('/') {
        let Place::Here(directory, name) = locate(target, parent)? else {
            return Ok(());
        };
        directory.remove_if_empty(name);
        path = parent;
    }
    Ok(())
}

/// Opens the directory of a path below the target, making what is not there; and the name in it.
///
/// # Errors
/// `Conflict` where a link or a file stands in the way.
pub fn make_parents<'p>(target: &Directory, path: &'p str) -> Result<(Directory, &'p str)> {
    let mut directory = target.again()?;
    let (parents, name) = path
        .rsplit_once('/')
        .map_or((None, path), |(p, n)| (Some(p), n));
    for parent in parents.iter().flat_map(|parents| parents.split('/')) {
        directory = directory.child(parent)?;
    }
    Ok((directory, name))
}

/// Gives the bytes of a file, chunk after chunk, and compares the whole with its id at the end.
/// What was given before an error is not to be kept.
///
/// # Errors
/// `NotFound` and `Corrupt` where the store is hurt; what `give` returns.
pub fn write_file(
    rebuilder: &Rebuilder,
    pool: &Pool,
    manifest: &Manifest,
    mut give: impl FnMut(&[u8]) -> Result<()>,
    progress: &dyn Progress,
) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    let jobs = manifest.chunks.iter().map(|chunk| {
        let bytes = usize::try_from(chunk.bytes).map_or(usize::MAX, |b| b.saturating_mul(3));
        Ok((bytes, chunk))
    });
    pool.ordered(
        jobs,
        IN_FLIGHT,
        |chunk| {
            let plain = rebuilder.chunk(&chunk.id)?;
            if plain.bytes().len() as u64 == chunk.bytes {
                Ok(plain)
            } else {
                let id = chunk.id;
                Err(Error::corrupt(format!(
                    "chunk {id:.12} has another length than its manifest says"
                )))
            }
        },
        |plain| {
            hasher.update(plain.bytes());
            give(plain.bytes())?;
            progress.advance(plain.bytes().len() as u64, 0);
            progress.check()
        },
    )?;
    if FileId::from_bytes(*hasher.finalize().as_bytes()) != manifest.file {
        return Err(
            Error::corrupt("the file does not have the bytes that its id names")
                .hint("run 'sparse fsck --read-data'"),
        );
    }
    Ok(())
}
