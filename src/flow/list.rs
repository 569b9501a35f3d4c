//! What a version holds: its paths, their manifests, and how their chunks are stored.
//!
//! May use: tiers 0 to 4. Reads objects and indexes, never chunks.

use std::collections::BTreeMap;

use store_format::commit::Commit;
use store_format::ids::{ChunkId, CommitId, TreeId};
use store_format::manifest::Manifest;
use store_format::record::{Coding, Predictor};
use store_format::tree::{Node, Tree};

use crate::error::{Error, Result};
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leaf, Leafy};

/// What lies at a path of a version.
///
/// # Errors
/// `NotFound` where nothing does.
pub fn find(rebuilder: &Rebuilder, commit: &CommitId, path: &str) -> Result<Node> {
    let root = rebuilder.object::<Commit>(commit)?.tree;
    let mut node = Node::Tree(root);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let Node::Tree(tree) = node else {
            return Err(not_there(commit, path));
        };
        let tree = rebuilder.object::<Tree>(&tree)?;
        let entry = tree.get(name).ok_or_else(|| not_there(commit, path))?;
        node = entry.node.clone();
    }
    Ok(node)
}

fn not_there(commit: &CommitId, path: &str) -> Error {
    Error::not_found(format!("there is no '{path}' in {commit:.12}"))
        .hint(format!("sparse ls {commit:.12}"))
}

/// Everything in a version below a path, or all of it.
///
/// # Errors
/// `NotFound` where the path leads to nothing; damaged objects.
pub fn list(rebuilder: &Rebuilder, commit: &CommitId, path: &str) -> Result<Vec<Leaf>> {
    let path = path.trim_matches('/');
    let under = |tree: &TreeId| {
        let mut leaves = tree::leaves(rebuilder, tree)?;
        if !path.is_empty() {
            for leaf in &mut leaves {
                leaf.path = format!("{path}/{}", leaf.path);
            }
        }
        Ok(leaves)
    };
    let one = |node| {
        let path = path.to_owned();
        Ok(vec![Leaf { path, node }])
    };
    match find(rebuilder, commit, path)? {
        Node::Tree(tree) => under(&tree),
        Node::File {
            manifest,
            bytes,
            executable,
        } => one(Leafy::File {
            manifest,
            bytes,
            executable,
        }),
        Node::Symlink(target) => one(Leafy::Symlink(target)),
        Node::Attachment(id) => one(Leafy::Attachment(id)),
    }
}

/// The manifest of the file at a path.
///
/// # Errors
/// `NotFound` where nothing is there, `Usage` where it is no file.
pub fn manifest(rebuilder: &Rebuilder, commit: &CommitId, path: &str) -> Result<Manifest> {
    let what = match find(rebuilder, commit, path)? {
        Node::File {
            manifest, bytes, ..
        } => return tree::manifest(rebuilder, &manifest, bytes),
        Node::Tree(_) => "a directory".to_owned(),
        Node::Symlink(target) => format!("a link to '{target}'"),
        Node::Attachment(_) => "an attachment".to_owned(),
    };
    Err(Error::usage(format!("'{path}' is {what}"))
        .hint(format!("what is there: sparse ls {commit:.12}")))
}

/// How one chunk of a file is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// The chunk.
    pub id: ChunkId,
    /// Its first byte in the file.
    pub start: u64,
    /// Its bytes in the file.
    pub plain_bytes: u64,
    /// The copy that is read first; nothing where none is here.
    pub copy: Option<Copied>,
    /// Copies that are here.
    pub copies: usize,
}

/// One copy of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// What its prediction is made by.
    pub predictor: Predictor,
    /// What corrects the prediction.
    pub coding: Coding,
    /// Steps to the deepest source.
    pub depth: u8,
    /// Coded bytes.
    pub stored_bytes: u64,
}

/// How the chunks of a file are stored, in order; read from the indexes alone.
#[must_use]
pub fn stored(rebuilder: &Rebuilder, manifest: &Manifest) -> Vec<StoredChunk> {
    let mut start = 0;
    let mut chunks = Vec::with_capacity(manifest.chunks.len());
    for chunk in &manifest.chunks {
        let places = rebuilder.reader().places(&chunk.id.into());
        chunks.push(StoredChunk {
            id: chunk.id,
            start,
            plain_bytes: chunk.bytes,
            copy: places.first().map(|place| Copied {
                predictor: place.entry.predictor,
                coding: place.entry.coding,
                depth: place.entry.depth,
                stored_bytes: place.entry.stored_bytes,
            }),
            copies: places.len(),
        });
        start += chunk.bytes;
    }
    chunks
}

/// Chunks that are stored alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    /// How many.
    pub chunks: u64,
    /// Their bytes in the file.
    pub plain_bytes: u64,
    /// Their coded bytes; a chunk that stands twice in the file counts once.
    pub stored_bytes: u64,
}

/// Sums chunks up by how they are stored.
#[must_use]
pub fn summed(chunks: &[StoredChunk]) -> BTreeMap<Option<(Predictor, Coding)>, Alike> {
    let mut seen = std::collections::HashSet::new();
    let mut sums: BTreeMap<_, Alike> = BTreeMap::new();
    for chunk in chunks {
        let sum = sums
            .entry(chunk.copy.map(|copy| (copy.predictor, copy.coding)))
            .or_default();
        sum.chunks += 1;
        sum.plain_bytes += chunk.plain_bytes;
        if let Some(copy) = chunk.copy
            && seen.insert(chunk.id)
        {
            sum.stored_bytes += copy.stored_bytes;
        }
    }
    sums
}
