//! Tables of the format itself, for tensors too small to pay for their own.
//!
//! May use: `store_format`, `alphabet`, `difference`, `number`, `scale`, `table`. Integer arithmetic only: these
//! tables are part of the format.

use std::sync::OnceLock;

use store_format::dtype::DType;

use super::alphabet::{Alphabet, Class};
use super::difference::{self, Difference};
use super::number::Number;
use super::scale::Scales;
use super::table::Tables;

/// Contexts, each with a table.
const CONTEXTS: usize = 32;

/// The types that have such tables.
const TYPES: [DType; 7] = [
    DType::Bf16,
    DType::F16,
    DType::F32,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8E4M3Fnuz,
    DType::F8E5M2Fnuz,
];

/// One, in the fixed point of weights.
const ONE: u64 = 1 << 32;

/// The model of a number type's differences, with one coder a block and no scale yet; made once.
pub(super) fn difference(number: Number) -> Option<&'static Difference> {
    static MODELS: [OnceLock<Difference>; TYPES.len()] = [const { OnceLock::new() }; TYPES.len()];
    let which = TYPES
        .iter()
        .position(|&dtype| Number::of(dtype) == Some(number))?;
    Some(MODELS[which].get_or_init(|| make(number)))
}

fn make(number: Number) -> Difference {
    let alphabet = Alphabet::new(number, Vec::new());
    let frequencies: Vec<u16> = (0..CONTEXTS)
        .flat_map(|context| frequencies(&alphabet, context as u32))
        .collect();
    let tables = Tables::new(difference::BITS, alphabet.len(), &frequencies);
    let mut map = std::array::from_fn(|context| (context / 4) as u8);
    map[difference::ZERO] = 0;
    Difference {
        alphabet,
        scales: Scales::default(),
        fraction: false,
        zeros: false,
        map,
        tables,
        lanes: 1,
    }
}

/// The mean change of a context, in 256ths of the last place.
fn mean(number: Number, context: u32) -> u64 {
    if number.bytes == 4 {
        (181 << context) >> 1
    } else if context.is_multiple_of(2) {
        (19 << (context / 2)) >> 1
    } else {
        (27 << (context / 2)) >> 1
    }
}

/// The frequencies of one context: differences fall off geometrically, with a small share that
/// falls off slowly.
fn frequencies(alphabet: &Alphabet, context: u32) -> Vec<u16> {
    let mean = mean(alphabet.number, context);
    let ratio = ((u128::from(mean) << 32) / u128::from(mean + 256)) as u64;
    let weights: Vec<u64> = alphabet
        .symbols()
        .iter()
        .enumerate()
        .map(|(number, symbol)| match symbol.class {
            Class::Move { .. } => {
                let width = 1u64 << symbol.raw;
                let middle = symbol.start as u64 + width / 2;
                width * power(ratio, middle) + (1 << 23) / (number as u64 + 1)
            }
            Class::Flip | Class::Escape => 0,
        })
        .collect();
    let sum: u128 = weights.iter().map(|&w| u128::from(w)).sum();
    let share = |below: u128| (below * 1023 / sum) as u16;
    let mut below = 0;
    let mut frequencies: Vec<u16> = weights
        .iter()
        .map(|&weight| {
            let from = share(below);
            below += u128::from(weight);
            share(below) - from
        })
        .collect();
    frequencies[usize::from(alphabet.escape())] = 1;
    frequencies
}

/// `ratio` to the power of `exponent`, both of 32 bits of fraction, cut off after each product.
fn power(ratio: u64, mut exponent: u64) -> u64 {
    let (mut result, mut square) = (ONE, ratio);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = (result * square) >> 32;
        }
        square = (square * square) >> 32;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_table_has_its_sum_and_an_escape() {
        for dtype in [
            DType::Bf16,
            DType::F16,
            DType::F32,
            DType::F8E4M3,
            DType::F8E5M2,
        ] {
            let number = Number::of(dtype).expect("a float");
            let alphabet = Alphabet::new(number, Vec::new());
            for context in 0..CONTEXTS as u32 {
                let frequencies = frequencies(&alphabet, context);
                let sum: u32 = frequencies.iter().map(|&f| u32::from(f)).sum();
                assert_eq!(sum, 1 << difference::BITS);
                assert!(frequencies.iter().all(|&f| f < 1 << difference::BITS));
                assert_eq!(frequencies[usize::from(alphabet.escape())], 1);
            }
        }
    }
}
