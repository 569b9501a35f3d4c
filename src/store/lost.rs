//! Records that a repair gave up, and how deep they were: what is stored again in their place
//! must not be deeper, or what was predicted from them would stay lost.
//!
//! May use: `error`, `disk`, `store::{files, paths}`. Reads the indexes of packs in quarantine;
//! one that cannot be read says nothing.

use std::collections::HashMap;

use store_format::ids::RecordId;
use store_format::pack::Index;

use crate::disk::Disk;
use crate::error::Result;
use crate::store::{files, paths};

/// A longer index in quarantine is not looked at: packs hold far fewer records.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The least depth of each record of the packs in quarantine.
#[derive(Debug, Default)]
pub struct Lost(HashMap<RecordId, u8>);

impl Lost {
    /// Reads what is in quarantine; nothing in almost every store.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn load(disk: &dyn Disk) -> Result<Self> {
        let mut lost = Self::default();
        for name in files::list(disk, paths::QUARANTINE)? {
            if !name.contains(".idx") {
                continue;
            }
            let path = format!("{}/{name}", paths::QUARANTINE);
            let bytes = files::read(disk, &path, INDEX_BYTES_MAX).unwrap_or_default();
            if let Some(index) = bytes.as_deref().and_then(|bytes| Index::check(bytes).ok()) {
                for row in 0..index.table.len() {
                    if let (Some(id), Ok(entry)) = (index.table.id(row), index.table.entry(row)) {
                        let least = lost.0.entry(id).or_insert(entry.depth);
                        *least = entry.depth.min(*least);
                    }
                }
            }
        }
        Ok(lost)
    }

    /// How deep a record was, if it was given up.
    #[must_use]
    pub fn depth(&self, id: &RecordId) -> Option<u8> {
        self.0.get(id).copied()
    }
}
