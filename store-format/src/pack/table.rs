//! The table of a pack: what is known of every record without its bytes, found by id.
//!
//! ```text
//! table  fan-out 256 x u32 | ids n x 32 | entries n x 40 | needs m x 32
//! ```

use alloc::vec::Vec;

use super::{ALIGNMENT, PACK_HEADER_BYTES};
use crate::FormatError;
use crate::cursor::{Reader, put_u32, u64_of, usize_of};
use crate::ids::{ChunkId, ID_BYTES, RecordId};
use crate::limits;
use crate::record::{Coding, Kind, Predictor, RecordHeader};

const FANOUT_BYTES: usize = 256 * 4;
const ENTRY_BYTES: usize = 40;

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

    /// Bytes of the table.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        size_of_val(self.fanout)
            .saturating_add(size_of_val(self.ids))
            .saturating_add(size_of_val(self.entries))
            .saturating_add(size_of_val(self.needs))
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

fn too_many(records: usize) -> FormatError {
    let max = limits::PACK_RECORDS_MAX.into();
    FormatError::TooLarge {
        field: "records of a pack",
        value: u64_of(records),
        max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    const ROW: Entry = Entry {
        offset: 32,
        header_bytes: 100,
        stored_bytes: 1,
        plain_bytes: 1,
        kind: Kind::Chunk,
        predictor: Predictor::None,
        coding: Coding::Stored,
        depth: 0,
    };

    #[test]
    fn two_records_of_one_id_are_refused_in_a_pack() {
        let mut builder = TableBuilder::default();
        builder.push(ChunkId::of(b"x").into(), ROW, vec![]);
        builder.push(ChunkId::of(b"x").into(), ROW, vec![]);
        assert!(builder.encode().is_err());
    }

    #[test]
    fn rows_are_found_by_their_ids_and_by_the_digits_that_these_begin_with() {
        let mut builder = TableBuilder::default();
        for n in 0..300_u32 {
            builder.push(ChunkId::of(&n.to_le_bytes()).into(), ROW, vec![]);
        }
        let (bytes, needs) = builder.encode().unwrap();
        assert_eq!(needs, 0);
        let table = Table::open(&bytes, 300, 0).unwrap();
        for row in 0..table.len() {
            let id = table.id(row).unwrap();
            let digits = id.to_string();
            assert_eq!(table.find(&id), Some(row));
            assert_eq!(table.first_from(&digits), row);
            let first = (0..=row).find(|row| {
                let other = table.id(*row).unwrap().to_string();
                other.starts_with(&digits[..3])
            });
            assert_eq!(Some(table.first_from(&digits[..3])), first);
        }
        assert_eq!(table.first_from(""), 0);
        assert_eq!(table.find(&ChunkId::of(b"absent").into()), None);
    }

    #[test]
    fn rows_that_break_a_rule_are_refused() {
        let end = ROW.end().unwrap();
        assert!(ROW.check(end).is_ok());
        assert!(ROW.check(end - 1).is_err());
        let base = Predictor::Base;
        for row in [
            Entry { offset: 24, ..ROW },
            Entry { offset: 33, ..ROW },
            Entry {
                offset: u64::MAX - 7,
                ..ROW
            },
            Entry {
                header_bytes: 1,
                ..ROW
            },
            Entry {
                header_bytes: u32::MAX,
                ..ROW
            },
            Entry {
                stored_bytes: u64::MAX,
                ..ROW
            },
            Entry {
                plain_bytes: limits::CHUNK_BYTES_MAX + 1,
                ..ROW
            },
            Entry { depth: 1, ..ROW },
            Entry {
                predictor: base,
                ..ROW
            },
            Entry {
                predictor: base,
                depth: u8::MAX,
                ..ROW
            },
            Entry {
                predictor: base,
                depth: 1,
                kind: Kind::Tree,
                ..ROW
            },
        ] {
            assert!(row.check(limits::PACK_BYTES_MAX).is_err(), "{row:?}");
        }
    }
}
