//! Checks what the store holds without decoding it, and makes a damaged newest table again.
//!
//! May use: `error`, `disk`, `store::{advance, files, index, ops, pack_read, paths, refs}`.
//! Changes nothing unless it is asked to repair.

use store_format::ids::{OperationId, PackId, RecordId};
use store_format::limits;
use store_format::pack::Index;
use store_format::reference::{TABLE_MAGIC, encode_file};

use crate::error::{Error, IoContext, Result};
use crate::store::Store;
use crate::store::advance;
use crate::store::files;
use crate::store::index::Origin;
use crate::store::ops;
use crate::store::paths;
use crate::store::refs::{self, Head};

/// Bytes that are hashed at once.
const PIECE_BYTES: u64 = 1 << 20;

/// What is wrong with a pack.
#[derive(Debug, Default)]
pub struct PackCheck {
    /// Bytes that were read.
    pub bytes: u64,
    /// Records that were looked at.
    pub records: usize,
    /// What is wrong with the pack as a whole.
    pub hurt: Vec<Error>,
    /// Records whose stored bytes are damaged. Another copy may be whole.
    pub hurt_records: Vec<(RecordId, Error)>,
}

impl Store {
    /// The packs of the store, ascending.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn packs(&self) -> Result<Vec<PackId>> {
        Ok(self.reader()?.view.packs().collect())
    }

    /// Reads a pack whole: its bytes must hash to its name, its index must be its table, and
    /// every record must hold its checks. Records are not decoded: that needs their sources.
    ///
    /// # Errors
    /// A failure of the disk; what is wrong with the pack is in the answer.
    pub fn check_pack(&self, pack: &PackId) -> Result<PackCheck> {
        let mut check = PackCheck::default();
        let path = paths::pack(pack);
        let file = self.0.packs.file(pack)?;
        let mut hasher = blake3::Hasher::new();
        while check.bytes < file.bytes() {
            let piece = PIECE_BYTES.min(file.bytes() - check.bytes);
            let mut bytes = vec![0; usize::try_from(piece).unwrap_or(usize::MAX)];
            file.read_at(check.bytes, &mut bytes).at("read", &path)?;
            hasher.update(&bytes);
            check.bytes += piece;
        }
        if hasher.finalize().as_bytes() != pack.as_bytes() {
            check
                .hurt
                .push(Error::corrupt(format!("'{path}' is damaged")));
        }
        match self.0.packs.rebuild_index(pack) {
            Ok((index, None)) => check.hurt.extend(self.check_index(pack, &index)?),
            Ok((_, Some(hurt))) | Err(hurt) => check.hurt.push(hurt),
        }
        if let Ok(records) = self.reader()?.view.records(pack) {
            check.records = records.len();
            for (id, place) in records {
                if let Err(error) = self.0.packs.record(pack, &id, &place.entry) {
                    check.hurt_records.push((id, error));
                }
            }
        }
        Ok(check)
    }

    fn check_index(&self, pack: &PackId, table: &[u8]) -> Result<Option<Error>> {
        let path = paths::index(pack);
        let max = table.len() as u64 + 1;
        Ok(match files::read(&*self.0.disk, &path, max) {
            Ok(Some(bytes)) if bytes == table => None,
            Ok(None) => Some(Error::not_found(format!("'{path}' is missing"))),
            Ok(Some(_)) | Err(_) => Some(Error::corrupt(format!("'{path}' is damaged"))),
        })
    }

    /// Writes a pack's index anew from the pack.
    ///
    /// # Errors
    /// `Corrupt` where the pack is damaged itself; a failure of the disk.
    pub fn repair_index(&self, pack: &PackId) -> Result<()> {
        let (bytes, hurt) = self.0.packs.rebuild_index(pack)?;
        if let Some(hurt) = hurt {
            return Err(hurt);
        }
        Index::check(&bytes)?;
        let disk = &*self.0.disk;
        let temp = format!("{}/{}", paths::TMP, files::unique(&self.0.host)?);
        files::write(disk, &temp, &bytes).at("write", &temp)?;
        let path = paths::index(pack);
        disk.replace(&temp, &path).at("name", &path)
    }

    /// Records of a damaged pack that no other pack holds.
    ///
    /// # Errors
    /// A failure of the disk.
    pub fn only_in(&self, pack: &PackId, records: &[RecordId]) -> Result<Vec<RecordId>> {
        let reader = self.reader()?;
        let elsewhere = |id: &&RecordId| {
            let places = reader.places(id);
            !places
                .iter()
                .any(|place| place.origin != Origin::Pack(*pack))
        };
        Ok(records.iter().filter(elsewhere).copied().collect())
    }

    /// Walks the chain of operations from the newest to the first.
    ///
    /// # Errors
    /// A record of the chain that is missing or damaged.
    pub fn check_operations(&self) -> Result<u64> {
        let mut next = Some(self.head()?.table.operation);
        let mut count = 0;
        while let Some(id) = next {
            next = self.operation(&id)?.parent;
            count += 1;
        }
        Ok(count)
    }

    /// Makes a damaged newest table again from its operation: the one that the damaged bytes
    /// name, else the only one that follows the table before.
    ///
    /// # Errors
    /// `Corrupt` where nothing tells which operation it was; a failure of the disk.
    pub fn repair_newest_table(&self) -> Result<Option<u64>> {
        let disk = &*self.0.disk;
        let head = refs::head(disk)?;
        let Some(number) = head.damaged else {
            return Ok(None);
        };
        if number != head.table.number + 1 {
            return Err(Error::corrupt(format!(
                "several reference tables are damaged, up to '{}'",
                paths::table(number)
            )));
        }
        let operation = self.operation_of(number, &head)?;
        let write_id = files::random(&self.0.host)?;
        let record = ops::read(disk, &operation)?;
        let table = advance::table_on(&head, &record, operation, write_id);
        let temp = format!("{}/{}", paths::TMP, files::unique(&self.0.host)?);
        // Kept under another name: what is damaged may still tell something.
        let path = paths::table(number);
        let aside = format!("{}/{number:016}.damaged", paths::REFS);
        let hurt = files::read(disk, &path, limits::TABLE_BYTES_MAX)?.unwrap_or_default();
        files::remove(disk, &aside)?;
        files::write(disk, &aside, &hurt).at("write", &aside)?;
        let (_, bytes) = encode_file(TABLE_MAGIC, &table)?;
        files::write(disk, &temp, &bytes).at("write", &temp)?;
        // At once, so that nobody finds the number free and builds on the table before.
        disk.replace(&temp, &path).at("name", &path)?;
        disk.sync_dir(paths::REFS).at("synchronise", paths::REFS)?;
        Ok(Some(number))
    }

    fn operation_of(&self, number: u64, head: &Head) -> Result<OperationId> {
        let disk = &*self.0.disk;
        let path = paths::table(number);
        let hurt = files::read(disk, &path, limits::TABLE_BYTES_MAX)?.unwrap_or_default();
        let mut candidates = Vec::new();
        for shard in files::list(disk, paths::OPS)? {
            for name in files::list(disk, &format!("{}/{shard}", paths::OPS))? {
                let Ok(id) = name.parse::<OperationId>() else {
                    continue;
                };
                if ops::read(disk, &id).is_ok_and(|o| o.parent == Some(head.table.operation)) {
                    candidates.push(id);
                }
            }
        }
        let named = |id: &&OperationId| hurt.windows(32).any(|bytes| bytes == id.as_bytes());
        match (candidates.iter().find(named), candidates.as_slice()) {
            (Some(id), _) | (None, [id]) => Ok(*id),
            _ => Err(Error::corrupt(format!(
                "{} operations may have made '{path}', and its bytes do not tell which",
                candidates.len()
            ))),
        }
    }
}
