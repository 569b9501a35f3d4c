//! Trees: directories of manifests to paths and back.
//!
//! May use: tiers 0 to 4. Walks are bounded in depth; a tree that lies deeper is damage.

use std::collections::{BTreeMap, HashMap};

use store_format::ids::{AttachmentId, ManifestId, TreeId};
use store_format::limits;
use store_format::manifest::Manifest;
use store_format::object::Object;
use store_format::record::{Kind as RecordKind, Recipe};
use store_format::tree::{Entry, Node, Tree};

use crate::codec::residual::Prediction;
use crate::codec::{self, Level};
use crate::error::{Error, Kind, Result};
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

/// The manifest of a file that a tree says to have so many bytes.
///
/// # Errors
/// `NotFound`; `Corrupt` where it is damaged or of another length.
pub fn manifest(rebuilder: &Rebuilder, id: &ManifestId, bytes: u64) -> Result<Manifest> {
    let manifest = rebuilder.object::<Manifest>(id)?;
    if manifest.bytes != bytes {
        return Err(Error::corrupt(format!(
            "a tree says that file {:.12} has {bytes} bytes, and it has {}",
            manifest.file, manifest.bytes
        )));
    }
    Ok(manifest)
}

/// Bytes of all files together, as their trees claim.
#[must_use]
pub fn bytes_of(leaves: &[Leaf]) -> u64 {
    leaves
        .iter()
        .fold(0, |sum, leaf| u64::saturating_add(sum, leaf.bytes()))
}

/// Appends an object, unless it is there.
///
/// # Errors
/// An object that breaks a rule; a failure of the disk.
pub fn put<T>(txn: &Txn, kind: RecordKind, object: &T) -> Result<T::Id>
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
        put(txn, RecordKind::Tree, &Tree { entries })
    }
}

/// Every leaf below a tree, ascending by path.
///
/// # Errors
/// Damaged or missing trees.
pub fn leaves(rebuilder: &Rebuilder, root: &TreeId) -> Result<Vec<Leaf>> {
    let mut known = HashMap::new();
    load(rebuilder, root, 0, &mut known)?;
    // Known before anything is built: trees that share what is below them can name more than
    // any machine holds.
    let size = known.get(root).map(|known| known.size).unwrap_or_default();
    if size.leaves > LEAVES_MAX || size.path_bytes > PATH_BYTES_MAX {
        let text = format!(
            "a version names {} files and more than can be held",
            size.leaves
        );
        return Err(Error::new(Kind::Full, text).hint("whoever made this version may mean harm"));
    }
    let mut found = Vec::new();
    walk(&known, root, "", &mut found);
    Ok(found)
}

/// Files, links and empty directories of one version.
const LEAVES_MAX: u64 = 1 << 22;
/// Bytes of all their paths together.
const PATH_BYTES_MAX: u64 = 1 << 29;

/// What lies below a tree.
#[derive(Clone, Copy, Default)]
struct Size {
    leaves: u64,
    path_bytes: u64,
    height: usize,
}

struct Known {
    tree: Tree,
    size: Size,
}

/// Reads every tree below one once.
fn load(
    rebuilder: &Rebuilder,
    id: &TreeId,
    depth: usize,
    known: &mut HashMap<TreeId, Known>,
) -> Result<Size> {
    let height = known.get(id).map_or(0, |known| known.size.height);
    if depth + height > limits::TREE_DEPTH_MAX {
        return Err(Error::corrupt("directories of a version lie too deep"));
    }
    if let Some(known) = known.get(id) {
        return Ok(known.size);
    }
    let tree = rebuilder.object::<Tree>(id)?;
    let mut size = Size::default();
    if tree.entries.is_empty() {
        size.leaves = 1;
    }
    for Entry { name, node } in &tree.entries {
        let below = match node {
            Node::Tree(tree) => load(rebuilder, tree, depth + 1, known)?,
            Node::File { .. } | Node::Symlink(_) | Node::Attachment(_) => Size {
                leaves: 1,
                ..Size::default()
            },
        };
        let names = below.leaves.saturating_mul(name.len() as u64 + 1);
        size.leaves = size.leaves.saturating_add(below.leaves);
        size.path_bytes = size.path_bytes.saturating_add(below.path_bytes);
        size.path_bytes = size.path_bytes.saturating_add(names);
        if let Node::Tree(_) = node {
            size.height = size.height.max(below.height + 1);
        }
    }
    known.insert(*id, Known { tree, size });
    Ok(size)
}

fn walk(known: &HashMap<TreeId, Known>, id: &TreeId, prefix: &str, found: &mut Vec<Leaf>) {
    let Some(Known { tree, .. }) = known.get(id) else {
        return; // all of them were loaded
    };
    if tree.entries.is_empty() && !prefix.is_empty() {
        found.push(Leaf {
            path: prefix.to_owned(),
            node: Leafy::EmptyDirectory,
        });
    }
    for Entry { name, node } in &tree.entries {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        let node = match node {
            Node::Tree(tree) => {
                walk(known, tree, &path, found);
                continue;
            }
            Node::File {
                manifest,
                bytes,
                executable,
            } => Leafy::File {
                manifest: *manifest,
                bytes: *bytes,
                executable: *executable,
            },
            Node::Symlink(target) => Leafy::Symlink(target.clone()),
            Node::Attachment(id) => Leafy::Attachment(*id),
        };
        found.push(Leaf { path, node });
    }
}
