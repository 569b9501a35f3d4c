//! The residual coder on plain bytes in memory, tensor by tensor, chunk by chunk, one thread;
//! with a change of low rank before it where that is asked for and found.

use std::convert::Infallible;
use std::path::Path;

use sparse_store::codec::residual::{
    Level, Model, Prediction, Statistics, TensorShape, decode, encode,
};
use sparse_store::predict::low_rank::fit::{Effort, fit};
use sparse_store::predict::{Recipe, Shape, Step, float};

use crate::measure::{best, report};
use crate::plain::{Plain, width};

/// What a tensor is predicted from.
#[derive(Clone, Copy)]
struct Source<'a> {
    base: Option<&'a [u8]>,
    /// What brings the base nearer, if anything does.
    recipe: Option<&'a Recipe>,
}

impl Source<'_> {
    /// The prediction of `elements` elements from `first` on; `room` takes patterns.
    fn prediction<'a>(
        &'a self,
        width: usize,
        (first, elements): (usize, usize),
        room: &'a mut Vec<u32>,
    ) -> Prediction<'a> {
        let Some(base) = self.base else {
            return Prediction::None;
        };
        let base = &base[first * width..(first + elements) * width];
        let Some(recipe) = self.recipe else {
            return Prediction::Same(base);
        };
        room.resize(elements, 0);
        recipe.patterns(first as u64, &[base], room).expect("patterns");
        Prediction::Fraction(room)
    }
}

/// A tensor's side information and its chunks.
struct Coded {
    recipe: Option<Recipe>,
    side: Vec<u8>,
    built_in: Option<Model>,
    chunks: Vec<Vec<u8>>,
}

/// Bytes of a chunk: whole rows, at most 2^20 elements.
fn chunk_bytes(shape: TensorShape) -> usize {
    let most = 1_u64 << 20;
    let elements = match shape.cols {
        0 => most,
        cols if cols > most => most,
        cols => most / cols * cols,
    };
    elements as usize * width(shape.dtype)
}

/// A change of low rank, by the store's own search, if it finds one that pays.
fn low_rank(shape: TensorShape, target: &[u8], base: &[u8]) -> Option<Recipe> {
    let cols = shape.cols as usize;
    let row_bytes = cols * width(shape.dtype);
    let values = |bytes: &[u8], row: usize| {
        float::widened(shape.dtype, &bytes[row * row_bytes..(row + 1) * row_bytes])
    };
    let change = |row: usize, out: &mut [f32]| -> Result<(), Infallible> {
        let (new, old) = (values(target, row), values(base, row));
        for ((out, new), old) in out.iter_mut().zip(new).zip(old) {
            let change = new - old;
            *out = if change.is_finite() { change } else { 0.0 };
        }
        Ok(())
    };
    let Ok(factors) = fit(shape.rows as usize, cols, &Effort::DEFAULT, None, change);
    let whole = Shape {
        dtype: shape.dtype,
        rows: shape.rows,
        cols: shape.cols,
    };
    Recipe::new(whole, vec![whole], None, Step::LowRank(factors?)).ok()
}

fn encode_tensor(
    shape: TensorShape,
    target: &[u8],
    base: Option<&[u8]>,
    (level, with_low_rank): (Level, bool),
) -> Coded {
    let width = width(shape.dtype);
    let step = chunk_bytes(shape);
    let recipe = base
        .filter(|_| with_low_rank)
        .and_then(|base| low_rank(shape, target, base));
    let source = Source {
        base,
        recipe: recipe.as_ref(),
    };
    let parts = || {
        target
            .chunks(step)
            .enumerate()
            .map(|(n, part)| (n * step / width, part))
    };
    let (mut room, mut coded) = (Vec::new(), Vec::new());
    let mut statistics = Statistics::new(shape, level, base.is_some()).expect("a known type");
    for (first, part) in parts() {
        let prediction = source.prediction(width, (first, part.len() / width), &mut room);
        statistics.add(first as u64, part, prediction);
    }
    let model = statistics.finish();
    let chunks = parts().map(|(first, part)| {
        coded.clear();
        let prediction = source.prediction(width, (first, part.len() / width), &mut room);
        encode(&model, first as u64, part, prediction, &mut coded);
        coded.to_vec()
    });
    Coded {
        chunks: chunks.collect(),
        side: model.to_bytes(),
        built_in: model.is_builtin().then_some(model),
        recipe,
    }
}

fn decode_tensor(shape: TensorShape, coded: &Coded, base: Option<&[u8]>, out: &mut [u8]) {
    let width = width(shape.dtype);
    let step = chunk_bytes(shape);
    let parsed = match &coded.built_in {
        Some(model) => model.clone(),
        None => Model::parse(shape, &coded.side).expect("side information"),
    };
    let source = Source {
        base,
        recipe: coded.recipe.as_ref(),
    };
    let mut room = Vec::new();
    for (n, (part, chunk)) in out.chunks_mut(step).zip(&coded.chunks).enumerate() {
        let first = n * step / width;
        let prediction = source.prediction(width, (first, part.len() / width), &mut room);
        decode(&parsed, first as u64, chunk, prediction, part).expect("a chunk");
    }
}

/// The bytes of a recipe as the store would keep them.
fn recipe_bytes(recipe: &Recipe) -> usize {
    zstd::encode_all(&*recipe.to_bytes(), 19)
        .expect("memory")
        .len()
}

pub fn run(level: &str, dir: &Path, repeat: usize) {
    let level = match level {
        "fast" => (Level::Fast, false),
        "default" => (Level::Default, false),
        "low-rank" => (Level::Default, true),
        "max" => (Level::Max, false),
        _ => panic!("no level {level}"),
    };
    let plain = Plain::read(dir);
    let base = |range: &std::ops::Range<usize>| plain.base.as_ref().map(|b| &b[range.clone()]);
    let (coded, encoding) = best(repeat, || {
        let tensors = plain.ranges().map(|(shape, range)| {
            encode_tensor(shape, &plain.target[range.clone()], base(&range), level)
        });
        tensors.collect::<Vec<_>>()
    });
    // The result's memory is new each time, as it is for every rival.
    let (out, decoding) = best(repeat, || {
        let mut out = vec![0; plain.target.len()];
        for ((shape, range), coded) in plain.ranges().zip(&coded) {
            decode_tensor(shape, coded, base(&range), &mut out[range]);
        }
        out
    });
    assert!(out == plain.target, "decoded bytes differ");
    let of_tensor = |coded: &Coded| {
        let chunks: usize = coded.chunks.iter().map(Vec::len).sum();
        chunks + coded.side.len() + coded.recipe.as_ref().map_or(0, recipe_bytes)
    };
    report(coded.iter().map(of_tensor).sum(), encoding, decoding);
}
