//! Taking back the newest operation, by a new one.
//!
//! May use: tiers 0 to 4. Holds: the chain of operations only grows; what an undo would point to
//! is there as a whole, or nothing changes.

use store_format::ids::{CommitId, OperationId};
use store_format::reference::{Change, Operation};

use crate::error::{Error, Result};
use crate::flow::closure;
use crate::flow::commit::Signature;
use crate::store::Store;
use crate::store::advance::Deed;

/// An operation that can be taken back, and what that moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The operation.
    pub id: OperationId,
    /// What it did.
    pub operation: Operation,
    /// The references to move, by name.
    pub changes: Vec<Change>,
}

/// Finds the newest operation that moved references. None after it can have taken it back; where
/// it is an undo itself, taking it back does again what that one took back.
///
/// # Errors
/// `NotFound` where there is none; records of the chain that cannot be read.
pub fn plan(store: &Store) -> Result<Plan> {
    let mut at = Some(store.head()?.table.operation);
    while let Some(id) = at {
        let operation = store.operation(&id)?;
        at = operation.parent;
        let mut changes: Vec<_> = operation
            .changes
            .iter()
            .filter(|change| change.old != change.new)
            .map(|change| Change {
                name: change.name.clone(),
                old: change.new,
                new: change.old,
            })
            .collect();
        if operation.collection.is_some() || changes.is_empty() {
            continue;
        }
        changes.sort_by(|a, b| a.name.cmp(&b.name));
        return Ok(Plan {
            id,
            operation,
            changes,
        });
    }
    Err(Error::not_found("there is nothing to undo"))
}

/// Carries a plan out.
///
/// # Errors
/// `NotFound` where a collection deleted what would be pointed to, `Conflict` where somebody
/// else moved a reference meanwhile, failures of the disk.
pub fn undo(store: &Store, plan: &Plan, signature: &Signature) -> Result<()> {
    let txn = store.begin()?;
    let roots: Vec<CommitId> = plan
        .changes
        .iter()
        .filter_map(|change| change.new)
        .collect();
    if !closure::missing(txn.reader(), &roots)?.is_empty() {
        return Err(Error::not_found(format!(
            "'{}' cannot be undone: a collection deleted what it left behind",
            plan.operation.verb
        )));
    }
    for root in &roots {
        if !txn.contains(&(*root).into()) {
            return Err(Error::not_found(format!("commit {root:.12} is not here")));
        }
    }
    let deed = Deed {
        verb: "undo".to_owned(),
        author: signature.author.clone(),
        time: signature.time,
        changes: plan.changes.clone(),
        undoes: Some(plan.id),
    };
    let missing = |reader: &_| closure::missing(reader, &roots);
    txn.publish(&deed, Some(&missing))?.done().map(|_| ())
}
