//! Operations that follow the newest one and that no table names: unfinished, or all that is
//! left of a table that was lost.
//!
//! May use: `error`, `store::{index, leases, ops, refs}`. Reads only. A writer has a lease from
//! before its operation until its table is durable, and keeps it where it fails; so without a
//! lease there was a table.

use store_format::ids::{OperationId, PackId, RecordId};
use store_format::reference::Operation;

use crate::error::Result;
use crate::store::Shared;
use crate::store::index::{Origin, View};
use crate::store::leases;
use crate::store::ops;
use crate::store::refs;

/// Looks before a store that changes all the time is left to the next look.
const LOOKS_MAX: usize = 4;

/// An operation and its id.
pub type Named = (OperationId, Operation);

/// Operations that follow the newest one.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays {
    /// Somebody is about to publish these, or stopped before they were acknowledged.
    pub(super) unfinished: Vec<Named>,
    /// These had a table, which is gone.
    pub(super) lost: Vec<Named>,
}

impl Strays {
    /// Looks at every operation record.
    pub(super) fn look(shared: &Shared) -> Result<Self> {
        let disk = &*shared.disk;
        for _ in 0..LOOKS_MAX {
            let tip = refs::head(disk)?.table.operation;
            let mut following = Vec::new();
            for (_, read) in ops::all(disk)? {
                let named = read
                    .ok()
                    .filter(|(_, operation)| operation.parent == Some(tip));
                following.extend(named);
            }
            if following.is_empty() {
                return Ok(Self::default());
            }
            // Records, then leases, then the table again: whoever gave up a lease in between
            // has published, and that is seen here.
            let leases = leases::list(disk)?;
            let view = shared.refresh()?;
            if refs::head(disk)?.table.operation != tip {
                continue;
            }
            let packs: Vec<Vec<PackId>> = leases
                .into_iter()
                .map(|(_, lease)| lease.map(|lease| lease.packs).unwrap_or_default())
                .collect();
            let (unfinished, lost) = following
                .into_iter()
                .partition(|(_, operation)| packs.iter().any(|of| may_be(of, operation, &view)));
            return Ok(Self { unfinished, lost });
        }
        Ok(Self::default())
    }
}

/// Whether a writer that has named these packs may be at this operation.
fn may_be(packs: &[PackId], operation: &Operation, view: &View) -> bool {
    let mut commits = operation.changes.iter().filter_map(|change| change.new);
    let lies_there = |id: RecordId| {
        let places = view.places(&id);
        let mut origins = places.iter().map(|place| place.origin);
        origins.any(|origin| matches!(origin, Origin::Pack(pack) if packs.contains(&pack)))
    };
    packs.is_empty()
        || operation.changes.iter().all(|change| change.new.is_none())
        || commits.any(|commit| lies_there(commit.into()))
}
