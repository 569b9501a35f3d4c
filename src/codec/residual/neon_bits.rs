//! Raw bits of several elements at once, in 128-bit vectors. The plain twins are the reader and
//! the writer of one element's bits.
//!
//! May use: `bits`. Must never read outside its slices, whatever the counts say: loads go through
//! arrays and slices of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::bits::{BitReader, BitWriter};

/// The most bits of an element that [`take8`] takes at once: two bytes hold them wherever they
/// begin in the first.
const MOST8: u16 = 9;

/// The same for [`take4`] and four bytes.
const MOST4: u32 = 25;

/// The next bits of 8 elements, as many of each as its count says; at most 16.
#[inline(always)]
pub(super) fn take8(bits: &mut BitReader, counts: uint16x8_t) -> uint16x8_t {
    // SAFETY: only numbers in registers, and a load of an array of 16 bytes; a place beyond those
    // of `bytes` gives 0.
    unsafe {
        let near = next_bytes(bits).filter(|_| vmaxvq_u16(counts) <= MOST8);
        let Some(bytes) = near else {
            let mut lanes = [0; 8];
            vst1q_u16(lanes.as_mut_ptr(), counts);
            let taken = lanes.map(|count| bits.take(u32::from(count)) as u16);
            return vld1q_u16(taken.as_ptr());
        };
        // Where each ends: sums over one, two, four and all before it.
        let zero = vdupq_n_u16(0);
        let ends = vaddq_u16(counts, vextq_u16::<7>(zero, counts));
        let ends = vaddq_u16(ends, vextq_u16::<6>(zero, ends));
        let ends = vaddq_u16(ends, vextq_u16::<4>(zero, ends));
        let first = vdupq_n_u16((bits.position % 8) as u16);
        let starts = vaddq_u16(vsubq_u16(ends, counts), first);
        // The byte in which each starts, and the next.
        let place = vmulq_n_u16(vshrq_n_u16::<3>(starts), 0x0101);
        let place = vaddq_u16(place, vdupq_n_u16(0x0100));
        let words = vqtbl1q_u8(vld1q_u8(bytes.as_ptr()), vreinterpretq_u8_u16(place));
        let down = vandq_u16(starts, vdupq_n_u16(7));
        let down = vnegq_s16(vreinterpretq_s16_u16(down));
        let words = vshlq_u16(vreinterpretq_u16_u8(words), down);
        bits.position += usize::from(vgetq_lane_u16::<7>(ends));
        below8(words, counts)
    }
}

/// The next bits of 4 elements, as many of each as its count says; at most 32.
#[inline(always)]
pub(super) fn take4(bits: &mut BitReader, counts: uint32x4_t) -> uint32x4_t {
    // SAFETY: as in `take8`.
    unsafe {
        let near = next_bytes(bits).filter(|_| vmaxvq_u32(counts) <= MOST4);
        let Some(bytes) = near else {
            let mut lanes = [0; 4];
            vst1q_u32(lanes.as_mut_ptr(), counts);
            let taken = lanes.map(|count| bits.take(count) as u32);
            return vld1q_u32(taken.as_ptr());
        };
        let zero = vdupq_n_u32(0);
        let ends = vaddq_u32(counts, vextq_u32::<3>(zero, counts));
        let ends = vaddq_u32(ends, vextq_u32::<2>(zero, ends));
        let first = vdupq_n_u32((bits.position % 8) as u32);
        let starts = vaddq_u32(vsubq_u32(ends, counts), first);
        let place = vmulq_n_u32(vshrq_n_u32::<3>(starts), 0x0101_0101);
        let place = vaddq_u32(place, vdupq_n_u32(0x0302_0100));
        let words = vqtbl1q_u8(vld1q_u8(bytes.as_ptr()), vreinterpretq_u8_u32(place));
        let down = vandq_u32(starts, vdupq_n_u32(7));
        let down = vnegq_s32(vreinterpretq_s32_u32(down));
        let words = vshlq_u32(vreinterpretq_u32_u8(words), down);
        bits.position += vgetq_lane_u32::<3>(ends) as usize;
        below4(words, counts)
    }
}

/// The bytes from that of the next bit on, where so many are left.
fn next_bytes<'a>(bits: &BitReader<'a>) -> Option<&'a [u8; 16]> {
    bits.bytes().get(bits.position / 8..)?.first_chunk()
}

/// Appends the low bits of 8 elements, as many of each as its count says; at most 16.
#[inline(always)]
pub(super) fn put8(raw: &mut BitWriter, values: uint16x8_t, counts: uint16x8_t) {
    // SAFETY: only numbers in registers.
    unsafe {
        let values = vreinterpretq_u32_u16(below8(values, counts));
        let first = vandq_u32(vreinterpretq_u32_u16(counts), vdupq_n_u32(0xFFFF));
        let low = vandq_u32(values, vdupq_n_u32(0xFFFF));
        let high = vshlq_u32(vshrq_n_u32::<16>(values), vreinterpretq_s32_u32(first));
        put4(raw, vorrq_u32(low, high), vpaddlq_u16(counts));
    }
}

/// Appends the low bits of 4 elements, as many of each as its count says; at most 32.
#[inline(always)]
pub(super) fn put4(raw: &mut BitWriter, values: uint32x4_t, counts: uint32x4_t) {
    let (two, lengths);
    // SAFETY: only numbers in registers.
    unsafe {
        let values = vreinterpretq_u64_u32(below4(values, counts));
        let first = vandq_u64(vreinterpretq_u64_u32(counts), vdupq_n_u64(0xFFFF_FFFF));
        let low = vandq_u64(values, vdupq_n_u64(0xFFFF_FFFF));
        let high = vshlq_u64(vshrq_n_u64::<32>(values), vreinterpretq_s64_u64(first));
        let pairs = vorrq_u64(low, high);
        let sums = vpaddlq_u32(counts);
        two = [vgetq_lane_u64::<0>(pairs), vgetq_lane_u64::<1>(pairs)];
        lengths = [vgetq_lane_u64::<0>(sums), vgetq_lane_u64::<1>(sums)].map(|n| n as u32);
    }
    if lengths[0] + lengths[1] <= 56 {
        raw.put(two[0] | two[1] << lengths[0], lengths[0] + lengths[1]);
        return;
    }
    for (value, length) in two.into_iter().zip(lengths) {
        let first = length.min(32);
        raw.put(value, first);
        raw.put(value >> 32, length - first);
    }
}

/// The low bits of each lane, as many as its count says.
#[inline(always)]
fn below8(values: uint16x8_t, counts: uint16x8_t) -> uint16x8_t {
    // SAFETY: only numbers in registers.
    unsafe {
        let above = vshlq_u16(vdupq_n_u16(u16::MAX), vreinterpretq_s16_u16(counts));
        vbicq_u16(values, above)
    }
}

/// As [`below8`].
#[inline(always)]
fn below4(values: uint32x4_t, counts: uint32x4_t) -> uint32x4_t {
    // SAFETY: only numbers in registers.
    unsafe {
        let above = vshlq_u32(vdupq_n_u32(u32::MAX), vreinterpretq_s32_u32(counts));
        vbicq_u32(values, above)
    }
}
