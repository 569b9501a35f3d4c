//! What holds for every recipe: one encoding, no panic on damage, no dependence on the range.

use proptest::prelude::*;

use super::adapter::{Adapter, Form, Order};
use super::blockwise::{Blockwise, Meeting as BlockMeeting, Rule, Search, Table};
use super::gather::{Gather, Run, Runs};
use super::linear::Linear;
use super::low_rank::LowRank;
use super::quantise::{Meeting, Quantise, Rounding, Scale};
use super::*;

const fn shape(dtype: DType, rows: u64, cols: u64) -> Shape {
    Shape { dtype, rows, cols }
}

/// One recipe of every kind, for a target of 4 rows of 32 (a K-quant: 256) elements.
#[expect(clippy::too_many_lines, reason = "a list")]
fn recipes() -> Vec<Recipe> {
    let base = shape(DType::Bf16, 4, 32);
    let f32s = |rows, cols| shape(DType::F32, rows, cols);
    let new = |target, sources, view, step| Recipe::new(target, sources, view, step).unwrap();
    let int8 = |scale| {
        Step::Quantise(Quantise::Int8 {
            rounding: Rounding::HalfEven,
            meeting: Meeting::Reciprocal,
            scale,
        })
    };
    let ggml = |dtype, cols, view| {
        let source = shape(DType::Bf16, 4, cols);
        new(
            shape(dtype, 4, cols),
            vec![source],
            view,
            Step::Quantise(Quantise::Ggml),
        )
    };
    let adapter = |form| {
        Step::Adapter(Adapter {
            scale: 2.0,
            order: Order::Fused,
            change: DType::Bf16,
            form,
        })
    };
    let factors = LowRank::new(2, 0.01, vec![-7; 8], vec![9; 64]).unwrap();
    let runs = |runs: &[Run]| Runs::new(runs.iter().copied()).unwrap();
    let zeros = Run {
        source: None,
        start: 0,
        count: 1,
    };
    let listed = Gather::listed(2, runs(&[Run::of(1, 2, 1), zeros, Run::of(0, 0, 2)]));
    let columns = Gather::columns(runs(&[
        Run::of(0, 1, 30),
        Run::of(0, 0, 1),
        Run::of(0, 33, 1),
    ]));
    let mut all = vec![
        new(base, vec![base], None, Step::Same),
        new(shape(DType::F16, 4, 32), vec![base], None, Step::Cast),
        new(
            base,
            vec![base; 3],
            None,
            Step::Linear(Linear {
                coefficients: vec![0.5, -1.0, 1.5],
            }),
        ),
        new(
            base,
            vec![base, f32s(3, 32), f32s(4, 3)],
            None,
            adapter(Form::ByOutput),
        ),
        new(
            base,
            vec![base, f32s(3, 4), f32s(32, 3)],
            None,
            adapter(Form::ByInput),
        ),
        new(
            base,
            vec![base, f32s(3, 32), f32s(4, 3), f32s(1, 4)],
            None,
            adapter(Form::Decomposed),
        ),
        new(base, vec![base], None, Step::LowRank(factors)),
        new(
            shape(DType::I8, 4, 32),
            vec![base],
            None,
            int8(Scale::OfRow),
        ),
        new(
            shape(DType::I8, 4, 32),
            vec![base],
            Gather::rotary_pairs(4, 1),
            int8(Scale::OfRow),
        ),
        new(
            shape(DType::I8, 4, 32),
            vec![base],
            None,
            int8(Scale::Whole(0.01)),
        ),
        new(
            shape(DType::I8, 4, 32),
            vec![base, f32s(1, 4)],
            None,
            int8(Scale::ByRow),
        ),
        new(
            shape(DType::I8, 4, 32),
            vec![base, f32s(1, 32)],
            None,
            int8(Scale::ByColumn),
        ),
        new(base, vec![base, base], Some(listed), Step::Same),
        new(
            base,
            vec![shape(DType::Bf16, 4, 34)],
            Some(columns),
            Step::Same,
        ),
        new(
            base,
            vec![shape(DType::Bf16, 32, 4)],
            Some(Gather::transposed()),
            Step::Same,
        ),
    ];
    for dtype in [
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
    ] {
        all.push(ggml(dtype, 32, None));
    }
    let codes = Rule::Codes {
        table: Table::Fp4,
        meeting: BlockMeeting::Reciprocal,
    };
    let scales = Rule::LargestCodes {
        search: Search::Stepped,
        offset: 0.25,
    };
    for (rule, dtype, cols) in [
        (codes, DType::U8, 32),
        (Rule::Largest, DType::F32, 2),
        (scales, DType::U8, 2),
    ] {
        let step = Step::Blockwise(Blockwise::new(rule, 32).unwrap());
        all.push(new(
            shape(dtype, 4, cols),
            vec![shape(DType::Bf16, 16, 16)],
            None,
            step,
        ));
    }
    for dtype in [DType::Q2K, DType::Q3K, DType::Q4K, DType::Q5K, DType::Q6K] {
        all.push(ggml(dtype, 256, Gather::rotary_pairs(4, 2)));
    }
    all
}

/// Bytes for every source of a recipe, from a small generator.
fn sources(recipe: &Recipe, mut state: u64) -> Vec<Vec<u8>> {
    let bytes = |shape: &Shape| {
        let n = shape.dtype.bytes_of(shape.elements()).unwrap();
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    };
    recipe.sources.iter().map(bytes).collect()
}

fn predict(recipe: &Recipe, sources: &[Vec<u8>], first: u64, count: u64) -> Vec<u8> {
    let ranges = recipe.sources(first, count).unwrap();
    let parts: Vec<&[u8]> = ranges
        .iter()
        .map(|r| &sources[r.source][r.start as usize..][..r.bytes as usize])
        .collect();
    let mut out = vec![0; recipe.target.dtype.bytes_of(count).unwrap() as usize];
    recipe.predict(first, &parts, &mut out).unwrap();
    if recipe.has_patterns() {
        let mut patterns = vec![0; count as usize];
        recipe.patterns(first, &parts, &mut patterns).unwrap();
        let mut plain = vec![0; count as usize];
        assert!(float::patterns_of(recipe.target.dtype, &out, &mut plain));
        for (pattern, plain) in patterns.iter().zip(plain) {
            // Rounded, a pattern is the element, or its neighbour where it lies between two.
            let apart = (pattern & 0x7FFF_FFFF).abs_diff(plain & 0x7FFF_FFFF);
            assert!(apart <= 0x8000 || plain & 0x7F80_0000 == 0x7F80_0000);
        }
    }
    out
}

#[test]
fn every_recipe_has_one_encoding_and_is_refused_cut_short() {
    for recipe in recipes() {
        let bytes = recipe.to_bytes();
        assert_eq!(Recipe::parse(&bytes), Ok(recipe));
        for n in 0..bytes.len() {
            assert!(Recipe::parse(&bytes[..n]).is_err());
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(Recipe::parse(&longer).is_err());
    }
}

#[test]
fn a_flipped_bit_is_refused_or_means_what_it_says() {
    for recipe in recipes() {
        let bytes = recipe.to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Recipe::parse(&damaged) {
                assert_eq!(other.to_bytes(), damaged);
                let count = other.target.cols.min(256);
                if let Ok(ranges) = other.sources(0, count) {
                    assert!(
                        ranges.iter().map(|range| range.bytes).sum::<u64>() <= SOURCE_BYTES_MAX
                    );
                    if other.sources.iter().all(|shape| shape.elements() < 1 << 16) {
                        predict(&other, &sources(&other, 1), 0, count);
                    }
                }
            }
        }
    }
}

#[test]
fn parts_of_other_lengths_are_refused() {
    for recipe in recipes() {
        let sources = sources(&recipe, 5);
        let count = recipe.target.elements();
        let ranges = recipe.sources(0, count).unwrap();
        let mut parts: Vec<&[u8]> = ranges
            .iter()
            .map(|r| &sources[r.source][r.start as usize..][..r.bytes as usize])
            .collect();
        let mut out = vec![0; recipe.target.dtype.bytes_of(count).unwrap() as usize];
        let whole = parts[0];
        parts[0] = &whole[1..];
        assert!(recipe.predict(0, &parts, &mut out).is_err());
        parts[0] = whole;
        parts.push(&[]);
        assert!(recipe.predict(0, &parts, &mut out).is_err());
        parts.clear();
        assert!(recipe.predict(0, &parts, &mut out).is_err());
        assert!(recipe.sources(1, count).is_err());
        assert!(recipe.sources(u64::MAX, count).is_err());
    }
}

#[test]
fn shapes_beyond_the_limits_are_refused() {
    let huge = shape(DType::Bf16, 1 << 26, 1 << 25);
    assert!(Recipe::new(huge, vec![huge], None, Step::Same).is_err());
    let endless = shape(DType::Bf16, u64::MAX, 0);
    assert!(Recipe::new(endless, vec![endless], None, Step::Same).is_err());
    let uneven = shape(DType::Q4K, 1, 255);
    assert!(Recipe::new(uneven, vec![uneven], None, Step::Same).is_err());
    let one = shape(DType::Bf16, 1, 1);
    assert!(Recipe::new(one, vec![], None, Step::Same).is_err());
    assert!(Recipe::new(one, vec![one; 65], None, Step::Same).is_err());
    assert!(Recipe::new(one, vec![one; 2], None, Step::Same).is_err());
    let none = shape(DType::Bf16, 0, 7);
    let empty = Recipe::new(none, vec![none], None, Step::Same).unwrap();
    assert!(predict(&empty, &[vec![]], 0, 0).is_empty());
}

proptest! {
    #[test]
    fn a_range_predicts_what_the_whole_predicts(seed: u64, from in 0u64..=4, until in 0u64..=4, odd: bool) {
        for recipe in recipes() {
            let sources = sources(&recipe, seed);
            let all = recipe.target.elements();
            let whole = predict(&recipe, &sources, 0, all);
            let unit = recipe.target.dtype.block().0;
            // Whole rows, or ranges that begin and end inside of rows.
            let inside = if odd && unit == 1 { 5 } else { 0 };
            let (from, until) = (from.min(until), from.max(until));
            let first = (from * recipe.target.cols + inside).min(all);
            let end = (until * recipe.target.cols + inside).min(all);
            let (a, b) = (
                recipe.target.dtype.bytes_of(first).unwrap() as usize,
                recipe.target.dtype.bytes_of(end).unwrap() as usize,
            );
            prop_assert_eq!(&predict(&recipe, &sources, first, end - first)[..], &whole[a..b]);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_lead_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(recipe) = Recipe::parse(&bytes) {
            prop_assert_eq!(recipe.to_bytes(), bytes);
        }
    }
}
