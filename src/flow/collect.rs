//! Collection: what nothing reaches any more is deleted, what is nearly dead is written anew.
//!
//! May use: tiers 0 to 4. Must never delete what a reference, an operation that undo may want,
//! a running writer or a work tree needs; where that cannot be known, nothing is deleted.

use std::collections::HashSet;

use store_format::ids::{CommitId, RecordId};

use crate::error::{Error, Kind, Result};
use crate::flow::closure::Closure;
use crate::flow::read::Rebuilder;
use crate::store::Store;
use crate::store::advance::Deed;
use crate::store::gc::{GcPolicy, Root};
use crate::store::read::Reader;

/// What to collect, and who does it.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is kept and how careful it is with readers.
    pub policy: GcPolicy,
    /// `Name <address>`.
    pub author: String,
    /// Seconds since 1970 (UTC).
    pub time: i64,
    /// Change nothing, say what would be done.
    pub dry_run: bool,
}

/// What a collection did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packs that were deleted.
    pub deleted: u64,
    /// Their bytes.
    pub freed_bytes: u64,
    /// Packs whose live records were written anew.
    pub rewritten: u64,
    /// Packs that will be deleted once the grace is over.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Files that dead writers left.
    pub abandoned: u64,
}

/// Collects.
///
/// # Errors
/// `Corrupt` and `NotFound` where it cannot be known what is alive; failures of the disk, after
/// which nothing alive is lost.
pub fn collect(store: &Store, request: &Request) -> Result<Report> {
    let size = |id| -> u64 {
        let path = crate::store::paths::pack(id);
        store.disk().file_bytes(&path).ok().flatten().unwrap_or(0)
    };
    if request.dry_run {
        let plan = store.gc_plan(&request.policy, &mut mark)?;
        return Ok(Report {
            deleted: plan.dead.len() as u64,
            freed_bytes: plan.dead_bytes,
            rewritten: plan.rewrite.len() as u64,
            ..Report::default()
        });
    }
    let deed = Deed {
        verb: "gc".into(),
        author: request.author.clone(),
        time: request.time,
        changes: Vec::new(),
        undoes: None,
    };
    let epoch = store.head()?.table.gc_epoch;
    let done = store.gc(&deed, &request.policy, &mut mark);
    let done = done.map_err(|error| overtaken(store, epoch, error))?;
    Ok(Report {
        deleted: done.deleted.len() as u64,
        freed_bytes: done.deleted_bytes,
        rewritten: done.rewritten.len() as u64,
        waiting: done.waiting.len() as u64,
        waiting_bytes: done.waiting.iter().map(size).sum(),
        abandoned: done.abandoned as u64,
    })
}

/// A failure beside another collection, which may have taken what was looked at, is a conflict.
pub(super) fn overtaken(store: &Store, epoch: u64, error: Error) -> Error {
    let lost = matches!(error.kind(), Kind::NotFound | Kind::Corrupt);
    match store.head() {
        // One more is this collection's own; a damaged store fails again the next time.
        Ok(head) if lost && head.table.gc_epoch != epoch => {
            Error::conflict("another collection ran at the same time")
                .because(error)
                .hint("run the command again")
        }
        _ => error,
    }
}

/// Everything that commits need. A chunk that is lost keeps nothing; an object that is lost may
/// keep anything, so nothing can be collected then.
///
/// # Errors
/// `NotFound` where a required object is lost, `Corrupt` where one is damaged.
pub fn mark(reader: &Reader, roots: &[Root]) -> Result<HashSet<RecordId>> {
    let rebuilder = Rebuilder::new(reader.clone());
    let mut closure = Closure::default();
    let of = |required: bool| -> Vec<CommitId> {
        let wanted = roots.iter().filter(|root| root.required == required);
        wanted.map(|root| root.commit).collect()
    };
    closure.add(&rebuilder, &of(true), &|_| false)?;
    if let Some(lost) = closure.missing_objects.first() {
        return Err(
            Error::not_found("nothing is collected while an object is missing")
                .because(format!("object {lost:.12} is not there"))
                .hint("run 'sparse fsck' to see what is hurt"),
        );
    }
    // Only undo can reach these: what an earlier collection took of them keeps nothing.
    closure.add(&rebuilder, &of(false), &|_| false)?;
    Ok(closure.live)
}
