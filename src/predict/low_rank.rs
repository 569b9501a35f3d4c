//! Low rank: a base changed by the product of two thin matrices of small whole numbers.
//!
//! May use: `store_format`, `vectors`. Must never compute the product otherwise than in whole numbers: then
//! any order of summation gives the same bits.

pub mod fit;
mod kernel;
pub mod subspace;

use store_format::FormatError;
use store_format::dtype::DType;
use store_format::limits::CHUNK_BYTES_MAX;

use super::wire::Reader;
use super::{BLOCK, Output, Shape, float, invalid, widen_at};
use crate::vectors::wide;

/// The largest rank.
pub const RANK_MAX: usize = 64;
/// The largest magnitude of a factor's entry: a dot product of rank 64 stays exact in binary32.
pub const ENTRY_MAX: i8 = 63;

/// The two factors: the change of element (i, j) is `step * sum over k of a(i, k) * b(k, j)`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    rank: usize,
    step: f32,
    /// A row of `rank` entries for each row of the tensor.
    a: Vec<i8>,
    /// `rank` rows of an entry for each column.
    b: Vec<i8>,
}

impl LowRank {
    /// Factors; `a` row by row, `b` component by component.
    ///
    /// # Errors
    /// [`FormatError`] for a rank outside 1 to 64, lengths that are no multiple of it, entries
    /// beyond 63, or a step that is not a positive number.
    pub fn new(rank: usize, step: f32, a: Vec<i8>, b: Vec<i8>) -> Result<Self, FormatError> {
        if rank == 0 || rank > RANK_MAX {
            return invalid("the rank is 1 to 64");
        }
        if !a.len().is_multiple_of(rank) || !b.len().is_multiple_of(rank) {
            return invalid("factors have whole rows of the rank");
        }
        if (a.len() + b.len()) as u64 > CHUNK_BYTES_MAX {
            return invalid("factors have at most 2^26 entries");
        }
        if a.iter()
            .chain(&b)
            .any(|entry| entry.unsigned_abs() > ENTRY_MAX.unsigned_abs())
        {
            return invalid("the entries of factors are -63 to 63");
        }
        if !step.is_finite() || step <= 0.0 {
            return invalid("the step of factors is a positive number");
        }
        Ok(Self { rank, step, a, b })
    }

    /// The rank.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> f32 {
        self.step
    }

    /// The left factor, row by row.
    #[must_use]
    pub fn a(&self) -> &[i8] {
        &self.a
    }

    /// The right factor, component by component: what a warm start goes on from.
    #[must_use]
    pub fn b(&self) -> &[i8] {
        &self.b
    }

    /// Rank, step, then the entries component by component: all of A's, then all of B's, so that
    /// numbers of one spread lie together for the coder behind.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        // `new` bounds the rank by 64.
        out.push(self.rank as u8);
        out.extend(self.step.to_le_bytes());
        for k in 0..self.rank {
            out.extend(
                self.a
                    .iter()
                    .skip(k)
                    .step_by(self.rank)
                    .map(|entry| entry.cast_unsigned()),
            );
        }
        out.extend(self.b.iter().map(|entry| entry.cast_unsigned()));
    }

    pub(super) fn read(reader: &mut Reader, target: &Shape) -> Result<Self, FormatError> {
        let rank = u64::from(reader.byte()?);
        let step = reader.f32()?;
        let lengths = target
            .rows
            .checked_mul(rank)
            .zip(target.cols.checked_mul(rank));
        let fits =
            lengths.filter(|&(a, b)| a.checked_add(b).is_some_and(|sum| sum <= CHUNK_BYTES_MAX));
        let Some((a_len, b_len)) = fits else {
            return invalid("factors have at most 2^26 entries");
        };
        let rank = rank as usize;
        let columns = reader.take(a_len as usize)?;
        let b = reader
            .take(b_len as usize)?
            .iter()
            .map(|&entry| entry.cast_signed())
            .collect();
        let rows = target.rows as usize;
        let a = (0..columns.len())
            .map(|i| columns[i % rank * rows + i / rank].cast_signed())
            .collect();
        Self::new(rank, step, a, b)
    }

    pub(super) fn check(
        &self,
        base: &Shape,
        target: &Shape,
        extra: &[Shape],
    ) -> Result<(), FormatError> {
        let fits = self.a.len() as u64 == target.rows * self.rank as u64
            && self.b.len() as u64 == target.cols * self.rank as u64;
        if !fits || !extra.is_empty() {
            return invalid("factors have the rows and columns of their tensor");
        }
        if !float::is_computable(base.dtype) || !float::is_computable(target.dtype) {
            return invalid("factors change float elements");
        }
        Ok(())
    }

    /// `base + f32(dot) * step`; a base that is not finite stays as it is.
    pub(super) fn fill(
        &self,
        target: &Shape,
        first: u64,
        base: &[u8],
        base_type: DType,
        out: &mut Output,
    ) -> Result<(), FormatError> {
        let count = base.len() / base_type.block().1 as usize;
        let mut dots = [0i32; BLOCK];
        let (mut values, mut changed) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let right = kernel::Right::new(&self.b, self.rank, target.cols as usize);
        let mut begin = first;
        let end = first + count as u64;
        while begin < end {
            let part = Part::next(target.cols, begin, end);
            let (row, col) = (
                (begin / target.cols) as usize,
                (begin % target.cols) as usize,
            );
            for at in (0..part.cols).step_by(part.step()) {
                let n = part.step().min(part.cols - at);
                let dots = &mut dots[..part.rows * n];
                let rows = &self.a[row * self.rank..(row + part.rows) * self.rank];
                right.dots(rows, col + at, dots);
                for (i, dots) in dots.chunks_exact(n).enumerate() {
                    let place = (begin - first) as usize + i * part.cols + at;
                    let values = &mut values[..n];
                    widen_at(base_type, base, place, values)?;
                    let changed = &mut changed[..n];
                    self.change(values, dots, changed);
                    out.put(target.dtype, place, changed)?;
                }
            }
            begin += (part.rows * part.cols) as u64;
        }
        Ok(())
    }

    /// Puts down each value plus its dot product times the step, each product rounded before the
    /// sum; a value that is not finite stays as it is.
    ///
    /// Not in place: there compilers leave out the stores of what stays, with instructions that
    /// are many times slower than a whole store.
    fn change(&self, values: &[f32], dots: &[i32], out: &mut [f32]) {
        wide(
            #[inline(always)]
            || {
                for ((out, &value), &dot) in out.iter_mut().zip(values).zip(dots) {
                    // Exact: a dot product is below 2^18.
                    let changed = value + dot as f32 * self.step;
                    *out = if value.is_finite() { changed } else { value };
                }
            },
        );
    }
}

/// Rows of a range that are worked on together: some whole ones, or a part of one.
struct Part {
    rows: usize,
    cols: usize,
}

impl Part {
    fn next(cols: u64, begin: u64, end: u64) -> Self {
        let whole = (end - begin) / cols;
        if begin.is_multiple_of(cols) && whole > 0 {
            Self {
                rows: (whole as usize).min(kernel::TOGETHER),
                cols: cols as usize,
            }
        } else {
            Self {
                rows: 1,
                cols: (cols - begin % cols).min(end - begin) as usize,
            }
        }
    }

    /// Columns whose values fit the stack.
    fn step(&self) -> usize {
        BLOCK / self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Recipe, Step};
    use super::*;

    fn shape(dtype: DType, rows: u64, cols: u64) -> Shape {
        Shape { dtype, rows, cols }
    }

    fn recipe(rank: usize, step: f32, a: Vec<i8>, b: Vec<i8>, rows: u64, cols: u64) -> Recipe {
        let step = Step::LowRank(LowRank::new(rank, step, a, b).unwrap());
        let sources = vec![shape(DType::Bf16, rows, cols)];
        Recipe::new(shape(DType::Bf16, rows, cols), sources, None, step).unwrap()
    }

    #[test]
    fn the_product_is_added_with_its_fraction() {
        // (1 -2; 63 0) times (1 2; -1 3) = (3 -4; 63 126), step 2^-9, base 1.
        let recipe = recipe(
            2,
            2f32.powi(-9),
            vec![1, -2, 63, 0],
            vec![1, 2, -1, 3],
            2,
            2,
        );
        let base = [0x80, 0x3F].repeat(4);
        let mut patterns = [0; 4];
        recipe.patterns(0, &[&base], &mut patterns).unwrap();
        let want = [3.0, -4.0, 63.0, 126.0].map(|x: f32| (1.0 + x / 512.0).to_bits());
        assert_eq!(patterns, want);
        let mut last = [0; 1];
        recipe.patterns(3, &[&base[6..]], &mut last).unwrap();
        assert_eq!(last[0], want[3]);
        let mut bytes = [0; 8];
        recipe.predict(0, &[&base], &mut bytes).unwrap();
        assert_eq!(bytes[..2], float::to_bf16(1.0 + 3.0 / 512.0).to_le_bytes());
        assert_eq!(Recipe::parse(&recipe.to_bytes()), Ok(recipe));
    }

    #[test]
    fn a_base_that_is_not_finite_is_the_prediction() {
        let recipe = recipe(1, 1.0, vec![63], vec![63, 63, 63], 1, 3);
        let raw = [0x7F80u16, 0xFF80, 0x7FA1];
        let base: Vec<u8> = raw.iter().flat_map(|raw| raw.to_le_bytes()).collect();
        let mut patterns = [0; 3];
        recipe.patterns(0, &[&base], &mut patterns).unwrap();
        assert_eq!(patterns, raw.map(|raw| u32::from(raw) << 16));
    }

    #[test]
    fn factors_that_do_not_fit_are_refused() {
        assert!(LowRank::new(0, 1.0, vec![], vec![]).is_err());
        assert!(LowRank::new(65, 1.0, vec![0; 65], vec![0; 65]).is_err());
        assert!(LowRank::new(1, 1.0, vec![64], vec![0]).is_err());
        assert!(LowRank::new(1, 1.0, vec![-128], vec![0]).is_err());
        assert!(LowRank::new(2, 1.0, vec![0; 3], vec![0; 2]).is_err());
        assert!(LowRank::new(1, 0.0, vec![0], vec![0]).is_err());
        assert!(LowRank::new(1, f32::INFINITY, vec![0], vec![0]).is_err());
        let factors = LowRank::new(1, 1.0, vec![0; 2], vec![0; 3]).unwrap();
        let base = vec![shape(DType::Bf16, 3, 3)];
        assert!(Recipe::new(shape(DType::Bf16, 3, 3), base, None, Step::LowRank(factors)).is_err());
    }

    #[test]
    fn damaged_parameters_never_pass_unseen_or_panic() {
        let recipe = recipe(2, 0.5, vec![1, 2, 3, 4], vec![5, 6, 7, 8, 9, 10], 2, 3);
        let bytes = recipe.to_bytes();
        for n in 0..bytes.len() {
            assert!(Recipe::parse(&bytes[..n]).is_err());
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = Recipe::parse(&damaged) {
                assert_eq!(other.to_bytes(), damaged);
            }
        }
    }
}
