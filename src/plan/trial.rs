//! What a prediction would cost, judged by a few strips of a tensor.
//!
//! May use: `predict`, `store_format`. Must be deterministic; a wrong answer costs bytes, never
//! correctness.

use std::sync::LazyLock;

use store_format::dtype::DType;

use crate::predict::Shape;

/// Strips that tell which prediction is better.
pub const FEW: u64 = 8;

/// Strips that tell what the residual coder, which learns from what it sees, makes of one.
pub const MANY: u64 = 64;

/// Elements of a strip, at least where there are so many; then whole rows.
const STRIP_ELEMENTS: u64 = 2048;

/// Rows longer than this are judged by a part of them.
const ROW_ELEMENTS_MAX: u64 = 1 << 16;

/// Bits that an element costs which is as predicted.
const HIT_BITS: f64 = 0.15;

/// Some strips of a tensor, each as its first element and how many; on the borders of rows, or of
/// blocks where rows are long. A tensor of few rows is one strip; `count` is at least 2.
#[must_use]
pub fn strips(shape: Shape, count: u64) -> Vec<(u64, u64)> {
    let elements = shape.elements();
    if elements == 0 {
        return Vec::new();
    }
    // Blocks have at most 256 elements.
    let unit = if shape.cols <= ROW_ELEMENTS_MAX {
        shape.cols
    } else {
        STRIP_ELEMENTS
    };
    let units = elements / unit;
    let wanted = (STRIP_ELEMENTS / unit).max(1);
    if units <= wanted * count {
        return vec![(0, units * unit)];
    }
    let strips = 0..count;
    strips
        .map(|n| {
            (
                (units - wanted) * n / (count.max(2) - 1) * unit,
                wanted * unit,
            )
        })
        .collect()
}

/// Bits that correcting a prediction takes, roughly; 0 if there is nothing to correct.
#[must_use]
pub fn cost(dtype: DType, target: &[u8], predicted: &[u8]) -> f64 {
    if target == predicted {
        return 0.0;
    }
    let width = match dtype.block() {
        (1, bytes @ (1 | 2 | 4 | 8)) => bytes,
        _ => {
            let missed = target.iter().zip(predicted).filter(|(a, b)| a != b);
            return 8.0 * missed.count() as f64;
        }
    };
    match width {
        1 => cost_of::<1>(target, predicted),
        2 => cost_of::<2>(target, predicted),
        4 => cost_of::<4>(target, predicted),
        _ => cost_of::<8>(target, predicted),
    }
}

/// The costs of the smallest distances, so that few logarithms are taken.
static NEAR: LazyLock<[f64; 1024]> = LazyLock::new(|| {
    std::array::from_fn(|distance| match distance {
        0 => HIT_BITS,
        _ => far_cost(distance as u64),
    })
});

fn far_cost(distance: u64) -> f64 {
    2.5 + (distance as f64).log2()
}

fn cost_of<const WIDTH: usize>(target: &[u8], predicted: &[u8]) -> f64 {
    let near = &*NEAR;
    let pairs = target
        .as_chunks::<WIDTH>()
        .0
        .iter()
        .zip(predicted.as_chunks::<WIDTH>().0);
    pairs
        .map(|(target, predicted)| {
            let distance = ordered(target).abs_diff(ordered(predicted));
            match near.get(usize::try_from(distance).unwrap_or(usize::MAX)) {
                Some(cost) => *cost,
                None => far_cost(distance),
            }
        })
        .sum()
}

/// Bits that elements take without a prediction, roughly.
#[must_use]
pub fn plain_cost(bytes: usize) -> f64 {
    6.5 * bytes as f64
}

/// The bits of a float as a whole number that rises with its value.
#[inline(always)]
fn ordered<const WIDTH: usize>(element: &[u8; WIDTH]) -> i64 {
    let mut eight = [0; 8];
    eight[..WIDTH].copy_from_slice(element);
    let shift = 64 - 8 * WIDTH as u32;
    let bits = (u64::from_le_bytes(eight) << shift).cast_signed();
    let magnitude = (bits & i64::MAX) >> shift;
    if bits < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn bf16(rows: u64, cols: u64) -> Shape {
        Shape {
            dtype: DType::Bf16,
            rows,
            cols,
        }
    }

    #[test]
    fn strips_are_whole_rows_inside_the_tensor_and_reach_its_end() {
        for shape in [bf16(1, 7), bf16(4096, 1024), bf16(9, 70_000), bf16(3, 0)] {
            let strips = strips(shape, FEW);
            for (first, count) in &strips {
                assert!(first + count <= shape.elements());
                assert!(shape.cols > ROW_ELEMENTS_MAX || first % shape.cols == 0);
            }
            assert_eq!(strips.is_empty(), shape.elements() == 0);
        }
        assert_eq!(
            strips(bf16(4096, 1024), FEW).last(),
            Some(&(4094 * 1024, 2048))
        );
    }

    #[test]
    fn what_lies_closer_costs_less() {
        let element = |bits: u16| bits.to_le_bytes();
        let cost = |bits| cost(DType::Bf16, &element(0x3f80), &element(bits));
        assert!(cost(0x3f80) < cost(0x3f81) && cost(0x3f81) < cost(0x3f90));
        assert!(cost(0x3f90) < cost(0xbf80));
        assert!(super::cost(DType::Q8_0, &[1; 34], &[1; 34]) < 1.0);
    }
}
