//! Scales of blocks in codes of 8 bits, with a scale for 256 of them.
//!
//! May use: nothing outside `blockwise`. Must never look further than 256 scales.

use super::largest;

/// Scales that share a scale.
pub(super) const GROUP: usize = 256;

/// How a scale finds its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The nearest number, as the CUDA kernels and the torch code have it.
    Nearest,
    /// The number nearest to one of 65,536 steps, as the CPU kernel has it.
    Stepped,
}

/// The last step.
const STEPS: f32 = 65_535.0;

/// The positive numbers that codes stand for (`create_dynamic_map`); below 0 all but the last.
const POSITIVE: [u32; 128] = [
    0x3513_A3B7,
    0x365A_1A94,
    0x3702_05FF,
    0x37B2_4206,
    0x3837_8034,
    0x388A_EFB3,
    0x38BA_1F4B,
    0x3923_D70B,
    0x398C_E705,
    0x39C7_E283,
    0x3A01_6F01,
    0x3A1E_ECC1,
    0x3A3C_6A80,
    0x3A59_E83E,
    0x3A77_65FF,
    0x3AA7_EF9D,
    0x3AF1_A9FC,
    0x3B1D_B22D,
    0x3B42_8F5C,
    0x3B67_6C8A,
    0x3B86_24DD,
    0x3B98_9374,
    0x3BAB_020D,
    0x3BBD_70A4,
    0x3BCF_DF3B,
    0x3BE2_4DD3,
    0x3BF4_BC6A,
    0x3C03_9581,
    0x3C0C_CCCD,
    0x3C16_0418,
    0x3C1F_3B64,
    0x3C3A_E148,
    0x3C68_F5C3,
    0x3C8B_851F,
    0x3CA2_8F5D,
    0x3CB9_999A,
    0x3CD0_A3D7,
    0x3CE7_AE15,
    0x3CFE_B852,
    0x3D0A_E148,
    0x3D16_6667,
    0x3D21_EB85,
    0x3D2D_70A3,
    0x3D38_F5C3,
    0x3D44_7AE1,
    0x3D50_0000,
    0x3D5B_851F,
    0x3D67_0A3D,
    0x3D72_8F5D,
    0x3D7E_147B,
    0x3D84_CCCD,
    0x3D8A_8F5D,
    0x3D90_51EB,
    0x3D96_147B,
    0x3D9B_D70A,
    0x3DA1_999A,
    0x3DA7_5C2A,
    0x3DAD_1EB8,
    0x3DB2_E148,
    0x3DB8_A3D7,
    0x3DBE_6667,
    0x3DC4_28F7,
    0x3DC9_EB85,
    0x3DDB_3334,
    0x3DF8_0000,
    0x3E0A_6666,
    0x3E18_CCCD,
    0x3E27_3333,
    0x3E35_999A,
    0x3E44_0000,
    0x3E52_6666,
    0x3E60_CCCD,
    0x3E6F_3333,
    0x3E7D_9999,
    0x3E86_0000,
    0x3E8D_3334,
    0x3E94_6666,
    0x3E9B_999A,
    0x3EA2_CCCC,
    0x3EAA_0000,
    0x3EB1_3333,
    0x3EB8_6666,
    0x3EBF_999A,
    0x3EC6_CCCC,
    0x3ECE_0000,
    0x3ED5_3333,
    0x3EDC_6666,
    0x3EE3_999A,
    0x3EEA_CCCC,
    0x3EF2_0000,
    0x3EF9_3332,
    0x3F00_3333,
    0x3F03_CCCC,
    0x3F07_6666,
    0x3F0B_0000,
    0x3F0E_999A,
    0x3F12_3334,
    0x3F15_CCCD,
    0x3F19_6666,
    0x3F1D_0000,
    0x3F20_999A,
    0x3F24_3334,
    0x3F27_CCCD,
    0x3F2B_6666,
    0x3F2F_0000,
    0x3F32_999A,
    0x3F36_3334,
    0x3F39_CCCD,
    0x3F3D_6666,
    0x3F41_0000,
    0x3F44_999A,
    0x3F48_3333,
    0x3F4B_CCCD,
    0x3F4F_6666,
    0x3F53_0000,
    0x3F56_999A,
    0x3F5A_3333,
    0x3F5D_CCCD,
    0x3F61_6666,
    0x3F65_0000,
    0x3F68_999A,
    0x3F6C_3333,
    0x3F6F_CCCD,
    0x3F73_6666,
    0x3F77_0000,
    0x3F7A_999A,
    0x3F7E_3333,
    0x3F80_0000,
];

/// What lies half way between two numbers.
const BORDERS: [f32; 255] = borders();

/// What a code stands for.
const fn number(code: usize) -> f32 {
    match code {
        0..127 => -f32::from_bits(POSITIVE[126 - code]),
        127 => 0.0,
        _ => f32::from_bits(POSITIVE[code - 128]),
    }
}

const fn borders() -> [f32; 255] {
    let mut borders = [0.0; 255];
    let mut code = 0;
    while code < 255 {
        borders[code] = (number(code) + number(code + 1)) * 0.5;
        code += 1;
    }
    borders
}

/// The codes of at most [`GROUP`] scales; `out` is as long as `scales`.
pub(super) fn code(search: Search, offset: f32, scales: &mut [f32], out: &mut [u8]) {
    for scale in &mut *scales {
        *scale -= offset;
    }
    let factor = 1.0 / largest(scales);
    for (out, scale) in out.iter_mut().zip(scales) {
        let number = match search {
            Search::Nearest => *scale * factor,
            Search::Stepped => stepped(*scale * factor),
        };
        // At most 255: there are no more borders. NaN lies above none.
        *out = BORDERS.partition_point(|border| number > *border) as u8;
    }
}

fn stepped(number: f32) -> f32 {
    let number = number.clamp(-1.0, 1.0);
    let step = ((number + 1.0) * 0.5 * STEPS + 0.5).trunc();
    -1.0 + 2.0 * step / STEPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_borders_lie_between_them() {
        assert_eq!((number(0), number(255)), (-number(254), 1.0));
        for (code, border) in BORDERS.into_iter().enumerate() {
            assert!(number(code) < border && border < number(code + 1));
        }
    }

    #[test]
    fn every_number_has_its_own_code() {
        for search in [Search::Nearest, Search::Stepped] {
            let mut numbers: Vec<f32> = (0..256).map(number).collect();
            let mut codes = [0; 256];
            code(search, 0.0, &mut numbers, &mut codes);
            let far = |at: &usize| search == Search::Nearest || number(*at).abs() > 1e-3;
            assert!((0..256).filter(far).all(|at| usize::from(codes[at]) == at));
        }
    }

    #[test]
    fn scales_that_are_all_the_offset_have_code_0() {
        for search in [Search::Nearest, Search::Stepped] {
            let mut codes = [7; 3];
            code(search, 2.5, &mut [2.5; 3], &mut codes);
            assert_eq!(codes, [0; 3]);
        }
    }
}
