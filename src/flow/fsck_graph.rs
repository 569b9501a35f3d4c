//! The second half of a check: everything that versions need, and which of their files are hurt.
//!
//! May use: tiers 0 to 4. Each object is looked at once, each different file rebuilt once.

use std::collections::{HashMap, HashSet};

use store_format::commit::{Attachment, Commit};
use store_format::ids::{ChunkId, CommitId, FileId, ManifestId, RecordId, TreeId};
use store_format::limits;
use store_format::manifest::Manifest;
use store_format::object::Object;
use store_format::tree::{Node, Tree};

use crate::error::Result;
use crate::flow::checkout::IN_FLIGHT;
use crate::flow::fsck::{Finding, Report, Root, Severity, What, told, unless_stopped};
use crate::flow::read::Rebuilder;
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::index::{Origin, Place};
use crate::store::read::Wholeness;

/// What was found on the way through all versions.
#[derive(Default)]
pub(super) struct Found {
    /// Every version, and its root tree where it can be read.
    commits: HashMap<CommitId, Option<(TreeId, Vec<CommitId>)>>,
    /// Whether a tree and all below it is whole.
    trees: HashMap<TreeId, bool>,
    /// Manifests, in the order in which they were met.
    manifests: Vec<ManifestId>,
    /// Whether each can be checked out.
    files: HashMap<ManifestId, bool>,
    /// The lengths of the files.
    lengths: HashMap<ManifestId, u64>,
    attachments: HashMap<RecordId, bool>,
    /// Every chunk that is needed.
    chunks: HashSet<RecordId>,
}

struct Walk<'a> {
    rebuilder: &'a Rebuilder,
    report: &'a mut Report,
    sound: Wholeness,
    found: Found,
}

/// Looks at every object that the roots reach, and whether the chunks that they name are here.
pub(super) fn walk(
    rebuilder: &Rebuilder,
    roots: &[Root],
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<Found> {
    progress.begin("checking versions", None);
    let mut walk = Walk {
        rebuilder,
        report,
        sound: Wholeness::default(),
        found: Found::default(),
    };
    let mut open: Vec<_> = roots.iter().rev().map(|root| root.commit).collect();
    while let Some(id) = open.pop() {
        progress.check()?;
        if walk.found.commits.contains_key(&id) {
            continue;
        }
        let commit = walk.object::<Commit>(&id)?;
        let behind = commit.map(|commit| {
            open.extend(&commit.parents);
            open.extend(commit.origins.iter().map(|origin| origin.base));
            (commit.tree, commit.parents)
        });
        if let Some((tree, _)) = &behind {
            walk.tree(tree, 0)?;
        }
        walk.found.commits.insert(id, behind);
    }
    progress.end();
    let found = walk.found;
    report.commits = found.commits.len() as u64;
    report.files = found.manifests.len() as u64;
    Ok(found)
}

impl Walk<'_> {
    /// Reads an object, or notes that it cannot be read.
    fn object<T>(&mut self, id: &T::Id) -> Result<Option<T>>
    where
        T: Object,
        T::Id: Into<RecordId>,
    {
        match unless_stopped(self.rebuilder.object::<T>(id))? {
            Ok(object) => Ok(Some(object)),
            Err(error) => {
                let id: RecordId = (*id).into();
                bad_copies(self.rebuilder, self.report, id, &told(&error));
                self.report.findings.push(Finding {
                    severity: Severity::Hurt,
                    what: What::Object,
                    file: None,
                    id: Some(id),
                    why: told(&error),
                });
                Ok(None)
            }
        }
    }

    fn tree(&mut self, id: &TreeId, depth: usize) -> Result<bool> {
        if let Some(whole) = self.found.trees.get(id) {
            return Ok(*whole);
        }
        let tree = match depth {
            0..=limits::TREE_DEPTH_MAX => self.object::<Tree>(id)?,
            _ => None, // no checkout follows it further either
        };
        let Some(tree) = tree else {
            self.found.trees.insert(*id, false);
            return Ok(false);
        };
        let mut whole = true;
        for entry in tree.entries {
            whole &= match entry.node {
                Node::Tree(tree) => self.tree(&tree, depth + 1)?,
                Node::File {
                    manifest, bytes, ..
                } => self.manifest(&manifest, bytes)?,
                Node::Symlink(_) => true,
                Node::Attachment(id) => {
                    let key = id.into();
                    if !self.found.attachments.contains_key(&key) {
                        let is_there = self.object::<Attachment>(&id)?.is_some();
                        self.found.attachments.insert(key, is_there);
                    }
                    self.found.attachments[&key]
                }
            };
        }
        self.found.trees.insert(*id, whole);
        Ok(whole)
    }

    /// Whether a file is whole that a tree says to have so many bytes.
    fn manifest(&mut self, id: &ManifestId, bytes: u64) -> Result<bool> {
        if let Some(whole) = self.found.files.get(id) {
            let known = self.found.lengths.get(id).copied();
            return Ok(*whole && self.has_length(id, bytes, known));
        }
        let manifest = self.object::<Manifest>(id)?;
        let known = manifest.as_ref().map(|manifest| manifest.bytes);
        self.found.lengths.extend(known.map(|bytes| (*id, bytes)));
        let right = self.has_length(id, bytes, known);
        let mut whole = manifest.is_some();
        for chunk in manifest.iter().flat_map(|manifest| &manifest.chunks) {
            whole &= self.chunk(chunk.id.into());
        }
        if manifest.is_some() {
            self.found.manifests.push(*id);
        }
        self.found.files.insert(*id, whole);
        Ok(whole && right)
    }

    /// Whether a tree gives the length of a manifest, where that is known.
    fn has_length(&mut self, id: &ManifestId, bytes: u64, known: Option<u64>) -> bool {
        let right = known.is_none_or(|known| known == bytes);
        if !right {
            self.report.findings.push(Finding {
                severity: Severity::Hurt,
                what: What::Object,
                file: None,
                id: Some((*id).into()),
                why: format!("a tree says that the file has {bytes} bytes, which it has not"),
            });
        }
        right
    }

    fn chunk(&mut self, id: RecordId) -> bool {
        let reader = self.rebuilder.reader();
        let bad = &self.report.bad_copies;
        let is_bad = |id: &RecordId, place: &Place| match place.origin {
            Origin::Pack(pack) => bad.contains(&(pack, *id)),
            Origin::Staged(_) => false,
        };
        let effort = self.sound.effort_without(reader, &id, &is_bad);
        let is_sound = effort.is_some();
        if self.found.chunks.insert(id) && !is_sound {
            let why = if reader.contains(&id) {
                "no copy of it can be rebuilt"
            } else {
                "it is missing"
            };
            self.report.findings.push(Finding {
                severity: Severity::Hurt,
                what: What::Chunk,
                file: None,
                id: Some(id),
                why: why.into(),
            });
        }
        // Sources of every copy are needed as well; whether they are here decided the above.
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            let places = reader.places(&id);
            let needs = places.iter().flat_map(|place| &place.needs);
            let needs = needs.map(|need| RecordId::from(*need));
            open.extend(needs.filter(|need| self.found.chunks.insert(*need)));
        }
        is_sound
    }
}

/// Notes every copy of a record that cannot be used although its stored bytes hold.
fn bad_copies(rebuilder: &Rebuilder, report: &mut Report, id: RecordId, why: &str) {
    for place in rebuilder.reader().places(&id) {
        if let Origin::Pack(pack) = place.origin {
            report.bad_copy(pack, id, why.to_owned());
        }
    }
}

/// Rebuilds every file and every other chunk, and compares them with their ids.
pub(super) fn rebuild(
    rebuilder: &Rebuilder,
    pool: &Pool,
    found: &mut Found,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    progress.begin("reading data", None);
    let mut read = HashSet::new();
    for id in &found.manifests {
        let Ok(manifest) = rebuilder.object::<Manifest>(id) else {
            continue; // it was reported
        };
        let was_whole = found.files.get(id).copied().unwrap_or(false);
        let chunks = manifest.chunks.iter().map(|chunk| chunk.id);
        let (file, failed) = rebuild_chunks(rebuilder, pool, chunks, report, progress)?;
        read.extend(manifest.chunks.iter().map(|chunk| RecordId::from(chunk.id)));
        if failed || file != manifest.file {
            found.files.insert(*id, false);
        }
        if !failed && was_whole && file != manifest.file {
            report.findings.push(Finding {
                severity: Severity::Hurt,
                what: What::Object,
                file: None,
                id: Some((*id).into()),
                why: "the file that it describes has another content than it says".into(),
            });
        }
    }
    let mut others: Vec<_> = found.chunks.difference(&read).copied().collect();
    others.sort_unstable();
    let others = others.into_iter();
    let others = others.map(|id| ChunkId::from_bytes(*id.as_bytes()));
    rebuild_chunks(rebuilder, pool, others, report, progress)?;
    progress.end();
    Ok(())
}

/// Rebuilds chunks in order; gives the hash of all of them, and whether any failed.
fn rebuild_chunks(
    rebuilder: &Rebuilder,
    pool: &Pool,
    chunks: impl Iterator<Item = ChunkId>,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<(FileId, bool)> {
    let mut hasher = blake3::Hasher::new();
    let mut failed = false;
    let reader = rebuilder.reader();
    let jobs = chunks.map(|id| {
        let places = reader.places(&id.into());
        let bytes = places.first().map_or(0, |place| place.entry.plain_bytes);
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Ok((bytes.saturating_mul(3), id))
    });
    pool.ordered(
        jobs,
        IN_FLIGHT,
        |id| Ok((id, unless_stopped(rebuilder.chunk(&id))?)),
        |(id, rebuilt)| {
            match rebuilt {
                Ok(plain) => {
                    let bytes = plain.bytes().len() as u64;
                    hasher.update(plain.bytes());
                    report.rebuilt_bytes += bytes;
                    progress.advance(bytes, 0);
                }
                Err(error) => {
                    failed = true;
                    note_lost(rebuilder, report, id.into(), &told(&error));
                }
            }
            progress.check()
        },
    )?;
    Ok((FileId::from_bytes(*hasher.finalize().as_bytes()), failed))
}

/// A chunk that was thought sound and cannot be rebuilt. Where its sources can be, its own copies
/// are the bad ones.
fn note_lost(rebuilder: &Rebuilder, report: &mut Report, id: RecordId, why: &str) {
    let known = report
        .findings
        .iter()
        .any(|finding| finding.what == What::Chunk && finding.id == Some(id));
    for place in rebuilder.reader().places(&id) {
        let mut needs = place.needs.iter();
        if let Origin::Pack(pack) = place.origin
            && needs.all(|need| rebuilder.source(need).is_ok())
        {
            report.bad_copy(pack, id, why.to_owned());
        }
    }
    if !known {
        report.findings.push(Finding {
            severity: Severity::Hurt,
            what: What::Chunk,
            file: None,
            id: Some(id),
            why: why.to_owned(),
        });
    }
}

/// Names the files of every version that cannot be checked out, and what reaches the version.
pub(super) fn name_hurt(
    rebuilder: &Rebuilder,
    roots: &[Root],
    found: &Found,
    report: &mut Report,
) -> Result<()> {
    let is_lost = |finding: &Finding| matches!(finding.what, What::Object | What::Chunk);
    if !report.findings.iter().any(is_lost) {
        return Ok(());
    }
    let mut hurt = HashMap::new();
    for (id, behind) in &found.commits {
        let mut paths = Vec::new();
        match behind {
            None => paths.push(None),
            Some((tree, _)) => hurt_paths(rebuilder, found, tree, "", &mut paths),
        }
        if !paths.is_empty() {
            hurt.insert(*id, (paths, Vec::new()));
        }
    }
    for root in roots {
        let Some(name) = &root.name else {
            continue;
        };
        let mut seen = HashSet::new();
        let mut open = vec![root.commit];
        while let Some(id) = open.pop() {
            if !seen.insert(id) {
                continue;
            }
            if let Some((_, names)) = hurt.get_mut(&id) {
                names.push(name.clone());
            }
            if let Some(Some((_, parents))) = found.commits.get(&id) {
                open.extend(parents);
            }
        }
    }
    let mut hurt: Vec<_> = hurt.into_iter().collect();
    hurt.sort_unstable_by_key(|(id, _)| *id);
    for (commit, (paths, references)) in hurt {
        report
            .hurt
            .extend(paths.into_iter().map(|path| super::fsck::HurtPath {
                commit,
                path,
                references: references.clone(),
            }));
    }
    Ok(())
}

/// Hurt files of one version that are named.
const PATHS_MAX: usize = 100_000;

fn hurt_paths(
    rebuilder: &Rebuilder,
    found: &Found,
    id: &TreeId,
    prefix: &str,
    paths: &mut Vec<Option<String>>,
) {
    // Trees may share what is below them: one lost file can have more paths than can be held.
    if paths.len() >= PATHS_MAX {
        return;
    }
    let Ok(tree) = rebuilder.object::<Tree>(id) else {
        paths.push((!prefix.is_empty()).then(|| format!("{prefix}/")));
        return;
    };
    for entry in tree.entries {
        let path = match prefix {
            "" => entry.name,
            _ => format!("{prefix}/{}", entry.name),
        };
        match entry.node {
            Node::Tree(tree) => hurt_paths(rebuilder, found, &tree, &path, paths),
            Node::File { manifest, .. } if found.files.get(&manifest) == Some(&false) => {
                paths.push(Some(path));
            }
            Node::Attachment(id) if found.attachments.get(&id.into()) == Some(&false) => {
                paths.push(Some(path));
            }
            Node::File { .. } | Node::Symlink(_) | Node::Attachment(_) => {}
        }
    }
}
