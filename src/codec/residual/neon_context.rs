//! Rounded predictions and the tables that they lead to, with 128-bit vectors. Every function has a
//! plain twin that gives the same results.
//!
//! May use: `operands`. Must never read or write outside its slices: loads and stores go
//! through arrays of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::operands::{Map16, Map32, MapFine};

/// The tables of whole groups of 8 elements; gives how many elements.
pub(super) fn indexes16(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let (scales, _) = scales.as_chunks::<8>();
    let (predicted, _) = predicted.as_chunks::<16>();
    let (out, _) = out.as_chunks_mut::<8>();
    let groups = scales.len().min(predicted.len()).min(out.len());
    // SAFETY: every load and store is of an array of its length; `map.map` has 32 bytes.
    unsafe {
        let tables = vld1q_u8_x2(map.map.as_ptr());
        for (n, (scales, out)) in scales.iter().zip(out).take(groups).enumerate() {
            let size = size16(&predicted[n]);
            let distance = distance16(scales, size, map.mantissa, map.low);
            let index = vqtbl2_u8(tables, vqmovun_s16(distance));
            vst1_u8(out.as_mut_ptr(), or_zero(index, size, map.zero));
        }
    }
    8 * groups
}

/// The tables of whole groups of 8 elements; gives how many elements.
pub(super) fn indexes_fine(
    map: &MapFine,
    scales: &[i16],
    predicted: &[u8],
    fractions: &[i16],
    out: &mut [u8],
) -> usize {
    let (scales, _) = scales.as_chunks::<8>();
    let (predicted, _) = predicted.as_chunks::<16>();
    let (fractions, _) = fractions.as_chunks::<8>();
    let (out, _) = out.as_chunks_mut::<8>();
    let groups = scales.len().min(predicted.len()).min(fractions.len());
    let groups = groups.min(out.len());
    for (n, out) in out.iter_mut().take(groups).enumerate() {
        // SAFETY: every load and store is of an array of its length.
        unsafe {
            let size = size16(&predicted[n]);
            let distance = distance16(&scales[n], size, map.mantissa, map.low);
            // The magnitude of the least fraction is 2^15, which is right where it is unsigned.
            let fraction = vabsq_s16(vld1q_s16(fractions[n].as_ptr()));
            let second = vshrq_n_u16::<13>(vreinterpretq_u16_s16(fraction));
            let second = vminq_u16(second, vdupq_n_u16(3));
            let index = table_of(&map.map, distance, second);
            vst1_u8(out.as_mut_ptr(), or_zero(index, size, map.zero));
        }
    }
    8 * groups
}

/// The tables of whole groups of 8 elements; gives how many elements.
pub(super) fn indexes32(map: &Map32, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let (scales, _) = scales.as_chunks::<8>();
    let (predicted, _) = predicted.as_chunks::<32>();
    let (out, _) = out.as_chunks_mut::<8>();
    let groups = scales.len().min(predicted.len()).min(out.len());
    for (n, out) in out.iter_mut().take(groups).enumerate() {
        // SAFETY: every load and store is of an array of its length.
        unsafe {
            let both = vld1q_u8_x2(predicted[n].as_ptr());
            let size = |four| vandq_u32(vreinterpretq_u32_u8(four), vdupq_n_u32(0x7FFF_FFFF));
            let (a, b) = (size(both.0), size(both.1));
            // The exponent, and below it two bits of the mantissa.
            let upper = vcombine_u16(
                vmovn_u32(vshrq_n_u32::<21>(a)),
                vmovn_u32(vshrq_n_u32::<21>(b)),
            );
            let exponent = vreinterpretq_s16_u16(vshrq_n_u16::<2>(upper));
            let scale = vld1q_s16(scales[n].as_ptr());
            let scale = vqsubq_s16(scale, vdupq_n_s16(map.low as i16));
            let distance = clamped(vsubq_s16(vshrq_n_s16::<2>(scale), exponent));
            let seconds = if map.mantissa { 3 } else { 0 };
            let second = vandq_u16(upper, vdupq_n_u16(seconds));
            let index = table_of(&map.map, distance, second);
            // Not zero, narrowed, stays so.
            let some = |four| vmovn_u32(vtstq_u32(four, four));
            let some = vcombine_u16(some(a), some(b));
            vst1_u8(out.as_mut_ptr(), or_zero(index, some, map.zero));
        }
    }
    8 * groups
}

/// Rounds whole groups of 8 predictions: the bits of elements, and what lies beyond.
pub(super) fn rounded16(patterns: &[u32], elements: &mut [u8], fractions: &mut [i16]) -> usize {
    let (patterns, _) = patterns.as_chunks::<8>();
    let (elements, _) = elements.as_chunks_mut::<16>();
    let (fractions, _) = fractions.as_chunks_mut::<8>();
    let groups = patterns.len().min(elements.len()).min(fractions.len());
    for ((patterns, elements), fractions) in patterns.iter().zip(elements).zip(fractions) {
        // SAFETY: every load and store is of an array of its length.
        unsafe {
            let both = vld1q_u32_x2(patterns.as_ptr());
            let (whole_a, fraction_a) = rounded(both.0);
            let (whole_b, fraction_b) = rounded(both.1);
            let whole = vreinterpretq_u8_u16(vcombine_u16(whole_a, whole_b));
            let fraction = vreinterpretq_s16_u16(vcombine_u16(fraction_a, fraction_b));
            vst1q_u8(elements.as_mut_ptr(), whole);
            vst1q_s16(fractions.as_mut_ptr(), fraction);
        }
    }
    8 * groups
}

/// Four predictions rounded, and what lies beyond.
#[inline(always)]
fn rounded(pattern: uint32x4_t) -> (uint16x4_t, uint16x4_t) {
    // SAFETY: only numbers in registers.
    unsafe {
        let half = vdupq_n_u32(0x8000);
        let up = vaddq_u32(vandq_u32(pattern, vdupq_n_u32(0x7FFF_FFFF)), half);
        let whole = vminq_u32(vshrq_n_u32::<16>(up), vdupq_n_u32(0x7FFF));
        let sign = vandq_u32(vshrq_n_u32::<16>(pattern), half);
        // Half less of 16 bits is the upper bit turned.
        (
            vmovn_u32(vorrq_u32(whole, sign)),
            vmovn_u32(veorq_u32(up, half)),
        )
    }
}

/// The magnitudes of 8 elements.
#[inline(always)]
fn size16(elements: &[u8; 16]) -> uint16x8_t {
    // SAFETY: a load of an array of its length.
    unsafe {
        let elements = vreinterpretq_u16_u8(vld1q_u8(elements.as_ptr()));
        vandq_u16(elements, vdupq_n_u16(0x7FFF))
    }
}

/// The distances of 8 elements that are predicted to have these magnitudes.
#[inline(always)]
fn distance16(scales: &[i16; 8], size: uint16x8_t, mantissa: i32, low: i16) -> int16x8_t {
    // SAFETY: a load of an array of its length.
    unsafe {
        let exponent = vshlq_u16(size, vdupq_n_s16(-(mantissa as i16)));
        let exponent = vreinterpretq_s16_u16(vshlq_n_u16::<2>(exponent));
        // What saturates lies beyond the first or last context.
        let scale = vqsubq_s16(vld1q_s16(scales.as_ptr()), vdupq_n_s16(low));
        clamped(vshrq_n_s16::<1>(vqsubq_s16(scale, exponent)))
    }
}

/// Distances that have contexts.
#[inline(always)]
fn clamped(distance: int16x8_t) -> int16x8_t {
    // SAFETY: only numbers in registers.
    unsafe { vminq_s16(vmaxq_s16(distance, vdupq_n_s16(0)), vdupq_n_s16(31)) }
}

/// The tables of 8 contexts: of four kinds each distance.
#[inline(always)]
fn table_of(map: &[u8; 128], distance: int16x8_t, second: uint16x8_t) -> uint8x8_t {
    // SAFETY: two loads of 64 bytes each of 128.
    unsafe {
        let distance = vshlq_n_u16::<2>(vreinterpretq_u16_s16(distance));
        let context = vmovn_u16(vorrq_u16(distance, second));
        // A place beyond a half's 64 finds 0 in the first and leaves what is there in the second.
        let first = vqtbl4_u8(vld1q_u8_x4(map.as_ptr()), context);
        let rest = vsub_u8(context, vdup_n_u8(64));
        vqtbx4_u8(first, vld1q_u8_x4(map[64..].as_ptr()), rest)
    }
}

/// The table of predictions of zero where there is one and the number is zero, else `index`.
#[inline(always)]
fn or_zero(index: uint8x8_t, number: uint16x8_t, zero: Option<u8>) -> uint8x8_t {
    let Some(zero) = zero else { return index };
    // SAFETY: only numbers in registers.
    unsafe {
        let none = vmovn_u16(vceqq_u16(number, vdupq_n_u16(0)));
        vbsl_u8(none, vdup_n_u8(zero), index)
    }
}
