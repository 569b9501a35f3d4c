//! Bytes never change by accident: every sample is compared with the file that stands in
//! `testdata/v1`. The files are written only where `SPARSE_WRITE_GOLDEN` is set, and never
//! changed once a version of the format was released.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod entries;
mod samples;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1")
}

fn expected() -> BTreeMap<String, Vec<u8>> {
    let mut files: BTreeMap<_, _> = samples::all().into_iter().collect();
    for (path, bytes) in samples::store::files() {
        files.insert(format!("store/{path}"), bytes);
    }
    files
}

fn found(folder: &Path, prefix: &str, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            found(&path, &format!("{prefix}{name}/"), into);
        } else {
            into.insert(format!("{prefix}{name}"), fs::read(&path).unwrap());
        }
    }
}

#[test]
fn bytes_are_those_of_the_golden_files() {
    let expected = expected();
    if std::env::var_os("SPARSE_WRITE_GOLDEN").is_some() {
        for (name, bytes) in &expected {
            let path = folder().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    let mut golden = BTreeMap::new();
    found(&folder(), "", &mut golden);
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&golden), names(&expected));
    for (name, bytes) in &expected {
        assert!(golden[name] == *bytes, "{name} changed");
    }
}

#[test]
fn every_golden_file_reads_as_what_its_name_says() {
    for (name, bytes) in samples::all() {
        let (kind, _) = name.split_once('-').unwrap();
        assert!(entries::read(kind, &bytes), "{name}");
    }
}
