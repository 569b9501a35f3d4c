//! The directory of a zip file: where each entry lies. ZIP64 included; nothing is unpacked.
//!
//! May use: `bytes`, `error`. Must never trust a length or an offset of the file.
//!
//! Source of the facts: PKWARE's APPNOTE 6.3.

use super::{Read, TENSORS_MAX, odd, some};
use crate::bytes::ReadAt;

/// The first bytes of a zip file with at least one entry.
pub(super) const MAGIC: &[u8; 4] = b"PK\x03\x04";

/// The end of the directory, but for a comment.
const END_BYTES: usize = 22;

/// How far from the end of the file the end of the directory may begin: the longest comment.
const TAIL_BYTES: u64 = END_BYTES as u64 + 0xffff;

/// A longer directory is not looked at.
const DIRECTORY_BYTES_MAX: u64 = 64 << 20;

/// The fixed part of an entry of the directory.
const ENTRY_BYTES: usize = 46;

/// The fixed part of the header in front of an entry's bytes.
const LOCAL_BYTES: u64 = 30;

/// The end of the directory in 64 bits, and what points to it.
const END64_BYTES: usize = 56;
const LOCATOR_BYTES: usize = 20;

/// One entry of the directory.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its name; bytes that are not UTF-8 are replaced.
    pub(super) name: String,
    /// Whether its bytes stand in the file as they are.
    pub(super) is_plain: bool,
    /// How many bytes it has.
    pub(super) bytes: u64,
    /// Where the header in front of its bytes begins.
    header: u64,
}

/// A directory: its entries and where it begins.
pub(super) struct Directory {
    pub(super) entries: Vec<Entry>,
    start: u64,
}

/// A little-endian number at a place, if the bytes reach that far.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let found: &[u8; N] = bytes.get(at..)?.first_chunk()?;
    let mut wide = [0; 8];
    wide.get_mut(..N)?.copy_from_slice(found);
    Some(u64::from_le_bytes(wide))
}

fn u16_at(bytes: &[u8], at: usize) -> Read<u64> {
    some(number::<2>(bytes, at), "its zip directory is cut off")
}

fn u32_at(bytes: &[u8], at: usize) -> Read<u64> {
    some(number::<4>(bytes, at), "its zip directory is cut off")
}

fn u64_at(bytes: &[u8], at: usize) -> Read<u64> {
    some(number::<8>(bytes, at), "its zip directory is cut off")
}

/// Reads the directory of a zip file.
pub(super) fn directory(file: &dyn ReadAt) -> Read<Directory> {
    let (count, bytes, start) = find(file)?;
    if count > TENSORS_MAX as u64 || bytes > DIRECTORY_BYTES_MAX {
        return odd("its zip directory is too long");
    }
    let fits = start
        .checked_add(bytes)
        .is_some_and(|end| end <= file.len());
    if !fits || bytes / (ENTRY_BYTES as u64) < count {
        return odd("its zip directory is cut off");
    }
    let length = some(usize::try_from(bytes).ok(), "its zip directory is too long")?;
    let table = file.read_vec(start, length)?;
    let mut rest = table.as_slice();
    let mut entries = Vec::new();
    for _ in 0..count {
        let (found, behind) = entry(rest)?;
        entries.push(found);
        rest = behind;
    }
    Ok(Directory { entries, start })
}

/// Number of entries, bytes and first byte of the directory.
fn find(file: &dyn ReadAt) -> Read<(u64, u64, u64)> {
    let tail_bytes = file.len().min(TAIL_BYTES);
    let tail_start = file.len() - tail_bytes;
    let tail = file.read_vec(tail_start, usize::try_from(tail_bytes).unwrap_or(0))?;
    let at = (0..tail.len().saturating_sub(END_BYTES - 1))
        .rev()
        .find(|&at| {
            let comment = number::<2>(&tail, at + 20);
            number::<4>(&tail, at) == Some(0x0605_4b50)
                && comment == Some((tail.len() - at - END_BYTES) as u64)
        });
    let at = some(at, "its zip directory is missing")?;
    let end = tail.get(at..).unwrap_or_default();
    let (count, bytes, start) = (u16_at(end, 10)?, u32_at(end, 12)?, u32_at(end, 16)?);
    if count != 0xffff && bytes != 0xffff_ffff && start != 0xffff_ffff {
        return Ok((count, bytes, start));
    }
    // One of the numbers does not fit, so all of them stand in a wider record before this one.
    let locator = at
        .checked_sub(LOCATOR_BYTES)
        .and_then(|from| tail.get(from..))
        .filter(|locator| number::<4>(locator, 0) == Some(0x0706_4b50));
    let Some(locator) = locator else {
        return Ok((count, bytes, start));
    };
    let place = u64_at(locator, 8)?;
    let fits = place.checked_add(END64_BYTES as u64);
    if fits.is_none_or(|end| end > file.len()) {
        return odd("its zip directory is cut off");
    }
    let wide = file.read_vec(place, END64_BYTES)?;
    if u32_at(&wide, 0)? != 0x0606_4b50 {
        return odd("its zip directory is wrong");
    }
    Ok((u64_at(&wide, 32)?, u64_at(&wide, 40)?, u64_at(&wide, 48)?))
}

/// The first entry of a table, and what is behind it.
fn entry(table: &[u8]) -> Read<(Entry, &[u8])> {
    if u32_at(table, 0)? != 0x0201_4b50 {
        return odd("its zip directory is wrong");
    }
    let lengths = (u16_at(table, 28)?, u16_at(table, 30)?, u16_at(table, 32)?);
    // Three lengths of 16 bits: these sums cannot overflow.
    let (name, extra, comment) = (lengths.0 as usize, lengths.1 as usize, lengths.2 as usize);
    let extra_at = ENTRY_BYTES + name;
    let end = extra_at + extra + comment;
    let cut_off = "its zip directory is cut off";
    let rest = some(table.get(end..), cut_off)?;
    let name = some(table.get(ENTRY_BYTES..extra_at), cut_off)?;
    let mut wide = wide_numbers(some(table.get(extra_at..extra_at + extra), cut_off)?);
    // The wide numbers stand in this order, and only those that do not fit here.
    let mut one = |at| -> Read<u64> {
        let narrow = u32_at(table, at)?;
        if narrow == 0xffff_ffff {
            let (found, rest) = some(wide.split_first_chunk::<8>(), cut_off)?;
            wide = rest;
            return Ok(u64::from_le_bytes(*found));
        }
        Ok(narrow)
    };
    let bytes = one(24)?;
    let stored_bytes = one(20)?;
    let header = one(42)?;
    let is_encrypted = u16_at(table, 8)? & 1 == 1;
    let is_plain = u16_at(table, 10)? == 0 && bytes == stored_bytes && !is_encrypted;
    let name = String::from_utf8_lossy(name).into_owned();
    let entry = Entry {
        name,
        is_plain,
        bytes,
        header,
    };
    Ok((entry, rest))
}

/// The wide numbers among the extra fields of an entry.
fn wide_numbers(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(bytes)) = (number::<2>(extra, 0), number::<2>(extra, 2)) {
        let end = 4 + bytes as usize;
        if kind == 1 {
            return extra.get(4..end).unwrap_or_default();
        }
        extra = extra.get(end..).unwrap_or_default();
    }
    &[]
}

impl Directory {
    /// Where the bytes of an entry begin. They end before the directory, or it is refused.
    pub(super) fn start_of(&self, file: &dyn ReadAt, entry: &Entry) -> Read<u64> {
        let outside = "an entry of the zip file lies outside it";
        let fixed = entry.header.checked_add(LOCAL_BYTES);
        let fixed = some(fixed.filter(|&end| end <= self.start), outside)?;
        let local = file.read_vec(entry.header, LOCAL_BYTES as usize)?;
        if u32_at(&local, 0)? != 0x0403_4b50 {
            return odd("an entry of the zip file has no header");
        }
        let start = fixed
            .checked_add(u16_at(&local, 26)?)
            .and_then(|start| start.checked_add(u16_at(&local, 28).ok()?));
        let start = some(start, outside)?;
        let end = start.checked_add(entry.bytes);
        some(end.filter(|&end| end <= self.start), outside)?;
        Ok(start)
    }
}
