//! What is written reads back the same, and nothing else does.
#![expect(
    clippy::as_conversions,
    reason = "lengths of what the test itself has made"
)]

use store_format::FormatError;
use store_format::commit::{Attribute, Commit, Derivation, Origin};
use store_format::dtype::DType;
use store_format::ids::{ChunkId, CommitId, FileId, ManifestId, PackId, TreeId};
use store_format::layout::{Layout, Tensor};
use store_format::manifest::{ChunkReference, Manifest, Region, Role};
use store_format::object::Object;
use store_format::pack::{Entry, Index, PackHeader, PackKind, TableBuilder, Trailer};
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, RecordHeader, View, check_of};
use store_format::reference::{self, Operation, Reference, ReferenceTable};
use store_format::store_file::StoreFile;
use store_format::tree::{self, Node, Tree};

fn manifest() -> Manifest {
    Manifest {
        bytes: 24,
        file: FileId::of(b"file"),
        layout: Layout::Safetensors,
        regions: vec![
            Region {
                role: Role::Header,
                bytes: 8,
            },
            Region {
                role: Role::Tensor,
                bytes: 16,
            },
        ],
        tensors: vec![Tensor {
            name: "w".into(),
            dtype: DType::F32,
            shape: vec![2, 2],
            start: 8,
            bytes: 16,
        }],
        chunks: vec![
            ChunkReference {
                id: ChunkId::of(b"a"),
                bytes: 8,
            },
            ChunkReference {
                id: ChunkId::of(b"b"),
                bytes: 16,
            },
        ],
        note: None,
    }
}

fn commit() -> Commit {
    Commit {
        tree: TreeId::of(b"t"),
        parents: vec![CommitId::of(b"p")],
        origins: vec![Origin {
            kind: Derivation::FineTune,
            base: CommitId::of(b"b"),
            stated: true,
        }],
        author: "A <a@example.org>".into(),
        time: 1_700_000_000,
        offset_minutes: -120,
        message: "first".into(),
        attributes: vec![Attribute {
            namespace: "eval".into(),
            json: "{\"accuracy\":1}".into(),
        }],
    }
}

fn recipe() -> Recipe {
    Recipe {
        predictor: Predictor::Cast,
        predictor_parameters: vec![1, 2, 3],
        sources: vec![View {
            parts: vec![
                Part {
                    chunk: ChunkId::of(b"s"),
                    start: 4,
                    bytes: 8,
                },
                Part::zeros(8),
            ],
        }],
        side: vec![ChunkId::of(b"side")],
        coding: Coding::Residual,
        coding_parameters: vec![10],
        depth: 1,
    }
}

fn header() -> RecordHeader {
    RecordHeader {
        kind: Kind::Chunk,
        id: ChunkId::of(b"plain").into(),
        recipe: recipe(),
        plain_bytes: 16,
        stored_bytes: 5,
        stored_check: check_of(b"coded"),
    }
}

#[test]
fn objects_read_back_under_their_id() {
    fn check<T: Object + PartialEq + std::fmt::Debug>(object: &T) {
        let (id, bytes) = object.to_bytes().unwrap();
        assert_eq!(&T::from_bytes_as(&id, &bytes).unwrap(), object);
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(T::from_bytes(&longer).is_err());
        assert!(T::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
    check(&manifest());
    check(&commit());
    check(&Tree {
        entries: vec![
            tree::Entry {
                name: "a".into(),
                node: Node::Tree(TreeId::of(b"x")),
            },
            tree::Entry {
                name: "b".into(),
                node: Node::File {
                    manifest: ManifestId::of(b"m"),
                    bytes: 3,
                    executable: true,
                },
            },
            tree::Entry {
                name: "c".into(),
                node: Node::Symlink("a".into()),
            },
        ],
    });
}

#[test]
fn an_integer_that_is_not_shortest_is_refused() {
    let (_, bytes) = Tree::default().to_bytes().unwrap();
    assert_eq!(bytes, [0xa1, 0x00, 0x80]);
    // The key 0 in two bytes, the array with an open end, an unknown key.
    for other in [
        &[0xa1, 0x18, 0x00, 0x80][..],
        &[0xa1, 0x00, 0x9f, 0xff],
        &[0xa2, 0, 0x80, 7, 0],
    ] {
        assert!(matches!(
            Tree::from_bytes(other),
            Err(FormatError::NotCanonical { .. })
        ));
    }
}

#[test]
fn a_record_header_reads_back_and_no_flipped_bit_passes() {
    let mut bytes = Vec::new();
    header().encode(&mut bytes).unwrap();
    assert_eq!(RecordHeader::length(&bytes[..8]), Ok(bytes.len()));
    assert_eq!(RecordHeader::decode(&bytes).unwrap(), header());
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(RecordHeader::decode(&damaged).is_err(), "bit {bit}");
    }
}

#[test]
fn a_coding_that_corrects_nothing_is_refused() {
    let mut header = header();
    header.recipe.predictor = Predictor::None;
    header.recipe.sources.clear();
    header.recipe.depth = 0;
    assert!(header.encode(&mut Vec::new()).is_err());
}

#[test]
fn parameters_of_a_predictor_that_has_none_are_refused() {
    let mut header = header();
    header.recipe.predictor = Predictor::Base;
    header.recipe.predictor_parameters.clear();
    header.encode(&mut Vec::new()).unwrap();
    header.recipe.predictor_parameters.push(7);
    assert!(header.encode(&mut Vec::new()).is_err());
}

#[test]
fn words_of_features_have_one_space_between() {
    let mut file = StoreFile::new([1; 16]);
    for (features, holds) in [
        ("write-a write-b", true),
        ("write-a  b", false),
        (" ", false),
    ] {
        file.features = features.into();
        assert_eq!(
            StoreFile::decode(&file.encode()).is_ok(),
            holds,
            "{features:?}"
        );
    }
}

#[test]
fn a_tensor_with_a_side_of_nothing_is_empty_whatever_its_other_sides() {
    for shape in [[0, 1 << 40, 1 << 40], [1 << 40, 1 << 40, 0]] {
        let mut manifest = manifest();
        let tensor = &mut manifest.tensors[0];
        (tensor.shape, tensor.bytes) = (shape.to_vec(), 0);
        manifest.to_bytes().unwrap();
    }
}

#[test]
fn a_pack_table_is_found_by_id_through_pack_and_index() {
    let mut builder = TableBuilder::default();
    let ids: Vec<ChunkId> = (0..300_u32)
        .map(|n| ChunkId::of(&n.to_le_bytes()))
        .collect();
    for (n, id) in ids.iter().enumerate() {
        let entry = Entry {
            offset: 32 + 112 * n as u64,
            header_bytes: 100,
            stored_bytes: 5,
            plain_bytes: 16,
            kind: Kind::Chunk,
            predictor: Predictor::Base,
            coding: Coding::Residual,
            depth: 1,
        };
        builder.push((*id).into(), entry, recipe().needs());
    }
    let (table, needs) = builder.encode().unwrap();
    let trailer = Trailer {
        table_offset: 65536,
        records: 300,
        needs,
        table_check: *blake3::hash(&table).as_bytes(),
    };
    let encoded = trailer.encode();
    let pack_bytes = 65536 + table.len() as u64 + encoded.len() as u64;
    assert_eq!(Trailer::decode(&encoded, pack_bytes).unwrap(), trailer);
    assert!(Trailer::decode(&encoded, pack_bytes + 1).is_err());
    let pack = PackId::of(b"pack");
    let bytes = Index::encode(&pack, pack_bytes, &trailer, &table);
    let index = Index::check(&bytes).unwrap();
    assert_eq!((index.pack, index.pack_bytes), (pack, pack_bytes));
    for id in &ids {
        let row = index.table.find(&(*id).into()).unwrap();
        assert_eq!(index.table.id(row), Some((*id).into()));
        assert_eq!(
            index.table.needs(row).unwrap().collect::<Vec<_>>(),
            recipe().needs()
        );
    }
    assert_eq!(index.table.find(&ChunkId::of(b"absent").into()), None);
}

#[test]
fn files_of_their_own_read_back() {
    let header = PackHeader {
        kind: PackKind::Data,
        nonce: [7; 16],
    };
    assert_eq!(PackHeader::decode(&header.encode()).unwrap(), header);
    let operation = Operation {
        verb: "commit".into(),
        author: "A".into(),
        time: 0,
        parent: None,
        changes: vec![],
        collection: None,
        undoes: None,
    };
    let (operation_id, bytes) =
        reference::encode_file(reference::OPERATION_MAGIC, &operation).unwrap();
    let read = reference::decode_file::<Operation>(reference::OPERATION_MAGIC, &bytes).unwrap();
    assert_eq!(read, (operation_id, operation));
    let table = ReferenceTable {
        number: 0,
        parent: None,
        operation: operation_id,
        write_id: [9; 16],
        gc_epoch: 0,
        references: vec![Reference {
            name: "heads/main".into(),
            commit: CommitId::of(b"c"),
        }],
    };
    let (_, bytes) = reference::encode_file(reference::TABLE_MAGIC, &table).unwrap();
    let (_, read) =
        reference::decode_file::<ReferenceTable>(reference::TABLE_MAGIC, &bytes).unwrap();
    assert_eq!(read.get("heads/main"), Some(CommitId::of(b"c")));
    let file = StoreFile::new([3; 16]);
    assert_eq!(StoreFile::decode(&file.encode()).unwrap(), file);
    assert!(StoreFile::decode(&file.encode().replace("reader 1", "reader 2")).is_err());
}

#[test]
fn names_that_could_leave_their_box_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a\\b",
        "a\0",
        "~",
        "C:x",
        ".git",
        ".GIT",
        ".Sparse",
        ".git.",
        ".git::$INDEX_ALLOCATION",
        "git~1",
        ".g\u{200d}it",
        ".\u{17f}parse",
    ] {
        assert!(tree::check_name(name).is_err(), "{name:?}");
    }
    for name in [
        "a",
        "naïve",
        "模型",
        ".gitignore",
        "con",
        "x y",
        "…",
        "\u{1}",
    ] {
        assert!(tree::check_name(name).is_ok(), "{name:?}");
    }
    for name in [
        "main",
        "heads/",
        "heads/a..b",
        "heads/-x",
        "heads/x.lock",
        "heads/a//b",
        "heads/ä",
        "remotes/x",
    ] {
        assert!(reference::check_reference(name).is_err(), "{name:?}");
    }
}
