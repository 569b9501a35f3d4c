//! Packs: immutable files of records with a table at their end, and the index files that hold
//! the same table for mapping.
//!
//! ```text
//! pack   header (32) | records, each from a multiple of 8 | table | trailer (64)
//! index  header (64) | table | check (32)
//! ```

mod table;

use alloc::vec::Vec;

use crate::FormatError;
use crate::closed::closed;
use crate::cursor::{Reader, u64_of, usize_of};
use crate::ids::PackId;
use crate::limits;
use crate::record::Kind;

pub use self::table::{Entry, Table, TableBuilder};

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
        index.table.check(index.records_end().unwrap_or(0))?;
        Ok(index)
    }

    /// Where the pack's records end and its table begins; nothing where the pack is said to be
    /// shorter than its table.
    #[must_use]
    pub fn records_end(&self) -> Option<u64> {
        let after = self.table.bytes().checked_add(TRAILER_BYTES)?;
        self.pack_bytes.checked_sub(u64_of(after))
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
