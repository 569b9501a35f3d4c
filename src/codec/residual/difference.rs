//! Floating-point elements coded as differences to a prediction.
//!
//! May use: the files beside it. The expected change and the prediction's
//! exponent choose the table; signs and magnitudes are integers throughout.

use super::alphabet::{Alphabet, Class, ZERO_BELOW, ZERO_SYMBOLS};
use super::bits::BitWriter;
use super::kernel::{self, Coded};
use super::merge::Histogram;
use super::number::{self, Number};
use super::operands::{Map16, Map32, MapFine, Places, Split};
use super::part::{PART, Part, Room};
use super::prediction::{Prediction, element};
use super::rans;
use super::scale::Scales;
use super::table::Tables;

mod decode;

/// Logarithm of the sum of a table's frequencies.
pub(super) const BITS: u32 = 10;

/// Contexts before they are merged: 32 distances of four kinds, and a prediction of zero.
pub(super) const CONTEXTS: usize = 129;

/// The context of a prediction of zero.
pub(super) const ZERO: usize = 128;

/// What the elements of a tensor share.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    pub alphabet: Alphabet,
    pub scales: Scales,
    /// Whether the fraction of the prediction chooses contexts.
    pub fraction: bool,
    /// Whether predictions of zero have a table and symbols of their own.
    pub zeros: bool,
    /// The table of each context.
    pub map: [u8; CONTEXTS],
    pub tables: Tables,
    /// Interleaved coders of a block.
    pub lanes: usize,
}

/// What vector code needs, laid out once a block.
pub(super) struct Fast {
    map: Option<Map16>,
    fine: Option<MapFine>,
    wide: Map32,
    places: Places,
}

/// How contexts are counted for a number type: the distance at context 0, and the step.
pub(super) const fn context_rule(number: Number) -> (i32, u32) {
    let low = -4 * (number.bias + number.mantissa as i32);
    if number.bytes == 4 {
        (low - 8, 2)
    } else {
        (low - 20, 1)
    }
}

/// The context of one element before merging.
pub(super) fn context(
    number: Number,
    second: Second,
    scale: i16,
    pattern: u32,
    fraction: i16,
) -> usize {
    let (low, step) = context_rule(number);
    let magnitude = pattern & 0x7FFF_FFFF;
    let exponent = (magnitude >> number.mantissa) as i32;
    let distance = (i32::from(scale) - 4 * exponent - low) >> step;
    let c1 = match second {
        Second::Fraction => (i32::from(fraction).unsigned_abs() >> 13).min(3),
        Second::Mantissa => (magnitude >> (number.mantissa - 2)) & 3,
        Second::Nothing => 0,
    };
    4 * distance.clamp(0, 31) as usize + c1 as usize
}

/// What the lower part of a context is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    Nothing,
    /// How far the prediction lies from where its rounding would change.
    Fraction,
    /// The top two bits of the prediction's mantissa.
    Mantissa,
}

/// The symbol and raw bits of one element; `zero` where the prediction is 0 and that matters.
pub(super) fn symbol_of(
    alphabet: &Alphabet,
    zero: bool,
    scale: i16,
    pattern: u32,
    fraction: i16,
    target: u64,
) -> (u8, u32) {
    let number = alphabet.number;
    let width = number.width();
    let magnitude = target as u32 & number.magnitude_max();
    let negative = (target >> (width - 1)) as u32 & 1;
    let flip = negative != pattern >> 31;
    if zero {
        if magnitude == 0 && !flip {
            return (0, 0);
        }
        let exponent = (magnitude >> number.mantissa) as i32;
        let symbol = exponent - zero_exponent(number, scale) + ZERO_BELOW;
        if !(1..ZERO_SYMBOLS as i32).contains(&symbol) {
            return (alphabet.escape(), 0);
        }
        let raw = magnitude & ((1 << number.mantissa) - 1) | negative << number.mantissa;
        return (symbol as u8, raw);
    }
    let difference = i64::from(magnitude) - i64::from(pattern & 0x7FFF_FFFF);
    if flip {
        alphabet.find(difference, true)
    } else if fraction < 0 {
        alphabet.find(-difference, false)
    } else {
        alphabet.find(difference, false)
    }
}

/// The exponent field that a scale stands for.
fn zero_exponent(number: Number, scale: i16) -> i32 {
    let largest = (number.magnitude_max() >> number.mantissa) as i32;
    (i32::from(scale >> 2) + number.bias).clamp(0, largest)
}

/// Raw bits after a symbol.
pub(super) fn raw_bits(alphabet: &Alphabet, zero: bool, symbol: u8) -> u32 {
    if zero && symbol != alphabet.escape() {
        return if symbol == 0 {
            0
        } else {
            alphabet.number.mantissa + 1
        };
    }
    alphabet.symbol(symbol).raw
}

/// The element of a symbol and its raw bits.
fn element_of(
    alphabet: &Alphabet,
    zero: bool,
    (scale, pattern, fraction): (i16, u32, i16),
    symbol: u8,
    raw: u32,
) -> u64 {
    let number = alphabet.number;
    let mask = number.magnitude_max();
    if zero && symbol != alphabet.escape() {
        if symbol == 0 {
            return element(number, pattern);
        }
        let exponent = zero_exponent(number, scale) + i32::from(symbol) - ZERO_BELOW;
        let low = raw & ((1 << number.mantissa) - 1);
        let magnitude = ((exponent as u32) << number.mantissa).wrapping_add(low) & mask;
        return element(number, (raw >> number.mantissa) << 31 | magnitude);
    }
    let place = alphabet.symbol(symbol);
    let base = pattern & 0x7FFF_FFFF;
    let size = (place.start as u32).wrapping_add(raw);
    let (sign, magnitude) = match place.class {
        Class::Escape => return u64::from(raw),
        Class::Flip => (!pattern, base.wrapping_add(size)),
        Class::Move { negative } if negative == (fraction < 0) => {
            (pattern, base.wrapping_add(size))
        }
        Class::Move { .. } => (pattern, base.wrapping_sub(size)),
    };
    element(number, (sign & (1 << 31)) | (magnitude & mask))
}

impl Difference {
    /// What the lower part of the contexts is made of.
    pub fn second(&self) -> Second {
        if self.fraction {
            Second::Fraction
        } else if self.alphabet.hot.is_empty() {
            Second::Nothing
        } else {
            Second::Mantissa
        }
    }

    /// The table of one element, and whether it has the symbols of a zero prediction.
    fn table_of(&self, scale: i16, pattern: u32, fraction: i16) -> (u8, bool) {
        if self.zeros && pattern & 0x7FFF_FFFF == 0 {
            return (self.map[ZERO], true);
        }
        let number = self.alphabet.number;
        let context = context(number, self.second(), scale, pattern, fraction);
        (self.map[context], false)
    }

    /// Counts the symbols of a part in its contexts; the model must have counting tables, and a
    /// map with a table for each context to be counted.
    pub fn count(
        &self,
        fast: &Fast,
        first: u64,
        target: &[u8],
        prediction: Prediction,
        histogram: &mut Histogram,
    ) {
        let width = self.alphabet.number.bytes;
        let mut room = Room::new();
        let mut raw = BitWriter::default();
        for (n, target) in target.chunks(PART * width).enumerate() {
            let count = target.len() / width;
            let start = n * PART;
            let part = room.fill(
                self.alphabet.number,
                &self.scales,
                first + start as u64,
                prediction.slice(width, start, count),
                count,
            );
            let indexes = &mut histogram.indexes[..count];
            self.indexes(fast, &part, indexes);
            let slots = &mut histogram.slots[..count];
            self.split(&part, indexes, target, slots, &mut raw);
            raw.clear();
            histogram.add(count);
        }
    }

    /// What vector code needs of the tables and symbols.
    pub fn fast(&self) -> Fast {
        let number = self.alphabet.number;
        let (low, step) = context_rule(number);
        let narrow = number.bytes == 2 && step == 1;
        let plain = narrow && self.second() == Second::Nothing;
        let zero = self.zeros.then_some(self.map[ZERO]);
        Fast {
            fine: (narrow && self.fraction).then(|| MapFine {
                mantissa: number.mantissa as i32,
                low: low as i16,
                map: std::array::from_fn(|i| self.map[i]),
                zero,
            }),
            map: plain.then(|| Map16 {
                mantissa: number.mantissa as i32,
                low: low as i16,
                map: std::array::from_fn(|i| self.map[4 * i]),
                zero,
            }),
            wide: Map32 {
                low,
                mantissa: self.second() == Second::Mantissa,
                map: std::array::from_fn(|i| self.map[i]),
                zero,
            },
            places: Places::new(&self.alphabet),
        }
    }

    /// Fills the tables of the elements of a part.
    fn indexes(&self, fast: &Fast, part: &Part, out: &mut [u8]) {
        let number = self.alphabet.number;
        let mut done = 0;
        if let Some(map) = &fast.map {
            done = kernel::indexes16(map, part.scales, part.predicted, out);
        } else if let (Some(map), Some(fractions)) = (&fast.fine, part.fractions) {
            done = kernel::indexes_fine(map, part.scales, part.predicted, fractions, out);
        } else if number.bytes == 4 && !self.fraction {
            done = kernel::indexes32(&fast.wide, part.scales, part.predicted, out);
        }
        for (i, index) in out.iter_mut().enumerate().skip(done) {
            let (pattern, fraction) = part.prediction.pattern(number, i);
            *index = self.table_of(part.scales[i], pattern, fraction).0;
        }
    }

    /// Codes a block with the model's or a chunk's own scales; the stream, and the raw bits.
    pub fn encode(
        &self,
        own: &Scales,
        first: u64,
        target: &[u8],
        prediction: Prediction,
    ) -> (Vec<u8>, Vec<u8>) {
        let width = self.alphabet.number.bytes;
        let len = target.len() / width;
        let fast = self.fast();
        let mut room = Room::new();
        let mut indexes = [0u8; PART];
        let mut raw = BitWriter::default();
        let mut stream = Vec::new();
        kernel::with_slots(len, |slots| {
            for start in (0..len).step_by(PART) {
                let count = PART.min(len - start);
                let part = room.fill(
                    self.alphabet.number,
                    own,
                    first + start as u64,
                    prediction.slice(width, start, count),
                    count,
                );
                self.indexes(&fast, &part, &mut indexes[..count]);
                self.split(
                    &part,
                    &indexes[..count],
                    &target[start * width..(start + count) * width],
                    &mut slots[start..start + count],
                    &mut raw,
                );
            }
            rans::encode(BITS, self.lanes, slots, &mut stream);
        });
        (stream, raw.finish())
    }

    /// Slots and raw bits of the elements of a part.
    fn split(
        &self,
        part: &Part,
        indexes: &[u8],
        target: &[u8],
        slots: &mut [u32],
        raw: &mut BitWriter,
    ) {
        let mut done = 0;
        let number = self.alphabet.number;
        let split = Split {
            number,
            moves: self.alphabet.moves(),
            alphabet: self.alphabet.len() as u32,
            zeros: self.zeros,
            hot: &self.alphabet.hot,
            first_hot: u32::from(self.alphabet.escape()) + 1,
            tables: &self.tables,
        };
        let predicted = part.predicted;
        let patch = &mut |i| self.code(part, indexes, target, i);
        if number.bytes == 2 {
            let fractions = part.fractions;
            done = kernel::split16(
                &split, indexes, predicted, fractions, target, slots, raw, patch,
            );
        } else if number.bytes == 4 {
            done = kernel::split32(&split, indexes, predicted, target, slots, raw, patch);
        }
        for (i, slot) in slots.iter_mut().enumerate().skip(done) {
            let coded = self.code(part, indexes, target, i);
            *slot = coded.slot;
            raw.put(u64::from(coded.raw), coded.count);
        }
    }

    /// Slot and raw bits of one element.
    fn code(&self, part: &Part, indexes: &[u8], target: &[u8], index: usize) -> Coded {
        let number = self.alphabet.number;
        let (pattern, fraction) = part.prediction.pattern(number, index);
        let element = number::load(target, number.bytes, index);
        let zero = self.zeros && pattern & 0x7FFF_FFFF == 0;
        let (table, scale) = (indexes[index], part.scales[index]);
        let (symbol, raw) = symbol_of(&self.alphabet, zero, scale, pattern, fraction, element);
        let slot = self.tables.slot(table, symbol);
        if slot == 0 || symbol == self.alphabet.escape() {
            return Coded {
                slot: self.tables.slot(table, self.alphabet.escape()),
                raw: element as u32,
                count: number.width(),
            };
        }
        Coded {
            slot,
            raw,
            count: raw_bits(&self.alphabet, zero, symbol),
        }
    }
}
