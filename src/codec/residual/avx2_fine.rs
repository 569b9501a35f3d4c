//! Predictions of 16-bit elements that have a fraction, with 256-bit vectors. Every function has a
//! plain twin that gives the same results.
//!
//! May use: `avx2_encode`, `kernel`, `operands`. Must never read or write outside its slices; each
//! block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::x86_64::*;

use super::avx2_encode::SWAP_MIDDLE;
use super::kernel::is_available;
use super::operands::MapFine;

/// Rounds whole groups of 16 predictions: the bits of elements, and what lies beyond.
pub(super) fn rounded16(patterns: &[u32], elements: &mut [u8], fractions: &mut [i16]) -> usize {
    let len = patterns.len().min(elements.len() / 2).min(fractions.len()) / 16 * 16;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe {
        rounded16_steps(
            &patterns[..len],
            &mut elements[..2 * len],
            &mut fractions[..len],
        );
    }
    len
}

/// # Safety
/// The instructions of [`is_available`]; slices of equal length in elements, a multiple of 16.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn rounded16_steps(patterns: &[u32], elements: &mut [u8], fractions: &mut [i16]) {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    let half = _mm256_set1_epi32(0x8000);
    let low = _mm256_set1_epi32(0xFFFF);
    let most = _mm256_set1_epi32(0x7FFF);
    let parts = |raw: __m256i| {
        let up = _mm256_add_epi32(_mm256_and_si256(raw, magnitude), half);
        let whole = _mm256_min_epu32(_mm256_srli_epi32::<16>(up), most);
        let sign = _mm256_srli_epi32::<16>(_mm256_andnot_si256(magnitude, raw));
        // Half less of 16 bits is the upper bit turned.
        let fraction = _mm256_and_si256(_mm256_xor_si256(up, half), low);
        (_mm256_or_si256(sign, whole), fraction)
    };
    // Both hold 16 bits a lane, so nothing saturates.
    let narrow = |a, b| _mm256_permute4x64_epi64::<SWAP_MIDDLE>(_mm256_packus_epi32(a, b));
    // SAFETY: each step reads 16 patterns and writes 32 bytes of elements and 16 fractions at
    // places below the common length.
    unsafe {
        for at in (0..patterns.len()).step_by(16) {
            let from = patterns.as_ptr().add(at);
            let (element_a, fraction_a) = parts(_mm256_loadu_si256(from.cast()));
            let (element_b, fraction_b) = parts(_mm256_loadu_si256(from.add(8).cast()));
            _mm256_storeu_si256(
                elements.as_mut_ptr().add(2 * at).cast(),
                narrow(element_a, element_b),
            );
            _mm256_storeu_si256(
                fractions.as_mut_ptr().add(at).cast(),
                narrow(fraction_a, fraction_b),
            );
        }
    }
}

/// The tables of whole groups of 32 elements; gives how many elements.
pub(super) fn indexes_fine(
    map: &MapFine,
    scales: &[i16],
    predicted: &[u8],
    fractions: &[i16],
    out: &mut [u8],
) -> usize {
    let len = scales.len().min(predicted.len() / 2).min(fractions.len());
    let len = len.min(out.len()) / 32 * 32;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe {
        indexes_fine_steps(
            map,
            &scales[..len],
            &predicted[..2 * len],
            &fractions[..len],
            &mut out[..len],
        );
    }
    len
}

/// The tables of 128 contexts, laid out for shuffles.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn by_sixteen(map: &[u8; 128]) -> [__m256i; 8] {
    let mut tables = [_mm256_setzero_si256(); 8];
    for (table, map) in tables.iter_mut().zip(map.as_chunks::<16>().0) {
        // SAFETY: `map` has 16 bytes.
        *table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(map.as_ptr().cast()) });
    }
    tables
}

/// The tables of 32 contexts, each below 128.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn table_of(tables: &[__m256i; 8], context: __m256i) -> __m256i {
    let mut found = _mm256_setzero_si256();
    for (n, &table) in tables.iter().enumerate() {
        // Places below 16 keep their upper bit clear, all others set it: those give 0.
        let place = _mm256_sub_epi8(context, _mm256_set1_epi8(16 * n as i8));
        let place = _mm256_adds_epu8(place, _mm256_set1_epi8(0x70));
        found = _mm256_or_si256(found, _mm256_shuffle_epi8(table, place));
    }
    found
}

/// # Safety
/// The instructions of [`is_available`]; slices of equal length in elements, a multiple of 32.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn indexes_fine_steps(
    map: &MapFine,
    scales: &[i16],
    predicted: &[u8],
    fractions: &[i16],
    out: &mut [u8],
) {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let low = _mm256_set1_epi16(map.low);
    let shift = _mm_cvtsi32_si128(map.mantissa);
    let nothing = _mm256_setzero_si256();
    let (last, most) = (_mm256_set1_epi16(31), _mm256_set1_epi16(3));
    let tables = by_sixteen(&map.map);
    // SAFETY: each step reads 32 scales, 64 bytes of elements and 32
    // fractions and writes 32 bytes at places below the common length.
    unsafe {
        let context = |at: usize| {
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let p = _mm256_and_si256(p, magnitude);
            let scale = _mm256_loadu_si256(scales.as_ptr().add(at).cast());
            let fraction = _mm256_loadu_si256(fractions.as_ptr().add(at).cast());
            let exponent = _mm256_slli_epi16::<2>(_mm256_srl_epi16(p, shift));
            let distance = _mm256_sub_epi16(_mm256_sub_epi16(scale, exponent), low);
            let distance = _mm256_srai_epi16::<1>(distance);
            let distance = _mm256_min_epi16(_mm256_max_epi16(distance, nothing), last);
            // The magnitude of the least fraction is 2^15, which is right where it is unsigned.
            let second = _mm256_srli_epi16::<13>(_mm256_abs_epi16(fraction));
            let second = _mm256_min_epi16(second, most);
            let context = _mm256_or_si256(_mm256_slli_epi16::<2>(distance), second);
            (context, _mm256_cmpeq_epi16(p, nothing))
        };
        for at in (0..out.len()).step_by(32) {
            let ((context_a, none_a), (context_b, none_b)) = (context(at), context(at + 16));
            let context = _mm256_packus_epi16(context_a, context_b);
            let context = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(context);
            let mut index = table_of(&tables, context);
            if let Some(zero) = map.zero {
                let none = _mm256_packs_epi16(none_a, none_b);
                let none = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(none);
                index = _mm256_blendv_epi8(index, _mm256_set1_epi8(zero as i8), none);
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}
