//! Numbered reference tables: created if absent, the newest valid one is the state of the store.
//!
//! May use: `error`, `disk`, `store::{files, ops, paths}`. Finds the newest by listing, never by
//! probing the next number: behind a hole that cleaning left, probing shows an old state.

use std::io;

use store_format::ids::TableId;
use store_format::reference::{
    ReferenceTable, TABLE_MAGIC, decode_file, encode_file, file_bytes_max,
};

use crate::disk::Disk;
use crate::error::{Error, IoContext, Kind, Result};
use crate::store::files;
use crate::store::ops;
use crate::store::paths;

/// Which old tables the cleaner leaves.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// The newest so many, whatever their age.
    pub tables: u64,
    /// Those younger than this.
    pub seconds: i64,
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            tables: 64,
            seconds: 7 * 24 * 3600,
        }
    }
}

/// The newest table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Names the table's bytes.
    pub id: TableId,
    /// The table.
    pub table: ReferenceTable,
    /// The number of a newer table that is damaged. The store can be read only: falling back
    /// silently would take back changes that were acknowledged.
    pub damaged: Option<u64>,
}

/// What became of the creation of a table.
#[derive(Debug)]
pub enum Created {
    /// The table is there and is ours.
    Ours,
    /// The number is taken by somebody else.
    Taken,
    /// It failed, and there is no such table now: it was never made, or the cleaner or the maker
    /// of a hole has removed it since. Only the chain of operations tells.
    Gone(io::Error),
}

/// The numbers of all tables, ascending.
///
/// # Errors
/// A failure of the disk.
pub fn numbers(disk: &dyn Disk) -> Result<Vec<u64>> {
    let names = files::list(disk, paths::REFS)?;
    let mut numbers: Vec<_> = names.iter().filter_map(|n| paths::parse_table(n)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Reads a table; nothing if there is none of this number.
///
/// # Errors
/// `Corrupt`, `Unsupported`; a failure of the disk.
pub fn read(disk: &dyn Disk, number: u64) -> Result<Option<(TableId, ReferenceTable)>> {
    let path = paths::table(number);
    let Some(bytes) = files::read(disk, &path, file_bytes_max::<ReferenceTable>())? else {
        return Ok(None);
    };
    let (id, table) = decode_file::<ReferenceTable>(TABLE_MAGIC, &bytes)
        .map_err(|error| Error::from(error).while_doing(format!("'{path}' is damaged")))?;
    if table.number != number {
        return Err(Error::corrupt(format!(
            "'{path}' holds another table than its name says"
        )));
    }
    Ok(Some((id, table)))
}

/// The newest valid table.
///
/// # Errors
/// `Corrupt` where no table is valid; a failure of the disk.
pub fn head(disk: &dyn Disk) -> Result<Head> {
    // A table that is gone when it is read was removed by the cleaner: newer ones are there.
    for _ in 0..HEAD_TRIES {
        if let Some(head) = newest(disk)? {
            return Ok(head);
        }
    }
    Err(Error::corrupt("the store has no valid reference table")
        .hint("run 'sparse repair' to make it again from the operations"))
}

const HEAD_TRIES: usize = 8;

fn newest(disk: &dyn Disk) -> Result<Option<Head>> {
    let mut damaged = None;
    for number in numbers(disk)?.into_iter().rev() {
        match read(disk, number) {
            Ok(Some((id, table))) => return Ok(Some(Head { id, table, damaged })),
            Ok(None) => return Ok(None),
            Err(error) if error.kind() == Kind::Corrupt => damaged = damaged.or(Some(number)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Creates a table if its number is free, and makes it durable. Every failure is answered by
/// reading back: the work may be done although the answer says otherwise.
///
/// # Errors
/// A table that breaks a rule; a failure of the disk that left the number free.
pub fn create(disk: &dyn Disk, temp: &str, table: &ReferenceTable) -> Result<(TableId, Created)> {
    let (id, bytes) = encode_file(TABLE_MAGIC, table)?;
    let path = paths::table(table.number);
    files::write(disk, temp, &bytes).at("write", temp)?;
    let answer = disk.link(temp, &path);
    let _ = files::remove(disk, temp);
    if let Err(error) = answer {
        match read(disk, table.number)? {
            Some((_, found)) if found.write_id == table.write_id => {}
            Some(_) => return Ok((id, Created::Taken)),
            None => return Ok((id, Created::Gone(error))),
        }
    }
    disk.sync_dir(paths::REFS)
        .at("synchronise", paths::REFS)
        .map_err(|error| {
            error.hint("the change may have been made; look at 'sparse log' before trying again")
        })?;
    Ok((id, Created::Ours))
}

/// Removes tables that are old, many and behind the newest, upwards until the first failure.
///
/// # Errors
/// A failure of the disk.
pub fn clean(disk: &dyn Disk, keep: Keep, now_seconds: i64) -> Result<u64> {
    let numbers = numbers(disk)?;
    let Some(newest) = numbers.last() else {
        return Ok(0);
    };
    let mut removed = 0;
    for number in &numbers {
        if newest - number < keep.tables {
            break;
        }
        let Some((_, table)) = read(disk, *number)? else {
            continue;
        };
        let age = now_seconds.saturating_sub(ops::read(disk, &table.operation)?.time);
        if age < keep.seconds {
            break;
        }
        files::remove(disk, &paths::table(*number))?;
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(paths::REFS).at("synchronise", paths::REFS)?;
    }
    Ok(removed)
}
