//! Taking elements apart with 128-bit vectors. The plain twin gives the same results.
//!
//! May use: `bits`, `kernel`, `operands`, `neon_bits`. Must never read or write outside its slices:
//! loads and stores go through arrays of their length. Elements of 16 bits are taken apart as
//! patterns of 32: the sign in the top bit, the magnitude in the low ones.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::bits::BitWriter;
use super::kernel::Coded;
use super::neon_bits::put4;
use super::operands::Split;

/// Sizes below this are their own ranks; hot differences are none of them.
const DIRECT: u32 = 8;

/// Takes groups of 4 elements of 16 bits apart.
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
    let (predicted, _) = predicted.as_chunks::<8>();
    let (target, _) = target.as_chunks::<8>();
    let fractions = fractions.map(|fractions| fractions.as_chunks::<4>().0);
    let mut groups = predicted.len().min(target.len());
    if let Some(fractions) = fractions {
        groups = groups.min(fractions.len());
    }
    let symbols = |at: usize| {
        let (p, t) = (pattern16(&predicted[at]), pattern16(&target[at]));
        symbols_of(split, p, t, fractions.map(|fractions| &fractions[at]))
    };
    split_by(split, groups, symbols, indexes, slots, raw, patch)
}

/// Takes groups of 4 elements of 32 bits apart.
pub(super) fn split32(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) -> usize {
    let (predicted, _) = predicted.as_chunks::<16>();
    let (target, _) = target.as_chunks::<16>();
    let groups = predicted.len().min(target.len());
    let symbols = |at: usize| {
        let (p, t) = (pattern32(&predicted[at]), pattern32(&target[at]));
        symbols_of(split, p, t, None)
    };
    split_by(split, groups, symbols, indexes, slots, raw, patch)
}

/// The patterns of four elements of 16 bits.
#[inline(always)]
fn pattern16(elements: &[u8; 8]) -> uint32x4_t {
    // SAFETY: a load of an array of its length.
    unsafe {
        let bits = vmovl_u16(vreinterpret_u16_u8(vld1_u8(elements.as_ptr())));
        let sign = vshlq_n_u32::<16>(bits);
        vbslq_u32(
            vdupq_n_u32(0x7FFF_FFFF),
            vandq_u32(bits, vdupq_n_u32(0x7FFF)),
            sign,
        )
    }
}

/// The patterns of four elements of 32 bits.
#[inline(always)]
fn pattern32(elements: &[u8; 16]) -> uint32x4_t {
    // SAFETY: a load of an array of its length.
    unsafe { vreinterpretq_u32_u8(vld1q_u8(elements.as_ptr())) }
}

/// The symbols of four elements.
struct Symbols {
    symbols: [u32; 4],
    /// All bits set where the symbol has no meaning.
    special: [u32; 4],
    /// The low bits of the sizes are the raw bits, so many.
    sizes: [u32; 4],
    counts: [u32; 4],
}

/// Slots and raw bits of groups whose symbols `symbols` finds; gives how many elements.
#[inline(always)]
fn split_by(
    split: &Split,
    groups: usize,
    symbols: impl Fn(usize) -> Symbols,
    indexes: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) -> usize {
    let (indexes, _) = indexes.as_chunks::<4>();
    let (slots, _) = slots.as_chunks_mut::<4>();
    let groups = groups.min(indexes.len()).min(slots.len());
    for (at, (slots, indexes)) in slots.iter_mut().zip(indexes).take(groups).enumerate() {
        let mut found = symbols(at);
        for (lane, slot) in slots.iter_mut().enumerate() {
            *slot = 0;
            if found.special[lane] == 0 {
                *slot = split.tables.slot(indexes[lane], found.symbols[lane] as u8);
            }
            if *slot == 0 {
                let coded = patch(4 * at + lane);
                *slot = coded.slot;
                found.sizes[lane] = coded.raw;
                found.counts[lane] = coded.count;
            }
        }
        // Who counts wants no raw bits.
        if found.counts != [0; 4] && !split.tables.is_counting() {
            // SAFETY: loads of arrays of their length.
            unsafe {
                let sizes = vld1q_u32(found.sizes.as_ptr());
                put4(raw, sizes, vld1q_u32(found.counts.as_ptr()));
            }
        }
    }
    4 * groups
}

/// The symbols of four patterns `t` where `p` is predicted.
#[inline(always)]
fn symbols_of(split: &Split, p: uint32x4_t, t: uint32x4_t, fraction: Option<&[i16; 4]>) -> Symbols {
    let mut found = Symbols {
        symbols: [0; 4],
        special: [0; 4],
        sizes: [0; 4],
        counts: [0; 4],
    };
    // SAFETY: loads and stores of arrays of their length.
    unsafe {
        let magnitude = vdupq_n_u32(0x7FFF_FFFF);
        let zero = vdupq_n_u32(0);
        let size = vandq_u32(p, magnitude);
        let other = vreinterpretq_s32_u32(veorq_u32(p, t));
        let mut special = vcltzq_s32(other);
        if split.zeros {
            let none = vceqq_u32(size, zero);
            special = vorrq_u32(special, vbicq_u32(none, vceqq_u32(p, t)));
        }
        let moved = vandq_u32(t, magnitude);
        let mut difference = vreinterpretq_s32_u32(vsubq_u32(moved, size));
        if let Some(fraction) = fraction {
            let below = vcltzq_s32(vmovl_s16(vld1_s16(fraction.as_ptr())));
            difference = vbslq_s32(below, vnegq_s32(difference), difference);
        }
        let away = vreinterpretq_u32_s32(vabsq_s32(difference));
        // All bits set are one less than zero.
        let positive = vcgtzq_s32(difference);
        let (mut rank, mut counts) = (away, zero);
        let mut hot = zero;
        if vmaxvq_u32(away) >= DIRECT {
            (rank, counts) = ranks(away, split.number.mantissa);
            hot = hot_symbols(split, difference, away);
        }
        let is_hot = vtstq_u32(hot, hot);
        let beyond = vcgtq_u32(rank, vdupq_n_u32(split.moves));
        let special = vorrq_u32(special, vbicq_u32(beyond, is_hot));
        let symbols = vaddq_u32(vaddq_u32(rank, rank), positive);
        let symbols = vbslq_u32(is_hot, hot, symbols);
        vst1q_u32(found.symbols.as_mut_ptr(), symbols);
        vst1q_u32(found.special.as_mut_ptr(), special);
        vst1q_u32(found.sizes.as_mut_ptr(), away);
        vst1q_u32(found.counts.as_mut_ptr(), vbicq_u32(counts, is_hot));
    }
    found
}

/// The ranks of four sizes and the numbers of their raw bits.
#[inline(always)]
fn ranks(size: uint32x4_t, mantissa: u32) -> (uint32x4_t, uint32x4_t) {
    // SAFETY: only numbers in registers.
    unsafe {
        let steps = vdupq_n_u32(mantissa - 1);
        // Two ranges an octave, then equal ones.
        let octave = vsubq_u32(vdupq_n_u32(31), vclzq_u32(size));
        let is_linear = vcgeq_u32(octave, steps);
        let counts = vbslq_u32(is_linear, steps, vsubq_u32(octave, vdupq_n_u32(1)));
        let is_direct = vcltq_u32(size, vdupq_n_u32(DIRECT));
        let counts = vbicq_u32(counts, is_direct);
        let range = vshlq_u32(size, vnegq_s32(vreinterpretq_s32_u32(counts)));
        let before = vaddq_u32(vaddq_u32(counts, counts), vdupq_n_u32(2));
        // All bits set are one less than zero.
        let before = vbicq_u32(vaddq_u32(before, is_linear), is_direct);
        (vaddq_u32(range, before), counts)
    }
}

/// The symbols of hot differences, 0 of others.
#[inline(always)]
fn hot_symbols(split: &Split, difference: int32x4_t, away: uint32x4_t) -> uint32x4_t {
    // SAFETY: only numbers in registers.
    unsafe {
        let mut found = vdupq_n_u32(0);
        let mut left = vcgeq_u32(away, vdupq_n_u32(DIRECT));
        // The hottest come first; no more are looked at than some element needs.
        for (&hot, symbol) in split.hot.iter().zip(split.first_hot..) {
            let hit = vandq_u32(vceqq_s32(difference, vdupq_n_s32(hot)), left);
            found = vbslq_u32(hit, vdupq_n_u32(symbol), found);
            left = vbicq_u32(left, hit);
            if vmaxvq_u32(left) == 0 {
                break;
            }
        }
        found
    }
}
