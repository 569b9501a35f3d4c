//! 16-bit elements as numbers for the first pass, with 256-bit vectors. Every function has a plain
//! twin that gives the same results.
//!
//! May use: `kernel`, `sample`. Must never read or write outside its slices; each block of unsafe
//! code states why it does not.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::x86_64::*;

use super::kernel::is_available;
use super::sample::Weigh;

/// Whole groups of 8 elements as numbers.
pub(super) fn values16(bytes: &[u8], shift: u32, scale: f32, out: &mut [f32]) -> usize {
    let len = out.len().min(bytes.len() / 2) / 8 * 8;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; both slices hold `len` elements.
    unsafe { values16_steps(&bytes[..2 * len], shift, scale, &mut out[..len]) };
    len
}

/// # Safety
/// The instructions of [`is_available`]; slices of equal length in elements, a multiple of 8.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn values16_steps(bytes: &[u8], shift: u32, scale: f32, out: &mut [f32]) {
    let magnitude = _mm256_set1_epi32(0x7FFF);
    let shift = _mm_cvtsi32_si128(shift as i32);
    let scale = _mm256_set1_ps(scale);
    // SAFETY: each step reads 16 bytes and writes 8 numbers below the common length.
    unsafe {
        for at in (0..out.len()).step_by(8) {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().add(2 * at).cast()));
            let size = _mm256_and_si256(bits, magnitude);
            let sign = _mm256_slli_epi32::<16>(_mm256_xor_si256(bits, size));
            let value = _mm256_or_si256(_mm256_sll_epi32(size, shift), sign);
            let value = _mm256_mul_ps(_mm256_castsi256_ps(value), scale);
            _mm256_storeu_ps(out.as_mut_ptr().add(at), value);
        }
    }
}

/// Changes and weights of every so-manieth whole group of 16.
pub(super) fn weigh16(
    rule: &Weigh,
    target: &[u8],
    predicted: &[u8],
    changes: &mut [f32],
    weights: &mut [f32],
) -> usize {
    let groups = target.len().min(predicted.len()) / 32;
    let count = 16 * groups.div_ceil(rule.every);
    if !is_available() || count > changes.len().min(weights.len()) {
        return 0;
    }
    // SAFETY: the processor has the instructions; there is room for `count` numbers.
    unsafe { weigh16_steps(rule, groups, target, predicted, changes, weights) };
    count
}

/// # Safety
/// The instructions of [`is_available`]; `target` and `predicted` hold `groups` groups, and there
/// is room for 16 numbers of each that is looked at.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn weigh16_steps(
    rule: &Weigh,
    groups: usize,
    target: &[u8],
    predicted: &[u8],
    changes: &mut [f32],
    weights: &mut [f32],
) {
    let magnitude = _mm256_set1_epi32(0x7FFF);
    let shift = _mm_cvtsi32_si128(rule.shift as i32);
    let scale = _mm256_set1_ps(rule.scale);
    let least = _mm256_set1_ps(rule.least);
    let unsigned = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFF_FFFF));
    let infinity = _mm256_set1_ps(f32::INFINITY);
    let one = _mm256_set1_ps(1.0);
    let mut out = 0;
    // SAFETY: a step reads 16 bytes of both slices below `groups` groups, and writes 8 numbers
    // below the room.
    unsafe {
        let value = |from: &[u8], at: usize| {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().add(2 * at).cast()));
            let size = _mm256_and_si256(bits, magnitude);
            let sign = _mm256_slli_epi32::<16>(_mm256_xor_si256(bits, size));
            let value = _mm256_or_si256(_mm256_sll_epi32(size, shift), sign);
            _mm256_mul_ps(_mm256_castsi256_ps(value), scale)
        };
        for group in (0..groups).step_by(rule.every) {
            for at in [16 * group, 16 * group + 8] {
                let predicted = value(predicted, at);
                let distance = _mm256_sub_ps(value(target, at), predicted);
                let distance = _mm256_and_ps(distance, unsigned);
                let is_finite = _mm256_cmp_ps::<_CMP_LT_OQ>(distance, infinity);
                // The second of two is taken where the first is no number.
                let size = _mm256_max_ps(_mm256_and_ps(predicted, unsigned), least);
                let weight = _mm256_and_ps(_mm256_div_ps(one, size), is_finite);
                _mm256_storeu_ps(weights.as_mut_ptr().add(out), weight);
                let change = _mm256_and_ps(distance, is_finite);
                _mm256_storeu_ps(changes.as_mut_ptr().add(out), change);
                out += 8;
            }
        }
    }
}
