//! The doors through which untrusted bytes enter, one function each: what the hostile tests, the
//! mutation test and the fuzz targets call. Each claims that bytes are refused, or encode to
//! themselves again; and each takes the bytes a second time with their checks put right, so that
//! what lies behind a check is reached as well.
#![allow(dead_code, reason = "every test uses a part of it")]
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own lengths and claims"
)]

use store_format::FormatError;
use store_format::commit::{Attachment, Commit};
use store_format::manifest::Manifest;
use store_format::object::Object;
use store_format::pack::{Index, PackHeader, Trailer};
use store_format::record::{RecordHeader, check_of};
use store_format::reference::{
    OPERATION_MAGIC, Operation, ReferenceTable, TABLE_MAGIC, decode_file, encode_file,
};
use store_format::store_file::StoreFile;
use store_format::tree::Tree;

/// Every door at once.
pub fn any(bytes: &[u8]) {
    some(&KINDS, bytes);
}

/// The doors of some kinds.
pub fn some(kinds: &[&str], bytes: &[u8]) {
    for kind in kinds {
        read(kind, bytes);
        if let Some(repaired) = repair(kind, bytes) {
            read(kind, &repaired);
        }
    }
}

/// Every kind of bytes, as the names of samples begin.
pub const KINDS: [&str; 10] = [
    "attachment",
    "commit",
    "format",
    "index",
    "manifest",
    "operation",
    "pack",
    "record",
    "table",
    "tree",
];

/// Reads bytes as a kind; whether they are good.
///
/// # Panics
/// Where good bytes do not encode to themselves: that is what the tests look for.
pub fn read(kind: &str, bytes: &[u8]) -> bool {
    match kind {
        "attachment" => object::<Attachment>(bytes),
        "commit" => object::<Commit>(bytes),
        "manifest" => object::<Manifest>(bytes),
        "tree" => object::<Tree>(bytes),
        "table" => file::<ReferenceTable>(TABLE_MAGIC, bytes),
        "operation" => file::<Operation>(OPERATION_MAGIC, bytes),
        "format" => format(bytes),
        "record" => record(bytes).is_ok(),
        "pack" => pack(bytes).is_ok(),
        "index" => index(bytes).is_ok(),
        other => panic!("there is no kind {other}"),
    }
}

fn object<T: Object>(bytes: &[u8]) -> bool {
    let Ok(object) = T::from_bytes(bytes) else {
        return false;
    };
    let (id, again) = object.to_bytes().expect("what was read can be written");
    assert_eq!(again, bytes, "{}", T::WHAT);
    assert!(T::from_bytes_as(&id, bytes).is_ok());
    true
}

fn file<T: Object>(magic: [u8; 8], bytes: &[u8]) -> bool {
    let Ok((id, object)) = decode_file::<T>(magic, bytes) else {
        return false;
    };
    let again = encode_file(magic, &object).expect("what was read can be written");
    assert_eq!(again, (id, bytes.to_vec()), "{}", T::WHAT);
    true
}

fn format(bytes: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    StoreFile::decode(text).is_ok_and(|file| {
        assert_eq!(file.encode(), text);
        let _ = file.check_writer();
        true
    })
}

fn record(bytes: &[u8]) -> Result<usize, FormatError> {
    const CUT: FormatError = FormatError::Truncated { what: "record" };
    let length = RecordHeader::length(bytes)?;
    let header = RecordHeader::decode(bytes.get(..length).ok_or(CUT)?)?;
    let mut again = Vec::new();
    header
        .encode(&mut again)
        .expect("what was read can be written");
    assert_eq!(again, bytes[..length]);
    let end = usize::try_from(header.stored_bytes)
        .ok()
        .and_then(|stored| length.checked_add(stored));
    let coded = end.and_then(|end| bytes.get(length..end)).ok_or(CUT)?;
    if check_of(coded) != header.stored_check {
        return Err(FormatError::Checksum { what: "record" });
    }
    Ok(length + coded.len())
}

fn pack(bytes: &[u8]) -> Result<(), FormatError> {
    const CUT: FormatError = FormatError::Truncated { what: "pack" };
    let header = bytes.get(..32).ok_or(CUT)?;
    assert_eq!(PackHeader::decode(header)?.encode(), header);
    let tail = bytes.split_last_chunk::<64>().ok_or(CUT)?.1;
    let trailer = Trailer::decode(tail, bytes.len() as u64)?;
    assert_eq!(trailer.encode(), tail);
    let start = usize::try_from(trailer.table_offset).map_err(|_| CUT)?;
    let end = bytes.len().checked_sub(64).ok_or(CUT)?;
    let table = trailer.table(bytes.get(start..end).ok_or(CUT)?)?;
    let mut ends = vec![(32, 32)];
    for row in 0..table.len() {
        let entry = table.entry(row)?;
        assert_eq!(table.find(&table.id(row).ok_or(CUT)?), Some(row));
        let offset = usize::try_from(entry.offset).map_err(|_| CUT)?;
        ends.push((
            offset,
            offset + record(bytes.get(offset..start).ok_or(CUT)?)?,
        ));
    }
    ends.push((start, start));
    ends.sort_unstable();
    // Records follow each other with less than 8 zeros between.
    let follow = ends.windows(2).all(|pair| {
        let gap = bytes.get(pair[0].1..pair[1].0);
        gap.is_some_and(|gap| gap.len() < 8 && gap.iter().all(|byte| *byte == 0))
    });
    if follow { Ok(()) } else { Err(CUT) }
}

fn index(bytes: &[u8]) -> Result<(), FormatError> {
    // Every access to a table that was not checked must be safe as well.
    let unchecked = Index::open(bytes)?;
    for row in 0..unchecked.table.len().min(64) {
        let _ = unchecked.table.entry(row);
        let _ = unchecked.table.needs(row).map(Iterator::count);
        let _ = unchecked.table.id(row).map(|id| unchecked.table.find(&id));
    }
    let index = Index::check(bytes)?;
    for row in 0..index.table.len() {
        let id = index.table.id(row).expect("a row within the table");
        assert_eq!(index.table.find(&id), Some(row));
        assert!(index.table.entry(row).is_ok() && index.table.needs(row).is_ok());
    }
    Ok(())
}

/// The bytes with every check recomputed, for kinds that have one.
pub fn repair(kind: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = bytes.to_vec();
    match kind {
        "table" | "operation" | "index" => {
            let (covered, check) = out.split_last_chunk_mut::<32>()?;
            *check = *blake3::hash(covered).as_bytes();
        }
        "format" => {
            let text = core::str::from_utf8(bytes).ok()?;
            let body = &text[..=text.rfind("\ncheck ")?];
            out = format!("{body}check {}\n", blake3::hash(body.as_bytes()).to_hex()).into_bytes();
        }
        "record" => {
            let length = RecordHeader::length(bytes).ok()?;
            let coded = check_of(bytes.get(length..)?);
            let (covered, check) = out.get_mut(..length)?.split_last_chunk_mut::<8>()?;
            covered.get_mut(64..72)?.copy_from_slice(&coded);
            *check = check_of(covered);
        }
        "pack" => {
            let (before, tail) = out.split_last_chunk_mut::<64>()?;
            let start = u64::from_le_bytes(*tail.first_chunk()?);
            let table = before.get(usize::try_from(start).ok()?..)?;
            tail[16..48].copy_from_slice(blake3::hash(table).as_bytes());
        }
        _ => return None,
    }
    Some(out)
}
