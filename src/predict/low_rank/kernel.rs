//! The product of a row of the left factor with columns of the right one, in whole numbers.
//!
//! May use: nothing. Must never give another sum than the scalar form.

/// The right factor, arranged for the machine.
pub(super) struct Right<'a> {
    b: &'a [i8],
    cols: usize,
}

impl<'a> Right<'a> {
    pub(super) fn new(b: &'a [i8], _rank: usize, cols: usize) -> Self {
        Self { b, cols }
    }

    /// The sums over k of `row[k] * b(k, col + j)` for every j of `out`.
    pub(super) fn dots(&self, row: &[i8], col: usize, out: &mut [i32]) {
        scalar(row, self.b, self.cols, col, out);
    }
}

fn scalar(row: &[i8], b: &[i8], cols: usize, col: usize, out: &mut [i32]) {
    out.fill(0);
    for (k, &entry) in row.iter().enumerate() {
        let factor = i32::from(entry);
        for (sum, &x) in out.iter_mut().zip(&b[k * cols + col..]) {
            *sum += factor * i32::from(x);
        }
    }
}
