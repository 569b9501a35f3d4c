//! Writing of one pack: records one after the other, hashed on the way, a table at the end.
//!
//! May use: `error`, `disk`. Must never write to a file that has its final name.

use store_format::ids::PackId;
use store_format::pack::{ALIGNMENT, Entry, Index, PackHeader, PackKind, TableBuilder, Trailer};
use store_format::record::RecordHeader;

use crate::disk::{Disk, Draft};
use crate::error::{IoContext, Result};

/// Small records wait for each other up to this, so that each is not a call of its own.
const WAITING_BYTES_MAX: usize = 1 << 18;

/// Room is asked for in steps of this, so that a full disk shows early and small packs ask none.
const RESERVE_BYTES: u64 = 8 << 20;

/// A pack that is being written.
pub struct PackWriter {
    draft: Box<dyn Draft>,
    path: String,
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
    written_bytes: u64,
    reserved_bytes: u64,
    table: TableBuilder,
}

/// A pack that is complete and durable, but for its name.
#[derive(Clone, Debug)]
pub struct WrittenPack {
    /// Its name.
    pub id: PackId,
    /// Its length.
    pub bytes: u64,
    /// Where it lies for now.
    pub path: String,
    /// Its index, the bytes of an index file.
    pub index: Vec<u8>,
}

impl PackWriter {
    /// Starts a pack under a temporary name that is free.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn create(disk: &dyn Disk, path: String, kind: PackKind, nonce: [u8; 16]) -> Result<Self> {
        Ok(Self {
            draft: disk.create(&path).at("create", &path)?,
            path,
            hasher: blake3::Hasher::new(),
            waiting: PackHeader { kind, nonce }.encode(),
            written_bytes: 0,
            reserved_bytes: RESERVE_BYTES / 8,
            table: TableBuilder::default(),
        })
    }

    /// Adds a record. No other record of the pack may have its id.
    ///
    /// # Errors
    /// A header that breaks a rule of the format; a failure of the disk.
    pub fn append(&mut self, header: &RecordHeader, coded: &[u8]) -> Result<Entry> {
        let mut head = Vec::new();
        header.encode(&mut head)?;
        let entry = Entry {
            offset: self.align(),
            header_bytes: u32::try_from(head.len()).unwrap_or(u32::MAX),
            stored_bytes: coded.len() as u64,
            plain_bytes: header.plain_bytes,
            kind: header.kind,
            predictor: header.recipe.predictor,
            coding: header.recipe.coding,
            depth: header.recipe.depth,
        };
        self.waiting.extend_from_slice(&head);
        if self.waiting.len() + coded.len() > WAITING_BYTES_MAX {
            self.write_waiting()?;
            self.write(coded)?;
        } else {
            self.waiting.extend_from_slice(coded);
        }
        self.table.push(header.id, entry, header.recipe.needs());
        Ok(entry)
    }

    /// Bytes so far, written or waiting.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.written_bytes + self.waiting.len() as u64
    }

    /// Records so far.
    #[must_use]
    pub fn records(&self) -> usize {
        self.table.len()
    }

    /// A part of what is not in the file yet; nothing if the part is, or is not there at all.
    #[must_use]
    pub fn waiting(&self, start: u64, bytes: u64) -> Option<&[u8]> {
        let from = usize::try_from(start.checked_sub(self.written_bytes)?).ok()?;
        let to = from.checked_add(usize::try_from(bytes).ok()?)?;
        self.waiting.get(from..to)
    }

    /// Ends the pack: table, trailer, synchronisation of the content.
    ///
    /// # Errors
    /// A failure of the disk, after which the pack must be written anew from its source.
    pub fn finish(mut self) -> Result<WrittenPack> {
        let table_offset = self.align();
        let records = u32::try_from(self.table.len()).unwrap_or(u32::MAX);
        let (table, needs) = std::mem::take(&mut self.table).encode()?;
        let trailer = Trailer {
            table_offset,
            records,
            needs,
            table_check: *blake3::hash(&table).as_bytes(),
        };
        self.waiting.extend_from_slice(&table);
        self.waiting.extend_from_slice(&trailer.encode());
        self.write_waiting()?;
        let id = PackId::from_bytes(*self.hasher.finalize().as_bytes());
        self.draft.sync().at("synchronise", &self.path)?;
        Ok(WrittenPack {
            id,
            bytes: self.written_bytes,
            path: self.path,
            index: Index::encode(&id, self.written_bytes, &trailer, &table),
        })
    }

    /// Fills up to where a record may start.
    fn align(&mut self) -> u64 {
        while !self.bytes().is_multiple_of(ALIGNMENT) {
            self.waiting.push(0);
        }
        self.bytes()
    }

    fn write_waiting(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.write(&waiting)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.written_bytes + bytes.len() as u64;
        if end > self.reserved_bytes {
            // In large steps, so that the file lies together; on a disk that is nearly full only
            // what is needed.
            self.reserved_bytes = end + RESERVE_BYTES;
            if self.draft.reserve(self.reserved_bytes).is_err() {
                self.reserved_bytes = end;
                let reserved = self.draft.reserve(end);
                reserved.at("reserve room for", &self.path)?;
            }
        }
        self.hasher.update(bytes);
        self.draft.append(bytes).at("write to", &self.path)?;
        self.written_bytes = end;
        Ok(())
    }
}
