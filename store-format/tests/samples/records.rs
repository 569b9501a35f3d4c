//! One small record of every predictor and coding.

use store_format::ids::{ChunkId, RecordId};
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, RecordHeader, View, check_of};

use super::Sample;
use super::objects::{attachment, bytes_of, commits, manifests, object_id, trees};

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

pub fn all() -> Vec<Sample> {
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
