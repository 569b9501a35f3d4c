//! What adapters make of small tensors, and what is refused.

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
    form: Form::ByOutput,
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
        form: Form::ByInput,
        ..PLAIN
    };
    let recipe = Recipe::new(shape(2, 3), shapes, None, Step::Adapter(adapter)).unwrap();
    let whole = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
    assert_eq!(predict(&recipe, &sources, 0, 6), whole);
    assert_eq!(predict(&recipe, &sources, 2, 3), whole[2..5]);
}

#[test]
fn a_decomposed_row_gets_its_magnitude_as_length_in_any_range() {
    let base = bytes(&[3.0, 3.0, 0.0, 0.0, f32::INFINITY, 60.0]);
    // The sums are (3, 4), (0, 0), (inf, 60).
    let (a, b) = (bytes(&[0.0, 2.0]), bytes(&[1.0, 0.0, 0.0]));
    let sources = [base, a, b, bytes(&[10.0, 1.0, 1.0])];
    let shapes = vec![shape(3, 2), shape(1, 2), shape(3, 1), shape(1, 3)];
    let adapter = Adapter {
        form: Form::Decomposed,
        ..PLAIN
    };
    let recipe = Recipe::new(shape(3, 2), shapes, None, Step::Adapter(adapter)).unwrap();
    assert_eq!(Recipe::parse(&recipe.to_bytes()).as_ref(), Ok(&recipe));
    let nan = 0x7FC0_0000;
    let whole = [6f32.to_bits(), 8f32.to_bits(), nan, nan, nan, 0];
    for first in 0..6 {
        for end in first..=6 {
            let got = predict(&recipe, &sources, first as u64, (end - first) as u64);
            let got: Vec<u32> = got.into_iter().map(f32::to_bits).collect();
            assert_eq!(got, whole[first..end]);
        }
    }
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
            form: Form::ByOutput,
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
    assert_eq!(
        Adapter::candidates(2.0, DType::Bf16, Form::ByOutput).len(),
        4
    );
    assert_eq!(
        Adapter::candidates(2.0, DType::F32, Form::ByOutput).len(),
        2
    );
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
                form: Form::ByInput,
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
