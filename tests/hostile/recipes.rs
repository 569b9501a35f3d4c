//! Records of predictors 2 to 7 and 9 whose recipes, sources or places mean harm: each is a right one
//! that is made wrong in one place.

mod changes;

use std::fs;

use sparse_store::predict;
use store_format::ids::ChunkId;
use store_format::record::{Coding, Kind, Part, Predictor, Recipe, View};

use self::changes::*;
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
