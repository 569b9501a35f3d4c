//! Operation records: the chain of changes that tables name and undo walks.
//!
//! May use: `error`, `disk`, `store::{files, paths}`. Records are never changed.

use store_format::ids::OperationId;
use store_format::reference::{
    OPERATION_MAGIC, Operation, decode_file, encode_file, file_bytes_max,
};

use crate::disk::{Disk, parent};
use crate::error::{Error, IoContext, Result};
use crate::store::files;
use crate::store::paths;

/// Writes a record durably under its own name.
///
/// # Errors
/// A record that breaks a rule; a failure of the disk.
pub fn write(disk: &dyn Disk, temp: &str, operation: &Operation) -> Result<OperationId> {
    let (id, bytes) = encode_file(OPERATION_MAGIC, operation)?;
    let path = paths::operation(&id);
    files::write(disk, temp, &bytes).at("write", temp)?;
    files::ensure_dir(disk, parent(&path))?;
    if !files::name_once(disk, temp, &path)? {
        files::remove(disk, temp)?; // the very same record was written before
    }
    files::sync_up(disk, parent(&path))?;
    Ok(id)
}

/// Reads a record.
///
/// # Errors
/// `NotFound`; `Corrupt`; a failure of the disk.
pub fn read(disk: &dyn Disk, id: &OperationId) -> Result<Operation> {
    let path = paths::operation(id);
    let bytes = files::read(disk, &path, file_bytes_max::<Operation>())?
        .ok_or_else(|| Error::not_found(format!("operation {id:.12} is not there")))?;
    let (found, operation) = decode_file::<Operation>(OPERATION_MAGIC, &bytes)
        .map_err(|error| Error::from(error).while_doing(format!("'{path}' is damaged")))?;
    if found != *id {
        return Err(Error::corrupt(format!(
            "'{path}' holds another operation than its name says"
        )));
    }
    Ok(operation)
}

/// An operation record, or why it cannot be read.
pub type ReadOperation = Result<(OperationId, Operation)>;

/// Every operation record that is there, on the chain or not, by its path; or why it cannot be
/// read.
///
/// # Errors
/// A failure of the disk.
pub fn all(disk: &dyn Disk) -> Result<Vec<(String, ReadOperation)>> {
    let mut found = Vec::new();
    for shard in files::list(disk, paths::OPS)? {
        for name in files::list(disk, &format!("{}/{shard}", paths::OPS))? {
            let read = match name.parse::<OperationId>() {
                Ok(id) => read(disk, &id).map(|operation| (id, operation)),
                Err(_) => Err(Error::corrupt("not the name of an operation")),
            };
            found.push((format!("{}/{shard}/{name}", paths::OPS), read));
        }
    }
    Ok(found)
}

/// Whether `wanted` is `from` or one of the `steps` operations before it.
///
/// # Errors
/// A record of the chain that cannot be read.
pub fn is_ancestor(
    disk: &dyn Disk,
    wanted: &OperationId,
    from: &OperationId,
    steps: u64,
) -> Result<bool> {
    let mut current = *from;
    for _ in 0..steps {
        if current == *wanted {
            return Ok(true);
        }
        match read(disk, &current)?.parent {
            Some(parent) => current = parent,
            None => return Ok(false),
        }
    }
    Ok(current == *wanted)
}
