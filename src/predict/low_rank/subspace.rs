//! Subspaces of long rows: orthonormal bases of them, and how they are turned.
//!
//! May use: `vectors`. The only door of nalgebra. Must never be asked by a decoder: its
//! sums may differ between machines.

use nalgebra::{Cholesky, DMatrix, DMatrixView, DMatrixViewMut, SymmetricEigen};

use crate::vectors::{add_scaled, dot};

/// Steps of the eigenvalue iteration, for each row of a matrix: far more than any takes.
const STEPS_EACH: usize = 64;

/// Rows that are too few for a product of matrices to be laid out for.
const FEW: usize = 8;

/// Rows of equal length, one after another.
#[derive(Clone, Debug)]
pub struct Rows {
    cols: usize,
    values: Vec<f32>,
}

impl Rows {
    /// Rows of `cols` values; what is less than a row at the end is left out.
    #[must_use]
    pub fn new(cols: usize, mut values: Vec<f32>) -> Self {
        values.truncate(values.len() / cols.max(1) * cols);
        Self { cols, values }
    }

    /// Rows of zeros.
    #[must_use]
    pub fn zero(rows: usize, cols: usize) -> Self {
        Self::new(cols, vec![0.0; rows * cols])
    }

    /// The length of a row.
    #[must_use]
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// How many rows there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.len() / self.cols.max(1)
    }

    /// A row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f32] {
        &self.values[i * self.cols..(i + 1) * self.cols]
    }

    /// A row, to be changed.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[i * self.cols..(i + 1) * self.cols]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.cols.max(1))
    }

    /// Adds a row.
    pub fn push(&mut self, row: &[f32]) {
        self.values.extend_from_slice(&row[..self.cols]);
    }

    /// Takes all rows away.
    pub fn clear(&mut self) {
        self.values.clear();
    }

    /// How far each of `rows` goes along each of these: as many rows, of a number for each of
    /// these.
    #[must_use]
    pub fn along(&self, rows: &Self) -> Self {
        if self.count() < FEW {
            let along = rows.iter().flat_map(|row| self.iter().map(|x| dot(x, row)));
            return Self::new(self.count(), along.collect());
        }
        let along = self.view().transpose() * rows.view();
        Self::new(self.count(), along.as_slice().to_vec())
    }

    /// Adds to the i-th of these each of `rows` times the i-th number of its row in `weights`.
    pub fn add_weighted(&mut self, weights: &Self, rows: &Self) {
        let (cols, count) = (self.cols, self.count());
        let mut sums = DMatrixViewMut::from_slice(&mut self.values, cols, count);
        sums.gemm(1.0, &rows.view(), &weights.view().transpose(), 1.0);
    }

    /// Adds a multiple of another row to one of these.
    pub fn add(&mut self, i: usize, row: &[f32], factor: f32) {
        add_scaled(self.row_mut(i), row, factor);
    }

    /// The rows as columns, which is how they lie in memory.
    fn view(&self) -> DMatrixView<'_, f32> {
        DMatrixView::from_slice(&self.values, self.cols, self.count())
    }

    /// Sums of these, weighted by each of `weights`: the basis turned.
    #[must_use]
    pub fn turned(&self, weights: &[Vec<f64>]) -> Self {
        let mut turned = Self::zero(weights.len(), self.cols);
        for (i, weights) in weights.iter().enumerate() {
            for (vector, &weight) in self.iter().zip(weights) {
                turned.add(i, vector, weight as f32);
            }
        }
        turned
    }
}

/// Modified Gram-Schmidt, twice; a vector that vanishes becomes zero.
pub fn orthonormalise(vectors: &mut Rows) {
    for i in 0..vectors.count() {
        let (done, rest) = vectors.values.split_at_mut(i * vectors.cols);
        let vector = &mut rest[..vectors.cols];
        let before = dot(vector, vector);
        for _ in 0..2 {
            for other in done.chunks_exact(vectors.cols) {
                let along = dot(other, vector);
                add_scaled(vector, other, -along);
            }
        }
        let length = dot(vector, vector);
        let scale = if length > before * 1e-10 {
            1.0 / length.sqrt()
        } else {
            0.0
        };
        for value in vector {
            *value *= scale;
        }
    }
}

/// The products of rows with each other, summed row by row.
#[derive(Debug)]
pub struct Gram {
    n: usize,
    sums: Vec<f64>,
}

impl Gram {
    /// Of rows of length `n`, none yet.
    #[must_use]
    pub fn new(n: usize) -> Self {
        Self {
            n,
            sums: vec![0.0; n * n],
        }
    }

    /// Adds a row.
    pub fn add(&mut self, row: &[f32]) {
        for (sums, &a) in self.sums.chunks_exact_mut(self.n).zip(row) {
            for (sum, &b) in sums.iter_mut().zip(row) {
                *sum += f64::from(a) * f64::from(b);
            }
        }
    }

    /// The eigenvalues and their vectors, the largest first; `None` where it has numbers that are
    /// not finite.
    #[must_use]
    pub fn eigen(self) -> Option<(Vec<f64>, Vec<Vec<f64>>)> {
        let n = self.n;
        if n == 0 || self.sums.iter().any(|sum| !sum.is_finite()) {
            return None;
        }
        let matrix = DMatrix::from_vec(n, n, self.sums);
        let eigen = SymmetricEigen::try_new(matrix, f64::EPSILON, STEPS_EACH * n)?;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let values = order.iter().map(|&j| eigen.eigenvalues[j]).collect();
        let vector = |&j: &usize| eigen.eigenvectors.column(j).iter().copied().collect();
        Some((values, order.iter().map(vector).collect()))
    }
}

/// The basis turned so that its vectors stand by how much of `rows` lies along them.
#[must_use]
pub fn rotated(basis: &Rows, rows: &Rows) -> Rows {
    let mut gram = Gram::new(basis.count());
    basis.along(rows).iter().for_each(|along| gram.add(along));
    match gram.eigen() {
        Some((_, vectors)) => basis.turned(&vectors),
        None => basis.clone(),
    }
}

/// The inverse of a symmetric matrix, row by row; `None` if it is not positive definite.
#[must_use]
pub fn inverted(matrix: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    let factors = Cholesky::new(DMatrix::from_vec(n, n, matrix))?;
    let inverse = factors.inverse();
    let finite = inverse.iter().all(|value| value.is_finite());
    finite.then(|| inverse.as_slice().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inverse_undoes_its_matrix() {
        let m = vec![4.0, 1.0, 1.0, 3.0];
        let inverse = inverted(m.clone(), 2).unwrap();
        let one = m[0] * inverse[0] + m[1] * inverse[2];
        assert!((one - 1.0).abs() < 1e-12);
        assert_eq!(inverted(vec![1.0, 2.0, 2.0, 1.0], 2), None);
        assert_eq!(inverted(vec![f64::NAN; 4], 2), None);
    }

    #[test]
    fn eigenvalues_fall_and_numbers_without_end_have_none() {
        let mut gram = Gram::new(2);
        gram.add(&[1.0, 0.0]);
        gram.add(&[0.0, 3.0]);
        let (values, vectors) = gram.eigen().unwrap();
        assert_eq!(values, [9.0, 1.0]);
        assert!((vectors[0][1].abs() - 1.0).abs() < 1e-12);
        let mut gram = Gram::new(1);
        gram.add(&[f32::INFINITY]);
        assert!(gram.eigen().is_none());
    }
}
