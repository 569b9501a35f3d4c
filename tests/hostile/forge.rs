//! Makes stores that a well-meaning writer never makes.

use std::fs;

use sparse_store::store::Store;
use sparse_store::store::advance::Deed;
use sparse_store::store::host::Host;
use sparse_store::store::txn::Txn;
use store_format::commit::Commit;
use store_format::ids::{
    AttachmentId, ChunkId, CommitId, FileId, ManifestId, PackId, RecordId, TreeId,
};
use store_format::layout::Layout;
use store_format::manifest::{ChunkReference, Manifest, Region, Role};
use store_format::object::Object;
use store_format::pack::{ALIGNMENT, Entry, Index, PackHeader, PackKind, TableBuilder, Trailer};
use store_format::record::{Coding, Kind, Recipe, RecordHeader, check_of};
use store_format::reference::Change;

use crate::Sandbox;

/// Deterministic CBOR by hand, so that it can be wrong.
pub(crate) mod cbor {
    pub(crate) fn head(major: u8, number: u64) -> Vec<u8> {
        let major = major << 5;
        match number {
            0..24 => vec![major | number as u8],
            24..0x100 => vec![major | 24, number as u8],
            0x100..0x1_0000 => [vec![major | 25], (number as u16).to_be_bytes().to_vec()].concat(),
            0x1_0000..0x1_0000_0000 => {
                [vec![major | 26], (number as u32).to_be_bytes().to_vec()].concat()
            }
            _ => [vec![major | 27], number.to_be_bytes().to_vec()].concat(),
        }
    }

    pub(crate) fn number(number: u64) -> Vec<u8> {
        head(0, number)
    }

    pub(crate) fn bytes(bytes: &[u8]) -> Vec<u8> {
        [head(2, bytes.len() as u64), bytes.to_vec()].concat()
    }

    /// Text, which need not be UTF-8 here.
    pub(crate) fn text(bytes: &[u8]) -> Vec<u8> {
        [head(3, bytes.len() as u64), bytes.to_vec()].concat()
    }

    pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
        [head(4, items.len() as u64), items.concat()].concat()
    }

    /// A map with the keys 0, 1, ...
    pub(crate) fn map(values: &[Vec<u8>]) -> Vec<u8> {
        let mut out = head(5, values.len() as u64);
        for (key, value) in values.iter().enumerate() {
            out.extend(number(key as u64));
            out.extend(value);
        }
        out
    }
}

/// A record of any bytes under the id that they have.
pub(crate) fn id_of(kind: Kind, plain: &[u8]) -> RecordId {
    match kind {
        Kind::Chunk => ChunkId::of(plain).into(),
        Kind::Manifest => ManifestId::of(plain).into(),
        Kind::Tree => TreeId::of(plain).into(),
        Kind::Commit => CommitId::of(plain).into(),
        Kind::Attachment => AttachmentId::of(plain).into(),
    }
}

/// The records of a store that is being forged.
pub(crate) struct Forge {
    txn: Txn,
    /// Records that no writer would append, as packs of their own.
    raw: Vec<(PackKind, Vec<u8>)>,
}

/// What the good files of every forged store hold.
pub(crate) const GOOD: &[u8] = b"good bytes\n";

impl Forge {
    pub(crate) fn new(sandbox: &Sandbox) -> Self {
        let seen = sandbox.run("a new store", &["init", "-q", "evil"]);
        assert_eq!(seen.code, Some(0), "{}", seen.err);
        let store = Store::open(&sandbox.path("evil/.sparse"), Host::system()).expect("a store");
        Self {
            txn: store.begin().expect("a writer"),
            raw: Vec::new(),
        }
    }

    /// Appends any bytes as an object or chunk, under their right id.
    pub(crate) fn put(&mut self, kind: Kind, plain: &[u8]) -> [u8; 32] {
        let id = id_of(kind, plain);
        self.put_as(kind, id, plain);
        *id.as_bytes()
    }

    /// Appends any bytes under any id.
    pub(crate) fn put_as(&mut self, kind: Kind, id: RecordId, plain: &[u8]) {
        let recipe = Recipe::plain(Coding::Stored, Vec::new());
        if self.txn.contains(&id) {
            return;
        }
        let bytes = plain.len() as u64;
        let appended = self.txn.append(kind, id, recipe, bytes, plain);
        appended.expect("it is appended");
    }

    /// A record of a chunk as a writer of no rules would make it.
    pub(crate) fn record(&mut self, id: ChunkId, recipe: Recipe, plain_bytes: u64, coded: &[u8]) {
        self.record_with(id, recipe, plain_bytes, coded, &|_| {});
    }

    /// As [`Forge::record`], whose header is changed before its check is made.
    pub(crate) fn record_with(
        &mut self,
        id: ChunkId,
        recipe: Recipe,
        plain_bytes: u64,
        coded: &[u8],
        change: &dyn Fn(&mut Vec<u8>),
    ) {
        let header = RecordHeader {
            kind: Kind::Chunk,
            id: id.into(),
            recipe,
            plain_bytes,
            stored_bytes: coded.len() as u64,
            stored_check: check_of(coded),
        };
        let mut record = encoded(&header);
        change(&mut record);
        let covered = record.len() - 8;
        let check = check_of(&record[..covered]);
        record[covered..].copy_from_slice(&check);
        record.extend_from_slice(coded);
        // The table says what the header said before it was changed.
        self.raw.push((PackKind::Data, pack_of(&header, &record)));
    }

    /// A file of one chunk; gives its manifest.
    pub(crate) fn file(&mut self, plain: &[u8]) -> [u8; 32] {
        let chunk = ChunkId::from_bytes(self.put(Kind::Chunk, plain));
        self.file_of(chunk, plain)
    }

    /// A manifest of one chunk that is appended otherwise.
    pub(crate) fn file_of(&mut self, chunk: ChunkId, plain: &[u8]) -> [u8; 32] {
        self.put(Kind::Manifest, &manifest(chunk, plain))
    }

    pub(crate) fn good(&mut self) -> [u8; 32] {
        self.file(GOOD)
    }

    /// A tree of entries; each is an array already.
    pub(crate) fn tree(&mut self, entries: &[Vec<u8>]) -> [u8; 32] {
        self.put(Kind::Tree, &cbor::map(&[cbor::array(entries)]))
    }

    /// Publishes a version of a root tree on `main`, and writes the packs that nobody would.
    pub(crate) fn publish(self, sandbox: &Sandbox, tree: [u8; 32]) {
        let (_, commit) = commit(tree).to_bytes().expect("a commit");
        self.publish_commit(sandbox, &commit);
    }

    /// As [`Forge::publish`], of any bytes as a commit.
    pub(crate) fn publish_commit(mut self, sandbox: &Sandbox, commit: &[u8]) {
        let id = CommitId::from_bytes(self.put(Kind::Commit, commit));
        for (_, bytes) in &self.raw {
            write_pack(sandbox, bytes);
        }
        let deed = Deed {
            verb: "commit".into(),
            changes: vec![Change {
                name: "heads/main".into(),
                old: None,
                new: Some(id),
            }],
            ..Deed::default()
        };
        let outcome = self.txn.publish(&deed, None).expect("an answer");
        outcome.done().expect("it is published");
    }
}

pub(crate) fn commit(tree: [u8; 32]) -> Commit {
    Commit {
        tree: TreeId::from_bytes(tree),
        parents: Vec::new(),
        origins: Vec::new(),
        author: "Eve <eve@example.org>".into(),
        time: 1_800_000_000,
        offset_minutes: 0,
        message: "harm".into(),
        attributes: Vec::new(),
    }
}

/// The manifest of a file of one chunk.
pub(crate) fn manifest(chunk: ChunkId, plain: &[u8]) -> Vec<u8> {
    let bytes = plain.len() as u64;
    let manifest = Manifest {
        bytes,
        file: FileId::of(plain),
        layout: Layout::Opaque,
        regions: vec![Region {
            role: Role::Raw,
            bytes,
        }],
        tensors: Vec::new(),
        chunks: vec![ChunkReference { id: chunk, bytes }],
        note: None,
    };
    manifest.to_bytes().expect("a manifest").1
}

/// An entry of a tree for a file.
pub(crate) fn file_entry(name: &[u8], manifest: [u8; 32], bytes: u64) -> Vec<u8> {
    cbor::array(&[
        cbor::text(name),
        cbor::number(0),
        cbor::bytes(&manifest),
        cbor::number(bytes),
    ])
}

/// An entry for a directory.
pub(crate) fn tree_entry(name: &[u8], tree: [u8; 32]) -> Vec<u8> {
    cbor::array(&[cbor::text(name), cbor::number(2), cbor::bytes(&tree)])
}

/// An entry for a link.
pub(crate) fn link_entry(name: &[u8], target: &[u8]) -> Vec<u8> {
    cbor::array(&[cbor::text(name), cbor::number(3), cbor::text(target)])
}

/// A header that may break every rule.
fn encoded(header: &RecordHeader) -> Vec<u8> {
    let recipe = &header.recipe;
    let count = |count: usize| u32::try_from(count).expect("few").to_le_bytes();
    let mut body = Vec::new();
    for parameters in [&recipe.predictor_parameters, &recipe.coding_parameters] {
        body.extend(count(parameters.len()));
        body.extend(parameters);
    }
    body.extend(count(recipe.side.len()));
    recipe.side.iter().for_each(|id| body.extend(id.as_bytes()));
    body.extend(count(recipe.sources.len()));
    for view in &recipe.sources {
        body.extend(count(view.parts.len()));
        for part in &view.parts {
            body.extend(part.chunk.as_bytes());
            body.extend([part.start, part.bytes].map(u64::to_le_bytes).concat());
        }
    }
    let mut out = b"SPRC".to_vec();
    out.extend(count(72 + body.len() + 8));
    let numbers = [
        header.kind.number(),
        recipe.predictor.number(),
        recipe.coding.number(),
        recipe.depth,
    ];
    out.extend(numbers);
    out.extend([0; 4]);
    out.extend(header.id.as_bytes());
    let lengths = [header.plain_bytes, header.stored_bytes];
    out.extend(lengths.map(u64::to_le_bytes).concat());
    out.extend(header.stored_check);
    out.extend(body);
    out.extend([0; 8]); // its check
    out
}

#[test]
fn a_header_by_hand_is_what_the_format_writes() {
    let header = RecordHeader {
        kind: Kind::Chunk,
        id: ChunkId::of(GOOD).into(),
        recipe: Recipe::plain(Coding::Planes, vec![4]),
        plain_bytes: 12,
        stored_bytes: 3,
        stored_check: check_of(b"abc"),
    };
    let mut right = Vec::new();
    header.encode(&mut right).expect("a header");
    let covered = right.len() - 8;
    assert_eq!(encoded(&header)[..covered], right[..covered]);
}

/// A pack of one record, whatever its bytes are.
fn pack_of(header: &RecordHeader, record: &[u8]) -> Vec<u8> {
    let mut out = PackHeader {
        kind: PackKind::Data,
        nonce: [7; 16],
    }
    .encode();
    let mut table = TableBuilder::default();
    let header_bytes = record.len() - usize::try_from(header.stored_bytes).expect("small");
    let entry = Entry {
        offset: out.len() as u64,
        header_bytes: u32::try_from(header_bytes).expect("small"),
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
    let (table, needs) = table.encode().expect("a table");
    let trailer = Trailer {
        table_offset: out.len() as u64,
        records: 1,
        needs,
        table_check: *blake3::hash(&table).as_bytes(),
    };
    out.extend_from_slice(&table);
    out.extend_from_slice(&trailer.encode());
    out
}

/// Writes a pack under the name that its bytes have, with the index that it says.
pub(crate) fn write_pack(sandbox: &Sandbox, bytes: &[u8]) -> PackId {
    let id = PackId::of(bytes);
    let name = id.to_string();
    let dir = sandbox.path("evil/.sparse/packs").join(&name[..2]);
    fs::create_dir_all(&dir).expect("a folder");
    fs::write(dir.join(format!("{name}.pack")), bytes).expect("a pack");
    let tail = bytes.split_last_chunk::<64>().expect("a trailer").1;
    if let Ok(trailer) = Trailer::decode(tail, bytes.len() as u64) {
        let start = usize::try_from(trailer.table_offset).expect("small");
        let table = &bytes[start..bytes.len() - 64];
        let index = Index::encode(&id, bytes.len() as u64, &trailer, table);
        fs::write(dir.join(format!("{name}.idx")), index).expect("an index");
    }
    id
}
