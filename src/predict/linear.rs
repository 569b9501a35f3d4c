//! Linear: a weighted sum of tensors, as merges, averages and task arithmetic make it.
//!
//! May use: `store_format`, `vectors`. Must never sum in another order than that of the sources.

use store_format::FormatError;
use store_format::dtype::DType;

use super::wire::{Reader, put_number};
use super::{BLOCK, Output, Recipe, SOURCES_MAX, Shape, float, invalid, widen_at};
use crate::vectors::wide;

/// One coefficient a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// In the order of the recipe's sources.
    pub coefficients: Vec<f64>,
}

impl Linear {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        put_number(out, self.coefficients.len() as u64);
        for coefficient in &self.coefficients {
            out.extend(coefficient.to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        let count = reader.number_up_to("coefficients", SOURCES_MAX as u64)?;
        let coefficients = (0..count).map(|_| reader.f64()).collect::<Result<_, _>>()?;
        Ok(Self { coefficients })
    }

    pub(super) fn check(&self, recipe: &Recipe) -> Result<(), FormatError> {
        if recipe.view.is_some() || recipe.sources.len() != self.coefficients.len() {
            return invalid("a sum has one coefficient a source and no view");
        }
        let fits = |shape: &Shape| {
            shape.elements() == recipe.target.elements() && float::is_computable(shape.dtype)
        };
        if !recipe.sources.iter().all(fits) || !float::is_computable(recipe.target.dtype) {
            return invalid("a sum is over float tensors with as many elements as the target");
        }
        if !self.coefficients.iter().all(|c| c.is_finite()) {
            return invalid("a parameter of a predictor is finite");
        }
        Ok(())
    }

    /// `s = c0 * x0; s = s + ci * xi` in binary64, source by source; then binary32, then the
    /// target. Elements of a range are independent, so blocks change nothing.
    pub(super) fn fill(
        &self,
        sources: &[Shape],
        to: DType,
        parts: &[&[u8]],
        out: &mut Output,
    ) -> Result<(), FormatError> {
        let mut values = [0.0f32; BLOCK];
        let mut sums = [0.0f64; BLOCK];
        let count = parts[0].len() / sources[0].dtype.block().1 as usize;
        for at in (0..count).step_by(BLOCK) {
            let values = &mut values[..BLOCK.min(count - at)];
            for (i, ((part, shape), &c)) in parts
                .iter()
                .zip(sources)
                .zip(&self.coefficients)
                .enumerate()
            {
                widen_at(shape.dtype, part, at, values)?;
                wide(
                    #[inline(always)]
                    || {
                        for (sum, &value) in sums.iter_mut().zip(&*values) {
                            let term = c * f64::from(value);
                            *sum = if i == 0 { term } else { *sum + term };
                        }
                    },
                );
            }
            wide(
                #[inline(always)]
                || {
                    for (value, &sum) in values.iter_mut().zip(&sums) {
                        *value = float::from_f64(sum);
                    }
                },
            );
            out.put(to, at, values)?;
        }
        Ok(())
    }

    /// Coefficients under which `target` (values of type `dtype`) follows from `parents`, by
    /// samples of the same positions; `None` where no sum explains nine tenths of what sets it
    /// apart from its nearest parent.
    ///
    /// Least squares on the differences to the first parent, with coefficients that add up to 1
    /// and without that condition, each sample weighted against the size of its rounding. Of the
    /// two solutions, and the nearest twelfths and twentieths of the first, the one stays that
    /// meets the most samples exactly.
    #[must_use]
    pub fn find(dtype: DType, target: &[f32], parents: &[&[f32]]) -> Option<Self> {
        let (&first, others) = parents.split_first()?;
        let enough = target.len() >= 64 && target.len() / 8 > others.len();
        if others.is_empty() || !enough || parents.len() > SOURCES_MAX {
            return None;
        }
        if parents.iter().any(|parent| parent.len() != target.len()) {
            return None;
        }
        let weights = weights(target);
        let nearest = parents
            .iter()
            .map(|parent| energy(target, &[parent], &[1.0], &weights))
            .fold(f64::INFINITY, f64::min);
        let complete = |others: &[f64], whole: f64| {
            let mut all = vec![whole - others.iter().sum::<f64>()];
            all.extend(others);
            all
        };
        let apart = |x: &[f32]| -> Vec<f64> {
            let pairs = x.iter().zip(first);
            pairs.map(|(&x, &f)| f64::from(x) - f64::from(f)).collect()
        };
        let mut columns: Vec<Vec<f64>> = others.iter().map(|x| apart(x)).collect();
        let wanted = apart(target);
        let solved = solve(&columns, &wanted, &weights)?;
        let exact = complete(&solved, 1.0);
        // Once more without the condition that the coefficients add up to 1, as slerp's do not.
        columns.push(first.iter().map(|&x| f64::from(x)).collect());
        let free = solve(&columns, &wanted, &weights).unwrap_or_default();
        let free = match free.split_last() {
            Some((more, others)) => complete(others, 1.0 + more),
            None => exact.clone(),
        };
        let left = energy(target, parents, &free, &weights);
        if !left.is_finite() || left * 10.0 > nearest {
            return None;
        }
        let mut best = (met(dtype, target, parents, &free), free);
        let count = met(dtype, target, parents, &exact);
        if count >= best.0 {
            best = (count, exact);
        }
        for n in [12.0, 20.0] {
            let grid = |c: &f64| (c * n).round() / n;
            let mut round = complete(&solved.iter().map(grid).collect::<Vec<_>>(), 1.0);
            round[0] = grid(&round[0]);
            let count = met(dtype, target, parents, &round);
            if count >= best.0 {
                best = (count, round);
            }
        }
        Some(Self {
            coefficients: best.1,
        })
    }
}

/// One over the square of a value's size, which its rounding follows; small values count alike.
fn weights(target: &[f32]) -> Vec<f64> {
    let square = |&x: &f32| f64::from(x) * f64::from(x);
    let mean = target.iter().map(square).sum::<f64>() / target.len() as f64;
    let floor = mean / 64.0 + f64::MIN_POSITIVE;
    target.iter().map(|x| 1.0 / (square(x) + floor)).collect()
}

/// The sum at one position.
fn sum(parents: &[&[f32]], coefficients: &[f64], at: usize) -> f64 {
    parents
        .iter()
        .zip(coefficients)
        .map(|(parent, c)| c * f64::from(parent[at]))
        .sum()
}

/// How many samples a sum meets exactly once it is rounded.
fn met(dtype: DType, target: &[f32], parents: &[&[f32]], coefficients: &[f64]) -> usize {
    let values: Vec<f32> = (0..target.len())
        .map(|i| float::from_f64(sum(parents, coefficients, i)))
        .collect();
    let mut bytes = vec![0; values.len() * dtype.block().1 as usize];
    let mut rounded = values.clone();
    if !float::round(dtype, &values, &mut bytes) || !float::widen(dtype, &bytes, &mut rounded) {
        return 0;
    }
    rounded.iter().zip(target).filter(|(a, b)| a == b).count()
}

/// The weighted sum of squares that a sum of parents leaves of `target`.
fn energy(target: &[f32], parents: &[&[f32]], coefficients: &[f64], weights: &[f64]) -> f64 {
    (0..target.len())
        .map(|i| {
            let rest = f64::from(target[i]) - sum(parents, coefficients, i);
            weights[i] * rest * rest
        })
        .sum()
}

/// Solves the weighted normal equations of `wanted` on `columns`; `None` if they have no one
/// solution.
fn solve(columns: &[Vec<f64>], wanted: &[f64], weights: &[f64]) -> Option<Vec<f64>> {
    let n = columns.len();
    let dot = |a: &[f64], b: &[f64]| -> f64 {
        let pairs = a.iter().zip(b).zip(weights);
        pairs.map(|((a, b), w)| w * a * b).sum()
    };
    let mut rows: Vec<Vec<f64>> = columns
        .iter()
        .map(|a| {
            let mut row: Vec<f64> = columns.iter().map(|b| dot(a, b)).collect();
            row.push(dot(a, wanted));
            row
        })
        .collect();
    for k in 0..n {
        let size = |&i: &usize| rows[i][k].abs();
        let pivot = (k..n).max_by(|a, b| size(a).total_cmp(&size(b)))?;
        rows.swap(k, pivot);
        let (done, below) = rows.split_at_mut(k + 1);
        let top = &done[k];
        if top[k].abs() < 1e-30 {
            return None;
        }
        for row in below {
            let factor = row[k] / top[k];
            for (to, from) in row[k..].iter_mut().zip(&top[k..]) {
                *to -= factor * from;
            }
        }
    }
    let mut solution = vec![0.0; n];
    for k in (0..n).rev() {
        let known: f64 = (k + 1..n).map(|j| rows[k][j] * solution[j]).sum();
        solution[k] = (rows[k][n] - known) / rows[k][k];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::Step;

    const FLAT: Shape = Shape {
        dtype: DType::F32,
        rows: 1,
        cols: 4,
    };

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn a_sum_is_taken_in_the_order_of_its_sources() {
        let step = Step::Linear(Linear {
            coefficients: vec![1.0, -0.5, 2.0],
        });
        let recipe = Recipe::new(FLAT, vec![FLAT; 3], None, step).unwrap();
        let parts = [
            bytes(&[1.0, 0.0, -0.0, f32::INFINITY]),
            bytes(&[2.0, 1e30, 0.0, f32::INFINITY]),
            bytes(&[0.25, -1e30, -0.0, 1.0]),
        ];
        let parts: Vec<&[u8]> = parts.iter().map(|p| &p[..]).collect();
        let mut out = [0; 16];
        recipe.predict(0, &parts, &mut out).unwrap();
        let mut want = bytes(&[0.5, -2.5e30, -0.0]);
        want.extend(0x7FC0_0000u32.to_le_bytes());
        assert_eq!(out[..], want);
        let mut patterns = [0; 4];
        recipe.patterns(0, &parts, &mut patterns).unwrap();
        assert_eq!(patterns[0], 0.5f32.to_bits());
    }

    fn noise(seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..512)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 16_777_216.0 - 0.5
            })
            .collect()
    }

    #[test]
    fn the_coefficients_of_a_merge_are_found_and_made_round() {
        let (a, b, c) = (noise(1), noise(2), noise(3));
        let mix = |x: f32, y: f32, z: f32| -> Vec<f32> {
            (0..512)
                .map(|i| float::from_bf16(float::to_bf16(x * a[i] + y * b[i] + z * c[i])))
                .collect()
        };
        let mean = Linear::find(
            DType::Bf16,
            &mix(1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0),
            &[&a, &b, &c],
        )
        .unwrap();
        assert_eq!(mean.coefficients, [1.0 / 3.0; 3]);
        let tasks = Linear::find(DType::Bf16, &mix(-0.2, 0.7, 0.5), &[&a, &b, &c]).unwrap();
        assert_eq!(tasks.coefficients, [-0.2, 0.7, 0.5]);
    }

    #[test]
    fn a_tensor_that_is_no_sum_has_no_coefficients() {
        assert_eq!(
            Linear::find(DType::Bf16, &noise(9), &[&noise(1), &noise(2)]),
            None
        );
        assert_eq!(
            Linear::find(DType::Bf16, &noise(9), &[&noise(1), &noise(1)]),
            None
        );
        assert_eq!(
            Linear::find(
                DType::Bf16,
                &noise(9)[..32],
                &[&noise(1)[..32], &noise(2)[..32]]
            ),
            None
        );
        assert_eq!(Linear::find(DType::Bf16, &noise(9), &[]), None);
    }
}
