//! Small files as a whole: read within a limit, written durably under a name that was free.
//!
//! May use: `error`, `disk`, `store::host`. Every publication of a file is here or in
//! `pack_write`: content first, then the name, then the directory.

use std::io::{self, ErrorKind};

use store_format::FormatError;

use crate::disk::{Disk, parent};
use crate::error::{Error, IoContext, Result};
use crate::store::host::Host;

/// Reads a whole file of at most `max` bytes; nothing if there is none.
///
/// # Errors
/// A failure of the disk; a file beyond the limit.
pub fn read(disk: &dyn Disk, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at("open", path),
    };
    if file.bytes() > max {
        let large = FormatError::TooLarge {
            field: "a file of the store",
            value: file.bytes(),
            max,
        };
        return Err(Error::from(large).while_doing(format!("'{path}' is damaged")));
    }
    let mut bytes = vec![0; usize::try_from(file.bytes()).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).at("read", path)?;
    Ok(Some(bytes))
}

/// Writes a new file and makes its content durable, but not its name.
///
/// # Errors
/// `AlreadyExists`; a failure of the disk, after which the file must not be used.
pub fn write(disk: &dyn Disk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut draft = disk.create(path)?;
    draft.append(bytes)?;
    draft.sync()
}

/// The names in a directory; none if there is no such directory.
///
/// # Errors
/// A failure of the disk.
pub fn list(disk: &dyn Disk, dir: &str) -> Result<Vec<String>> {
    match disk.list(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        answer => answer.at("list", dir),
    }
}

/// Makes a directory unless it is there. The caller synchronises the parent even where the
/// directory was there: whoever made it may not have done so yet.
///
/// # Errors
/// A failure of the disk.
pub fn ensure_dir(disk: &dyn Disk, dir: &str) -> Result<()> {
    match disk.make_dir(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        answer => answer.at("make the directory", dir),
    }
}

/// Removes a file that may be gone already.
///
/// # Errors
/// A failure of the disk.
pub fn remove(disk: &dyn Disk, path: &str) -> Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        answer => answer.at("remove", path),
    }
}

/// Removes a directory of files that nobody needs any more, as far as that works.
pub fn discard_dir(disk: &dyn Disk, dir: &str) {
    for name in disk.list(dir).unwrap_or_default() {
        let _ = disk.remove(&format!("{dir}/{name}"));
    }
    let _ = disk.remove_dir(dir);
}

/// Gives a durable file its final name. Taken names are left alone.
///
/// # Errors
/// A failure of the disk. The answer is whether the name is new.
pub fn name_once(disk: &dyn Disk, temp: &str, path: &str) -> Result<bool> {
    match disk.rename(temp, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // The answer may be lost after the work was done: then the old name is gone.
        Err(error) => match (disk.file_bytes(temp), disk.file_bytes(path)) {
            (Ok(None), Ok(Some(_))) => Ok(true),
            _ => Err(error).at("name", path),
        },
    }
}

/// Makes the names in a directory durable, and the directory's own name with them.
///
/// # Errors
/// A failure of the disk.
pub fn sync_up(disk: &dyn Disk, dir: &str) -> Result<()> {
    disk.sync_dir(dir).at("synchronise", dir)?;
    let above = parent(dir);
    disk.sync_dir(above).at("synchronise", above)
}

/// Random bytes.
///
/// # Errors
/// A failure of the system.
pub fn random<const N: usize>(host: &Host) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    (host.fill)(&mut bytes).at("draw random bytes from", "the system")?;
    Ok(bytes)
}

/// A name that nobody else has.
///
/// # Errors
/// A failure of the system.
pub fn unique(host: &Host) -> Result<String> {
    Ok(format!("{:032x}", u128::from_le_bytes(random(host)?)))
}
