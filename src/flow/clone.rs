//! All of another store into a new one.
//!
//! May use: tiers 0 to 4. What is cut short can be completed by a fetch: what came is kept.

use std::path::Path;

use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, ReferenceTable};

use crate::error::{Error, Result};
use crate::flow::commit::Signature;
use crate::flow::fetch::{self, Select, Under};
use crate::flow::pull;
use crate::flow::worktree::Head;
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;

/// What to clone, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The name under which the other side's branches stand here.
    pub remote: &'a str,
    /// The new work tree; a bare store has none.
    pub work_tree: Option<&'a Path>,
    /// Who, and when.
    pub signature: Signature,
}

/// What a clone did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was fetched.
    pub fetched: fetch::Report,
    /// The branch that was checked out, if there is one to check out.
    pub branch: Option<String>,
    /// The commit that was checked out.
    pub commit: Option<CommitId>,
}

/// The branch that people mean when they name none: the one that the other side's work tree
/// follows, else `main`, else the only one.
///
/// # Errors
/// Failures of the disk.
pub fn default_branch(far: &Store) -> Result<Option<String>> {
    let table = far.head()?.table;
    let has = |branch: &str| table.get(&format!("{BRANCHES}{branch}")).is_some();
    // A work tree's own file: if it cannot be read, the names decide.
    let followed = Head::read(far).ok().flatten().and_then(|head| head.branch);
    if let Some(branch) = followed.filter(|branch| has(branch)) {
        return Ok(Some(branch));
    }
    if has("main") {
        return Ok(Some("main".into()));
    }
    let mut branches = branches(&table);
    match (branches.next(), branches.next()) {
        (Some(only), None) => Ok(Some(only.to_owned())),
        _ => Ok(None),
    }
}

fn branches(table: &ReferenceTable) -> impl Iterator<Item = &str> {
    let names = table.references.iter();
    names.filter_map(|reference| reference.name.strip_prefix(BRANCHES))
}

/// Fills a new store.
///
/// # Errors
/// As [`fetch::fetch`] and [`pull::pull`].
pub fn clone(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let branch = default_branch(far)?;
    let head = Head::unborn(branch.as_deref().unwrap_or("main"));
    if request.work_tree.is_some() {
        head.write(near)?; // before the long part: a pull completes what is cut short
    }
    let fetch = fetch::Request {
        select: Select::All,
        under: match request.work_tree {
            Some(_) => Under::Remote(request.remote),
            None => Under::Branches,
        },
        signature: request.signature.clone(),
        verb: "clone",
        heal: false,
        dry_run: false,
    };
    let fetched = fetch::fetch(near, far, pool, &fetch, progress)?;
    let mut report = Report {
        fetched,
        branch: branch.clone(),
        commit: None,
    };
    let (Some(target), Some(branch)) = (request.work_tree, branch) else {
        return Ok(report);
    };
    let pull = pull::Request {
        branch: &branch,
        remote: request.remote,
        work: Some((target, head)),
        force: false,
        signature: request.signature.clone(),
    };
    let pulled = pull::pull(near, far, pool, &pull, progress);
    report.commit = pulled
        .map_err(|error: Error| error.while_doing("everything came, but was not checked out"))?
        .new;
    Ok(report)
}
