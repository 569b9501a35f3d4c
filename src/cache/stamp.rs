//! The stamp beside the database: what it was like when it was last closed.
//!
//! May use: nothing of this crate. Must never fail: a stamp that cannot be read is no stamp.

use std::fs::{self, File};
use std::path::Path;

/// Raised whenever a key or a value changes its form; the old database is then deleted.
pub(super) const SCHEMA: u16 = 1;

/// The version of sled whose files these are.
const CRATE_VERSION: &str = "0.34.7";

/// The text of the stamp for a database file as it lies there now; `None` if it cannot be read.
///
/// It binds the schema, the store, the crate's version, the size of the file and its content, so
/// that nothing but what was closed cleanly is ever handed to the code that panics on damage.
pub(super) fn of(file: &Path, store: [u8; 16]) -> Option<String> {
    let bytes = fs::metadata(file).ok()?.len();
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(file).ok()?).ok()?;
    let store = blake3::Hash::from_bytes({
        let mut wide = [0; 32];
        wide[..16].copy_from_slice(&store);
        wide
    });
    Some(format!(
        "schema {SCHEMA}\nsled {CRATE_VERSION}\nstore {}\nbytes {bytes}\nblake3 {}\n",
        &store.to_hex()[..32],
        hasher.finalize().to_hex(),
    ))
}

/// Whether the stamp at `stamp` is that of the database file.
pub(super) fn matches(stamp: &Path, file: &Path, store: [u8; 16]) -> bool {
    match (fs::read_to_string(stamp), of(file, store)) {
        (Ok(found), Some(expected)) => found == expected,
        _ => false,
    }
}

/// Writes the stamp. It is not synced: a torn stamp is a wrong one, which costs a fresh start.
pub(super) fn write(stamp: &Path, file: &Path, store: [u8; 16]) {
    if let Some(text) = of(file, store) {
        let _ = fs::write(stamp, text);
    }
}
