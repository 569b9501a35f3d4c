//! Sums over long vectors, for the encoder only: their last bits may differ between machines.
//!
//! May use: nothing. Must never be called by a predictor.
#![allow(
    unsafe_code,
    reason = "calls of functions for AVX2 behind a check of the processor"
)]

/// A dot product in 32 lanes.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { dot_avx2(a, b) };
    }
    dot_plain(a, b)
}

/// Adds a multiple of a vector to another.
pub(super) fn add_scaled(to: &mut [f32], from: &[f32], factor: f32) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { add_scaled_avx2(to, from, factor) };
        return;
    }
    add_scaled_plain(to, from, factor);
}

#[inline(always)]
fn dot_plain(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 32];
    let (a, a_rest) = a.as_chunks::<32>();
    let (b, b_rest) = b.as_chunks::<32>();
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn add_scaled_plain(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f32 {
    dot_plain(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_scaled_avx2(to: &mut [f32], from: &[f32], factor: f32) {
    add_scaled_plain(to, from, factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_whole_numbers_are_exact_at_every_length() {
        for n in 0..100 {
            let a: Vec<f32> = (0..n).map(|i| (i % 7) as f32).collect();
            let b: Vec<f32> = (0..n).map(|i| (i % 5) as f32 - 2.0).collect();
            let want: f32 = a.iter().zip(&b).map(|(a, b)| a * b).sum();
            assert_eq!(dot(&a, &b), want);
            let mut to = a.clone();
            add_scaled(&mut to, &b, 3.0);
            assert!(
                to.iter()
                    .zip(&a)
                    .zip(&b)
                    .all(|((to, a), b)| *to == a + 3.0 * b)
            );
        }
    }
}
