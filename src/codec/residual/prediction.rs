//! What is expected of the elements of a chunk, as the coder sees it.
//!
//! May use: `number`, `soon`. A prediction is a sign and a magnitude in the target's own integer
//! steps, with 16 bits of fraction where the predictor knows them.

use super::number::{self, Number};
use super::soon::Soon;

/// The prediction of a chunk's elements.
#[derive(Clone, Copy, Debug)]
pub enum Prediction<'a> {
    /// Nothing is known.
    None,
    /// The bytes of elements of the target's own type.
    Same(&'a [u8]),
    /// Sign in bit 31, below it the magnitude with 16 bits of fraction; for 32-bit types the
    /// magnitude alone.
    Fraction(&'a [u32]),
}

impl<'a> Prediction<'a> {
    /// The prediction of `len` elements from `start` on; `width` bytes an element.
    pub(super) fn slice(self, width: usize, start: usize, len: usize) -> Self {
        match self {
            Self::None => Self::None,
            Self::Same(bytes) => Self::Same(&bytes[start * width..(start + len) * width]),
            Self::Fraction(patterns) => Self::Fraction(&patterns[start..start + len]),
        }
    }

    /// The memory of it, while as many elements are decoded.
    pub(super) fn soon(self, elements: usize) -> Soon {
        match self {
            Self::None => Soon::NONE,
            Self::Same(bytes) => Soon::of(bytes, elements),
            Self::Fraction(patterns) => Soon::of(patterns, elements),
        }
    }

    /// Whether it has an element for each of `len` of the target.
    pub(super) fn covers(self, width: usize, len: usize) -> bool {
        match self {
            Self::None => true,
            Self::Same(bytes) => bytes.len() == len * width,
            Self::Fraction(patterns) => patterns.len() == len,
        }
    }

    /// The rounded prediction as the bits of an element; 0 where nothing is known.
    pub(super) fn element(self, number: Option<Number>, width: usize, index: usize) -> u64 {
        match (self, number) {
            (Self::Same(bytes), _) => number::load(bytes, width, index),
            (Self::Fraction(patterns), Some(number)) => {
                let (pattern, _) = round(number, patterns[index]);
                element(number, pattern)
            }
            (Self::Fraction(_) | Self::None, _) => 0,
        }
    }

    /// Pattern and fraction of one element: `sign << 31 | magnitude`, rounded, and how far that
    /// lies above the prediction before rounding.
    pub(super) fn pattern(self, number: Number, index: usize) -> (u32, i16) {
        match self {
            Self::None => (0, 0),
            Self::Same(bytes) => {
                let bits = number::load(bytes, number.bytes, index) as u32;
                let sign = (bits << (32 - number.width())) & (1 << 31);
                (sign | (bits & number.magnitude_max()), 0)
            }
            Self::Fraction(patterns) => round(number, patterns[index]),
        }
    }
}

/// Rounds a magnitude with fraction to the nearest, half up, and gives what lies beyond.
fn round(number: Number, raw: u32) -> (u32, i16) {
    let magnitude = raw & 0x7FFF_FFFF;
    let sign = raw & (1 << 31);
    if number.bytes == 4 {
        return (raw, 0);
    }
    let up = magnitude + 0x8000;
    let whole = (up >> 16).min(number.magnitude_max());
    (sign | whole, ((up & 0xFFFF) as i32 - 0x8000) as i16)
}

/// The bits of an element from its pattern.
pub(super) fn element(number: Number, pattern: u32) -> u64 {
    u64::from((pattern >> 31) << (number.width() - 1) | (pattern & number.magnitude_max()))
}
