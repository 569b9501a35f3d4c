//! Which tables elements are coded by, with 512-bit vectors. Every function has a plain twin that
//! gives the same results.
//!
//! May use: `kernel`, `operands`. Must never read or write outside its slices; each block of unsafe
//! code states why it does not.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::x86_64::*;

use super::kernel::is_wide;
use super::operands::{Map16, Map32, MapFine};

/// Elements of a step.
const STEP: usize = 32;

/// The tables of whole groups of 32 elements; gives how many elements.
pub(super) fn indexes16(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let len = scales.len().min(predicted.len() / 2).min(out.len()) / STEP * STEP;
    if !is_wide() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes16_steps(map, &scales[..len], predicted, out) };
    len
}

/// # Safety
/// The instructions of [`is_wide`]; a multiple of 32 scales, and at least as many of the rest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn indexes16_steps(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) {
    let magnitude = _mm512_set1_epi16(0x7FFF);
    let rule = Rule::new(map.low, map.mantissa);
    let zero = _mm256_set1_epi8(map.zero.unwrap_or(0) as i8);
    // SAFETY: `map.map` has 32 bytes; each step reads 32 scales and 64 bytes of elements and
    // writes 32 bytes at places below the number of scales.
    unsafe {
        let table = _mm256_loadu_si256(map.map.as_ptr().cast());
        for at in (0..scales.len()).step_by(STEP) {
            let p = _mm512_loadu_si512(predicted.as_ptr().add(2 * at).cast());
            let scale = _mm512_loadu_si512(scales.as_ptr().add(at).cast());
            let distance = rule.distance(scale, p);
            let context = _mm512_cvtepi16_epi8(distance);
            let mut index = _mm256_permutexvar_epi8(context, table);
            if map.zero.is_some() {
                let none = _mm512_testn_epi16_mask(p, magnitude);
                index = _mm256_mask_mov_epi8(index, none, zero);
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// How the distance of a 16-bit prediction from its expected change is counted.
struct Rule {
    low: __m512i,
    /// The exponent's bits, and how far they are shifted to count quarter octaves.
    exponent: __m512i,
    shift: __m128i,
}

impl Rule {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(low: i16, mantissa: i32) -> Self {
        Self {
            low: _mm512_set1_epi16(low),
            exponent: _mm512_set1_epi16(0x7FFF & (-1i16 << mantissa)),
            shift: _mm_cvtsi32_si128(mantissa - 2),
        }
    }

    /// Distances of 32 predictions in steps of contexts.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn distance(&self, scale: __m512i, p: __m512i) -> __m512i {
        let octaves = _mm512_srl_epi16(_mm512_and_si512(p, self.exponent), self.shift);
        let distance = _mm512_sub_epi16(_mm512_sub_epi16(scale, self.low), octaves);
        clamped(_mm512_srai_epi16::<1>(distance))
    }
}

/// Numbers of 16 bits from 0 to 31.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn clamped(distance: __m512i) -> __m512i {
    let least = _mm512_max_epi16(distance, _mm512_setzero_si512());
    _mm512_min_epi16(least, _mm512_set1_epi16(31))
}

/// The bytes of a table of 128 at 32 places, in 16 bits each.
///
/// # Safety
/// The instructions of [`is_wide`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi")]
unsafe fn of_128(table: &[u8; 128], places: __m512i) -> __m256i {
    // SAFETY: both loads lie in the 128 bytes.
    let [front, back] =
        [0, 64].map(|from| unsafe { _mm512_loadu_si512(table.as_ptr().add(from).cast()) });
    let places = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(places));
    _mm512_castsi512_si256(_mm512_permutex2var_epi8(front, places, back))
}

/// The tables of whole groups of 32 elements whose prediction has a fraction; gives how many
/// elements.
pub(super) fn indexes_fine(
    map: &MapFine,
    scales: &[i16],
    predicted: &[u8],
    fractions: &[i16],
    out: &mut [u8],
) -> usize {
    let len = scales.len().min(predicted.len() / 2).min(fractions.len());
    let len = len.min(out.len()) / STEP * STEP;
    if !is_wide() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes_fine_steps(map, &scales[..len], predicted, fractions, out) };
    len
}

/// # Safety
/// The instructions of [`is_wide`]; a multiple of 32 scales, and at least as many of the rest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn indexes_fine_steps(
    map: &MapFine,
    scales: &[i16],
    predicted: &[u8],
    fractions: &[i16],
    out: &mut [u8],
) {
    let magnitude = _mm512_set1_epi16(0x7FFF);
    let rule = Rule::new(map.low, map.mantissa);
    let most = _mm512_set1_epi16(3);
    let zero = _mm256_set1_epi8(map.zero.unwrap_or(0) as i8);
    // SAFETY: each step reads 32 scales, 64 bytes of elements and 32 fractions and writes 32 bytes
    // at places below the number of scales.
    unsafe {
        for at in (0..scales.len()).step_by(STEP) {
            let p = _mm512_loadu_si512(predicted.as_ptr().add(2 * at).cast());
            let scale = _mm512_loadu_si512(scales.as_ptr().add(at).cast());
            let fraction = _mm512_loadu_si512(fractions.as_ptr().add(at).cast());
            // The magnitude of the least fraction is 2^15, which is right where it is unsigned.
            let second = _mm512_srli_epi16::<13>(_mm512_abs_epi16(fraction));
            let second = _mm512_min_epi16(second, most);
            let distance = _mm512_slli_epi16::<2>(rule.distance(scale, p));
            let mut index = of_128(&map.map, _mm512_or_si512(distance, second));
            if map.zero.is_some() {
                let none = _mm512_testn_epi16_mask(p, magnitude);
                index = _mm256_mask_mov_epi8(index, none, zero);
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// The tables of whole groups of 32 elements of 32 bits; gives how many elements.
pub(super) fn indexes32(map: &Map32, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let len = scales.len().min(predicted.len() / 4).min(out.len()) / STEP * STEP;
    if !is_wide() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes32_steps(map, &scales[..len], predicted, out) };
    len
}

/// # Safety
/// The instructions of [`is_wide`]; a multiple of 32 scales, and at least as many of the rest.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn indexes32_steps(map: &Map32, scales: &[i16], predicted: &[u8], out: &mut [u8]) {
    let magnitude = _mm512_set1_epi32(0x7FFF_FFFF);
    let low = _mm512_set1_epi16(map.low as i16);
    let seconds = _mm512_set1_epi16(if map.mantissa { 3 } else { 0 });
    let ten = _mm512_set1_epi16(0x3FF);
    let zero = _mm256_set1_epi8(map.zero.unwrap_or(0) as i8);
    let odd: [i16; STEP] = std::array::from_fn(|n| 2 * n as i16 + 1);
    // SAFETY: `odd` has 64 bytes; each step reads 32 scales and 128 bytes of elements and writes
    // 32 bytes at places below the number of scales.
    unsafe {
        let odd = _mm512_loadu_si512(odd.as_ptr().cast());
        for at in (0..scales.len()).step_by(STEP) {
            let from = predicted.as_ptr().add(4 * at);
            let a = _mm512_loadu_si512(from.cast());
            let b = _mm512_loadu_si512(from.add(64).cast());
            // The exponent, and below it two bits of the mantissa.
            let upper = _mm512_srli_epi16::<5>(_mm512_permutex2var_epi16(a, odd, b));
            let upper = _mm512_and_si512(upper, ten);
            let scale = _mm512_loadu_si512(scales.as_ptr().add(at).cast());
            let scale = _mm512_srai_epi16::<2>(_mm512_sub_epi16(scale, low));
            let distance = clamped(_mm512_sub_epi16(scale, _mm512_srli_epi16::<2>(upper)));
            let second = _mm512_and_si512(upper, seconds);
            let context = _mm512_or_si512(_mm512_slli_epi16::<2>(distance), second);
            let mut index = of_128(&map.map, context);
            if map.zero.is_some() {
                let none = |p| u32::from(_mm512_testn_epi32_mask(p, magnitude));
                let none = none(a) | none(b) << 16;
                index = _mm256_mask_mov_epi8(index, none, zero);
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// The tables of whole groups of 32 elements without a prediction, and the floors of their scales;
/// gives how many elements.
pub(super) fn indexes_alone(
    map: &[u8; 32],
    scales: &[i16],
    out: &mut [u8],
    floors: &mut [i8],
) -> usize {
    let len = scales.len().min(out.len()).min(floors.len()) / STEP * STEP;
    if !is_wide() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes_alone_steps(map, &scales[..len], out, floors) };
    len
}

/// # Safety
/// The instructions of [`is_wide`]; a multiple of 32 scales, and room for as many results.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn indexes_alone_steps(map: &[u8; 32], scales: &[i16], out: &mut [u8], floors: &mut [i8]) {
    let whole = _mm256_set1_epi8(!3);
    // SAFETY: `map` has 32 bytes; each step reads 32 scales and writes 32 bytes twice, at places
    // below their number.
    unsafe {
        let table = _mm256_loadu_si256(map.as_ptr().cast());
        for at in (0..scales.len()).step_by(STEP) {
            let scale = _mm512_loadu_si512(scales.as_ptr().add(at).cast());
            let scale = _mm512_cvtsepi16_epi8(scale);
            let floor = _mm256_and_si256(scale, whole);
            _mm256_storeu_si256(floors.as_mut_ptr().add(at).cast(), floor);
            let near = _mm256_add_epi8(floor, _mm256_set1_epi8(16));
            let near = _mm256_max_epi8(near, _mm256_setzero_si256());
            let near = _mm256_min_epi8(near, _mm256_set1_epi8(28));
            let place = _mm256_or_si256(near, _mm256_andnot_si256(whole, scale));
            let index = _mm256_permutexvar_epi8(place, table);
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// Rounds whole groups of 32 predictions: the bits of elements, and what lies beyond.
pub(super) fn rounded16(patterns: &[u32], elements: &mut [u8], fractions: &mut [i16]) -> usize {
    let len = patterns.len().min(elements.len() / 2).min(fractions.len()) / STEP * STEP;
    if !is_wide() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { rounded16_steps(&patterns[..len], elements, fractions) };
    len
}

/// # Safety
/// The instructions of [`is_wide`]; a multiple of 32 patterns, and room for as many results.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn rounded16_steps(patterns: &[u32], elements: &mut [u8], fractions: &mut [i16]) {
    let magnitude = _mm512_set1_epi32(0x7FFF_FFFF);
    let half = _mm512_set1_epi32(0x8000);
    let most = _mm512_set1_epi32(0x7FFF_0000);
    // SAFETY: each step reads 16 patterns and writes 32 bytes of elements and 16 fractions at
    // places below the number of patterns.
    unsafe {
        for at in (0..patterns.len()).step_by(16) {
            let raw = _mm512_loadu_si512(patterns.as_ptr().add(at).cast());
            let up = _mm512_add_epi32(_mm512_and_si512(raw, magnitude), half);
            let whole = _mm512_min_epu32(up, most);
            // All bits but the sign of the rounded sum, and the sign.
            let element = _mm512_ternarylogic_epi32::<0xE4>(whole, raw, magnitude);
            let element = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(element));
            // Half less of 16 bits is the upper bit turned.
            let fraction = _mm512_cvtepi32_epi16(_mm512_xor_si512(up, half));
            _mm256_storeu_si256(elements.as_mut_ptr().add(2 * at).cast(), element);
            _mm256_storeu_si256(fractions.as_mut_ptr().add(at).cast(), fraction);
        }
    }
}
