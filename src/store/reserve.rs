//! The file that gives way when the disk is full, so that a collection can still be published.
//!
//! May use: `error`, `store::paths`. Holds nothing; may be missing at any time.

use crate::error::{Kind, Result};
use crate::store::Shared;
use crate::store::paths;

/// Bytes of the file that gives way when the disk is full.
const RESERVE_BYTES: usize = 1 << 20;

/// Does the work, and once more with the room of the reserve if the disk is full.
pub(super) fn with_reserve<T>(shared: &Shared, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    match work() {
        Err(error) if error.kind() == Kind::Full => {
            if shared.disk.remove(paths::RESERVE).is_err() {
                return Err(error);
            }
            work()
        }
        answer => answer,
    }
}

/// Makes the reserve anew, if there is room.
pub(super) fn keep_reserve(shared: &Shared) {
    let disk = &*shared.disk;
    if disk
        .file_bytes(paths::RESERVE)
        .is_ok_and(|bytes| bytes.is_none())
    {
        // Not synchronised: it need not survive anything.
        let written = disk
            .create(paths::RESERVE)
            .and_then(|mut draft| draft.append(&vec![0; RESERVE_BYTES]));
        if written.is_err() {
            let _ = disk.remove(paths::RESERVE);
        }
    }
}
