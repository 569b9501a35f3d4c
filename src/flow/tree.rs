//! Trees: directories of manifests to paths and back.
//!
//! May use: tiers 0 to 4. Walks are bounded in depth; a tree that lies deeper is damage.

use std::collections::BTreeMap;

use store_format::ids::{AttachmentId, ManifestId, TreeId};
use store_format::limits;
use store_format::object::Object;
use store_format::record::{Kind, Recipe};
use store_format::tree::{Entry, Node, Tree};

use crate::codec::residual::Prediction;
use crate::codec::{self, Level};
use crate::error::{Error, Result};
use crate::flow::read::Rebuilder;
use crate::store::txn::Txn;

/// One thing in a version, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Relative to the root, `/` between components.
    pub path: String,
    /// What it is.
    pub node: Leafy,
}

impl Leaf {
    /// Bytes of a file; nothing for what is no file.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self.node {
            Leafy::File { bytes, .. } => bytes,
            Leafy::Symlink(_) | Leafy::EmptyDirectory | Leafy::Attachment(_) => 0,
        }
    }
}

/// What a path of a version leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leafy {
    /// A file.
    File {
        /// How it is put together.
        manifest: ManifestId,
        /// Its length.
        bytes: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Symlink(String),
    /// A directory without entries.
    EmptyDirectory,
    /// An attachment.
    Attachment(AttachmentId),
}

/// Appends an object, unless it is there.
///
/// # Errors
/// An object that breaks a rule; a failure of the disk.
pub fn put<T>(txn: &Txn, kind: Kind, object: &T) -> Result<T::Id>
where
    T: Object,
    T::Id: Into<store_format::ids::RecordId>,
{
    let (id, bytes) = object.to_bytes()?;
    if !txn.contains(&id.into()) {
        let coded = codec::encode_plain(&bytes, None, Level::Default);
        let recipe = Recipe::plain(coded.coding, coded.parameters);
        let again = codec::decode(&recipe, &coded.bytes, Prediction::None, None, bytes.len())?;
        if again != bytes {
            return Err(Error::corrupt(format!(
                "{} does not decode to its bytes",
                T::WHAT
            )));
        }
        txn.append(kind, id.into(), recipe, bytes.len() as u64, &coded.bytes)?;
    }
    Ok(id)
}

/// Appends the trees of these leaves and gives the root.
///
/// # Errors
/// A name that no tree may hold, or one path that is both file and directory; failures of the
/// disk.
pub fn write(txn: &Txn, leaves: &[Leaf]) -> Result<TreeId> {
    let mut root = Directory::default();
    for leaf in leaves {
        root.insert(&leaf.path, &leaf.node, 0)?;
    }
    root.write(txn)
}

#[derive(Default)]
struct Directory {
    entries: BTreeMap<String, Inside>,
}

enum Inside {
    Directory(Directory),
    Leaf(Node),
}

impl Directory {
    fn insert(&mut self, path: &str, node: &Leafy, depth: usize) -> Result<()> {
        let twice = || Error::usage(format!("'{path}' stands twice, or as file and directory"));
        if depth > limits::TREE_DEPTH_MAX {
            return Err(Error::usage(format!("'{path}' lies too deep")));
        }
        let (name, rest) = match path.split_once('/') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        if let Some(rest) = rest {
            let inside = self.entries.entry(name.to_owned());
            let inside = inside.or_insert_with(|| Inside::Directory(Self::default()));
            return match inside {
                Inside::Directory(directory) => directory.insert(rest, node, depth + 1),
                Inside::Leaf(_) => Err(twice()),
            };
        }
        let inside = match node.clone() {
            Leafy::File {
                manifest,
                bytes,
                executable,
            } => Inside::Leaf(Node::File {
                manifest,
                bytes,
                executable,
            }),
            Leafy::Symlink(target) => Inside::Leaf(Node::Symlink(target)),
            Leafy::EmptyDirectory => Inside::Directory(Self::default()),
            Leafy::Attachment(id) => Inside::Leaf(Node::Attachment(id)),
        };
        match self.entries.insert(name.to_owned(), inside) {
            None => Ok(()),
            Some(_) => Err(twice()),
        }
    }

    fn write(self, txn: &Txn) -> Result<TreeId> {
        let mut entries = Vec::with_capacity(self.entries.len());
        for (name, inside) in self.entries {
            let node = match inside {
                Inside::Directory(directory) => Node::Tree(directory.write(txn)?),
                Inside::Leaf(node) => node,
            };
            entries.push(Entry { name, node });
        }
        put(txn, Kind::Tree, &Tree { entries })
    }
}

/// Every leaf below a tree, ascending by path.
///
/// # Errors
/// Damaged or missing trees.
pub fn leaves(rebuilder: &Rebuilder, root: &TreeId) -> Result<Vec<Leaf>> {
    let mut found = Vec::new();
    walk(rebuilder, root, "", 0, &mut found)?;
    Ok(found)
}

fn walk(
    rebuilder: &Rebuilder,
    id: &TreeId,
    prefix: &str,
    depth: usize,
    found: &mut Vec<Leaf>,
) -> Result<()> {
    if depth > limits::TREE_DEPTH_MAX {
        return Err(Error::corrupt(format!(
            "directories below '{prefix}' lie too deep"
        )));
    }
    let tree = rebuilder.object::<Tree>(id)?;
    if tree.entries.is_empty() && !prefix.is_empty() {
        found.push(Leaf {
            path: prefix.to_owned(),
            node: Leafy::EmptyDirectory,
        });
    }
    for Entry { name, node } in tree.entries {
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        };
        let node = match node {
            Node::Tree(tree) => {
                walk(rebuilder, &tree, &path, depth + 1, found)?;
                continue;
            }
            Node::File {
                manifest,
                bytes,
                executable,
            } => Leafy::File {
                manifest,
                bytes,
                executable,
            },
            Node::Symlink(target) => Leafy::Symlink(target),
            Node::Attachment(id) => Leafy::Attachment(id),
        };
        found.push(Leaf { path, node });
    }
    Ok(())
}
