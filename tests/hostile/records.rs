//! Records that do not rebuild what they promise: bombs, chains, views and codings.

use store_format::ids::ChunkId;
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, View};

use crate::Sandbox;
use crate::forge::{Forge, GOOD, file_entry};
use crate::objects::{Case, refused};

/// Refused as damaged, or because nothing usable is there.
const BAD: &[i32] = &[3, 6];
/// Also where a coding is of no version that is known.
const STRANGE: &[i32] = &[1, 3, 6];

fn case(name: &str, codes: &'static [i32], make: impl Fn(&mut Forge, ChunkId) + 'static) -> Case {
    Case {
        name: format!("record {name}"),
        codes,
        make: Box::new(move |sandbox: &Sandbox| {
            let mut forge = Forge::new(sandbox);
            let id = ChunkId::of(GOOD);
            make(&mut forge, id);
            let file = forge.file_of(id, GOOD);
            let tree = forge.tree(&[file_entry(b"a", file, GOOD.len() as u64)]);
            forge.publish(sandbox, tree);
        }),
    }
}

fn plain(coding: Coding) -> Recipe {
    Recipe::plain(coding, Vec::new())
}

fn view(chunk: ChunkId, start: u64, bytes: u64) -> View {
    View {
        parts: vec![Part {
            chunk,
            start,
            bytes,
        }],
    }
}

fn on(coding: Coding, parameters: &[u8], sources: Vec<View>, depth: u8) -> Recipe {
    Recipe {
        predictor: Predictor::Base,
        sources,
        depth,
        ..Recipe::plain(coding, parameters.to_vec())
    }
}

/// A zstd frame of one block that repeats a byte: as long as asked for in nine bytes.
fn bomb(bytes: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend(bytes.to_le_bytes());
    let mut left = bytes;
    while left > 0 {
        let block = left.min(1 << 17);
        left -= block;
        let head = u32::from(left == 0) | 1 << 1 | block << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

pub(crate) fn cases() -> Vec<Case> {
    let good = GOOD.len() as u64;
    let mut cases = vec![
        case("of other bytes", BAD, move |forge, id| {
            forge.record(id, plain(Coding::Stored), good, b"evil bytes\n");
        }),
        case("of fewer bytes", BAD, move |forge, id| {
            forge.record(id, plain(Coding::Stored), good, &GOOD[..5]);
        }),
        case("of more bytes", BAD, move |forge, id| {
            forge.record(id, plain(Coding::Stored), good, &GOOD.repeat(9));
        }),
        case("that is longer than its manifest says", BAD, |forge, id| {
            forge.record(id, plain(Coding::Stored), 99, &GOOD.repeat(9));
        }),
        case("that is a small bomb", BAD, move |forge, id| {
            forge.record(id, plain(Coding::Zstd), good, &bomb(1 << 20));
        }),
        case("that is a large bomb", BAD, |forge, id| {
            forge.record(id, plain(Coding::Zstd), 64 << 20, &bomb(u32::MAX));
        }),
        case("that is a bomb of its size", BAD, |forge, id| {
            forge.record(id, plain(Coding::Zstd), 64 << 20, &bomb(64 << 20));
        }),
        case("whose frame lies about its size", BAD, move |forge, id| {
            let mut frame = bomb(20);
            frame[5..9].copy_from_slice(&11_u32.to_le_bytes());
            forge.record(id, plain(Coding::Zstd), good, &frame);
        }),
        case(
            "whose frame asks for a window of 2^41 bytes",
            BAD,
            move |forge, id| {
                let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 1, 0, 0];
                forge.record(id, plain(Coding::Zstd), good, &frame);
            },
        ),
        case("whose frame names a dictionary", BAD, move |forge, id| {
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x23, 1, 2, 3, 4, 11, 1, 0, 0];
            forge.record(id, plain(Coding::Zstd), good, &frame);
        }),
        case("with no frame at all", BAD, move |forge, id| {
            forge.record(id, plain(Coding::Zstd), good, b"");
        }),
        case("with planes of no width", BAD, move |forge, id| {
            let recipe = Recipe::plain(Coding::Planes, vec![0]);
            forge.record(id, recipe, good, GOOD);
        }),
        case("with planes of a width of 255", BAD, move |forge, id| {
            let recipe = Recipe::plain(Coding::Planes, vec![255]);
            forge.record(id, recipe, good, GOOD);
        }),
        case(
            "with parameters that mean nothing",
            BAD,
            move |forge, id| {
                let recipe = Recipe::plain(Coding::Stored, vec![1, 2, 3]);
                forge.record(id, recipe, good, GOOD);
            },
        ),
        case("with a megabyte of parameters", BAD, move |forge, id| {
            let recipe = Recipe::plain(Coding::Planes, vec![4; 1_000_000]);
            forge.record(id, recipe, good, GOOD);
        }),
        case("of weights without a model", BAD, move |forge, id| {
            let recipe = Recipe::plain(Coding::Weights, vec![11, 0, 4, 2]);
            forge.record(id, recipe, good, GOOD);
        }),
        case("of weights of 2^70 elements", BAD, move |forge, id| {
            let mut parameters = vec![11, 0];
            for _ in 0..2 {
                parameters.extend([0xff, 0xff, 0xff, 0xff, 0x7f]);
            }
            let recipe = Recipe::plain(Coding::Weights, parameters);
            forge.record(id, recipe, good, GOOD);
        }),
        case(
            "of weights with a number that does not end",
            BAD,
            move |forge, id| {
                let recipe = Recipe::plain(Coding::Weights, vec![0xff; 200]);
                forge.record(id, recipe, good, GOOD);
            },
        ),
        case("of weights whose model is noise", BAD, move |forge, id| {
            let side = ChunkId::from_bytes(forge.put(Kind::Chunk, &[0xaa; 3000]));
            let mut recipe = Recipe::plain(Coding::Weights, vec![11, 0, 4, 2]);
            recipe.side = vec![side];
            forge.record(id, recipe, 32, GOOD);
        }),
        case(
            "of weights whose model is not there",
            BAD,
            move |forge, id| {
                let mut recipe = Recipe::plain(Coding::Weights, vec![11, 0, 4, 2]);
                recipe.side = vec![ChunkId::of(b"nowhere")];
                forge.record(id, recipe, 32, GOOD);
            },
        ),
        case("whose model is itself", BAD, move |forge, id| {
            let mut recipe = Recipe::plain(Coding::Weights, vec![11, 0, 4, 2]);
            recipe.side = vec![id];
            forge.record(id, recipe, good, GOOD);
        }),
    ];
    cases.extend(predicted());
    cases.extend(headers());
    cases
}

fn predicted() -> Vec<Case> {
    let good = GOOD.len() as u64;
    let base = |forge: &mut Forge| ChunkId::from_bytes(forge.put(Kind::Chunk, b"base bytes\n"));
    let mut cases = vec![
        case("that is predicted from itself", BAD, move |forge, id| {
            let recipe = on(Coding::Exact, &[], vec![view(id, 0, good)], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("whose source is as deep", BAD, move |forge, id| {
            let other = ChunkId::of(b"other bytes");
            let recipe = |source| on(Coding::Exact, &[], vec![view(source, 0, good)], 3);
            forge.record(id, recipe(other), good, b"");
            forge.record(other, recipe(id), good, b"");
        }),
        case(
            "with a chain that is deeper than it says",
            BAD,
            move |forge, id| {
                let at = |step: u8| match step {
                    20 => id,
                    _ => ChunkId::of(&[step; 11]),
                };
                forge.record(at(0), plain(Coding::Stored), good, &[0; 11]);
                for step in 1..=20 {
                    let depth = step.min(8);
                    let recipe = on(Coding::Exact, &[], vec![view(at(step - 1), 0, good)], depth);
                    forge.record(at(step), recipe, good, b"");
                }
            },
        ),
        case("whose source is not there", BAD, move |forge, id| {
            let nowhere = ChunkId::of(b"nowhere");
            let recipe = on(Coding::Exact, &[], vec![view(nowhere, 0, good)], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("that reads behind its source", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Exact, &[], vec![view(source, 5, good)], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("that reads far behind its source", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Exact, &[], vec![view(source, 60 << 20, good)], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("with a view of other length", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Exact, &[], vec![view(source, 0, 5)], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("with two sources of one base", BAD, move |forge, id| {
            let source = base(forge);
            let two = vec![view(source, 0, good), view(source, 0, good)];
            forge.record(id, on(Coding::Exact, &[], two, 1), good, b"");
        }),
        case("with a view of no parts", BAD, move |forge, id| {
            let recipe = on(Coding::Exact, &[], vec![View::default()], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("that is exact and is not", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Exact, &[], vec![view(source, 0, good)], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("that is exact and holds bytes", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Exact, &[], vec![view(source, 0, good)], 1);
            forge.record(id, recipe, good, b"more");
        }),
        case("with a difference that is noise", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Difference, &[1], vec![view(source, 0, good)], 1);
            forge.record(id, recipe, good, &[0x5a; 300]);
        }),
        case("with a difference of no width", BAD, move |forge, id| {
            let source = base(forge);
            let recipe = on(Coding::Difference, &[], vec![view(source, 0, good)], 1);
            forge.record(id, recipe, good, &[0; 30]);
        }),
        case("with a residual that is noise", BAD, move |forge, id| {
            let zeros = View {
                parts: vec![Part::zeros(64)],
            };
            let recipe = on(Coding::Residual, &[11, 0, 0, 0], vec![zeros], 1);
            forge.record(id, recipe, 64, &[0xff; 80]);
        }),
        case("of 256 MiB of zeros as sources", BAD, move |forge, id| {
            let parts = vec![Part::zeros(64 << 20); 4];
            let recipe = on(Coding::Exact, &[], vec![View { parts }], 1);
            forge.record(id, recipe, good, b"");
        }),
        case("of ten thousand small parts", BAD, move |forge, id| {
            let source = base(forge);
            let part = view(source, 0, 1).parts;
            let parts = part.into_iter().cycle().take(10_000).collect();
            let recipe = on(Coding::Exact, &[], vec![View { parts }], 1);
            forge.record(id, recipe, 10_000, b"");
        }),
    ];
    // Predictors whose parameters are noise, known to this version or not.
    for predictor in Predictor::ALL {
        if matches!(predictor, Predictor::None | Predictor::Base) {
            continue;
        }
        let name = format!("whose {} is noise", predictor.name());
        cases.push(case(&name, STRANGE, move |forge, id| {
            let source = base(forge);
            let recipe = Recipe {
                predictor: *predictor,
                predictor_parameters: vec![0xa5; 100],
                ..on(Coding::Exact, &[], vec![view(source, 0, good)], 1)
            };
            forge.record(id, recipe, good, b"");
        }));
    }
    cases
}

/// Headers that break a rule, with a right check over them.
fn headers() -> Vec<Case> {
    let good = GOOD.len() as u64;
    let of = |name: &str, at: usize, bytes: &'static [u8]| {
        case(&format!("header {name}"), STRANGE, move |forge, id| {
            let recipe = plain(Coding::Stored);
            forge.record_with(id, recipe, good, GOOD, &|header| {
                header[at..at + bytes.len()].copy_from_slice(bytes);
            });
        })
    };
    vec![
        of("without its magic", 0, b"NONE"),
        of("longer than it is", 4, &[0xff, 0xff, 0, 0]),
        of("longer than any may be", 4, &[0xff; 4]),
        of("shorter than any may be", 4, &[1, 0, 0, 0]),
        of("of an unknown kind", 8, &[99]),
        of("of another kind than its table says", 8, &[3]),
        of("of an unknown predictor", 9, &[99]),
        of("of an unknown coding", 10, &[99]),
        of("of a depth without sources", 11, &[4]),
        of("with a reserved byte", 12, &[1]),
        of("of another id", 16, &[1; 32]),
        of("of 2^64 plain bytes", 48, &[0xff; 8]),
        of("of other plain bytes than its table says", 48, &[12]),
        of("of 2^64 stored bytes", 56, &[0xff; 8]),
        of("with a wrong check of its bytes", 64, &[0; 8]),
        of("with 2^32 parameters", 72, &[0xff; 4]),
        of("with 2^32 side chunks", 80, &[0xff; 4]),
        of("with 2^32 sources", 84, &[0xff; 4]),
    ]
}

#[test]
fn forged_records_are_refused_in_bounded_memory_and_time() {
    for case in cases() {
        let sandbox = Sandbox::new();
        (case.make)(&sandbox);
        refused(&sandbox, &case.name, case.codes);
    }
}
