//! One small value of every variant of the format, with its bytes: what the golden files hold,
//! what the hostile tests damage, and what the fuzz targets begin with.
#![allow(dead_code, reason = "every test uses a part of it")]
#![allow(
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::too_many_lines,
    reason = "what the samples themselves have made, written down at length"
)]

mod objects;
mod records;
pub mod store;

use store_format::ids::{CommitId, OperationId, PackId, TableId};
use store_format::object::Object;
use store_format::pack::{
    ALIGNMENT, Entry, Index, PACK_HEADER_BYTES, PackHeader, PackKind, TableBuilder, Trailer,
};
use store_format::record::RecordHeader;
use store_format::reference::{
    Change, Collection, OPERATION_MAGIC, Operation, Reference, ReferenceTable, TABLE_MAGIC,
    encode_file,
};
use store_format::store_file::StoreFile;

/// The name of a golden file, and its bytes. What stands before the first `-` tells its kind.
pub type Sample = (String, Vec<u8>);

/// Every sample, by name.
pub fn all() -> Vec<Sample> {
    let mut samples = objects::all();
    samples.extend(records::all());
    samples.extend(packs());
    samples.extend(files());
    samples.sort();
    samples
}

/// A pack of these records and its index file.
pub fn pack(kind: PackKind, nonce: [u8; 16], records: &[Vec<u8>]) -> (PackId, Vec<u8>, Vec<u8>) {
    let mut out = PackHeader { kind, nonce }.encode();
    assert_eq!(out.len(), PACK_HEADER_BYTES);
    let mut table = TableBuilder::default();
    for record in records {
        let offset = out.len() as u64;
        let header_bytes = RecordHeader::length(record).expect("a record");
        let header = RecordHeader::decode(&record[..header_bytes]).expect("a record");
        let entry = Entry {
            offset,
            header_bytes: header_bytes as u32,
            stored_bytes: header.stored_bytes,
            plain_bytes: header.plain_bytes,
            kind: header.kind,
            predictor: header.recipe.predictor,
            coding: header.recipe.coding,
            depth: header.recipe.depth,
        };
        table.push(header.id, entry, header.recipe.needs());
        out.extend_from_slice(record);
        out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    }
    let records = table.len() as u32;
    let (table, needs) = table.encode().expect("ids differ");
    let trailer = Trailer {
        table_offset: out.len() as u64,
        records,
        needs,
        table_check: *blake3::hash(&table).as_bytes(),
    };
    out.extend_from_slice(&table);
    out.extend_from_slice(&trailer.encode());
    let id = PackId::of(&out);
    let index = Index::encode(&id, out.len() as u64, &trailer, &table);
    (id, out, index)
}

fn packs() -> Vec<Sample> {
    let (mut data, mut metadata) = (Vec::new(), Vec::new());
    for (_, bytes) in records::all() {
        let header =
            RecordHeader::decode(&bytes[..RecordHeader::length(&bytes).expect("a record")]);
        let header = header.expect("a record");
        // The first of those that hold the same plain bytes.
        let (list, kind) = match PackKind::of(header.kind) {
            PackKind::Data => (&mut data, PackKind::Data),
            PackKind::Metadata => (&mut metadata, PackKind::Metadata),
        };
        assert_eq!(kind, PackKind::of(header.kind));
        if !list.iter().any(|(id, _)| *id == header.id) {
            list.push((header.id, bytes));
        }
    }
    let mut out = Vec::new();
    for (name, kind, list) in [
        ("empty", PackKind::Data, vec![]),
        ("data", PackKind::Data, data),
        ("metadata", PackKind::Metadata, metadata),
    ] {
        let list: Vec<_> = list.into_iter().map(|(_, bytes)| bytes).collect();
        let (_, bytes, index) = pack(kind, *b"sixteen random b", &list);
        out.push((format!("pack-{name}.bin"), bytes));
        out.push((format!("index-{name}.bin"), index));
    }
    out
}

fn files() -> Vec<Sample> {
    let reference = |name: &str, commit: &[u8]| Reference {
        name: name.into(),
        commit: CommitId::of(commit),
    };
    let first = ReferenceTable {
        number: 0,
        parent: None,
        operation: OperationId::of(b"o"),
        write_id: [7; 16],
        gc_epoch: 0,
        references: vec![],
    };
    let every = ReferenceTable {
        number: 300,
        parent: Some(TableId::of(b"p")),
        gc_epoch: 3,
        references: vec![
            reference("heads/main", b"1"),
            reference("notes", b"2"),
            reference("remotes/origin/main", b"3"),
            reference("tags/v1.0", b"4"),
        ],
        ..first.clone()
    };
    let operation = Operation {
        verb: "init".into(),
        author: String::new(),
        time: 0,
        parent: None,
        changes: vec![],
        collection: None,
        undoes: None,
    };
    let change = |name: &str, old: Option<&[u8]>, new: Option<&[u8]>| Change {
        name: name.into(),
        old: old.map(CommitId::of),
        new: new.map(CommitId::of),
    };
    let all = Operation {
        verb: "undo".into(),
        author: "A. Nother".into(),
        time: 1_800_000_000,
        parent: Some(OperationId::of(b"o")),
        changes: vec![
            change("heads/a", None, Some(b"1")),
            change("heads/b", Some(b"1"), None),
            change("heads/c", Some(b"1"), Some(b"2")),
        ],
        collection: Some(Collection {
            epoch: 4,
            packs: vec![PackId::of(b"a pack")],
        }),
        undoes: Some(OperationId::of(b"u")),
    };
    fn file<T: Object>(magic: [u8; 8], object: &T) -> Vec<u8> {
        encode_file(magic, object)
            .expect("a sample keeps the rules")
            .1
    }
    let store = StoreFile::new(*b"0123456789abcdef");
    let writers = StoreFile {
        version: 2,
        writer: 2,
        features: "write-later".into(),
        ..store.clone()
    };
    vec![
        ("table-first.bin".into(), file(TABLE_MAGIC, &first)),
        ("table-every.bin".into(), file(TABLE_MAGIC, &every)),
        (
            "operation-first.bin".into(),
            file(OPERATION_MAGIC, &operation),
        ),
        ("operation-every.bin".into(), file(OPERATION_MAGIC, &all)),
        ("format-new.txt".into(), store.encode().into_bytes()),
        (
            "format-newer-writer.txt".into(),
            writers.encode().into_bytes(),
        ),
    ]
}
