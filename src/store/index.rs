//! Where each record is: the index files of all packs, opened as they are needed.
//!
//! May use: `error`, `store::{disk, mapped, pack_read, paths}`. An index file is checked whole
//! before it is first believed, and is made again from its pack where it is missing or hurt.
//! A view never changes: what appears or goes is seen by the next one.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use store_format::ids::{ChunkId, PackId, RecordId};
use store_format::pack::{Entry, Index};
use store_format::record::Kind;

use crate::error::{Error, Result};
use crate::store::disk::Disk;
use crate::store::files;
use crate::store::mapped::Mapped;
use crate::store::pack_read::PackFiles;
use crate::store::paths;

/// Where a copy of a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// In a pack of the store.
    Pack(PackId),
    /// In a file of a transaction that is not published yet.
    Staged(usize),
}

/// One copy of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub origin: Origin,
    /// Where in the pack, and how it is coded.
    pub entry: Entry,
    /// Chunks that must be there to rebuild it: sources and side chunks.
    pub needs: Vec<ChunkId>,
}

/// One pack of a view, with its index once somebody asked for it.
pub struct PackIndex {
    /// The pack.
    pub pack: PackId,
    loaded: OnceLock<Loaded>,
}

struct Loaded {
    /// Nothing where neither the index file nor the pack can be read.
    bytes: Option<Mapped>,
    /// Whether the file was missing or hurt.
    rebuilt: bool,
    failure: Option<String>,
}

/// What a view is read from.
#[derive(Clone)]
pub struct Source {
    /// The store's directory.
    pub disk: Arc<dyn Disk>,
    /// Its packs.
    pub packs: Arc<PackFiles>,
}

/// The packs that were there at one moment.
pub struct View {
    source: Source,
    packs: Vec<Arc<PackIndex>>,
}

impl View {
    /// Lists the packs that are there now; indexes opened for `before` are kept.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn load(source: &Source, before: Option<&Self>) -> Result<Self> {
        let disk = &*source.disk;
        let known: HashMap<_, _> = before
            .into_iter()
            .flat_map(|view| &view.packs)
            // A failure may have passed since.
            .filter(|index| {
                index
                    .loaded
                    .get()
                    .is_none_or(|loaded| loaded.failure.is_none())
            })
            .map(|index| (index.pack, index))
            .collect();
        let mut packs = Vec::new();
        for shard in files::list(disk, paths::PACKS)? {
            for name in files::list(disk, &format!("{}/{shard}", paths::PACKS))? {
                let Some(pack) = paths::parse_pack(&name) else {
                    continue;
                };
                packs.push(known.get(&pack).map_or_else(
                    || {
                        Arc::new(PackIndex {
                            pack,
                            loaded: OnceLock::new(),
                        })
                    },
                    |index| Arc::clone(index),
                ));
            }
        }
        packs.sort_unstable_by_key(|index| index.pack);
        Ok(Self {
            source: source.clone(),
            packs,
        })
    }

    /// The packs, ascending.
    pub fn packs(&self) -> impl Iterator<Item = PackId> {
        self.packs.iter().map(|index| index.pack)
    }

    /// Whether a pack was there.
    #[must_use]
    pub fn has_pack(&self, pack: &PackId) -> bool {
        self.slot(pack).is_some()
    }

    /// Every copy of a record, the one with the smallest depth first.
    #[must_use]
    pub fn places(&self, id: &RecordId) -> Vec<Place> {
        let mut places: Vec<_> = self
            .packs
            .iter()
            .filter_map(|index| self.place(index, id))
            .collect();
        places.sort_by_key(|place| (place.entry.depth, place.entry.stored_bytes, place.origin));
        places
    }

    /// Records of a kind whose ids begin with these hex digits, ascending, each once.
    #[must_use]
    pub fn with_prefix(&self, digits: &str, kind: Kind) -> Vec<RecordId> {
        let mut found = Vec::new();
        for index in &self.packs {
            let bytes = self.loaded(index).bytes.as_ref();
            let Some(table) = bytes.and_then(|bytes| Index::open(bytes).ok()) else {
                continue;
            };
            let table = table.table;
            let mut row = table.first_from(digits);
            while let Some(id) = table
                .id(row)
                .filter(|id| id.to_string().starts_with(digits))
            {
                if table.entry(row).is_ok_and(|entry| entry.kind == kind) {
                    found.push(id);
                }
                row += 1;
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Every record of a pack, ascending by id.
    ///
    /// # Errors
    /// A pack that is not there or whose index cannot be made.
    pub fn records(&self, pack: &PackId) -> Result<Vec<(RecordId, Place)>> {
        let gone = || Error::not_found(format!("pack {pack:.12} is not there"));
        let slot = self.slot(pack).ok_or_else(gone)?;
        let loaded = self.loaded(slot);
        let hurt = || Error::corrupt(loaded.failure.clone().unwrap_or_default());
        let bytes = loaded.bytes.as_ref().ok_or_else(hurt)?;
        let table = Index::open(bytes)?.table;
        let mut records = Vec::with_capacity(table.len());
        for row in 0..table.len() {
            if let Some(id) = table.id(row) {
                records.push((id, place_of_row(bytes, pack, row)?));
            }
        }
        Ok(records)
    }

    /// Bytes of a pack, by its index.
    #[must_use]
    pub fn pack_bytes(&self, pack: &PackId) -> Option<u64> {
        let bytes = self.loaded(self.slot(pack)?).bytes.as_ref()?;
        Index::open(bytes).ok().map(|index| index.pack_bytes)
    }

    /// Packs whose index file was missing or hurt, among those that were looked at, and the
    /// bytes that it should have.
    pub fn rebuilt(&self) -> impl Iterator<Item = (PackId, &Mapped)> {
        self.packs.iter().filter_map(|index| {
            let loaded = index.loaded.get().filter(|loaded| loaded.rebuilt)?;
            Some((index.pack, loaded.bytes.as_ref()?))
        })
    }

    /// What is wrong with packs whose records are not all known; looks at every pack.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        let loaded = self.packs.iter().map(|index| self.loaded(index));
        loaded.filter_map(|loaded| loaded.failure.as_deref())
    }

    fn slot(&self, pack: &PackId) -> Option<&Arc<PackIndex>> {
        let found = self.packs.binary_search_by_key(pack, |index| index.pack);
        self.packs.get(found.ok()?)
    }

    fn place(&self, slot: &PackIndex, id: &RecordId) -> Option<Place> {
        let bytes = self.loaded(slot).bytes.as_ref()?;
        let row = Index::open(bytes).ok()?.table.find(id)?;
        place_of_row(bytes, &slot.pack, row).ok()
    }

    fn loaded<'s>(&self, slot: &'s PackIndex) -> &'s Loaded {
        slot.loaded.get_or_init(|| load(&self.source, &slot.pack))
    }
}

fn place_of_row(bytes: &[u8], pack: &PackId, row: usize) -> Result<Place> {
    let table = Index::open(bytes)?.table;
    Ok(Place {
        origin: Origin::Pack(*pack),
        entry: table.entry(row)?,
        needs: table.needs(row)?.collect(),
    })
}

fn load(source: &Source, pack: &PackId) -> Loaded {
    let mapped = source.disk.map(&paths::index(pack)).ok();
    let whole = mapped.filter(|bytes| Index::check(bytes).is_ok_and(|index| index.pack == *pack));
    if whole.is_some() {
        return Loaded {
            bytes: whole,
            rebuilt: false,
            failure: None,
        };
    }
    match source.packs.rebuild_index(pack) {
        Ok((bytes, hurt)) => Loaded {
            bytes: Some(Mapped::of_bytes(bytes)),
            // What was put together from the records of a damaged pack is not written down.
            rebuilt: hurt.is_none(),
            failure: hurt.map(|error| error.to_string()),
        },
        Err(error) => Loaded {
            bytes: None,
            rebuilt: false,
            failure: Some(error.to_string()),
        },
    }
}
