//! What the double's directory holds, and what of it a power loss leaves.
//!
//! May use: `disk::sim::chance`. Must never keep what no synchronisation asked for, unless the
//! kind of the loss says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chance::Chance;

pub(super) type NodeId = u64;
pub(super) const ROOT: NodeId = 0;

/// What the next power loss does to what was not synchronised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// All of it is gone.
    Lost,
    /// All of it survives.
    Kept,
    /// Names survive, content does not: the files of zero length.
    NamesOnly,
    /// Content survives, names do not.
    ContentOnly,
    /// Each name and each granule of content by chance, in any order.
    Torn {
        /// Chooses the chances.
        seed: u64,
        /// The bytes that the disk writes at once.
        granule: usize,
    },
}

#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Default)]
pub(super) struct FileNode {
    pub(super) content: Arc<Vec<u8>>,
    /// How much of the content, from its start, survives in any case.
    pub(super) durable_bytes: usize,
}

#[derive(Clone, Default)]
pub(super) struct DirNode {
    pub(super) durable: BTreeMap<String, NodeId>,
    pub(super) names: BTreeMap<String, NodeId>,
    /// Changes since the last synchronisation, in order.
    pub(super) pending: Vec<(String, Option<NodeId>)>,
}

impl DirNode {
    pub(super) fn set(&mut self, name: &str, node: Option<NodeId>) {
        match node {
            Some(node) => self.names.insert(name.to_owned(), node),
            None => self.names.remove(name),
        };
        self.pending.push((name.to_owned(), node));
    }
}

pub(super) type Nodes = BTreeMap<NodeId, Node>;

/// What is left of a state after a power loss.
pub(super) fn after(nodes: &Nodes, crash: Crash) -> Nodes {
    let mut chance = Chance(match crash {
        Crash::Torn { seed, .. } => seed,
        _ => 0,
    });
    let mut left = Nodes::new();
    for (id, node) in nodes {
        let node = match node {
            Node::File(file) => Node::File(content_after(file, crash, &mut chance)),
            Node::Dir(dir) => {
                let names = match crash {
                    Crash::Lost | Crash::ContentOnly => dir.durable.clone(),
                    Crash::Kept | Crash::NamesOnly => dir.names.clone(),
                    Crash::Torn { .. } => torn_names(dir, &mut chance),
                };
                Node::Dir(DirNode {
                    durable: names.clone(),
                    names,
                    pending: Vec::new(),
                })
            }
        };
        left.insert(*id, node);
    }
    left
}

fn content_after(file: &FileNode, crash: Crash, chance: &mut Chance) -> FileNode {
    let durable = file.content.get(..file.durable_bytes).unwrap_or_default();
    let content = match crash {
        Crash::Kept | Crash::ContentOnly => Arc::clone(&file.content),
        Crash::Lost | Crash::NamesOnly => Arc::new(durable.to_vec()),
        Crash::Torn { granule, .. } => {
            let mut torn = durable.to_vec();
            let unsynced = file.content.get(durable.len()..).unwrap_or_default();
            for part in unsynced.chunks(granule) {
                match chance.of(4) {
                    0 => break, // the length was not written
                    1 => torn.extend(std::iter::repeat_n(0, part.len())),
                    _ => torn.extend_from_slice(part),
                }
            }
            Arc::new(torn)
        }
    };
    FileNode {
        durable_bytes: content.len(),
        content,
    }
}

fn torn_names(dir: &DirNode, chance: &mut Chance) -> BTreeMap<String, NodeId> {
    let mut names = dir.durable.clone();
    for (name, node) in &dir.pending {
        if chance.of(2) == 0 {
            match node {
                Some(node) => names.insert(name.clone(), *node),
                None => names.remove(name),
            };
        }
    }
    names
}
