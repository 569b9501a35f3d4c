//! GGUF headers of all kinds against the laws.
//!
//! May use: what its parent may. Tests only.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::layout::testing::{Broken, Huge, lawful, refused};
use crate::layout::{RegionKind, parse};

const NAME: &str = "model.gguf";

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key with a value of a kind.
fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(name)[..], &kind.to_le_bytes(), value].concat()
}

fn row(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut row = text(name);
    row.extend((shape.len() as u32).to_le_bytes());
    shape.iter().for_each(|d| row.extend(d.to_le_bytes()));
    row.extend(kind.to_le_bytes());
    row.extend(offset.to_le_bytes());
    row
}

/// The front of a file with the given counts.
fn head(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend(version.to_le_bytes());
    head.extend(tensors.to_le_bytes());
    head.extend(keys.to_le_bytes());
    head
}

/// A file of keys, rows and data at the alignment.
fn file(keys: &[Vec<u8>], rows: &[Vec<u8>], alignment: usize, data: usize) -> Vec<u8> {
    let mut file = head(3, rows.len() as u64, keys.len() as u64);
    keys.iter().chain(rows).for_each(|part| file.extend(part));
    file.resize(file.len().next_multiple_of(alignment) + data, 7);
    file
}

fn sample() -> Vec<u8> {
    let strings = [
        &8_u32.to_le_bytes()[..],
        &3_u64.to_le_bytes(),
        &text("a"),
        &text(""),
        &text("ccc"),
    ];
    let nested = [
        &9_u32.to_le_bytes()[..],
        &1_u64.to_le_bytes(),
        &4_u32.to_le_bytes(),
        &0_u64.to_le_bytes(),
    ];
    let floats = [&6_u32.to_le_bytes()[..], &20_u64.to_le_bytes(), &[0; 80]];
    let keys = [
        key("general.architecture", 8, &text("llama")),
        key("general.alignment", 4, &64_u32.to_le_bytes()),
        key("u8", 0, &[200]),
        key("i8", 1, &[200]),
        key("u16", 2, &[1, 2]),
        key("i16", 3, &[255, 255]),
        key("i32", 5, &(-5_i32).to_le_bytes()),
        key("f32", 6, &1.5_f32.to_le_bytes()),
        key("bool", 7, &[1]),
        key("u64", 10, &u64::MAX.to_le_bytes()),
        key("i64", 11, &i64::MIN.to_le_bytes()),
        key("f64", 12, &0.25_f64.to_le_bytes()),
        key("strings", 9, &strings.concat()),
        key("nested", 9, &nested.concat()),
        key("floats", 9, &floats.concat()),
    ];
    let rows = [
        row("blk.0.attn_q.weight", &[64, 3], 8, 128),
        row("output_norm.weight", &[32], 0, 0),
        row("scalar", &[], 0, 384),
    ];
    file(&keys, &rows, 64, 400)
}

#[test]
fn a_small_file_has_its_tensors_and_metadata() {
    let bytes = sample();
    let parsed = lawful(NAME, &bytes);
    assert_eq!((parsed.layout, &parsed.note), (Layout::Gguf, &None));
    let names: Vec<_> = parsed.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names,
        ["output_norm.weight", "blk.0.attn_q.weight", "scalar"]
    );
    assert_eq!(parsed.tensors[1].shape, [3, 64]);
    assert_eq!(parsed.tensors[1].bytes, 6 * 34);
    assert_eq!(parsed.regions[0].bytes % 64, 0);
    let kinds: Vec<_> = parsed.regions.iter().map(|r| r.kind).collect();
    let (tensor, gap) = (RegionKind::Tensor, RegionKind::Gap);
    assert_eq!(
        kinds,
        [
            RegionKind::Header,
            tensor(0),
            tensor(1),
            gap,
            tensor(2),
            gap
        ]
    );

    let meta = gguf_meta(&bytes[..]).expect("readable").expect("GGUF");
    assert_eq!((meta.version, meta.alignment), (3, 64));
    assert_eq!(meta.text("general.architecture"), Some("llama"));
    assert_eq!(meta.number("u8"), Some(200));
    assert_eq!(meta.number("i8"), None);
    assert_eq!(meta.value("i8"), Some(&GgufValue::Signed(-56)));
    assert_eq!(meta.value("i64"), Some(&GgufValue::Signed(i64::MIN)));
    assert_eq!(meta.value("f32"), Some(&GgufValue::Float(1.5)));
    assert_eq!(meta.value("bool"), Some(&GgufValue::Bool(true)));
    let strings = ["a", "", "ccc"].map(|s| GgufValue::Text(s.into())).to_vec();
    assert_eq!(
        meta.value("strings"),
        Some(&GgufValue::Array {
            count: 3,
            head: strings
        })
    );
    let Some(GgufValue::Array { count: 20, head }) = meta.value("floats") else {
        panic!("an array");
    };
    assert_eq!(head.len(), ARRAY_HEAD);
}

#[test]
fn version_two_and_a_vocabulary_without_tensors_are_read() {
    let mut bytes = sample();
    bytes[4] = 2;
    assert_eq!(lawful(NAME, &bytes).layout, Layout::Gguf);
    let bare = head(3, 0, 0);
    let parsed = lawful(NAME, &bare);
    assert_eq!((parsed.layout, parsed.regions.len()), (Layout::Gguf, 1));
}

#[test]
fn every_type_of_ggml_has_its_length() {
    // Bytes of 256 elements, from ggml's structures.
    let lengths = [
        (0, 1024),
        (1, 512),
        (2, 144),
        (3, 160),
        (6, 176),
        (7, 192),
        (8, 272),
        (9, 288),
        (10, 84),
        (11, 110),
        (12, 144),
        (13, 176),
        (14, 210),
        (15, 292),
        (16, 66),
        (17, 74),
        (18, 98),
        (19, 50),
        (20, 144),
        (21, 110),
        (22, 82),
        (23, 136),
        (24, 256),
        (25, 512),
        (26, 1024),
        (27, 2048),
        (28, 2048),
        (29, 56),
        (30, 512),
        (34, 54),
        (35, 66),
        (39, 136),
    ];
    for (kind, bytes) in lengths {
        let parsed = lawful(
            NAME,
            &file(&[], &[row("a", &[256], kind, 0)], 32, bytes as usize),
        );
        assert_eq!(parsed.tensors[0].bytes, bytes, "type {kind}");
    }
    let known = (0..100)
        .filter(|&kind| element_type(kind).is_some())
        .count();
    assert_eq!(known, lengths.len());
}

#[test]
fn a_tensor_of_a_newer_type_is_a_gap_and_the_others_stay() {
    let rows = [row("new", &[256], 77, 0), row("old", &[8], 0, 64)];
    let parsed = lawful(NAME, &file(&[], &rows, 32, 96));
    assert_eq!(parsed.layout, Layout::Gguf);
    assert_eq!(parsed.tensors.len(), 1);
    assert!(parsed.note.expect("a note").contains("unknown type"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn hostile_headers_are_opaque_with_a_note() {
    let max = u64::MAX;
    let keys = |keys: &[Vec<u8>]| file(keys, &[], 32, 64);
    let rows = |rows: &[Vec<u8>]| file(&[], rows, 32, 64);
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GGUF".to_vec(), "ends within"),
        (head(0, 0, 0), "big-endian"),
        (head(1, 0, 0), "version 1"),
        (head(4, 0, 0), "version 4"),
        (head(3_u32.swap_bytes(), 0, 0), "big-endian"),
        (head(3, max, 0), "too many"),
        (head(3, 0, max), "too many"),
        (head(3, 1, 0), "ends within"),
        (head(3, 0, 1), "ends within"),
        (head(3, TENSORS_MAX as u64, 0), "ends within"),
        (
            [head(3, 0, 1), max.to_le_bytes().to_vec()].concat(),
            "too long",
        ),
        (
            [head(3, 0, 1), (1_u64 << 40).to_le_bytes().to_vec()].concat(),
            "ends within",
        ),
        (keys(&[key("\u{1}", 13, &[])]), "unknown type 13"),
        (keys(&[key("a", max as u32, &[])]), "unknown type"),
        (keys(&[key("a", 0, &[1]), key("a", 0, &[1])]), "twice"),
        (keys(&[key("a", 9, &list(4, max))]), "too long"),
        (keys(&[key("a", 9, &list(8, max))]), "ends within"),
        (keys(&[key("a", 9, &list(0, 1 << 40))]), "ends within"),
        (keys(&[key("a", 9, &list(13, 1))]), "unknown type"),
        (keys(&[key("a", 9, &list(9, 1).repeat(5))]), "too deep"),
        (
            keys(&[key("general.alignment", 4, &0_u32.to_le_bytes())]),
            "alignment",
        ),
        (
            keys(&[key("general.alignment", 4, &48_u32.to_le_bytes())]),
            "alignment",
        ),
        (
            keys(&[key("general.alignment", 10, &(1_u64 << 63).to_le_bytes())]),
            "alignment",
        ),
        (
            keys(&[key("general.alignment", 8, &text("32"))]),
            "alignment",
        ),
        (
            keys(&[key("general.alignment", 5, &(-32_i32).to_le_bytes())]),
            "alignment",
        ),
        (rows(&[row("a", &[1; 9], 0, 0)]), "too many dimensions"),
        (rows(&[row("a", &[max, 2], 0, 0)]), "shape"),
        (rows(&[row("a", &[max], 0, 0)]), "shape"),
        (rows(&[row("a", &[31], 2, 0)]), "shape"),
        // The product fills blocks, a row does not.
        (rows(&[row("a", &[16, 2], 2, 0)]), "shape"),
        (rows(&[row("a", &[17], 0, 0)]), "outside"),
        (rows(&[row("a", &[1], 0, max)]), "beyond"),
        (rows(&[row("a", &[1], 0, max - 4096)]), "outside"),
        (rows(&[row("a", &[0], 0, 1 << 50)]), "outside"),
        (
            rows(&[row("a", &[4], 0, 0), row("b", &[4], 0, 12)]),
            "overlaps",
        ),
        (
            rows(&[row("a", &[4], 0, 0), row("a", &[4], 0, 32)]),
            "named twice",
        ),
        (
            rows(&[[vec![1, 0, 0, 0, 0, 0, 0, 0, 0xff], vec![0; 32]].concat()]),
            "UTF-8",
        ),
    ];
    for (bytes, note) in cases {
        refused(NAME, &bytes, note);
    }
}

#[test]
fn memory_follows_what_is_read_and_not_what_is_claimed() {
    // A list of a million empty texts that the file does hold, in zeros, is passed over.
    let mut front = head(3, 0, 1);
    front.extend(key(
        "a",
        9,
        &[&8_u32.to_le_bytes()[..], &1_000_000_u64.to_le_bytes()].concat(),
    ));
    let huge = Huge::new(front, 1 << 40);
    let parsed = parse(NAME, &huge).expect("readable");
    assert_eq!(parsed.layout, Layout::Gguf);
    assert!(huge.read.load(Ordering::Relaxed) < 9 << 20);
    let mut front = head(3, 0, 1);
    front.extend(key(
        "a",
        9,
        &[&8_u32.to_le_bytes()[..], &(1_u64 << 60).to_le_bytes()].concat(),
    ));
    let endless = Huge::new(front, 1 << 62);
    let parsed = parse(NAME, &endless).expect("readable");
    assert_eq!(parsed.layout, Layout::Opaque);
    assert!(endless.read.load(Ordering::Relaxed) <= HEADER_BYTES_MAX + (1 << 20));
}

#[test]
fn a_source_that_fails_is_an_error() {
    assert!(gguf_meta(&Broken(100)).is_err());
    assert_eq!(gguf_meta(&b"no"[..]).expect("readable"), None);
}

#[test]
fn every_truncation_of_a_file_keeps_the_law() {
    let bytes = sample();
    for length in 0..bytes.len() {
        lawful(NAME, &bytes[..length]);
    }
}

proptest! {
    #[test]
    fn mutated_files_keep_the_law(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
        lawful(NAME, &bytes);
        gguf_meta(&bytes[..]).expect("readable");
    }
}

#[test]
fn arrays_of_arrays_keep_no_more_than_there_is_room_for() {
    fn kept(value: &GgufValue) -> usize {
        match value {
            GgufValue::Array { head, .. } => head.len() + head.iter().map(kept).sum::<usize>(),
            _ => 0,
        }
    }
    // 20 elements in each of 3 levels, then bytes.
    let array = |kind: u32, elements: &[u8]| {
        [&kind.to_le_bytes()[..], &20_u64.to_le_bytes(), elements].concat()
    };
    let bytes = array(0, &[1; 20]);
    let nested = (0..3).fold(bytes, |inner, _| array(9, &inner.repeat(20)));
    // Each keeps eight of eight of eight of eight.
    let each: usize = (1..=4).map(|level| ARRAY_HEAD.pow(level)).sum();
    let count = 2 * KEPT_MAX / each;
    let keys = (0..count).map(|number| key(&format!("key {number}"), 9, &nested));
    let last = key("last", 4, &7_u32.to_le_bytes());
    let keys: Vec<_> = keys.chain([last]).collect();
    let meta = gguf_meta(file(&keys, &[], 32, 0).as_slice())
        .unwrap()
        .unwrap();
    assert_eq!(meta.number("last"), Some(7));
    assert_eq!(kept(meta.value("key 0").unwrap()), each);
    let all: usize = meta.keys.iter().map(|(_, value)| kept(value)).sum();
    assert_eq!(all, KEPT_MAX);
    let of_last = meta.value(&format!("key {}", count - 1));
    let whole = GgufValue::Array {
        count: 20,
        head: Vec::new(),
    };
    assert_eq!(of_last, Some(&whole));
}
