//! The searches of the K-quants for eight groups at once.
//!
//! May use: nothing outside `quantise`. Must never give other bits than the search of one group:
//! each lane does the same operations in the same order.
#![allow(
    unsafe_code,
    reason = "vector loads and stores of whole arrays, and calls behind a check of the processor"
)]

use super::k_quants::{Search, best_scale};

/// Scale and negated minimum of eight groups that lie one after another; see [`Search::run`].
pub(super) fn search(
    search: &Search,
    x: &[f32],
    weights: &[f32],
    levels: &mut [u8],
) -> ([f32; 8], [f32; 8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::search(search, x, weights, levels) };
    }
    let group = x.len() / 8;
    let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
    for (j, levels) in levels.chunks_exact_mut(group).enumerate() {
        let span = j * group..(j + 1) * group;
        (scales[j], mins[j]) = search.run(&x[span.clone()], &weights[span], levels);
    }
    (scales, mins)
}

/// Scales of eight groups of 16 that lie one after another; see [`best_scale`].
pub(super) fn best_scales(x: &[f32], max: f32, levels: &mut [u8]) -> [f32; 8] {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::best_scales(x, max, levels) };
    }
    let mut scales = [0.0; 8];
    for ((scale, x), levels) in scales
        .iter_mut()
        .zip(x.chunks_exact(16))
        .zip(levels.chunks_exact_mut(16))
    {
        *scale = best_scale(x, max, levels);
    }
    scales
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::super::k_quants::{EPSILON, ROUNDER, Search, TRIES};
    use std::arch::x86_64::{
        __m256, _CMP_EQ_OQ, _CMP_GT_OQ, _CMP_LT_OQ, _mm256_add_ps, _mm256_and_ps, _mm256_andnot_ps,
        _mm256_blendv_ps, _mm256_cmp_ps, _mm256_div_ps, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_min_ps, _mm256_mul_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
        _mm256_sub_ps, _mm256_xor_ps,
    };

    /// Element i of each of eight groups.
    type Lanes = [f32; 8];

    #[target_feature(enable = "avx2")]
    fn load(from: &Lanes) -> __m256 {
        // SAFETY: the array has eight elements.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[target_feature(enable = "avx2")]
    fn store(to: &mut Lanes, value: __m256) {
        // SAFETY: the array has eight elements.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
    }

    /// `value` where the mask is set, else `other`.
    #[target_feature(enable = "avx2")]
    fn select(mask: __m256, value: __m256, other: __m256) -> __m256 {
        _mm256_blendv_ps(other, value, mask)
    }

    #[target_feature(enable = "avx2")]
    fn abs(x: __m256) -> __m256 {
        _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)
    }

    #[target_feature(enable = "avx2")]
    fn negative(x: __m256) -> __m256 {
        _mm256_xor_ps(_mm256_set1_ps(-0.0), x)
    }

    /// As `k_quants::bounded`: the maximum takes its second operand for a NaN.
    #[target_feature(enable = "avx2")]
    fn bounded(x: __m256, least: __m256, most: __m256) -> __m256 {
        let rounder = _mm256_set1_ps(ROUNDER);
        let whole = _mm256_sub_ps(_mm256_add_ps(x, rounder), rounder);
        _mm256_min_ps(_mm256_max_ps(whole, least), most)
    }

    /// Eight groups side by side; rows beyond their length stay zero.
    fn beside(x: &[f32]) -> ([Lanes; 32], usize) {
        let group = x.len() / 8;
        let mut out = [[0.0; 8]; 32];
        for (j, x) in x.chunks_exact(group).enumerate() {
            for (lanes, &x) in out.iter_mut().zip(x) {
                lanes[j] = x;
            }
        }
        (out, group)
    }

    fn apart(lanes: &[Lanes], levels: &mut [u8]) {
        for (j, levels) in levels.chunks_exact_mut(lanes.len()).enumerate() {
            for (to, lanes) in levels.iter_mut().zip(lanes) {
                *to = lanes[j] as u8;
            }
        }
    }

    /// Least and largest element, sum of weights and of weighted elements.
    #[target_feature(enable = "avx2")]
    fn survey(x: &[Lanes], w: &[Lanes]) -> (__m256, __m256, __m256, __m256) {
        let (mut min, mut max) = (load(&x[0]), load(&x[0]));
        let mut sum_w = load(&w[0]);
        let mut sum_x = _mm256_mul_ps(sum_w, min);
        for (x, w) in x.iter().zip(w).skip(1) {
            let (x, w) = (load(x), load(w));
            min = _mm256_min_ps(x, min);
            max = _mm256_max_ps(x, max);
            sum_w = _mm256_add_ps(sum_w, w);
            sum_x = _mm256_add_ps(sum_x, _mm256_mul_ps(w, x));
        }
        (min, max, sum_w, sum_x)
    }

    /// The weighted error of levels under a scale and a minimum.
    #[target_feature(enable = "avx2")]
    fn error(
        s: &Search,
        x: &[Lanes],
        w: &[Lanes],
        levels: &[Lanes],
        scale: __m256,
        min: __m256,
    ) -> __m256 {
        let mut sum = _mm256_setzero_ps();
        for ((x, w), level) in x.iter().zip(w).zip(levels) {
            let near = _mm256_add_ps(_mm256_mul_ps(scale, load(level)), min);
            let off = _mm256_sub_ps(near, load(x));
            let off = if s.absolute {
                abs(off)
            } else {
                _mm256_mul_ps(off, off)
            };
            sum = _mm256_add_ps(sum, _mm256_mul_ps(load(w), off));
        }
        sum
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn search(
        s: &Search,
        x: &[f32],
        weights: &[f32],
        levels: &mut [u8],
    ) -> (Lanes, Lanes) {
        let ((x, group), (w, _)) = (beside(x), beside(weights));
        let (x, w) = (&x[..group], &w[..group]);
        let (zero, n) = (_mm256_setzero_ps(), _mm256_set1_ps(s.levels));
        let (mut min, max, sum_w, sum_x) = survey(x, w);
        min = select(_mm256_cmp_ps::<_CMP_GT_OQ>(min, zero), zero, min);
        let flat = _mm256_cmp_ps::<_CMP_EQ_OQ>(max, min);
        let flat_min = negative(min);
        let inverse = _mm256_div_ps(n, _mm256_sub_ps(max, min));
        let mut scale = _mm256_div_ps(_mm256_set1_ps(1.0), inverse);
        let mut tried = [[0.0; 8]; 32];
        for (x, tried) in x.iter().zip(&mut tried) {
            let level = bounded(_mm256_mul_ps(inverse, _mm256_sub_ps(load(x), min)), zero, n);
            store(tried, level);
        }
        let mut best = error(s, x, w, &tried[..group], scale, min);
        // What the best levels are made with: they are made again at the end.
        let mut chosen = (inverse, min);
        for step in 0..=s.steps {
            let count = _mm256_set1_ps(s.from + s.step * f32::from(step) + s.levels);
            let inverse = _mm256_div_ps(count, _mm256_sub_ps(max, min));
            let (mut sum_l, mut sum_l2, mut sum_xl) = (zero, zero, zero);
            for ((x, w), tried) in x.iter().zip(w).zip(&mut tried) {
                let (x, w) = (load(x), load(w));
                let level = bounded(_mm256_mul_ps(inverse, _mm256_sub_ps(x, min)), zero, n);
                store(tried, level);
                let wl = _mm256_mul_ps(w, level);
                sum_l = _mm256_add_ps(sum_l, wl);
                sum_l2 = _mm256_add_ps(sum_l2, _mm256_mul_ps(wl, level));
                sum_xl = _mm256_add_ps(sum_xl, _mm256_mul_ps(wl, x));
            }
            let determinant =
                _mm256_sub_ps(_mm256_mul_ps(sum_w, sum_l2), _mm256_mul_ps(sum_l, sum_l));
            let top = _mm256_sub_ps(_mm256_mul_ps(sum_w, sum_xl), _mm256_mul_ps(sum_x, sum_l));
            let low = _mm256_sub_ps(_mm256_mul_ps(sum_l2, sum_x), _mm256_mul_ps(sum_l, sum_xl));
            let (this_scale, this_min) = (
                _mm256_div_ps(top, determinant),
                _mm256_div_ps(low, determinant),
            );
            let above = _mm256_cmp_ps::<_CMP_GT_OQ>(this_min, zero);
            let this_min = select(above, zero, this_min);
            let this_scale = select(above, _mm256_div_ps(sum_xl, sum_l2), this_scale);
            let this_error = error(s, x, w, &tried[..group], this_scale, this_min);
            let better = _mm256_and_ps(
                _mm256_cmp_ps::<_CMP_GT_OQ>(determinant, zero),
                _mm256_cmp_ps::<_CMP_LT_OQ>(this_error, best),
            );
            chosen.0 = select(better, inverse, chosen.0);
            chosen.1 = select(better, min, chosen.1);
            best = select(better, this_error, best);
            scale = select(better, this_scale, scale);
            min = select(better, this_min, min);
        }
        let (inverse, floor) = chosen;
        let mut kept = [[0.0; 8]; 32];
        for (x, kept) in x.iter().zip(&mut kept) {
            let level = bounded(
                _mm256_mul_ps(inverse, _mm256_sub_ps(load(x), floor)),
                zero,
                n,
            );
            store(kept, _mm256_andnot_ps(flat, level));
        }
        apart(&kept[..group], levels);
        let (mut scales, mut mins) = ([0.0; 8], [0.0; 8]);
        store(&mut scales, _mm256_andnot_ps(flat, scale));
        store(&mut mins, select(flat, flat_min, negative(min)));
        (scales, mins)
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn best_scales(x: &[f32], max: f32, levels: &mut [u8]) -> Lanes {
        let (x, group) = beside(x);
        let x = &x[..group];
        let zero = _mm256_setzero_ps();
        let (least, most) = (_mm256_set1_ps(-max), _mm256_set1_ps(max - 1.0));
        let (mut largest, mut top) = (zero, zero);
        for x in x {
            let x = load(x);
            let larger = _mm256_cmp_ps::<_CMP_GT_OQ>(abs(x), largest);
            largest = select(larger, abs(x), largest);
            top = select(larger, x, top);
        }
        let nothing = _mm256_cmp_ps::<_CMP_LT_OQ>(largest, _mm256_set1_ps(EPSILON));
        let (mut chosen, mut scale, mut best) = (zero, zero, zero);
        for (i, step) in TRIES.into_iter().enumerate() {
            let inverse = _mm256_div_ps(_mm256_set1_ps(-(max + 0.1 * step)), top);
            let (mut lx, mut l2) = (zero, zero);
            for x in x {
                let x = load(x);
                let level = bounded(_mm256_mul_ps(inverse, x), least, most);
                let w = _mm256_mul_ps(x, x);
                lx = _mm256_add_ps(lx, _mm256_mul_ps(_mm256_mul_ps(w, x), level));
                l2 = _mm256_add_ps(l2, _mm256_mul_ps(_mm256_mul_ps(w, level), level));
            }
            let this_scale = _mm256_div_ps(lx, l2);
            if i == 0 {
                chosen = inverse;
                let empty = _mm256_cmp_ps::<_CMP_EQ_OQ>(l2, zero);
                scale = _mm256_andnot_ps(empty, this_scale);
                best = _mm256_mul_ps(scale, lx);
                continue;
            }
            let better = _mm256_and_ps(
                _mm256_cmp_ps::<_CMP_GT_OQ>(l2, zero),
                _mm256_cmp_ps::<_CMP_GT_OQ>(_mm256_mul_ps(lx, lx), _mm256_mul_ps(best, l2)),
            );
            chosen = select(better, inverse, chosen);
            scale = select(better, this_scale, scale);
            best = select(better, _mm256_mul_ps(this_scale, lx), best);
        }
        let mut kept = [[0.0; 8]; 32];
        for (x, kept) in x.iter().zip(&mut kept) {
            let level = bounded(_mm256_mul_ps(chosen, load(x)), least, most);
            let level = _mm256_add_ps(level, _mm256_set1_ps(max));
            store(kept, _mm256_andnot_ps(nothing, level));
        }
        apart(&kept[..group], levels);
        let mut scales = [0.0; 8];
        store(&mut scales, _mm256_andnot_ps(nothing, scale));
        scales
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::quantise::k_quants::SEARCHES;

    /// Groups of every temper: noise, one sign, zeros, equal values, tiny, huge, not finite.
    fn groups(length: usize) -> Vec<f32> {
        let mut state = 17u32;
        let mut values = Vec::new();
        for kind in 0..4000 {
            for i in 0..length {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let noise = (state >> 8) as f32 / 16_777_216.0 - 0.5;
                values.push(match kind % 13 {
                    0 => noise.abs(),
                    1 => -noise.abs(),
                    2 => 0.0,
                    3 => 0.25,
                    4 => -0.25,
                    5 => noise * 1e-20,
                    6 => noise * 1e20,
                    7 if i % 5 == 0 => 0.0,
                    8 => noise * noise * noise * 40.0,
                    9 if i == 3 => f32::NAN,
                    10 if i == 4 => f32::INFINITY,
                    11 => (noise * 4.0).round_ties_even(),
                    _ => noise,
                });
            }
        }
        values
    }

    #[test]
    fn eight_searches_are_each_the_search_of_one() {
        for (s, length) in SEARCHES {
            let x = groups(length);
            let w: Vec<f32> = x.iter().map(|x| x.abs() + 0.125).collect();
            for (x, w) in x.chunks(8 * length).zip(w.chunks(8 * length)) {
                let (mut fast, mut slow) = (vec![1; x.len()], vec![2; x.len()]);
                let (scales, mins) = search(s, x, w, &mut fast);
                for j in 0..8 {
                    let span = j * length..(j + 1) * length;
                    let (scale, min) = s.run(&x[span.clone()], &w[span.clone()], &mut slow[span]);
                    let same =
                        |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
                    assert!(
                        same(scale, scales[j]) && same(min, mins[j]),
                        "{scale} {}",
                        scales[j]
                    );
                }
                assert_eq!(fast, slow);
            }
        }
    }

    #[test]
    fn eight_scales_are_each_the_scale_of_one() {
        for x in groups(16).chunks(128) {
            let (mut fast, mut slow) = ([1; 128], [2; 128]);
            let scales = best_scales(x, 32.0, &mut fast);
            for (j, levels) in slow.chunks_mut(16).enumerate() {
                let scale = best_scale(&x[j * 16..][..16], 32.0, levels);
                let same = scale.to_bits() == scales[j].to_bits()
                    || (scale.is_nan() && scales[j].is_nan());
                assert!(same, "{scale} {}", scales[j]);
            }
            assert_eq!(fast, slow);
        }
    }
}
