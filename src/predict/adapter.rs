//! Adapter: a weight with a low-rank adapter merged into it, as PEFT merges it.
//!
//! May use: `store_format`, `vectors`. Must never sum a product in another order than the one stored.

use store_format::FormatError;
use store_format::dtype::DType;

use super::wire::{Reader, unknown};
use super::{BLOCK, Output, Shape, SourceRange, float, invalid, widen_at};
use crate::vectors::wide;

/// The largest rank of an adapter.
pub const RANK_MAX: u64 = 4096;
/// Elements of both factors that one range may need: they are widened before the product.
const FACTORS_MAX: u64 = 1 << 26;
/// Elements of a row that is scaled to its magnitude: they are kept until its length is known.
const ROW_MAX: u64 = 1 << 20;
/// Products that one range may take: a full chunk of the largest rank, which is some seconds.
const PRODUCTS_MAX: u64 = 1 << 32;

/// How a term is added to the sum of an element of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `acc = f32(acc + f32(b * a))`.
    Plain,
    /// `acc = f32(f64(acc) + f64(b) * f64(a))`: what fused multiply-add gives, but for the
    /// doubly rounded sums, one in 2^29.
    Fused,
}

/// How the layer lies in the base, and what happens to the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The base has a row for each output.
    ByOutput,
    /// The base has a row for each input.
    ByInput,
    /// The base has a row for each output, and each row of the sum is scaled to a length of its
    /// own (DoRA): `sum * (magnitude / length of the sum's row)`.
    Decomposed,
}

/// How two factors become a change of the base: `base + product * scale`.
///
/// Two more sources follow the base: A with `rank` rows of the layer's inputs, and B with a row
/// of `rank` for each of its outputs; after them, for [`Form::Decomposed`], the magnitude of each
/// output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// `alpha / r`, or `alpha / sqrt(r)`, rounded to binary32.
    pub scale: f32,
    /// How the product is summed; always over rising k.
    pub order: Order,
    /// The type that the scaled product is rounded to before it is added (F32: not at all).
    pub change: DType,
    /// How the layer lies in the base.
    pub form: Form,
}

impl Adapter {
    /// The scale of an adapter of rank `r`: `alpha / r`, for rank-stabilised ones
    /// `alpha / sqrt(r)`.
    #[must_use]
    pub fn scale_of(alpha: f64, r: u32, rank_stabilised: bool) -> f32 {
        let r = f64::from(r);
        (if rank_stabilised {
            alpha / r.sqrt()
        } else {
            alpha / r
        }) as f32
    }

    /// The ways in which an adapter may have been merged, the likeliest first; an encoder tries
    /// each on one block of rows.
    #[must_use]
    pub fn candidates(scale: f32, base: DType, form: Form) -> Vec<Self> {
        let mut all = Vec::new();
        for change in [DType::F32, base] {
            for order in [Order::Fused, Order::Plain] {
                let candidate = Self {
                    scale,
                    order,
                    change,
                    form,
                };
                if !all.contains(&candidate) {
                    all.push(candidate);
                }
            }
        }
        all
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend(self.scale.to_le_bytes());
        let order = match self.order {
            Order::Plain => 0,
            Order::Fused => 1,
        };
        let form = match self.form {
            Form::ByOutput => 0,
            Form::ByInput => 1,
            Form::Decomposed => 2,
        };
        out.extend([order, self.change.number(), form]);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        let scale = reader.f32()?;
        let order = match reader.byte()? {
            0 => Order::Plain,
            1 => Order::Fused,
            value => return unknown("order of a sum", value),
        };
        let change = DType::from_number(reader.byte()?)?;
        let form = match reader.byte()? {
            0 => Form::ByOutput,
            1 => Form::ByInput,
            2 => Form::Decomposed,
            value => return unknown("form of an adapter", value),
        };
        Ok(Self {
            scale,
            order,
            change,
            form,
        })
    }

    /// Whether a range needs the whole rows that it touches.
    pub(super) fn needs_rows(&self) -> bool {
        self.form == Form::Decomposed
    }

    pub(super) fn check(
        &self,
        base: &Shape,
        target: &Shape,
        extra: &[Shape],
    ) -> Result<(), FormatError> {
        let (a, b, magnitudes) = match (self.form, extra) {
            (Form::ByOutput | Form::ByInput, [a, b]) => (a, b, None),
            (Form::Decomposed, [a, b, magnitudes]) => (a, b, Some(magnitudes)),
            _ => {
                return invalid(
                    "an adapter has two factors, and magnitudes where it is decomposed",
                );
            }
        };
        let (inputs, outputs) = match self.form {
            Form::ByInput => (target.rows, target.cols),
            Form::ByOutput | Form::Decomposed => (target.cols, target.rows),
        };
        if let Some(magnitudes) = magnitudes {
            if magnitudes.elements() != outputs || !float::is_computable(magnitudes.dtype) {
                return invalid("a decomposed adapter has a magnitude for each output");
            }
            if inputs > ROW_MAX {
                return invalid("a row that is scaled to its magnitude has at most 2^20 elements");
            }
        }
        if a.rows == 0
            || a.rows > RANK_MAX
            || a.rows != b.cols
            || a.cols != inputs
            || b.rows != outputs
        {
            return invalid("the factors of an adapter have the shape of its layer");
        }
        let computable = [base.dtype, target.dtype, a.dtype, b.dtype]
            .into_iter()
            .all(float::is_computable);
        let change = matches!(self.change, DType::F32 | DType::Bf16 | DType::F16);
        if !computable || !change || !self.scale.is_finite() {
            return invalid("an adapter changes float elements");
        }
        Ok(())
    }

    /// The whole of the factor along the columns of the target, and of the other, as of the
    /// magnitudes, the rows that the range touches; by input, both whole.
    pub(super) fn ranges(
        &self,
        target: &Shape,
        extra: &[Shape],
        at: usize,
        first: u64,
        count: u64,
    ) -> Result<Vec<SourceRange>, FormatError> {
        let (a, b) = (&extra[0], &extra[1]);
        if count == 0 {
            return Ok(Vec::new());
        }
        let (from, until) = match self.form {
            Form::ByInput => (0, b.rows),
            Form::ByOutput | Form::Decomposed => {
                (first / target.cols, (first + count - 1) / target.cols + 1)
            }
        };
        let needed = a
            .elements()
            .saturating_add((until - from).saturating_mul(b.cols));
        if needed > FACTORS_MAX {
            return Err(FormatError::TooLarge {
                field: "elements of an adapter's factors",
                value: needed,
                max: FACTORS_MAX,
            });
        }
        let summed = match self.form {
            Form::ByOutput | Form::ByInput => count,
            Form::Decomposed => (until - from).saturating_mul(target.cols),
        };
        let products = summed.saturating_mul(a.rows);
        if products > PRODUCTS_MAX {
            return Err(FormatError::TooLarge {
                field: "products of an adapter",
                value: products,
                max: PRODUCTS_MAX,
            });
        }
        let (_, bytes) = a.span(0, a.elements())?;
        let a_range = SourceRange {
            source: at,
            start: 0,
            bytes,
        };
        let (start, bytes) = b.span(from * b.cols, (until - from) * b.cols)?;
        let mut ranges = vec![
            a_range,
            SourceRange {
                source: at + 1,
                start,
                bytes,
            },
        ];
        if let Some(magnitudes) = extra.get(2) {
            let (start, bytes) = magnitudes.span(from, until - from)?;
            ranges.push(SourceRange {
                source: at + 2,
                start,
                bytes,
            });
        }
        Ok(ranges)
    }

    /// Fills `out` with the elements from `first` on; `base` begins at `base_first`, which is
    /// `first` or the start of its row, and ends where the range or its last row does.
    #[expect(
        clippy::too_many_arguments,
        reason = "the range, its base and its factors"
    )]
    pub(super) fn fill(
        &self,
        target: &Shape,
        extra: &[Shape],
        (base_first, first, count): (u64, u64, u64),
        base: &[u8],
        base_type: DType,
        parts: &[&[u8]],
        out: &mut Output,
    ) -> Result<(), FormatError> {
        if count == 0 {
            return Ok(()); // An empty range asks for nothing.
        }
        let factors = Sums::new(self, target, extra, parts, first)?;
        let (mut values, mut changed) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let Some(magnitudes) = parts.get(2) else {
            return blocks(target.cols, first, count, &mut |done, place, n| {
                let (values, changed) = (&mut values[..n], &mut changed[..n]);
                widen_at(base_type, base, done, values)?;
                factors.fill(self.order, place, changed);
                self.change(values, changed);
                out.put(target.dtype, done, changed)
            });
        };
        let magnitudes = widened(extra[2].dtype, magnitudes)?;
        let (cols, end) = (target.cols, first + count);
        let mut row_values = vec![0.0f32; cols as usize];
        for (row, &magnitude) in (base_first / cols..).zip(&magnitudes) {
            let start = row * cols;
            blocks(cols, start, cols, &mut |done, place, n| {
                let (values, changed) = (&mut values[..n], &mut row_values[done..done + n]);
                let at = (start - base_first) as usize + done;
                widen_at(base_type, base, at, values)?;
                factors.fill(self.order, place, changed);
                self.change(values, changed);
                Ok(())
            })?;
            let (from, until) = (start.max(first), (start + cols).min(end));
            let wanted = &mut row_values[..];
            scale_to(magnitude, wanted);
            let wanted = &wanted[(from - start) as usize..(until - start) as usize];
            out.put(target.dtype, (from - first) as usize, wanted)?;
        }
        Ok(())
    }

    /// From sums to `value + round(sum * scale)`. A base that is not finite stays as it is; a NaN
    /// that the sum makes becomes the canonical one.
    fn change(&self, values: &[f32], sums: &mut [f32]) {
        match self.change {
            DType::Bf16 => {
                self.change_by(values, sums, |x| float::from_bf16(float::to_bf16(x)));
            }
            DType::F16 => self.change_by(values, sums, |x| float::from_f16(float::to_f16(x))),
            _ => self.change_by(values, sums, |x| x),
        }
    }

    fn change_by(&self, values: &[f32], sums: &mut [f32], round: impl Fn(f32) -> f32) {
        wide(
            #[inline(always)]
            || {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    let changed = canonical(value + round(*sum * self.scale));
                    *sum = if value.is_finite() { changed } else { value };
                }
            },
        );
    }
}

/// The sums of products, for the elements of a range.
struct Sums {
    /// A row a component, as long as the target's rows.
    along: Vec<f32>,
    /// The components of a row together, from row `across_first` on.
    across: Vec<f32>,
    across_first: u64,
    rank: usize,
    cols: usize,
}

impl Sums {
    fn new(
        adapter: &Adapter,
        target: &Shape,
        extra: &[Shape],
        parts: &[&[u8]],
        first: u64,
    ) -> Result<Self, FormatError> {
        let (&[a, b, ..], &[a_part, b_part, ..]) = (extra, parts) else {
            return invalid("an adapter has two factors");
        };
        let a_values = widened(a.dtype, a_part)?;
        let b_values = widened(b.dtype, b_part)?;
        let rank = a.rows as usize;
        let (along, across, across_first) = match adapter.form {
            Form::ByInput => (
                transposed(&b_values, rank),
                transposed(&a_values, a.cols as usize),
                0,
            ),
            Form::ByOutput | Form::Decomposed => (a_values, b_values, first / target.cols),
        };
        Ok(Self {
            along,
            across,
            across_first,
            rank,
            cols: target.cols as usize,
        })
    }

    /// The sums of the elements of one row from `(row, column)` on.
    fn fill(&self, order: Order, (row, col): (u64, usize), out: &mut [f32]) {
        let row = (row - self.across_first) as usize;
        let factors = &self.across[row * self.rank..(row + 1) * self.rank];
        match order {
            Order::Plain => self.sum(factors, col, out, |sum, factor, x| sum + factor * x),
            Order::Fused => self.sum(factors, col, out, |sum, factor, x| {
                (f64::from(sum) + f64::from(factor) * f64::from(x)) as f32
            }),
        }
    }

    /// Component by component, for the columns of one do not wait for one another.
    fn sum(
        &self,
        factors: &[f32],
        col: usize,
        out: &mut [f32],
        add: impl Fn(f32, f32, f32) -> f32,
    ) {
        out.fill(0.0);
        for (row, &factor) in self.along.chunks_exact(self.cols).zip(factors) {
            wide(
                #[inline(always)]
                || {
                    for (sum, &x) in out.iter_mut().zip(&row[col..]) {
                        *sum = add(*sum, factor, x);
                    }
                },
            );
        }
    }
}

/// Cuts a range where rows end and buffers are full: how many elements are done, the row and
/// column of the next, and how many come.
fn blocks(
    cols: u64,
    first: u64,
    count: u64,
    each: &mut dyn FnMut(usize, (u64, usize), usize) -> Result<(), FormatError>,
) -> Result<(), FormatError> {
    let mut done = 0;
    while done < count {
        let (row, col) = ((first + done) / cols, (first + done) % cols);
        let n = (BLOCK as u64).min(cols - col).min(count - done);
        each(done as usize, (row, col as usize), n as usize)?;
        done += n;
    }
    Ok(())
}

/// Scales a row by the quotient of a magnitude and its length, which is summed in binary64 in
/// eight lanes, so that a processor may do it in vectors.
fn scale_to(magnitude: f32, row: &mut [f32]) {
    let mut lanes = [0.0f64; 8];
    for eight in row.chunks(8) {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    let length = lanes.iter().fold(0.0, |sum, lane| sum + lane).sqrt() as f32;
    let factor = magnitude / length;
    for value in row {
        *value = canonical(factor * *value);
    }
}

/// A NaN as the one that predictions have.
fn canonical(value: f32) -> f32 {
    if value.is_nan() {
        f32::from_bits(0x7FC0_0000)
    } else {
        value
    }
}

fn widened(dtype: DType, bytes: &[u8]) -> Result<Vec<f32>, FormatError> {
    let mut values = vec![0.0; bytes.len() / dtype.block().1 as usize];
    widen_at(dtype, bytes, 0, &mut values)?;
    Ok(values)
}

/// Rows of `cols` become columns.
fn transposed(values: &[f32], cols: usize) -> Vec<f32> {
    let rows = values.len() / cols.max(1);
    (0..values.len())
        .map(|i| values[i % rows * cols + i / rows])
        .collect()
}

#[cfg(test)]
mod tests;
