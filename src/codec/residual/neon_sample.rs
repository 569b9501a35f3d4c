//! 16-bit elements as numbers for the first pass, with 128-bit vectors. Every function has a plain
//! twin that gives the same results.
//!
//! May use: `kernel`, `sample`. Must never read or write outside its slices: loads and stores go
//! through arrays of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::sample::Weigh;

/// Whole groups of 8 elements as numbers.
pub(super) fn values16(bytes: &[u8], shift: u32, scale: f32, out: &mut [f32]) -> usize {
    let (bytes, _) = bytes.as_chunks::<16>();
    let (out, _) = out.as_chunks_mut::<8>();
    let groups = bytes.len().min(out.len());
    for (bytes, out) in bytes.iter().zip(out) {
        // SAFETY: a store of an array of its length.
        unsafe { vst1q_f32_x2(out.as_mut_ptr(), values(bytes, shift, scale)) };
    }
    8 * groups
}

/// Changes and weights of every so-manieth whole group of 16.
pub(super) fn weigh16(
    rule: &Weigh,
    target: &[u8],
    predicted: &[u8],
    changes: &mut [f32],
    weights: &mut [f32],
) -> usize {
    let (target, _) = target.as_chunks::<32>();
    let (predicted, _) = predicted.as_chunks::<32>();
    let (changes, _) = changes.as_chunks_mut::<16>();
    let (weights, _) = weights.as_chunks_mut::<16>();
    let groups = target.iter().zip(predicted).step_by(rule.every);
    let count = groups.len();
    if count > changes.len().min(weights.len()) {
        return 0;
    }
    for ((target, predicted), (changes, weights)) in groups.zip(changes.iter_mut().zip(weights)) {
        let halves = target
            .as_chunks::<16>()
            .0
            .iter()
            .zip(predicted.as_chunks::<16>().0);
        let places = changes.as_chunks_mut::<8>().0.iter_mut();
        let places = places.zip(weights.as_chunks_mut::<8>().0);
        for ((target, predicted), (changes, weights)) in halves.zip(places) {
            let target = values(target, rule.shift, rule.scale);
            let predicted = values(predicted, rule.shift, rule.scale);
            let (change_a, weight_a) = weighed(rule, target.0, predicted.0);
            let (change_b, weight_b) = weighed(rule, target.1, predicted.1);
            // SAFETY: stores of arrays of their length.
            unsafe {
                vst1q_f32_x2(changes.as_mut_ptr(), float32x4x2_t(change_a, change_b));
                vst1q_f32_x2(weights.as_mut_ptr(), float32x4x2_t(weight_a, weight_b));
            }
        }
    }
    16 * count
}

/// Eight elements as numbers.
#[inline(always)]
fn values(bytes: &[u8; 16], shift: u32, scale: f32) -> float32x4x2_t {
    // SAFETY: a load of an array of its length.
    unsafe {
        let bits = vreinterpretq_u16_u8(vld1q_u8(bytes.as_ptr()));
        let value = |bits: uint16x4_t| {
            let bits = vmovl_u16(bits);
            let size = vandq_u32(bits, vdupq_n_u32(0x7FFF));
            let size = vshlq_u32(size, vdupq_n_s32(shift as i32));
            let sign = vshlq_n_u32::<16>(bits);
            let both = vbslq_u32(vdupq_n_u32(1 << 31), sign, size);
            vmulq_n_f32(vreinterpretq_f32_u32(both), scale)
        };
        float32x4x2_t(value(vget_low_u16(bits)), value(vget_high_u16(bits)))
    }
}

/// How four elements change, and what that weighs.
#[inline(always)]
fn weighed(
    rule: &Weigh,
    target: float32x4_t,
    predicted: float32x4_t,
) -> (float32x4_t, float32x4_t) {
    // SAFETY: only numbers in registers.
    unsafe {
        let distance = vabsq_f32(vsubq_f32(target, predicted));
        let is_finite = vcltq_f32(distance, vdupq_n_f32(f32::INFINITY));
        let (size, least) = (vabsq_f32(predicted), vdupq_n_f32(rule.least));
        // The least also where the size is no number.
        let size = vbslq_f32(vcgtq_f32(size, least), size, least);
        let weight = vreinterpretq_u32_f32(vdivq_f32(vdupq_n_f32(1.0), size));
        let change = vreinterpretq_u32_f32(distance);
        (
            vreinterpretq_f32_u32(vandq_u32(change, is_finite)),
            vreinterpretq_f32_u32(vandq_u32(weight, is_finite)),
        )
    }
}
