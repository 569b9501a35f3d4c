//! Records of predictors 2 to 7 and 9 whose recipes, sources or places mean harm: each is a right one
//! that is made wrong in one place.

use std::fs;

use sparse_store::predict;
use store_format::ids::ChunkId;
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, View};

use crate::Sandbox;
use crate::forge::{Forge, file_entry};
use crate::objects::{Case, refused};

/// Refused as damaged.
const BAD: &[i32] = &[6];
/// Refused because something is not there.
const MISSING: &[i32] = &[3, 6];

const U8: u64 = 1;
const I8: u64 = 2;
const BF16: u64 = 10;
const F32: u64 = 11;
const F64: u64 = 12;
const F4: u64 = 20;
const Q8_0: u64 = 36;
const IQ2_XXS: u64 = 44;

/// Where a record says that its recipe stands.
#[derive(Clone, Copy)]
enum At {
    Inline,
    Side,
    /// In side chunk 1 of one.
    NoNumber,
    /// In a side chunk that is the record itself.
    Itself,
    /// In a side chunk that no pack holds.
    Nowhere,
    /// In a side chunk that is predicted from another.
    Predicted,
    /// In a side chunk that names the record as its own side chunk.
    Circle,
}

/// A record of a predictor, all its parts open to change.
#[derive(Clone)]
struct Draft {
    predictor: Predictor,
    first: u64,
    step: u8,
    target: [u64; 3],
    shapes: Vec<[u64; 3]>,
    view: Option<Vec<u8>>,
    rest: Vec<u8>,
    /// What happens to the recipe's bytes at last.
    bytes: fn(&mut Vec<u8>),
    /// What happens to the parameters of the predictor at last.
    parameters: fn(&mut Vec<u8>),
    at: At,
    /// The bytes of the source ranges, one after the other.
    sources: Vec<u8>,
    views: fn(View) -> Vec<View>,
    plain: Vec<u8>,
    coding: Coding,
    coding_parameters: Vec<u8>,
    coded: Vec<u8>,
}

fn number(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 127 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn numbers(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|&value| number(value)).collect()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A view of listed rows, without a choice of columns. Each run is a head, perhaps a source, and
/// the number of its rows less one.
fn listed(sources: u8, runs: u64, bytes: &[u64]) -> Option<Vec<u8>> {
    Some([vec![sources, 2], number(runs), numbers(bytes), vec![0]].concat())
}

impl Draft {
    fn new(predictor: Predictor, step: u8, target: [u64; 3], shapes: &[[u64; 3]]) -> Self {
        Self {
            predictor,
            first: 0,
            step,
            target,
            shapes: shapes.to_vec(),
            view: None,
            rest: Vec::new(),
            bytes: |_| {},
            parameters: |_| {},
            at: At::Inline,
            sources: Vec::new(),
            views: |view| vec![view],
            plain: Vec::new(),
            coding: Coding::Exact,
            coding_parameters: Vec::new(),
            coded: Vec::new(),
        }
    }

    fn recipe(&self) -> Vec<u8> {
        let mut out = vec![self.step];
        out.extend(numbers(&self.target));
        out.push(self.shapes.len() as u8);
        self.shapes
            .iter()
            .for_each(|shape| out.extend(numbers(shape)));
        out.push(u8::from(self.view.is_some()));
        out.extend(self.view.iter().flatten());
        out.extend(&self.rest);
        (self.bytes)(&mut out);
        out
    }

    /// The same with what the recipe makes of its sources.
    fn right(mut self) -> Self {
        let recipe = predict::Recipe::parse(&self.recipe()).expect("a recipe");
        assert_eq!(recipe.to_bytes(), self.recipe());
        let (of, bytes) = recipe.target.dtype.block();
        let count = recipe.target.elements();
        let mut rest = &self.sources[..];
        let mut parts = Vec::new();
        for range in recipe.sources(0, count).expect("ranges") {
            let (part, left) = rest.split_at(range.bytes as usize);
            parts.push(part);
            rest = left;
        }
        assert!(rest.is_empty());
        self.plain = vec![0; (count / of * bytes) as usize];
        recipe
            .predict(0, &parts, &mut self.plain)
            .expect("a prediction");
        self
    }

    fn write(&self, forge: &mut Forge) -> ChunkId {
        let id = ChunkId::of(&self.plain);
        let recipe = self.recipe();
        let (place, side) = self.place(forge, id, &recipe);
        let mut parameters = number(self.first);
        parameters.push(place);
        if matches!(self.at, At::Inline) {
            parameters.extend(&recipe);
        }
        (self.parameters)(&mut parameters);
        let view = View {
            parts: vec![Part {
                chunk: ChunkId::from_bytes(forge.put(Kind::Chunk, &self.sources)),
                start: 0,
                bytes: self.sources.len() as u64,
            }],
        };
        let recipe = Recipe {
            predictor: self.predictor,
            predictor_parameters: parameters,
            sources: (self.views)(view),
            side,
            depth: 1,
            ..Recipe::plain(self.coding, self.coding_parameters.clone())
        };
        forge.record(id, recipe, self.plain.len() as u64, &self.coded);
        id
    }

    /// The number of the recipe's side chunk, and the side chunks.
    fn place(&self, forge: &mut Forge, id: ChunkId, recipe: &[u8]) -> (u8, Vec<ChunkId>) {
        let side = ChunkId::of(recipe);
        let bytes = recipe.len() as u64;
        match self.at {
            At::Inline => return (255, Vec::new()),
            At::Itself => return (0, vec![id]),
            At::Nowhere => return (0, vec![side]),
            At::Side | At::NoNumber => {
                // Short, however long the recipe is.
                let frame = frame(recipe);
                forge.record(side, Recipe::plain(Coding::Zstd, Vec::new()), bytes, &frame);
            }
            At::Predicted => {
                let other = ChunkId::from_bytes(forge.put(Kind::Chunk, &[recipe, b"!"].concat()));
                let view = View {
                    parts: vec![Part {
                        chunk: other,
                        start: 0,
                        bytes,
                    }],
                };
                let exact = Recipe {
                    predictor: Predictor::Base,
                    sources: vec![view],
                    depth: 1,
                    ..Recipe::plain(Coding::Exact, Vec::new())
                };
                forge.record(side, exact, bytes, b"");
            }
            At::Circle => {
                let needy = Recipe {
                    side: vec![id],
                    ..Recipe::plain(Coding::Stored, Vec::new())
                };
                forge.record(side, needy, bytes, recipe);
            }
        }
        (u8::from(matches!(self.at, At::NoNumber)), vec![side])
    }
}

/// A zstd frame of bytes whose runs of one byte take next to nothing.
fn frame(plain: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend((plain.len() as u32).to_le_bytes());
    let blocks: Vec<&[u8]> = plain.chunks(1 << 17).collect();
    for (at, block) in blocks.iter().enumerate() {
        let one = block.iter().all(|byte| *byte == block[0]);
        let last = u32::from(at + 1 == blocks.len());
        let head = last | u32::from(one) << 1 | (block.len() as u32) << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.extend(if one { &block[..1] } else { block });
    }
    frame
}

fn bf16(count: u8) -> Vec<u8> {
    (0..count).flat_map(|i| [i, 0x3f]).collect()
}

fn low_rank() -> Draft {
    let mut draft = Draft::new(Predictor::LowRank, 5, [BF16, 3, 4], &[[BF16, 3, 4]]);
    draft.rest = [vec![2], floats(&[0.5]), (1..15).collect()].concat();
    draft.sources = bf16(12);
    draft.right()
}

fn adapter() -> Draft {
    let shapes = [[F32, 2, 3], [F32, 2, 3], [F32, 2, 2]];
    let mut draft = Draft::new(Predictor::Adapter, 3, [F32, 2, 3], &shapes);
    draft.rest = [floats(&[0.5]), vec![1, 11, 0]].concat();
    draft.sources = floats(&[1.5; 16]);
    draft.right()
}

fn decomposed() -> Draft {
    let shapes = [[F32, 2, 3], [F32, 2, 3], [F32, 2, 2], [F32, 1, 2]];
    let mut draft = Draft::new(Predictor::Adapter, 3, [F32, 2, 3], &shapes);
    draft.rest = [floats(&[0.5]), vec![0, 11, 2]].concat();
    draft.sources = floats(&[1.5; 18]);
    draft.right()
}

/// Rows 0, 1, 3, 4 of six, all in one range.
fn gather() -> Draft {
    let mut draft = Draft::new(Predictor::Gather, 0, [U8, 4, 3], &[[U8, 6, 3]]);
    draft.view = listed(1, 2, &[0, 1, 4, 1]);
    draft.sources = (0..15).collect();
    draft.right()
}

fn transposed() -> Draft {
    let mut draft = Draft::new(Predictor::Gather, 0, [U8, 3, 4], &[[U8, 4, 3]]);
    draft.view = Some(vec![1, 3, 0]);
    draft.sources = (0..12).collect();
    draft.right()
}

fn swapped() -> Draft {
    let mut draft = Draft::new(Predictor::Gather, 0, [U8, 4, 3], &[[U8, 4, 3]]);
    draft.view = Some(vec![1, 1, 2, 2, 0]);
    draft.sources = (0..12).collect();
    draft.right()
}

/// Columns 1 and 2 of three.
fn columns() -> Draft {
    let mut draft = Draft::new(Predictor::Gather, 0, [U8, 4, 2], &[[U8, 4, 3]]);
    draft.view = Some(vec![1, 0, 1, 1, 4, 1]);
    draft.sources = (0..12).collect();
    draft.right()
}

fn cast() -> Draft {
    let mut draft = Draft::new(Predictor::Cast, 1, [BF16, 2, 4], &[[F32, 2, 4]]);
    draft.sources = floats(&[0.1, 0.2, 0.3, 4.0, 5.0, 6.0, 7.0, 8.5]);
    draft.right()
}

fn linear() -> Draft {
    let shapes = [[F32, 2, 2], [F32, 4, 1]];
    let mut draft = Draft::new(Predictor::Linear, 2, [F32, 2, 2], &shapes);
    draft.rest = [vec![2], 0.25_f64.to_le_bytes().repeat(2)].concat();
    draft.sources = floats(&[0.1, 0.2, 0.3, 4.0, 5.0, 6.0, 7.0, 8.5]);
    draft.right()
}

fn blocks() -> Draft {
    let mut draft = Draft::new(Predictor::Quantise, 4, [Q8_0, 2, 32], &[[F32, 2, 32]]);
    draft.rest = vec![0];
    draft.sources = floats(&[0.5; 64]);
    draft.right()
}

fn int8() -> Draft {
    let mut draft = Draft::new(Predictor::Quantise, 4, [I8, 2, 4], &[[F32, 2, 4]]);
    draft.rest = [vec![1, 0, 0, 1], floats(&[0.25])].concat();
    draft.sources = floats(&[0.1, 0.2, 0.3, 4.0, 5.0, 6.0, 7.0, 8.5]);
    draft.right()
}

/// NF4 of 66 elements in blocks of 32: the last one is cut short.
fn codes() -> Draft {
    let mut draft = Draft::new(Predictor::Blockwise, 6, [U8, 33, 1], &[[F32, 2, 33]]);
    draft.rest = vec![0, 5, 0, 1];
    draft.sources = floats(&[0.25; 66]);
    draft.right()
}

fn scales() -> Draft {
    let mut draft = Draft::new(Predictor::Blockwise, 6, [F32, 1, 3], &[[BF16, 2, 33]]);
    draft.rest = vec![1, 5];
    draft.sources = bf16(66);
    draft.right()
}

fn coded_scales() -> Draft {
    let mut draft = Draft::new(Predictor::Blockwise, 6, [U8, 1, 3], &[[BF16, 2, 33]]);
    draft.rest = [vec![2, 5, 1], floats(&[0.25])].concat();
    draft.sources = bf16(66);
    draft.right()
}

type Good = fn() -> Draft;

const GOODS: [(&str, Good); 14] = [
    ("low rank", low_rank),
    ("adapter", adapter),
    ("decomposed adapter", decomposed),
    ("listed rows", gather),
    ("transposed", transposed),
    ("swapped", swapped),
    ("columns", columns),
    ("cast", cast),
    ("linear", linear),
    ("blocks", blocks),
    ("int8", int8),
    ("codes", codes),
    ("scales", scales),
    ("coded scales", coded_scales),
];

fn case(name: String, codes: &'static [i32], good: Good, change: fn(&mut Draft)) -> Case {
    Case {
        name,
        codes,
        make: Box::new(move |sandbox: &Sandbox| {
            let mut draft = good();
            change(&mut draft);
            publish(sandbox, &draft);
        }),
    }
}

fn publish(sandbox: &Sandbox, draft: &Draft) {
    let mut forge = Forge::new(sandbox);
    let id = draft.write(&mut forge);
    let file = forge.file_of(id, &draft.plain);
    let tree = forge.tree(&[file_entry(b"a", file, draft.plain.len() as u64)]);
    forge.publish(sandbox, tree);
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = every();
    for (of, good, changes) in [
        ("low rank", low_rank as Good, LOW_RANK),
        ("adapter", adapter, ADAPTER),
        ("decomposed adapter", decomposed, DECOMPOSED),
        ("listed rows", gather, LISTED),
        ("transposed", transposed, TRANSPOSED),
        ("swapped", swapped, SWAPPED),
        ("columns", columns, COLUMNS),
        ("cast", cast, CAST),
        ("linear", linear, LINEAR),
        ("blocks", blocks, BLOCKS),
        ("int8", int8, INT8),
        ("codes", codes, CODES),
        ("scales", scales, SCALES),
        ("coded scales", coded_scales, CODED_SCALES),
    ] {
        for (name, change) in changes {
            cases.push(case(format!("recipe of {of} {name}"), BAD, good, *change));
        }
    }
    cases
}

type Changes = &'static [(&'static str, fn(&mut Draft))];

/// Cases that every predictor has: each is made of one of them in turn.
fn every() -> Vec<Case> {
    let missing: Changes = &[
        ("in a side chunk that is not there", |d| d.at = At::Nowhere),
        ("in a side chunk that is predicted", |d| {
            d.at = At::Predicted
        }),
        ("in a side chunk that needs the record", |d| {
            d.at = At::Circle
        }),
    ];
    let mut cases = Vec::new();
    for (at, (name, change)) in missing.iter().chain(EVERY).enumerate() {
        let (of, good) = GOODS[at % GOODS.len()];
        let codes = if at < missing.len() { MISSING } else { BAD };
        cases.push(case(
            format!("recipe {name}, of {of}"),
            codes,
            good,
            *change,
        ));
    }
    cases
}

const EVERY: Changes = &[
    ("in a side chunk that is itself", |d| d.at = At::Itself),
    ("in a side chunk beyond the last", |d| d.at = At::NoNumber),
    ("without parameters", |d| d.parameters = Vec::clear),
    ("without its place", |d| d.parameters = |p| p.truncate(1)),
    ("cut short", |d| d.bytes = |b| b.truncate(b.len() - 1)),
    ("of its number alone", |d| d.bytes = |b| b.truncate(1)),
    ("of nothing", |d| d.bytes = Vec::clear),
    ("with a byte too many", |d| d.bytes = |b| b.push(0)),
    ("with a byte too many in a side chunk", |d| {
        d.at = At::Side;
        d.bytes = |b| b.push(0);
    }),
    ("beside a side chunk", |d| {
        d.at = At::Side;
        d.parameters = |p| p.push(0);
    }),
    ("of an unknown step", |d| d.step = 7),
    ("of an unknown dtype", |d| d.target[0] = 99),
    ("with an unknown flag", |d| {
        d.bytes = |b| b.iter_mut().skip(1).for_each(|byte| *byte |= 128);
    }),
    ("without sources", |d| d.shapes.clear()),
    ("of 65 sources", |d| d.shapes = vec![d.shapes[0]; 65]),
    ("with a source that nobody needs", |d| {
        d.shapes.push(d.shapes[0]);
    }),
    ("with an element 2^64 - 1", |d| d.first = u64::MAX),
    ("with an element behind the last", |d| d.first = 64),
    ("with an element too far", |d| {
        d.first = d.target[1] * d.target[2] - 1
    }),
    ("with a number of eleven bytes", |d| {
        d.parameters = |p| drop(p.splice(..1, [0xff; 11]));
    }),
    ("with a number longer than needed", |d| {
        d.parameters = |p| drop(p.splice(..1, [0x80, 0]));
    }),
    ("of 2^64 rows", |d| d.target[1] = u64::MAX),
    ("of 2^64 columns", |d| d.target[2] = u64::MAX),
    ("of 2^32 by 2^32 elements", |d| {
        d.target[1..].fill(1 << 32);
    }),
    ("with a source of 2^40 by 2^40 elements", |d| {
        d.shapes[0][1..].fill(1 << 40);
    }),
    ("of no rows", |d| d.target[1] = 0),
    ("of no columns", |d| d.target[2] = 0),
    ("of another predictor", |d| {
        d.predictor = match d.predictor {
            Predictor::Cast => Predictor::Linear,
            _ => Predictor::Cast,
        };
    }),
    ("with too few source bytes", |d| {
        d.sources.pop();
    }),
    ("with too many source bytes", |d| d.sources.push(0)),
    ("with a second view", |d| d.views = |view| vec![view; 2]),
    ("with a view that is empty", |d| {
        d.views = |_| vec![View::default()]
    }),
    ("with 256 MiB of zeros as sources", |d| {
        d.views = |_| {
            let parts = vec![Part::zeros(64 << 20); 4];
            vec![View { parts }]
        };
    }),
    ("with 256 views of zeros", |d| {
        d.views = |_| {
            let parts = vec![Part::zeros(1 << 20)];
            vec![View { parts }; 256]
        };
    }),
    ("with no block's bytes", |d| d.plain.push(0)),
    ("of other bytes", |d| d.plain[0] ^= 1),
];

const LOW_RANK: Changes = &[
    ("of rank 0", |d| d.rest[0] = 0),
    ("of rank 0 without factors", |d| {
        d.rest.truncate(5);
        d.rest[0] = 0;
    }),
    ("of rank 3 with factors of rank 2", |d| d.rest[0] = 3),
    ("of rank 65", |d| {
        d.rest[0] = 65;
        d.rest.truncate(5);
        d.rest.resize(5 + 65 * 7, 1);
    }),
    ("of rank 255 and 2^50 rows", |d| {
        d.rest[0] = 255;
        d.target = [BF16, 1 << 50, 1];
        d.shapes[0] = d.target;
    }),
    ("of step 0", |d| d.rest[1..5].fill(0)),
    ("of step -1", |d| {
        d.rest.splice(1..5, floats(&[-1.0])).for_each(drop)
    }),
    ("of an infinite step", |d| {
        d.rest.splice(1..5, floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("of a step that is no number", |d| {
        d.rest.splice(1..5, floats(&[f32::NAN])).for_each(drop);
    }),
    ("with an entry of 64", |d| d.rest[5] = 64),
    ("with an entry of -128", |d| d.rest[18] = 128),
    ("with a factor too short", |d| d.rest.truncate(17)),
    ("with a factor too long", |d| d.rest.extend([1, 1])),
    ("of whole numbers", |d| d.target[0] = 4),
    ("on packed elements", |d| d.shapes[0] = [F4, 3, 4]),
    ("on two sources", |d| d.shapes.push([BF16, 3, 4])),
    ("as patterns that are noise", |d| {
        d.coding = Coding::Residual;
        d.coding_parameters = vec![10, 0, 0, 0];
        d.coded = vec![0x77; 40];
    }),
    ("as patterns of another dtype", |d| {
        d.coding = Coding::Residual;
        d.coding_parameters = vec![11, 0, 0, 0];
        d.coded = vec![0; 9];
    }),
];

const ADAPTER: Changes = &[
    ("of rank 0", |d| {
        d.shapes[1] = [F32, 0, 3];
        d.shapes[2] = [F32, 2, 0];
        d.sources.truncate(24);
    }),
    ("of rank 4097", |d| {
        d.shapes[1] = [F32, 4097, 3];
        d.shapes[2] = [F32, 2, 4097];
        d.sources.resize(24 + 4 * 4097 * 5, 0);
    }),
    ("of rank 4096 with few factors", |d| {
        d.shapes[1] = [F32, 4096, 3];
        d.shapes[2] = [F32, 2, 4096];
    }),
    ("of two ranks", |d| d.shapes[1][1] = 3),
    ("with a factor for other inputs", |d| d.shapes[1][2] = 4),
    ("with a factor for other outputs", |d| d.shapes[2][1] = 3),
    ("with its factors exchanged", |d| d.shapes.swap(1, 2)),
    ("with one factor", |d| {
        d.shapes.pop();
    }),
    ("with three factors", |d| d.shapes.push([F32, 2, 2])),
    ("with a factor of whole numbers", |d| d.shapes[1][0] = 5),
    ("with a factor of 2^48 bytes", |d| {
        d.target = [F32, 2, 1 << 36];
        d.shapes = vec![d.target, [F32, 4096, 1 << 36], [F32, 2, 4096]];
    }),
    ("with factors of 2^28 bytes and more in zeros", |d| {
        d.target = [14, 2, 1 << 16];
        d.shapes = vec![d.target, [14, 4096, 1 << 16], [14, 2, 4096]];
        d.plain = vec![0; 1];
        d.views = |_| {
            let parts = vec![Part::zeros(64 << 20); 4];
            vec![View { parts }]
        };
    }),
    ("of 2^33 products", |d| {
        d.target = [14, 1024, 2048];
        d.shapes = vec![d.target, [14, 4096, 2048], [14, 1024, 4096]];
        d.plain = vec![0; 1 << 21];
        d.views = |_| {
            let parts = vec![Part::zeros((2 << 20) + (8 << 20) + (4 << 20))];
            vec![View { parts }]
        };
    }),
    ("of an infinite scale", |d| {
        d.rest.splice(..4, floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("of a scale that is no number", |d| {
        d.rest.splice(..4, floats(&[f32::NAN])).for_each(drop);
    }),
    ("in an unknown order", |d| d.rest[4] = 2),
    ("with a change of whole numbers", |d| d.rest[5] = 1),
    ("with a change of no dtype", |d| d.rest[5] = 255),
    ("of an unknown form", |d| d.rest[6] = 3),
    ("decomposed without magnitudes", |d| d.rest[6] = 2),
];

const DECOMPOSED: Changes = &[
    ("without magnitudes", |d| {
        d.shapes.pop();
    }),
    ("with a magnitude for each input", |d| d.shapes[3][2] = 3),
    ("with magnitudes of whole numbers", |d| d.shapes[3][0] = 5),
    ("with magnitudes and of form 0", |d| d.rest[6] = 0),
    ("with rows of 2^20 + 1 elements", |d| {
        d.target = [14, 1, (1 << 20) + 1];
        d.shapes = vec![d.target, d.target, [14, 1, 1], [14, 1, 1]];
        d.plain = vec![0; 1];
        d.views = |_| {
            let parts = vec![Part::zeros((2 << 20) + 4)];
            vec![View { parts }]
        };
    }),
];

const LISTED: Changes = &[
    ("behind its source", |d| {
        d.view = listed(1, 2, &[8, 1, 14, 6])
    }),
    ("past the end of its source", |d| {
        d.view = listed(1, 1, &[12, 3]);
    }),
    ("at row 2^62", |d| {
        d.view = listed(1, 1, &[u64::MAX >> 1 & !3, 3])
    }),
    ("at row 2^64 - 1", |d| {
        d.view = listed(1, 1, &[u64::MAX, 0, 3])
    }),
    ("before row 0", |d| d.view = listed(1, 2, &[8, 1, 18, 1])),
    ("of a run of 2^64 - 1 rows", |d| {
        d.view = listed(1, 1, &[0, u64::MAX])
    }),
    ("of a run of 2^50 rows", |d| {
        d.view = listed(1, 1, &[0, (1 << 50) - 1])
    }),
    ("of more rows than the target", |d| {
        d.view = listed(1, 2, &[8, 1, 14, 2]);
    }),
    ("of fewer rows than the target", |d| {
        d.view = listed(1, 2, &[8, 1, 14, 0]);
    }),
    ("of no runs", |d| d.view = listed(1, 0, &[])),
    ("of 2^64 - 1 runs", |d| {
        d.view = listed(1, u64::MAX, &[8, 1])
    }),
    ("of a million runs in two", |d| {
        d.view = listed(1, 1 << 20, &[8, 1, 14, 1]);
    }),
    ("of 30 million runs", |d| {
        // A byte of 4, again and again, is a gap of one row and a run of five.
        let runs = 30_000_000;
        let list = vec![4; 2 * runs as usize];
        d.view = Some([vec![1, 2], number(runs), list, vec![0]].concat());
        d.target = [U8, 5 * runs, 1];
        d.shapes[0] = [U8, 6 * runs, 1];
        d.at = At::Side;
    }),
    ("of another source than any", |d| {
        d.view = listed(1, 2, &[8, 1, 15, 3, 1]);
    }),
    ("of source 0 of none", |d| {
        d.view.as_mut().expect("a view")[0] = 0
    }),
    ("of two sources where one is", |d| {
        d.view.as_mut().expect("a view")[0] = 2;
    }),
    ("of 65 sources", |d| {
        d.view.as_mut().expect("a view")[0] = 65
    }),
    ("that say twice that they move", |d| {
        d.view = listed(1, 2, &[9, 0, 1, 14, 1]);
    }),
    ("in two runs that are one", |d| {
        d.view = listed(1, 2, &[8, 1, 0, 1])
    }),
    ("in another row length", |d| d.shapes[0][2] = 4),
    ("of another dtype", |d| d.shapes[0][0] = I8),
    ("of unknown rows", |d| d.view = Some(vec![1, 4, 0])),
    ("that sum to 2^64 source bytes", |d| {
        // Row 0 again and again, one column of it.
        let rows = 1 << 14;
        let list = [vec![0, 0], [2, 0].repeat(rows - 1)].concat();
        d.view = Some([vec![1, 2], number(rows as u64), list, vec![1, 1, 0, 0]].concat());
        d.target = [F64, rows as u64, 1];
        d.shapes[0] = [F64, 1, 1 << 47];
        d.plain = vec![0; rows * 8];
    }),
];

const TRANSPOSED: Changes = &[
    ("of the same sides", |d| d.shapes[0] = [U8, 3, 4]),
    ("with a choice of columns", |d| {
        d.view = Some(vec![1, 3, 1, 1, 0, 3])
    }),
    ("of two sources", |d| {
        d.view = Some(vec![2, 3, 0]);
        d.shapes.push(d.shapes[0]);
    }),
    ("of packed elements", |d| {
        d.target[0] = F4;
        d.shapes[0] = [F4, 4, 3];
    }),
    ("of 2^40 columns in two bytes", |d| {
        d.target = [U8, 3, 1 << 40];
        d.shapes[0] = [U8, 1 << 40, 3];
        d.first = (1 << 40) - 1;
        d.plain.truncate(2);
    }),
    ("of 2^21 columns in two bytes", |d| {
        d.target = [U8, 3, 1 << 21];
        d.shapes[0] = [U8, 1 << 21, 3];
        d.first = (1 << 21) - 1;
        d.plain.truncate(2);
        d.sources.resize(2 << 21, 0);
        d.plain.fill(0);
    }),
];

const SWAPPED: Changes = &[
    ("by nothing", |d| d.view = Some(vec![1, 1, 0, 2, 0])),
    ("by what does not divide", |d| {
        d.view = Some(vec![1, 1, 3, 2, 0])
    }),
    ("by 2^32 times 2^32", |d| {
        d.view = Some([vec![1, 1], numbers(&[1 << 32, 1 << 32]), vec![0]].concat());
    }),
    ("by 2^64 - 1", |d| {
        d.view = Some([vec![1, 1], numbers(&[u64::MAX, u64::MAX]), vec![0]].concat());
    }),
    ("in groups of 2^40 rows", |d| {
        d.view = Some([vec![1, 1], numbers(&[1 << 20, 1 << 20]), vec![0]].concat());
        d.target = [U8, 1 << 40, 3];
        d.shapes[0] = d.target;
    }),
    ("of other rows than the target's", |d| {
        d.shapes[0] = [U8, 8, 3]
    }),
];

const COLUMNS: Changes = &[
    ("behind the last", |d| d.view = Some(vec![1, 0, 1, 1, 8, 1])),
    ("of no source", |d| {
        d.view = Some(vec![1, 0, 1, 1, 1, 255, 1])
    }),
    ("of another source", |d| {
        d.view = Some(vec![1, 0, 1, 1, 5, 1, 1])
    }),
    ("of none", |d| d.view = Some(vec![1, 0, 1, 0])),
    ("left out", |d| d.view = Some(vec![1, 0, 0])),
    ("with an unknown flag", |d| {
        d.view = Some(vec![1, 0, 2, 1, 4, 1])
    }),
    ("of a row of 2^50 bytes", |d| {
        let run = number((1 << 49) - 1);
        d.view = Some([vec![1, 0, 1, 1, 0], run].concat());
        d.target = [U8, 1, 1 << 49];
        d.shapes[0] = [U8, 1, 1 << 50];
    }),
];

const CAST: Changes = &[
    ("to the same dtype", |d| d.target[0] = F32),
    ("to whole numbers", |d| d.target[0] = 4),
    ("from whole numbers", |d| d.shapes[0][0] = 5),
    ("from blocks", |d| {
        d.shapes[0] = [Q8_0, 1, 32];
        d.target = [BF16, 1, 32];
    }),
    ("from fewer elements", |d| d.shapes[0][1] = 1),
    ("from more elements", |d| d.shapes[0][2] = 8),
];

const LINEAR: Changes = &[
    ("of more coefficients than sources", |d| {
        d.rest = [vec![3], 0.25_f64.to_le_bytes().repeat(3)].concat();
    }),
    ("of fewer coefficients than sources", |d| {
        d.rest = [vec![1], 0.25_f64.to_le_bytes().to_vec()].concat();
    }),
    ("of no coefficients", |d| d.rest = vec![0]),
    ("of 2^64 - 1 coefficients", |d| d.rest = number(u64::MAX)),
    ("of an infinite coefficient", |d| {
        d.rest[1..9].copy_from_slice(&f64::INFINITY.to_le_bytes());
    }),
    ("of a coefficient that is no number", |d| {
        d.rest[9..].copy_from_slice(&f64::NAN.to_le_bytes());
    }),
    ("of sources of other lengths", |d| d.shapes[1] = [F32, 5, 1]),
    ("of whole numbers", |d| d.shapes[1][0] = 5),
    ("with a view", |d| d.view = listed(1, 1, &[0, 1])),
    ("of 64 sources of 16 MiB", |d| {
        let elements = 1 << 22;
        d.target = [BF16, 1, elements];
        d.shapes = vec![[F32, 1, elements]; 64];
        d.rest = [vec![64], 0.5_f64.to_le_bytes().repeat(64)].concat();
        d.plain = vec![0; 2 * elements as usize];
    }),
];

const BLOCKS: Changes = &[
    ("by an unknown rule", |d| d.rest[0] = 2),
    ("by a rule of bytes", |d| d.rest = vec![1, 0, 0, 0]),
    ("of a type without a rule", |d| {
        d.target = [IQ2_XXS, 1, 256];
        d.shapes[0] = [F32, 1, 256];
    }),
    ("of floats", |d| d.target[0] = BF16),
    ("of a row that is no whole block", |d| {
        d.target = [Q8_0, 2, 33];
        d.shapes[0] = [F32, 2, 33];
    }),
    ("of fewer elements than a block", |d| {
        d.target = [Q8_0, 1, 16];
        d.shapes[0] = [F32, 1, 16];
    }),
    ("from whole numbers", |d| d.shapes[0][0] = 5),
    ("with scales", |d| d.shapes.push([F32, 1, 32])),
    ("from an element within a block", |d| {
        d.first = 16;
        d.plain.truncate(34);
        d.sources.truncate(128);
    }),
    ("with half a block", |d| {
        d.plain.truncate(17);
        d.sources.truncate(64);
    }),
];

const INT8: Changes = &[
    ("by an unknown rule", |d| d.rest[0] = 255),
    ("of an unknown rounding", |d| d.rest[1] = 2),
    ("with an unknown use of its scale", |d| d.rest[2] = 2),
    ("with an unknown scale", |d| d.rest[3] = 4),
    ("with an infinite scale", |d| {
        d.rest.splice(4.., floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("with a scale that is no number", |d| {
        d.rest.splice(4.., floats(&[f32::NAN])).for_each(drop);
    }),
    ("without the scales that it names", |d| {
        d.rest = vec![1, 0, 0, 2]
    }),
    ("with scales of another length", |d| {
        d.rest = vec![1, 0, 0, 2];
        d.shapes.push([F32, 1, 3]);
        d.sources.extend(floats(&[1.0; 3]));
    }),
    ("with scales of another dtype", |d| {
        d.rest = vec![1, 0, 0, 3];
        d.shapes.push([BF16, 1, 4]);
        d.sources.extend(bf16(4));
    }),
    ("of whole rows of 2^40 elements", |d| {
        d.rest = vec![1, 0, 0, 0];
        d.target = [I8, 1, 1 << 40];
        d.shapes[0] = [F32, 1, 1 << 40];
    }),
    ("of floats", |d| d.target[0] = F32),
    ("from packed elements", |d| d.shapes[0][0] = F4),
];

const CODES: Changes = &[
    ("by an unknown rule", |d| d.rest[0] = 3),
    ("by the rule of scales", |d| d.rest = vec![1, 5]),
    ("of blocks of 1", |d| d.rest[1] = 0),
    ("of blocks of 16", |d| d.rest[1] = 4),
    ("of blocks of 8192", |d| d.rest[1] = 13),
    ("of blocks of 2^255", |d| d.rest[1] = 255),
    ("of an unknown table", |d| d.rest[2] = 4),
    ("with an unknown use of its scale", |d| d.rest[3] = 3),
    ("without its table", |d| d.rest.truncate(2)),
    ("of fewer elements", |d| d.target[1] = 32),
    ("of more elements", |d| d.target[1] = 34),
    ("of as many elements", |d| d.target = [U8, 2, 33]),
    ("in signed bytes", |d| d.target[0] = I8),
    ("with a view", |d| d.view = Some(vec![1, 3, 0])),
    ("from packed elements", |d| d.shapes[0] = [F4, 2, 33]),
    ("of 2^49 bytes from a tensor of 2^50", |d| {
        d.target = [U8, 1 << 49, 1];
        d.shapes[0] = [F32, 1 << 25, 1 << 25];
        d.first = (1 << 49) - 1;
    }),
    ("with scales", |d| d.shapes.push([F32, 1, 3])),
];

const SCALES: Changes = &[
    ("by the rule of codes", |d| d.rest = vec![0, 5, 0, 1]),
    ("of blocks of 16", |d| d.rest[1] = 4),
    ("of blocks of 8192", |d| d.rest[1] = 13),
    ("of blocks of another length", |d| d.rest[1] = 6),
    ("with a table", |d| d.rest.extend([0, 0])),
    ("in halves", |d| d.target[0] = BF16),
    ("of no elements", |d| d.shapes[0] = [BF16, 0, 33]),
    ("of blocks of 2^26 elements and more", |d| {
        d.rest[1] = 12;
        d.target = [F32, 1, 1 << 20];
        d.shapes[0] = [BF16, 1 << 16, 1 << 16];
        d.plain = vec![0; 4 << 15];
    }),
    ("from whole numbers", |d| d.shapes[0][0] = 5),
];

const CODED_SCALES: Changes = &[
    ("by an unknown search", |d| d.rest[2] = 2),
    ("of blocks of 8192", |d| d.rest[1] = 13),
    ("with an infinite offset", |d| {
        d.rest.splice(3.., floats(&[f32::INFINITY])).for_each(drop);
    }),
    ("with an offset that is no number", |d| {
        d.rest.splice(3.., floats(&[f32::NAN])).for_each(drop);
    }),
    ("without an offset", |d| d.rest.truncate(3)),
    ("in floats", |d| d.target[0] = F32),
    ("of more elements", |d| d.target[2] = 4),
];

#[test]
fn right_records_of_every_predictor_are_taken() {
    for (name, good) in GOODS {
        for at in [At::Inline, At::Side] {
            let sandbox = Sandbox::new();
            let mut draft = good();
            draft.at = at;
            publish(&sandbox, &draft);
            let seen = sandbox.run(name, &["-C", "evil", "checkout", "main", "../out"]);
            assert_eq!(seen.code, Some(0), "{name}: {}", seen.err);
            let found = fs::read(sandbox.path("out/a")).expect("a file");
            assert_eq!(found, draft.plain, "{name}");
        }
    }
}

#[test]
fn forged_recipes_are_refused_in_bounded_memory_and_time() {
    for case in cases() {
        let sandbox = Sandbox::new();
        (case.make)(&sandbox);
        refused(&sandbox, &case.name, case.codes);
    }
}
