//! Zip files as PyTorch writes them, and zip files that lie.
//!
//! May use: what its parent may. Tests only.

use proptest::prelude::*;

use super::pickle::tests::state_dict;
use super::*;
use crate::layout::testing::{Broken, Huge, lawful, refused, zip};
use crate::layout::{RegionKind, parse};

const NAME: &str = "pytorch_model.bin";

/// A model: two tensors and a view in the first storage, one in the second, none in the third.
fn sample() -> Vec<u8> {
    let pickle = state_dict(&[
        ("a", "FloatStorage", "0", 6, 0, &[2, 2], &[2, 1]),
        ("rest", "FloatStorage", "0", 6, 4, &[2], &[1]),
        ("tied", "FloatStorage", "0", 6, 0, &[2, 3], &[3, 1]),
        ("b", "BFloat16Storage", "1", 5, 1, &[1, 3], &[77, 1]),
        ("turned", "FloatStorage", "0", 6, 0, &[3, 2], &[1, 3]),
        ("none", "HalfStorage", "1", 5, 0, &[0, 3], &[3, 1]),
        ("scalar", "LongStorage", "3", 1, 0, &[], &[]),
    ]);
    zip(&[
        ("m/data.pkl", &pickle),
        ("m/byteorder", b"little"),
        ("m/data/0", &[1; 24]),
        ("m/data/1", &[2; 10]),
        ("m/data/2", &[3; 40]),
        ("m/data/3", &[4; 8]),
        ("m/version", b"3\n"),
    ])
}

#[test]
fn tensors_are_found_and_the_rest_is_raw_or_a_gap() {
    let parsed = lawful(NAME, &sample());
    assert_eq!(parsed.layout, Layout::TorchZip);
    let names: Vec<_> = parsed.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "rest", "none", "b", "scalar"]);
    let note = parsed.note.expect("a note");
    assert!(note.contains("1 tensors share"), "{note}");
    let kinds: Vec<_> = parsed.regions.iter().map(|r| r.kind).collect();
    let (tensor, gap) = (RegionKind::Tensor, RegionKind::Gap);
    assert_eq!(
        kinds,
        [
            RegionKind::Header,
            tensor(0),
            tensor(1),
            gap,
            tensor(3),
            gap,
            RegionKind::Raw,
            gap,
            tensor(4),
            gap,
        ]
    );
    assert_eq!(parsed.tensors[3].bytes, 6);
}

#[test]
fn storages_without_names_are_raw() {
    let raws = |bytes: &[u8], word: &str| {
        let parsed = lawful(NAME, bytes);
        assert_eq!(parsed.layout, Layout::TorchZip);
        assert!(parsed.tensors.is_empty());
        let note = parsed.note.unwrap_or_default();
        assert!(note.contains(word), "'{note}' does not say '{word}'");
        let is_raw = |r: &&crate::layout::Region| r.kind == RegionKind::Raw;
        parsed.regions.iter().filter(is_raw).count()
    };
    let model = |pickle: &[u8], order: &[u8]| {
        zip(&[
            ("m/data.pkl", pickle),
            ("m/byteorder", order),
            ("m/data/0", &[1; 24]),
        ])
    };
    let one = |count| state_dict(&[("a", "FloatStorage", "0", count, 0, &[6], &[1])]);
    assert_eq!(raws(&model(b"I1\n.", b"little"), "could not be read"), 1);
    assert_eq!(raws(&model(&one(6), b"big"), "little-endian"), 1);
    assert_eq!(raws(&model(&one(7), b"little"), "not whole runs"), 1);
    assert_eq!(
        raws(&model(&one(i64::MAX as u64), b"little"), "not whole runs"),
        1
    );
    let missing = state_dict(&[("a", "FloatStorage", "9", 6, 0, &[6], &[1])]);
    assert_eq!(raws(&model(&missing, b"little"), "not whole runs"), 1);
    let beyond = state_dict(&[("a", "FloatStorage", "0", 6, 1, &[6], &[1])]);
    assert_eq!(raws(&model(&beyond, b"little"), "not whole runs"), 1);
    let far = state_dict(&[("a", "FloatStorage", "0", 6, i64::MAX as u64, &[6], &[1])]);
    assert_eq!(raws(&model(&far, b"little"), "not whole runs"), 1);
    let max = i64::MAX as u64;
    let large = state_dict(&[("a", "FloatStorage", "0", 6, 0, &[max, max], &[max, 1])]);
    assert_eq!(raws(&model(&large, b"little"), "not whole runs"), 1);
}

#[test]
fn zip_files_of_others_are_opaque_without_a_note() {
    for bytes in [
        zip(&[("word/document.xml", b"<a/>")]),
        zip(&[("a/b/data.pkl", b"N.")]),
    ] {
        let parsed = lawful("x.docx", &bytes);
        assert_eq!((parsed.layout, parsed.note), (Layout::Opaque, None));
    }
}

/// Where the end of the directory, the directory, and the entry of "m/data/0" in it begin.
fn places(bytes: &[u8]) -> (usize, usize, usize) {
    let end = bytes.len() - 22;
    let table = u32::from_le_bytes(*bytes[end + 16..].first_chunk().expect("long enough"));
    let name = bytes[table as usize..]
        .windows(8)
        .position(|w| w == b"m/data/0");
    (
        end,
        table as usize,
        table as usize + name.expect("there") - 46,
    )
}

#[test]
fn hostile_directories_are_opaque_with_a_note() {
    let good = sample();
    let (end, table, entry) = places(&good);
    let patch = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let local = u32::from_le_bytes(*good[entry + 42..].first_chunk().expect("there")) as usize;
    let twice = zip(&[
        ("m/data.pkl", b"N."),
        ("m/data/0", b"1"),
        ("m/data/0", b"2"),
    ]);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (good[..end].to_vec(), "missing"),
        (patch(end, b"PK\x05\x07"), "missing"),
        (patch(end + 20, &[1, 0]), "missing"),
        (b"PK\x03\x04".to_vec(), "missing"),
        (patch(end + 10, &[0xfe, 0xff]), "cut off"),
        (patch(end + 10, &[8, 0]), "cut off"),
        (patch(end + 12, &[0xff, 0xff, 0xff, 0x7f]), "too long"),
        (patch(end + 12, &[0xff, 0xff, 0xff, 0x00]), "cut off"),
        (patch(end + 16, &[0xfe, 0xff, 0xff, 0xff]), "cut off"),
        (patch(end + 16, &[0, 0, 0, 0]), "wrong"),
        (patch(table, b"PK\x01\x03"), "wrong"),
        (patch(table + 28, &[0xff, 0xff]), "cut off"),
        (patch(table + 30, &[0xff, 0xff]), "cut off"),
        (patch(table + 32, &[0xff, 0xff]), "cut off"),
        // A number that says "see the wide one", and there is none.
        (patch(entry + 42, &[0xff; 4]), "cut off"),
        (patch(entry + 20, &[0xff; 8]), "cut off"),
        // An entry that begins or ends outside, or has no header.
        (patch(entry + 42, &[0xfe, 0xff, 0xff, 0xff]), "outside"),
        (patch(entry + 42, &[1, 0, 0, 0]), "no header"),
        (
            patch(entry + 20, &[0, 1, 0, 0, 0, 1, 0, 0].map(|b| b * 0x40)),
            "outside",
        ),
        (patch(local, b"PK\x03\x05"), "no header"),
        (patch(local + 26, &[0xff, 0xff]), "outside"),
        (patch(local + 28, &[0xff, 0xff]), "outside"),
        // Two storages in the same bytes.
        (
            patch(entry + 42, &{
                let other = u32::from_le_bytes(
                    *good[places_of(&good, b"m/data/2") + 42..]
                        .first_chunk()
                        .expect("there"),
                );
                other.to_le_bytes()
            }),
            "overlaps",
        ),
        (twice, "twice"),
    ];
    for (at, (bytes, note)) in cases.into_iter().enumerate() {
        let parsed = lawful(NAME, &bytes);
        assert!(parsed.note.is_some(), "case {at}: {note}");
        refused(NAME, &bytes, note);
    }
}

/// The directory's entry of a name.
fn places_of(bytes: &[u8], name: &[u8]) -> usize {
    let (_, table, _) = places(bytes);
    let found = bytes[table..].windows(name.len()).position(|w| w == name);
    table + found.expect("there") - 46
}

#[test]
fn packed_and_encrypted_storages_are_gaps() {
    let good = sample();
    let (_, _, entry) = places(&good);
    for (at, value) in [(10, 8), (8, 1), (20, 23)] {
        let mut bytes = good.clone();
        bytes[entry + at] = value;
        let parsed = lawful(NAME, &bytes);
        assert_eq!(parsed.layout, Layout::TorchZip);
        let names: Vec<_> = parsed.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["none", "b", "scalar"]);
    }
}

/// The same file with its directory's end in 64 bits.
fn wide(mut file: Vec<u8>) -> Vec<u8> {
    let (end, table, _) = places(&file);
    let count = u64::from(file[end + 10]);
    let tail = file.split_off(end);
    let mut record = b"PK\x06\x06".to_vec();
    record.extend(44_u64.to_le_bytes());
    record.extend([0; 12]);
    for number in [count, count, (end - table) as u64, table as u64] {
        record.extend(number.to_le_bytes());
    }
    let at = file.len() as u64;
    file.extend(record);
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(at.to_le_bytes());
    file.extend([1, 0, 0, 0]);
    file.extend(&tail[..8]);
    file.extend([0xff; 12]);
    file.extend([0, 0]);
    file
}

#[test]
fn wide_directories_are_read() {
    let narrow = lawful(NAME, &sample());
    let file = wide(sample());
    let parsed = lawful(NAME, &file);
    assert_eq!(parsed.tensors, narrow.tensors);
    let end = file.len() - 22;
    // The wide end lies elsewhere, has another signature, or claims the impossible.
    let cases: [(usize, &[u8], &str); 5] = [
        (end - 12, &[0xff; 8], "cut off"),
        (end - 12, &[0; 8], "wrong"),
        (end - 20 - 24, &[0xff; 8], "too long"),
        (end - 20 - 16, &[0xff; 8], "too long"),
        (end - 20 - 8, &[0xff; 8], "cut off"),
    ];
    for (at, value, note) in cases {
        let mut bytes = file.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        refused(NAME, &bytes, note);
    }
}

#[test]
fn wide_numbers_of_an_entry_are_read() {
    let file = sample();
    let (end, _, entry) = places(&file);
    let mut wide = file.clone();
    let numbers: Vec<u8> = [24, 20, 42]
        .iter()
        .flat_map(|&at| {
            let narrow: [u8; 4] = *file[entry + at..].first_chunk().expect("there");
            u64::from(u32::from_le_bytes(narrow)).to_le_bytes()
        })
        .collect();
    for at in [20, 24, 42] {
        wide[entry + at..entry + at + 4].fill(0xff);
    }
    // A field of another kind stands before it.
    let extra = [&[9, 9, 2, 0, 7, 7, 1, 0, 24, 0][..], &numbers].concat();
    wide[entry + 30] = extra.len() as u8;
    let at = entry + 46 + "m/data/0".len();
    wide.splice(at..at, extra.iter().copied());
    let end = end + extra.len();
    wide[end + 12] += extra.len() as u8;
    let parsed = lawful(NAME, &wide);
    assert_eq!(parsed.tensors, lawful(NAME, &file).tensors);
}

#[test]
fn little_is_read_of_a_huge_file() {
    let huge = Huge::new(b"PK\x03\x04".to_vec(), u64::MAX);
    let parsed = parse(NAME, &huge).expect("readable");
    assert_eq!(parsed.layout, Layout::Opaque);
    assert!(huge.read.into_inner() < 256 << 10);
    assert!(parse(NAME, &Broken(100)).is_err());
}

#[test]
fn every_truncation_and_every_flipped_byte_keeps_the_law() {
    let bytes = sample();
    for length in 0..bytes.len() {
        lawful(NAME, &bytes[..length]);
    }
    let mut bytes = wide(bytes);
    for at in 0..bytes.len() {
        for mask in [0xff, 0x01, 0x80] {
            bytes[at] ^= mask;
            lawful(NAME, &bytes);
            bytes[at] ^= mask;
        }
    }
}

proptest! {
    #[test]
    fn mutated_files_keep_the_law(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = sample();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        lawful(NAME, &bytes);
    }
}
