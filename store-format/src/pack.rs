//! Packs: immutable files of records with a table at their end, and the index files that hold
//! the same table for mapping.
//!
//! ```text
//! pack   header (32) | records, each from a multiple of 8 | table | trailer (64)
//! index  header (64) | table | check (32)
//! table  fan-out 256 x u32 | ids n x 32 | entries n x 40 | needs m x 32
//! ```

use alloc::vec::Vec;

use crate::FormatError;
use crate::closed::closed;
use crate::cursor::{Reader, put_u32, u64_of, usize_of};
use crate::ids::{ChunkId, ID_BYTES, PackId, RecordId};
use crate::limits;
use crate::record::{Coding, Kind, Predictor, RecordHeader};

/// The first bytes of a pack.
pub const PACK_MAGIC: [u8; 8] = *b"SPARSEPK";
/// The last bytes of a pack.
pub const TRAILER_MAGIC: [u8; 8] = *b"SPARSEPT";
/// The first bytes of an index.
pub const INDEX_MAGIC: [u8; 8] = *b"SPARSEIX";
/// Bytes of a pack's header.
pub const PACK_HEADER_BYTES: usize = 32;
/// Bytes of a pack's trailer.
pub const TRAILER_BYTES: usize = 64;
/// Bytes of an index file's header.
pub const INDEX_HEADER_BYTES: usize = 64;
/// Bytes of the check at the end of an index file.
pub const INDEX_CHECK_BYTES: usize = 32;
/// Records and the table start at multiples of this.
pub const ALIGNMENT: u64 = 8;
/// The version of packs and indexes that this crate writes.
pub const PACK_VERSION: u16 = 1;

const FANOUT_BYTES: usize = 256 * 4;
const ENTRY_BYTES: usize = 40;

closed! {
    /// What the records of a pack hold: history can be read without touching data.
    PackKind, "pack kind";
    /// Chunks.
    Data = 0, "data";
    /// Manifests, trees, commits and attachments.
    Metadata = 1, "metadata";
}

impl PackKind {
    /// The kind of pack that a record belongs in.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Chunk => Self::Data,
            Kind::Manifest | Kind::Tree | Kind::Commit | Kind::Attachment => Self::Metadata,
        }
    }
}

/// The header of a pack. The nonce makes every pack's name new, so that a name that was once
/// deleted never comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackHeader {
    /// What the records hold.
    pub kind: PackKind,
    /// Random bytes.
    pub nonce: [u8; 16],
}

impl PackHeader {
    /// The 32 bytes of the header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PACK_HEADER_BYTES);
        out.extend_from_slice(&PACK_MAGIC);
        out.extend_from_slice(&PACK_VERSION.to_le_bytes());
        out.extend_from_slice(&u16::from(self.kind.number()).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.nonce);
        out
    }

    /// Reads a header from exactly its 32 bytes.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are no header of a version that this crate knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "pack header");
        if reader.array()? != PACK_MAGIC {
            return Err(FormatError::Invalid {
                rule: "a pack starts with its magic",
            });
        }
        check_version(reader.u16()?)?;
        let kind = PackKind::from_number(small(reader.u16()?, "pack kind")?)?;
        if reader.array()? != [0; 4] {
            return Err(FormatError::Invalid {
                rule: "reserved bytes of a pack are zero",
            });
        }
        let nonce = reader.array()?;
        reader.finish()?;
        Ok(Self { kind, nonce })
    }
}

/// What the table knows of one record: enough to plan, collect and transfer without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first byte of the record's header in the pack.
    pub offset: u64,
    /// Bytes of the header; the coded bytes follow.
    pub header_bytes: u32,
    /// Coded bytes.
    pub stored_bytes: u64,
    /// Bytes once rebuilt.
    pub plain_bytes: u64,
    /// What the record holds.
    pub kind: Kind,
    /// How its prediction is made.
    pub predictor: Predictor,
    /// How the prediction is corrected.
    pub coding: Coding,
    /// Steps to the deepest source.
    pub depth: u8,
}

impl Entry {
    /// The first byte after the record.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        self.offset
            .checked_add(self.header_bytes.into())?
            .checked_add(self.stored_bytes)
    }

    /// The rules of one row; `records_end` is where the table of its pack starts.
    fn check(&self, records_end: u64) -> Result<(), FormatError> {
        let limits = [
            (
                "plain bytes of a record",
                self.plain_bytes,
                limits::CHUNK_BYTES_MAX,
            ),
            (
                "stored bytes of a record",
                self.stored_bytes,
                limits::STORED_BYTES_MAX,
            ),
            (
                "record header",
                self.header_bytes.into(),
                limits::RECORD_HEADER_BYTES_MAX.into(),
            ),
            ("depth", self.depth.into(), limits::DEPTH_MAX.into()),
        ];
        for (field, value, max) in limits {
            if value > max {
                return Err(FormatError::TooLarge { field, value, max });
            }
        }
        let inside = self.offset >= u64_of(PACK_HEADER_BYTES)
            && self.offset.checked_rem(ALIGNMENT) == Some(0)
            && self.header_bytes >= RecordHeader::LEAST_BYTES
            && self.end().is_some_and(|end| end <= records_end);
        if !inside {
            return Err(FormatError::Invalid {
                rule: "a record lies between its pack's header and table",
            });
        }
        let predicted = self.predictor != Predictor::None;
        if (self.depth > 0) != predicted || (predicted && self.kind != Kind::Chunk) {
            return Err(FormatError::Invalid {
                rule: "a row of a table has depth 0 and no predictor, or both and is a chunk",
            });
        }
        Ok(())
    }
}

/// Collects the table of a pack while its records are written.
#[derive(Clone, Debug, Default)]
pub struct TableBuilder {
    rows: Vec<(RecordId, Entry, Vec<ChunkId>)>,
}

impl TableBuilder {
    /// Notes a record; `needs` are its sources and side chunks, ascending, each once.
    pub fn push(&mut self, id: RecordId, entry: Entry, needs: Vec<ChunkId>) {
        self.rows.push((id, entry, needs));
    }

    /// Records noted so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no record was noted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The bytes of the table, and how many needs it holds.
    ///
    /// # Errors
    /// [`FormatError`] where two records have one id, or there are too many.
    pub fn encode(mut self) -> Result<(Vec<u8>, u32), FormatError> {
        self.rows.sort_unstable_by_key(|(id, ..)| *id);
        if u64_of(self.rows.len()) > limits::PACK_RECORDS_MAX.into() {
            return Err(too_many(self.rows.len()));
        }
        let mut out = Vec::new();
        for first in 0..=u8::MAX {
            put_u32(
                &mut out,
                self.rows
                    .partition_point(|(id, ..)| id.as_bytes()[0] <= first),
            );
        }
        for (id, ..) in &self.rows {
            out.extend_from_slice(id.as_bytes());
        }
        let mut needs_count = 0_u32;
        for (_, entry, needs) in &self.rows {
            let count = u32::try_from(needs.len()).map_err(|_| too_many(needs.len()))?;
            out.extend_from_slice(&entry.offset.to_le_bytes());
            out.extend_from_slice(&entry.stored_bytes.to_le_bytes());
            out.extend_from_slice(&entry.plain_bytes.to_le_bytes());
            out.extend_from_slice(&entry.header_bytes.to_le_bytes());
            out.extend_from_slice(&[
                entry.kind.number(),
                entry.predictor.number(),
                entry.coding.number(),
                entry.depth,
            ]);
            out.extend_from_slice(&needs_count.to_le_bytes());
            out.extend_from_slice(&count.to_le_bytes());
            needs_count = needs_count
                .checked_add(count)
                .ok_or(too_many(needs.len()))?;
        }
        for need in self.rows.iter().flat_map(|(_, _, needs)| needs) {
            out.extend_from_slice(need.as_bytes());
        }
        // Rows are checked against the trailer, once it is known where the table starts.
        Table::open(&out, self.rows.len(), usize_of(needs_count.into())?)?
            .check(limits::PACK_BYTES_MAX)?;
        Ok((out, needs_count))
    }
}

/// A table over bytes that need not be trusted: every access is checked.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    fanout: &'a [[u8; 4]],
    ids: &'a [[u8; ID_BYTES]],
    entries: &'a [[u8; ENTRY_BYTES]],
    needs: &'a [[u8; ID_BYTES]],
}

impl<'a> Table<'a> {
    /// The length of a table of `records` records with `needs` needs.
    ///
    /// # Errors
    /// [`FormatError`] for more records than a pack may hold.
    pub fn length(records: usize, needs: usize) -> Result<usize, FormatError> {
        let fixed = records.checked_mul(ID_BYTES.saturating_add(ENTRY_BYTES));
        let needs = needs.checked_mul(ID_BYTES);
        let total = fixed
            .zip(needs)
            .and_then(|(a, b)| a.checked_add(b)?.checked_add(FANOUT_BYTES));
        match total {
            Some(bytes) if u64_of(records) <= limits::PACK_RECORDS_MAX.into() => Ok(bytes),
            _ => Err(too_many(records)),
        }
    }

    /// Takes `bytes` as a table; its length must fit exactly. Contents are checked on access,
    /// all at once by [`Table::check`].
    ///
    /// # Errors
    /// [`FormatError`] where the length does not fit.
    pub fn open(bytes: &'a [u8], records: usize, needs: usize) -> Result<Self, FormatError> {
        if Self::length(records, needs)? != bytes.len() {
            return Err(FormatError::Invalid {
                rule: "a table is as long as its counts say",
            });
        }
        let mut reader = Reader::new(bytes, "table");
        let fanout = reader.take(FANOUT_BYTES)?.as_chunks().0;
        let ids = reader.take(records.saturating_mul(ID_BYTES))?.as_chunks().0;
        let entries = reader
            .take(records.saturating_mul(ENTRY_BYTES))?
            .as_chunks()
            .0;
        let needs = reader.take(needs.saturating_mul(ID_BYTES))?.as_chunks().0;
        Ok(Self {
            fanout,
            ids,
            entries,
            needs,
        })
    }

    /// Records in the table.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Checks the whole table: order, fan-out, every entry, every range of needs. `records_end`
    /// is where the table of the pack starts.
    ///
    /// # Errors
    /// [`FormatError`] naming the first rule that does not hold.
    pub fn check(&self, records_end: u64) -> Result<(), FormatError> {
        if !self.ids.is_sorted_by(|a, b| a < b) {
            return Err(FormatError::Invalid {
                rule: "ids of a table ascend",
            });
        }
        for (first, count) in (0..=u8::MAX).zip(self.fanout) {
            let expected = self.ids.partition_point(|[byte, ..]| *byte <= first);
            if usize_of(u32::from_le_bytes(*count).into())? != expected {
                return Err(FormatError::Invalid {
                    rule: "a fan-out counts the ids up to it",
                });
            }
        }
        let mut next = 0;
        for index in 0..self.len() {
            let (entry, first, count) = self.row(index)?;
            entry.check(records_end)?;
            if first != next {
                return Err(FormatError::Invalid {
                    rule: "needs of a table follow each other",
                });
            }
            next = first.saturating_add(count);
            if !self.needs(index)?.is_sorted_by(|a, b| a < b) {
                return Err(FormatError::Invalid {
                    rule: "needs of a row ascend",
                });
            }
        }
        if next != self.needs.len() {
            return Err(FormatError::Invalid {
                rule: "needs of a table follow each other",
            });
        }
        Ok(())
    }

    /// The row of an id: one range of the fan-out, then a binary search.
    #[must_use]
    pub fn find(&self, id: &RecordId) -> Option<usize> {
        let [first, ..] = *id.as_bytes();
        let bound = |index: usize| {
            let count = self
                .fanout
                .get(index)
                .map_or(0, |count| u32::from_le_bytes(*count));
            usize_of(count.into())
                .unwrap_or(usize::MAX)
                .min(self.ids.len())
        };
        let end = bound(usize::from(first));
        let start = usize::from(first).checked_sub(1).map_or(0, bound);
        let range = self.ids.get(start..end)?;
        range
            .binary_search(id.as_bytes())
            .ok()
            .map(|index| index.saturating_add(start))
    }

    /// The first row whose id is not before one that begins with these hex digits.
    #[must_use]
    pub fn first_from(&self, digits: &str) -> usize {
        let before = |id: &[u8; ID_BYTES]| {
            let mut nibbles = id.iter().flat_map(|byte| [byte >> 4, byte & 15]);
            for digit in digits.chars().filter_map(|digit| digit.to_digit(16)) {
                match nibbles.next().map(u32::from) {
                    Some(nibble) if nibble != digit => return nibble < digit,
                    _ => {}
                }
            }
            false
        };
        self.ids.partition_point(before)
    }

    /// The id of a row.
    #[must_use]
    pub fn id(&self, index: usize) -> Option<RecordId> {
        self.ids.get(index).copied().map(RecordId::from_bytes)
    }

    /// What the table knows of a row.
    ///
    /// # Errors
    /// [`FormatError`] where the row does not exist or holds unknown numbers.
    pub fn entry(&self, index: usize) -> Result<Entry, FormatError> {
        self.row(index).map(|(entry, ..)| entry)
    }

    /// The sources and side chunks of a row.
    ///
    /// # Errors
    /// [`FormatError`] where the row does not exist or names needs outside the table.
    pub fn needs(
        &self,
        index: usize,
    ) -> Result<impl Iterator<Item = ChunkId> + use<'a>, FormatError> {
        let (_, first, count) = self.row(index)?;
        let range = first
            .checked_add(count)
            .and_then(|end| self.needs.get(first..end));
        let range = range.ok_or(FormatError::Invalid {
            rule: "needs lie within their table",
        })?;
        Ok(range.iter().copied().map(ChunkId::from_bytes))
    }

    fn row(&self, index: usize) -> Result<(Entry, usize, usize), FormatError> {
        let bytes = self
            .entries
            .get(index)
            .ok_or(FormatError::Truncated { what: "table" })?;
        let mut reader = Reader::new(bytes, "table");
        let offset = reader.u64()?;
        let stored_bytes = reader.u64()?;
        let plain_bytes = reader.u64()?;
        let header_bytes = reader.u32()?;
        let entry = Entry {
            offset,
            header_bytes,
            stored_bytes,
            plain_bytes,
            kind: Kind::from_number(reader.u8()?)?,
            predictor: Predictor::from_number(reader.u8()?)?,
            coding: Coding::from_number(reader.u8()?)?,
            depth: reader.u8()?,
        };
        Ok((
            entry,
            usize_of(reader.u32()?.into())?,
            usize_of(reader.u32()?.into())?,
        ))
    }
}

/// The last 64 bytes of a pack: where the table is, and its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// The first byte of the table.
    pub table_offset: u64,
    /// Records in the table.
    pub records: u32,
    /// Needs in the table.
    pub needs: u32,
    /// BLAKE3 of the table's bytes.
    pub table_check: [u8; 32],
}

impl Trailer {
    /// The 64 bytes of the trailer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(TRAILER_BYTES);
        out.extend_from_slice(&self.table_offset.to_le_bytes());
        out.extend_from_slice(&self.records.to_le_bytes());
        out.extend_from_slice(&self.needs.to_le_bytes());
        out.extend_from_slice(&self.table_check);
        out.extend_from_slice(&PACK_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&TRAILER_MAGIC);
        out
    }

    /// Reads a trailer from exactly its 64 bytes, for a pack of `pack_bytes` bytes.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are no trailer of such a pack.
    pub fn decode(bytes: &[u8], pack_bytes: u64) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "pack trailer");
        let table_offset = reader.u64()?;
        let records = reader.u32()?;
        let needs = reader.u32()?;
        let table_check = reader.array()?;
        let version = reader.u16()?;
        let reserved: [u8; 6] = reader.array()?;
        let magic: [u8; 8] = reader.array()?;
        reader.finish()?;
        if magic != TRAILER_MAGIC {
            return Err(FormatError::Invalid {
                rule: "a pack ends with its magic",
            });
        }
        check_version(version)?;
        if pack_bytes > limits::PACK_BYTES_MAX {
            return Err(FormatError::TooLarge {
                field: "bytes of a pack",
                value: pack_bytes,
                max: limits::PACK_BYTES_MAX,
            });
        }
        let trailer = Self {
            table_offset,
            records,
            needs,
            table_check,
        };
        let end = table_offset
            .checked_add(u64_of(trailer.table_bytes()?))
            .and_then(|end| end.checked_add(u64_of(TRAILER_BYTES)));
        let aligned = table_offset.checked_rem(ALIGNMENT) == Some(0);
        let after_header = table_offset >= u64_of(PACK_HEADER_BYTES);
        if end != Some(pack_bytes) || !aligned || !after_header || reserved != [0; 6] {
            return Err(FormatError::Invalid {
                rule: "a pack's table lies before its trailer",
            });
        }
        Ok(trailer)
    }

    /// Bytes of the table.
    ///
    /// # Errors
    /// [`FormatError`] for more records than a pack may hold.
    pub fn table_bytes(&self) -> Result<usize, FormatError> {
        Table::length(usize_of(self.records.into())?, usize_of(self.needs.into())?)
    }

    /// Takes `bytes` as this trailer's table, after comparing its check.
    ///
    /// # Errors
    /// [`FormatError`] where the check or the contents do not hold.
    pub fn table<'a>(&self, bytes: &'a [u8]) -> Result<Table<'a>, FormatError> {
        if *blake3::hash(bytes).as_bytes() != self.table_check {
            return Err(FormatError::Checksum {
                what: "the table of a pack",
            });
        }
        let table = Table::open(
            bytes,
            usize_of(self.records.into())?,
            usize_of(self.needs.into())?,
        )?;
        table.check(self.table_offset)?;
        Ok(table)
    }
}

/// An index file: the table of one pack, for mapping.
#[derive(Clone, Copy, Debug)]
pub struct Index<'a> {
    /// The pack whose table this is.
    pub pack: PackId,
    /// Bytes of that pack.
    pub pack_bytes: u64,
    /// The table.
    pub table: Table<'a>,
}

impl<'a> Index<'a> {
    /// The bytes of an index file over an encoded table.
    #[must_use]
    pub fn encode(pack: &PackId, pack_bytes: u64, trailer: &Trailer, table: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(table.len().saturating_add(128));
        out.extend_from_slice(&INDEX_MAGIC);
        out.extend_from_slice(&PACK_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&trailer.records.to_le_bytes());
        out.extend_from_slice(&trailer.needs.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(pack.as_bytes());
        out.extend_from_slice(&pack_bytes.to_le_bytes());
        out.extend_from_slice(table);
        let check = blake3::hash(&out);
        out.extend_from_slice(check.as_bytes());
        out
    }

    /// Takes `bytes` as an index file. Only lengths and the header are checked here, so that
    /// opening a mapped file touches one page; [`Index::check`] does the rest.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are no index of a version that this crate knows.
    pub fn open(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "index");
        if reader.array()? != INDEX_MAGIC {
            return Err(FormatError::Invalid {
                rule: "an index starts with its magic",
            });
        }
        check_version(reader.u16()?)?;
        let reserved = reader.u16()?;
        let records = usize_of(reader.u32()?.into())?;
        let needs = usize_of(reader.u32()?.into())?;
        if reserved != 0 || reader.u32()? != 0 {
            return Err(FormatError::Invalid {
                rule: "reserved bytes of an index are zero",
            });
        }
        let pack = PackId::from_bytes(reader.array()?);
        let pack_bytes = reader.u64()?;
        let table = reader.take(Table::length(records, needs)?)?;
        reader.take(INDEX_CHECK_BYTES)?;
        reader.finish()?;
        Ok(Self {
            pack,
            pack_bytes,
            table: Table::open(table, records, needs)?,
        })
    }

    /// Checks an index file whole.
    ///
    /// # Errors
    /// [`FormatError`] naming the first rule that does not hold.
    pub fn check(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let index = Self::open(bytes)?;
        let check = bytes.split_last_chunk::<INDEX_CHECK_BYTES>();
        let (covered, check) = check.ok_or(FormatError::Truncated { what: "index" })?;
        if blake3::hash(covered).as_bytes() != check {
            return Err(FormatError::Checksum { what: "an index" });
        }
        // What the pack has after its records: the table and the trailer.
        let after = u64_of(bytes.len())
            .checked_sub(u64_of(INDEX_HEADER_BYTES.saturating_add(INDEX_CHECK_BYTES)))
            .and_then(|table| table.checked_add(u64_of(TRAILER_BYTES)));
        let records_end = after.and_then(|after| index.pack_bytes.checked_sub(after));
        index.table.check(records_end.unwrap_or(0))?;
        Ok(index)
    }
}

fn check_version(version: u16) -> Result<(), FormatError> {
    if version == PACK_VERSION {
        Ok(())
    } else {
        Err(FormatError::Unsupported {
            feature: version.into(),
        })
    }
}

fn small(value: u16, field: &'static str) -> Result<u8, FormatError> {
    u8::try_from(value).map_err(|_| FormatError::Unknown {
        field,
        value: value.into(),
    })
}

fn too_many(records: usize) -> FormatError {
    let max = limits::PACK_RECORDS_MAX.into();
    FormatError::TooLarge {
        field: "records of a pack",
        value: u64_of(records),
        max,
    }
}
