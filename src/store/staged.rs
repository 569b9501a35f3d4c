//! What a transaction has appended: pack files under temporary names.
//!
//! May use: `error`, `disk`, `store::{files, host, index, pack_read, pack_write}`. After a failed
//! write the transaction is over: what the file holds is not known.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use store_format::ids::RecordId;
use store_format::pack::{Entry, PackKind};
use store_format::record::RecordHeader;

use crate::disk::{Disk, Opened};
use crate::error::{Error, IoContext, Result};
use crate::store::files;
use crate::store::host::Host;
use crate::store::index::{Origin, Place};
use crate::store::pack_read::{StoredRecord, read_entry, take_record};
use crate::store::pack_write::{PackWriter, WrittenPack};

/// When a pack is full enough to start another.
#[derive(Clone, Copy, Debug)]
pub struct PackSizes {
    /// Bytes of a pack of chunks.
    pub data_bytes: u64,
    /// Bytes of a pack of objects.
    pub metadata_bytes: u64,
}

impl Default for PackSizes {
    fn default() -> Self {
        // One upload or eight parts of one; objects apart, so that history is read without data.
        Self {
            data_bytes: 64 << 20,
            metadata_bytes: 4 << 20,
        }
    }
}

/// The appended records of one transaction.
pub struct Staged {
    disk: Arc<dyn Disk>,
    host: Host,
    dir: String,
    sizes: PackSizes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: HashMap<RecordId, Place>,
    files: Vec<StagedFile>,
    /// The file that records of a kind go to, by the kind's number.
    current: [Option<usize>; 2],
    full_packs: usize,
    failed: bool,
    finished: Option<Vec<WrittenPack>>,
}

struct StagedFile {
    path: String,
    opened: Option<Arc<dyn Opened>>,
    state: FileState,
}

enum FileState {
    Writing(Box<PackWriter>),
    Written(WrittenPack),
    /// Its end failed.
    Lost,
}

impl Staged {
    /// Nothing yet; files will lie in `dir`.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, host: Host, dir: String, sizes: PackSizes) -> Self {
        Self {
            disk,
            host,
            dir,
            sizes,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record; one that was added before is not added again.
    ///
    /// # Errors
    /// A header that breaks a rule; a failure of the disk, after which nothing more goes.
    pub fn append(&self, header: &RecordHeader, coded: &[u8]) -> Result<()> {
        let mut state = self.lock();
        if state.failed {
            return Err(over());
        }
        if state.rows.contains_key(&header.id) {
            return Ok(());
        }
        let added = self.add(&mut state, header, coded);
        state.failed = added.is_err();
        added
    }

    fn add(&self, state: &mut State, header: &RecordHeader, coded: &[u8]) -> Result<()> {
        let kind = PackKind::of(header.kind);
        let slot = usize::from(kind.number());
        let index = match state.current.get(slot).copied().flatten() {
            Some(index) => index,
            None => self.start(state, kind)?,
        };
        let full_bytes = match kind {
            PackKind::Data => self.sizes.data_bytes,
            PackKind::Metadata => self.sizes.metadata_bytes,
        };
        let file = state.files.get_mut(index).ok_or_else(over)?;
        let FileState::Writing(writer) = &mut file.state else {
            return Err(over());
        };
        let place = Place {
            origin: Origin::Staged(index),
            entry: writer.append(header, coded)?,
            needs: header.recipe.needs(),
        };
        state.rows.insert(header.id, place);
        if writer.bytes() >= full_bytes {
            file.end()?;
            state.full_packs += 1;
            state.current = state.current.map(|c| c.filter(|current| *current != index));
        }
        Ok(())
    }

    fn start(&self, state: &mut State, kind: PackKind) -> Result<usize> {
        let index = state.files.len();
        let path = format!("{}/p{index}", self.dir);
        let nonce = files::random(&self.host)?;
        let writer = PackWriter::create(&*self.disk, path.clone(), kind, nonce)?;
        state.files.push(StagedFile {
            path,
            opened: None,
            state: FileState::Writing(Box::new(writer)),
        });
        if let Some(current) = state.current.get_mut(usize::from(kind.number())) {
            *current = Some(index);
        }
        Ok(index)
    }

    /// The appended record of an id.
    #[must_use]
    pub fn place(&self, id: &RecordId) -> Option<Place> {
        self.lock().rows.get(id).cloned()
    }

    /// Whether nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().rows.is_empty()
    }

    /// Every appended record.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        self.lock().rows.values().cloned().collect()
    }

    /// Reads an appended record back.
    ///
    /// # Errors
    /// `Corrupt` where it is not what was appended; a failure of the disk.
    pub fn read(&self, index: usize, id: &RecordId, entry: &Entry) -> Result<StoredRecord> {
        let (file, path) = {
            let mut state = self.lock();
            let file = state.files.get_mut(index).ok_or_else(over)?;
            if let FileState::Writing(writer) = &file.state {
                let bytes = u64::from(entry.header_bytes) + entry.stored_bytes;
                if let Some(waiting) = writer.waiting(entry.offset, bytes) {
                    return take_record(waiting.to_vec(), id, entry);
                }
            }
            let opened = match &file.opened {
                // A file that has grown since it was opened is opened again for its new length.
                Some(opened) if entry.end().is_some_and(|end| end <= opened.bytes()) => {
                    Arc::clone(opened)
                }
                _ => self.disk.open(&file.path).at("open", &file.path)?,
            };
            file.opened = Some(Arc::clone(&opened));
            (opened, file.path.clone())
        };
        take_record(read_entry(&*file, entry, &path)?, id, entry)
    }

    /// The packs that are full and durable, with their numbers.
    #[must_use]
    pub fn written(&self) -> Vec<(usize, WrittenPack)> {
        let state = self.lock();
        let files = state.files.iter().enumerate();
        let written = files.filter_map(|(index, file)| match &file.state {
            FileState::Written(pack) => Some((index, pack.clone())),
            FileState::Writing(_) | FileState::Lost => None,
        });
        written.collect()
    }

    /// How many packs are full.
    #[must_use]
    pub fn full_packs(&self) -> usize {
        self.lock().full_packs
    }

    /// Gives packs their names by `name`; nobody looks for them meanwhile.
    ///
    /// # Errors
    /// What `name` fails with.
    pub fn rename(
        &self,
        packs: &[(usize, String)],
        name: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut state = self.lock();
        name()?;
        for (index, path) in packs {
            if let Some(file) = state.files.get_mut(*index) {
                if let FileState::Written(pack) = &mut file.state {
                    pack.path.clone_from(path);
                }
                file.opened = None;
                file.path.clone_from(path);
            }
        }
        Ok(())
    }

    /// Ends every file, durably; asked again, it gives the same packs.
    ///
    /// # Errors
    /// A failure of the disk, now or before.
    pub fn finish(&self) -> Result<Vec<WrittenPack>> {
        let mut state = self.lock();
        if let Some(packs) = &state.finished {
            return Ok(packs.clone());
        }
        if state.failed {
            return Err(over());
        }
        state.failed = true; // nothing more is appended
        let mut packs = Vec::new();
        for file in &mut state.files {
            file.end()?;
            match &file.state {
                FileState::Written(pack) => packs.push(pack.clone()),
                FileState::Writing(_) | FileState::Lost => return Err(over()),
            }
        }
        state.finished = Some(packs.clone());
        Ok(packs)
    }
}

impl StagedFile {
    fn end(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, FileState::Lost) {
            FileState::Writing(writer) => {
                self.state = FileState::Written(writer.finish()?);
                Ok(())
            }
            FileState::Written(pack) => {
                self.state = FileState::Written(pack);
                Ok(())
            }
            FileState::Lost => Err(over()),
        }
    }
}

fn over() -> Error {
    Error::conflict("the transaction is over: a write failed, or it was published")
        .hint("run the command again")
}
