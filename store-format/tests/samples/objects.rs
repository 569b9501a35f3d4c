//! One small object of every kind and form.

use store_format::commit::{Attachment, Attribute, Commit, Derivation, Origin};
use store_format::dtype::DType;
use store_format::ids::{AttachmentId, ChunkId, CommitId, FileId, ManifestId, RecordId, TreeId};
use store_format::layout::{Layout, Tensor};
use store_format::manifest::{ChunkReference, Manifest, Region, Role};
use store_format::object::Object;
use store_format::record::Kind;
use store_format::tree::{self, Node, Tree};

use super::Sample;

pub fn bytes_of<T: Object>(object: &T) -> Vec<u8> {
    object.to_bytes().expect("a sample keeps the rules").1
}

pub fn attribute(namespace: &str, json: &str) -> Attribute {
    Attribute {
        namespace: namespace.into(),
        json: json.into(),
    }
}

pub fn manifests() -> [(&'static str, Manifest); 3] {
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

pub fn trees() -> [(&'static str, Tree); 3] {
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

pub fn commits() -> [(&'static str, Commit); 2] {
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

pub fn attachment() -> Attachment {
    Attachment {
        commit: CommitId::of(b"c"),
        attribute: attribute("eval", "{\"perplexity\":11.25}"),
        author: "A. Nother".into(),
        time: 1_800_000_000,
    }
}

pub fn all() -> Vec<Sample> {
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
