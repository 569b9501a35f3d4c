//! Notes of two sides as one: every attachment of both.
//!
//! May use: tiers 0 to 4. The result does not depend on which side is named first.

use std::collections::BTreeSet;

use store_format::commit::Commit;
use store_format::ids::{CommitId, TreeId};
use store_format::limits;
use store_format::record::Kind;
use store_format::tree::{Entry, Node, Tree};

use crate::error::{Error, Result};
use crate::flow::ancestry;
use crate::flow::commit::Signature;
use crate::flow::read::Rebuilder;
use crate::flow::tree;
use crate::store::txn::Txn;

/// How the notes of two sides stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing new is there.
    Behind,
    /// They are this side's with more.
    Ahead,
    /// Both sides have something of their own.
    Apart,
}

/// How the notes `there` stand to those `here`; `rebuilder` need not have all of either.
///
/// # Errors
/// Damaged objects; failures of the disk.
pub fn standing(
    rebuilder: &Rebuilder,
    far: &Rebuilder,
    here: Option<CommitId>,
    there: Option<CommitId>,
) -> Result<Standing> {
    let Some(there) = there else {
        return Ok(Standing::Behind);
    };
    let Some(here) = here else {
        return Ok(Standing::Ahead);
    };
    if ancestry::is_ancestor(rebuilder, &there, &here)? {
        return Ok(Standing::Behind);
    }
    if ancestry::is_ancestor(far, &here, &there)? {
        return Ok(Standing::Ahead);
    }
    Ok(Standing::Apart)
}

/// Appends a commit of notes that hold those of two others, its parents; the reader of
/// `rebuilder` finds both.
///
/// # Errors
/// As [`trees`].
pub fn commits(
    txn: &Txn,
    rebuilder: &Rebuilder,
    here: CommitId,
    there: CommitId,
    signature: &Signature,
) -> Result<CommitId> {
    let tree = |id| Ok::<_, Error>(rebuilder.object::<Commit>(id)?.tree);
    let mut parents = vec![here, there];
    parents.sort_unstable();
    let commit = Commit {
        tree: trees(txn, rebuilder, &tree(&here)?, &tree(&there)?)?,
        parents,
        origins: Vec::new(),
        author: signature.author.clone(),
        time: signature.time,
        offset_minutes: signature.offset_minutes,
        message: "unite notes".into(),
        attributes: Vec::new(),
    };
    tree::put(txn, Kind::Commit, &commit)
}

/// The notes of two sides: everything that one of them holds. Only trees that differ are read.
/// What is new is appended; both sides must be readable through the transaction.
///
/// # Errors
/// `Corrupt` where a name stands for two things; damaged or missing trees; failures of the disk.
pub fn trees(txn: &Txn, rebuilder: &Rebuilder, a: &TreeId, b: &TreeId) -> Result<TreeId> {
    within(txn, rebuilder, a, b, 0)
}

fn within(
    txn: &Txn,
    rebuilder: &Rebuilder,
    a: &TreeId,
    b: &TreeId,
    depth: usize,
) -> Result<TreeId> {
    if a == b {
        return Ok(*a);
    }
    if depth > limits::TREE_DEPTH_MAX {
        return Err(Error::corrupt("the trees of the notes lie too deep"));
    }
    let (a, b) = (rebuilder.object::<Tree>(a)?, rebuilder.object::<Tree>(b)?);
    let names: BTreeSet<&String> = a
        .entries
        .iter()
        .chain(&b.entries)
        .map(|e| &e.name)
        .collect();
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        let node = match (a.get(name), b.get(name)) {
            (Some(ours), Some(theirs)) => match (&ours.node, &theirs.node) {
                (Node::Tree(ours), Node::Tree(theirs)) => {
                    Node::Tree(within(txn, rebuilder, ours, theirs, depth + 1)?)
                }
                (ours, theirs) if ours == theirs => ours.clone(),
                _ => return Err(misplaced(name)),
            },
            (Some(one), None) | (None, Some(one)) => one.node.clone(),
            (None, None) => continue,
        };
        // What is taken over must outlive a collection that runs meanwhile.
        let taken = match &node {
            Node::Tree(id) => txn.contains(&(*id).into()),
            Node::Attachment(id) => txn.contains(&(*id).into()),
            Node::File { .. } | Node::Symlink(_) => return Err(misplaced(name)),
        };
        if !taken {
            return Err(Error::not_found(format!(
                "'{name}' of the notes is missing"
            )));
        }
        let name = name.clone();
        entries.push(Entry { name, node });
    }
    tree::put(txn, Kind::Tree, &Tree { entries })
}

/// A name that leads nowhere in the notes.
pub(super) fn misplaced(name: &str) -> Error {
    Error::corrupt(format!(
        "'{name}' does not belong where it stands in the notes"
    ))
}
