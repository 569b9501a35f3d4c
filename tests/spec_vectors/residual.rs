//! Cases of residual coding: chunks from the middle of tensors, and their coded bytes.

use std::fmt::Write;

use sparse_store::codec::residual::{self, Model, Prediction, Statistics, TensorShape};
use store_format::dtype::DType;

use crate::{FLOATS, Random, hex, recorded};

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('-').as_bytes();
    let pairs = digits.chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16))
        .collect::<Result<_, _>>()
        .expect("hexadecimal")
}

const CODED: [DType; 12] = [
    DType::Bf16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8E4M3Fnuz,
    DType::F8E5M2Fnuz,
    DType::Bool,
    DType::I16,
    DType::U32,
    DType::I64,
];

/// The base with small steps, some signs turned, some elements anywhere.
fn moved(random: &mut Random, dtype: DType, base: &[u8]) -> Vec<u8> {
    let width = dtype.block().1 as usize;
    let mut out = Vec::new();
    for element in base.chunks_exact(width) {
        let mut eight = [0; 8];
        eight[..width].copy_from_slice(element);
        let value = u64::from_le_bytes(eight);
        let value = match random.below(50) {
            0 => random.next(),
            1 => value ^ (1 << (8 * width - 1)),
            2..12 => value,
            12..20 => value.wrapping_add(200),
            _ => value.wrapping_add(random.below(7)).wrapping_sub(3),
        };
        out.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    out
}

/// A chunk in the middle of a tensor, as a line of the file.
fn coded(
    random: &mut Random,
    dtype: DType,
    (rows, cols): (u64, u64),
    predicted: Option<bool>,
    out: &mut String,
) {
    let shape = TensorShape { dtype, rows, cols };
    let width = dtype.block().1 as usize;
    let mut base = random.elements(dtype, rows * cols);
    // Rows of their own scale, and runs of zeros.
    for (row, bytes) in base.chunks_exact_mut(cols as usize * width).enumerate() {
        if row % 7 == 6 {
            bytes.fill(0);
        }
    }
    let target = moved(random, dtype, &base);
    let fraction: Vec<u32> = (0..rows * cols)
        .map(|i| {
            let mut four = [0; 8];
            four[..width].copy_from_slice(&base[i as usize * width..][..width]);
            let raw = u64::from_le_bytes(four) as u32;
            let top = 1_u32 << (8 * width.min(4) - 1);
            let below = if width == 4 {
                raw & (top - 1)
            } else {
                (raw & (top - 1)) << 16 | random.below(1 << 16) as u32
            };
            (raw & top) << (31 - (8 * width.min(4) - 1)) | below
        })
        .collect();
    let view = |from: usize, to: usize| match predicted {
        None => Prediction::None,
        Some(false) => Prediction::Same(&base[from * width..to * width]),
        Some(true) => Prediction::Fraction(&fraction[from..to]),
    };
    let count = (rows * cols) as usize;
    let mut statistics =
        Statistics::new(shape, residual::Level::Max, predicted.is_some()).expect("a model");
    statistics.add(0, &target, view(0, count));
    let model = statistics.finish();
    let models = [
        Some(model),
        predicted.and_then(|_| Model::builtin(dtype, true)),
    ];
    for model in models.into_iter().flatten() {
        let first = random.below(rows * cols / 2) as usize;
        let last = first + 1 + random.below((count - first) as u64) as usize;
        let mut bytes = Vec::new();
        let plain = &target[first * width..last * width];
        residual::encode(&model, first as u64, plain, view(first, last), &mut bytes);
        let mut again = vec![0; plain.len()];
        residual::decode(&model, first as u64, &bytes, view(first, last), &mut again)
            .expect("its own bytes");
        assert!(again == plain);
        let prediction = match view(first, last) {
            Prediction::None => ("none", Vec::new()),
            Prediction::Same(base) => ("same", base.to_vec()),
            Prediction::Fraction(patterns) => (
                "patterns",
                patterns.iter().flat_map(|p| p.to_le_bytes()).collect(),
            ),
        };
        let (rows, cols) = if model.is_builtin() {
            (0, 0)
        } else {
            (rows, cols)
        };
        let fields = [&model.to_bytes(), &bytes, plain, &prediction.1].map(hex);
        writeln!(
            out,
            "{} {first} {rows} {cols} {} {}",
            dtype.number(),
            prediction.0,
            fields.join(" ")
        )
        .expect("a text takes all");
    }
}

#[test]
fn residuals_of_any_encoder_decode_to_the_same_bytes_as_ever() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut out = String::new();
    for dtype in CODED {
        for predicted in [None, Some(false), Some(true)] {
            let small = dtype.block().1 <= 4
                && residual::is_supported(dtype, true)
                && FLOATS.contains(&dtype);
            if predicted == Some(true) && !small {
                continue;
            }
            for sides in [(8, 20), (3, 5), (60, 2)] {
                coded(&mut random, dtype, sides, predicted, &mut out);
            }
        }
    }
    // An encoder may find shorter forms; what was once written must stay readable.
    let cases = recorded("residual.txt", &out);
    assert!(cases.lines().count() > 40, "the cases are there");
    for (number, line) in cases.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [
            dtype,
            first,
            rows,
            cols,
            kind,
            side,
            coded,
            plain,
            predicted,
        ] = words[..]
        else {
            panic!("line {number} is whole");
        };
        let count = |text: &str| text.parse::<u64>().expect("a number");
        let dtype = DType::from_number(dtype.parse().expect("a number")).expect("a type");
        let (rows, cols) = (count(rows), count(cols));
        let model = if rows == 0 {
            Model::builtin(dtype, true).expect("a model")
        } else {
            Model::parse(TensorShape { dtype, rows, cols }, &unhex(side)).expect("a model")
        };
        let predicted = unhex(predicted);
        let fours = predicted.as_chunks::<4>().0.iter();
        let patterns: Vec<u32> = fours.map(|four| u32::from_le_bytes(*four)).collect();
        let prediction = match kind {
            "none" => Prediction::None,
            "same" => Prediction::Same(&predicted),
            _ => Prediction::Fraction(&patterns),
        };
        let plain = unhex(plain);
        let mut found = vec![0; plain.len()];
        residual::decode(&model, count(first), &unhex(coded), prediction, &mut found)
            .expect("a recorded case");
        assert!(found == plain, "line {number} decodes to something else");
    }
}
