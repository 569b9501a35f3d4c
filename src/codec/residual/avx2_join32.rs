//! Putting 32-bit elements together with 256-bit vectors. The plain twin gives the same results.
//!
//! May use: `avx2_encode`, `avx2_join16`, `kernel`, `operands`. Must never read or write outside
//! its slices, whatever the coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::avx2_encode::{lanes64, look_up};
use super::avx2_join16::{bits_at, take_four};
use super::kernel::is_available;
use super::operands::{ESCAPE, FLIP, Join, NEGATIVE, RAW_BYTES};

/// The mantissa of the only type of this width.
const MANTISSA: i8 = 23;

/// Symbols looked at together.
const GROUPS: usize = 32;

/// Puts elements together in whole groups of 8 until the end of the raw bits is near; gives how
/// many, and moves `position`, in bits.
pub(super) fn join32(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let len = symbols.len().min(predicted.len() / 4).min(out.len() / 4) / 8 * 8;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements.
    unsafe { steps(join, &symbols[..len], predicted, position, out, patch) }
}

/// # Safety
/// The instructions of [`is_available`]; `symbols` has a multiple of 8, `predicted` and `out` at
/// least as many elements.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn steps(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    // A place of its own, which the compiler keeps in a register.
    let mut bits = *position;
    let mut parts = Parts::default();
    let enough = |bits: usize| bits / 8 + RAW_BYTES <= join.raw.len();
    for start in (0..symbols.len()).step_by(GROUPS) {
        let is_whole = start + GROUPS <= symbols.len();
        if is_whole {
            // SAFETY: 32 symbols from `start` on are there.
            unsafe { parts.fill(join, &symbols[start..start + GROUPS]) };
        }
        for number in 0..(symbols.len() - start).min(GROUPS) / 8 {
            let at = start + 8 * number;
            if !enough(bits) {
                *position = bits;
                return at;
            }
            // SAFETY: 8 elements from `at` on are there, and the raw bits of as many.
            unsafe {
                let is_small = is_whole
                    && small_group(join, &parts, symbols, predicted, at, &mut bits, out, patch);
                if !is_small {
                    group(join, symbols, predicted, at, &mut bits, out, patch);
                }
            }
        }
    }
    *position = bits;
    symbols.len()
}

/// What symbols stand for, those of unchanged signs and without the hot ones: a start of
/// `factor << raw`, `raw` raw bits, and whether the difference is negative, all bits set.
#[derive(Default)]
struct Parts {
    factor: [u8; GROUPS],
    raw: [u8; GROUPS],
    negative: [i8; GROUPS],
    /// Sets of 8 each: those of a changed sign, whose raw bits are a mantissa; hot ones; escapes.
    flips: [u8; 4],
    hot: [u8; 4],
    escapes: [u8; 4],
}

impl Parts {
    /// # Safety
    /// The instructions of [`is_available`]; 32 symbols.
    #[inline]
    #[target_feature(enable = "avx2,bmi2,popcnt")]
    unsafe fn fill(&mut self, join: &Join, symbols: &[u8]) {
        let byte = |value: i8| _mm256_set1_epi8(value);
        let zero = _mm256_setzero_si256();
        // SAFETY: `symbols` and each field have 32 bytes.
        unsafe {
            let symbol = _mm256_loadu_si256(symbols.as_ptr().cast());
            let rank = _mm256_avg_epu8(symbol, zero);
            let parity = _mm256_and_si256(rank, byte(1));
            // Ranks below 8 are sizes, then two an octave, and from `linear` on equal steps.
            let linear = byte(2 * MANTISSA - 1);
            let is_size = _mm256_cmpgt_epi8(byte(8), rank);
            let is_linear = _mm256_cmpgt_epi8(rank, linear);
            let octave = _mm256_and_si256(_mm256_srli_epi16::<1>(rank), byte(0x7F));
            let raw = _mm256_andnot_si256(is_size, _mm256_sub_epi8(octave, byte(2)));
            let raw = _mm256_blendv_epi8(raw, byte(MANTISSA - 1), is_linear);
            let factor = _mm256_blendv_epi8(_mm256_add_epi8(parity, byte(2)), rank, is_size);
            let factor = _mm256_blendv_epi8(factor, _mm256_sub_epi8(rank, linear), is_linear);
            // After the symbols that keep the sign come 20 that change it, the escape, hot ones.
            let beyond = _mm256_subs_epu8(symbol, byte(2 * join.moves as i8));
            let is_kept = _mm256_cmpeq_epi8(beyond, zero);
            let is_escape = _mm256_cmpeq_epi8(beyond, byte(21));
            let is_hot = _mm256_cmpeq_epi8(_mm256_max_epu8(beyond, byte(22)), beyond);
            let raw = _mm256_blendv_epi8(byte(MANTISSA), raw, is_kept);
            let raw = _mm256_andnot_si256(is_hot, raw);
            let odd = _mm256_and_si256(symbol, byte(1));
            let negative = _mm256_cmpeq_epi8(odd, zero);
            _mm256_storeu_si256(self.factor.as_mut_ptr().cast(), factor);
            _mm256_storeu_si256(self.raw.as_mut_ptr().cast(), raw);
            _mm256_storeu_si256(self.negative.as_mut_ptr().cast(), negative);
            let escapes = _mm256_movemask_epi8(is_escape) as u32;
            let hot = _mm256_movemask_epi8(is_hot) as u32;
            let kept = _mm256_movemask_epi8(is_kept) as u32;
            self.escapes = escapes.to_le_bytes();
            self.hot = hot.to_le_bytes();
            self.flips = (!(kept | hot | escapes)).to_le_bytes();
        }
    }
}

/// Puts 8 elements together whose parts are known; `false` where one follows raw or has a
/// prediction of zero: then nothing is done.
///
/// # Safety
/// As [`steps`], with 8 elements from `at` on, the parts of the 32 among which they lie, and
/// [`RAW_BYTES`] raw bytes.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
#[expect(clippy::too_many_arguments, reason = "one step of a loop")]
unsafe fn small_group(
    join: &Join,
    parts: &Parts,
    symbols: &[u8],
    predicted: &[u8],
    at: usize,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> bool {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    let zero = _mm256_setzero_si256();
    let one = _mm256_set1_epi32(1);
    let lane = at % GROUPS;
    let number = lane / 8;
    // SAFETY: reads and writes 8 elements from `at` on and as many of the parts; tables of 256 are
    // indexed by a byte; two elements have at most 46 raw bits, and four loads of 8 bytes begin
    // at most 3 * 46 bits after `position`.
    unsafe {
        let p = _mm256_loadu_si256(predicted.as_ptr().add(4 * at).cast());
        let size = _mm256_and_si256(p, magnitude);
        if parts.escapes[number] != 0 {
            return false;
        }
        if join.zeros {
            let none = _mm256_cmpeq_epi32(size, zero);
            if _mm256_testz_si256(none, none) == 0 {
                return false;
            }
        }
        let load = |from: *const u8| _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.add(lane).cast()));
        // All are below 32, which the compiler thereby knows.
        let raw = _mm256_and_si256(load(parts.raw.as_ptr()), _mm256_set1_epi32(31));
        let mut start = _mm256_sllv_epi32(load(parts.factor.as_ptr()), raw);
        let negative = _mm_loadl_epi64(parts.negative.as_ptr().add(lane).cast());
        let mut negative = _mm256_cvtepi8_epi32(negative);
        if parts.hot[number] != 0 {
            let symbol = _mm256_cvtepu8_epi32(_mm_loadl_epi64(symbols.as_ptr().add(at).cast()));
            let is_hot = _mm256_cmpgt_epi32(symbol, _mm256_set1_epi32(2 * join.moves as i32 + 21));
            let hot = look_up(join.places.hot.as_ptr().cast(), symbol);
            start = _mm256_blendv_epi8(start, _mm256_abs_epi32(hot), is_hot);
            negative = _mm256_blendv_epi8(negative, _mm256_srai_epi32::<31>(hot), is_hot);
        }
        let mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, raw), one);
        let raw = take_four(join.raw, lanes64(mask), position);
        let sum = _mm256_add_epi32(start, raw);
        let difference = _mm256_sub_epi32(_mm256_xor_si256(sum, negative), negative);
        let moved = _mm256_and_si256(_mm256_add_epi32(size, difference), magnitude);
        let element = _mm256_or_si256(moved, _mm256_andnot_si256(magnitude, p));
        _mm256_storeu_si256(out.as_mut_ptr().add(4 * at).cast(), element);
        let flips = u32::from(parts.flips[number]);
        if flips != 0 {
            put_patches(flips, &lanes64(raw), at, out, patch);
        }
    }
    true
}

/// Puts elements that are made of their raw bits alone where they belong.
fn put_patches(
    mut set: u32,
    raw: &[u64; 4],
    at: usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) {
    while set != 0 {
        let lane = set.trailing_zeros() as usize;
        let bits = (raw[lane / 2] >> (32 * (lane % 2))) as u32;
        let element = patch(at + lane, bits) as u32;
        let place = 4 * (at + lane);
        out[place..place + 4].copy_from_slice(&element.to_le_bytes());
        set &= set - 1;
    }
}

/// Puts any 8 elements together.
///
/// # Safety
/// As [`steps`], with 8 elements from `at` on and [`RAW_BYTES`] raw bytes.
// Apart, so that the common step keeps its registers.
#[inline(never)]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn group(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    at: usize,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    let one = _mm256_set1_epi32(1);
    let zero = _mm256_setzero_si256();
    let zero_mask = _mm256_set1_epi32((2 << join.number.mantissa) - 1);
    let flag = |place: __m256i, bit: u32| {
        let bit = _mm256_set1_epi32(bit as i32);
        _mm256_cmpeq_epi32(_mm256_and_si256(place, bit), bit)
    };
    // SAFETY: reads and writes 8 elements from `at` on; tables of 256 are indexed by a byte; four
    // loads of 9 raw bytes begin at most 3 * 64 bits after `position`.
    unsafe {
        let symbol = _mm256_cvtepu8_epi32(_mm_loadl_epi64(symbols.as_ptr().add(at).cast()));
        let p = _mm256_loadu_si256(predicted.as_ptr().add(4 * at).cast());
        let size = _mm256_and_si256(p, magnitude);
        let place = look_up(join.places.wide.as_ptr().cast(), symbol);
        let start = look_up(join.places.starts.as_ptr().cast(), symbol);
        let escape = flag(place, ESCAPE);
        let bits = _mm256_and_si256(_mm256_srli_epi32::<16>(place), _mm256_set1_epi32(0xFF));
        let mut mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one);
        let mut patched = zero;
        if join.zeros {
            let none = _mm256_cmpeq_epi32(size, zero);
            let same = _mm256_cmpeq_epi32(symbol, zero);
            patched = _mm256_andnot_si256(_mm256_or_si256(same, escape), none);
            mask = _mm256_blendv_epi8(mask, zero_mask, patched);
        }
        let mut lanes = lanes64(mask);
        for lane in &mut lanes {
            let bits = bits_at(join.raw, *position);
            *position += lane.count_ones() as usize;
            *lane = _pdep_u64(bits, *lane);
        }
        let raw = _mm256_loadu_si256(lanes.as_ptr().cast());
        let sum = _mm256_add_epi32(start, raw);
        let negative = flag(place, NEGATIVE);
        let flip = flag(place, FLIP);
        let difference = _mm256_sub_epi32(_mm256_xor_si256(sum, negative), negative);
        let moved = _mm256_and_si256(_mm256_add_epi32(size, difference), magnitude);
        let sign = _mm256_andnot_si256(magnitude, _mm256_xor_si256(p, flip));
        let element = _mm256_blendv_epi8(_mm256_or_si256(moved, sign), raw, escape);
        _mm256_storeu_si256(out.as_mut_ptr().add(4 * at).cast(), element);
        let set = _mm256_movemask_ps(_mm256_castsi256_ps(patched)) as u32;
        put_patches(set, &lanes, at, out, patch);
    }
}
