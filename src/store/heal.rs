//! Makes again what can be made again, and moves aside what cannot.
//!
//! May use: `error`, `disk`, `store::{advance, check, files, merge, ops, paths, refs, salvage,
//! strays, txn}`.
//! Never invents a byte and never removes data of record: damaged files go to `quarantine`.

use std::collections::{HashMap, HashSet};

use store_format::ids::{OperationId, PackId, RecordId, TableId};
use store_format::reference::{Collection, Operation, ReferenceTable};

use crate::disk::parent;
use crate::error::{Error, IoContext, Result};
use crate::store::Store;
use crate::store::advance::{self, Deed, Step};
use crate::store::check::HurtFile;
use crate::store::files;
use crate::store::merge;
use crate::store::ops;
use crate::store::paths;
use crate::store::refs::{self, Created};
use crate::store::salvage;
use crate::store::strays::Strays;

/// What was saved from damaged packs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Packs that were moved aside.
    pub packs: u64,
    /// Records that were written anew.
    pub records: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Store {
    /// Makes index files again and removes merged indexes that are wrong.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn rebuild_indexes(&self, hurt: &[HurtFile]) -> Result<u64> {
        let disk = &*self.0.disk;
        let dir = format!("{}/{}", paths::TMP, files::unique(&self.0.host)?);
        files::ensure_dir(disk, &dir)?;
        let mut made = 0;
        for file in hurt {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            if parent(&file.path) == paths::MERGED {
                files::remove(disk, &file.path)?;
                made += 1;
            } else if let Some(pack) = paths::parse_index(name) {
                let is_there = disk.file_bytes(&paths::pack(&pack));
                if is_there.at("look at", &file.path)?.is_none() {
                    files::remove(disk, &file.path)?;
                    made += 1;
                } else if let Ok((bytes, None)) = self.0.packs.rebuild_index(&pack) {
                    let temp = format!("{dir}/i{made}");
                    files::write(disk, &temp, &bytes).at("write", &temp)?;
                    disk.replace(&temp, &file.path).at("name", &file.path)?;
                    made += 1;
                }
            }
        }
        merge::merge(&self.0, &dir, merge::SINGLE_PACKS_MAX, merge::RECORDS_MAX)?;
        files::discard_dir(disk, &dir);
        Ok(made)
    }

    /// Writes every record of damaged packs that holds its checks, and is not among `bad`, into
    /// new packs; then moves the damaged ones aside. Writers that depend on something in them
    /// look for it again, as after a collection.
    ///
    /// # Errors
    /// A failure of the disk; the damaged packs are where they were then.
    pub fn set_aside(
        &self,
        deed: &Deed,
        packs: &[PackId],
        bad: &HashSet<(PackId, RecordId)>,
    ) -> Result<Saved> {
        let mut saved = Saved::default();
        if packs.is_empty() {
            return Ok(saved);
        }
        let txn = self.begin()?;
        for pack in packs {
            salvage::salvage(&self.0, pack, &mut |record| {
                if bad.contains(&(*pack, record.header.id)) {
                    return Ok(());
                }
                saved.records += 1;
                saved.bytes += record.coded.len() as u64;
                txn.append_stored(&record)
            })?;
        }
        txn.publish_saved(deed)?.done()?;
        self.bar(deed, packs)?;
        let disk = &*self.0.disk;
        for pack in packs {
            self.move_aside(&paths::pack(pack))?;
            // It says how deep the lost records were, for those that take their place.
            let index = paths::index(pack);
            if disk.file_bytes(&index).at("look at", &index)?.is_some() {
                self.move_aside(&index)?;
            }
            self.0.packs.forget(pack);
            saved.packs += 1;
        }
        self.0.refresh()?;
        Ok(saved)
    }

    /// Publishes that packs go: every writer that is at work looks again for what it needs.
    fn bar(&self, deed: &Deed, packs: &[PackId]) -> Result<()> {
        let shared = &self.0;
        let mut packs = packs.to_vec();
        packs.sort_unstable();
        let outcome = advance::publish(shared, deed, &mut |head| {
            Ok(Step::Go(Some(Collection {
                epoch: head.table.gc_epoch + 1,
                packs: packs.clone(),
            })))
        })?;
        outcome.done().map(|_| ())
    }

    /// Moves a file that cannot be read out of the way, under a name that says where it was.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn move_aside(&self, path: &str) -> Result<()> {
        let disk = &*self.0.disk;
        files::ensure_dir(disk, paths::QUARANTINE)?;
        disk.sync_dir("").at("synchronise", "the store")?;
        let flat = path.replace('/', "-");
        let mut to = format!("{}/{flat}", paths::QUARANTINE);
        if disk.file_bytes(&to).at("look at", &to)?.is_some() {
            to = format!("{to}-{}", files::unique(&self.0.host)?);
        }
        files::name_once(disk, path, &to)?;
        disk.sync_dir(paths::QUARANTINE)
            .at("synchronise", paths::QUARANTINE)?;
        let dir = parent(path);
        disk.sync_dir(dir).at("synchronise", dir)
    }

    /// Removes a list of condemned packs that cannot be read. The packs stay; the next
    /// collection condemns them again.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn drop_condemned(&self, path: &str) -> Result<()> {
        files::remove(&*self.0.disk, path)
    }

    /// Publishes anew what a damaged or lost newest table said, from the operation records that it
    /// and the tables before it were made by. Gives the number of the new table; nothing where
    /// the newest table is there and whole.
    ///
    /// # Errors
    /// `Corrupt` where the operations do not say for certain what the table held.
    pub fn rebuild_table(&self, deed: &Deed) -> Result<Option<u64>> {
        let disk = &*self.0.disk;
        let numbers = refs::numbers(disk)?;
        let Some(newest) = numbers.last().copied() else {
            return Err(Error::corrupt("the store has no reference table at all"));
        };
        let head = refs::head(disk).ok();
        if head.as_ref().is_some_and(|head| head.damaged.is_none()) {
            return self.create_lost();
        }
        let from = head.as_ref().map(|head| head.table.operation);
        let known = head.as_ref().map_or(0, |head| head.table.number + 1);
        let lost = self.lost_operations(from, newest + 1 - known, newest)?;
        let Some((last, _)) = lost.last() else {
            return Err(Error::corrupt("no operation leads to the newest table"));
        };
        let operation = Operation {
            verb: deed.verb.clone(),
            author: deed.author.clone(),
            time: deed.time,
            parent: Some(*last),
            changes: Vec::new(),
            collection: None,
            undoes: None,
        };
        let dir = format!("{}/{}", paths::TMP, files::unique(&self.0.host)?);
        files::ensure_dir(disk, &dir)?;
        let operation = ops::write(disk, &format!("{dir}/o"), &operation)?;
        // Where no table is whole, the name of the damaged bytes says where this one stands.
        let parent = match &head {
            Some(head) => head.id,
            None => TableId::of(
                &files::read(disk, &paths::table(newest), u64::from(u32::MAX))?.unwrap_or_default(),
            ),
        };
        let mut table = ReferenceTable {
            number: newest + 1,
            parent: Some(parent),
            operation,
            write_id: files::random(&self.0.host)?,
            gc_epoch: head.as_ref().map_or(0, |head| head.table.gc_epoch),
            references: head.map(|head| head.table.references).unwrap_or_default(),
        };
        for (_, operation) in &lost {
            advance::apply(&mut table, operation);
        }
        let created = refs::create(disk, &format!("{dir}/t"), &table)?.1;
        files::discard_dir(disk, &dir);
        match created {
            Created::Ours => Ok(Some(table.number)),
            Created::Taken => Err(Error::conflict("another repair was first").hint("run it again")),
            Created::Gone(error) => Err(error).at("create", paths::table(table.number)),
        }
    }

    /// Creates the newest tables again that are gone, each from the operation that had made it.
    fn create_lost(&self) -> Result<Option<u64>> {
        let disk = &*self.0.disk;
        let mut newest = None;
        loop {
            let head = refs::head(disk)?;
            let mut lost = Strays::look(&self.0)?.lost;
            if lost.len() > 1 {
                // A writer that lost a race left its record too; others followed the winner.
                let followed: HashSet<_> = ops::all(disk)?
                    .into_iter()
                    .filter_map(|(_, read)| read.ok()?.1.parent)
                    .collect();
                lost.retain(|(id, _)| followed.contains(id));
                if lost.len() != 1 {
                    let path = paths::table(head.table.number + 1);
                    return Err(Error::corrupt(format!("'{path}' cannot be made again"))
                        .because("several operations may have made it")
                        .hint(format!("take '{path}' from a copy of this store")));
                }
            }
            let Some((id, operation)) = lost.pop() else {
                return Ok(newest);
            };
            let table = advance::table_on(&head, &operation, id, files::random(&self.0.host)?);
            let dir = format!("{}/{}", paths::TMP, files::unique(&self.0.host)?);
            files::ensure_dir(disk, &dir)?;
            let created = refs::create(disk, &format!("{dir}/t"), &table);
            files::discard_dir(disk, &dir);
            match created?.1 {
                Created::Ours => newest = Some(table.number),
                Created::Taken => {} // by another repair, or by a writer: look again
                Created::Gone(error) => {
                    return Err(error).at("create", paths::table(table.number));
                }
            }
        }
    }

    /// The operations after `from` (or from the first one on), one for each table that was lost.
    fn lost_operations(
        &self,
        from: Option<OperationId>,
        steps: u64,
        newest: u64,
    ) -> Result<Vec<(OperationId, Operation)>> {
        let mut children: HashMap<Option<OperationId>, Vec<(OperationId, Operation)>> =
            HashMap::new();
        for (_, read) in ops::all(&*self.0.disk)? {
            if let Ok((id, operation)) = read {
                children
                    .entry(operation.parent)
                    .or_default()
                    .push((id, operation));
            }
        }
        let mut chains = vec![Vec::new()];
        for _ in 0..steps {
            if chains.is_empty() {
                break; // the number of a table is a claim
            }
            let longer = chains
                .iter()
                .flat_map(|chain: &Vec<(OperationId, Operation)>| {
                    let last = chain.last().map_or(from, |(id, _)| Some(*id));
                    let next = children.get(&last).into_iter().flatten();
                    next.map(|step| [chain.as_slice(), std::slice::from_ref(step)].concat())
                });
            chains = longer.collect();
        }
        if chains.len() > 1 {
            // A writer that lost a race left its record too; the damaged table names the winner.
            let path = paths::table(newest);
            let bytes = files::read(&*self.0.disk, &path, u64::from(u32::MAX))?.unwrap_or_default();
            let named = |chain: &Vec<(OperationId, Operation)>| {
                chain.last().is_some_and(|(id, _)| {
                    bytes
                        .windows(id.as_bytes().len())
                        .any(|part| part == id.as_bytes())
                })
            };
            chains.retain(named);
        }
        match <[_; 1]>::try_from(chains) {
            Ok([chain]) => Ok(chain),
            Err(chains) => {
                let path = paths::table(newest);
                let why = if chains.is_empty() {
                    "its operation record is lost as well"
                } else {
                    "several operations may have made it"
                };
                Err(Error::corrupt(format!("'{path}' cannot be made again"))
                    .because(why)
                    .hint(format!(
                        "take '{path}' from a copy of this store; or remove it, and the store is \
                         as before that change"
                    )))
            }
        }
    }
}
