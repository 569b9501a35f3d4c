//! A version to files: the whole tree, some paths, or some tensors.
//!
//! May use: tiers 0 to 4. Holds: a file gets its name only after its whole content was compared
//! with its id; a file that is right already is not touched; nothing is written outside of the
//! target.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use store_format::commit::Commit;
use store_format::ids::{CommitId, FileId};
use store_format::manifest::Manifest;

use crate::bytes::ReadAt;
use crate::error::{Error, Kind, Result};
use crate::flow::output::{Directory, Standing, UNFINISHED};
use crate::flow::partial;
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leaf, Leafy};
use crate::par::{Budget, Pool};
use crate::progress::Progress;

/// Bytes of chunks in work: each job states its plain bytes three times, for its prediction and
/// its coded bytes.
pub const IN_FLIGHT: Budget = Budget {
    bytes_max: 160 << 20,
    count_max: 256,
};

/// Bytes of a file read at a time to compare it.
const COMPARED_BYTES: usize = 1 << 20;

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
    let plan = plan(
        rebuilder,
        &target,
        &leaves,
        &before,
        request.force,
        progress,
    )?;
    let logical_bytes = leaves.iter().map(Leaf::bytes).sum();
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
        execute(rebuilder, pool, &target, action, &mut report, progress)?;
    }
    progress.end();
    Ok(report)
}

fn leaves_of(rebuilder: &Rebuilder, commit: &CommitId) -> Result<Vec<Leaf>> {
    let tree = rebuilder.object::<Commit>(commit)?.tree;
    tree::leaves(rebuilder, &tree)
}

/// One thing to do in the target.
enum Action<'a> {
    Write {
        path: &'a str,
        manifest: Box<Manifest>,
        executable: bool,
    },
    SetExecutable {
        path: &'a str,
        executable: bool,
    },
    Link {
        path: &'a str,
        to: &'a str,
        replace: bool,
    },
    MakeDirectory {
        path: &'a str,
        replace: bool,
    },
    Remove {
        path: Cow<'a, str>,
    },
    RemoveDirectory {
        path: &'a str,
    },
}

impl Action<'_> {
    fn bytes(&self) -> u64 {
        match self {
            Self::Write { manifest, .. } => manifest.bytes,
            Self::SetExecutable { .. }
            | Self::Link { .. }
            | Self::MakeDirectory { .. }
            | Self::Remove { .. }
            | Self::RemoveDirectory { .. } => 0,
        }
    }
}

/// What is to be done so that the target holds the leaves; looks, but changes nothing, and
/// refuses before anything was changed. What goes comes first: it may make room.
fn plan<'a>(
    rebuilder: &Rebuilder,
    target: &Directory,
    leaves: &'a [Leaf],
    before: &'a [Leaf],
    force: bool,
    progress: &dyn Progress,
) -> Result<Vec<Action<'a>>> {
    let mut planner = Planner {
        rebuilder,
        target,
        old: before
            .iter()
            .map(|leaf| (&*leaf.path, &leaf.node))
            .collect(),
        force,
        progress,
        removals: Vec::new(),
        additions: Vec::new(),
        in_the_way: Vec::new(),
    };
    planner.remove(leaves, before)?;
    for leaf in leaves {
        let action = planner.action(leaf)?;
        planner.additions.extend(action);
    }
    refuse(&planner.in_the_way)?;
    check_links(leaves)?;
    let mut plan = planner.removals;
    plan.extend(planner.additions);
    Ok(plan)
}

struct Planner<'a, 'p> {
    rebuilder: &'p Rebuilder,
    target: &'p Directory,
    /// What the target holds so far, as far as is known.
    old: BTreeMap<&'a str, &'a Leafy>,
    force: bool,
    progress: &'p dyn Progress,
    removals: Vec<Action<'a>>,
    additions: Vec<Action<'a>>,
    in_the_way: Vec<&'a str>,
}

impl<'a> Planner<'a, '_> {
    /// What makes the target hold a leaf.
    fn action(&mut self, leaf: &'a Leaf) -> Result<Option<Action<'a>>> {
        let (directory, name) = match locate(self.target, &leaf.path)? {
            Place::Here(directory, name) => (directory, name),
            Place::Nowhere => return fresh(self.rebuilder, leaf),
            Place::Behind(path) => {
                // A file of the version before goes, and a directory takes its place.
                if !self.old.contains_key(path) {
                    self.in_the_way.push(path);
                }
                return fresh(self.rebuilder, leaf);
            }
        };
        let standing = directory.look(name)?;
        match (&leaf.node, standing) {
            (Leafy::Attachment(_), _) => Ok(None),
            (Leafy::EmptyDirectory, Standing::Directory) => Ok(None),
            (_, Standing::Nothing) => fresh(self.rebuilder, leaf),
            (_, Standing::Directory) => {
                if self.is_ours(&directory.child(name)?, &leaf.path)? {
                    self.removals
                        .push(Action::RemoveDirectory { path: &leaf.path });
                } else {
                    self.in_the_way.push(&leaf.path);
                }
                fresh(self.rebuilder, leaf)
            }
            (_, Standing::Other) => {
                self.in_the_way.push(&leaf.path);
                Ok(None)
            }
            (
                Leafy::File {
                    manifest,
                    executable,
                    ..
                },
                Standing::File(bytes, is_executable),
            ) => {
                let manifest = self.rebuilder.object::<Manifest>(manifest)?;
                if holds(&directory, name, bytes, &manifest, self.progress)? {
                    let (path, executable) = (&*leaf.path, *executable);
                    return Ok((executable != is_executable)
                        .then_some(Action::SetExecutable { path, executable }));
                }
                self.replace(leaf, &directory, name, standing)
            }
            (Leafy::Symlink(to), Standing::Symlink) if directory.read_link(name)? == *to => {
                Ok(None)
            }
            (_, Standing::File(..) | Standing::Symlink) => {
                self.replace(leaf, &directory, name, standing)
            }
        }
    }

    /// What puts a leaf in the place of a file or link.
    fn replace(
        &mut self,
        leaf: &'a Leaf,
        directory: &Directory,
        name: &str,
        standing: Standing,
    ) -> Result<Option<Action<'a>>> {
        if !self.force && !self.is_unchanged(&leaf.path, directory, name, standing)? {
            self.in_the_way.push(&leaf.path);
        }
        Ok(match fresh(self.rebuilder, leaf)? {
            Some(Action::Link { path, to, .. }) => Some(Action::Link {
                path,
                to,
                replace: true,
            }),
            Some(Action::MakeDirectory { path, .. }) => Some(Action::MakeDirectory {
                path,
                replace: true,
            }),
            other => other,
        })
    }

    /// Files of the version before that are not in this one are removed where they are
    /// unchanged, and so are its empty directories.
    fn remove(&mut self, leaves: &'a [Leaf], before: &'a [Leaf]) -> Result<()> {
        let new: BTreeSet<&str> = leaves.iter().map(|leaf| &*leaf.path).collect();
        for leaf in before.iter().filter(|leaf| !new.contains(&*leaf.path)) {
            let path = &*leaf.path;
            let Place::Here(directory, name) = locate(self.target, path)? else {
                continue;
            };
            let standing = directory.look(name)?;
            match standing {
                Standing::Nothing | Standing::Other => {}
                Standing::Directory => {
                    if matches!(leaf.node, Leafy::EmptyDirectory) {
                        self.removals.push(Action::RemoveDirectory { path });
                    }
                }
                Standing::File(..) | Standing::Symlink => {
                    if !self.force && !self.is_unchanged(path, &directory, name, standing)? {
                        self.in_the_way.push(path);
                    }
                    let path = Cow::Borrowed(path);
                    self.removals.push(Action::Remove { path });
                }
            }
        }
        Ok(())
    }

    /// Whether a file or link is what the version before put there.
    fn is_unchanged(
        &self,
        path: &str,
        directory: &Directory,
        name: &str,
        standing: Standing,
    ) -> Result<bool> {
        match (self.old.get(path), standing) {
            (Some(Leafy::File { manifest, .. }), Standing::File(bytes, _)) => {
                let manifest = self.rebuilder.object::<Manifest>(manifest)?;
                holds(directory, name, bytes, &manifest, self.progress)
            }
            (Some(Leafy::Symlink(to)), Standing::Symlink) => Ok(*to == directory.read_link(name)?),
            _ => Ok(false),
        }
    }

    /// Whether nothing stands in a directory but what the version before put there, which is
    /// removed where it is unchanged, and what an interrupted checkout left, which goes too.
    fn is_ours(&mut self, directory: &Directory, path: &str) -> Result<bool> {
        for name in directory.names()? {
            let path = format!("{path}/{name}");
            if name.starts_with(UNFINISHED) {
                let path = Cow::Owned(path);
                self.removals.push(Action::Remove { path });
                continue;
            }
            let known = self.old.contains_key(&*path);
            let below = format!("{path}/");
            let leads_on = || {
                let next = self.old.range(&*below..).next();
                next.is_some_and(|(old, _)| old.starts_with(&below))
            };
            if directory.look(&name)? != Standing::Directory {
                if !known {
                    return Ok(false);
                }
            } else if !(known || leads_on()) || !self.is_ours(&directory.child(&name)?, &path)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn refuse(in_the_way: &[&str]) -> Result<()> {
    let Some(first) = in_the_way.first() else {
        return Ok(());
    };
    let more = match in_the_way.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Error::conflict(format!(
        "'{first}'{more} would be overwritten and holds something else"
    ))
    .hint("commit it, move it away, or give --force"))
}

/// A link may not lead out of the target.
fn check_links(leaves: &[Leaf]) -> Result<()> {
    for leaf in leaves {
        let Leafy::Symlink(to) = &leaf.node else {
            continue;
        };
        let mut depth = leaf.path.matches('/').count();
        for component in to.split('/') {
            match component {
                "" | "." => {}
                ".." if depth == 0 => return Err(leads_out(&leaf.path)),
                ".." => depth -= 1,
                _ => depth += 1,
            }
        }
        if to.starts_with('/') {
            return Err(leads_out(&leaf.path));
        }
    }
    Ok(())
}

fn leads_out(path: &str) -> Error {
    Error::new(
        Kind::Corrupt,
        format!("the link '{path}' leads out of the target"),
    )
    .hint("whoever made this version may mean harm; 'sparse ls' shows what is in it")
}

/// Where a path is.
enum Place<'p> {
    /// In this directory, under this name.
    Here(Directory, &'p str),
    /// A directory above it does not stand.
    Nowhere,
    /// Something else stands where a directory above it should.
    Behind(&'p str),
}

/// The directory and name of a path, if its directories stand.
fn locate<'p>(target: &Directory, path: &'p str) -> Result<Place<'p>> {
    let mut directory = target.again()?;
    let mut start = 0;
    while let Some(length) = path[start..].find('/') {
        let end = start + length;
        let parent = &path[start..end];
        match directory.look(parent)? {
            Standing::Nothing => return Ok(Place::Nowhere),
            Standing::Directory => directory = directory.child(parent)?,
            Standing::File(..) | Standing::Symlink | Standing::Other => {
                return Ok(Place::Behind(&path[..end]));
            }
        }
        start = end + 1;
    }
    Ok(Place::Here(directory, &path[start..]))
}

/// What makes a leaf where nothing stands.
fn fresh<'a>(rebuilder: &Rebuilder, leaf: &'a Leaf) -> Result<Option<Action<'a>>> {
    let path = &*leaf.path;
    Ok(match &leaf.node {
        Leafy::File {
            manifest,
            executable,
            ..
        } => {
            let manifest = Box::new(rebuilder.object::<Manifest>(manifest)?);
            Some(Action::Write {
                path,
                manifest,
                executable: *executable,
            })
        }
        Leafy::Symlink(to) => Some(Action::Link {
            path,
            to,
            replace: false,
        }),
        Leafy::EmptyDirectory => Some(Action::MakeDirectory {
            path,
            replace: false,
        }),
        Leafy::Attachment(_) => None,
    })
}

/// Whether a file has the content of a manifest.
fn holds(
    directory: &Directory,
    name: &str,
    bytes: u64,
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<bool> {
    Ok(bytes == manifest.bytes && file_id(&directory.open(name)?, progress)? == manifest.file)
}

/// The id of a file on disk.
///
/// # Errors
/// Failures of the disk; a wish to stop.
pub fn file_id(file: &dyn ReadAt, progress: &dyn Progress) -> Result<FileId> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let mut buffer = vec![0; COMPARED_BYTES];
    while at < file.len() {
        progress.check()?;
        let bytes = buffer
            .len()
            .min(usize::try_from(file.len() - at).unwrap_or(usize::MAX));
        file.read_at(at, &mut buffer[..bytes])?;
        hasher.update(&buffer[..bytes]);
        at += bytes as u64;
    }
    Ok(FileId::from_bytes(*hasher.finalize().as_bytes()))
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

fn make_parents<'p>(target: &Directory, path: &'p str) -> Result<(Directory, &'p str)> {
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
