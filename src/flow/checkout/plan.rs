//! What a checkout has to do in its target: a list of actions, and what stands in the way.
//!
//! May use: tiers 0 to 4. Holds: it looks and reads, but changes nothing, and refuses before
//! anything was changed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use store_format::ids::FileId;
use store_format::manifest::Manifest;

use crate::bytes::ReadAt;
use crate::error::{Error, Kind, Result};
use crate::flow::links::{self, Entry};
use crate::flow::output::{Directory, Standing, is_unfinished};
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leaf, Leafy};
use crate::progress::Progress;

/// Bytes of a file read at a time to compare it.
const COMPARED_BYTES: usize = 1 << 20;

/// What is neither a file nor a link nor a directory.
const SPECIAL: &str = "a device, a pipe or a socket";

/// One thing to do in the target.
pub(super) enum Action<'a> {
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
    pub(super) fn bytes(&self) -> u64 {
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
pub(super) fn plan<'a>(
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
        cleared: BTreeSet::new(),
        to_stay: Vec::new(),
    };
    planner.remove(leaves, before)?;
    for leaf in leaves {
        let action = planner.action(leaf)?;
        planner.additions.extend(action);
    }
    if let Some((path, what)) = planner.to_stay.first() {
        return Err(Error::conflict(format!("'{path}' is {what}"))
            .hint("move it away, or check out elsewhere"));
    }
    refuse(&planner.in_the_way)?;
    let entries = leaves.iter().map(|leaf| match &leaf.node {
        Leafy::Symlink(to) => (&*leaf.path, Entry::Link(to)),
        Leafy::EmptyDirectory => (&*leaf.path, Entry::Directory),
        Leafy::File { .. } | Leafy::Attachment(_) => (&*leaf.path, Entry::Other),
    });
    if let Some(path) = links::leading_out(entries) {
        return Err(leads_out(path));
    }
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
    /// Where directories take the place of files that no version put there.
    cleared: BTreeSet<&'a str>,
    /// What stands in the way and is not replaced by force either, and what it is.
    to_stay: Vec<(&'a str, &'static str)>,
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
                    self.clear(path)?;
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
                    self.to_stay
                        .push((&leaf.path, "a directory that is not empty"));
                }
                fresh(self.rebuilder, leaf)
            }
            (_, Standing::Other) => {
                self.to_stay.push((&leaf.path, SPECIAL));
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

    /// Makes room for a directory where a file or link stands that no version put there.
    fn clear(&mut self, path: &'a str) -> Result<()> {
        let place = locate(self.target, path)?;
        if matches!(&place, Place::Here(directory, name) if directory.look(name)? == Standing::Other)
        {
            self.to_stay.push((path, SPECIAL));
        } else if self.cleared.insert(path) {
            if self.force {
                let path = Cow::Borrowed(path);
                self.removals.push(Action::Remove { path });
            } else {
                self.in_the_way.push(path);
            }
        }
        Ok(())
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
            if is_unfinished(name.as_bytes()) {
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

/// Refuses where something stands at one of these paths.
///
/// # Errors
/// `Conflict`, with the first of them.
pub fn refuse_standing<'p>(
    target: &Directory,
    paths: impl IntoIterator<Item = &'p str>,
) -> Result<()> {
    let mut in_the_way = Vec::new();
    for path in paths {
        match locate(target, path)? {
            Place::Here(directory, name) if directory.look(name)? != Standing::Nothing => {
                in_the_way.push(path);
            }
            Place::Behind(path) => in_the_way.push(path),
            Place::Here(..) | Place::Nowhere => {}
        }
    }
    refuse(&in_the_way)
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

fn leads_out(path: &str) -> Error {
    Error::new(
        Kind::Corrupt,
        format!("the link '{path}' leads out of the target"),
    )
    .hint("whoever made this version may mean harm; 'sparse ls' shows what is in it")
}

/// Where a path is.
pub(super) enum Place<'p> {
    /// In this directory, under this name.
    Here(Directory, &'p str),
    /// A directory above it does not stand.
    Nowhere,
    /// Something else stands where a directory above it should.
    Behind(&'p str),
}

/// The directory and name of a path, if its directories stand.
pub(super) fn locate<'p>(target: &Directory, path: &'p str) -> Result<Place<'p>> {
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
            bytes,
        } => {
            let manifest = Box::new(tree::manifest(rebuilder, manifest, *bytes)?);
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
