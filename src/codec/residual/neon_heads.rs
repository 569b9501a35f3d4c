//! 16-bit heads without a prediction, with 128-bit vectors. Every function has a plain twin that
//! gives the same results.
//!
//! May use: `bits`, `operands`, `neon_bits`. Must never read or write outside its slices, whatever
//! the coded bytes say: loads and stores go through arrays of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::bits::{BitReader, BitWriter};
use super::neon_bits::{put8, take8};
use super::operands::Heads;

/// The symbol of a head that follows raw.
const ESCAPE: u8 = u8::MAX;

/// The tables of whole groups of 8 elements, and the floors of their scales; gives how many
/// elements.
pub(super) fn indexes_alone(
    map: &[u8; 32],
    scales: &[i16],
    out: &mut [u8],
    floors: &mut [i8],
) -> usize {
    let (scales, _) = scales.as_chunks::<8>();
    let (out, _) = out.as_chunks_mut::<8>();
    let (floors, _) = floors.as_chunks_mut::<8>();
    let groups = scales.len().min(out.len()).min(floors.len());
    // SAFETY: every load and store is of an array of its length.
    unsafe {
        let tables = vld1q_u8_x2(map.as_ptr());
        let whole = vdup_n_s8(!3);
        for ((scales, out), floors) in scales.iter().zip(out).zip(floors) {
            let scale = vqmovn_s16(vld1q_s16(scales.as_ptr()));
            let floor = vand_s8(scale, whole);
            vst1_s8(floors.as_mut_ptr(), floor);
            let near = vqadd_s8(floor, vdup_n_s8(16));
            let near = vmin_s8(vmax_s8(near, vdup_n_s8(0)), vdup_n_s8(28));
            let place = vorr_s8(near, vbic_s8(scale, whole));
            vst1_u8(
                out.as_mut_ptr(),
                vqtbl2_u8(tables, vreinterpret_u8_s8(place)),
            );
        }
    }
    8 * groups
}

/// The place of the first symbol of 8 heads as an upper part: a quarter octave is one.
#[inline(always)]
fn firsts(heads: &Heads, floors: &[i8; 8]) -> int16x8_t {
    // SAFETY: a load of an array of its length.
    unsafe { vaddw_s8(vdupq_n_s16(heads.lowest), vld1_s8(floors.as_ptr())) }
}

/// Symbols of groups of 8 heads as slots, and their raw bits; `escape` is told the escapes.
pub(super) fn split_heads(
    split: &Heads,
    indexes: &[u8],
    floors: &[i8],
    heads: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    escape: &mut dyn FnMut(usize),
) -> usize {
    let (indexes, _) = indexes.as_chunks::<8>();
    let (floors, _) = floors.as_chunks::<8>();
    let (heads, _) = heads.as_chunks::<16>();
    let (slots, _) = slots.as_chunks_mut::<8>();
    let groups = indexes.len().min(heads.len()).min(slots.len());
    let groups = groups.min(floors.len());
    for (at, slots) in slots.iter_mut().take(groups).enumerate() {
        let mut symbols = symbols_of(split, &floors[at], &heads[at]);
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
fn symbols_of(split: &Heads, floors: &[i8; 8], heads: &[u8; 16]) -> [u8; 8] {
    let mut symbols = [0; 8];
    // SAFETY: a load and a store of arrays of their length.
    unsafe {
        let head = vreinterpretq_u16_u8(vld1q_u8(heads.as_ptr()));
        let size = vandq_u16(head, vdupq_n_u16(0x7FFF));
        let upper = vshlq_u16(size, vdupq_n_s16(-(split.low as i16)));
        // What lies below the first wraps to large numbers, and those become the escape.
        let place = vsubq_u16(upper, vreinterpretq_u16_s16(firsts(split, floors)));
        let symbol = vqmovn_u16(vqaddq_u16(place, vdupq_n_u16(1)));
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
    floors: &[i8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let (symbols, _) = symbols.as_chunks::<8>();
    let (floors, _) = floors.as_chunks::<8>();
    let (out, _) = out.as_chunks_mut::<16>();
    let groups = symbols.len().min(floors.len()).min(out.len());
    let mut bits = BitReader::new(raw);
    bits.position = *position;
    for ((symbols, floors), out) in symbols.iter().zip(floors).zip(out) {
        // SAFETY: a load and a store of arrays of their length.
        unsafe {
            let counts = counts(join, symbols);
            let low = take8(&mut bits, counts);
            let symbol = vmovl_u8(vld1_u8(symbols.as_ptr()));
            // Symbol 1 is the first.
            let first = vsubq_s16(firsts(join, floors), vdupq_n_s16(1));
            let upper = vaddq_u16(symbol, vreinterpretq_u16_s16(first));
            let upper = vshlq_u16(upper, vdupq_n_s16(join.low as i16));
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
