//! Encoding with 128-bit vectors. The plain twin gives the same results.
//!
//! May use: `kernel`, `rans`. Must never read or write outside its slices: loads and stores go
//! through arrays and slices of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::kernel::Words;
use super::rans::LANES;

/// For each set of lanes: the lower halves of the lanes in order at the high end.
static COMPACT: [[u8; 8]; 16] = {
    let mut table = [[0xFF; 8]; 16];
    let mut set = 0;
    while set < 16 {
        let (mut lane, mut place) = (4, 8);
        while lane > 0 {
            lane -= 1;
            if set >> lane & 1 == 1 {
                place -= 2;
                table[set][place] = 4 * lane as u8;
                table[set][place + 1] = 4 * lane as u8 + 1;
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
    let (groups, _) = slots.as_chunks::<LANES>();
    let used = LANES * groups.len();
    // Each slot may push one word, and the last store is wider. Quotients are below 2^22.
    if words.start < 2 * used + 8 || !(10..=12).contains(&bits) {
        return 0;
    }
    for group in groups.iter().rev() {
        let (slots, _) = group.as_chunks::<4>();
        let (states, _) = states.as_chunks_mut::<4>();
        for (state, slots) in states.iter_mut().zip(slots).rev() {
            step(bits, state, slots, words);
        }
    }
    used
}

/// Codes four slots.
#[inline(always)]
fn step(bits: u32, state: &mut [u32; 4], slots: &[u32; 4], words: &mut Words) {
    let set;
    let room = &mut words.buffer[words.start - 8..words.start];
    // SAFETY: `state`, `slots` and `room` have what is loaded and stored; `COMPACT` has a row of
    // 8 bytes for each of the 16 sets.
    unsafe {
        let slot = vld1q_u32(slots.as_ptr());
        let x = vld1q_u32(state.as_ptr());
        let frequency = vandq_u32(slot, vdupq_n_u32(0xFFFF));
        let upper = vshlq_u32(x, vdupq_n_s32(bits as i32 - 32));
        let large = vcgeq_u32(upper, frequency);
        let lanes = vand_u16(vmovn_u32(large), vld1_u16([1, 2, 4, 8].as_ptr()));
        set = usize::from(vaddv_u16(lanes));
        let packed = vqtbl1_u8(vreinterpretq_u8_u32(x), vld1_u8(COMPACT[set].as_ptr()));
        vst1_u8(room.as_mut_ptr(), packed);
        let x = vbslq_u32(large, vshrq_n_u32::<16>(x), x);
        let next = next(bits, x, frequency, vshrq_n_u32::<16>(slot));
        vst1q_u32(state.as_mut_ptr(), next);
    }
    words.start -= 2 * set.count_ones() as usize;
}

/// `(x / f) << bits | x % f + start`, for `x < f * 2^(32 - bits)`.
#[inline(always)]
fn next(bits: u32, x: uint32x4_t, frequency: uint32x4_t, start: uint32x4_t) -> uint32x4_t {
    // SAFETY: only numbers in registers.
    unsafe {
        // The quotient is below 2^22, so with the roundings of both numbers and the division it is
        // off by at most one either way.
        let quotient = vdivq_f32(vcvtq_f32_u32(x), vcvtq_f32_u32(frequency));
        let quotient = vcvtq_u32_f32(quotient);
        let rest = vmlsq_u32(x, quotient, frequency);
        let below = vcltzq_s32(vreinterpretq_s32_u32(rest));
        // All bits set are one less than zero.
        let quotient = vaddq_u32(quotient, below);
        let rest = vaddq_u32(rest, vandq_u32(below, frequency));
        let beyond = vcgeq_u32(rest, frequency);
        let quotient = vsubq_u32(quotient, beyond);
        let rest = vsubq_u32(rest, vandq_u32(beyond, frequency));
        let upper = vshlq_u32(quotient, vdupq_n_s32(bits as i32));
        vaddq_u32(vaddq_u32(upper, rest), start)
    }
}
