//! Headers of all kinds against the laws and against the reference reader.
//!
//! May use: what its parent may. Tests only.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::layout::testing::{Broken, Huge, lawful, refused};
use crate::layout::{RegionKind, parse, safetensors_subset};

const NAME: &str = "model.safetensors";

/// A file from the text of its header and its data.
fn file(json: &str, data: &[u8]) -> Vec<u8> {
    let length = (json.len() as u64).to_le_bytes();
    [&length[..], json.as_bytes(), data].concat()
}

/// One tensor as JSON.
fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

#[test]
fn a_small_file_has_its_regions_and_tensors() {
    let json = format!(
        r#"{{{},"__metadata__":{{"format":"pt"}},{},{}}}  "#,
        entry("b", "F32", "[2,2]", 4, 20),
        entry("a", "BF16", "[2]", 0, 4),
        entry("none", "F32", "[0,7]", 4, 4)
    );
    let bytes = file(&json, &[7; 20]);
    let parsed = lawful(NAME, &bytes);
    assert_eq!((parsed.layout, &parsed.note), (Layout::Safetensors, &None));
    let names: Vec<_> = parsed.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["a", "none", "b"]);
    let kinds: Vec<_> = parsed.regions.iter().map(|r| r.kind).collect();
    let tensor = RegionKind::Tensor;
    assert_eq!(kinds, [RegionKind::Header, tensor(0), tensor(2)]);
    let texts = safetensors_metadata(&bytes[..]).expect("readable");
    assert_eq!(texts.get("format").map(String::as_str), Some("pt"));
    // Known by its bytes, too: files in caches of hubs have no extension.
    assert_eq!(lawful("blob", &bytes), parsed);
}

#[test]
fn holes_trailing_bytes_and_an_empty_table_are_kept_as_gaps() {
    let json = format!("{{{}}}", entry("a", "U8", "[3]", 5, 8));
    let parsed = lawful(NAME, &file(&json, &[1; 11]));
    let kinds: Vec<_> = parsed.regions.iter().map(|r| (r.kind, r.bytes)).collect();
    let header = (RegionKind::Header, 8 + json.len() as u64);
    let gap = |bytes| (RegionKind::Gap, bytes);
    assert_eq!(kinds, [header, gap(5), (RegionKind::Tensor(0), 3), gap(3)]);
    let parsed = lawful(NAME, &file("{}", b"tail"));
    assert_eq!(parsed.layout, Layout::Safetensors);
    assert_eq!(parsed.regions.len(), 2);
}

#[test]
fn odd_metadata_do_not_hurt() {
    for odd in [
        "{}",
        "3",
        "null",
        "[1,{\"a\":[]}]",
        r#"{"a":1,"b":"text","c":{}}"#,
        "1e400000",
    ] {
        let json = format!(
            r#"{{"__metadata__":{odd},{}}}"#,
            entry("a", "U8", "[1]", 0, 1)
        );
        let bytes = file(&json, &[1]);
        let parsed = lawful(NAME, &bytes);
        if odd == "1e400000" {
            assert_eq!(parsed.layout, Layout::Opaque);
            continue;
        }
        assert_eq!(parsed.layout, Layout::Safetensors, "{odd}");
        let texts = safetensors_metadata(&bytes[..]).expect("readable");
        assert_eq!(texts.len(), usize::from(odd.contains("text")));
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn hostile_headers_are_opaque_with_a_note() {
    let one = |dtype: &str, shape: &str, begin, end| {
        file(
            &format!("{{{}}}", entry("a", dtype, shape, begin, end)),
            &[0; 64],
        )
    };
    let raw = |json: &str| file(json, &[0; 64]);
    let max = u64::MAX;
    let many = format!("[{}1]", "1,".repeat(64));
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "ends within the length"),
        (vec![1, 2, 3], "ends within the length"),
        (vec![0; 8], "not a JSON object"),
        (max.to_le_bytes().to_vec(), "too long"),
        ((HEADER_BYTES_MAX + 1).to_le_bytes().to_vec(), "too long"),
        (HEADER_BYTES_MAX.to_le_bytes().to_vec(), "beyond the file"),
        (
            [&9_u64.to_le_bytes()[..], b"{}      "].concat(),
            "beyond the file",
        ),
        (raw(""), "not a JSON object"),
        (raw(" {}"), "not a JSON object"),
        (raw("[]"), "not a JSON object"),
        (raw("{"), "header is wrong"),
        (raw("{}x"), "header is wrong"),
        (raw("{}\0\0"), "header is wrong"),
        (raw("{\"a\":}"), "header is wrong"),
        (raw("{\"a\":1}"), "header is wrong"),
        (raw("{\"a\":[]}"), "header is wrong"),
        (raw("{\"a\":{}}"), "lacks a field"),
        (raw(r#"{"a":{"dtype":"U8","shape":[1]}}"#), "lacks a field"),
        (
            raw(r#"{"a":{"dtype":"U8","data_offsets":[0,1]}}"#),
            "lacks a field",
        ),
        (
            raw(r#"{"a":{"shape":[1],"data_offsets":[0,1]}}"#),
            "lacks a field",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#),
            "twice",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}"#),
            "twice",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}}"#),
            "header is wrong",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,2]}}"#),
            "header is wrong",
        ),
        (
            raw(r#"{"a":{"dtype":7,"shape":[1],"data_offsets":[0,1]}}"#),
            "header is wrong",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","shape":1,"data_offsets":[0,1]}}"#),
            "header is wrong",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}"#),
            "header is wrong",
        ),
        (
            raw(r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}}"#),
            "header is wrong",
        ),
        (raw(r#"{"__metadata__":{},"__metadata__":{}}"#), "twice"),
        (
            raw(&format!("{{\"__metadata__\":{}", "[".repeat(1000))),
            "recursion",
        ),
        (
            raw(&format!("{{\"a\":{{\"x\":{}", "{\"y\":".repeat(1000))),
            "recursion",
        ),
        (one("F33", "[1]", 0, 1), "unknown element type"),
        (one("Q4_0", "[32]", 0, 18), "unknown element type"),
        (one("U8", "[18446744073709551616]", 0, 1), "header is wrong"),
        (one("U8", "[18446744073709551615,2]", 0, 1), "does not fit"),
        (one("F64", "[18446744073709551615]", 0, 8), "does not fit"),
        (one("U8", &many, 0, 1), "too many dimensions"),
        (one("U8", "[4]", 0, 3), "does not fit"),
        (one("U8", "[4]", 0, 5), "does not fit"),
        (one("U8", "[1]", 1, 0), "does not fit"),
        (one("F4", "[3]", 0, 2), "does not fit"),
        (one("F6_E2M3", "[2]", 0, 2), "does not fit"),
        (one("U8", "[65]", 0, 65), "beyond the file"),
        (one("U8", "[1]", 64, 65), "beyond the file"),
        (one("U8", "[1]", max - 1, max), "beyond the file"),
        (one("U8", "[0]", max, max), "beyond the file"),
        (
            raw(&format!(
                "{{{},{}}}",
                entry("a", "U8", "[4]", 0, 4),
                entry("b", "U8", "[4]", 3, 7)
            )),
            "overlaps",
        ),
        (
            raw(&format!(
                "{{{},{}}}",
                entry("a", "U8", "[4]", 0, 4),
                entry("b", "U8", "[4]", 0, 4)
            )),
            "overlaps",
        ),
        (
            raw(&format!(
                "{{{},{}}}",
                entry("a", "U8", "[4]", 0, 4),
                entry("a", "U8", "[4]", 4, 8)
            )),
            "named twice",
        ),
        (
            file("{\"\u{fffd}\":1}", b"")
                .into_iter()
                .map(|b| if b == 0xef { 0xff } else { b })
                .collect(),
            "header is wrong",
        ),
    ];
    for (bytes, note) in cases {
        refused(NAME, &bytes, note);
    }
}

#[test]
fn a_header_is_the_most_that_is_read_of_a_huge_file() {
    let json = format!("{{{}}}", entry("a", "F32", "[1099511627776]", 0, 4 << 40));
    let bytes = 8 + json.len() as u64 + (4 << 40);
    let huge = Huge::new(file(&json, &[]), bytes);
    let parsed = parse(NAME, &huge).expect("readable");
    assert_eq!(parsed.layout, Layout::Safetensors);
    assert!(parsed.tiles(bytes));
    assert!(huge.read.load(Ordering::Relaxed) < 128 << 10);
    assert_eq!(crate::layout::stretches(&parsed).count(), (1 << 20) + 1);
    let lying = Huge::new(u64::MAX.to_le_bytes().to_vec(), u64::MAX);
    assert_eq!(
        parse(NAME, &lying).expect("readable").layout,
        Layout::Opaque
    );
    assert!(lying.read.load(Ordering::Relaxed) < 128 << 10);
}

#[test]
fn a_source_that_fails_is_an_error_and_not_opaque() {
    assert!(parse(NAME, &Broken(100)).is_err());
    assert!(safetensors_metadata(&Broken(100)).is_err());
}

#[test]
fn every_truncation_of_a_file_keeps_the_law() {
    let json = format!(
        "{{{},{}}}",
        entry("a", "U8", "[4]", 0, 4),
        entry("b", "F16", "[4]", 4, 12)
    );
    let bytes = file(&json, &[9; 16]);
    for length in 0..bytes.len() {
        lawful(NAME, &bytes[..length]);
        lawful("x", &bytes[..length]);
    }
}

const DTYPES: &[(Dtype, DType)] = &[
    (Dtype::BOOL, DType::Bool),
    (Dtype::U8, DType::U8),
    (Dtype::I8, DType::I8),
    (Dtype::U16, DType::U16),
    (Dtype::I16, DType::I16),
    (Dtype::U32, DType::U32),
    (Dtype::I32, DType::I32),
    (Dtype::U64, DType::U64),
    (Dtype::I64, DType::I64),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::Bf16),
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::F8_E4M3, DType::F8E4M3),
    (Dtype::F8_E5M2, DType::F8E5M2),
    (Dtype::F8_E8M0, DType::F8E8M0),
    (Dtype::F8_E4M3FNUZ, DType::F8E4M3Fnuz),
    (Dtype::F8_E5M2FNUZ, DType::F8E5M2Fnuz),
    (Dtype::F6_E2M3, DType::F6E2M3),
    (Dtype::F6_E3M2, DType::F6E3M2),
    (Dtype::F4, DType::F4),
    (Dtype::C64, DType::C64),
];

#[test]
fn every_element_type_of_the_format_is_known() {
    assert_eq!(
        DTYPES.len(),
        DType::ALL.iter().filter(|&&d| is_known(d)).count()
    );
    for (theirs, ours) in DTYPES {
        assert_eq!(theirs.to_string(), ours.name());
        assert_eq!(element_type(ours.name()), Some(*ours));
        let (elements, bytes) = ours.block();
        assert_eq!(theirs.bitsize() as u64 * elements, bytes * 8);
    }
}

/// Names, types and shapes whose elements fill whole bytes.
fn tensors() -> impl Strategy<Value = Vec<(String, usize, Vec<usize>)>> {
    let shape = prop::collection::vec(0_usize..5, 0..3).prop_map(|mut shape| {
        shape.push(4);
        shape
    });
    let tensor = ("[a-z\"\\\\é.0-9]{1,9}", 0..DTYPES.len(), shape);
    prop::collection::vec(tensor, 0..9)
}

/// What the safetensors crate writes for them.
fn written(tensors: &[(String, usize, Vec<usize>)], metadata: bool) -> Vec<u8> {
    let zeros = vec![0_u8; 4096];
    let views: BTreeMap<_, _> = tensors
        .iter()
        .map(|(name, dtype, shape)| {
            let dtype = DTYPES[*dtype].0;
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let view = TensorView::new(dtype, shape.clone(), &zeros[..bytes]);
            (name.clone(), view.expect("fits"))
        })
        .collect();
    let texts = metadata.then(|| HashMap::from([("format".into(), "pt".into())]));
    safetensors::serialize(views, texts).expect("serializes")
}

/// Type, shape, first byte and length of each tensor by its name.
type Table = BTreeMap<String, (String, Vec<u64>, u64, u64)>;

/// Everything the safetensors crate says about a file.
fn oracle(bytes: &[u8]) -> Option<Table> {
    let read = SafeTensors::deserialize(bytes).ok()?;
    let base = bytes.as_ptr() as usize;
    Some(
        read.tensors()
            .into_iter()
            .map(|(name, view)| {
                let shape = view.shape().iter().map(|&d| d as u64).collect();
                let start = (view.data().as_ptr() as usize - base) as u64;
                (
                    name,
                    (
                        view.dtype().to_string(),
                        shape,
                        start,
                        view.data().len() as u64,
                    ),
                )
            })
            .collect(),
    )
}

fn as_oracle(parsed: &Parsed) -> Table {
    let one = |t: &Tensor| {
        (
            t.dtype.name().to_string(),
            t.shape.clone(),
            t.start,
            t.bytes,
        )
    };
    parsed
        .tensors
        .iter()
        .map(|t| (t.name.clone(), one(t)))
        .collect()
}

proptest! {
    #[test]
    fn files_read_as_the_reference_reads_them(tensors in tensors(), metadata: bool) {
        let bytes = written(&tensors, metadata);
        let parsed = lawful(NAME, &bytes);
        prop_assert_eq!(parsed.layout, Layout::Safetensors);
        prop_assert_eq!(Some(as_oracle(&parsed)), oracle(&bytes));
    }

    #[test]
    fn mutated_files_keep_the_law_and_what_the_reference_takes_is_taken(
        tensors in tensors(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = written(&tensors, true);
        for (at, value) in flips {
            let at = at.index(bytes.len().min(400));
            bytes[at] = value;
        }
        let parsed = lawful(NAME, &bytes);
        if let Some(expected) = oracle(&bytes) {
            // A name or field that stands there twice: the reference takes the last one.
            if parsed.note.as_ref().is_none_or(|note| !note.contains("twice")) {
                prop_assert_eq!(as_oracle(&parsed), expected);
            }
        }
    }

    #[test]
    fn a_subset_reads_in_the_reference_with_the_same_tensors(
        tensors in tensors(),
        keep in prop::collection::vec(any::<bool>(), 9),
    ) {
        let bytes = written(&tensors, true);
        let parsed = lawful(NAME, &bytes);
        let mut kept: Vec<_> = parsed.tensors.iter().zip(&keep)
            .filter(|(_, keep)| **keep).map(|(t, _)| t.clone()).collect();
        kept.reverse();
        let texts = safetensors_metadata(&bytes[..]).expect("readable");
        let subset = safetensors_subset(&kept, &texts).expect("valid");
        prop_assert_eq!(subset.header.len() % 8, 0);
        let mut new = subset.header.clone();
        for (tensor, source) in subset.tensors.iter().zip(&subset.sources) {
            prop_assert_eq!(new.len() as u64, tensor.start);
            let from = *source as usize;
            new.extend_from_slice(&bytes[from..from + tensor.bytes as usize]);
        }
        let again = lawful(NAME, &new);
        prop_assert_eq!(&again.tensors, &subset.tensors);
        prop_assert_eq!(Some(as_oracle(&again)), oracle(&new));
        prop_assert_eq!(safetensors_metadata(&new[..]).expect("readable"), texts);
        prop_assert_eq!(again.tensors.len(), kept.len());
    }
}

#[test]
fn a_subset_that_no_reader_would_take_is_refused() {
    let tensor = |name: &str, dtype, shape: &[u64], bytes| Tensor {
        name: name.into(),
        dtype,
        shape: shape.into(),
        start: 0,
        bytes,
    };
    let none = BTreeMap::new();
    for tensors in [
        vec![
            tensor("a", DType::U8, &[1], 1),
            tensor("a", DType::U8, &[1], 1),
        ],
        vec![tensor("__metadata__", DType::U8, &[1], 1)],
        vec![tensor("a", DType::Q4_0, &[32], 18)],
        vec![tensor("a", DType::U8, &[1], 2)],
        vec![
            tensor("a", DType::U8, &[u64::MAX], u64::MAX),
            tensor("b", DType::U8, &[1], 1),
        ],
    ] {
        assert!(safetensors_subset(&tensors, &none).is_err(), "{tensors:?}");
    }
    let empty = safetensors_subset(&[], &none).expect("an empty file is valid");
    assert_eq!(empty.header, file("{}      ", &[]));
}
