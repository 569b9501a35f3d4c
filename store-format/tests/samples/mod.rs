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

pub mod store;

use store_format::commit::{Attachment, Attribute, Commit, Derivation, Origin};
use store_format::dtype::DType;
use store_format::ids::{
    AttachmentId, ChunkId, CommitId, FileId, ManifestId, OperationId, PackId, RecordId, TableId,
    TreeId,
};
use store_format::layout::{Layout, Tensor};
use store_format::manifest::{ChunkReference, Manifest, Region, Role};
use store_format::object::Object;
use store_format::pack::{
    ALIGNMENT, Entry, Index, PACK_HEADER_BYTES, PackHeader, PackKind, TableBuilder, Trailer,
};
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, RecordHeader, View, check_of};
use store_format::reference::{
    Change, Collection, OPERATION_MAGIC, Operation, Reference, ReferenceTable, TABLE_MAGIC,
    encode_file,
};
use store_format::store_file::StoreFile;
use store_format::tree::{self, Node, Tree};

/// The name of a golden file, and its bytes. What stands before the first `-` tells its kind.
pub type Sample = (String, Vec<u8>);

/// Every sample, by name.
pub fn all() -> Vec<Sample> {
    let mut samples = objects();
    samples.extend(records());
    samples.extend(packs());
    samples.extend(files());
    samples.sort();
    samples
}

fn bytes_of<T: Object>(object: &T) -> Vec<u8> {
    object.to_bytes().expect("a sample keeps the rules").1
}

pub fn attribute(namespace: &str, json: &str) -> Attribute {
    Attribute {
        namespace: namespace.into(),
        json: json.into(),
    }
}

fn manifests() -> [(&'static str, Manifest); 3] {
    let region = |role, bytes| Region { role, bytes };
    let chunk = |name: &[u8], bytes| ChunkReference {
        id: ChunkId::of(name),
        bytes,
    };
    let tensor = |name: &str, dtype, shape: &[u64], start, bytes| Tensor {
        name: name.into(),
        dtype,
        shape: shape.into(),
        start,
        bytes,
    };
    let empty = Manifest {
        bytes: 0,
        file: FileId::of(b""),
        layout: Layout::Opaque,
        regions: vec![],
        tensors: vec![],
        chunks: vec![],
        note: None,
    };
    let opaque = Manifest {
        bytes: 70_000,
        file: FileId::of(b"an opaque file"),
        regions: vec![region(Role::Raw, 70_000)],
        chunks: vec![chunk(b"a", 65_536), chunk(b"b", 4_464)],
        note: Some("the header is longer than the file".into()),
        ..empty.clone()
    };
    let tensors = Manifest {
        bytes: 100,
        file: FileId::of(b"a file of tensors"),
        layout: Layout::Safetensors,
        regions: vec![
            region(Role::Header, 40),
            region(Role::Tensor, 24),
            region(Role::Gap, 2),
            region(Role::Tensor, 34),
        ],
        tensors: vec![
            tensor("scalar", DType::F32, &[], 40, 4),
            tensor("empty", DType::Bf16, &[0, 8], 44, 0),
            tensor("w.weight", DType::Bf16, &[2, 5], 44, 20),
            tensor("q", DType::Q8_0, &[1, 32], 66, 34),
        ],
        chunks: vec![
            chunk(b"header", 40),
            chunk(b"small", 24),
            chunk(b"gap", 2),
            chunk(b"block", 34),
        ],
        note: None,
    };
    [("empty", empty), ("opaque", opaque), ("tensors", tensors)]
}

fn trees() -> [(&'static str, Tree); 3] {
    let entry = |name: &str, node| tree::Entry {
        name: name.into(),
        node,
    };
    let file = |executable| Node::File {
        manifest: ManifestId::of(b"m"),
        bytes: 1_000_000,
        executable,
    };
    let every = Tree {
        entries: vec![
            entry("Run.sh", file(true)),
            entry("latest", Node::Symlink("../weights/a b".into())),
            entry("model.safetensors", file(false)),
            entry("weights", Node::Tree(TreeId::of(b"t"))),
            entry("模型", file(false)),
        ],
    };
    let id = AttachmentId::of(b"a");
    let notes = Tree {
        entries: vec![entry(&id.to_string(), Node::Attachment(id))],
    };
    [
        ("empty", Tree::default()),
        ("every", every),
        ("notes", notes),
    ]
}

fn commits() -> [(&'static str, Commit); 2] {
    let first = Commit {
        tree: TreeId::of(b"t"),
        parents: vec![],
        origins: vec![],
        author: String::new(),
        time: 0,
        offset_minutes: 0,
        message: String::new(),
        attributes: vec![],
    };
    let every = Commit {
        tree: TreeId::of(b"t"),
        parents: vec![CommitId::of(b"p"), CommitId::of(b"q")],
        origins: Derivation::ALL
            .iter()
            .map(|&kind| Origin {
                kind,
                base: CommitId::of(b"b"),
                stated: kind != Derivation::Derived,
            })
            .collect(),
        author: "A. Nother <a@example.org>".into(),
        time: -1,
        offset_minutes: -90,
        message: "Fine-tune\n\nOn more text.\n".into(),
        attributes: vec![
            attribute("eval", "{\"accuracy\":0.5}"),
            attribute("prune", "null"),
        ],
    };
    [("first", first), ("every", every)]
}

fn attachment() -> Attachment {
    Attachment {
        commit: CommitId::of(b"c"),
        attribute: attribute("eval", "{\"perplexity\":11.25}"),
        author: "A. Nother".into(),
        time: 1_800_000_000,
    }
}

fn objects() -> Vec<Sample> {
    let mut out = vec![("attachment-every.cbor".into(), bytes_of(&attachment()))];
    for (name, manifest) in manifests() {
        out.push((format!("manifest-{name}.cbor"), bytes_of(&manifest)));
    }
    for (name, tree) in trees() {
        out.push((format!("tree-{name}.cbor"), bytes_of(&tree)));
    }
    for (name, commit) in commits() {
        out.push((format!("commit-{name}.cbor"), bytes_of(&commit)));
    }
    out
}

/// A record: header, then coded bytes.
pub fn record(
    kind: Kind,
    id: RecordId,
    plain_bytes: usize,
    recipe: Recipe,
    coded: &[u8],
) -> Vec<u8> {
    let header = RecordHeader {
        kind,
        id,
        recipe,
        plain_bytes: plain_bytes as u64,
        stored_bytes: coded.len() as u64,
        stored_check: check_of(coded),
    };
    let mut out = Vec::new();
    header.encode(&mut out).expect("a sample keeps the rules");
    out.extend_from_slice(coded);
    out
}

/// A chunk's record.
pub fn chunk(plain: &[u8], recipe: Recipe, coded: &[u8]) -> Vec<u8> {
    record(
        Kind::Chunk,
        ChunkId::of(plain).into(),
        plain.len(),
        recipe,
        coded,
    )
}

/// A zstd frame that holds `plain` in one raw block: what any decoder of zstd reads.
pub fn zstd_frame(plain: &[u8]) -> Vec<u8> {
    let size = u8::try_from(plain.len()).expect("a sample is short");
    let block = (u32::from(size) << 3 | 1).to_le_bytes();
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, size];
    out.extend_from_slice(&block[..3]);
    out.extend_from_slice(plain);
    out
}

/// A view of whole chunks and runs of zeros.
pub fn view(parts: &[(&[u8], u64, u64)]) -> View {
    let parts = parts.iter().map(|&(chunk, start, bytes)| match chunk {
        b"" => Part::zeros(bytes),
        _ => Part {
            chunk: ChunkId::of(chunk),
            start,
            bytes,
        },
    });
    View {
        parts: parts.collect(),
    }
}

/// A recipe over sources.
pub fn predicted(
    predictor: Predictor,
    coding: Coding,
    parameters: &[u8],
    sources: Vec<View>,
) -> Recipe {
    Recipe {
        predictor,
        sources,
        depth: 1,
        ..Recipe::plain(coding, parameters.into())
    }
}

fn records() -> Vec<Sample> {
    let plain: &[u8] = &[1, 0, 2, 0, 3, 0, 9];
    let base: &[u8] = &[2, 0, 2, 0, 2, 1, 7];
    let base_view = || vec![view(&[(base, 0, 7)])];
    let mut out = vec![
        (
            "record-stored.bin".into(),
            chunk(plain, Recipe::plain(Coding::Stored, vec![]), plain),
        ),
        (
            "record-zstd.bin".into(),
            chunk(
                plain,
                Recipe::plain(Coding::Zstd, vec![]),
                &zstd_frame(plain),
            ),
        ),
        // Plane 0 raw, plane 1 constant, the odd byte at the end.
        (
            "record-planes.bin".into(),
            chunk(
                plain,
                Recipe::plain(Coding::Planes, vec![2]),
                &[0, 1, 2, 3, 1, 0, 9],
            ),
        ),
        // 1-2 = -1 -> 1; 2-2 = 0 -> 0; 3-258 = -255 -> 509; 9-7 = 2.
        (
            "record-difference.bin".into(),
            chunk(
                plain,
                predicted(Predictor::Base, Coding::Difference, &[2], base_view()),
                &[0, 1, 0, 0xfd, 0, 0, 0, 1, 2],
            ),
        ),
        (
            "record-exact.bin".into(),
            chunk(
                &[0, 0, 2, 0, 2],
                predicted(
                    Predictor::Base,
                    Coding::Exact,
                    &[],
                    vec![view(&[(b"", 0, 2), (base, 2, 3)])],
                ),
                &[],
            ),
        ),
    ];
    for (kind, bytes) in [
        (Kind::Manifest, bytes_of(&manifests()[0].1)),
        (Kind::Tree, bytes_of(&trees()[1].1)),
        (Kind::Commit, bytes_of(&commits()[0].1)),
        (Kind::Attachment, bytes_of(&attachment())),
    ] {
        let coded = record(
            kind,
            object_id(kind, &bytes),
            bytes.len(),
            Recipe::plain(Coding::Stored, vec![]),
            &bytes,
        );
        out.push((format!("record-{}.bin", kind.name()), coded));
    }
    out.extend(predicted_records());
    out.extend(reserved_records());
    out
}

/// A record of each predictor with a recipe, as `exact`: the 2 x 2 tensor that it makes of the
/// four numbers 1 to 4 in binary32.
fn predicted_records() -> Vec<Sample> {
    let floats = |values: &[f32]| -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    };
    let source = floats(&[1.0, 2.0, 3.0, 4.0]);
    let half = 0.5_f32.to_le_bytes();
    let quarters = [0.5_f64, 0.25].map(f64::to_le_bytes);
    // First element 0, the recipe follows; step, target, sources, whether there is a view.
    let of = |predictor, recipe: &[&[u8]], parts: &[(&[u8], u64, u64)], plain: &[u8]| {
        let recipe = Recipe {
            predictor_parameters: [&[0, 255], recipe.concat().as_slice()].concat(),
            ..predicted(predictor, Coding::Exact, &[], vec![view(parts)])
        };
        let name = format!("record-{}.bin", predictor.name());
        (name, chunk(plain, recipe, &[]))
    };
    let whole = (source.as_slice(), 0, 16);
    vec![
        // Rank 1, a step of a half, A = (1, 2), B = (1, -1).
        of(
            Predictor::LowRank,
            &[&[5, 11, 2, 2, 1, 11, 2, 2, 0, 1], &half, &[1, 2, 1, 255]],
            &[whole],
            &floats(&[1.5, 1.5, 4.0, 3.0]),
        ),
        // A = (1, 2), B = (3, 4) and half of their product.
        of(
            Predictor::Adapter,
            &[
                &[3, 11, 2, 2, 3, 11, 2, 2, 11, 1, 2, 11, 2, 1, 0],
                &half,
                &[0, 11, 0],
            ],
            &[whole, (&source, 0, 8), (&source, 8, 8)],
            &floats(&[2.5, 5.0, 5.0, 8.0]),
        ),
        // Row 1, then row 0: one row ahead, then two back.
        of(
            Predictor::Gather,
            &[&[0, 11, 2, 2, 1, 11, 2, 2, 1, 1, 2, 2, 4, 0, 6, 0, 0]],
            &[(&source, 8, 8), (&source, 0, 8)],
            &floats(&[3.0, 4.0, 1.0, 2.0]),
        ),
        // To BF16.
        of(
            Predictor::Cast,
            &[&[1, 10, 2, 2, 1, 11, 2, 2, 0]],
            &[whole],
            &[0x80, 0x3f, 0, 0x40, 0x40, 0x40, 0x80, 0x40],
        ),
        // A half of it and a quarter of it.
        of(
            Predictor::Linear,
            &[
                &[2, 11, 2, 2, 2, 11, 2, 2, 11, 2, 2, 0, 2],
                quarters.as_flattened(),
            ],
            &[whole, whole],
            &floats(&[0.75, 1.5, 2.25, 3.0]),
        ),
        // To I8 by a scale of a half.
        of(
            Predictor::Quantise,
            &[&[4, 2, 2, 2, 1, 11, 2, 2, 0, 1, 0, 0, 1], &half],
            &[whole],
            &[2, 4, 6, 8],
        ),
        // NF4 of a quarter, a half, three quarters and the whole of the largest.
        of(
            Predictor::Blockwise,
            &[&[6, 1, 2, 1, 1, 11, 2, 2, 0, 0, 5, 0, 1]],
            &[whole],
            &[0xac, 0xef],
        ),
    ]
}

/// The id of an object's bytes.
pub fn object_id(kind: Kind, bytes: &[u8]) -> RecordId {
    match kind {
        Kind::Chunk => ChunkId::of(bytes).into(),
        Kind::Manifest => ManifestId::of(bytes).into(),
        Kind::Tree => TreeId::of(bytes).into(),
        Kind::Commit => CommitId::of(bytes).into(),
        Kind::Attachment => AttachmentId::of(bytes).into(),
    }
}

/// Headers only, over coded bytes that mean nothing: of codings whose side information lies
/// elsewhere, and of the predictor that is reserved.
fn reserved_records() -> Vec<Sample> {
    let side = vec![ChunkId::of(b"model"), ChunkId::of(b"factors")];
    let sources = || vec![view(&[(b"s", 4, 8), (b"", 0, 8)]), view(&[(b"t", 0, 32)])];
    let mut out = Vec::new();
    for predictor in [Predictor::Base, Predictor::Rows] {
        let of = |parameters: &[u8], sources| Recipe {
            predictor_parameters: parameters.into(),
            side: side.clone(),
            depth: 8,
            ..predicted(
                predictor,
                Coding::Residual,
                &[10, 0x80, 0x80, 0x40, 4, 2],
                sources,
            )
        };
        let recipe = if predictor == Predictor::Base {
            of(&[], sources()[..1].to_vec())
        } else {
            of(&[1, 2, 3], sources())
        };
        out.push((
            format!("record-residual-{}.bin", predictor.name()),
            chunk(b"sixteen bytes...", recipe, b"coded"),
        ));
    }
    let weights = Recipe {
        side: side[..1].to_vec(),
        ..Recipe::plain(Coding::Weights, vec![10, 0, 4, 2])
    };
    out.push((
        "record-weights.bin".into(),
        chunk(b"sixteen bytes...", weights, b"coded"),
    ));
    let built_in = Recipe::plain(Coding::Weights, vec![11, 0, 0, 0]);
    out.push((
        "record-weights-builtin.bin".into(),
        chunk(b"sixteen bytes...", built_in, b"coded"),
    ));
    out
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
    for (_, bytes) in records() {
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
