//! Damaged and invented bytes: each is refused with a typed error or reads as a value that
//! encodes to the same bytes; nothing panics, and memory stays in proportion to what was given.
#![expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "lengths of what the test itself has made"
)]

mod counting;
mod entries;
mod mutate;
mod samples;

use counting::measured;
use mutate::{Random, mutate};

/// Reads bytes as they are and with their checks put right; neither may take more memory than
/// the fixed part and 40 times the bytes. Whether the bytes as they are were good.
fn check(kind: &str, bytes: &[u8]) -> bool {
    let (good, most) = measured(|| {
        let good = entries::read(kind, bytes);
        if let Some(repaired) = entries::repair(kind, bytes) {
            entries::read(kind, &repaired);
        }
        good
    });
    let bound = (64 << 10) + 40 * bytes.len();
    assert!(most <= bound, "{kind}: {most} bytes for {}", bytes.len());
    good
}

fn samples() -> impl Iterator<Item = (String, String, Vec<u8>)> {
    samples::all().into_iter().map(|(name, bytes)| {
        let kind = name.split('-').next().unwrap_or_default().into();
        (name, kind, bytes)
    })
}

/// Whether the kind holds a check over its own bytes. Objects are checked by their id.
fn has_check(kind: &str) -> bool {
    ["format", "index", "operation", "pack", "record", "table"].contains(&kind)
}

#[test]
fn bytes_cut_short_or_with_more_behind_are_refused() {
    for (name, kind, bytes) in samples() {
        for length in 0..bytes.len() {
            assert!(!check(&kind, &bytes[..length]), "{name} cut to {length}");
        }
        // A record is read out of what follows it.
        if kind != "record" {
            let longer = [&bytes[..], &[0]].concat();
            assert!(!check(&kind, &longer), "{name} and a byte");
        }
    }
}

#[test]
fn a_flipped_bit_is_refused_where_there_is_a_check() {
    for (name, kind, bytes) in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let good = check(&kind, &damaged);
            // The nonce is free, and so only the name of the pack covers it.
            let nonce = kind == "pack" && (16..32).contains(&(bit / 8));
            // The bit that tells the two kinds of packs apart is no less free.
            let pack_kind = kind == "pack" && bit == 10 * 8;
            assert!(
                !good || !has_check(&kind) || nonce || pack_kind,
                "{name} bit {bit}"
            );
        }
    }
}

#[test]
fn an_object_that_is_not_the_one_asked_for_is_refused() {
    use store_format::object::Object;
    use store_format::tree::Tree;
    let (id, bytes) = Tree::default().to_bytes().unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(Tree::from_bytes_as(&id, &damaged).is_err());
    }
}

#[test]
fn lengths_and_counts_at_their_ends_do_no_harm() {
    for (_, kind, bytes) in samples() {
        for at in 0..bytes.len() {
            for width in [1, 2, 4, 8] {
                for value in [0, 1, u64::MAX >> 1, u64::MAX] {
                    // Both byte orders: objects are big endian, all else is little.
                    let little = value.to_le_bytes();
                    let mut big = little;
                    big[..width].reverse();
                    for field in [little, big] {
                        let mut damaged = bytes.clone();
                        let end = (at + width).min(bytes.len());
                        damaged[at..end].copy_from_slice(&field[..end - at]);
                        check(&kind, &damaged);
                    }
                }
            }
        }
    }
}

/// Objects as long as a megabyte whose parts are as small as can be.
#[test]
fn objects_of_many_small_parts_take_memory_in_proportion() {
    let many = |head: &[u8], part: &[u8], tail: &[u8]| {
        let count = (1_u32 << 20) / part.len() as u32;
        let mut out = head.to_vec();
        out.push(0x9a);
        out.extend_from_slice(&count.to_be_bytes());
        for _ in 0..count {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(tail);
        out
    };
    let file = [&[0xa6, 0, 0, 1, 0x58, 32][..], &[0; 32], &[2, 0]].concat();
    let until_tensors = [&file[..], &[3, 0x80, 4]].concat();
    let shape = [&until_tensors[..], &[0x81, 0x85, 0x60, 0]].concat();
    for bytes in [
        many(&[0xa1, 0], &[0x83, 0x60, 3, 0x60], &[]),
        many(
            &[&file[..], &[3]].concat(),
            &[0x82, 0, 0],
            &[4, 0x80, 5, 0x80],
        ),
        many(&until_tensors, &[0x85, 0x60, 0, 0x80, 0, 0], &[5, 0x80]),
        many(&shape, &[1], &[0, 0, 5, 0x80]),
        many(&[0xa1, 7], &[0xf6], &[]),
    ] {
        for kind in ["tree", "manifest", "commit"] {
            check(kind, &bytes);
        }
    }
}

#[test]
fn nesting_is_refused_before_anything_is_built() {
    for byte in [0x81, 0x9f, 0xa1, 0xbf, 0xc6, 0x5f] {
        let deep = vec![byte; 1 << 20];
        for kind in entries::KINDS {
            assert!(!check(kind, &deep));
        }
    }
}

/// The fuzz targets' entry point on mutated samples: a bounded part of what a fuzzer does, the
/// same on every machine. `SPARSE_MUTATIONS` asks for more.
#[test]
fn mutated_samples_do_no_harm() {
    let rounds = std::env::var("SPARSE_MUTATIONS").map_or(20_000, |n| n.parse().unwrap());
    let seeds: Vec<_> = samples::all().into_iter().map(|(_, bytes)| bytes).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        let mut bytes = seeds[random.below(seeds.len())].clone();
        for _ in 0..=random.below(4) {
            mutate(&mut bytes, &seeds, &mut random);
        }
        let (_, most) = measured(|| entries::any(&bytes));
        assert!(most <= (64 << 10) + 40 * bytes.len());
    }
}
