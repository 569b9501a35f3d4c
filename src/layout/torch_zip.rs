//! PyTorch's zip files: `torch.save` and TorchScript.
//!
//! May use: `bytes`, `error`, `store_format`. Must never execute a pickle.
//!
//! Storages are found by the zip directory and end up as tensors where the pickle names them:
//! whole, in order, and each byte once. All others are raw regions.

use std::collections::{BTreeMap, HashMap, HashSet};

use store_format::dtype::DType;
use store_format::layout::{Layout, Tensor};

use super::pickle::{self, Stored};
use super::tile::{self, Part};
use super::zip::{self, Directory};
use super::{Parsed, Read, Refusal};
use crate::bytes::ReadAt;

/// The entry with the pickle; the folder around it is the archive's name.
const PICKLE: &str = "/data.pkl";

/// The entry that says which byte order storages have.
const BYTE_ORDER: &str = "/byteorder";

/// Where the bytes of a storage lie.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    bytes: u64,
}

/// Reads a zip file of PyTorch.
pub(super) fn parse(file: &dyn ReadAt) -> Read<Parsed> {
    let directory = zip::directory(file)?;
    let archive = directory
        .entries
        .iter()
        .find_map(|entry| entry.name.strip_suffix(PICKLE))
        .filter(|archive| !archive.contains('/'));
    let Some(archive) = archive else {
        return Err(Refusal::Unrelated);
    };
    let storages = storages(file, &directory, archive)?;
    let header_bytes = storages.values().map(|place| place.start).min();
    let header_bytes = header_bytes.unwrap_or(file.len());
    let (tensors, note) = match named(file, &directory, archive)? {
        Ok(names) => {
            let listed = list(&names, &storages);
            let note = listed.note();
            (listed.tensors, note)
        }
        Err(reason) => (Vec::new(), Some(reason.to_string())),
    };
    let raw = without_tensors(&storages, &tensors);
    let mut parsed = tile::tile(Layout::TorchZip, header_bytes, tensors, raw, file.len())?;
    parsed.note = note;
    Ok(parsed)
}

/// The storages in which no tensor lies. What tensors leave of the others are gaps.
fn without_tensors(storages: &BTreeMap<String, Place>, tensors: &[Tensor]) -> Vec<Part> {
    let held = tensors.iter().filter(|tensor| tensor.bytes > 0);
    let mut starts: Vec<_> = held.map(|tensor| tensor.start).collect();
    starts.sort_unstable();
    let is_empty = |place: &&Place| {
        let at = starts.partition_point(|&start| start < place.start);
        starts
            .get(at)
            .is_none_or(|&start| start >= place.start + place.bytes)
    };
    let places = storages.values().filter(is_empty);
    places
        .map(|place| Part::raw(place.start, place.bytes))
        .collect()
}

/// All storages that stand in the file as they are, by their key.
fn storages(
    file: &dyn ReadAt,
    directory: &Directory,
    archive: &str,
) -> Read<BTreeMap<String, Place>> {
    let mut storages = BTreeMap::new();
    for entry in &directory.entries {
        let key = entry.name.strip_prefix(archive);
        let Some(key) = key.and_then(|rest| rest.strip_prefix("/data/")) else {
            continue;
        };
        if !entry.is_plain {
            continue;
        }
        let place = Place {
            start: directory.start_of(file, entry)?,
            bytes: entry.bytes,
        };
        if storages.insert(key.to_string(), place).is_some() {
            return super::odd(format!("storage '{key}' stands there twice"));
        }
    }
    let mut places: Vec<_> = storages.values().filter(|place| place.bytes > 0).collect();
    places.sort_unstable_by_key(|place| place.start);
    let overlap = |pair: &[&Place]| match pair {
        [one, next] => one.start + one.bytes > next.start,
        _ => false,
    };
    if places.windows(2).any(overlap) {
        return super::odd("a storage overlaps another one");
    }
    Ok(storages)
}

/// A pickle and the tensors it names.
struct Names {
    pickle: Vec<u8>,
    stored: Vec<Stored>,
}

/// What the pickle names, or why it names nothing.
fn named(
    file: &dyn ReadAt,
    directory: &Directory,
    archive: &str,
) -> Read<std::result::Result<Names, &'static str>> {
    let bytes_of = |suffix: &str, bytes_max: u64| -> Read<Option<Vec<u8>>> {
        let entry = directory
            .entries
            .iter()
            .find(|entry| entry.is_plain && entry.name.strip_prefix(archive) == Some(suffix));
        let Some(entry) = entry.filter(|entry| entry.bytes <= bytes_max) else {
            return Ok(None);
        };
        let start = directory.start_of(file, entry)?;
        let bytes = usize::try_from(entry.bytes).unwrap_or(0);
        Ok(Some(file.read_vec(start, bytes)?))
    };
    if bytes_of(BYTE_ORDER, 16)?.is_some_and(|order| order != b"little") {
        return Ok(Err("its storages are not little-endian"));
    }
    let Some(pickle) = bytes_of(PICKLE, pickle::PICKLE_BYTES_MAX)? else {
        return Ok(Err("its pickle is compressed or too long"));
    };
    match pickle::read(&pickle) {
        Some(stored) => Ok(Ok(Names { pickle, stored })),
        None => Ok(Err("its pickle could not be read as data")),
    }
}

/// The tensors of a table, and how many could not stand in it.
#[derive(Default)]
struct Listed {
    tensors: Vec<Tensor>,
    /// Share bytes with one that was listed before.
    shared: usize,
    /// Are not contiguous, or do not fit their storage.
    unfit: usize,
}

impl Listed {
    fn note(&self) -> Option<String> {
        match (self.shared, self.unfit) {
            (0, 0) => None,
            (shared, 0) => Some(format!("{shared} tensors share bytes with others")),
            (0, unfit) => Some(format!("{unfit} tensors are not whole runs of bytes")),
            (shared, unfit) => Some(format!(
                "{shared} tensors share bytes with others, {unfit} are not whole runs of bytes"
            )),
        }
    }
}

/// Finds the bytes of each tensor.
fn list(found: &Names, storages: &BTreeMap<String, Place>) -> Listed {
    let mut listed = Listed::default();
    let mut names = HashSet::new();
    // First to last byte of what is listed, by the storage.
    let mut taken: HashMap<u64, BTreeMap<u64, u64>> = HashMap::new();
    for stored in &found.stored {
        let place = stored
            .storage
            .key(&found.pickle)
            .and_then(|key| storages.get(key));
        let Some((place, (start, bytes))) =
            place.and_then(|place| Some((place, run(stored, *place)?)))
        else {
            listed.unfit += 1;
            continue;
        };
        if !names.insert(stored.name.clone()) {
            listed.unfit += 1;
            continue;
        }
        if bytes > 0 {
            let taken = taken.entry(place.start).or_default();
            let before = taken.range(..start + bytes).next_back();
            if before.is_some_and(|(_, &end)| end > start) {
                listed.shared += 1;
                continue;
            }
            taken.insert(start, start + bytes);
        }
        listed.tensors.push(Tensor {
            name: stored.name.clone(),
            dtype: stored.dtype,
            shape: stored.shape.clone(),
            start,
            bytes,
        });
    }
    listed
}

/// First byte and bytes of a tensor that is a run of its storage.
fn run(stored: &Stored, place: Place) -> Option<(u64, u64)> {
    let storage = stored.storage;
    let storage_bytes = storage.dtype.unwrap_or(DType::U8).bytes_of(storage.count)?;
    if storage_bytes != place.bytes {
        return None;
    }
    let elements = stored
        .shape
        .iter()
        .try_fold(1_u64, |n, &d| n.checked_mul(d))?;
    let bytes = stored.dtype.bytes_of(elements)?;
    if bytes == 0 {
        return Some((place.start, 0));
    }
    let first = stored.dtype.bytes_of(stored.first)?;
    let fits = first.checked_add(bytes)? <= place.bytes;
    (fits && is_contiguous(stored)).then_some((place.start.checked_add(first)?, bytes))
}

/// Whether elements follow each other in the order of the dimensions.
fn is_contiguous(stored: &Stored) -> bool {
    let mut expected = 1_u64;
    stored.shape.len() == stored.strides.len()
        && stored
            .shape
            .iter()
            .zip(&stored.strides)
            .rev()
            .all(|(&length, &stride)| {
                let fits = length == 1 || stride == expected;
                expected = expected.saturating_mul(length);
                fits
            })
}

#[cfg(test)]
mod tests;
