//! Laws of the whole coder: identity and size.

mod damage;

use proptest::prelude::*;

use super::*;

/// Pseudo-random numbers, the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 33) % bound.max(1)
    }
}

const TYPES: [DType; 18] = [
    DType::Bf16,
    DType::F16,
    DType::F32,
    DType::F64,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8E4M3Fnuz,
    DType::F8E5M2Fnuz,
    DType::F8E8M0,
    DType::Bool,
    DType::U8,
    DType::I8,
    DType::U16,
    DType::I16,
    DType::U32,
    DType::I32,
    DType::U64,
    DType::I64,
];

/// Bytes like those of weights: sums of small numbers, with some zeros and odd patterns.
fn weights(random: &mut Random, dtype: DType, len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(number) = Number::of(dtype) else {
        let width = dtype.block().1 as usize;
        for _ in 0..len {
            let value = random.below(200).wrapping_sub(100);
            out.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        return out;
    };
    let width = 8 * number.bytes as u32;
    for _ in 0..len {
        let spread = (1u64 << (number.mantissa + 2)) + random.below(1 << number.mantissa);
        let typical = (number.bias as u64) << number.mantissa;
        let magnitude = typical - spread / 2 + random.below(spread);
        let value = match random.below(64) {
            0 => random.next(),
            1 => 0,
            2 => random.below(3) + (1 << (width - 1)),
            _ => magnitude | random.below(2) << (width - 1),
        };
        out.extend_from_slice(&value.to_le_bytes()[..number.bytes]);
    }
    out
}

/// A target near a base: most elements move by a little, some not, some anywhere.
fn moved(random: &mut Random, dtype: DType, base: &[u8]) -> Vec<u8> {
    let width = dtype.block().1 as usize;
    let mut out = base.to_vec();
    for element in out.chunks_exact_mut(width) {
        let mut eight = [0u8; 8];
        eight[..width].copy_from_slice(element);
        let value = u64::from_le_bytes(eight);
        let by = match random.below(40) {
            0 => random.next(),
            1..10 => 0,
            10..12 => random.below(1000),
            _ => random.below(9),
        };
        let value = if random.below(2) == 0 {
            value.wrapping_add(by)
        } else {
            value.wrapping_sub(by)
        };
        element.copy_from_slice(&value.to_le_bytes()[..width]);
    }
    out
}

fn shape(dtype: DType, rows: u64, cols: u64) -> TensorShape {
    TensorShape { dtype, rows, cols }
}

/// Makes a model and one chunk, reads both back, and gives their bytes.
fn round_trip(
    shape: TensorShape,
    level: Level,
    target: &[u8],
    prediction: Prediction,
) -> (Vec<u8>, Vec<u8>) {
    let with_prediction = !matches!(prediction, Prediction::None);
    let mut statistics = Statistics::new(shape, level, with_prediction).expect("a model");
    statistics.add(0, target, prediction);
    let model = statistics.finish();
    let side = model.to_bytes();
    let mut coded = Vec::new();
    encode(&model, 0, target, prediction, &mut coded);
    assert!(coded.len() <= coded_bytes_max(shape.dtype, target.len()));
    let read = if model.is_builtin() {
        Model::builtin(shape.dtype, true).expect("a built-in model")
    } else {
        Model::parse(shape, &side).expect("a model parses")
    };
    assert_eq!(read.to_bytes(), side);
    let mut out = vec![0xAA; target.len()];
    decode(&read, 0, &coded, prediction, &mut out).expect("a chunk decodes");
    assert!(out == target, "decoded bytes differ for {shape:?}");
    (side, coded)
}

#[test]
fn every_type_and_awkward_shape_comes_back() {
    let mut random = Random(1);
    for dtype in TYPES {
        for (rows, cols) in [
            (0, 7),
            (1, 1),
            (1, 31),
            (32, 1),
            (3, 11),
            (64, 65),
            (1, 4096),
            (13, 400),
        ] {
            let base = weights(&mut random, dtype, (rows * cols) as usize);
            let target = moved(&mut random, dtype, &base);
            let shape = shape(dtype, rows, cols);
            for level in [Level::Fast, Level::Default, Level::Max] {
                round_trip(shape, level, &target, Prediction::None);
                round_trip(shape, level, &target, Prediction::Same(&base));
                round_trip(shape, level, &base, Prediction::Same(&base));
            }
        }
    }
}

#[test]
fn chunks_of_one_two_and_more_blocks_come_back() {
    let mut random = Random(2);
    let borders = [1 << 17, 1 << 20].map(|border| [border - 1, border, border + 1]);
    for len in borders.into_iter().flatten() {
        let base = weights(&mut random, DType::Bf16, len);
        let target = moved(&mut random, DType::Bf16, &base);
        let shape = shape(DType::Bf16, 1, len as u64);
        round_trip(shape, Level::Default, &target, Prediction::Same(&base));
        round_trip(shape, Level::Default, &target, Prediction::None);
    }
}

#[test]
fn a_model_serves_only_chunks_with_a_prediction_or_only_those_without() {
    // More elements than those of tensors that share the built-in tables.
    let shape = shape(DType::Bf16, 256, 256);
    let bytes = vec![0x3f; 2 << 16];
    for (made, used) in [
        (Prediction::None, Prediction::Same(&bytes)),
        (Prediction::Same(&bytes), Prediction::None),
    ] {
        let (side, coded) = round_trip(shape, Level::Default, &bytes, made);
        let model = Model::parse(shape, &side).unwrap();
        let mut out = vec![0; bytes.len()];
        assert!(decode(&model, 0, &coded, used, &mut out).is_err());
    }
}

#[test]
fn noise_is_never_larger_than_plain_and_a_little() {
    let mut random = Random(3);
    for dtype in TYPES {
        let width = dtype.block().1 as usize;
        let mut noise = || -> Vec<u8> {
            (0..40_000 * width)
                .map(|_| (random.next() >> 40) as u8)
                .collect()
        };
        let (base, target) = (noise(), noise());
        let shape = shape(dtype, 100, 400);
        round_trip(shape, Level::Default, &target, Prediction::None);
        round_trip(shape, Level::Default, &target, Prediction::Same(&base));
    }
}

#[test]
fn chunks_decode_alone_and_in_any_order() {
    let mut random = Random(4);
    let (rows, cols) = (1000, 300);
    let base = weights(&mut random, DType::Bf16, rows * cols);
    let target = moved(&mut random, DType::Bf16, &base);
    let shape = shape(DType::Bf16, rows as u64, cols as u64);
    let mut halves = [(); 2].map(|()| Statistics::new(shape, Level::Default, true).expect("model"));
    let cut = 400 * cols;
    halves[0].add(0, &target[..2 * cut], Prediction::Same(&base[..2 * cut]));
    halves[1].add(
        cut as u64,
        &target[2 * cut..],
        Prediction::Same(&base[2 * cut..]),
    );
    let [mut first, second] = halves;
    first.merge(&second);
    let model = first.finish();
    for (from, to) in [(cut, rows * cols), (0, cut), (7, 8)] {
        let part = 2 * from..2 * to;
        let prediction = Prediction::Same(&base[part.clone()]);
        let mut coded = Vec::new();
        encode(
            &model,
            from as u64,
            &target[part.clone()],
            prediction,
            &mut coded,
        );
        let mut out = vec![0; part.len()];
        decode(&model, from as u64, &coded, prediction, &mut out).expect("decodes");
        assert!(out == target[part]);
    }
}

proptest! {
    #[test]
    fn any_bytes_come_back(pick in 0..TYPES.len(), seed in 1u64.., len in 0usize..300,
                           cols in 1usize..40, fraction in any::<bool>(), noise in any::<bool>()) {
        let dtype = TYPES[pick];
        let mut random = Random(seed);
        let (rows, cols) = (len / cols, cols);
        let width = dtype.block().1 as usize;
        let base = weights(&mut random, dtype, rows * cols);
        let target = if noise {
            (0..base.len()).map(|_| (random.next() >> 40) as u8).collect()
        } else {
            moved(&mut random, dtype, &base)
        };
        let shape = shape(dtype, rows as u64, cols as u64);
        round_trip(shape, Level::Default, &target, Prediction::None);
        round_trip(shape, Level::Default, &target, Prediction::Same(&base));
        if fraction && Number::of(dtype).is_some_and(|n| n.bytes <= 4) {
            let patterns: Vec<u32> = (0..rows * cols).map(|i| {
                let element = number::load(&base, width, i) as u32;
                let top = element >> (8 * width - 1) << 31;
                let magnitude = element & ((1u32 << (8 * width - 1)) - 1);
                if width == 4 { element } else {
                    (top | magnitude << 16) ^ (random.next() >> 40) as u32 & 0xFFFF
                }
            }).collect();
            round_trip(shape, Level::Default, &target, Prediction::Fraction(&patterns));
        }
    }
}

/// Runs `work` with vectors of at most `widest` bits; with none where that is 0.
pub(super) fn in_vectors<T>(widest: u32, work: impl FnOnce() -> T) -> T {
    kernel::WIDEST.set(widest);
    let result = work();
    kernel::WIDEST.set(512);
    result
}

/// What comes of `work` without vectors, and must come of it with all that the processor has.
pub(super) fn at_every_width<T: PartialEq>(work: impl Fn() -> T) -> T {
    let plain = in_vectors(0, &work);
    for widest in [256, 512] {
        assert!(in_vectors(widest, &work) == plain, "{widest}");
    }
    plain
}

#[test]
fn unchanged_and_constant_tensors_cost_next_to_nothing() {
    let mut random = Random(13);
    for dtype in TYPES {
        let base = weights(&mut random, dtype, 300_000);
        let shape = shape(dtype, 300, 1000);
        let (side, coded) = round_trip(shape, Level::Default, &base, Prediction::Same(&base));
        assert!(
            side.len() + coded.len() < 400,
            "{dtype:?} {} {}",
            side.len(),
            coded.len()
        );
        let width = dtype.block().1 as usize;
        let constant = base[..width].repeat(300_000);
        let (side, coded) = round_trip(shape, Level::Default, &constant, Prediction::None);
        assert!(
            side.len() + coded.len() < 400,
            "{dtype:?} {} {}",
            side.len(),
            coded.len()
        );
        // One row of a hundred holds something.
        let mut zeros = vec![0; base.len()];
        zeros[..3000 * width].copy_from_slice(&base[..3000 * width]);
        let (side, coded) = round_trip(shape, Level::Default, &zeros, Prediction::None);
        let total = side.len() + coded.len();
        assert!(
            total < (3000 + 300_000 / 64) * width + 2000,
            "{dtype:?} {total}"
        );
    }
}

#[test]
fn rows_that_came_from_a_narrower_type_cost_what_they_hold() {
    let mut random = Random(15);
    let mut target = weights(&mut random, DType::F32, 300_000);
    let shape = shape(DType::F32, 1000, 300);
    let (_, wide) = round_trip(shape, Level::Default, &target, Prediction::None);
    // Every tenth run of fifty rows has the 10 bits of mantissa that binary16 has.
    for rows in target.chunks_mut(4 * 300 * 50).step_by(10) {
        for element in rows.chunks_exact_mut(4) {
            element[0] = 0;
            element[1] &= 0xE0;
        }
    }
    let (side, mixed) = round_trip(shape, Level::Default, &target, Prediction::None);
    let saved = wide.len() - mixed.len() - side.len();
    let held = 30_000 * 13 / 8;
    assert!(saved > held * 9 / 10, "{saved} of {held}");
}

/// Both zeros, the smallest and largest of each kind, infinities, and NaN with payloads.
fn special(number: Number) -> Vec<u64> {
    let top = 1u64 << (8 * number.bytes - 1);
    let one = 1u64 << number.mantissa;
    let magnitudes = [
        0,
        1,
        one - 1,
        one,
        one + 1,
        (number.bias as u64) << number.mantissa,
        top - one - 1,
        top - one,
        top - one + 1,
        top - 1,
    ];
    magnitudes.iter().flat_map(|&m| [m, m | top]).collect()
}

#[test]
fn special_values_come_back_beside_any_other() {
    for dtype in TYPES {
        let Some(number) = Number::of(dtype) else {
            continue;
        };
        let values = special(number);
        let bytes = |value: u64| value.to_le_bytes()[..number.bytes].to_vec();
        for len in [1, 31, 32, 33, values.len() * values.len(), 20_000] {
            let pairs = (0..len).map(|i| {
                let pair = i % (values.len() * values.len());
                (values[pair % values.len()], values[pair / values.len()])
            });
            let (target, base): (Vec<u64>, Vec<u64>) = pairs.unzip();
            let target: Vec<u8> = target.into_iter().flat_map(bytes).collect();
            let base: Vec<u8> = base.into_iter().flat_map(bytes).collect();
            let shape = shape(dtype, 1, len as u64);
            for level in [Level::Fast, Level::Default, Level::Max] {
                round_trip(shape, level, &target, Prediction::Same(&base));
                round_trip(shape, level, &target, Prediction::None);
            }
        }
    }
}

#[test]
fn what_a_sample_did_not_show_comes_back() {
    let mut random = Random(11);
    for dtype in [DType::Bf16, DType::F16, DType::F32] {
        let width = dtype.block().1 as usize;
        let number = Number::of(dtype).expect("a float");
        let len = 400_000;
        let base = weights(&mut random, dtype, len);
        // Nearly nothing moves, so that tables know few symbols; what moves, moves anywhere.
        let mut target = base.clone();
        for (place, value) in special(number).into_iter().cycle().take(200).enumerate() {
            let at = (place * 1999 + random.below(1000) as usize) * width;
            target[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        // Enough changes elsewhere that blocks are coded and not lists.
        for at in (0..len).step_by(9) {
            target[at * width] ^= 1;
        }
        for level in [Level::Fast, Level::Default] {
            round_trip(
                shape(dtype, 100, 4000),
                level,
                &target,
                Prediction::Same(&base),
            );
            round_trip(shape(dtype, 100, 4000), level, &target, Prediction::None);
        }
    }
}

#[test]
fn the_first_pass_sees_the_same_with_and_without_vectors() {
    let mut random = Random(12);
    for dtype in [DType::Bf16, DType::F16, DType::F32] {
        for (rows, cols) in [(3, 100), (300, 33), (40, 272), (9, 4800)] {
            let base = weights(&mut random, dtype, (rows * cols) as usize);
            let target = moved(&mut random, dtype, &base);
            for with_base in [true, false] {
                let model = || {
                    let prediction = if with_base {
                        Prediction::Same(&base)
                    } else {
                        Prediction::None
                    };
                    let shape = shape(dtype, rows, cols);
                    let mut statistics =
                        Statistics::new(shape, Level::Default, with_base).expect("a model");
                    statistics.add(0, &target, prediction);
                    statistics.finish().to_bytes()
                };
                at_every_width(model);
            }
        }
    }
}
