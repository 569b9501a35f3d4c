//! The records of a damaged pack that can still be told apart and hold their checks.
//!
//! May use: `error`, `disk`, `store::{pack_read, paths}`. Believes no table: a record is what its
//! own header and check say, wherever it was found.

use std::collections::BTreeMap;

use store_format::ids::{PackId, RecordId};
use store_format::pack::{ALIGNMENT, Entry, Index, PACK_HEADER_BYTES};
use store_format::record::{RECORD_MAGIC, RecordHeader};

use crate::disk::Opened;
use crate::error::{IoContext, Result};
use crate::store::Shared;
use crate::store::pack_read::{StoredRecord, entry_of, read_entry, take_record};
use crate::store::paths;

/// Bytes that are searched for the start of a record at a time.
const SEARCHED_BYTES: usize = 1 << 20;

/// Gives every record that holds, each id once.
///
/// # Errors
/// Whatever `take` refuses; a pack that cannot be opened.
pub(super) fn salvage(
    shared: &Shared,
    pack: &PackId,
    take: &mut dyn FnMut(StoredRecord) -> Result<()>,
) -> Result<()> {
    let path = paths::pack(pack);
    let file = shared.disk.open(&path).at("open", &path)?;
    let mut places = searched(&*file);
    // Where a header was hurt, the tables may still know; where they were hurt, the search does.
    let table = shared
        .packs
        .rebuild_index(pack)
        .ok()
        .map(|(index, _)| index);
    let index = shared.disk.map(&paths::index(pack)).ok();
    let index = index.filter(|bytes| Index::check(bytes).is_ok());
    places.extend(listed(table.as_deref()));
    places.extend(listed(index.as_deref()));
    let mut taken = std::collections::HashSet::new();
    for (id, entry) in places.into_values() {
        let record = read_entry(&*file, &entry, &path);
        if let Ok(record) = record.and_then(|bytes| take_record(bytes, &id, &entry))
            && taken.insert(id)
        {
            take(record)?;
        }
    }
    Ok(())
}

type Places = BTreeMap<(u64, RecordId), (RecordId, Entry)>;

fn listed(index: Option<&[u8]>) -> Places {
    let Some(table) = index.and_then(|bytes| Index::open(bytes).ok()) else {
        return Places::new();
    };
    let table = table.table;
    (0..table.len())
        .filter_map(|row| Some((table.id(row)?, table.entry(row).ok()?)))
        .map(|(id, entry)| ((entry.offset, id), (id, entry)))
        .collect()
}

/// Looks for records wherever one may start.
fn searched(file: &dyn Opened) -> Places {
    let mut found = Places::new();
    let mut offset = PACK_HEADER_BYTES as u64;
    while offset < file.bytes() {
        let record = header_at(file, offset).map(|(header, header_bytes)| {
            let entry = entry_of(&header, offset, header_bytes);
            (header.id, entry)
        });
        let end = record.and_then(|(_, entry)| entry.end());
        if let (Some((id, entry)), Some(end)) = (record, end.filter(|end| *end <= file.bytes())) {
            found.insert((offset, id), (id, entry));
            offset = end.next_multiple_of(ALIGNMENT);
        } else if let Some(next) = next_magic(file, offset + ALIGNMENT) {
            offset = next;
        } else {
            break;
        }
    }
    found
}

fn header_at(file: &dyn Opened, start: u64) -> Option<(RecordHeader, usize)> {
    let mut first = [0; 8];
    file.read_at(start, &mut first).ok()?;
    let bytes = RecordHeader::length(&first).ok()?;
    if start.checked_add(bytes as u64)? > file.bytes() {
        return None;
    }
    let mut header = vec![0; bytes];
    file.read_at(start, &mut header).ok()?;
    Some((RecordHeader::decode(&header).ok()?, bytes))
}

/// The first aligned place from `offset` on that holds a record's magic.
fn next_magic(file: &dyn Opened, mut offset: u64) -> Option<u64> {
    let step = usize::try_from(ALIGNMENT).ok()?;
    let mut buffer = vec![0; SEARCHED_BYTES];
    while offset + (RECORD_MAGIC.len() as u64) <= file.bytes() {
        let left = usize::try_from(file.bytes() - offset).unwrap_or(usize::MAX);
        let part = &mut buffer[..left.min(SEARCHED_BYTES)];
        if file.read_at(offset, part).is_ok()
            && let Some(at) = part
                .chunks(step)
                .position(|aligned| aligned.starts_with(&RECORD_MAGIC))
        {
            return Some(offset + (at * step) as u64);
        }
        offset += part.len() as u64;
    }
    None
}
