//! Plain loops in the widest vectors that the processor has.
//!
//! May use: nothing. Must never change what a loop computes: the compiler neither fuses nor
//! reorders operations on floats, however wide its vectors are.
#![allow(
    unsafe_code,
    reason = "calls of functions for wider vectors behind checks of the processor"
)]

/// Does work whose loops are worth wide vectors.
///
/// They must stand in the closure itself, which must say `#[inline(always)]`: what is called stays
/// compiled for every processor.
#[inline(always)]
pub(crate) fn wide<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the processor has the instructions.
        return unsafe { with_avx512(work) };
    }
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { with_avx2(work) };
    }
    work()
}

/// Whether the processor has vectors of 512 bits, and what goes with them since 2019.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512dq")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx512vbmi")
        && std::is_x86_feature_detected!("avx512vbmi2")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn with_avx512<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// A dot product in 32 lanes, which sums in another order than a loop would: for encoders only.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    wide(
        #[inline(always)]
        || {
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
        },
    )
}

/// Adds a multiple of a vector to another.
pub(crate) fn add_scaled(to: &mut [f32], from: &[f32], factor: f32) {
    wide(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to += factor * from;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_loops_give_the_bits_of_narrow_ones() {
        let special = [f32::NAN, f32::INFINITY, f32::MAX, -0.0, 1e-45, 1e-38];
        let x: Vec<f32> = (0..77)
            .map(|i| special.get(i).copied().unwrap_or(i as f32 * 0.37 - 5.0))
            .collect();
        for factor in [1e-4, 0.3, -1.0, f32::MAX] {
            let work = || -> Vec<u32> {
                let sums = x.iter().map(|x| x + (x * factor) * 1.7);
                sums.map(|x| (f64::from(x) * 0.3) as f32)
                    .map(f32::to_bits)
                    .collect()
            };
            assert_eq!(wide(work), work());
        }
    }

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
