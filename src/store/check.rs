//! Whether the files of a store are what they must be, each by itself. Reads only.
//!
//! May use: `error`, `disk`, `store::{advance, files, index, leases, merged, ops, paths, refs, strays}`. Knows nothing of
//! what records hold; whether chunks can be rebuilt is asked above.

use std::collections::HashSet;
use std::io;
use std::ops::Range;

use store_format::ids::{OperationId, PackId, RecordId, TableId};
use store_format::pack::{ALIGNMENT, Index, PACK_HEADER_BYTES};
use store_format::record::RecordHeader;
use store_format::reference::{Operation, ReferenceTable};

use crate::disk::{Disk, Opened};
use crate::error::{Error, IoContext, Kind, Result};
use crate::store::Store;
use crate::store::advance;
use crate::store::files;
use crate::store::leases;
use crate::store::merged::{self, Merged};
use crate::store::ops;
use crate::store::pack_read::{read_entry, take_record};
use crate::store::paths;
use crate::store::refs;
use crate::store::strays::{Named, Strays};

/// Bytes of a pack that are hashed at a time.
const HASHED_BYTES: usize = 1 << 20;

/// A file that is not what it must be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HurtFile {
    /// Its path in the store's directory.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a look at a pack found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackState {
    /// Its length.
    pub bytes: u64,
    /// Its records, as far as they are known.
    pub records: u64,
    /// What is wrong with the file itself: its name, header, table or trailer.
    pub damage: Vec<String>,
    /// Records that are not what they must be, and why.
    pub hurt: Vec<(RecordId, String)>,
}

/// The reference tables and the operations behind them.
#[derive(Clone, Debug, Default)]
pub struct ChainState {
    /// Tables that cannot be read, ascending.
    pub tables: Vec<(u64, HurtFile)>,
    /// The number of the newest table, readable or not.
    pub newest: Option<u64>,
    /// The operations from the newest to the first, as far as they can be read.
    pub operations: Vec<(OperationId, Operation)>,
    /// Operations of the chain that cannot be read.
    pub broken: Vec<HurtFile>,
    /// Other files among the operations that cannot be read.
    pub strays: Vec<HurtFile>,
    /// Operations that follow the newest one and that no table names: what a writer left that
    /// stopped before it was acknowledged.
    pub unpublished: Vec<Named>,
    /// Operations that follow the newest one and were published: their tables are lost.
    pub lost: Vec<Named>,
}

impl Store {
    /// Looks at a pack: its table, every record header and every stored check; with `whole` also
    /// at all bytes between them, by the pack's name. `each` is told of every record that holds.
    ///
    /// # Errors
    /// Whatever `each` refuses; `Forbidden` for a pack that may not be read, of which nothing can be
    /// said. What else cannot be read is a finding.
    pub fn check_pack(
        &self,
        pack: &PackId,
        whole: bool,
        each: &mut dyn FnMut(&RecordHeader) -> Result<()>,
    ) -> Result<PackState> {
        let mut state = PackState::default();
        let path = paths::pack(pack);
        let file = match self.0.disk.open(&path).at("open", &path) {
            Ok(file) => file,
            Err(error) if error.kind() == Kind::Forbidden => return Err(error),
            Err(error) => {
                state.damage.push(told(&error));
                return Ok(state);
            }
        };
        state.bytes = file.bytes();
        if whole {
            match self.hash(&path) {
                Ok(found) if found == *pack => {}
                Ok(_) => state
                    .damage
                    .push("its bytes do not hash to its name".into()),
                Err(error) => state.damage.push(told(&error)),
            }
        }
        self.0.packs.forget(pack);
        let index = match self.0.packs.rebuild_index(pack) {
            Ok((index, hurt)) => {
                state.damage.extend(hurt.as_ref().map(told));
                index
            }
            Err(error) => {
                state.damage.push(told(&error));
                return Ok(state);
            }
        };
        let index = Index::open(&index)?;
        let table = index.table;
        let mut places = Vec::with_capacity(table.len());
        for row in 0..table.len() {
            let (Some(id), Ok(entry), Ok(needs)) =
                (table.id(row), table.entry(row), table.needs(row))
            else {
                state.damage.push("its table is damaged".into());
                continue;
            };
            state.records += 1;
            places.extend(entry.end().map(|end| entry.offset..end));
            let record =
                read_entry(&*file, &entry, &path).and_then(|bytes| take_record(bytes, &id, &entry));
            match record {
                Ok(record) if !record.header.recipe.needs().into_iter().eq(needs) => {
                    let why = "its table names other sources than the record";
                    state.hurt.push((id, why.into()));
                }
                Ok(record) => each(&record.header)?,
                Err(error) => state.hurt.push((id, told(&error))),
            }
        }
        if state.damage.is_empty() && state.hurt.is_empty() {
            let end = index.records_end().unwrap_or(0);
            if !is_filled(&*file, places, end).at("read", &path)? {
                let why = "its records do not follow each other from its header to its table";
                state.damage.push(why.into());
            }
        }
        Ok(state)
    }

    fn hash(&self, path: &str) -> Result<PackId> {
        let file = self.0.disk.open(path).at("open", path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; HASHED_BYTES];
        let mut start = 0;
        while start < file.bytes() {
            let left = usize::try_from(file.bytes() - start).unwrap_or(usize::MAX);
            let part = &mut buffer[..left.min(HASHED_BYTES)];
            file.read_at(start, part).at("read", path)?;
            hasher.update(part);
            start += part.len() as u64;
        }
        Ok(PackId::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// Index files and merged indexes that are missing or differ from what the packs say. They
    /// can be made again.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn check_indexes(&self) -> Result<Vec<HurtFile>> {
        let disk = &*self.0.disk;
        let mut hurt = Vec::new();
        for shard in files::list(disk, paths::PACKS)? {
            let names = files::list(disk, &format!("{}/{shard}", paths::PACKS))?;
            let packs: HashSet<_> = names.iter().filter_map(|n| paths::parse_pack(n)).collect();
            for name in &names {
                let path = format!("{}/{shard}/{name}", paths::PACKS);
                let why = match (paths::parse_pack(name), paths::parse_index(name)) {
                    (Some(pack), _) => {
                        if let Some(why) = self.index_differs(&pack) {
                            let path = paths::index(&pack);
                            hurt.push(HurtFile { path, why });
                        }
                        continue;
                    }
                    (None, Some(pack)) if packs.contains(&pack) => continue,
                    (None, Some(_)) => "the index of a pack that is not there",
                    (None, None) => "not a file of the store; it is left alone",
                };
                let why = why.into();
                hurt.push(HurtFile { path, why });
            }
        }
        for name in files::list(disk, paths::MERGED)? {
            if let Some(why) = self.merged_differs(&name) {
                let path = format!("{}/{name}", paths::MERGED);
                hurt.push(HurtFile { path, why });
            }
        }
        Ok(hurt)
    }

    /// What is wrong with a pack's index file; nothing where the pack itself cannot say.
    fn index_differs(&self, pack: &PackId) -> Option<String> {
        let (wanted, _) = self.0.packs.rebuild_index(pack).ok()?;
        match self.0.disk.map(&paths::index(pack)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("missing".into()),
            Err(error) => Some(error.to_string()),
            Ok(found) if *found != *wanted => Some("differs from the pack's own table".into()),
            Ok(_) => None,
        }
    }

    fn merged_differs(&self, name: &str) -> Option<String> {
        let path = format!("{}/{name}", paths::MERGED);
        let bytes = match self.0.disk.map(&path) {
            Ok(bytes) => bytes,
            Err(error) => return Some(error.to_string()),
        };
        let merged = match Merged::check(&bytes) {
            Ok(merged) => merged,
            Err(error) => return Some(error.to_string()),
        };
        let view = self.0.refresh().ok()?;
        for pack in merged.packs().filter(|pack| view.has_pack(pack)) {
            let mut all_held = true;
            let look = |id| all_held = all_held && merged.find(merged::key_of(&id)).contains(&pack);
            view.each_id(&pack, look).ok()?;
            if !all_held {
                return Some(format!("does not lead to all records of pack {pack:.12}"));
            }
        }
        None
    }

    /// Looks at every reference table and every operation record.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn check_chain(&self) -> Result<ChainState> {
        let disk = &*self.0.disk;
        let mut state = ChainState::default();
        let mut before: Option<(ReferenceTable, TableId)> = None;
        for number in refs::numbers(disk)? {
            state.newest = Some(number);
            let why = match refs::read(disk, number) {
                Ok(None) => continue, // cleaned since
                Ok(Some((id, table))) => {
                    let follows = before
                        .filter(|(before, _)| before.number + 1 == number)
                        .is_none_or(|(before, id)| follows(disk, &before, id, &table));
                    before = Some((table, id));
                    if follows {
                        continue;
                    }
                    "does not follow from the table before it by its operation".into()
                }
                Err(error) => told(&error),
            };
            let path = paths::table(number);
            state.tables.push((number, HurtFile { path, why }));
        }
        let mut on_chain = HashSet::new();
        let mut next = refs::head(disk).ok().map(|head| head.table.operation);
        while let Some(id) = next.filter(|id| on_chain.insert(*id)) {
            match ops::read(disk, &id) {
                Ok(operation) => {
                    next = operation.parent;
                    state.operations.push((id, operation));
                }
                Err(error) => {
                    let (path, why) = (paths::operation(&id), told(&error));
                    state.broken.push(HurtFile { path, why });
                    break;
                }
            }
        }
        for (path, read) in ops::all(disk)? {
            let is_known = state.broken.iter().any(|broken| broken.path == path);
            if let (Err(error), false) = (read, is_known) {
                let why = told(&error);
                state.strays.push(HurtFile { path, why });
            }
        }
        // Behind a damaged table nothing is known of those that followed.
        if let Ok(refs::Head { damaged: None, .. }) = refs::head(disk) {
            let strays = Strays::look(&self.0)?;
            state.unpublished = strays.unfinished;
            state.lost = strays.lost;
        }
        Ok(state)
    }

    /// Lists of condemned packs that cannot be read.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn check_condemned(&self) -> Result<Vec<HurtFile>> {
        let disk = &*self.0.disk;
        let mut hurt = Vec::new();
        for name in files::list(disk, paths::CONDEMNED)? {
            match leases::sentence(disk, &name) {
                Ok(_) => {}
                Err(error) if error.kind() == Kind::Corrupt => hurt.push(HurtFile {
                    path: format!("{}/{name}", paths::CONDEMNED),
                    why: told(&error),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(hurt)
    }
}

/// Whether a table is what its operation makes of the one before it; an operation that cannot be
/// read is reported by itself.
fn follows(disk: &dyn Disk, before: &ReferenceTable, id: TableId, table: &ReferenceTable) -> bool {
    let made = ops::read(disk, &table.operation).ok().map(|operation| {
        let mut made = before.clone();
        let is_honest = operation
            .changes
            .iter()
            .all(|change| before.get(&change.name) == change.old);
        advance::apply(&mut made, &operation);
        is_honest && (made.references, made.gc_epoch) == (table.references.clone(), table.gc_epoch)
    });
    table.parent == Some(id) && made.unwrap_or(true)
}

/// Whether records lie one behind the other from a pack's header to its table, zeros alone between
/// them.
fn is_filled(file: &dyn Opened, mut places: Vec<Range<u64>>, table: u64) -> io::Result<bool> {
    places.sort_unstable_by_key(|place| place.start);
    places.push(table..table);
    let mut end = PACK_HEADER_BYTES as u64;
    for place in places {
        if place.start != end.next_multiple_of(ALIGNMENT) {
            return Ok(false);
        }
        let mut gap = [0; ALIGNMENT as usize];
        let gap = &mut gap[..(place.start - end) as usize];
        file.read_at(end, gap)?;
        if gap.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        end = place.end;
    }
    Ok(true)
}

/// A failure and its nearest cause in one line.
pub(super) fn told(error: &Error) -> String {
    match error.causes().first() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
