//! Finds the factors of a change: a sample of rows, a test on others, one pass over all.
//!
//! May use: `vectors`, and nothing else outside `low_rank`. Must never be asked by a decoder: its sums may differ
//! between machines, and then only sizes do.

use super::subspace::{Rows, inverted, orthonormalise, rotated};
use super::{ENTRY_MAX, LowRank, RANK_MAX};
use crate::vectors::dot;

/// How hard to look.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// The largest rank to consider.
    pub rank: usize,
    /// Rows to look at before the pass over all, at least; an eighth of the tensor if that is
    /// more.
    pub rows: usize,
    /// Rounds of improving the subspace.
    pub rounds: usize,
}

impl Effort {
    /// What a commit spends.
    pub const DEFAULT: Self = Self {
        rank: 48,
        rows: 1024,
        rounds: 1,
    };
    /// What repacking spends.
    pub const MAX: Self = Self {
        rank: RANK_MAX,
        rows: 2048,
        rounds: 2,
    };
}

/// Bits that an entry of a factor is taken to cost.
const ENTRY_BITS: f64 = 4.0;
/// Vectors beyond the rank that is looked for.
const SPARE: usize = 8;
/// Rows that the rank is tested on, none of them among the sample.
const TEST_ROWS: usize = 128;
/// Rows of a sample, at most.
const SAMPLE_MAX: usize = 2048;
/// Elements of a sample, of the test and of the rows that are solved together, at most: with them
/// memory is bounded however long rows are.
const SAMPLE_ELEMENTS: usize = 1 << 23;
const TEST_ELEMENTS: usize = 1 << 22;
const SOLVED_ELEMENTS: usize = 1 << 18;
/// Rows of a sample and of a tensor, and columns, at least.
const LEAST: usize = 64;

/// The factors that describe a change best for what they cost, or `None` where none pay.
///
/// `change(row, out)` fills `out` with target minus base of a row, 0 where either is not finite.
/// It is called for a sample of rows and then once for every row in rising order. `warm` holds the
/// factors found for a predecessor of this tensor, if there is one: the search begins there.
///
/// # Errors
/// What `change` fails with.
pub fn fit<E>(
    rows: usize,
    cols: usize,
    effort: &Effort,
    warm: Option<&LowRank>,
    mut change: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
) -> Result<Option<LowRank>, E> {
    if rows < LEAST || !(LEAST..=SAMPLE_ELEMENTS / LEAST).contains(&cols) {
        return Ok(None);
    }
    let mut read = |indices: &mut dyn Iterator<Item = usize>| -> Result<Rows, E> {
        let mut out = Rows::zero(0, cols);
        let mut row = vec![0.0; cols];
        for index in indices {
            change(index, &mut row)?;
            out.push(&row);
        }
        Ok(out)
    };
    let most = SAMPLE_MAX.min(SAMPLE_ELEMENTS / cols).min(rows);
    let sampled = effort.rows.max(rows / 8).min(most);
    let tests = TEST_ROWS.min(TEST_ELEMENTS / cols).min(rows / 4);
    let test_rows: Vec<usize> = (0..tests).map(|i| i * rows / tests).collect();
    let test = read(&mut test_rows.iter().copied())?;
    let strip = |i: usize| (2 * i + 1) * rows / (2 * sampled);
    let untested = |i: &usize| test_rows.binary_search(i).is_err();
    let sample = read(&mut (0..sampled).map(strip).filter(untested))?;
    let warm = warm.map_or(&[][..], LowRank::b);
    let begin: Vec<f32> = warm.iter().map(|&entry| f32::from(entry)).collect();
    let begin = Rows::new(cols, begin);
    let mut basis = sketch(&sample, effort.rank.min(8), effort.rounds, &begin);
    // A second look only where the first asks for it.
    if effort.rank > 8 && chosen_rank(&basis, &test, rows, effort.rank).0 >= 6 {
        basis = sketch(&sample, effort.rank, effort.rounds, &begin);
    }
    let (rank, energies) = chosen_rank(&basis, &test, rows, effort.rank);
    if rank == 0 {
        return Ok(None);
    }
    let (step, b) = right_factor(&basis, rank, &energies, test.count(), rows);
    let Some(solver) = Solver::new(&b, rank, cols, step) else {
        return Ok(None);
    };
    let mut a = Vec::with_capacity(rows * rank);
    let solved = (SOLVED_ELEMENTS / cols).max(1);
    for first in (0..rows).step_by(solved) {
        let some = read(&mut (first..rows.min(first + solved)))?;
        solver.entries(&some, &mut a);
    }
    Ok(LowRank::new(rank, step, a, b).ok())
}

/// The leading right singular vectors of a sample, the strongest first. `begin` may hold guesses
/// of them, the likeliest first.
fn sketch(sample: &Rows, rank: usize, rounds: usize, begin: &Rows) -> Rows {
    let vectors = (rank + SPARE).min(sample.count());
    let mut basis = Rows::zero(vectors, sample.cols());
    let guessed = begin.count().min(rank).min(vectors);
    for (i, guess) in begin.iter().take(guessed).enumerate() {
        basis.row_mut(i).copy_from_slice(guess);
    }
    // Signed sums of groups of rows, the signs from a fixed generator.
    let mut state = 0x9E37_79B9u32;
    for (i, row) in sample.iter().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let sign = if state >> 31 == 0 { 1.0 } else { -1.0 };
        if guessed < vectors {
            basis.add(guessed + i % (vectors - guessed), row, sign);
        }
    }
    for _ in 0..rounds {
        orthonormalise(&mut basis);
        let along = basis.along(sample);
        basis = Rows::zero(vectors, sample.cols());
        basis.add_weighted(&along, sample);
    }
    orthonormalise(&mut basis);
    rotated(&basis, sample)
}

/// The rank that saves the most on rows outside the sample, and the energy of the test rows:
/// along each vector of the basis, then in all.
fn chosen_rank(basis: &Rows, test: &Rows, rows: usize, most: usize) -> (usize, Vec<f64>) {
    let mut energies = vec![0.0f64; basis.count()];
    let mut all = 0.0f64;
    for (row, along) in test.iter().zip(basis.along(test).iter()) {
        all += f64::from(dot(row, row));
        for (energy, &along) in energies.iter_mut().zip(along) {
            *energy += f64::from(along) * f64::from(along);
        }
    }
    let elements = rows as f64 * basis.cols() as f64;
    let entry = ENTRY_BITS * (rows + basis.cols()) as f64;
    let (mut left, mut best, mut best_rank) = (all, 0.0, 0);
    for (k, energy) in energies.iter().enumerate().take(most) {
        left = (left - energy).max(all * 1e-6);
        let gain = 0.5 * elements * (all / left).log2() - entry * (k + 1) as f64;
        if gain > best {
            (best, best_rank) = (gain, k + 1);
        }
    }
    energies.push(all);
    (best_rank, energies)
}

/// The step and the entries of the right factor. Each component is split evenly between the
/// factors, with one step for all, so that weak components get small numbers.
fn right_factor(
    basis: &Rows,
    rank: usize,
    energies: &[f64],
    test_rows: usize,
    rows: usize,
) -> (f32, Vec<i8>) {
    let cols = basis.cols() as f64;
    // Size of an entry of either factor, squared: what is along the vector, a row, an element.
    let sizes: Vec<f64> = energies[..rank]
        .iter()
        .map(|energy| (energy / test_rows as f64 / cols).sqrt())
        .collect();
    let all = energies.last().copied().unwrap_or(0.0);
    let left = (all - energies[..rank].iter().sum::<f64>()).max(all * 1e-6);
    let residual = left / test_rows as f64 / cols;
    // An error of the factors of `share` of the residual costs rows * cols / 2 * log2(1 + share)
    // bits, and finer factors rank * (rows + cols) / 2 * log2(1 / share): least at this share.
    let share = rank as f64 * (1.0 / rows as f64 + 1.0 / cols);
    // Both factors are rounded; each makes a twelfth of the step times the other's size.
    let wanted = 6.0 * residual * share / sizes.iter().sum::<f64>();
    // The strongest component must fit into its entries at 3.5 times its size.
    let largest = sizes.iter().copied().fold(0.0, f64::max).sqrt() * 3.5 / f64::from(ENTRY_MAX);
    let step = wanted
        .max(largest * largest)
        .max(f64::from(f32::MIN_POSITIVE));
    let root = step.sqrt();
    let mut b = Vec::with_capacity(rank * basis.cols());
    for (vector, size) in basis.iter().zip(&sizes) {
        let scale = (cols.sqrt() * size.sqrt() / root) as f32;
        b.extend(vector.iter().map(|&value| entry(value * scale)));
    }
    (step as f32, b)
}

fn entry(value: f32) -> i8 {
    let most = f32::from(ENTRY_MAX);
    value.round_ties_even().clamp(-most, most) as i8
}

/// Least squares of rows on the rounded right factor.
struct Solver {
    b: Rows,
    /// The inverse of `b * b^T * step`, which is symmetric.
    inverse: Rows,
}

impl Solver {
    fn new(b: &[i8], rank: usize, cols: usize, step: f32) -> Option<Self> {
        let b = Rows::new(cols, b.iter().map(|&entry| f32::from(entry)).collect());
        let gram = b
            .along(&b)
            .iter()
            .flatten()
            .map(|&x| f64::from(x))
            .collect();
        let inverse = inverted(gram, rank)?;
        let inverse = inverse.iter().map(|value| (value / f64::from(step)) as f32);
        Some(Self {
            inverse: Rows::new(rank, inverse.collect()),
            b,
        })
    }

    fn entries(&self, rows: &Rows, out: &mut Vec<i8>) {
        let exact = self.inverse.along(&self.b.along(rows));
        out.extend(exact.iter().flatten().map(|&value| entry(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn noise(state: &mut u32) -> f32 {
        (0..4)
            .map(|_| {
                *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (*state >> 8) as f32 / 16_777_216.0 - 0.5
            })
            .sum()
    }

    /// A matrix of rank 3 with components of falling size, and noise.
    fn planted(rows: usize, cols: usize, noise_size: f32) -> Vec<f32> {
        let mut state = 5;
        let left: Vec<f32> = (0..rows * 3).map(|_| noise(&mut state)).collect();
        let right: Vec<f32> = (0..cols * 3).map(|_| noise(&mut state)).collect();
        (0..rows * cols)
            .map(|i| {
                let (r, c) = (i / cols, i % cols);
                let change: f32 = (0..3)
                    .map(|k| left[r * 3 + k] * right[c * 3 + k] / (k + 1) as f32)
                    .sum();
                change + noise_size * noise(&mut state)
            })
            .collect()
    }

    fn run(values: &[f32], rows: usize, cols: usize, warm: Option<&LowRank>) -> Option<LowRank> {
        let change = |row: usize, out: &mut [f32]| -> Result<(), Infallible> {
            out.copy_from_slice(&values[row * cols..(row + 1) * cols]);
            Ok(())
        };
        fit(rows, cols, &Effort::DEFAULT, warm, change).unwrap()
    }

    fn left_over(values: &[f32], cols: usize, found: &LowRank) -> f32 {
        let energy = |i: usize| {
            let (r, c) = (i / cols, i % cols);
            let dot: i32 = (0..found.rank())
                .map(|k| {
                    i32::from(found.a()[r * found.rank() + k]) * i32::from(found.b()[k * cols + c])
                })
                .sum();
            let rest = values[i] - dot as f32 * found.step();
            rest * rest
        };
        (0..values.len()).map(energy).sum::<f32>() / values.iter().map(|v| v * v).sum::<f32>()
    }

    #[test]
    fn a_planted_rank_is_found_and_explains_the_change() {
        let values = planted(300, 200, 0.02);
        let found = run(&values, 300, 200, None).unwrap();
        assert_eq!(found.rank(), 3);
        assert!(left_over(&values, 200, &found) < 0.01);
        let again = run(&values, 300, 200, Some(&found)).unwrap();
        assert!(left_over(&values, 200, &again) < 0.01);
    }

    #[test]
    fn noise_alone_has_no_factors() {
        let mut state = 11;
        let values: Vec<f32> = (0..300 * 200).map(|_| noise(&mut state)).collect();
        assert_eq!(run(&values, 300, 200, None), None);
        assert_eq!(run(&vec![0.0; 300 * 200], 300, 200, None), None);
        assert_eq!(run(&values[..63 * 63], 63, 63, None), None);
    }

    #[test]
    fn a_failure_to_read_is_passed_on() {
        let failed = fit(100, 100, &Effort::DEFAULT, None, |_, _| Err("gone"));
        assert_eq!(failed, Err("gone"));
    }
}
