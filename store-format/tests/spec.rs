//! `SPEC.md` tells the truth: its examples are the golden files, its closed sets and limits are
//! those of the code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use store_format::commit::Derivation;
use store_format::dtype::DType;
use store_format::layout::Layout;
use store_format::limits;
use store_format::manifest::Role;
use store_format::pack::PackKind;
use store_format::record::{Coding, Kind, Predictor};

const SPEC: &str = include_str!("../SPEC.md");

/// The digits before the comment of each line.
fn hex(block: &str) -> Vec<u8> {
    let lines = block.lines().filter_map(|line| line.split('#').next());
    let digits: String = lines.flat_map(str::split_whitespace).collect();
    let pairs = digits.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

#[test]
fn examples_are_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1");
    let blocks: Vec<_> = SPEC.split("\n```hex golden=").skip(1).collect();
    for block in &blocks {
        let (name, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("```").unwrap();
        assert_eq!(hex(body), fs::read(folder.join(name)).unwrap(), "{name}");
    }
    assert!(blocks.len() >= 7);
    assert_eq!(blocks.len(), SPEC.matches("```hex").count());
}

/// The cells of the table behind a mark, row by row.
fn table(mark: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = SPEC.split_once(mark).expect("the mark stands in the page");
    let rows = rest
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().trim_matches('`')).collect()
    })
    .collect()
}

#[test]
fn closed_sets_are_those_of_the_code() {
    let check = |set: &str, values: Vec<(u8, &str)>| {
        let rows = table(&format!("<!-- set: {set} -->"));
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row[0].parse().unwrap(), row[1]))
            .collect();
        assert_eq!(found, values, "{set}");
    };
    macro_rules! sets {
        ($($set:ident)*) => { $(
            check(stringify!($set), $set::ALL.iter().map(|v| (v.number(), v.name())).collect());
        )* };
    }
    sets!(Kind Predictor Coding PackKind Layout Role Derivation DType);
    for (row, dtype) in table("<!-- set: DType -->").iter().zip(DType::ALL) {
        let block = (row[2].parse().unwrap(), row[3].parse().unwrap());
        assert_eq!(block, dtype.block(), "{}", dtype.name());
    }
}

#[test]
fn every_predictor_has_a_section() {
    for predictor in Predictor::ALL {
        let heading = format!(
            "### Predictor {}: {}\n",
            predictor.number(),
            predictor.name()
        );
        assert!(SPEC.contains(&heading), "{heading}");
    }
}

#[test]
fn limits_are_those_of_the_code() {
    let rows = table("<!-- limits -->");
    let source = include_str!("../src/limits.rs");
    assert_eq!(rows.len(), source.matches("pub const ").count());
    let mut seen = 0;
    macro_rules! check {
        ($($name:ident)*) => { $(
            let row = rows.iter().find(|row| row[0] == stringify!($name)).unwrap();
            assert_eq!(row[1], limits::$name.to_string(), "{}", row[0]);
            seen += 1;
        )* };
    }
    check!(
        CHUNK_ELEMENTS CHUNK_BYTES_MAX DEPTH_MAX RECORD_HEADER_BYTES_MAX STORED_BYTES_MAX SIDE_MAX
        SOURCES_MAX SOURCE_BYTES_MAX PACK_BYTES_MAX PACK_RECORDS_MAX OBJECT_BYTES_MAX
        OBJECT_ITEMS_MAX OBJECT_DEPTH_MAX NAME_BYTES_MAX SYMLINK_BYTES_MAX TREE_DEPTH_MAX
        PARENTS_MAX MESSAGE_BYTES_MAX ATTRIBUTE_BYTES_MAX REFERENCE_NAME_BYTES_MAX
        TABLE_NUMBER_MAX OFFSET_MINUTES_MAX STORE_FILE_BYTES_MAX TABLE_BYTES_MAX
        OPERATION_BYTES_MAX
    );
    assert_eq!(seen, rows.len());
}
