//! Whether the files of a work tree would take back what their branch got since they were taken.
//!
//! May use: tiers 0 to 4. Compares names and ids, never contents.

use std::collections::HashMap;

use store_format::commit::Commit;
use store_format::ids::CommitId;

use crate::error::Result;
use crate::flow::ancestry;
use crate::flow::read::Rebuilder;
use crate::flow::relatives::whole;
use crate::flow::tree::{self, Leaf, Leafy};

/// A path that stands in the files as in the version that they were taken from, and otherwise at
/// the tip of their branch: committed, the files would bring the old back. Nothing where the tip
/// is that version, or one behind it.
///
/// A path that differs from what was taken is the user's own doing; so is a tip that holds what
/// the files hold, as after a commit that was killed before it could say so in `HEAD`.
///
/// # Errors
/// Damaged objects; failures of the disk.
pub(super) fn taken_back(
    rebuilder: &Rebuilder,
    taken: Option<CommitId>,
    tip: &CommitId,
    files: &[Leaf],
) -> Result<Option<String>> {
    if let Some(taken) = &taken
        && ancestry::is_ancestor(rebuilder, tip, taken)?
    {
        return Ok(None);
    }
    let old = match &taken {
        Some(taken) => leaves_of(rebuilder, taken)?,
        None => Vec::new(),
    };
    let new = leaves_of(rebuilder, tip)?;
    let (old, new, files) = (by_path(&old), by_path(&new), by_path(files));
    let mut back: Vec<_> = new
        .keys()
        .chain(old.keys())
        .filter(|path| new.get(*path) != old.get(*path) && files.get(*path) == old.get(*path))
        .collect();
    back.sort_unstable();
    Ok(back.first().map(|path| (**path).to_owned()))
}

/// None where the version is lost.
fn leaves_of(rebuilder: &Rebuilder, commit: &CommitId) -> Result<Vec<Leaf>> {
    match whole(rebuilder.object::<Commit>(commit))? {
        Some(commit) => tree::leaves(rebuilder, &commit.tree),
        None => Ok(Vec::new()),
    }
}

fn by_path(leaves: &[Leaf]) -> HashMap<&str, &Leafy> {
    let leaves = leaves.iter();
    leaves.map(|leaf| (&*leaf.path, &leaf.node)).collect()
}
