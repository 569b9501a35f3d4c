//! The rules of blocks against what the tool makes, at their borders and for odd numbers.

use super::super::{Recipe, Step};
use super::*;

const fn shape(dtype: DType, elements: u64) -> Shape {
    Shape {
        dtype,
        rows: elements,
        cols: 1,
    }
}

fn recipe(rule: Rule, block: u64, elements: u64) -> Recipe {
    let blockwise = Blockwise::new(rule, block).unwrap();
    let target = match rule {
        Rule::Codes { .. } => shape(DType::U8, elements.div_ceil(2)),
        Rule::Largest => shape(DType::F32, elements.div_ceil(block)),
        Rule::LargestCodes { .. } => shape(DType::U8, elements.div_ceil(block)),
    };
    let step = Step::Blockwise(blockwise);
    Recipe::new(target, vec![shape(DType::F32, elements)], None, step).unwrap()
}

const fn codes(table: Table, meeting: Meeting) -> Rule {
    Rule::Codes { table, meeting }
}

fn predict(recipe: &Recipe, base: &[f32], first: u64, count: u64) -> Vec<u8> {
    let bytes: Vec<u8> = base.iter().flat_map(|x| x.to_le_bytes()).collect();
    let ranges = recipe.sources(first, count).unwrap();
    let part = &bytes[ranges[0].start as usize..][..ranges[0].bytes as usize];
    let width = recipe.target.dtype.block().1 as usize;
    let mut out = vec![0xA5; count as usize * width];
    recipe.predict(first, &[part], &mut out).unwrap();
    out
}

fn whole(rule: Rule, block: u64, base: &[f32]) -> Vec<u8> {
    let recipe = recipe(rule, block, base.len() as u64);
    predict(&recipe, base, 0, recipe.target.elements())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `frac(i * 2654435761 / 2^32) - 0.5`, cut to 24 bits.
fn values(count: u32) -> Vec<f32> {
    let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5;
    (0..count).map(value).collect()
}

#[test]
fn codes_and_scales_are_those_of_bitsandbytes() {
    let mut base = values(150);
    base[40] = 0.0;
    let made = |table| hex(&whole(codes(table, Meeting::BoundedReciprocal), 64, &base));
    assert_eq!(
        made(Table::Nf4Means),
        "0a2e61c3f91d50b3e71c4f92e60b3e81d50a2e7174f91d50b3e71d4fa2e61c3f81d50a2e71c4f92e60b3e81d\
         50a2e61c3f91d50b3e71c4fa2e60b3f81d50a2e71c4f92d60b3e81d4fa2e61"
    );
    assert_eq!(
        made(Table::Fp4Means),
        "b7d29a4c36a2eb4d21a5f36d2eb4c31a5fb7d29a0c36a2eb4d21a5f37d29b4c36a2eb7d29a5c36a2eb4c31a5\
         fb7d29a5c36a2eb4d21a5f36d2eb4c36a5eb7d29a5c36a2eb4d21a5f37d29a"
    );
    let scales = whole(Rule::Largest, 64, &base);
    assert_eq!(hex(&scales), "0000003f646dfd3ee668fe3e");
    // An odd element more than a block, and the nothing beside it.
    assert_eq!(
        hex(&whole(
            codes(Table::Nf4Means, Meeting::BoundedReciprocal),
            32,
            &values(33)
        )),
        "0a2e61c3f91d50b3e71c4f92e60b3e81f7"
    );
}

#[test]
fn codes_of_scales_are_those_of_bitsandbytes() {
    let mut base = values(264 * 32);
    for (at, value) in base.iter_mut().enumerate() {
        *value *= (1 + at / 32 * 5 % 13) as f32;
    }
    let made = |search| {
        let offset = 3.25;
        hex(&whole(Rule::LargestCodes { search, offset }, 32, &base))
    };
    assert_eq!(
        made(Search::Nearest),
        "0a42e71fc7fc35dd15b2f22bd00a45e520c6fb36dc15aaf32ad10a3fe720c8fb35dd15b4f12ad20a43e5\
         20c6fc36da15b0f42ad10a3fe820c6fe36dc15b6f02ad20a45e620c4fd36da15aef12bd20a42e91fc6fd\
         34dd15a5f32bd10a47e620c7fa36dc15acf22bd00a41e620c7fc35de15b0f22ad20a47e520c7fa36db15\
         b4f22bd00a40e720c5fe35dd14b2f22ad30a42e820c3fc36db15b2f02bd10a46e720c5ff35dc15a9f32a\
         d20a43e71fc8fb35dd15b0f02bd00a44e520c6fe34dc15acf32ad10a45e61fc8fb35dc15b5f12bd00a42\
         e520c6fc36dd15aef32ad20a3fe820c7fa36dc15b6f02bd20a3ee620c5fd35db15b0ed2bd20a40e81fc7\
         fd34dd15b8f926d60043ee19"
    );
    assert_eq!(
        made(Search::Stepped),
        "0a42e71fc7fc35dd15b2f22bd00a45e520c6fb36dc15aaf32ad10a3fe720c8fb35dd15b4f12ad20a43e5\
         20c6fc36da15b0f42ad10a3fe820c6fe36dc15b6f02ad20a45e620c4fd36da15aef12bd20a42e91fc6fd\
         34dd15a5f32bd10a47e620c7fa36dc15acf22bd00a41e620c7fc35de15b0f22ad20a47e520c7fa36db15\
         b4f22ad00a40e720c5fe35dd14b2f22ad30a42e820c3fc36db15b2f02bd10a46e720c5ff35dc15a9f32a\
         d20a43e71fc8fb35dd15b0f02bd00a44e520c6fe34dc15acf32ad10a45e61fc8fb35dc15b5f12bd00a42\
         e520c6fc36dd15aef32ad20a3fe820c7fa36dc15b6f02bd20a3ee620c5fd35db15b0ed2bd20a40e81fc7\
         fd34dd15b8f926d60043ee19"
    );
}

/// What the comparisons give, with the constants of the CUDA kernels as they stand there and the
/// means as the torch code computes them.
#[expect(
    clippy::excessive_precision,
    clippy::unreadable_literal,
    reason = "as they stand there"
)]
fn by_comparisons(table: Table, x: f32) -> u8 {
    let numbers: [f32; 16] = [
        -1.0,
        -0.6961928009986877,
        -0.5250730514526367,
        -0.39491748809814453,
        -0.28444138169288635,
        -0.18477343022823334,
        -0.09105003625154495,
        0.0,
        0.07958029955625534,
        0.16093020141124725,
        0.24611230194568634,
        0.33791524171829224,
        0.44070982933044434,
        0.5626170039176941,
        0.7229568362236023,
        1.0,
    ];
    let nf4: [f32; 15] = [
        -0.8480964004993439,
        -0.6106329262256622,
        -0.4599952697753906,
        -0.33967943489551544,
        -0.23460740596055984,
        -0.13791173323988914,
        -0.045525018125772476,
        0.03979014977812767,
        0.1202552504837513,
        0.2035212516784668,
        0.2920137718319893,
        0.3893125355243683,
        0.5016634166240692,
        0.6427869200706482,
        0.8614784181118011,
    ];
    let fp4: [f32; 7] = [
        0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333,
    ];
    let means = |numbers: &[f32]| -> Vec<f32> {
        let pairs = numbers.windows(2);
        pairs.map(|pair| (pair[0] + pair[1]) / 2.0).collect()
    };
    let above = |borders: &[f32], x: f32| borders.iter().filter(|border| x > **border).count();
    match table {
        Table::Nf4 => above(&nf4, x) as u8,
        Table::Fp4 => {
            let sign = if x < 0.0 { 8 } else { 0 };
            [0, 1, 6, 7, 4, 5, 2, 3][above(&fp4, x.abs())] + sign
        }
        Table::Nf4Means => above(&means(&numbers), x) as u8,
        Table::Fp4Means => {
            let twelfths = [0.0, 0.0625, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0].map(|n: f32| n / 12.0);
            let mut numbers: Vec<f32> = twelfths.iter().rev().map(|n| -n).collect();
            numbers.extend(twelfths);
            let order = [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3];
            order[above(&means(&numbers), x)]
        }
    }
}

#[test]
fn borders_are_those_of_the_tool_to_the_last_bit() {
    for table in [Table::Nf4, Table::Fp4, Table::Nf4Means, Table::Fp4Means] {
        let mut numbers = vec![0.0, -0.0, f32::NAN, -f32::NAN, 1.0, -1.0, f32::INFINITY];
        for border in [NF4, FP4, NF4_MEANS, FP4_MEANS]
            .map(|table| table.borders)
            .concat()
        {
            for border in [border, border ^ 1 << 31] {
                let near = border.saturating_sub(3)..border.saturating_add(3);
                numbers.extend(near.map(f32::from_bits));
            }
        }
        numbers.extend(values(4096).into_iter().map(|x| 2.0 * x));
        for number in numbers {
            let mut out = [0; TILE];
            table.codes().code(&[number; TILE], &mut out);
            let want = if number.is_nan() {
                0
            } else {
                by_comparisons(table, number)
            };
            assert_eq!(out, [want; TILE], "{table:?} {number:e}");
        }
    }
}

#[test]
fn blocks_of_zeros_and_of_no_numbers_are_defined() {
    let block = |value: f32, meeting| {
        let mut base = vec![0.5; 96];
        base[32..64].fill(value);
        let coded = whole(codes(Table::Nf4, meeting), 32, &base);
        assert_eq!(coded[..16], [0xFF; 16]);
        assert_eq!(coded[32..], [0xFF; 16]);
        let largest = whole(Rule::Largest, 32, &base);
        let largest = f32::from_le_bytes(largest[4..8].try_into().unwrap());
        assert!(coded[16..32].iter().all(|byte| *byte == coded[16]));
        (coded[16], largest)
    };
    for zero in [0.0, -0.0] {
        assert_eq!(block(zero, Meeting::Reciprocal), (0x00, 0.0));
        assert_eq!(block(zero, Meeting::Divide), (0x00, 0.0));
        assert_eq!(block(zero, Meeting::BoundedReciprocal), (0x77, 0.0));
    }
    for meeting in [
        Meeting::Divide,
        Meeting::Reciprocal,
        Meeting::BoundedReciprocal,
    ] {
        let (_, largest) = block(f32::NAN, meeting);
        assert_eq!(largest, 0.0);
        assert_eq!(block(f32::INFINITY, meeting), (0x00, f32::INFINITY));
    }
    // What is no number is passed over.
    let mut base = vec![f32::NAN; 32];
    base[7] = -2.0;
    base[8] = 1.0;
    let coded = whole(codes(Table::Nf4, Meeting::Reciprocal), 32, &base);
    assert_eq!(coded[3..5], [0x00, 0xC0]);
    assert_eq!(whole(Rule::Largest, 32, &base), 2.0f32.to_le_bytes());
}

#[test]
fn a_range_needs_its_blocks_and_predicts_what_the_whole_predicts() {
    let base = values(32 * 5 + 7);
    let scales = Rule::LargestCodes {
        search: Search::Nearest,
        offset: 0.4,
    };
    for rule in [
        codes(Table::Fp4, Meeting::Reciprocal),
        Rule::Largest,
        scales,
    ] {
        let recipe = recipe(rule, 32, base.len() as u64);
        let width = recipe.target.dtype.block().1;
        let all = recipe.target.elements();
        let made = predict(&recipe, &base, 0, all);
        for first in 0..all {
            for count in 0..=all - first {
                let span = (first * width) as usize..((first + count) * width) as usize;
                assert_eq!(predict(&recipe, &base, first, count), made[span]);
            }
        }
        assert!(recipe.sources(all, 1).is_err());
    }
    let recipe = recipe(
        codes(Table::Nf4, Meeting::Reciprocal),
        32,
        base.len() as u64,
    );
    let ranges = recipe.sources(17, 1).unwrap();
    assert_eq!((ranges[0].start, ranges[0].bytes), (32 * 4, 32 * 4));
    let ranges = recipe.sources(83, 1).unwrap();
    assert_eq!((ranges[0].start, ranges[0].bytes), (160 * 4, 7 * 4));
}

#[test]
fn what_does_not_fit_is_refused() {
    for block in [0, 1, 16, 33, 96, 8192, u64::MAX] {
        assert_eq!(Blockwise::new(Rule::Largest, block), None, "{block}");
    }
    let rule = codes(Table::Nf4, Meeting::Divide);
    let new = |rule, target: Shape, sources: &[Shape]| {
        let step = Step::Blockwise(Blockwise::new(rule, 64).unwrap());
        Recipe::new(target, sources.to_vec(), None, step)
    };
    let base = shape(DType::Bf16, 129);
    assert!(new(rule, shape(DType::U8, 65), &[base]).is_ok());
    assert!(new(rule, shape(DType::U8, 64), &[base]).is_err());
    assert!(new(rule, shape(DType::I8, 65), &[base]).is_err());
    assert!(new(rule, shape(DType::U8, 65), &[base, base]).is_err());
    assert!(new(rule, shape(DType::U8, 65), &[shape(DType::I32, 129)]).is_err());
    assert!(new(Rule::Largest, shape(DType::F32, 3), &[base]).is_ok());
    assert!(new(Rule::Largest, shape(DType::F32, 2), &[base]).is_err());
    assert!(new(Rule::Largest, shape(DType::Bf16, 3), &[base]).is_err());
    // A range of the largest tensor there may be asks for no more than it may.
    let (huge, blocks) = (shape(DType::Bf16, 1 << 50), shape(DType::F32, 1 << 44));
    let recipe = new(Rule::Largest, blocks, &[huge]).unwrap();
    assert!(recipe.sources((1 << 44) - (1 << 20), 1 << 20).is_ok());
    let refused = recipe.sources(0, (1 << 20) + 1);
    assert!(matches!(refused, Err(FormatError::TooLarge { .. })));
}

#[test]
fn the_length_of_a_block_follows_from_their_number() {
    let of = |elements, blocks| {
        Blockwise::of_blocks(Rule::Largest, elements, blocks).map(|found| found.block())
    };
    assert_eq!(of(4096, 64), Some(64));
    assert_eq!(of(4097, 65), Some(64));
    assert_eq!(of(4096, 1), Some(4096));
    assert_eq!(of(4096, 63), None);
    assert_eq!(of(4096, 4096), None);
}
