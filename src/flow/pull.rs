//! A branch of another store into the branch of this one, and into the work tree.
//!
//! May use: tiers 0 to 4. Moves forward only: nothing that was committed or changed here is lost.

use std::path::Path;

use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, Change};

use crate::error::{Error, Result};
use crate::flow::commit::Signature;
use crate::flow::fetch::{self, Select, Under};
use crate::flow::read::Rebuilder;
use crate::flow::worktree::Head;
use crate::flow::{ancestry, checkout, closure};
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;
use crate::store::advance::Deed;

/// What to pull, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The branch, without `heads/`.
    pub branch: &'a str,
    /// The name under which the other side's branches stand here.
    pub remote: &'a str,
    /// The work tree and what it holds, where there is one.
    pub work: Option<(&'a Path, Head)>,
    /// Overwrite files that differ.
    pub force: bool,
    /// Who, and when.
    pub signature: Signature,
}

/// What a pull did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was fetched.
    pub fetched: fetch::Report,
    /// What the branch pointed to.
    pub old: Option<CommitId>,
    /// What it points to now.
    pub new: Option<CommitId>,
    /// What was done in the work tree.
    pub checked_out: Option<checkout::Report>,
}

/// Pulls.
///
/// # Errors
/// `Conflict` where both sides have commits of their own, or files would be lost; as
/// [`fetch::fetch`] and [`checkout::checkout`].
pub fn pull(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let fetched = fetch::fetch(
        near,
        far,
        pool,
        &fetch::Request {
            select: Select::Named(vec![format!("{BRANCHES}{}", request.branch)]),
            under: Under::Remote(request.remote),
            signature: request.signature.clone(),
            verb: "pull",
            heal: false,
            dry_run: false,
        },
        progress,
    )?;
    let name = format!("{BRANCHES}{}", request.branch);
    let there = fetched.refs.iter().find(|moved| moved.there == name);
    let there = there.map(|moved| moved.new).ok_or_else(|| {
        Error::not_found(format!(
            "there is no branch '{}' over there",
            request.branch
        ))
    })?;
    let rebuilder = Rebuilder::new(near.reader()?);
    let here = near.head()?.table.get(&name);
    let new = forward(&rebuilder, request, here, there)?;

    // The files first: what cannot be checked out is not pulled.
    let mut checked_out = None;
    if let Some((target, head)) = &request.work
        && head.branch.as_deref() == Some(request.branch)
        && head.commit != Some(new)
    {
        let request = checkout::Request {
            commit: new,
            target,
            tensors: &[],
            force: request.force,
            before: head.commit,
        };
        checked_out = Some(checkout::checkout(&rebuilder, pool, &request, progress)?);
    }
    if here != Some(new) {
        advance(near, request, &name, here, new)?;
    }
    if checked_out.is_some() {
        let branch = Some(request.branch.to_owned());
        let commit = Some(new);
        Head { branch, commit }.write(near)?;
    }
    Ok(Report {
        fetched,
        old: here,
        new: Some(new),
        checked_out,
    })
}

/// Where the branch goes: to the other side's commit, or nowhere if it is ahead of it.
fn forward(
    rebuilder: &Rebuilder,
    request: &Request<'_>,
    here: Option<CommitId>,
    there: CommitId,
) -> Result<CommitId> {
    let Some(here) = here else {
        return Ok(there);
    };
    if ancestry::is_ancestor(rebuilder, &here, &there)? {
        return Ok(there);
    }
    if ancestry::is_ancestor(rebuilder, &there, &here)? {
        return Ok(here);
    }
    let (branch, remote) = (request.branch, request.remote);
    Err(Error::conflict(format!(
        "'{branch}' has commits of its own here and over there"
    ))
    .because(format!("here {here:.12}, over there {there:.12}"))
    .hint(format!(
        "nothing was changed; look at both: sparse log {branch}; sparse log {remote}/{branch}"
    )))
}

fn advance(
    near: &Store,
    request: &Request<'_>,
    name: &str,
    old: Option<CommitId>,
    new: CommitId,
) -> Result<()> {
    let deed = Deed {
        verb: "pull".into(),
        author: request.signature.author.clone(),
        time: request.signature.time,
        changes: vec![Change {
            name: name.to_owned(),
            old,
            new: Some(new),
        }],
        undoes: None,
    };
    let closure = |reader: &_| closure::missing(reader, &[new]);
    near.begin()?.publish(&deed, Some(&closure))?.done()?;
    Ok(())
}
