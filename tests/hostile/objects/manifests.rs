//! Manifests that break the rules, and what they name under the ids of others.

use store_format::ids::{ChunkId, ManifestId};
use store_format::record::Kind;

use super::{CORRUPT, Case, LOST, case, root};
use crate::forge::{Forge, GOOD, cbor, file_entry, manifest};

fn chunk(id: ChunkId, bytes: u64) -> Vec<u8> {
    cbor::array(&[cbor::bytes(id.as_bytes()), cbor::number(bytes)])
}

fn region(bytes: u64) -> Vec<u8> {
    cbor::array(&[cbor::number(3), cbor::number(bytes)])
}

/// The manifest of the good file, with other numbers.
fn fields(bytes: u64, regions: &[Vec<u8>], tensors: &[Vec<u8>], chunks: &[Vec<u8>]) -> Vec<u8> {
    cbor::map(&[
        cbor::number(bytes),
        cbor::bytes(blake3::hash(GOOD).as_bytes()),
        cbor::number(0),
        cbor::array(regions),
        cbor::array(tensors),
        cbor::array(chunks),
    ])
}

fn forged(name: &str, bytes: impl Fn(ChunkId) -> Vec<u8> + 'static) -> Case {
    root(format!("manifest {name}"), CORRUPT, move |forge, _| {
        let manifest = forge.put(Kind::Manifest, &bytes(ChunkId::of(GOOD)));
        forge.tree(&[file_entry(b"a", manifest, GOOD.len() as u64)])
    })
}

fn with_tensor(name: &str, start: u64, bytes: u64, shape: &[u64], dtype: u64) -> Case {
    let shape: Vec<_> = shape.iter().map(|side| cbor::number(*side)).collect();
    let tensor = cbor::array(&[
        cbor::text(b"w"),
        cbor::number(dtype),
        cbor::array(&shape),
        cbor::number(start),
        cbor::number(bytes),
    ]);
    let good = GOOD.len() as u64;
    forged(name, move |id| {
        let tensors = [tensor.clone()];
        fields(good, &[region(good)], &tensors, &[chunk(id, good)])
    })
}

#[test]
fn a_forged_manifest_is_right_where_it_is_not_meant_to_be_wrong() {
    let (id, good) = (ChunkId::of(GOOD), GOOD.len() as u64);
    let plain = fields(good, &[region(good)], &[], &[chunk(id, good)]);
    assert_eq!(plain, manifest(id, GOOD));
}

pub(super) fn cases() -> Vec<Case> {
    const G: u64 = GOOD.len() as u64;
    const HALF: u64 = 1 << 63;
    const OVER: u64 = (64 << 20) + 1;
    // The length of the file, of its regions, of its chunks (all of them the same one).
    type Lengths = (&'static str, u64, &'static [u64], &'static [u64]);
    let lengths: [Lengths; 12] = [
        ("that claims 2^63 bytes", HALF, &[HALF], &[G]),
        ("with a chunk of 2^63 bytes", HALF, &[HALF], &[HALF]),
        ("with a chunk over the limit", OVER, &[OVER], &[OVER]),
        (
            "with a chunk longer than it is",
            OVER - 1,
            &[OVER - 1],
            &[OVER - 1],
        ),
        ("with a chunk shorter than it is", 3, &[3], &[3]),
        ("whose lengths wrap round", G, &[G], &[HALF, HALF, G]),
        ("with a chunk of no bytes", G, &[G], &[G, 0]),
        ("without its chunks", G, &[G], &[]),
        ("with a region too few", G, &[], &[G]),
        ("with regions too long", G, &[G, 1], &[G]),
        ("with a region of no bytes", G, &[0, G], &[G]),
        ("of a file twice as long", 2 * G, &[2 * G], &[G, G]),
    ];
    let mut cases: Vec<_> = lengths
        .into_iter()
        .map(|(name, bytes, regions, chunks)| {
            forged(name, move |id| {
                let regions: Vec<_> = regions.iter().map(|bytes| region(*bytes)).collect();
                let chunks: Vec<_> = chunks.iter().map(|bytes| chunk(id, *bytes)).collect();
                fields(bytes, &regions, &[], &chunks)
            })
        })
        .collect();
    cases.extend([
        forged("with an unknown layout", |id| {
            let plain = manifest(id, GOOD);
            let at = plain
                .windows(4)
                .position(|w| w == [2, 0, 3, 0x81])
                .expect("a layout");
            [&plain[..=at], &[0x17], &plain[at + 2..]].concat()
        }),
        forged("that is cut", |id| manifest(id, GOOD)[..40].to_vec()),
        forged("of a million regions", |_| {
            let file = blake3::hash(GOOD);
            let mut out = cbor::head(5, 6);
            out.extend([0, GOOD.len() as u8, 1]);
            out.extend(cbor::bytes(file.as_bytes()));
            out.extend([2, 0, 3]);
            out.extend(cbor::head(4, 1_000_000));
            for _ in 0..1_000_000 {
                out.extend([0x82, 3, 0]);
            }
            out.extend([4, 0x80, 5, 0x80]);
            out
        }),
        with_tensor("with a tensor outside", 8, 4, &[1], 11),
        with_tensor("with a tensor at 2^64", u64::MAX, 4, &[1], 11),
        with_tensor("with a tensor of other length", 0, 4, &[2], 11),
        with_tensor(
            "with a tensor of 2^80 elements",
            0,
            0,
            &[1 << 40, 1 << 40],
            11,
        ),
        with_tensor("with a tensor of no type", 0, 4, &[1], 250),
    ]);
    cases.push(root(
        "manifest of a chunk that is not there",
        LOST,
        |forge, _| {
            let file = forge.file_of(ChunkId::of(b"nowhere"), b"nowhere");
            forge.tree(&[file_entry(b"a", file, 7)])
        },
    ));
    cases.push(case(
        "manifest under the id of another",
        CORRUPT,
        |sandbox| {
            let mut forge = Forge::new(sandbox);
            forge.good();
            let id = ManifestId::of(b"another");
            forge.put_as(
                Kind::Manifest,
                id.into(),
                &manifest(ChunkId::of(GOOD), GOOD),
            );
            let tree = forge.tree(&[file_entry(b"a", *id.as_bytes(), GOOD.len() as u64)]);
            forge.publish(sandbox, tree);
        },
    ));
    cases.push(case("chunk under the id of another", CORRUPT, |sandbox| {
        let mut forge = Forge::new(sandbox);
        forge.put_as(Kind::Chunk, ChunkId::of(GOOD).into(), b"evil bytes\n");
        let file = forge.file_of(ChunkId::of(GOOD), GOOD);
        let tree = forge.tree(&[file_entry(b"a", file, GOOD.len() as u64)]);
        forge.publish(sandbox, tree);
    }));
    cases
}
