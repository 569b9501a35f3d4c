//! Encoding with 256-bit vectors. Every function has a plain twin that gives the same results.
//!
//! May use: `bits`, `kernel`, `rans`. Must never read or write outside its slices; each block of
//! unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::bits::BitWriter;
use super::kernel::{Coded, Split, Words, is_available, largest};
use super::rans::LANES;

/// For each set of lanes: the lanes in order at the high end.
static COMPACT: [[u32; 8]; 256] = {
    let mut table = [[0u32; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut place) = (8, 8);
        while lane > 0 {
            lane -= 1;
            if set >> lane & 1 == 1 {
                place -= 1;
                table[set][place] = lane as u32;
            }
        }
        set += 1;
    }
    table
};

/// Codes whole groups of [`LANES`] slots, the last group first.
pub(super) fn encode(
    bits: u32,
    states: &mut [u32; LANES],
    slots: &[u32],
    words: &mut Words,
) -> usize {
    let groups = slots.len() / LANES;
    let used = &slots[..groups * LANES];
    // A frequency of 0 has no quotient; each slot may push one word.
    if !is_available() || words.start < 2 * used.len() + 16 {
        return 0;
    }
    // SAFETY: the processor has the instructions; `words` has room for every word and a vector.
    unsafe {
        match bits {
            10 => steps::<10, 22>(states, used, words),
            11 => steps::<11, 21>(states, used, words),
            12 => steps::<12, 20>(states, used, words),
            _ => return 0,
        }
    }
    used.len()
}

/// # Safety
/// The instructions of [`is_available`]; `slots` holds whole groups; `words` has room before its
/// start for two bytes a slot and 16 more.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn steps<const BITS: i32, const REST: i32>(
    states: &mut [u32; LANES],
    slots: &[u32],
    words: &mut Words,
) {
    let mut start = words.start;
    let low = _mm256_set1_epi32(0xFFFF);
    // SAFETY: `states` has 32 numbers, slots are read group by group below their length; a vector
    // of 16 bytes is stored right before `start`, which moves down by at most 2 bytes a slot and
    // had 16 more.
    unsafe {
        let place = states.as_mut_ptr().cast::<__m256i>();
        let mut x = [
            _mm256_loadu_si256(place),
            _mm256_loadu_si256(place.add(1)),
            _mm256_loadu_si256(place.add(2)),
            _mm256_loadu_si256(place.add(3)),
        ];
        for group in (0..slots.len() / LANES).rev() {
            for v in (0..4).rev() {
                let slot = _mm256_loadu_si256(slots.as_ptr().add(group * LANES + 8 * v).cast());
                let frequency = _mm256_and_si256(slot, low);
                // Not smaller: a word goes out.
                let small = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32::<REST>(x[v]));
                let set = !_mm256_movemask_ps(_mm256_castsi256_ps(small)) as usize & 0xFF;
                let lanes = _mm256_permutevar8x32_epi32(
                    _mm256_and_si256(x[v], low),
                    _mm256_loadu_si256(COMPACT[set].as_ptr().cast()),
                );
                let packed = _mm_packus_epi32(
                    _mm256_castsi256_si128(lanes),
                    _mm256_extracti128_si256::<1>(lanes),
                );
                _mm_storeu_si128(words.buffer.as_mut_ptr().add(start - 16).cast(), packed);
                start -= 2 * set.count_ones() as usize;
                let state = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x[v]), x[v], small);
                x[v] = next::<BITS>(state, frequency, _mm256_srli_epi32::<16>(slot));
            }
        }
        for (v, x) in x.iter().enumerate() {
            _mm256_storeu_si256(place.add(v), *x);
        }
    }
    words.start = start;
}

/// `(x / f) << BITS | x % f + start`, for `x < f * 2^(32 - BITS)`.
#[inline]
#[target_feature(enable = "avx2")]
fn next<const BITS: i32>(x: __m256i, frequency: __m256i, start: __m256i) -> __m256i {
    // Unsigned to float in two halves; the quotient is below 2^22, so with the roundings of the
    // sum and the division it is off by at most one either way.
    let high = _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(x));
    let low = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)));
    let whole = _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0)), low);
    let quotient = _mm256_cvttps_epi32(_mm256_div_ps(whole, _mm256_cvtepi32_ps(frequency)));
    let rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, frequency));
    let below = _mm256_srai_epi32::<31>(rest);
    let rest = _mm256_add_epi32(rest, _mm256_and_si256(below, frequency));
    let quotient = _mm256_add_epi32(quotient, below);
    let inside = _mm256_cmpgt_epi32(frequency, rest);
    let rest = _mm256_sub_epi32(rest, _mm256_andnot_si256(inside, frequency));
    let quotient = _mm256_add_epi32(quotient, _mm256_andnot_si256(inside, _mm256_set1_epi32(1)));
    _mm256_add_epi32(
        _mm256_add_epi32(_mm256_slli_epi32::<BITS>(quotient), rest),
        start,
    )
}

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

/// Takes groups of 16 elements apart.
#[expect(
    clippy::too_many_arguments,
    reason = "slices of one length, side by side"
)]
pub(super) fn split16(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) -> usize {
    let mut len = indexes.len().min(predicted.len() / 2).min(target.len() / 2);
    len = len.min(slots.len());
    if let Some(fractions) = fractions {
        len = len.min(fractions.len());
    }
    len = len / 16 * 16;
    let count = split.tables.count();
    let right = split.alphabet as usize == split.tables.alphabet();
    let inside = usize::from(largest(&indexes[..len])) < count;
    if !is_available() || !right || !inside || split.number.bytes != 2 {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements, a multiple of
    // 16; every index is below the number of tables.
    unsafe {
        split16_steps(
            split,
            &indexes[..len],
            predicted,
            fractions,
            target,
            slots,
            raw,
            patch,
        );
    }
    len
}

/// Ranks of differences and their raw bits, in 8 lanes of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn ranks(size: __m256i, mantissa: i32) -> (__m256i, __m256i) {
    let float = _mm256_castps_si256(_mm256_cvtepi32_ps(size));
    // Two ranges an octave: the exponent and the top bit of the mantissa, counted from 8.
    let octave = _mm256_sub_epi32(_mm256_srli_epi32::<22>(float), _mm256_set1_epi32(252));
    let octave_bits = _mm256_sub_epi32(_mm256_srli_epi32::<23>(float), _mm256_set1_epi32(128));
    let shift = _mm_cvtsi32_si128(mantissa - 1);
    let linear = _mm256_add_epi32(
        _mm256_srl_epi32(size, shift),
        _mm256_set1_epi32(2 * mantissa - 1),
    );
    let is_linear = _mm256_cmpgt_epi32(size, _mm256_set1_epi32((1 << (mantissa - 1)) - 1));
    let is_direct = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), size);
    let rank = _mm256_blendv_epi8(octave, linear, is_linear);
    let bits = _mm256_blendv_epi8(octave_bits, _mm256_set1_epi32(mantissa - 1), is_linear);
    (
        _mm256_blendv_epi8(rank, size, is_direct),
        _mm256_andnot_si256(is_direct, bits),
    )
}

/// # Safety
/// As [`split16`] has checked.
#[expect(
    clippy::too_many_arguments,
    reason = "slices of one length, side by side"
)]
#[expect(clippy::too_many_lines, reason = "one straight loop over registers")]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn split16_steps(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let alphabet = _mm256_set1_epi16(split.alphabet as i16);
    let table = split.tables.slots().as_ptr().cast::<i32>();
    // SAFETY: each step reads and writes 16 elements at places below the length of `indexes`; a
    // gather reads slot `table * alphabet + symbol` with `table` below the number of tables and
    // `symbol` below the alphabet, since special lanes are set to 0 before.
    unsafe {
        for at in (0..indexes.len()).step_by(16) {
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let t = _mm256_loadu_si256(target.as_ptr().add(2 * at).cast());
            let size = _mm256_and_si256(p, magnitude);
            let flip = _mm256_srai_epi16::<15>(_mm256_xor_si256(p, t));
            let mut difference = _mm256_sub_epi16(_mm256_and_si256(t, magnitude), size);
            if let Some(fractions) = fractions {
                let fraction = _mm256_loadu_si256(fractions.as_ptr().add(at).cast());
                let below = _mm256_srai_epi16::<15>(fraction);
                difference = _mm256_sub_epi16(_mm256_xor_si256(difference, below), below);
            }
            let mut special = flip;
            if split.zeros {
                let none = _mm256_cmpeq_epi16(size, zero);
                let same = _mm256_cmpeq_epi16(p, t);
                special = _mm256_or_si256(special, _mm256_andnot_si256(same, none));
            }
            let away = _mm256_abs_epi16(difference);
            let positive = _mm256_cmpgt_epi16(difference, zero);
            let tables = _mm256_cvtepu8_epi16(_mm_loadu_si128(indexes.as_ptr().add(at).cast()));
            let base = _mm256_mullo_epi16(tables, alphabet);
            let large = _mm256_cmpgt_epi16(away, _mm256_set1_epi16(7));
            let mut rank = away;
            let mut parts = None;
            if _mm256_movemask_epi8(large) != 0 {
                let m = split.number.mantissa as i32;
                let (front, front_bits) =
                    ranks(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(away)), m);
                let (back, back_bits) = ranks(
                    _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(away)),
                    m,
                );
                rank = pack16(front, back);
                let most = _mm256_set1_epi16(split.moves as i16);
                special = _mm256_or_si256(special, _mm256_cmpgt_epi16(rank, most));
                let one = _mm256_set1_epi32(1);
                let mask = pack16(
                    _mm256_sub_epi32(_mm256_sllv_epi32(one, front_bits), one),
                    _mm256_sub_epi32(_mm256_sllv_epi32(one, back_bits), one),
                );
                parts = Some((_mm256_andnot_si256(special, mask), away));
            }
            let symbol = _mm256_add_epi16(_mm256_add_epi16(rank, rank), positive);
            let code = _mm256_andnot_si256(special, _mm256_add_epi16(base, symbol));
            let front = _mm256_i32gather_epi32::<4>(
                table,
                _mm256_cvtepu16_epi32(_mm256_castsi256_si128(code)),
            );
            let back = _mm256_i32gather_epi32::<4>(
                table,
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(code)),
            );
            _mm256_storeu_si256(slots.as_mut_ptr().add(at).cast(), front);
            _mm256_storeu_si256(slots.as_mut_ptr().add(at + 8).cast(), back);
            let absent = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(
                _mm256_cmpeq_epi32(front, zero),
                _mm256_cmpeq_epi32(back, zero),
            ));
            special = _mm256_or_si256(special, absent);
            let set = _mm256_movemask_epi8(special) as u32;
            if set != 0 {
                let (mask, value) = parts.unwrap_or((zero, zero));
                let patched = &mut slots[at..at + 16];
                patch_group(mask, value, set, at, patched, raw, patch);
            } else if let Some((mask, value)) = parts {
                let (masks, values) = (lanes64(mask), lanes64(value));
                for (mask, value) in masks.into_iter().zip(values) {
                    raw.put(_pext_u64(value, mask), mask.count_ones());
                }
            }
        }
    }
}

/// Codes the special elements of a group one by one, and its raw bits in order.
#[target_feature(enable = "avx2,bmi2,popcnt")]
fn patch_group(
    mask: __m256i,
    value: __m256i,
    set: u32,
    at: usize,
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) {
    let (masks, values) = (lanes64(mask), lanes64(value));
    for (lane, slot) in slots.iter_mut().enumerate() {
        if set >> (2 * lane) & 1 == 1 {
            let coded = patch(at + lane);
            *slot = coded.slot;
            raw.put(u64::from(coded.raw), coded.count);
        } else {
            let shift = 16 * (lane % 4);
            let mask = (masks[lane / 4] >> shift) as u32 & 0xFFFF;
            raw.put(values[lane / 4] >> shift, mask.count_ones());
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn lanes64(vector: __m256i) -> [u64; 4] {
    let mut lanes = [0u64; 4];
    // SAFETY: `lanes` has 32 bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

/// Two vectors of numbers below 2^16 as one.
#[inline]
#[target_feature(enable = "avx2")]
fn pack16(front: __m256i, back: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(front, back))
}
