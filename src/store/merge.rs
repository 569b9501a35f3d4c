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
/// Records of one merged index, but for what a single pack holds beyond: bounds the memory of
/// making it to some 150 bytes a record. A search looks into the filter of each, so there are as
/// many filters to ask as there are times so many records.
pub(super) const RECORDS_MAX: usize = 2 << 20;

/// Merges the indexes of single packs, and the merged indexes that are not much larger, if more
/// than `single_max` packs are searched one by one, into files of at most `records_max` records.
/// Each record is merged again about log4(`records_max`) times in its life.
///
/// # Errors
/// A failure of the disk; nothing is lost.
pub(super) fn merge(
    shared: &Shared,
    temp_dir: &str,
    single_max: usize,
    records_max: usize,
) -> Result<()> {
    let view = shared.refresh()?;
    let single: Vec<_> = view.single().collect();
    if single.len() <= single_max {
        return Ok(());
    }
    let (packs, replaced) = choose(&view, single, records_max)?;
    let newest = view
        .merged()
        .iter()
        .filter_map(|file| sequence(&file.name))
        .max();
    let mut number = newest.map_or(0, |newest| newest.saturating_add(1));
    for packs in groups(&view, packs, records_max)? {
        write(shared, temp_dir, &view, &packs, number)?;
        number = number.saturating_add(1);
    }
    let disk = &*shared.disk;
    disk.sync_dir(paths::MERGED)
        .at("synchronise", paths::MERGED)?;
    for file in replaced {
        files::remove(disk, &format!("{}/{}", paths::MERGED, file.name))?;
    }
    shared.refresh().map(|_| ())
}

/// The packs to cover, and the merged indexes that are no longer needed then.
fn choose(
    view: &View,
    mut packs: Vec<PackId>,
    records_max: usize,
) -> Result<(Vec<PackId>, Vec<MergedFile>)> {
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
        if len <= GROWTH * count && len + count <= records_max {
            packs.extend(file.open()?.packs().filter(|pack| view.has_pack(pack)));
            count += len;
            replaced.push(file.clone());
        }
    }
    packs.sort_unstable();
    packs.dedup();
    Ok((packs, replaced))
}

/// The packs in groups of at most so many records, a larger pack alone.
fn groups(view: &View, packs: Vec<PackId>, records_max: usize) -> Result<Vec<Vec<PackId>>> {
    let mut groups: Vec<Vec<PackId>> = Vec::new();
    let mut left = 0;
    for pack in packs {
        let records = view.records_len(&pack)?;
        match groups.last_mut().filter(|_| records <= left) {
            Some(group) => group.push(pack),
            None => {
                groups.push(vec![pack]);
                left = records_max.max(records);
            }
        }
        left -= records;
    }
    Ok(groups)
}

/// Writes the merged index of some packs, under a number of its own.
fn write(
    shared: &Shared,
    temp_dir: &str,
    view: &View,
    packs: &[PackId],
    number: u64,
) -> Result<()> {
    let mut records = Vec::new();
    for pack in packs {
        records.reserve_exact(view.records_len(pack)?);
    }
    for (pack, number) in packs.iter().zip(0_u32..) {
        view.each_id(pack, |id| records.push((merged::key_of(&id), number)))?;
    }
    let bytes = merged::encode(packs, records)
        .ok_or_else(|| Error::corrupt("no filter can be made for a merged index"))?;
    let disk = &*shared.disk;
    let temp = format!("{temp_dir}/m{number}");
    files::write(disk, &temp, &bytes).at("write", &temp)?;
    // Derived files are read back once: what was written wrong would be believed for long.
    let written = disk.map(&temp).at("map", &temp)?;
    Merged::check(&written)?;
    written.let_go();
    let name = format!(
        "{}/{number:016}-{}.mpi",
        paths::MERGED,
        blake3::hash(&bytes).to_hex()
    );
    files::name_once(disk, &temp, &name).map(|_| ())
}

fn sequence(name: &str) -> Option<u64> {
    name.split_once('-')?.0.parse().ok()
}
