//! A whole small store: two versions of a model, in every layout of bytes that needs no
//! predictor beyond `base` and no coding beyond `exact`, with a note.

use store_format::commit::{Attachment, Commit, Derivation, Origin};
use store_format::dtype::DType;
use store_format::ids::{ChunkId, CommitId, FileId, OperationId, TableId};
use store_format::layout::{Layout, Tensor};
use store_format::manifest::{ChunkReference, Manifest, Region, Role};
use store_format::object::Object;
use store_format::pack::PackKind;
use store_format::record::{Coding, Kind, Predictor, Recipe};
use store_format::reference::{
    Change, OPERATION_MAGIC, Operation, Reference, ReferenceTable, TABLE_MAGIC, encode_file,
};
use store_format::store_file::StoreFile;
use store_format::tree::{Entry, Node, Tree};

use super::objects::{attribute, object_id};
use super::records::{chunk, predicted, record, view, zstd_frame};
use super::{Sample, pack};

const HEADER: &[u8] = br#"{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}      "#;

/// Objects and chunks on their way to packs.
#[derive(Default)]
struct Builder {
    data: Vec<Vec<u8>>,
    metadata: Vec<Vec<u8>>,
}

impl Builder {
    /// Adds an object, coded with zstd where its length lets the sample's frame hold it.
    fn add<T: Object>(&mut self, kind: Kind, object: &T) -> T::Id {
        let (id, bytes) = object.to_bytes().expect("a sample keeps the rules");
        let (coding, coded) = if bytes.len() < 100 {
            (Coding::Zstd, zstd_frame(&bytes))
        } else {
            (Coding::Stored, bytes.clone())
        };
        let record_id = object_id(kind, &bytes);
        let bytes = record(
            kind,
            record_id,
            bytes.len(),
            Recipe::plain(coding, vec![]),
            &coded,
        );
        if !self.metadata.contains(&bytes) {
            self.metadata.push(bytes);
        }
        id
    }

    fn file(
        &mut self,
        name: &str,
        layout: Layout,
        pieces: &[(Role, &[u8])],
        tensors: Vec<Tensor>,
    ) -> Entry {
        let whole: Vec<u8> = pieces
            .iter()
            .flat_map(|(_, bytes)| *bytes)
            .copied()
            .collect();
        let manifest = Manifest {
            bytes: whole.len() as u64,
            file: FileId::of(&whole),
            layout,
            regions: pieces
                .iter()
                .map(|&(role, bytes)| Region {
                    role,
                    bytes: bytes.len() as u64,
                })
                .collect(),
            tensors,
            chunks: pieces
                .iter()
                .map(|(_, bytes)| ChunkReference {
                    id: ChunkId::of(bytes),
                    bytes: bytes.len() as u64,
                })
                .collect(),
            note: None,
        };
        let node = Node::File {
            manifest: self.add(Kind::Manifest, &manifest),
            bytes: manifest.bytes,
            executable: name.ends_with(".sh"),
        };
        entry(name, node)
    }

    fn tree(&mut self, mut entries: Vec<Entry>) -> store_format::ids::TreeId {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        self.add(Kind::Tree, &Tree { entries })
    }

    fn model(&mut self, weights: &[u8]) -> Entry {
        let length = (HEADER.len() as u64).to_le_bytes();
        let header = [&length, HEADER].concat();
        let tensor = Tensor {
            name: "w".into(),
            dtype: DType::F32,
            shape: vec![2, 2],
            start: header.len() as u64,
            bytes: 16,
        };
        let pieces = [(Role::Header, &header[..]), (Role::Tensor, weights)];
        self.file(
            "model.safetensors",
            Layout::Safetensors,
            &pieces,
            vec![tensor],
        )
    }
}

fn entry(name: &str, node: Node) -> Entry {
    Entry {
        name: name.into(),
        node,
    }
}

fn commit(tree: store_format::ids::TreeId, parents: Vec<CommitId>, message: &str) -> Commit {
    Commit {
        tree,
        origins: parents
            .iter()
            .map(|&base| Origin {
                kind: Derivation::FineTune,
                base,
                stated: true,
            })
            .collect(),
        parents,
        author: "A. Nother <a@example.org>".into(),
        time: 1_800_000_000,
        offset_minutes: 60,
        message: message.into(),
        attributes: vec![attribute("eval", "{\"accuracy\":0.5}")],
    }
}

/// The files of the store by their paths in it.
pub fn files() -> Vec<Sample> {
    let mut build = Builder::default();
    let old: Vec<u8> = [1.0_f32, -2.0, 0.5, 3.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let new: Vec<u8> = [1.25_f32, -2.0, 0.5, 3.5]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    // Rows swapped and zeros between: all of it is in `old` already.
    let moved = [&old[8..], &[0; 4], &old[..8]].concat();
    let text: &[u8] = b"A small model.\n";
    let header = [&(HEADER.len() as u64).to_le_bytes(), HEADER].concat();

    build.data = vec![
        chunk(text, Recipe::plain(Coding::Stored, vec![]), text),
        chunk(
            b"#!/bin/sh\n",
            Recipe::plain(Coding::Zstd, vec![]),
            &zstd_frame(b"#!/bin/sh\n"),
        ),
        chunk(
            &header,
            Recipe::plain(Coding::Zstd, vec![]),
            &zstd_frame(&header),
        ),
        chunk(&old, Recipe::plain(Coding::Planes, vec![4]), &planes(&old)),
        chunk(
            &new,
            predicted(
                Predictor::Base,
                Coding::Difference,
                &[4],
                vec![view(&[(&old, 0, 16)])],
            ),
            &difference(&new, &old),
        ),
        chunk(
            &moved,
            Recipe {
                depth: 1,
                ..predicted(
                    Predictor::Base,
                    Coding::Exact,
                    &[],
                    vec![view(&[(&old, 8, 8), (b"", 0, 4), (&old, 0, 8)])],
                )
            },
            &[],
        ),
    ];

    let weights = [entry("empty", Node::Symlink("../model.safetensors".into()))];
    let folder = build.tree(weights.to_vec());
    let first = vec![
        build.file("README.md", Layout::Text, &[(Role::Raw, text)], vec![]),
        build.file(
            "run.sh",
            Layout::Text,
            &[(Role::Raw, b"#!/bin/sh\n")],
            vec![],
        ),
        build.file("nothing", Layout::Opaque, &[], vec![]),
        build.model(&old),
        entry("links", Node::Tree(folder)),
    ];
    let tree = build.tree(first);
    let first = build.add(Kind::Commit, &commit(tree, vec![], "first"));
    let second = vec![
        build.model(&new),
        build.file("moved.bin", Layout::Opaque, &[(Role::Raw, &moved)], vec![]),
    ];
    let tree = build.tree(second);
    let second = build.add(Kind::Commit, &commit(tree, vec![first], "second"));
    let notes = notes(&mut build, second);
    finish(&build, first, second, notes)
}

fn notes(build: &mut Builder, about: CommitId) -> CommitId {
    let attachment = Attachment {
        commit: about,
        attribute: attribute("eval", "{\"perplexity\":11.25}"),
        author: "A. Nother".into(),
        time: 1_800_000_100,
    };
    let attachment = build.add(Kind::Attachment, &attachment);
    let hex = about.to_string();
    let leaf = build.tree(vec![entry(
        &attachment.to_string(),
        Node::Attachment(attachment),
    )]);
    let middle = build.tree(vec![entry(&hex[2..], Node::Tree(leaf))]);
    let root = build.tree(vec![entry(&hex[..2], Node::Tree(middle))]);
    let mut commit = commit(root, vec![], "");
    commit.attributes.clear();
    build.add(Kind::Commit, &commit)
}

/// Packs, operations and tables around what was built.
fn finish(build: &Builder, first: CommitId, second: CommitId, notes: CommitId) -> Vec<Sample> {
    let mut out = vec![(
        "format".into(),
        StoreFile::new([0x5a; 16]).encode().into_bytes(),
    )];
    for (kind, records, nonce) in [
        (PackKind::Data, &build.data, [1; 16]),
        (PackKind::Metadata, &build.metadata, [2; 16]),
    ] {
        let (id, bytes, index) = pack(kind, nonce, records);
        let path = format!("packs/{id:.2}/{id}");
        out.push((format!("{path}.pack"), bytes));
        out.push((format!("{path}.idx"), index));
    }
    let states: [(&str, Vec<(&str, CommitId)>); 3] = [
        ("init", vec![]),
        ("commit", vec![("heads/main", first)]),
        (
            "commit",
            vec![("heads/main", second), ("notes", notes), ("tags/v1", first)],
        ),
    ];
    let (mut operation, mut table): (Option<OperationId>, Option<TableId>) = (None, None);
    let mut before: Vec<Reference> = vec![];
    for (number, (verb, references)) in (0_u64..).zip(states) {
        let references: Vec<Reference> = references
            .into_iter()
            .map(|(name, commit)| Reference {
                name: name.into(),
                commit,
            })
            .collect();
        let changes = references.iter().map(|now| Change {
            name: now.name.clone(),
            old: before
                .iter()
                .find(|old| old.name == now.name)
                .map(|old| old.commit),
            new: Some(now.commit),
        });
        let record = Operation {
            verb: verb.into(),
            author: "A. Nother".into(),
            time: 1_800_000_000,
            parent: operation,
            changes: changes.collect(),
            collection: None,
            undoes: None,
        };
        let (id, bytes) = encode_file(OPERATION_MAGIC, &record).expect("a sample keeps the rules");
        out.push((format!("ops/{id:.2}/{id}"), bytes));
        operation = Some(id);
        let state = ReferenceTable {
            number,
            parent: table,
            operation: id,
            write_id: [u8::try_from(number).unwrap_or(0); 16],
            gc_epoch: 0,
            references,
        };
        let (id, bytes) = encode_file(TABLE_MAGIC, &state).expect("a sample keeps the rules");
        out.push((format!("refs/{number:016}"), bytes));
        table = Some(id);
        before = state.references;
    }
    out.sort();
    out
}

/// Planes of four bytes: each constant, as a frame or raw, so that every mode occurs.
fn planes(plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for place in 0..4 {
        let plane: Vec<u8> = plain.chunks_exact(4).map(|e| e[place]).collect();
        if plane.iter().all(|byte| *byte == plane[0]) {
            out.extend_from_slice(&[1, plane[0]]);
        } else if place == 2 {
            let frame = zstd_frame(&plane);
            out.push(2);
            out.extend_from_slice(&(frame.len() as u32).to_le_bytes());
            out.extend_from_slice(&frame);
        } else {
            out.push(0);
            out.extend_from_slice(&plane);
        }
    }
    out
}

fn difference(plain: &[u8], predicted: &[u8]) -> Vec<u8> {
    let element = |bytes: &[u8]| i32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let folded = plain
        .chunks_exact(4)
        .zip(predicted.chunks_exact(4))
        .flat_map(|(e, q)| {
            let d = element(e).wrapping_sub(element(q));
            (d << 1 ^ d >> 31).to_le_bytes()
        });
    planes(&folded.collect::<Vec<u8>>())
}
