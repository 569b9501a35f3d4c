//! Reading of packs by position: single records, and the table where the index is lost.
//!
//! May use: `error`, `disk`, `store::paths`. Every length is checked against what the
//! index said and the format allows before anything is allocated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use store_format::FormatError;
use store_format::ids::{PackId, RecordId};
use store_format::limits;
use store_format::pack::{
    ALIGNMENT, Entry, Index, PACK_HEADER_BYTES, PackHeader, TRAILER_BYTES, TableBuilder, Trailer,
};
use store_format::record::{RecordHeader, check_of};

use crate::disk::{Disk, Opened};
use crate::error::{Error, IoContext, Result};
use crate::store::paths;

/// Files that stay open at once.
const OPEN_MAX: usize = 256;

/// A record as it is stored: everything that is needed to rebuild its bytes but its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// What it holds and how it is rebuilt.
    pub header: RecordHeader,
    /// The coded bytes; their check was compared.
    pub coded: Vec<u8>,
}

/// The packs of a store, opened as they are needed.
pub struct PackFiles {
    disk: Arc<dyn Disk>,
    open: Mutex<HashMap<PackId, Arc<dyn Opened>>>,
}

impl PackFiles {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self {
            disk,
            open: Mutex::default(),
        }
    }

    /// A pack's file.
    ///
    /// # Errors
    /// `NotFound` for a pack that is gone; a failure of the disk.
    pub fn file(&self, pack: &PackId) -> Result<Arc<dyn Opened>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(pack) {
            return Ok(Arc::clone(file));
        }
        if open.len() >= OPEN_MAX {
            open.clear(); // whoever reads one keeps it until he is done
        }
        let path = paths::pack(pack);
        let file = self.disk.open(&path).at("open", &path)?;
        open.insert(*pack, Arc::clone(&file));
        Ok(file)
    }

    /// Reads one record and checks it against its index entry.
    ///
    /// # Errors
    /// `Corrupt`, naming the pack, where the bytes are not that record; a failure of the disk.
    pub fn record(&self, pack: &PackId, id: &RecordId, entry: &Entry) -> Result<StoredRecord> {
        let file = self.file(pack)?;
        let path = paths::pack(pack);
        let bytes = read_entry(&*file, entry, &path)?;
        take_record(bytes, id, entry).map_err(|error| damaged(error, &path))
    }

    /// Closes the file of a pack that is gone.
    pub fn forget(&self, pack: &PackId) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(pack);
    }

    /// The index of a pack, made from its table, or from its records where the table is hurt;
    /// and in the latter case what is hurt.
    ///
    /// # Errors
    /// `Corrupt`, naming the pack; a failure of the disk.
    pub fn rebuild_index(&self, pack: &PackId) -> Result<(Vec<u8>, Option<Error>)> {
        let file = self.file(pack)?;
        let path = paths::pack(pack);
        match index_of_table(&*file, pack) {
            Ok(index) => Ok((index, None)),
            Err(Read::Disk(error)) => Err(error).at("read", &path),
            Err(Read::Format(hurt)) => {
                let hurt = damaged(hurt.into(), &path);
                match index_of_records(&*file, pack) {
                    Ok(index) => Ok((index, Some(hurt))),
                    Err(Read::Disk(error)) => Err(error).at("read", &path),
                    Err(Read::Format(_)) => Err(hurt),
                }
            }
        }
    }
}

fn damaged(error: Error, path: &str) -> Error {
    error
        .while_doing(format!("'{path}' is damaged"))
        .hint("run 'sparse fsck' to see what is hurt and what can be healed")
}

/// The bytes of a record, header and all.
///
/// # Errors
/// `Corrupt` for an entry beyond the limits or the file; a failure of the disk.
pub fn read_entry(file: &dyn Opened, entry: &Entry, path: &str) -> Result<Vec<u8>> {
    let header_bytes = entry.header_bytes.min(limits::RECORD_HEADER_BYTES_MAX + 1);
    let within = header_bytes <= limits::RECORD_HEADER_BYTES_MAX
        && entry.stored_bytes <= limits::STORED_BYTES_MAX
        && entry.end().is_some_and(|end| end <= file.bytes());
    if !within {
        let outside = Error::corrupt("a record lies outside its pack");
        return Err(damaged(outside, path));
    }
    let bytes = u64::from(header_bytes) + entry.stored_bytes;
    let mut record = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
    file.read_at(entry.offset, &mut record).at("read", path)?;
    Ok(record)
}

/// Takes bytes as the record of an index entry.
///
/// # Errors
/// `Corrupt` where they are not.
pub fn take_record(mut bytes: Vec<u8>, id: &RecordId, entry: &Entry) -> Result<StoredRecord> {
    let header_bytes = usize::try_from(entry.header_bytes).unwrap_or(usize::MAX);
    if header_bytes > bytes.len() {
        return Err(Error::corrupt("a record is cut short"));
    }
    let coded = bytes.split_off(header_bytes);
    let header = RecordHeader::decode(&bytes)?;
    let agrees = header.id == *id
        && header.kind == entry.kind
        && header.plain_bytes == entry.plain_bytes
        && header.stored_bytes == entry.stored_bytes
        && header.stored_bytes == coded.len() as u64
        && header.recipe.predictor == entry.predictor
        && header.recipe.coding == entry.coding
        && header.recipe.depth == entry.depth;
    if !agrees {
        return Err(Error::corrupt(format!(
            "the record of {id:.12} is not what the index says"
        )));
    }
    if check_of(&coded) != header.stored_check {
        return Err(Error::corrupt(format!(
            "the stored bytes of {id:.12} are damaged"
        )));
    }
    Ok(StoredRecord { header, coded })
}

enum Read {
    Disk(std::io::Error),
    Format(FormatError),
}

impl From<std::io::Error> for Read {
    fn from(error: std::io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<FormatError> for Read {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

fn read_part(file: &dyn Opened, start: u64, bytes: usize) -> std::result::Result<Vec<u8>, Read> {
    let end = start.checked_add(bytes as u64);
    if end.is_none_or(|end| end > file.bytes()) {
        return Err(FormatError::Truncated { what: "a pack" }.into());
    }
    let mut part = vec![0; bytes];
    file.read_at(start, &mut part)?;
    Ok(part)
}

fn index_of_table(file: &dyn Opened, pack: &PackId) -> std::result::Result<Vec<u8>, Read> {
    PackHeader::decode(&read_part(file, 0, PACK_HEADER_BYTES)?)?;
    let trailer_start = file.bytes().saturating_sub(TRAILER_BYTES as u64);
    let trailer = Trailer::decode(
        &read_part(file, trailer_start, TRAILER_BYTES)?,
        file.bytes(),
    )?;
    let table = read_part(file, trailer.table_offset, trailer.table_bytes()?)?;
    trailer.table(&table)?;
    Ok(Index::encode(pack, file.bytes(), &trailer, &table))
}

/// Walks the headers of the records from the start, as far as they hold.
fn index_of_records(file: &dyn Opened, pack: &PackId) -> std::result::Result<Vec<u8>, Read> {
    PackHeader::decode(&read_part(file, 0, PACK_HEADER_BYTES)?)?;
    let mut table = TableBuilder::default();
    let mut seen = std::collections::HashSet::new();
    let mut offset = PACK_HEADER_BYTES as u64;
    while let Ok(start) = read_part(file, offset, 8) {
        // The table, or what is hurt: nothing behind it can be told apart from coded bytes.
        let Ok(header_bytes) = RecordHeader::length(&start) else {
            break;
        };
        let Ok(header) = RecordHeader::decode(&read_part(file, offset, header_bytes)?) else {
            break;
        };
        let entry = Entry {
            offset,
            header_bytes: u32::try_from(header_bytes).unwrap_or(u32::MAX),
            stored_bytes: header.stored_bytes,
            plain_bytes: header.plain_bytes,
            kind: header.kind,
            predictor: header.recipe.predictor,
            coding: header.recipe.coding,
            depth: header.recipe.depth,
        };
        let Some(end) = entry.end().filter(|end| *end <= file.bytes()) else {
            break;
        };
        if seen.insert(header.id) {
            table.push(header.id, entry, header.recipe.needs());
        }
        offset = end.next_multiple_of(ALIGNMENT);
    }
    if table.is_empty() {
        return Err(FormatError::Truncated { what: "a pack" }.into());
    }
    let records = u32::try_from(table.len()).unwrap_or(u32::MAX);
    let (table, needs) = table.encode()?;
    let trailer = Trailer {
        table_offset: offset,
        records,
        needs,
        table_check: *blake3::hash(&table).as_bytes(),
    };
    Ok(Index::encode(pack, file.bytes(), &trailer, &table))
}
