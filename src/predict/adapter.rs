//! Adapter: a weight with a low-rank adapter merged into it, as PEFT merges it.
//!
//! May use: `store_format`. Must never sum a product in another order than the one stored.

use store_format::FormatError;
use store_format::dtype::DType;

use super::wire::Reader;
use super::{BLOCK, Output, Shape, SourceRange, float, invalid, widen_at};

/// The largest rank of an adapter.
pub const RANK_MAX: u64 = 4096;
/// Elements of both factors that one range may need: they are widened before the product.
const FACTORS_MAX: u64 = 1 << 26;
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

/// How two factors become a change of the base: `base + product * scale`.
///
/// Two more sources follow the base: A with `rank` rows of the layer's inputs, and B with a row
/// of `rank` for each of its outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// `alpha / r`, or `alpha / sqrt(r)`, rounded to binary32.
    pub scale: f32,
    /// How the product is summed; always over rising k.
    pub order: Order,
    /// The type that the scaled product is rounded to before it is added (F32: not at all).
    pub change: DType,
    /// The base has a row for each input instead of each output.
    pub by_input: bool,
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
    pub fn candidates(scale: f32, base: DType, by_input: bool) -> Vec<Self> {
        let mut all = Vec::new();
        for change in [DType::F32, base] {
            for order in [Order::Fused, Order::Plain] {
                let candidate = Self {
                    scale,
                    order,
                    change,
                    by_input,
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
        out.extend([order, self.change.number(), u8::from(self.by_input)]);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        let scale = reader.f32()?;
        let order = match reader.byte()? {
            0 => Order::Plain,
            1 => Order::Fused,
            value => {
                return Err(FormatError::Unknown {
                    field: "order of a sum",
                    value: u64::from(value),
                });
            }
        };
        let change = DType::from_number(reader.byte()?)?;
        let by_input = match reader.byte()? {
            0 => false,
            1 => true,
            value => {
                return Err(FormatError::Unknown {
                    field: "side of an adapter",
                    value: u64::from(value),
                });
            }
        };
        Ok(Self {
            scale,
            order,
            change,
            by_input,
        })
    }

    pub(super) fn check(
        &self,
        base: &Shape,
        target: &Shape,
        extra: &[Shape],
    ) -> Result<(), FormatError> {
        let [a, b] = extra else {
            return invalid("an adapter has two factors");
        };
        let (inputs, outputs) = if self.by_input {
            (target.rows, target.cols)
        } else {
            (target.cols, target.rows)
        };
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

    /// The whole of the factor along the columns of the target, and of the other the rows that
    /// the range touches; by input, both whole.
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
        let (from, until) = if self.by_input {
            (0, b.rows)
        } else {
            (first / target.cols, (first + count - 1) / target.cols + 1)
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
        let products = count.saturating_mul(a.rows);
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
        Ok(vec![
            a_range,
            SourceRange {
                source: at + 1,
                start,
                bytes,
            },
        ])
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the range, its base and its factors"
    )]
    pub(super) fn fill(
        &self,
        target: &Shape,
        extra: &[Shape],
        first: u64,
        base: &[u8],
        base_type: DType,
        parts: &[&[u8]],
        out: &mut Output,
    ) -> Result<(), FormatError> {
        let &[a_part, b_part] = parts else {
            return Ok(()); // An empty range asks for nothing.
        };
        let (a, b) = (&extra[0], &extra[1]);
        let rank = a.rows as usize;
        let a_values = widened(a.dtype, a_part)?;
        let b_values = widened(b.dtype, b_part)?;
        // `along` has a row a component, as long as the target's rows; `across` the components
        // of a row together.
        let (along, across, across_first) = if self.by_input {
            (
                transposed(&b_values, rank),
                transposed(&a_values, a.cols as usize),
                0,
            )
        } else {
            (a_values, b_values, first / target.cols)
        };
        let cols = target.cols as usize;
        let count = base.len() / base_type.block().1 as usize;
        let (mut sums, mut values) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        let mut done = 0;
        while done < count {
            let element = first + done as u64;
            let (row, col) = (
                (element / target.cols - across_first) as usize,
                (element % target.cols) as usize,
            );
            let n = BLOCK.min(cols - col).min(count - done);
            let sums = &mut sums[..n];
            sums.fill(0.0);
            for (k, &factor) in across[row * rank..(row + 1) * rank].iter().enumerate() {
                self.add(sums, factor, &along[k * cols + col..][..n]);
            }
            let values = &mut values[..n];
            widen_at(base_type, base, done, values)?;
            self.change(values, sums)?;
            out.put(target.dtype, done, values)?;
            done += n;
        }
        Ok(())
    }

    fn add(&self, sums: &mut [f32], factor: f32, along: &[f32]) {
        match self.order {
            Order::Plain => {
                for (sum, &x) in sums.iter_mut().zip(along) {
                    *sum += factor * x;
                }
            }
            Order::Fused => {
                let factor = f64::from(factor);
                for (sum, &x) in sums.iter_mut().zip(along) {
                    *sum = (f64::from(*sum) + factor * f64::from(x)) as f32;
                }
            }
        }
    }

    /// `value + round(sum * scale)`. A base that is not finite stays as it is; a NaN that the
    /// sum makes becomes the canonical one.
    fn change(&self, values: &mut [f32], sums: &[f32]) -> Result<(), FormatError> {
        for (value, &sum) in values.iter_mut().zip(sums) {
            let product = sum * self.scale;
            let change = match self.change {
                DType::Bf16 => float::from_bf16(float::to_bf16(product)),
                DType::F16 => float::from_f16(float::to_f16(product)),
                _ => product,
            };
            if value.is_finite() {
                let changed = *value + change;
                *value = if changed.is_nan() {
                    f32::from_bits(0x7FC0_0000)
                } else {
                    changed
                };
            }
        }
        Ok(())
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
mod tests {
    use super::super::{Recipe, Step};
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn shape(rows: u64, cols: u64) -> Shape {
        Shape {
            dtype: DType::F32,
            rows,
            cols,
        }
    }

    fn predict(recipe: &Recipe, sources: &[Vec<u8>], first: u64, count: u64) -> Vec<f32> {
        let ranges = recipe.sources(first, count).unwrap();
        let parts: Vec<&[u8]> = ranges
            .iter()
            .map(|r| &sources[r.source][r.start as usize..][..r.bytes as usize])
            .collect();
        let mut out = vec![0; count as usize * 4];
        recipe.predict(first, &parts, &mut out).unwrap();
        out.as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b))
            .collect()
    }

    const PLAIN: Adapter = Adapter {
        scale: 0.5,
        order: Order::Plain,
        change: DType::F32,
        by_input: false,
    };

    #[test]
    fn the_product_is_scaled_and_added_in_any_range() {
        // Three outputs, two inputs, rank 2.
        let base = bytes(&[10.0, 20.0, 30.0, 40.0, f32::INFINITY, 60.0]);
        let a = bytes(&[1.0, 2.0, 3.0, 4.0]);
        let b = bytes(&[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let sources = [base, a, b];
        let shapes = vec![shape(3, 2), shape(2, 2), shape(3, 2)];
        let recipe = Recipe::new(shape(3, 2), shapes, None, Step::Adapter(PLAIN)).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_bytes()).as_ref(), Ok(&recipe));
        let whole = [10.5, 21.0, 31.5, 42.0, f32::INFINITY, 63.0];
        for first in 0..6 {
            for end in first..=6 {
                let got = predict(&recipe, &sources, first as u64, (end - first) as u64);
                assert_eq!(got, whole[first..end]);
            }
        }
    }

    #[test]
    fn a_base_by_input_takes_the_transposed_product() {
        let base = bytes(&[0.0; 6]);
        // Inputs 2, outputs 3, rank 1; the base has a row an input.
        let sources = [base, bytes(&[1.0, 10.0]), bytes(&[2.0, 4.0, 6.0])];
        let shapes = vec![shape(2, 3), shape(1, 2), shape(3, 1)];
        let adapter = Adapter {
            by_input: true,
            ..PLAIN
        };
        let recipe = Recipe::new(shape(2, 3), shapes, None, Step::Adapter(adapter)).unwrap();
        let whole = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        assert_eq!(predict(&recipe, &sources, 0, 6), whole);
        assert_eq!(predict(&recipe, &sources, 2, 3), whole[2..5]);
    }

    #[test]
    fn orders_and_roundings_differ_where_they_should() {
        // 1 + 2^-24 * (1 + 2^-27): the product alone rounds to 2^-24, a tie that falls to 1.
        let a = bytes(&[1.0, (1.0 + 2f32.powi(-9)) * 2f32.powi(-24)]);
        let b = bytes(&[1.0, 1.0 - 2f32.powi(-9) + 2f32.powi(-18)]);
        let sources = [bytes(&[0.0]), a, b];
        let run = |order, change| {
            let adapter = Adapter {
                scale: 1.0,
                order,
                change,
                by_input: false,
            };
            let shapes = vec![shape(1, 1), shape(2, 1), shape(1, 2)];
            let recipe = Recipe::new(shape(1, 1), shapes, None, Step::Adapter(adapter)).unwrap();
            predict(&recipe, &sources, 0, 1)[0]
        };
        assert_eq!(run(Order::Plain, DType::F32), 1.0);
        assert_eq!(run(Order::Fused, DType::F32), 1.0 + 2f32.powi(-23));
        assert_eq!(run(Order::Fused, DType::Bf16), 1.0);
    }

    #[test]
    fn scales_follow_the_configuration() {
        assert_eq!(Adapter::scale_of(32.0, 16, false), 2.0);
        assert_eq!(Adapter::scale_of(16.0, 64, true), 2.0);
        assert_eq!(Adapter::candidates(2.0, DType::Bf16, false).len(), 4);
        assert_eq!(Adapter::candidates(2.0, DType::F32, false).len(), 2);
    }

    #[test]
    fn a_range_of_more_products_than_a_full_chunk_of_the_largest_rank_is_refused() {
        let shapes = vec![shape(1024, 2048), shape(4096, 2048), shape(1024, 4096)];
        let recipe = Recipe::new(shape(1024, 2048), shapes, None, Step::Adapter(PLAIN)).unwrap();
        assert!(recipe.sources(0, 1 << 20).is_ok());
        let refused = recipe.sources(0, (1 << 20) + 1).unwrap_err();
        assert!(matches!(
            refused,
            FormatError::TooLarge {
                max: PRODUCTS_MAX,
                ..
            }
        ));
    }

    #[test]
    fn factors_that_do_not_fit_are_refused() {
        let new = |a, b, adapter| {
            Recipe::new(
                shape(3, 2),
                vec![shape(3, 2), a, b],
                None,
                Step::Adapter(adapter),
            )
        };
        assert!(new(shape(2, 2), shape(3, 2), PLAIN).is_ok());
        assert!(new(shape(2, 3), shape(3, 2), PLAIN).is_err());
        assert!(new(shape(2, 2), shape(3, 1), PLAIN).is_err());
        assert!(new(shape(0, 2), shape(3, 0), PLAIN).is_err());
        assert!(
            new(
                shape(2, 2),
                shape(3, 2),
                Adapter {
                    by_input: true,
                    ..PLAIN
                }
            )
            .is_err()
        );
        assert!(
            new(
                shape(2, 2),
                shape(3, 2),
                Adapter {
                    scale: f32::NAN,
                    ..PLAIN
                }
            )
            .is_err()
        );
        assert!(
            new(
                shape(2, 2),
                shape(3, 2),
                Adapter {
                    change: DType::I8,
                    ..PLAIN
                }
            )
            .is_err()
        );
    }
}
