//! Notes of two sides as one: every attachment of both.
//!
//! May use: tiers 0 to 4. The result does not depend on which side is named first.

use std::collections::BTreeMap;

use store_format::commit::{Attachment, Commit};
use store_format::ids::CommitId;
use store_format::record::Kind;

use crate::error::Result;
use crate::flow::ancestry;
use crate::flow::commit::Signature;
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leaf, Leafy};
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

/// Appends notes that hold those of two commits; the reader of `rebuilder` finds both.
///
/// # Errors
/// Damaged or missing objects; failures of the disk.
pub fn unite(
    txn: &Txn,
    rebuilder: &Rebuilder,
    here: CommitId,
    there: CommitId,
    signature: &Signature,
) -> Result<CommitId> {
    let mut leaves: BTreeMap<String, Leafy> = BTreeMap::new();
    for side in [here, there] {
        let root = rebuilder.object::<Commit>(&side)?.tree;
        for leaf in tree::leaves(rebuilder, &root)? {
            match leaves.get(&leaf.path) {
                Some(other) if !is_newer(rebuilder, &leaf.node, other)? => {}
                _ => {
                    leaves.insert(leaf.path, leaf.node);
                }
            }
        }
    }
    let leaves: Vec<_> = leaves
        .into_iter()
        .map(|(path, node)| Leaf { path, node })
        .collect();
    let mut parents = vec![here, there];
    parents.sort_unstable();
    let commit = Commit {
        tree: tree::write(txn, &leaves)?,
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

/// Which of two attachments of the same place stays: the later one, else the one of greater id.
fn is_newer(rebuilder: &Rebuilder, one: &Leafy, other: &Leafy) -> Result<bool> {
    let (Leafy::Attachment(one), Leafy::Attachment(other)) = (one, other) else {
        return Ok(false);
    };
    let time = |id| Ok::<_, crate::error::Error>(rebuilder.object::<Attachment>(id)?.time);
    Ok((time(one)?, one) > (time(other)?, other))
}
