//! Which commits lie behind which.
//!
//! May use: tiers 0 to 4. Reads commits only; what is not here counts as not reached.

use std::collections::HashSet;

use store_format::commit::Commit;
use store_format::ids::CommitId;

use crate::error::{Kind, Result};
use crate::flow::read::Rebuilder;

/// The commits and everything behind them: parents, and what they were made from.
///
/// # Errors
/// Damaged commits; failures of the disk.
pub fn behind(
    rebuilder: &Rebuilder,
    tips: impl IntoIterator<Item = CommitId>,
) -> Result<HashSet<CommitId>> {
    let mut open: Vec<_> = tips.into_iter().collect();
    let mut found = HashSet::new();
    while let Some(id) = open.pop() {
        if found.contains(&id) {
            continue;
        }
        let Some(commit) = here(rebuilder, &id)? else {
            continue;
        };
        found.insert(id);
        open.extend(commit.parents);
        open.extend(commit.origins.iter().map(|origin| origin.base));
    }
    Ok(found)
}

/// Whether a commit is another, or one of the versions before it.
///
/// # Errors
/// As [`behind`].
pub fn is_ancestor(rebuilder: &Rebuilder, old: &CommitId, new: &CommitId) -> Result<bool> {
    let mut open = vec![*new];
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if id == *old {
            return Ok(true);
        }
        if seen.insert(id)
            && let Some(commit) = here(rebuilder, &id)?
        {
            open.extend(commit.parents);
        }
    }
    Ok(false)
}

fn here(rebuilder: &Rebuilder, id: &CommitId) -> Result<Option<Commit>> {
    match rebuilder.object::<Commit>(id) {
        Ok(commit) => Ok(Some(commit)),
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
