//! 16-bit heads without a prediction, with 128-bit vectors. Every function has a plain twin that
//! gives the same results.
//!
//! May use: `bits`, `kernel`, `neon_bits`. Must never read or write outside its slices, whatever
//! the coded bytes say: loads and stores go through arrays of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::bits::{BitReader, BitWriter};
use super::kernel::Heads;
use super::neon_bits::{put8, take8};

/// The symbol of a head that follows raw.
const ESCAPE: u8 = u8::MAX;

/// Symbols of groups of 8 heads as slots, and their raw bits; `escape` is told the escapes.
pub(super) fn split_heads(
    split: &Heads,
    indexes: &[u8],
    heads: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    escape: &mut dyn FnMut(usize),
) -> usize {
    let (indexes, _) = indexes.as_chunks::<8>();
    let (heads, _) = heads.as_chunks::<16>();
    let (slots, _) = slots.as_chunks_mut::<8>();
    let groups = indexes.len().min(heads.len()).min(slots.len());
    for (at, slots) in slots.iter_mut().take(groups).enumerate() {
        let mut symbols = symbols_of(split, &heads[at]);
        for (lane, (slot, symbol)) in slots.iter_mut().zip(&mut symbols).enumerate() {
            *slot = split.tables.slot(indexes[at][lane], *symbol);
            if *slot == 0 {
                *symbol = ESCAPE;
                *slot = split.tables.slot(indexes[at][lane], *symbol);
            }
            if *symbol == ESCAPE {
                escape(8 * at + lane);
            }
        }
        // Who counts wants no raw bits.
        if split.tables.is_counting() {
            continue;
        }
        // SAFETY: a load of an array of 16 bytes.
        unsafe {
            let head = vreinterpretq_u16_u8(vld1q_u8(heads[at].as_ptr()));
            let up = vdupq_n_s16(split.low as i16);
            let below = vdupq_n_u16((1 << split.low) - 1);
            let sign = vshlq_u16(vshrq_n_u16::<15>(head), up);
            put8(raw, vbslq_u16(below, head, sign), counts(split, &symbols));
        }
    }
    8 * groups
}

/// The symbols of 8 heads.
fn symbols_of(split: &Heads, heads: &[u8; 16]) -> [u8; 8] {
    let mut symbols = [0; 8];
    // SAFETY: a load and a store of arrays of their length.
    unsafe {
        let head = vreinterpretq_u16_u8(vld1q_u8(heads.as_ptr()));
        let size = vandq_u16(head, vdupq_n_u16(0x7FFF));
        let upper = vshlq_u16(size, vdupq_n_s16(-(split.low as i16)));
        let lowest = vdupq_n_u16(split.lowest);
        // One more than fits becomes the escape; so does what lies below the lowest.
        let symbol = vqaddq_u16(vsubq_u16(upper, lowest), vdupq_n_u16(1));
        let symbol = vorrq_u16(symbol, vcltq_u16(upper, lowest));
        let symbol = vqmovn_u16(symbol);
        let some = vmovn_u16(vtstq_u16(head, head));
        vst1_u8(symbols.as_mut_ptr(), vand_u8(symbol, some));
    }
    symbols
}

/// Puts groups of 8 heads together, escapes as zeros; gives how many, and moves `position`, in
/// bits.
pub(super) fn join_heads(
    join: &Heads,
    symbols: &[u8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let (symbols, _) = symbols.as_chunks::<8>();
    let (out, _) = out.as_chunks_mut::<16>();
    let groups = symbols.len().min(out.len());
    let mut bits = BitReader::new(raw);
    bits.position = *position;
    for (symbols, out) in symbols.iter().zip(out) {
        // SAFETY: a load and a store of arrays of their length.
        unsafe {
            let counts = counts(join, symbols);
            let low = take8(&mut bits, counts);
            let symbol = vmovl_u8(vld1_u8(symbols.as_ptr()));
            let before = vdupq_n_u16(join.lowest.wrapping_sub(1));
            let upper = vshlq_u16(vaddq_u16(symbol, before), vdupq_n_s16(join.low as i16));
            let below = vdupq_n_u16((1 << join.low) - 1);
            let size = vbslq_u16(below, low, upper);
            // The sign lies above the low bits.
            let sign = vshlq_u16(low, vdupq_n_s16(15 - join.low as i16));
            let head = vbslq_u16(vdupq_n_u16(0x7FFF), size, sign);
            let head = vandq_u16(head, vtstq_u16(counts, counts));
            vst1q_u8(out.as_mut_ptr(), vreinterpretq_u8_u16(head));
        }
    }
    *position = bits.position;
    8 * groups
}

/// How many raw bits 8 heads have: none where they are zero or an escape.
#[inline(always)]
fn counts(heads: &Heads, symbols: &[u8; 8]) -> uint16x8_t {
    // SAFETY: a load of an array of its length.
    unsafe {
        // Zero and the escape are the last two once one is taken away.
        let place = vsub_u8(vld1_u8(symbols.as_ptr()), vdup_n_u8(1));
        let coded = vclt_u8(place, vdup_n_u8(ESCAPE - 1));
        vmovl_u8(vand_u8(coded, vdup_n_u8(heads.low as u8 + 1)))
    }
}
