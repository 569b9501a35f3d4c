//! Look-ups in a store of very many records, through the library's own indexes.
//!
//! The records are made up: index files and empty packs of the right length are laid into a store,
//! which reads nothing else to find a record. A commit in between (`../../scale.py`) merges them.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use sparse_store::disk::real::RealDisk;
use sparse_store::store::index::{Source, View};
use sparse_store::store::pack_read::PackFiles;
use sparse_store::store::paths;
use std::sync::Arc;
use store_format::ids::{PackId, RecordId};
use store_format::pack::{
    ALIGNMENT, Entry, Index, PACK_HEADER_BYTES, TRAILER_BYTES, TableBuilder, Trailer,
};
use store_format::record::{Coding, Kind, Predictor};

use crate::measure::{best, status_mib};

const RECORDS_A_PACK: u64 = 100_000;
const LOOK_UPS: u64 = 20_000;

fn id(number: u64) -> RecordId {
    RecordId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// Lays packs with `entries` records in all into a store.
pub fn make(entries: u64, dir: &Path) {
    for first in (0..entries).step_by(RECORDS_A_PACK as usize) {
        let mut table = TableBuilder::default();
        let mut offset = PACK_HEADER_BYTES as u64;
        for number in first..(first + RECORDS_A_PACK).min(entries) {
            let entry = Entry {
                offset,
                header_bytes: 104,
                stored_bytes: 8 << 10,
                plain_bytes: 64 << 10,
                kind: Kind::Chunk,
                predictor: Predictor::None,
                coding: Coding::Stored,
                depth: 0,
            };
            offset = entry.end().expect("a length").next_multiple_of(ALIGNMENT);
            table.push(id(number), entry, Vec::new());
        }
        let (table, needs) = table.encode().expect("a table");
        let trailer = Trailer {
            table_offset: offset,
            records: (entries - first).min(RECORDS_A_PACK) as u32,
            needs,
            table_check: *blake3::hash(&table).as_bytes(),
        };
        let pack = PackId::of(&first.to_le_bytes());
        let pack_bytes = offset + (table.len() + TRAILER_BYTES) as u64;
        let path = dir.join(paths::pack(&pack));
        fs::create_dir_all(path.parent().expect("a directory")).expect("room");
        let file = File::create(path).expect("room");
        file.set_len(pack_bytes).expect("a hole takes no room");
        let index = Index::encode(&pack, pack_bytes, &trailer, &table);
        fs::write(dir.join(paths::index(&pack)), index).expect("room");
    }
}

/// Looks up records that are there and records that are not.
pub fn look_up(entries: u64, dir: &Path) {
    let disk = Arc::new(RealDisk::open(dir).expect("a store"));
    let packs = Arc::new(PackFiles::new(disk.clone()));
    let source = Source { disk, packs };
    let start = Instant::now();
    let view = View::load(&source, None).expect("a view");
    let open = start.elapsed();
    let start = Instant::now();
    assert_eq!(view.places(&id(entries / 2)).len(), 1);
    let first = start.elapsed();
    // Every pack's own index is checked once, when it is first needed.
    let start = Instant::now();
    for number in (0..entries).step_by(RECORDS_A_PACK as usize) {
        assert_eq!(view.places(&id(number)).len(), 1);
    }
    let all = start.elapsed();
    let spread = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % entries;
    let ids = |shift: u64| {
        (0..LOOK_UPS)
            .map(|n| id(spread(n) + shift))
            .collect::<Vec<_>>()
    };
    let (there, absent) = (ids(0), ids(entries));
    let count = |ids: &[RecordId]| ids.iter().map(|id| view.places(id).len()).sum::<usize>();
    let (found, present_cost) = best(2, || count(&there));
    assert_eq!(found as u64, LOOK_UPS);
    let (found, absent_cost) = best(2, || count(&absent));
    assert_eq!(found, 0);
    let micros = |seconds: f64| seconds * 1e6 / LOOK_UPS as f64;
    println!(
        "{{\"open_ms\": {:.2}, \"first_ms\": {:.2}, \"all_ms\": {:.1}, \"present_us\": {:.3}, \"absent_us\": {:.3}, \"merged\": {}, \"rss_mib\": {:.0}, \"anon_mib\": {:.0}}}",
        open.as_secs_f64() * 1e3,
        first.as_secs_f64() * 1e3,
        all.as_secs_f64() * 1e3,
        micros(present_cost.seconds),
        micros(absent_cost.seconds),
        view.merged().len(),
        status_mib("VmRSS"),
        status_mib("RssAnon"),
    );
}
