//! Keeps the number of indexes that a search must look into small.
//!
//! May use: `error`, `disk`, `store::{files, index, merged, paths}`. What it writes is derived;
//! what it removes is covered by what it wrote and read back before.

use store_format::ids::PackId;

use crate::error::{Error, IoContext, Result};
use crate::store::Shared;
use crate::store::files;
use crate::store::index::{MergedFile, View};
use crate::store::merged::{self, Merged};
use crate::store::paths;

/// Packs that are searched one by one before they are merged.
pub(super) const SINGLE_PACKS_MAX: usize = 16;
/// A merged index is merged again once what is newer is this part of it.
const GROWTH: usize = 4;
/// Records of one merged index: bounds the memory of making it.
const RECORDS_MAX: usize = 8 << 20;

/// Merges the indexes of single packs, and the merged indexes that are not much larger, if more
/// than `single_max` packs are searched one by one. Each record is merged again about
/// log4(records) times in its life.
///
/// # Errors
/// A failure of the disk; nothing is lost.
pub(super) fn merge(shared: &Shared, temp_dir: &str, single_max: usize) -> Result<()> {
    let view = shared.refresh()?;
    let single: Vec<_> = view.single().collect();
    if single.len() <= single_max {
        return Ok(());
    }
    let (packs, records, replaced) = choose(&view, single)?;
    let bytes = merged::encode(&packs, records)
        .ok_or_else(|| Error::corrupt("no filter can be made for a merged index"))?;
    let disk = &*shared.disk;
    let temp = format!("{temp_dir}/mpi");
    files::write(disk, &temp, &bytes).at("write", &temp)?;
    // Derived files are read back once: what was written wrong would be believed for long.
    let written = disk.map(&temp).at("map", &temp)?;
    Merged::check(&written)?;
    let newest = view
        .merged()
        .iter()
        .filter_map(|file| sequence(&file.name))
        .max();
    let name = format!(
        "{}/{:016}-{}.mpi",
        paths::MERGED,
        newest.map_or(0, |newest| newest.saturating_add(1)),
        blake3::hash(&bytes).to_hex()
    );
    files::name_once(disk, &temp, &name)?;
    disk.sync_dir(paths::MERGED)
        .at("synchronise", paths::MERGED)?;
    for file in replaced {
        files::remove(disk, &format!("{}/{}", paths::MERGED, file.name))?;
    }
    shared.refresh().map(|_| ())
}

type Choice = (Vec<PackId>, Vec<(u64, u32)>, Vec<MergedFile>);

/// The packs to cover, their records, and the merged indexes that are no longer needed then.
fn choose(view: &View, mut packs: Vec<PackId>) -> Result<Choice> {
    let mut count = 0;
    for pack in &packs {
        count += view.records_len(pack)?;
    }
    let mut sized = Vec::new();
    for file in view.merged() {
        sized.push((file.open()?.len(), file));
    }
    sized.sort_unstable_by_key(|(len, _)| *len);
    let mut replaced = Vec::new();
    for (len, file) in sized {
        if len <= GROWTH * count && len + count <= RECORDS_MAX {
            packs.extend(file.open()?.packs().filter(|pack| view.has_pack(pack)));
            count += len;
            replaced.push(file.clone());
        }
    }
    packs.sort_unstable();
    packs.dedup();
    let mut records = Vec::new();
    for (pack, number) in packs.iter().zip(0_u32..) {
        let keys = view.ids(pack)?;
        records.extend(keys.iter().map(|id| (merged::key_of(id), number)));
    }
    Ok((packs, records, replaced))
}

fn sequence(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}
