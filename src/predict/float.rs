//! Exact conversions between floating-point types, and the patterns that the residual coder reads.
//!
//! May use: `store_format`, `vectors`. Must never round otherwise than to nearest even, and never call a
//! library function whose last bit may change.

use store_format::dtype::DType;

use crate::vectors::wide;

/// The shape of a narrow float type: bits of mantissa, exponent bias, the magnitude that an
/// overflow becomes, and the magnitude of the NaN that every NaN becomes.
struct Narrow {
    mantissa: u32,
    bias: u32,
    overflow: u32,
    nan: u32,
}

const F16: Narrow = Narrow {
    mantissa: 10,
    bias: 15,
    overflow: 0x7C00,
    nan: 0x7E00,
};
const E4M3: Narrow = Narrow {
    mantissa: 3,
    bias: 7,
    overflow: 0x7F,
    nan: 0x7F,
};
const E5M2: Narrow = Narrow {
    mantissa: 2,
    bias: 15,
    overflow: 0x7C,
    nan: 0x7F,
};

const INFINITY: u32 = 0x7F80_0000;

/// The magnitude of `bits` (a binary32) in a narrow type, rounded to nearest even.
#[inline]
fn narrow(bits: u32, to: &Narrow) -> u32 {
    let magnitude = bits & 0x7FFF_FFFF;
    if magnitude > INFINITY {
        return to.nan;
    }
    let shift = 23 - to.mantissa;
    let least_normal = 128 - to.bias;
    let exponent = magnitude >> 23;
    let rounded = if exponent >= least_normal {
        let x = magnitude - ((127 - to.bias) << 23);
        (x + (1 << (shift - 1)) - 1 + ((x >> shift) & 1)) >> shift
    } else {
        let hidden = u32::from(exponent > 0) << 23;
        let x = (magnitude & 0x007F_FFFF) | hidden;
        let shift = shift + least_normal - exponent.max(1);
        if shift > 25 {
            0
        } else {
            (x + (1 << (shift - 1)) - 1 + ((x >> shift) & 1)) >> shift
        }
    };
    rounded.min(to.overflow)
}

/// binary32 to bf16, to nearest even; every NaN becomes `0x7FC0`.
#[inline]
#[must_use]
pub fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if bits & 0x7FFF_FFFF > INFINITY {
        return 0x7FC0;
    }
    ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
}

/// binary32 to binary16, to nearest even; a NaN keeps its sign and becomes `0x7E00`.
#[inline]
#[must_use]
pub fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits >> 16) & 0x8000 | narrow(bits, &F16)) as u16
}

/// binary32 to F8 E4M3, to nearest even; beyond the range it becomes NaN (`0x7F` with its sign).
#[inline]
#[must_use]
pub fn to_e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    ((bits >> 24) & 0x80 | narrow(bits, &E4M3)) as u8
}

/// binary32 to F8 E5M2, to nearest even; beyond the range it becomes infinite.
#[inline]
#[must_use]
pub fn to_e5m2(value: f32) -> u8 {
    let bits = value.to_bits();
    ((bits >> 24) & 0x80 | narrow(bits, &E5M2)) as u8
}

/// bf16 to binary32, exact.
#[inline]
#[must_use]
pub fn from_bf16(raw: u16) -> f32 {
    f32::from_bits(u32::from(raw) << 16)
}

/// binary16 to binary32, exact; the payload of a NaN moves to the top of the longer mantissa.
#[inline]
#[must_use]
pub fn from_f16(raw: u16) -> f32 {
    let sign = u32::from(raw & 0x8000) << 16;
    let magnitude = u32::from(raw & 0x7FFF);
    let bits = if magnitude >= 0x7C00 {
        (magnitude << 13) + (112 << 24)
    } else if magnitude >= 0x0400 {
        (magnitude << 13) + (112 << 23)
    } else {
        // 2^-24 times a whole number below 2^10: exact.
        (magnitude as f32 * f32::from_bits(103 << 23)).to_bits()
    };
    f32::from_bits(sign | bits)
}

/// F8 E4M3 to binary32, exact; both NaNs become `0x7FC00000` with their sign.
#[inline]
#[must_use]
pub fn from_e4m3(raw: u8) -> f32 {
    let sign = u32::from(raw & 0x80) << 24;
    let magnitude = u32::from(raw & 0x7F);
    let bits = if magnitude == 0x7F {
        0x7FC0_0000
    } else if magnitude >= 8 {
        (magnitude << 20) + (120 << 23)
    } else {
        // 2^-9 times a whole number below 8.
        (magnitude as f32 * f32::from_bits(118 << 23)).to_bits()
    };
    f32::from_bits(sign | bits)
}

/// F8 E5M2 to binary32, exact: it is the upper byte of a binary16.
#[inline]
#[must_use]
pub fn from_e5m2(raw: u8) -> f32 {
    from_f16(u16::from(raw) << 8)
}

/// binary64 to binary32, to nearest even; every NaN becomes `0x7FC00000`.
#[inline]
#[must_use]
pub fn from_f64(value: f64) -> f32 {
    if value.is_nan() {
        return f32::from_bits(0x7FC0_0000);
    }
    value as f32
}

/// Whether the predictors can compute with elements of this type.
#[must_use]
pub fn is_computable(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::F16 | DType::Bf16 | DType::F32 | DType::F64 | DType::F8E4M3 | DType::F8E5M2
    )
}

/// Whether elements of this type have a pattern (see [`pattern`]).
#[must_use]
pub fn has_pattern(dtype: DType) -> bool {
    is_computable(dtype) && dtype != DType::F64
}

/// Widens as many elements as `out` holds. `false` if the type cannot be computed with or the
/// lengths do not fit; `out` is then unspecified.
#[must_use]
pub fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) -> bool {
    fn each<const N: usize>(bytes: &[u8], out: &mut [f32], get: impl Fn([u8; N]) -> f32) -> bool {
        let (elements, rest) = bytes.as_chunks::<N>();
        if elements.len() != out.len() || !rest.is_empty() {
            return false;
        }
        wide(
            #[inline(always)]
            || {
                for (to, &from) in out.iter_mut().zip(elements) {
                    *to = get(from);
                }
            },
        );
        true
    }
    match dtype {
        DType::Bf16 => each(bytes, out, |b| from_bf16(u16::from_le_bytes(b))),
        DType::F16 => each(bytes, out, |b| from_f16(u16::from_le_bytes(b))),
        DType::F32 => each(bytes, out, f32::from_le_bytes),
        DType::F64 => each(bytes, out, |b| from_f64(f64::from_le_bytes(b))),
        DType::F8E4M3 => each(bytes, out, |[b]| from_e4m3(b)),
        DType::F8E5M2 => each(bytes, out, |[b]| from_e5m2(b)),
        _ => false,
    }
}

/// Elements as numbers; zeros where the type cannot be computed with.
#[must_use]
pub fn widened(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let (per_block, block_bytes) = dtype.block();
    let count = bytes.len() as u64 / block_bytes * per_block;
    let mut values = vec![0.0; usize::try_from(count).unwrap_or(usize::MAX)];
    if !widen(dtype, bytes, &mut values) {
        values.fill(0.0);
    }
    values
}

/// Rounds all of `values` to elements of a type. `false` as for [`widen`].
#[must_use]
pub fn round(dtype: DType, values: &[f32], out: &mut [u8]) -> bool {
    fn each<const N: usize>(values: &[f32], out: &mut [u8], put: impl Fn(f32) -> [u8; N]) -> bool {
        let (elements, rest) = out.as_chunks_mut::<N>();
        if elements.len() != values.len() || !rest.is_empty() {
            return false;
        }
        wide(
            #[inline(always)]
            || {
                for (to, &from) in elements.iter_mut().zip(values) {
                    *to = put(from);
                }
            },
        );
        true
    }
    match dtype {
        DType::Bf16 => each(values, out, |v| to_bf16(v).to_le_bytes()),
        DType::F16 => each(values, out, |v| to_f16(v).to_le_bytes()),
        DType::F32 => each(values, out, f32::to_le_bytes),
        DType::F64 => each(values, out, |v| {
            let wide = if v.is_nan() {
                f64::from_bits(0x7FF8_0000_0000_0000)
            } else {
                f64::from(v)
            };
            wide.to_le_bytes()
        }),
        DType::F8E4M3 => each(values, out, |v| [to_e4m3(v)]),
        DType::F8E5M2 => each(values, out, |v| [to_e5m2(v)]),
        _ => false,
    }
}

/// The magnitude of a binary32 in units of 2^-16 of the last place of a narrow type, truncated.
#[inline]
fn narrow_pattern(bits: u32, to: &Narrow) -> u32 {
    let magnitude = bits & 0x7FFF_FFFF;
    if magnitude > INFINITY {
        return to.nan << 16;
    }
    let least_normal = 128 - to.bias;
    let exponent = magnitude >> 23;
    let (x, down) = if exponent >= least_normal {
        (magnitude - ((127 - to.bias) << 23), 0)
    } else {
        let hidden = u32::from(exponent > 0) << 23;
        let down = (least_normal - exponent.max(1)).min(40);
        ((magnitude & 0x007F_FFFF) | hidden, down)
    };
    let scaled = (u64::from(x) << 16) >> (23 - to.mantissa + down);
    scaled.min(u64::from(to.overflow) << 16) as u32
}

/// The pattern of a value for the residual coder: sign in bit 31, below it the magnitude in
/// units of 2^-16 of the target's last place (of 1 for F32), cut off, not rounded. 0 for types
/// without a pattern.
#[inline]
#[must_use]
pub fn pattern(dtype: DType, value: f32) -> u32 {
    let bits = value.to_bits();
    let sign = bits & 0x8000_0000;
    match dtype {
        DType::Bf16 | DType::F32 => bits,
        DType::F16 => sign | narrow_pattern(bits, &F16),
        DType::F8E4M3 => sign | narrow_pattern(bits, &E4M3),
        DType::F8E5M2 => sign | narrow_pattern(bits, &E5M2),
        _ => 0,
    }
}

/// [`pattern`] of each value.
pub(super) fn patterns(dtype: DType, values: &[f32], out: &mut [u32]) {
    fn each(values: &[f32], out: &mut [u32], pattern: impl Fn(f32) -> u32) {
        wide(
            #[inline(always)]
            || {
                for (to, &value) in out.iter_mut().zip(values) {
                    *to = pattern(value);
                }
            },
        );
    }
    match dtype {
        // By type outside of the loop, which then becomes vectors.
        DType::F16 => each(values, out, |value| pattern(DType::F16, value)),
        DType::Bf16 | DType::F32 => each(values, out, f32::to_bits),
        _ => each(values, out, |value| pattern(dtype, value)),
    }
}

/// The pattern of an element as it stands: its magnitude without a fraction. `false` as for
/// [`widen`].
#[must_use]
pub fn patterns_of(dtype: DType, bytes: &[u8], out: &mut [u32]) -> bool {
    fn each<const N: usize>(bytes: &[u8], out: &mut [u32], get: impl Fn([u8; N]) -> u32) -> bool {
        let (elements, rest) = bytes.as_chunks::<N>();
        if elements.len() != out.len() || !rest.is_empty() {
            return false;
        }
        for (to, &from) in out.iter_mut().zip(elements) {
            *to = get(from);
        }
        true
    }
    match dtype {
        DType::F32 => each(bytes, out, u32::from_le_bytes),
        DType::Bf16 | DType::F16 => each(bytes, out, |b| u32::from(u16::from_le_bytes(b)) << 16),
        DType::F8E4M3 | DType::F8E5M2 => each(bytes, out, |[b]| {
            (u32::from(b & 0x80) << 24) | (u32::from(b & 0x7F) << 16)
        }),
        _ => false,
    }
}

/// Rounds what [`pattern`] has cut off, as [`round`] rounds the values themselves. `false` where
/// the patterns do not tell that, for other types, and for lengths that do not fit; `out` is then
/// unspecified.
#[must_use]
pub fn round_patterns(dtype: DType, patterns: &[u32], out: &mut [u8]) -> bool {
    if patterns.len().checked_mul(dtype.block().1 as usize) != Some(out.len()) {
        return false;
    }
    match dtype {
        DType::Bf16 => {
            for (to, &bits) in out.as_chunks_mut().0.iter_mut().zip(patterns) {
                *to = to_bf16(f32::from_bits(bits)).to_le_bytes();
            }
            true
        }
        DType::F16 => {
            // What is cut off of the smallest numbers tells whether a half is a little more.
            let mut open = false;
            for (to, &bits) in out.as_chunks_mut().0.iter_mut().zip(patterns) {
                let magnitude = bits & 0x7FFF_FFFF;
                open |= magnitude < 0x0400 << 16 && magnitude & 0xFFFF == 0x8000;
                let whole = (magnitude + 0x7FFF + (magnitude >> 16 & 1)) >> 16;
                *to = ((bits >> 16 & 0x8000 | whole) as u16).to_le_bytes();
            }
            !open
        }
        DType::F32 => {
            for (to, &bits) in out.as_chunks_mut().0.iter_mut().zip(patterns) {
                *to = bits.to_le_bytes();
            }
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds by searching all values of a type for the nearest: slow and evidently right.
    fn nearest(value: f32, count: u16, from: impl Fn(u16) -> f32) -> u16 {
        let v = f64::from(value).abs();
        let mut best = 0u16;
        for candidate in 0..count {
            let distance = |c: u16| (f64::from(from(c)) - v).abs();
            if distance(candidate) < distance(best)
                || (distance(candidate) == distance(best) && candidate % 2 == 0)
            {
                best = candidate;
            }
        }
        best
    }

    fn hard_values() -> Vec<f32> {
        let mut state = 7u32;
        let mut values = vec![
            0.0, -0.0, 1.0, 0.5, 447.9, 448.0, 464.0, 464.1, 480.0, 1e9, 1e-9,
        ];
        for _ in 0..4000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let exponent = 100 + (state >> 8) % 45;
            let mantissa = match state % 4 {
                0 => (state >> 20) << 12,
                1 => (state >> 12) << 18,
                2 => ((state >> 12) << 18) | 1,
                _ => state >> 9,
            };
            values.push(f32::from_bits(
                (state & 1) << 31 | exponent << 23 | (mantissa & 0x007F_FFFF),
            ));
        }
        values
    }

    #[test]
    fn every_narrow_value_comes_back_from_its_widening() {
        for raw in 0..=u16::MAX {
            let (wide, half) = (from_bf16(raw), from_f16(raw));
            if !wide.is_nan() {
                assert_eq!(to_bf16(wide), raw);
            }
            if !half.is_nan() {
                assert_eq!(to_f16(half), raw);
            }
        }
        for raw in 0..=u8::MAX {
            let (e4m3, e5m2) = (from_e4m3(raw), from_e5m2(raw));
            if !e4m3.is_nan() {
                assert_eq!(to_e4m3(e4m3), raw);
            }
            if !e5m2.is_nan() {
                assert_eq!(to_e5m2(e5m2), raw);
            }
        }
    }

    #[test]
    fn rounding_takes_the_nearest_value_and_the_even_one_of_two() {
        for value in hard_values() {
            let sign8 = u8::from(value.is_sign_negative()) << 7;
            let largest = f64::from(value).abs();
            if largest < 57344.0 {
                let want = nearest(value, 0x7C, |c| from_e5m2(c as u8)) as u8;
                assert_eq!(to_e5m2(value), want | sign8, "{value:e} as e5m2");
            }
            if largest <= 448.0 {
                let want = nearest(value, 0x7F, |c| from_e4m3(c as u8)) as u8;
                assert_eq!(to_e4m3(value), want | sign8, "{value:e} as e4m3");
            }
        }
        for value in hard_values().into_iter().step_by(100) {
            if value.abs() < 65504.0 {
                let want = nearest(value, 0x7C00, from_f16);
                let sign = u16::from(value.is_sign_negative()) << 15;
                assert_eq!(to_f16(value), want | sign, "{value:e} as f16");
            }
        }
    }

    #[test]
    fn known_values_have_known_patterns_of_bits() {
        assert_eq!(to_f16(65519.0), 0x7BFF);
        assert_eq!(to_f16(65520.0), 0x7C00);
        assert_eq!(to_f16(f32::NEG_INFINITY), 0xFC00);
        assert_eq!(to_f16(5.960_464_5e-8), 0x0001);
        assert_eq!(to_f16(2.980_232_2e-8), 0x0000);
        assert_eq!(to_bf16(1.003_906_3), 0x3F80);
        assert_eq!(to_bf16(1.011_718_8), 0x3F82);
        assert_eq!(to_bf16(f32::MAX), 0x7F80);
        assert_eq!(to_bf16(-f32::NAN), 0x7FC0);
        assert_eq!(to_e4m3(464.0), 0x7E);
        assert_eq!(to_e4m3(465.0), 0x7F);
        assert_eq!(to_e5m2(1e9), 0x7C);
    }

    #[test]
    fn a_pattern_cuts_where_rounding_rounds() {
        for value in hard_values() {
            for (dtype, rounded) in [
                (DType::F16, u32::from(to_f16(value) & 0x7FFF)),
                (DType::Bf16, u32::from(to_bf16(value) & 0x7FFF)),
                (DType::F8E4M3, u32::from(to_e4m3(value) & 0x7F)),
                (DType::F8E5M2, u32::from(to_e5m2(value) & 0x7F)),
            ] {
                let x = pattern(dtype, value) & 0x7FFF_FFFF;
                let up = (x + 0x8000) >> 16;
                let tie = x & 0xFFFF == 0x8000;
                assert!(
                    up == rounded || (tie && up - 1 == rounded),
                    "{value:e} {dtype:?}"
                );
                assert_eq!(pattern(dtype, value) >> 31, value.to_bits() >> 31);
            }
        }
    }

    #[test]
    fn the_pattern_of_an_element_is_the_pattern_of_its_value() {
        for dtype in [DType::F16, DType::Bf16] {
            for raw in (0..=u16::MAX).filter(|raw| raw & 0x7C00 != 0x7C00) {
                let (mut wide, mut direct) = ([0.0], [0]);
                assert!(widen(dtype, &raw.to_le_bytes(), &mut wide));
                assert!(patterns_of(dtype, &raw.to_le_bytes(), &mut direct));
                assert_eq!(direct[0], pattern(dtype, wide[0]));
            }
        }
        for dtype in [DType::F8E4M3, DType::F8E5M2] {
            for raw in (0..=u8::MAX).filter(|raw| raw & 0x7C != 0x7C) {
                let (mut wide, mut direct) = ([0.0], [0]);
                assert!(widen(dtype, &[raw], &mut wide));
                assert!(patterns_of(dtype, &[raw], &mut direct));
                assert_eq!(direct[0], pattern(dtype, wide[0]));
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        assert!(!widen(DType::F32, &[0; 7], &mut [0.0; 2]));
        assert!(!round(DType::Bf16, &[0.0; 2], &mut [0; 3]));
        assert!(!patterns_of(DType::F16, &[0; 5], &mut [0; 2]));
        assert!(!widen(DType::I8, &[0], &mut [0.0]));
    }

    #[test]
    fn patterns_round_as_their_values_do() {
        let mut state = 3u32;
        let mut values: Vec<f32> = (0..200_000)
            .map(|n| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                match n % 3 {
                    // Halves between elements of bf16 and of binary16.
                    0 => f32::from_bits(state & !0xFFFF | 0x8000),
                    1 => f32::from_bits((state & 0x8FFF_E000) + 0x3000_1000),
                    _ => f32::from_bits(state ^ state >> 16),
                }
            })
            .collect();
        values.extend([
            0.0,
            -0.0,
            f32::NAN,
            -f32::NAN,
            f32::INFINITY,
            65519.9,
            65520.0,
        ]);
        for dtype in [DType::Bf16, DType::F16, DType::F32] {
            let width = dtype.block().1 as usize;
            let mut told = 0;
            for values in values.chunks(5) {
                let patterns: Vec<u32> = values.iter().map(|&v| pattern(dtype, v)).collect();
                let (mut fine, mut plain) = (vec![1; width * values.len()], vec![2; 0]);
                plain.resize(fine.len(), 2);
                assert!(round(dtype, values, &mut plain));
                if round_patterns(dtype, &patterns, &mut fine) {
                    told += 1;
                    assert_eq!(fine, plain, "{dtype:?} {values:?}");
                }
            }
            assert!(told * 10 > values.len(), "{dtype:?}");
        }
        assert!(!round_patterns(DType::F8E4M3, &[0], &mut [0]));
        assert!(!round_patterns(DType::Bf16, &[0], &mut [0]));
    }
}
