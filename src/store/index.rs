//! Where each record is: the index files of all packs, opened as they are needed.
//!
//! May use: `error`, `disk`, `store::{merged, pack_read, paths}`. An index file is checked whole
//! before it is first believed, and is made again from its pack where it is missing or hurt.
//! A view never changes: what appears or goes is seen by the next one.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use store_format::ids::{ChunkId, PackId, RecordId};
use store_format::pack::{Entry, Index};
use store_format::record::Kind;

use crate::disk::Disk;
use crate::disk::mapped::Mapped;
use crate::error::{Error, Result};
use crate::store::files;
use crate::store::merged::{self, Merged};
use crate::store::pack_read::PackFiles;
use crate::store::paths;

/// Merged indexes up to this are checked whole when they are opened; larger ones by gc and fsck.
const CHECKED_BYTES_MAX: usize = 16 << 20;

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

/// One merged index of a view.
#[derive(Clone)]
pub struct MergedFile {
    /// Its name in the directory.
    pub name: String,
    bytes: Mapped,
}

/// The packs that were there at one moment.
pub struct View {
    source: Source,
    packs: Vec<Arc<PackIndex>>,
    merged: Vec<MergedFile>,
    /// Packs of no merged index: each is searched.
    single: Vec<Arc<PackIndex>>,
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
        // After the packs: an index that is merged now covers nothing that was not listed.
        let merged = load_merged(source, before)?;
        let covered: HashSet<_> = merged
            .iter()
            .filter_map(|file| Merged::open(&file.bytes).ok())
            .flat_map(|merged| merged.packs())
            .collect();
        let is_single = |index: &&Arc<PackIndex>| !covered.contains(&index.pack);
        Ok(Self {
            source: source.clone(),
            single: packs.iter().filter(is_single).cloned().collect(),
            packs,
            merged,
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
        let key = merged::key_of(id);
        let merged = self.merged.iter();
        let merged = merged.filter_map(|file| Merged::open(&file.bytes).ok());
        let mut packs: Vec<_> = merged.flat_map(|merged| merged.find(key)).collect();
        packs.sort_unstable();
        packs.dedup(); // merged indexes may overlap
        let slots = packs.iter().filter_map(|pack| self.slot(pack));
        let slots = slots.chain(&self.single);
        sorted(slots.filter_map(|slot| self.place(slot, id)).collect())
    }

    /// As [`View::places`], by the packs' own indexes alone: for when nothing was found.
    #[must_use]
    pub fn places_searched(&self, id: &RecordId) -> Vec<Place> {
        if self.merged.is_empty() {
            return Vec::new(); // every pack was searched
        }
        let slots = self.packs.iter();
        sorted(slots.filter_map(|slot| self.place(slot, id)).collect())
    }

    /// The merged indexes.
    #[must_use]
    pub fn merged(&self) -> &[MergedFile] {
        &self.merged
    }

    /// The same packs without the merged indexes that do not hold their check.
    #[must_use]
    pub fn checked(&self) -> Self {
        let mut merged = self.merged.clone();
        merged.retain(|file| Merged::check(&file.bytes).is_ok());
        let damaged = merged.len() < self.merged.len();
        Self {
            source: self.source.clone(),
            packs: self.packs.clone(),
            single: if damaged {
                self.packs.clone()
            } else {
                self.single.clone()
            },
            merged,
        }
    }

    /// Packs of no merged index.
    pub fn single(&self) -> impl Iterator<Item = PackId> {
        self.single.iter().map(|index| index.pack)
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
        let bytes = self.index_of(pack)?;
        let table = Index::open(bytes)?.table;
        let mut records = Vec::with_capacity(table.len());
        for row in 0..table.len() {
            if let Some(id) = table.id(row) {
                records.push((id, place_of_row(bytes, pack, row)?));
            }
        }
        Ok(records)
    }

    /// Looks at the id of every record of a pack, ascending. An index that was not open yet is
    /// not kept, so that looking at many takes the memory of one.
    ///
    /// # Errors
    /// As [`View::records`].
    pub fn each_id(&self, pack: &PackId, mut look: impl FnMut(RecordId)) -> Result<()> {
        self.with_index(pack, |bytes| {
            let table = Index::open(bytes)?.table;
            (0..table.len())
                .filter_map(|row| table.id(row))
                .for_each(&mut look);
            bytes.let_go();
            Ok(())
        })
    }

    /// How many records a pack holds, by its index's header where it was not open yet.
    ///
    /// # Errors
    /// As [`View::records`].
    pub fn records_len(&self, pack: &PackId) -> Result<usize> {
        let slot = self.slot(pack).ok_or_else(|| gone(pack))?;
        if slot.loaded.get().is_none()
            && let Ok(bytes) = self.source.disk.map(&paths::index(pack))
            && let Ok(index) = Index::open(&bytes)
        {
            return Ok(index.table.len());
        }
        self.with_index(pack, |bytes| Ok(Index::open(bytes)?.table.len()))
    }

    /// The index of a pack: the open one, or one that is closed again.
    fn with_index<T>(&self, pack: &PackId, use_it: impl FnOnce(&Mapped) -> Result<T>) -> Result<T> {
        let slot = self.slot(pack).ok_or_else(|| gone(pack))?;
        let passing;
        let loaded = match slot.loaded.get() {
            Some(loaded) => loaded,
            None => {
                passing = load(&self.source, pack);
                &passing
            }
        };
        let hurt = || Error::corrupt(loaded.failure.clone().unwrap_or_default());
        use_it(loaded.bytes.as_ref().ok_or_else(hurt)?)
    }

    fn index_of(&self, pack: &PackId) -> Result<&Mapped> {
        let loaded = self.loaded(self.slot(pack).ok_or_else(|| gone(pack))?);
        let hurt = || Error::corrupt(loaded.failure.clone().unwrap_or_default());
        loaded.bytes.as_ref().ok_or_else(hurt)
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

impl MergedFile {
    /// What it holds.
    ///
    /// # Errors
    /// `Corrupt` where it holds nothing that can be used.
    pub fn open(&self) -> Result<Merged<'_>> {
        Ok(Merged::open(&self.bytes)?)
    }
}

/// The merged indexes that can be used; they are never changed, so open ones stay.
fn load_merged(source: &Source, before: Option<&View>) -> Result<Vec<MergedFile>> {
    let known = before.map_or(&[][..], |view| &view.merged);
    let mut files = Vec::new();
    for name in files::list(&*source.disk, paths::MERGED)? {
        if let Some(file) = known.iter().find(|file| file.name == name) {
            files.push(file.clone());
        } else if let Ok(bytes) = source.disk.map(&format!("{}/{name}", paths::MERGED)) {
            let usable = if bytes.len() <= CHECKED_BYTES_MAX {
                Merged::check(&bytes).is_ok()
            } else {
                Merged::open(&bytes).is_ok()
            };
            if usable {
                files.push(MergedFile { name, bytes });
            }
        }
    }
    Ok(files)
}

fn gone(pack: &PackId) -> Error {
    Error::not_found(format!("pack {pack:.12} is not there"))
}

fn sorted(mut places: Vec<Place>) -> Vec<Place> {
    places.sort_by_key(|place| (place.entry.depth, place.entry.stored_bytes, place.origin));
    places
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
    if let Some(bytes) = whole {
        bytes.let_go(); // the check has read it from end to end, a search needs a few pages
        return Loaded {
            bytes: Some(bytes),
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
