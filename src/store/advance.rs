//! The one commit point: an operation record, then the next reference table, created if absent.
//!
//! May use: `error`, `disk`, `store::{files, host, leases, ops, refs}`. Acknowledges only what is durable
//! and lies on the chain that everybody sees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::Duration;

use store_format::ids::{CommitId, OperationId, RecordId};
use store_format::reference::{Change, Collection, Operation, Reference, ReferenceTable};

use crate::disk::Disk;
use crate::error::{Error, IoContext, Result};
use crate::store::Shared;
use crate::store::files;
use crate::store::leases;
use crate::store::ops;
use crate::store::paths;
use crate::store::refs::{self, Created, Head};

const PAUSE_MS_MIN: u64 = 10;
const PAUSE_MS_MAX: u64 = 500;
const PAUSES_MS_MAX: u64 = 30_000;

/// What an operation does to the references, and who did it.
#[derive(Clone, Debug, Default)]
pub struct Deed {
    /// The verb, as typed.
    pub verb: String,
    /// Who.
    pub author: String,
    /// When, in seconds since 1970.
    pub time: i64,
    /// The references to move; an old value that does not hold stops the whole operation.
    pub changes: Vec<Change>,
    /// The operation that this one takes back.
    pub undoes: Option<OperationId>,
}

/// What was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The number of the reference table.
    pub number: u64,
    /// The operation.
    pub operation: OperationId,
}

/// How a publication ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "only `Done` is published"]
pub enum Outcome {
    /// It is durable and everybody sees it.
    Done(Published),
    /// A reference was moved by somebody else. Nothing changed.
    Moved {
        /// The reference.
        name: String,
        /// What it should have pointed to.
        expected: Option<CommitId>,
        /// What it points to.
        found: Option<CommitId>,
    },
    /// A collection took something that this depends on. Nothing changed; doing all of it again
    /// stores what is missing.
    Collected {
        /// Some of what is missing.
        missing: Vec<RecordId>,
    },
}

impl Outcome {
    /// The publication, or the conflict as an error.
    ///
    /// # Errors
    /// `Conflict` where nothing was published.
    pub fn done(self) -> Result<Published> {
        let show = |commit: Option<CommitId>| {
            commit.map_or_else(|| "nothing".to_owned(), |commit| format!("{commit:.12}"))
        };
        match self {
            Self::Done(published) => Ok(published),
            Self::Moved {
                name,
                expected,
                found,
            } => Err(Error::conflict(format!(
                "'{name}' was moved by somebody else: expected {}, found {}",
                show(expected),
                show(found)
            ))
            .hint("look at what is new there, then try again")),
            Self::Collected { missing } => Err(Error::conflict(format!(
                "a collection deleted {} records that this needs",
                missing.len()
            ))
            .hint("run the command again: it stores them anew")),
        }
    }
}

/// What a look at the newest table decides.
pub enum Step {
    /// Go on from this table; a collection deletes packs with it.
    Go(Option<Collection>),
    /// Stop here.
    Stop(Outcome),
}

/// Publishes a deed on the newest table. `look` is asked for each table that is tried.
///
/// The caller holds a lease, and leaves it where this fails: an operation that follows the newest
/// one while nobody has a lease is the trace of a table that was lost.
///
/// # Errors
/// A store that is hurt; a failure of the disk; too many others at the same time.
pub fn advance(
    shared: &Shared,
    temp_dir: &str,
    deed: &Deed,
    look: &mut dyn FnMut(&Head) -> Result<Step>,
) -> Result<Outcome> {
    let disk = &*shared.disk;
    let write_id = files::random(&shared.host)?;
    disk.sync_dir(paths::LEASES)
        .at("synchronise", paths::LEASES)?;
    let mut paused_ms = 0;
    for attempt in 0_u64.. {
        let head = writable_head(disk)?;
        let collection = match look(&head)? {
            Step::Go(collection) => collection,
            Step::Stop(outcome) => return Ok(outcome),
        };
        if let Some(moved) = first_moved(&head.table, &deed.changes) {
            return Ok(moved);
        }
        let operation = operation_on(&head, deed, collection);
        let operation_id = ops::write(disk, &format!("{temp_dir}/o{attempt}"), &operation)?;
        let table = table_on(&head, &operation, operation_id, write_id);
        let (_, created) = refs::create(disk, &format!("{temp_dir}/t{attempt}"), &table)?;
        // Whatever the answer was: ours may have been made, its answer lost, the table cleaned
        // away and its number taken again by a writer that slept. The chain knows.
        if is_seen(disk, table.number, &operation_id)? {
            return Ok(Outcome::Done(Published {
                number: table.number,
                operation: operation_id,
            }));
        }
        match created {
            // The number was free only because the cleaner had removed it: nobody sees this
            // table, so it must not be acknowledged.
            Created::Ours => files::remove(disk, &paths::table(table.number))?,
            Created::Gone(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).at("create", paths::table(table.number));
            }
            Created::Taken | Created::Gone(_) => {}
        }
        if paused_ms >= PAUSES_MS_MAX {
            break;
        }
        paused_ms += pause(shared, attempt)?;
    }
    Err(
        Error::conflict("too many others change the references of this store at the same time")
            .hint("run the command again"),
    )
}

/// Publishes a deed that appends nothing.
pub(super) fn publish(
    shared: &Shared,
    deed: &Deed,
    look: &mut dyn FnMut(&Head) -> Result<Step>,
) -> Result<Outcome> {
    let name = files::unique(&shared.host)?;
    let dir = format!("{}/{name}", paths::TMP);
    leases::write(&*shared.disk, &name, &leases::Lease::new(&shared.host))?;
    files::ensure_dir(&*shared.disk, &dir)?;
    let outcome = advance(shared, &dir, deed, look);
    files::discard_dir(&*shared.disk, &dir);
    let outcome = outcome?; // else the lease stays: see `advance`
    let _ = files::remove(&*shared.disk, &format!("{}/{name}", paths::LEASES));
    Ok(outcome)
}

/// Whether an operation that was tried as table `number` is on the chain that everybody sees.
fn is_seen(disk: &dyn Disk, number: u64, operation: &OperationId) -> Result<bool> {
    let newest = refs::head(disk)?;
    let Some(steps) = newest.table.number.checked_sub(number) else {
        return Ok(false);
    };
    let seen = ops::is_ancestor(disk, operation, &newest.table.operation, steps)?;
    if seen {
        // Where the answer was lost, nobody may have done so yet.
        disk.sync_dir(paths::REFS).at("synchronise", paths::REFS)?;
    }
    Ok(seen)
}

/// The newest table, if it may be built on.
fn writable_head(disk: &dyn Disk) -> Result<Head> {
    let head = refs::head(disk)?;
    if let Some(number) = head.damaged {
        return Err(Error::corrupt(format!(
            "'{}' is damaged: the store can be read, but not changed",
            paths::table(number)
        ))
        .hint("run 'sparse repair'"));
    }
    Ok(head)
}

fn first_moved(table: &ReferenceTable, changes: &[Change]) -> Option<Outcome> {
    let moved = changes
        .iter()
        .find(|change| table.get(&change.name) != change.old)?;
    Some(Outcome::Moved {
        name: moved.name.clone(),
        expected: moved.old,
        found: table.get(&moved.name),
    })
}

fn operation_on(head: &Head, deed: &Deed, collection: Option<Collection>) -> Operation {
    let mut changes = deed.changes.clone();
    changes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Operation {
        verb: deed.verb.clone(),
        author: deed.author.clone(),
        time: deed.time,
        parent: Some(head.table.operation),
        changes,
        collection,
        undoes: deed.undoes,
    }
}

pub(super) fn table_on(
    head: &Head,
    operation: &Operation,
    operation_id: OperationId,
    write_id: [u8; 16],
) -> ReferenceTable {
    let mut table = ReferenceTable {
        number: head.table.number + 1,
        parent: Some(head.id),
        operation: operation_id,
        write_id,
        ..head.table.clone()
    };
    apply(&mut table, operation);
    table
}

/// Makes the changes of an operation in the references and the epoch of a table.
pub(super) fn apply(table: &mut ReferenceTable, operation: &Operation) {
    let changes = operation.changes.iter();
    let changed: BTreeMap<&str, _> = changes.map(|one| (&*one.name, one.new)).collect();
    let references = &mut table.references;
    references.retain(|reference| !changed.contains_key(&*reference.name));
    references.extend(changed.into_iter().filter_map(|(name, commit)| {
        Some(Reference {
            name: name.to_owned(),
            commit: commit?,
        })
    }));
    // Two lists that ascend are merged by a sort that looks for runs.
    references.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(collection) = &operation.collection {
        table.gc_epoch = collection.epoch;
    }
}

/// Waits a little longer each time, by chance, so that writers do not meet again.
fn pause(shared: &Shared, attempt: u64) -> Result<u64> {
    let most = (PAUSE_MS_MIN << attempt.min(6)).min(PAUSE_MS_MAX);
    let chance = u64::from_le_bytes(files::random(&shared.host)?);
    let ms = PAUSE_MS_MIN + chance % most;
    (shared.host.pause)(Duration::from_millis(ms));
    Ok(ms)
}

/// Names a pack and its index durably; the answer is given once both directories are.
///
/// # Errors
/// A failure of the disk.
pub fn name_packs(disk: &dyn Disk, packs: &[crate::store::pack_write::WrittenPack]) -> Result<()> {
    let mut dirs = BTreeSet::new();
    for pack in packs {
        let index_temp = format!("{}.idx", pack.path);
        files::write(disk, &index_temp, &pack.index).at("write", &index_temp)?;
    }
    for pack in packs {
        let path = paths::pack(&pack.id);
        let dir = crate::disk::parent(&path).to_owned();
        files::ensure_dir(disk, &dir)?;
        // The nonce makes the name ours alone: a name that is taken is a lost answer.
        if !files::name_once(disk, &pack.path, &path)?
            && disk.file_bytes(&path).at("look at", &path)? != Some(pack.bytes)
        {
            return Err(Error::corrupt(format!(
                "'{path}' is there already and differs"
            )));
        }
        files::name_once(disk, &format!("{}.idx", pack.path), &paths::index(&pack.id))?;
        dirs.insert(dir);
    }
    for dir in &dirs {
        disk.sync_dir(dir).at("synchronise", dir)?;
    }
    if !dirs.is_empty() {
        disk.sync_dir(paths::PACKS)
            .at("synchronise", paths::PACKS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_all_references_are_made_in_one_pass() {
        let commit = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_le_bytes());
            CommitId::from_bytes(bytes)
        };
        let name = |number: u32| format!("heads/{number:06}");
        let reference = |number: u32, commit| Reference {
            name: name(number),
            commit,
        };
        const COUNT: u32 = 60_000;
        let mut table = ReferenceTable {
            number: 1,
            parent: None,
            operation: OperationId::from_bytes([0; 32]),
            write_id: [0; 16],
            gc_epoch: 3,
            references: (0..COUNT).map(|n| reference(2 * n, commit(n))).collect(),
        };
        // Of three changes one deletes, one moves and one makes; they stand in falling order.
        let changes = (0..COUNT).rev().map(|n| Change {
            name: name(if n % 3 == 2 { 2 * n + 1 } else { 2 * n }),
            old: None,
            new: (n % 3 != 0).then(|| commit(COUNT + n)),
        });
        let operation = Operation {
            verb: String::new(),
            author: String::new(),
            time: 0,
            parent: None,
            changes: changes.collect(),
            collection: None,
            undoes: None,
        };
        apply(&mut table, &operation);
        let wanted = (0..COUNT).flat_map(|n| match n % 3 {
            0 => vec![],
            1 => vec![reference(2 * n, commit(COUNT + n))],
            _ => vec![
                reference(2 * n, commit(n)),
                reference(2 * n + 1, commit(COUNT + n)),
            ],
        });
        assert!(table.references.iter().cloned().eq(wanted));
        assert_eq!(table.gc_epoch, 3);
    }
}
