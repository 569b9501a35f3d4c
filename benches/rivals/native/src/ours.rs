//! The residual coder on plain bytes in memory, tensor by tensor, chunk by chunk, one thread.

use std::path::Path;

use sparse_store::codec::residual::{
    Level, Model, Prediction, Statistics, TensorShape, decode, encode,
};

use crate::measure::{best, report};
use crate::plain::{Plain, width};

/// A tensor's side information and its chunks.
struct Coded {
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

fn prediction(base: Option<&[u8]>, at: usize, len: usize) -> Prediction<'_> {
    base.map_or(Prediction::None, |base| {
        Prediction::Same(&base[at..at + len])
    })
}

fn encode_tensor(shape: TensorShape, target: &[u8], base: Option<&[u8]>, level: Level) -> Coded {
    let width = width(shape.dtype);
    let step = chunk_bytes(shape);
    let parts = || {
        target
            .chunks(step)
            .enumerate()
            .map(|(n, part)| (n * step, part))
    };
    let mut statistics = Statistics::new(shape, level, base.is_some()).expect("a known type");
    for (at, part) in parts() {
        statistics.add((at / width) as u64, part, prediction(base, at, part.len()));
    }
    let model = statistics.finish();
    let chunks = parts().map(|(at, part)| {
        let mut coded = Vec::with_capacity(part.len());
        let prediction = prediction(base, at, part.len());
        encode(&model, (at / width) as u64, part, prediction, &mut coded);
        coded.shrink_to_fit();
        coded
    });
    Coded {
        chunks: chunks.collect(),
        side: model.to_bytes(),
        built_in: model.is_builtin().then_some(model),
    }
}

fn decode_tensor(shape: TensorShape, coded: &Coded, base: Option<&[u8]>, out: &mut [u8]) {
    let width = width(shape.dtype);
    let step = chunk_bytes(shape);
    let parsed = match &coded.built_in {
        Some(model) => model.clone(),
        None => Model::parse(shape, &coded.side).expect("side information"),
    };
    for (n, (part, chunk)) in out.chunks_mut(step).zip(&coded.chunks).enumerate() {
        let prediction = prediction(base, n * step, part.len());
        decode(&parsed, (n * step / width) as u64, chunk, prediction, part).expect("a chunk");
    }
}

pub fn run(level: &str, dir: &Path, repeat: usize) {
    let level = match level {
        "fast" => Level::Fast,
        "default" => Level::Default,
        "max" => Level::Max,
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
    let of_tensor =
        |coded: &Coded| coded.side.len() + coded.chunks.iter().map(Vec::len).sum::<usize>();
    report(coded.iter().map(of_tensor).sum(), encoding, decoding);
}
