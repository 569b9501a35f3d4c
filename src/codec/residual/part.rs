//! A part of a block as the coders see it: scale and rounded prediction of each element.
//!
//! May use: `kernel`, `number`, `prediction`, `scale`. A part is so short that all about it stays
//! in the nearest caches.

use super::kernel;
use super::number::{self, Number};
use super::prediction::{Prediction, element};
use super::scale::Scales;

/// Elements of a part; the last one of a block may be shorter.
pub(super) const PART: usize = 4096;

/// The elements of a part as the coders see them.
pub(super) struct Part<'a> {
    pub scales: &'a [i16],
    pub prediction: Prediction<'a>,
    /// The rounded prediction in the bytes of 16- and 32-bit elements.
    pub predicted: &'a [u8],
    /// What lies beyond the rounding, where a prediction of 16-bit elements has a fraction.
    pub fractions: Option<&'a [i16]>,
}

/// Room for one part after another.
pub(super) struct Room {
    scales: [i16; PART],
    elements: Vec<u8>,
    fractions: Vec<i16>,
}

impl Room {
    pub fn new() -> Self {
        Self {
            scales: [0; PART],
            elements: Vec::new(),
            fractions: Vec::new(),
        }
    }

    /// The part of `count` elements from the tensor's element `first` on.
    pub fn fill<'a>(
        &'a mut self,
        number: Number,
        scales: &Scales,
        first: u64,
        prediction: Prediction<'a>,
        count: usize,
    ) -> Part<'a> {
        scales.fill(first, &mut self.scales[..count]);
        self.elements.clear();
        self.fractions.clear();
        match (prediction, number.bytes) {
            (Prediction::Fraction(patterns), 4) => {
                for pattern in patterns {
                    self.elements.extend_from_slice(&pattern.to_le_bytes());
                }
            }
            (Prediction::Fraction(patterns), 2) => {
                self.elements.resize(2 * count, 0);
                self.fractions.resize(count, 0);
                let done = kernel::rounded16(patterns, &mut self.elements, &mut self.fractions);
                for index in done..count {
                    let (pattern, fraction) = prediction.pattern(number, index);
                    number::store(&mut self.elements, 2, index, element(number, pattern));
                    self.fractions[index] = fraction;
                }
            }
            _ => {}
        }
        self.part(prediction, count)
    }

    /// The part that was filled last, with the prediction and the number of elements it then had.
    pub fn part<'a>(&'a self, prediction: Prediction<'a>, count: usize) -> Part<'a> {
        Part {
            scales: &self.scales[..count],
            prediction,
            predicted: match prediction {
                Prediction::Same(bytes) => bytes,
                Prediction::Fraction(_) => &self.elements,
                Prediction::None => &[],
            },
            fractions: (!self.fractions.is_empty()).then_some(&self.fractions),
        }
    }
}
