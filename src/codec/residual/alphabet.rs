//! The symbols of a difference between a target and its prediction, of one number type.
//!
//! May use: `number`. A symbol stands for a sign and a range of sizes; the place inside the range
//! follows as raw bits.

use super::number::Number;

/// Differences this small have a symbol of their own.
const DIRECT: u32 = 8;
/// Symbols of a changed sign.
const FLIPS: i64 = 20;
/// The lowest of the flip ranges, in units of `2^mantissa`.
const FLIP_LOW: i64 = -8;
/// Symbols of a prediction of zero: one for no change, the rest for exponents.
pub(super) const ZERO_SYMBOLS: u32 = 61;
/// How far below the expected exponent the first of them lies.
pub(super) const ZERO_BELOW: i32 = 41;
/// The most hot differences of a model.
pub(super) const HOT_MAX: usize = 32;

/// What a symbol stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// The same sign; the magnitude moves by this much and the raw bits, away from zero
    /// (towards larger magnitudes) or not.
    Move {
        /// Whether the difference is negative.
        negative: bool,
    },
    /// The other sign.
    Flip,
    /// The element itself follows raw.
    Escape,
}

/// One symbol: its class, the smallest difference it stands for, and how many raw bits follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    pub class: Class,
    pub start: i64,
    pub raw: u32,
}

/// All symbols of a number type, with the hot differences of a model.
#[derive(Clone, Debug)]
pub(super) struct Alphabet {
    pub number: Number,
    pub hot: Vec<i32>,
    symbols: Vec<Symbol>,
    escape: u8,
    /// Symbols of a move in order of size, for a search: `1 + 2k` and `2 + 2k` for positive and
    /// negative.
    moves: u32,
}

impl Alphabet {
    pub fn new(number: Number, hot: Vec<i32>) -> Self {
        let m = number.mantissa;
        let mut starts: Vec<(i64, u32)> = Vec::new();
        if number.bytes == 1 {
            starts.extend((1..=60).map(|z| (z, 0)));
        } else {
            starts.extend((1..i64::from(DIRECT)).map(|z| (z, 0)));
            for octave in 3..m - 1 {
                starts.push((1 << octave, octave - 1));
                starts.push((3 << (octave - 1), octave - 1));
            }
            let linear = match (number.bytes, m) {
                (2, 7) => 24,
                (2, _) => 16,
                _ => 12,
            };
            starts.extend((1..=linear).map(|k| (k << (m - 1), m - 1)));
        }
        let mut symbols = vec![Symbol {
            class: Class::Move { negative: false },
            start: 0,
            raw: 0,
        }];
        for &(start, raw) in &starts {
            for negative in [false, true] {
                symbols.push(Symbol {
                    class: Class::Move { negative },
                    start,
                    raw,
                });
            }
        }
        if number.bytes > 1 {
            symbols.extend((0..FLIPS).map(|k| Symbol {
                class: Class::Flip,
                start: (k + FLIP_LOW) << m,
                raw: m,
            }));
        }
        let escape = symbols.len() as u8;
        symbols.push(Symbol {
            class: Class::Escape,
            start: 0,
            raw: number.width(),
        });
        symbols.extend(hot.iter().map(|&d| Symbol {
            class: Class::Move { negative: d < 0 },
            start: i64::from(d.unsigned_abs()),
            raw: 0,
        }));
        Self {
            number,
            hot,
            symbols,
            escape,
            moves: starts.len() as u32,
        }
    }

    /// The symbol of an element that follows raw.
    pub fn escape(&self) -> u8 {
        self.escape
    }

    /// Symbols, hot ones included.
    pub fn len(&self) -> usize {
        self.symbols.len()
    }

    /// What a symbol stands for; a number beyond the alphabet is an escape.
    pub fn symbol(&self, symbol: u8) -> Symbol {
        self.symbols[usize::from(symbol)]
    }

    /// Ranges of a difference beside zero.
    pub fn moves(&self) -> u32 {
        self.moves
    }

    /// Every symbol in order.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }

    /// The symbol and raw bits of a difference of the magnitude, counted away from the rounding
    /// border where the sign is kept, as it is where the sign changes.
    pub fn find(&self, difference: i64, flip: bool) -> (u8, u32) {
        let m = self.number.mantissa;
        if flip {
            let range = (difference >> m) - FLIP_LOW;
            if self.number.bytes == 1 || !(0..FLIPS).contains(&range) {
                return (self.escape, 0);
            }
            let raw = (difference & ((1 << m) - 1)) as u32;
            return ((1 + 2 * self.moves + range as u32) as u8, raw);
        }
        let size = difference.unsigned_abs();
        let negative = u32::from(difference < 0);
        if !self.hot.is_empty()
            && size >= u64::from(DIRECT)
            && let Ok(exact) = i32::try_from(difference)
            && let Some(at) = self.hot.iter().position(|&d| d == exact)
        {
            return (self.escape + 1 + at as u8, 0);
        }
        let Some(rank) = self.rank(size) else {
            return (self.escape, 0);
        };
        if rank == 0 {
            return (0, 0);
        }
        let symbol = (2 * rank - 1 + negative) as u8;
        let start = self.symbols[usize::from(symbol)].start as u64;
        (symbol, (size - start) as u32)
    }

    /// The number of the range that a size lies in.
    fn rank(&self, size: u64) -> Option<u32> {
        let m = self.number.mantissa;
        let rank = if self.number.bytes == 1 || size < u64::from(DIRECT) {
            size
        } else if size < 1 << (m - 1) {
            let octave = 63 - size.leading_zeros();
            u64::from(DIRECT + 2 * (octave - 3)) + ((size >> (octave - 1)) & 1)
        } else {
            u64::from(DIRECT + 2 * (m - 1 - 3)) + (size >> (m - 1)) - 1
        };
        (rank <= u64::from(self.moves)).then_some(rank as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use store_format::dtype::DType;

    fn all() -> Vec<Alphabet> {
        [
            DType::Bf16,
            DType::F16,
            DType::F32,
            DType::F8E4M3,
            DType::F8E5M2,
        ]
        .iter()
        .filter_map(|&dtype| Number::of(dtype))
        .map(|number| Alphabet::new(number, vec![-288, 431, 77_777]))
        .collect()
    }

    #[test]
    fn alphabets_have_the_sizes_of_the_specification() {
        let escapes: Vec<u8> = all().iter().map(Alphabet::escape).collect();
        assert_eq!(escapes, [95, 91, 135, 121, 121]);
    }

    proptest! {
        #[test]
        fn a_difference_lies_in_the_range_of_its_symbol(bits in any::<u32>(), cut in 0u32..32,
                                                        flip in any::<bool>(), low in any::<bool>()) {
            let size = i64::from(bits >> cut);
            let difference = if low { -size } else { size };
            for alphabet in all() {
                let (number, raw) = alphabet.find(difference, flip);
                let symbol = alphabet.symbol(number);
                match symbol.class {
                    Class::Move { negative } => {
                        let back = symbol.start + i64::from(raw);
                        prop_assert_eq!(if negative { -back } else { back }, difference);
                        prop_assert!(!flip && u64::from(raw) < 1u64 << symbol.raw);
                    }
                    Class::Flip => {
                        prop_assert_eq!(symbol.start + i64::from(raw), difference);
                        prop_assert!(flip && raw < 1 << symbol.raw);
                    }
                    Class::Escape => prop_assert!(flip || size > 60),
                }
            }
        }
    }
}
