//! What differs between two versions: files, and the tensors inside them.
//!
//! May use: tiers 0 to 4. Holds: versions are compared by ids alone, no chunk of them is read;
//! where ids cannot tell, that is said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use store_format::commit::Commit;
use store_format::dtype::DType;
use store_format::ids::{ChunkId, CommitId, FileId};
use store_format::layout::Tensor;
use store_format::manifest::{ChunkReference, Manifest};

use crate::bytes::{FileBytes, ReadAt};
use crate::error::Result;
use crate::flow::read::Rebuilder;
use crate::flow::status::{Change, Changed};
use crate::flow::tree::{self, Leaf, Leafy};
use crate::layout;
use crate::progress::Progress;

/// A path that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: String,
    /// How it differs.
    pub change: Change,
    /// Bytes before and after; nothing where there is no file.
    pub bytes: (Option<u64>, Option<u64>),
    /// The tensors that differ, by name.
    pub tensors: Vec<TensorDifference>,
    /// Tensors that are the same.
    pub same_tensors: u64,
}

/// A tensor that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDifference {
    /// Its name.
    pub name: String,
    /// How it differs.
    pub how: How,
    /// Type and shape before, where it was there.
    pub before: Option<(DType, Vec<u64>)>,
    /// Type and shape after, where it is there.
    pub after: Option<(DType, Vec<u64>)>,
    /// Bytes of it in chunks that differ.
    pub changed_bytes: u64,
}

/// How a tensor differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// It is new.
    New,
    /// It is gone.
    Deleted,
    /// Its values, type or shape changed.
    Changed,
    /// It shares a chunk with others, and that chunk changed: it may have changed too.
    Perhaps,
}

/// What differs between two versions.
///
/// # Errors
/// Damaged or missing objects.
pub fn diff(rebuilder: &Rebuilder, from: &CommitId, to: &CommitId) -> Result<Vec<Difference>> {
    let before = leaves(rebuilder, from)?;
    let after = leaves(rebuilder, to)?;
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut differences = Vec::new();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        let Some(change) = between(old, new) else {
            continue;
        };
        let old_file = old.map(|leaf| manifest(rebuilder, leaf)).transpose()?;
        let new_file = new.map(|leaf| manifest(rebuilder, leaf)).transpose()?;
        differences.extend(difference(
            path,
            change,
            old_file.flatten().as_ref(),
            new_file.flatten().as_ref(),
        ));
    }
    Ok(differences)
}

/// What differs between a version and the files of a work tree, whose changes are known.
///
/// # Errors
/// Damaged or missing objects; failures of the disk.
pub fn with_work_tree(
    rebuilder: &Rebuilder,
    from: &CommitId,
    root: &Path,
    changes: &[Changed],
    progress: &dyn Progress,
) -> Result<Vec<Difference>> {
    let before = leaves(rebuilder, from)?;
    let mut differences = Vec::new();
    for Changed { path, change } in changes {
        let old = before.get(path).map(|leaf| manifest(rebuilder, leaf));
        let old = old.transpose()?.flatten();
        let file = root.join(path);
        let new = match change {
            Change::Deleted => None,
            _ if file.is_file() => Some(manifest_of(path, &file, progress)?),
            _ => None,
        };
        differences.extend(difference(path, *change, old.as_ref(), new.as_ref()));
    }
    Ok(differences)
}

fn leaves(rebuilder: &Rebuilder, commit: &CommitId) -> Result<BTreeMap<String, Leaf>> {
    let root = rebuilder.object::<Commit>(commit)?.tree;
    let leaves = tree::leaves(rebuilder, &root)?.into_iter();
    Ok(leaves.map(|leaf| (leaf.path.clone(), leaf)).collect())
}

fn between(old: Option<&Leaf>, new: Option<&Leaf>) -> Option<Change> {
    let (Some(old), Some(new)) = (old, new) else {
        return match (old, new) {
            (None, Some(_)) => Some(Change::New),
            (Some(_), None) => Some(Change::Deleted),
            _ => None,
        };
    };
    match (&old.node, &new.node) {
        (a, b) if a == b => None,
        (Leafy::File { manifest: a, .. }, Leafy::File { manifest: b, .. }) if a == b => {
            Some(Change::Mode)
        }
        (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => Some(Change::Kind),
        _ => Some(Change::Content),
    }
}

fn manifest(rebuilder: &Rebuilder, leaf: &Leaf) -> Result<Option<Manifest>> {
    match &leaf.node {
        Leafy::File { manifest, .. } => rebuilder.object::<Manifest>(manifest).map(Some),
        Leafy::Symlink(_) | Leafy::EmptyDirectory | Leafy::Attachment(_) => Ok(None),
    }
}

/// A path's difference; nothing where two manifests name the same bytes in the same tensors.
fn difference(
    path: &str,
    change: Change,
    old: Option<&Manifest>,
    new: Option<&Manifest>,
) -> Option<Difference> {
    let (tensors, same_tensors) = match (change, old, new) {
        (Change::Mode, ..) => (Vec::new(), 0),
        (_, Some(old), Some(new)) if old.file == new.file => return None,
        (_, old, new) => tensors(old, new),
    };
    Some(Difference {
        path: path.to_owned(),
        change,
        bytes: (old.map(|file| file.bytes), new.map(|file| file.bytes)),
        tensors,
        same_tensors,
    })
}

/// The tensors that differ, by name, and how many do not.
fn tensors(old: Option<&Manifest>, new: Option<&Manifest>) -> (Vec<TensorDifference>, u64) {
    let (old, new) = (old.map(Pieces::of), new.map(Pieces::of));
    let names: BTreeSet<&str> = old.iter().chain(&new).flat_map(Pieces::names).collect();
    let (mut differences, mut same) = (Vec::new(), 0);
    for name in names {
        let before = old.as_ref().and_then(|file| file.tensor(name));
        let after = new.as_ref().and_then(|file| file.tensor(name));
        let (how, changed_bytes) = match (&before, &after) {
            (Some(before), Some(after)) => match compared(before, after) {
                Some(found) => found,
                None => {
                    same += 1;
                    continue;
                }
            },
            (None, Some(after)) => (How::New, after.0.bytes),
            (Some(_), None) => (How::Deleted, 0),
            (None, None) => continue,
        };
        let kind = |found: Option<(&Tensor, Vec<Piece>)>| {
            found.map(|(tensor, _)| (tensor.dtype, tensor.shape.clone()))
        };
        differences.push(TensorDifference {
            name: name.to_owned(),
            how,
            before: kind(before),
            after: kind(after),
            changed_bytes,
        });
    }
    (differences, same)
}

/// A range of a chunk that a tensor lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Piece {
    chunk: ChunkId,
    start: u64,
    bytes: u64,
    /// Whether the chunk holds nothing else.
    alone: bool,
}

fn compared(before: &(&Tensor, Vec<Piece>), after: &(&Tensor, Vec<Piece>)) -> Option<(How, u64)> {
    let ((old, old_pieces), (new, new_pieces)) = (before, after);
    let of_one_kind = old.dtype == new.dtype && old.shape == new.shape;
    if of_one_kind && old_pieces == new_pieces {
        return None;
    }
    let known: BTreeSet<_> = old_pieces
        .iter()
        .map(|piece| (piece.chunk, piece.start, piece.bytes))
        .collect();
    let differing = new_pieces
        .iter()
        .filter(|piece| !known.contains(&(piece.chunk, piece.start, piece.bytes)));
    let changed_bytes = differing.clone().map(|piece| piece.bytes).sum();
    // Equal borders and another id mean other bytes; a chunk shared with others does not tell.
    let told = !of_one_kind || differing.clone().any(|piece| piece.alone);
    let how = if told { How::Changed } else { How::Perhaps };
    Some((how, changed_bytes))
}

/// A manifest whose tensors are found by name.
struct Pieces<'m> {
    manifest: &'m Manifest,
    tensors: BTreeMap<&'m str, &'m Tensor>,
    /// The first byte of each chunk.
    starts: Vec<u64>,
}

impl<'m> Pieces<'m> {
    fn of(manifest: &'m Manifest) -> Self {
        let starts = manifest.chunks.iter().scan(0, |start, chunk| {
            let this = *start;
            *start += chunk.bytes;
            Some(this)
        });
        let named = manifest.tensors.iter();
        Self {
            manifest,
            tensors: named.map(|tensor| (&*tensor.name, tensor)).collect(),
            starts: starts.collect(),
        }
    }

    fn names(&self) -> impl Iterator<Item = &'m str> {
        self.tensors.keys().copied()
    }

    /// A tensor and the chunks that its bytes lie in.
    fn tensor(&self, name: &str) -> Option<(&'m Tensor, Vec<Piece>)> {
        let tensor = *self.tensors.get(name)?;
        let end = tensor.start.saturating_add(tensor.bytes);
        let first = self.starts.partition_point(|start| *start <= tensor.start);
        let chunks = self.starts.iter().zip(&self.manifest.chunks);
        let pieces = chunks
            .skip(first.saturating_sub(1))
            .take_while(|(start, _)| **start < end)
            .map(|(start, chunk)| {
                let from = tensor.start.max(*start);
                let to = end.min(start.saturating_add(chunk.bytes));
                Piece {
                    chunk: chunk.id,
                    start: from - start,
                    bytes: to.saturating_sub(from),
                    alone: to.saturating_sub(from) == chunk.bytes,
                }
            });
        Some((tensor, pieces.collect()))
    }
}

/// The manifest that a file would get; nothing is stored.
fn manifest_of(path: &str, file: &Path, progress: &dyn Progress) -> Result<Manifest> {
    let file = FileBytes::open(file)?;
    let parsed = layout::parse(path, &file)?;
    let mut hasher = blake3::Hasher::new();
    let mut chunks = Vec::new();
    for piece in layout::cut(&parsed, &file) {
        progress.check()?;
        let piece = piece?;
        let bytes = match piece.bytes {
            Some(bytes) => bytes,
            None => {
                let bytes = usize::try_from(piece.span.bytes).unwrap_or(usize::MAX);
                file.read_vec(piece.span.start, bytes)?
            }
        };
        hasher.update(&bytes);
        chunks.push(ChunkReference {
            id: ChunkId::of(&bytes),
            bytes: bytes.len() as u64,
        });
    }
    Ok(Manifest {
        bytes: file.len(),
        file: FileId::from_bytes(*hasher.finalize().as_bytes()),
        layout: parsed.layout,
        regions: Vec::new(),
        tensors: parsed.tensors,
        chunks,
        note: None,
    })
}
