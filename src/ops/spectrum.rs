//! The strongest components of a large matrix that is read row by row.
//!
//! May use: `predict`. Must never be asked by a decoder: its sums may differ between machines, so
//! what it finds is stored, never found again.
//!
//! Randomised range finding with power iterations (Halko, Martinsson and Tropp, 2011, algorithms
//! 4.4 and 5.1): the matrix is read four times, and memory holds `rank` vectors of each side. With
//! as many vectors as the matrix has columns the result is exact.

use crate::predict::low_rank::subspace::{Gram, Rows, orthonormalise};

/// Vectors beyond those that are wanted.
const SPARE: usize = 8;

/// Elements that are worked on together, in whole rows.
const TOGETHER: usize = 1 << 18;

/// Rounds of bringing the subspace nearer to the strongest directions.
const ROUNDS: usize = 2;

/// Components of a matrix, the strongest first.
#[derive(Clone, Debug)]
pub struct Spectrum {
    /// The squared singular values that were found.
    pub energies: Vec<f64>,
    /// The sum of all squared singular values, found or not.
    pub total: f64,
    /// For each component its left singular vector times its singular value.
    pub left: Rows,
    /// For each component its right singular vector.
    pub right: Rows,
}

impl Spectrum {
    /// The least rank that keeps this share of the energy, if so many components were found.
    #[must_use]
    pub fn rank_of(&self, share: f64) -> Option<usize> {
        let wanted = share * self.total;
        let mut kept = 0.0;
        if wanted <= 0.0 {
            return Some(0);
        }
        // Rounding of the sums may hide the last part.
        self.energies
            .iter()
            .position(|energy| {
                kept += energy;
                kept >= wanted * (1.0 - 1e-6)
            })
            .map(|last| last + 1)
    }
}

/// The `wanted` strongest components of a matrix of `rows` by `cols`, fewer where it has fewer.
///
/// `row(i, out)` fills `out` with a row; it is asked for all rows in order, several times.
///
/// # Errors
/// What `row` fails with.
pub fn spectrum<E>(
    rows: usize,
    cols: usize,
    wanted: usize,
    mut row: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
) -> Result<Spectrum, E> {
    let count = (wanted + SPARE).min(rows).min(cols);
    let mut buffer = vec![0.0f32; cols];
    let together = (TOGETHER / cols.max(1)).max(1);
    let mut some = Rows::zero(0, cols);
    let mut each = |take: &mut dyn FnMut(usize, &Rows)| -> Result<(), E> {
        for first in (0..rows).step_by(together) {
            some.clear();
            for index in first..rows.min(first + together) {
                row(index, &mut buffer)?;
                some.push(&buffer);
            }
            take(first, &some);
        }
        Ok(())
    };
    let mut basis = Rows::zero(count, cols);
    if count == cols {
        (0..count).for_each(|i| basis.row_mut(i)[i] = 1.0);
    } else {
        let mut signs = Signs(0x9E37_79B9_7F4A_7C15);
        each(&mut |_, some| {
            let drawn = (0..some.count() * count).map(|_| signs.next()).collect();
            basis.add_weighted(&Rows::new(count, drawn), some);
        })?;
        for _ in 0..ROUNDS {
            orthonormalise(&mut basis);
            let mut next = Rows::zero(count, cols);
            each(&mut |_, some| next.add_weighted(&basis.along(some), some))?;
            basis = next;
        }
        orthonormalise(&mut basis);
    }
    let (mut gram, mut total) = (Gram::new(count), 0.0);
    let mut projected = Rows::zero(count, rows);
    each(&mut |first, some| {
        let squares = some.iter().flatten().map(|x| f64::from(*x) * f64::from(*x));
        total += squares.sum::<f64>();
        for (row, along) in basis.along(some).iter().enumerate() {
            gram.add(along);
            for (i, along) in along.iter().enumerate() {
                projected.row_mut(i)[first + row] = *along;
            }
        }
    })?;
    let Some((energies, mut vectors)) = gram.eigen() else {
        return Ok(Spectrum {
            energies: Vec::new(),
            total,
            left: Rows::zero(0, rows),
            right: Rows::zero(0, cols),
        });
    };
    vectors.truncate(wanted);
    let energies = energies.iter().take(wanted).map(|energy| energy.max(0.0));
    Ok(Spectrum {
        energies: energies.collect(),
        total,
        left: projected.turned(&vectors),
        right: basis.turned(&vectors),
    })
}

/// Signs from a fixed generator (Marsaglia's xorshift).
struct Signs(u64);

impl Signs {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        if self.0 >> 63 == 0 { 1.0 } else { -1.0 }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::predict::float;

    fn of(values: &[f32], cols: usize, wanted: usize) -> Spectrum {
        let row = |i: usize, out: &mut [f32]| -> Result<(), Infallible> {
            out.copy_from_slice(&values[i * cols..(i + 1) * cols]);
            Ok(())
        };
        spectrum(values.len() / cols, cols, wanted, row).unwrap()
    }

    /// 300 rows of 200 values with components of size 1, 1/2, 1/4, …
    fn falling() -> Vec<f32> {
        let mut signs = Signs(7);
        let side = |n: usize, signs: &mut Signs| {
            let mut side = Rows::zero(12, n);
            (0..12).for_each(|i| side.row_mut(i).fill_with(|| signs.next()));
            orthonormalise(&mut side);
            side
        };
        let (left, right) = (side(300, &mut signs), side(200, &mut signs));
        let mut values = vec![0.0; 300 * 200];
        for k in 0..12 {
            for i in 0..300 {
                for j in 0..200 {
                    values[i * 200 + j] += left.row(k)[i] * right.row(k)[j] / 2f32.powi(k as i32);
                }
            }
        }
        values
    }

    #[test]
    fn the_strongest_components_are_found_in_their_order() {
        let found = of(&falling(), 200, 4);
        assert_eq!(found.energies.len(), 4);
        for (k, energy) in found.energies.iter().enumerate() {
            assert!(
                (energy / 0.25f64.powi(k as i32) - 1.0).abs() < 1e-3,
                "{k}: {energy}"
            );
        }
        assert!((found.total - 4.0 / 3.0).abs() < 1e-3);
        assert_eq!(found.rank_of(0.7), Some(1));
        assert_eq!(found.rank_of(0.95), Some(3));
        assert_eq!(found.rank_of(0.9999), None);
        assert_eq!(of(&falling(), 200, 12).rank_of(0.9999), Some(7));
    }

    /// Exact in binary32: the bits of a mixed counter as a number from -1/2 to 1/2.
    fn mixed(seed: u32, i: u32) -> f32 {
        let mut h = seed.wrapping_mul(0x9E37_79B9).wrapping_add(i);
        h = (h ^ h >> 16).wrapping_mul(0x85EB_CA6B);
        h = (h ^ h >> 13).wrapping_mul(0xC2B2_AE35);
        h ^= h >> 16;
        (h >> 8) as f32 / 16_777_216.0 - 0.5
    }

    #[test]
    fn a_known_matrix_has_its_known_singular_values() {
        let values: Vec<f32> = (0..96).map(|i| mixed(50, i)).collect();
        let found = of(&values, 8, 8);
        let want = [
            1.480_407,
            1.241_942,
            1.065_737,
            0.957_165_7,
            0.814_807,
            0.678_916_6,
            0.430_307_7,
            0.300_793_5,
        ];
        for (energy, want) in found.energies.iter().zip(want) {
            assert!(
                (energy.sqrt() - want).abs() < 1e-4,
                "{} {want}",
                energy.sqrt()
            );
        }
        let left_out = found.total - found.energies[0] - found.energies[1];
        assert!((left_out.sqrt() - 1.858_074).abs() < 1e-4);
        // Rank 2 with factors in binary16.
        let half = |x: f32| float::from_f16(float::to_f16(x));
        let (mut errors, mut sizes, mut largest) = (0.0, 0.0, 0.0f64);
        for (at, value) in values.iter().enumerate() {
            let made: f32 = (0..2)
                .map(|k| half(found.left.row(k)[at / 8]) * half(found.right.row(k)[at % 8]))
                .sum();
            let error = f64::from(value - made).abs();
            errors += error / 96.0;
            sizes += f64::from(value.abs()) / 96.0;
            largest = largest.max(error);
        }
        assert!((errors - 0.156_871_2).abs() < 2e-3, "{errors}");
        assert!((largest - 0.463_729_3).abs() < 2e-3, "{largest}");
        assert!((errors / (sizes + 1e-8) - 0.668_649_3).abs() < 2e-3);
    }

    #[test]
    fn a_matrix_of_zeros_has_rank_none_and_one_without_end_no_components() {
        let zeros = of(&[0.0; 60], 6, 3);
        assert_eq!((zeros.rank_of(1.0), zeros.total), (Some(0), 0.0));
        assert!(of(&[f32::NAN; 60], 6, 3).energies.is_empty());
    }
}
