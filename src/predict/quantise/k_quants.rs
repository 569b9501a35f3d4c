//! The block types of ggml with a super-block of 256 elements: scales of scales.
//!
//! May use: `store_format`, `float`. Must never look further than one super-block.
//!
//! The rules are those of ggml's reference functions (`quantize_row_*_K_ref`, ggml-quants.c,
//! MIT licence), stated in the specification and written here anew. Sums run over rising
//! indices in binary32; a product of three is taken from left to right.

use super::super::float;
use super::blocks::{extreme, put_f16};
use super::lanes;

/// Below this largest magnitude a group counts as zero.
pub(super) const EPSILON: f32 = 1e-15;

/// Adding and taking away 1.5 * 2^23 leaves the nearest whole number, of two the even one, for
/// magnitudes below 2^22; larger ones are caught by the bounds.
pub(super) const ROUNDER: f32 = 12_582_912.0;

/// To the nearest whole number between two; NaN becomes `least`.
#[inline]
fn bounded(value: f32, least: f32, most: f32) -> f32 {
    ((value + ROUNDER) - ROUNDER).max(least).min(most)
}

/// A scale as it will be read: rounded to binary16.
fn stored(value: f32) -> f32 {
    float::from_f16(float::to_f16(value))
}

/// What the search for a scale and a minimum has to try.
pub(super) struct Search {
    pub(super) levels: f32,
    pub(super) from: f32,
    pub(super) step: f32,
    pub(super) steps: u8,
    pub(super) absolute: bool,
}

const SEARCH_2: Search = Search {
    levels: 3.0,
    from: -0.5,
    step: 0.1,
    steps: 15,
    absolute: true,
};
const SEARCH_4: Search = Search {
    levels: 15.0,
    from: -1.0,
    step: 0.1,
    steps: 20,
    absolute: false,
};
const SEARCH_5: Search = Search {
    levels: 31.0,
    from: -0.5,
    step: 0.1,
    steps: 15,
    absolute: false,
};

/// Every search with the length of its groups.
#[cfg(test)]
pub(super) const SEARCHES: [(&Search, usize); 3] =
    [(&SEARCH_2, 16), (&SEARCH_4, 32), (&SEARCH_5, 32)];

impl Search {
    fn error(&self, difference: f32) -> f32 {
        if self.absolute {
            difference.abs()
        } else {
            difference * difference
        }
    }

    #[inline]
    fn level(&self, x: f32) -> f32 {
        bounded(x, 0.0, self.levels)
    }

    /// The scale and the negated minimum for one group under which `scale * level + minimum`
    /// is nearest by weight; the levels of the best try are left in `levels`.
    pub(super) fn run(&self, x: &[f32], weights: &[f32], levels: &mut [u8]) -> (f32, f32) {
        let (mut min, mut max) = (x[0], x[0]);
        let (mut sum_w, mut sum_x) = (weights[0], weights[0] * x[0]);
        for (&v, &w) in x.iter().zip(weights).skip(1) {
            if v < min {
                min = v;
            }
            if v > max {
                max = v;
            }
            sum_w += w;
            sum_x += w * v;
        }
        if min > 0.0 {
            min = 0.0;
        }
        if max == min {
            levels.fill(0);
            return (0.0, -min);
        }
        let inverse = self.levels / (max - min);
        let mut scale = 1.0 / inverse;
        let mut best = 0.0;
        for ((&v, &w), level) in x.iter().zip(weights).zip(&mut *levels) {
            let l = self.level(inverse * (v - min));
            *level = l as u8;
            best += w * self.error(scale * l + min - v);
        }
        let mut tried = [0.0f32; 32];
        let tried = &mut tried[..x.len()];
        for step in 0..=self.steps {
            let inverse = (self.from + self.step * f32::from(step) + self.levels) / (max - min);
            let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
            for ((&v, &w), level) in x.iter().zip(weights).zip(&mut *tried) {
                let l = self.level(inverse * (v - min));
                *level = l;
                sum_l += w * l;
                sum_l2 += w * l * l;
                sum_xl += w * l * v;
            }
            let determinant = sum_w * sum_l2 - sum_l * sum_l;
            if determinant > 0.0 {
                let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
                let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
                if this_min > 0.0 {
                    this_min = 0.0;
                    this_scale = sum_xl / sum_l2;
                }
                let mut error = 0.0;
                for ((&v, &w), &l) in x.iter().zip(weights).zip(&*tried) {
                    error += w * self.error(this_scale * l + this_min - v);
                }
                if error < best {
                    for (to, &l) in levels.iter_mut().zip(&*tried) {
                        *to = l as u8;
                    }
                    (best, scale, min) = (error, this_scale, this_min);
                }
            }
        }
        (scale, -min)
    }
}

/// The larger of the positive values, 0 without any.
fn largest(values: &[f32]) -> f32 {
    let mut largest = 0.0;
    for &v in values {
        if v > largest {
            largest = v;
        }
    }
    largest
}

/// Levels of one group under its stored scale and minimum; untouched under a scale of 0.
fn requantise(x: &[f32], d: f32, min: f32, max: f32, levels: &mut [u8]) {
    if d == 0.0 {
        return;
    }
    for (to, &v) in levels.iter_mut().zip(x) {
        *to = bounded((v + min) / d, 0.0, max) as u8;
    }
}

/// Four rows of 32 levels of two bits share bytes.
fn pack_two_bits(levels: &[u8; 256], out: &mut [u8]) {
    for (half, out) in levels.chunks_exact(128).zip(out.chunks_exact_mut(32)) {
        for (l, to) in out.iter_mut().enumerate() {
            *to = half[l] | half[l + 32] << 2 | half[l + 64] << 4 | half[l + 96] << 6;
        }
    }
}

/// Q2_K: 16 bytes of scales and minima, 64 of levels, d, dmin.
pub(super) fn q2(x: &[f32], out: &mut [u8]) {
    let mut levels = [0u8; 256];
    let (mut scales, mut mins) = ([0.0; 16], [0.0; 16]);
    let weights: [f32; 256] = std::array::from_fn(|i| x[i].abs());
    for (half, levels) in levels.chunks_exact_mut(128).enumerate() {
        let span = half * 128..(half + 1) * 128;
        let (s, m) = lanes::search(&SEARCH_2, &x[span.clone()], &weights[span], levels);
        scales[half * 8..][..8].copy_from_slice(&s);
        mins[half * 8..][..8].copy_from_slice(&m);
    }
    let (max_scale, max_min) = (largest(&scales), largest(&mins));
    let nibble = |value: f32, max: f32| {
        if max > 0.0 {
            bounded(15.0 / max * value, 0.0, 15.0) as u8
        } else {
            0
        }
    };
    for j in 0..16 {
        out[j] = nibble(scales[j], max_scale) | nibble(mins[j], max_min) << 4;
    }
    let (d, dmin) = (max_scale / 15.0, max_min / 15.0);
    put_f16(&mut out[80..], if max_scale > 0.0 { d } else { 0.0 });
    put_f16(&mut out[82..], if max_min > 0.0 { dmin } else { 0.0 });
    let (d, dmin) = (stored(d), stored(dmin));
    for (j, (x, levels)) in x
        .chunks_exact(16)
        .zip(levels.chunks_exact_mut(16))
        .enumerate()
    {
        let (scale, min) = (f32::from(out[j] & 15), f32::from(out[j] >> 4));
        requantise(x, d * scale, dmin * min, 3.0, levels);
    }
    pack_two_bits(&levels, &mut out[16..80]);
}

/// The scale of a group of signed levels in `-max..max`, found by changing one level at a time
/// while it helps; the levels are left in `levels`.
fn refine(x: &[f32], max: f32, levels: &mut [i8]) -> f32 {
    let top = extreme(x);
    if top.abs() < EPSILON {
        levels.fill(0);
        return 0.0;
    }
    let bound = |value: f32| bounded(value, -max, max - 1.0);
    let inverse = -max / top;
    let (mut sum_lx, mut sum_l2) = (0.0f32, 0.0f32);
    for (&v, level) in x.iter().zip(&mut *levels) {
        let l = bound(inverse * v);
        *level = l as i8;
        let w = v * v;
        sum_lx += w * v * l;
        sum_l2 += w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (&v, level) in x.iter().zip(&mut *levels) {
            let w = v * v;
            let old = f32::from(*level);
            let mut lx = sum_lx - w * v * old;
            if lx > 0.0 {
                let mut l2 = sum_l2 - w * old * old;
                let new = bound(v * l2 / lx);
                if new != old {
                    lx += w * v * new;
                    l2 += w * new * new;
                    if l2 > 0.0 && lx * lx * sum_l2 > sum_lx * sum_lx * l2 {
                        *level = new as i8;
                        (sum_lx, sum_l2) = (lx, l2);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    for level in levels {
        *level += max as i8;
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// Q3_K: 32 bytes of third bits, 64 of two bits, 12 of scales, d.
pub(super) fn q3(x: &[f32], out: &mut [u8]) {
    let mut signed = [0i8; 256];
    let mut scales = [0.0; 16];
    for (j, (x, levels)) in x
        .chunks_exact(16)
        .zip(signed.chunks_exact_mut(16))
        .enumerate()
    {
        scales[j] = refine(x, 4.0, levels);
    }
    let mut levels = signed.map(i8::cast_unsigned);
    let max_scale = extreme(&scales);
    let mut sixes = [-32.0; 16];
    let mut d = 0.0;
    out[96..108].fill(0);
    if max_scale != 0.0 {
        let inverse = -32.0 / max_scale;
        d = 1.0 / inverse;
        for (j, &scale) in scales.iter().enumerate() {
            sixes[j] = bounded(inverse * scale, -32.0, 31.0);
            let l = (sixes[j] + 32.0) as u8;
            out[96 + j % 8] |= (l & 15) << (j / 8 * 4);
            out[104 + j % 4] |= (l >> 4) << (j / 4 * 2);
        }
    }
    put_f16(&mut out[108..], d);
    let d = stored(d);
    for (j, (x, levels)) in x
        .chunks_exact(16)
        .zip(levels.chunks_exact_mut(16))
        .enumerate()
    {
        let d = d * sixes[j];
        if d != 0.0 {
            for (to, &v) in levels.iter_mut().zip(x) {
                *to = (bounded(v / d, -4.0, 3.0) + 4.0) as u8;
            }
        }
    }
    out[..32].fill(0);
    for (j, level) in levels.iter_mut().enumerate() {
        if *level > 3 {
            out[j % 32] |= 1 << (j / 32);
            *level -= 4;
        }
    }
    pack_two_bits(&levels, &mut out[32..96]);
}

/// What Q4_K and Q5_K share: d, dmin, 12 bytes of scales and minima; returns the levels.
fn q4_or_5(x: &[f32], search: &Search, out: &mut [u8]) -> [u8; 256] {
    let mut levels = [0u8; 256];
    let mut weights = [0.0; 256];
    for (x, weights) in x.chunks_exact(32).zip(weights.chunks_exact_mut(32)) {
        let mut squares = 0.0f32;
        for v in x {
            squares += v * v;
        }
        let mean = (squares / 32.0).sqrt();
        for (w, v) in weights.iter_mut().zip(x) {
            *w = mean + v.abs();
        }
    }
    let (scales, mins) = lanes::search(search, x, &weights, &mut levels);
    let (max_scale, max_min) = (largest(&scales), largest(&mins));
    let six = |value: f32, max: f32| {
        let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
        bounded(inverse * value, 0.0, 63.0) as u8
    };
    let sixes: [(u8, u8); 8] =
        std::array::from_fn(|j| (six(scales[j], max_scale), six(mins[j], max_min)));
    for (j, &(scale, min)) in sixes.iter().enumerate() {
        if j < 4 {
            out[4 + j] = scale;
            out[8 + j] = min;
        } else {
            out[8 + j] = (scale & 15) | (min & 15) << 4;
            out[j] |= (scale >> 4) << 6;
            out[4 + j] |= (min >> 4) << 6;
        }
    }
    put_f16(out, max_scale / 63.0);
    put_f16(&mut out[2..], max_min / 63.0);
    let (d, dmin) = (stored(max_scale / 63.0), stored(max_min / 63.0));
    for (j, (x, levels)) in x
        .chunks_exact(32)
        .zip(levels.chunks_exact_mut(32))
        .enumerate()
    {
        let (scale, min) = sixes[j];
        requantise(
            x,
            d * f32::from(scale),
            dmin * f32::from(min),
            search.levels,
            levels,
        );
    }
    levels
}

/// Q4_K: d, dmin, 12 bytes of scales, 128 of levels.
pub(super) fn q4(x: &[f32], out: &mut [u8]) {
    let levels = q4_or_5(x, &SEARCH_4, out);
    for (levels, out) in levels.chunks_exact(64).zip(out[16..].chunks_exact_mut(32)) {
        for (l, to) in out.iter_mut().enumerate() {
            *to = levels[l] | levels[l + 32] << 4;
        }
    }
}

/// Q5_K: d, dmin, 12 bytes of scales, 32 of fifth bits, 128 of four bits.
pub(super) fn q5(x: &[f32], out: &mut [u8]) {
    let levels = q4_or_5(x, &SEARCH_5, out);
    let (high, low) = out[16..176].split_at_mut(32);
    high.fill(0);
    for (n, (levels, out)) in levels
        .chunks_exact(64)
        .zip(low.chunks_exact_mut(32))
        .enumerate()
    {
        for (l, to) in out.iter_mut().enumerate() {
            let (a, b) = (levels[l], levels[l + 32]);
            *to = (a & 15) | (b & 15) << 4;
            high[l] |= (a >> 4) << (2 * n) | (b >> 4) << (2 * n + 1);
        }
    }
}

/// Tenths of a level by which the tries of [`best_scale`] differ, in their order.
pub(super) const TRIES: [f32; 19] = [
    0.0, -9.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0,
    8.0, 9.0,
];

/// The scale of a group of signed levels in `-max..max`, the best of 19 tries; the levels of the
/// best are left in `levels`, counted from 0.
pub(super) fn best_scale(x: &[f32], max: f32, levels: &mut [u8]) -> f32 {
    let top = extreme(x);
    if top.abs() < EPSILON {
        levels.fill(0);
        return 0.0;
    }
    let bound = |value: f32| bounded(value, -max, max - 1.0);
    let sums = |inverse: f32| {
        let (mut lx, mut l2) = (0.0f32, 0.0f32);
        for &v in x {
            let l = bound(inverse * v);
            let w = v * v;
            lx += w * v * l;
            l2 += w * l * l;
        }
        (lx, l2)
    };
    let (mut chosen, mut scale, mut best) = (0.0, 0.0, 0.0);
    for (i, step) in TRIES.into_iter().enumerate() {
        let inverse = -(max + 0.1 * step) / top;
        let (lx, l2) = sums(inverse);
        let first = i == 0;
        if first || (l2 > 0.0 && lx * lx > best * l2) {
            chosen = inverse;
            scale = if first && l2 == 0.0 { 0.0 } else { lx / l2 };
            best = scale * lx;
        }
    }
    for (to, &v) in levels.iter_mut().zip(x) {
        *to = (bound(chosen * v) + max) as u8;
    }
    scale
}

/// Q6_K: 128 bytes of four bits, 64 of two bits, 16 of scales, d.
pub(super) fn q6(x: &[f32], out: &mut [u8]) {
    let mut levels = [0u8; 256];
    let mut scales = [0.0; 16];
    for (half, levels) in levels.chunks_exact_mut(128).enumerate() {
        let found = lanes::best_scales(&x[half * 128..][..128], 32.0, levels);
        scales[half * 8..][..8].copy_from_slice(&found);
    }
    let max_scale = extreme(&scales);
    if max_scale.abs() < EPSILON {
        out.fill(0);
        return;
    }
    let inverse = -128.0 / max_scale;
    let d = 1.0 / inverse;
    put_f16(&mut out[208..], d);
    let d = stored(d);
    for (j, (x, levels)) in x
        .chunks_exact(16)
        .zip(levels.chunks_exact_mut(16))
        .enumerate()
    {
        let scale = bounded(inverse * scales[j], -128.0, 127.0);
        out[192 + j] = (scale as i8).cast_unsigned();
        let d = d * scale;
        if d != 0.0 {
            for (to, &v) in levels.iter_mut().zip(x) {
                *to = (bounded(v / d, -32.0, 31.0) + 32.0) as u8;
            }
        }
    }
    let (low, high) = out[..192].split_at_mut(128);
    for ((q, low), high) in levels
        .chunks_exact(128)
        .zip(low.chunks_exact_mut(64))
        .zip(high.chunks_exact_mut(32))
    {
        for l in 0..32 {
            let [a, b, c, d] = [q[l], q[l + 32], q[l + 64], q[l + 96]];
            low[l] = (a & 15) | (c & 15) << 4;
            low[l + 32] = (b & 15) | (d & 15) << 4;
            high[l] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
        }
    }
}
