//! A store of content-defined chunks, as Xet and backup programs keep one: chunks of 64 KiB on
//! average found by their content, each kept once, compressed by zstd -3.
//!
//! `STORE/chunks` holds the compressed chunks, `STORE/index` where each is, `STORE/NAME` the files
//! of one version. Just enough to be measured beside.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use fastcdc::v2020::FastCDC;

const AVERAGE: usize = 64 << 10;
const LEVEL: i32 = 3;

/// Where a chunk is: offset, compressed bytes, plain bytes.
type Place = (u64, u32, u32);

fn read_index(store: &Path) -> HashMap<[u8; 32], Place> {
    let bytes = fs::read(store.join("index")).unwrap_or_default();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
    let (rows, _) = bytes.as_chunks::<48>();
    let entry = |row: &[u8; 48]| {
        let id: [u8; 32] = row[..32].try_into().expect("32 bytes");
        let offset = u64::from_le_bytes(row[32..40].try_into().expect("8 bytes"));
        (id, (offset, number(&row[40..44]), number(&row[44..])))
    };
    rows.iter().map(entry).collect()
}

/// The files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Keeps every file of a directory under a name.
pub fn put(store: &Path, name: &str, dir: &Path) {
    fs::create_dir_all(store).expect("the store");
    let mut known = read_index(store);
    let append = |name: &str| {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(store.join(name));
        file.expect("a file of the store")
    };
    let (mut chunks, mut index) = (append("chunks"), append("index"));
    let mut end = chunks.metadata().expect("its length").len();
    let mut recipe = String::new();
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).expect("zstd");
    for path in files(dir) {
        let plain = fs::read(&path).expect("a file");
        let file_name = path.strip_prefix(dir).expect("below it").to_string_lossy();
        recipe += &format!("file {file_name}\n");
        for cut in FastCDC::new(&plain, AVERAGE / 4, AVERAGE, AVERAGE * 4) {
            let part = &plain[cut.offset..cut.offset + cut.length];
            let id = blake3::hash(part);
            recipe += &format!("{}\n", id.to_hex());
            known.entry(*id.as_bytes()).or_insert_with(|| {
                let coded = compressor.compress(part).expect("zstd");
                chunks.write_all(&coded).expect("room");
                let place = (end, coded.len() as u32, part.len() as u32);
                end += coded.len() as u64;
                let mut row = id.as_bytes().to_vec();
                row.extend_from_slice(&place.0.to_le_bytes());
                row.extend_from_slice(&place.1.to_le_bytes());
                row.extend_from_slice(&place.2.to_le_bytes());
                index.write_all(&row).expect("room");
                place
            });
        }
    }
    fs::write(store.join(name), recipe).expect("room");
    chunks.sync_all().expect("a disk");
    index.sync_all().expect("a disk");
}

/// Writes the files of a name into a directory; every chunk is checked.
pub fn get(store: &Path, name: &str, dir: &Path) {
    fs::create_dir_all(dir).expect("a directory");
    let known = read_index(store);
    let chunks = File::open(store.join("chunks")).expect("chunks");
    let recipe = fs::read_to_string(store.join(name)).expect("a recipe");
    let mut decompressor = zstd::bulk::Decompressor::new().expect("zstd");
    let mut out: Option<File> = None;
    for line in recipe.lines() {
        if let Some(name) = line.strip_prefix("file ") {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            out = Some(File::create(path).expect("a file"));
            continue;
        }
        let id = blake3::Hash::from_hex(line).expect("an id");
        let (offset, coded, plain) = known[id.as_bytes()];
        let mut bytes = vec![0; coded as usize];
        chunks.read_exact_at(&mut bytes, offset).expect("a chunk");
        let part = decompressor
            .decompress(&bytes, plain as usize)
            .expect("a frame");
        assert_eq!(blake3::hash(&part), id, "a chunk is damaged");
        let file = out.as_mut().expect("a file comes first");
        file.write_all(&part).expect("room");
    }
}
