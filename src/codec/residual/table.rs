//! Tables of symbol frequencies: how they are made, written, read and laid out for the coders.
//!
//! May use: `store_format`, `bits`. Frequencies of a table sum to `2^bits`; a symbol that is
//! present has a frequency of at least 1, no symbol has all of it.

use store_format::FormatError;

use super::bits::{BitWriter, Fields};

/// The most tables of a set.
pub(super) const TABLES_MAX: usize = 40;

/// A set of tables over one alphabet.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    bits: u32,
    alphabet: usize,
    /// `frequency | start << 16` of each symbol of each table; 0 where a symbol is absent.
    slots: Vec<u32>,
    /// `symbol | frequency << 8 | (slot - start) << 20` of each slot of each table.
    entries: Vec<u32>,
}

impl Tables {
    /// Lays out tables whose frequencies are right; `frequencies` holds `alphabet` a table.
    pub fn new(bits: u32, alphabet: usize, frequencies: &[u16]) -> Self {
        let mut slots = Vec::with_capacity(frequencies.len());
        let mut entries = Vec::with_capacity((frequencies.len() / alphabet) << bits);
        for table in frequencies.chunks_exact(alphabet) {
            let mut start = 0u32;
            for (symbol, &frequency) in table.iter().enumerate() {
                let frequency = u32::from(frequency);
                slots.push(if frequency == 0 {
                    0
                } else {
                    frequency | start << 16
                });
                entries.extend((0..frequency).map(|o| symbol as u32 | frequency << 8 | o << 20));
                start += frequency;
            }
            debug_assert_eq!(start, 1 << bits);
        }
        Self {
            bits,
            alphabet,
            slots,
            entries,
        }
    }

    /// Tables whose slots count instead of code: the slot of symbol `s` of table `t` is
    /// `t * alphabet + s + 1`. For the first pass over a tensor.
    pub fn counting(count: usize, alphabet: usize) -> Self {
        Self {
            bits: 0,
            alphabet,
            slots: (1..=(count * alphabet) as u32).collect(),
            entries: Vec::new(),
        }
    }

    /// Logarithm of the sum of a table's frequencies.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// Whether these are [`Tables::counting`].
    pub fn is_counting(&self) -> bool {
        self.bits == 0
    }

    /// Symbols of the alphabet.
    #[cfg_attr(
        target_arch = "aarch64",
        expect(dead_code, reason = "for wider vectors alone")
    )]
    pub fn alphabet(&self) -> usize {
        self.alphabet
    }

    /// Tables of the set.
    pub fn count(&self) -> usize {
        self.slots.len() / self.alphabet
    }

    /// `frequency | start << 16` of a symbol, 0 where it is absent.
    pub fn slot(&self, table: u8, symbol: u8) -> u32 {
        self.slots[usize::from(table) * self.alphabet + usize::from(symbol)]
    }

    /// The decoder's entry of a slot.
    pub fn entry(&self, table: u8, slot: u32) -> u32 {
        self.entries[(usize::from(table) << self.bits) + slot as usize]
    }

    /// All entries, `2^bits` a table.
    pub fn entries(&self) -> &[u32] {
        &self.entries
    }

    /// All `frequency | start << 16`, `alphabet` a table.
    pub fn slots(&self) -> &[u32] {
        &self.slots
    }

    /// Writes the set: the first and last symbol used, then each table's frequencies, each as
    /// the change of its bit length against the table before and the bits below the highest.
    pub fn write(&self, out: &mut Vec<u8>) {
        let used = |symbol: usize| {
            (0..self.count()).any(|table| self.slots[table * self.alphabet + symbol] != 0)
        };
        let first = (0..self.alphabet).find(|&s| used(s)).unwrap_or(0);
        let last = (0..self.alphabet).rfind(|&s| used(s)).unwrap_or(0);
        out.push(first as u8);
        out.push(last as u8);
        let mut bits = BitWriter::default();
        let mut before = vec![0u32; last + 1 - first];
        for table in self.slots.chunks_exact(self.alphabet) {
            let mut left = 0;
            for (symbol, before) in before.iter_mut().enumerate() {
                let frequency = table[first + symbol] & 0xFFFF;
                let length = 32 - frequency.leading_zeros();
                let expected = (*before + left).div_ceil(2);
                put_change(&mut bits, length as i32 - expected as i32);
                if length > 1 {
                    bits.put(u64::from(frequency), length - 1);
                }
                left = length;
                *before = length;
            }
        }
        out.extend_from_slice(&bits.finish());
    }

    /// Reads a set of `count` tables and checks each.
    pub fn read(
        fields: &mut Fields,
        bits: u32,
        alphabet: usize,
        count: usize,
    ) -> Result<Self, FormatError> {
        let first = usize::from(fields.byte()?);
        let last = usize::from(fields.byte()?);
        if first > last || last >= alphabet {
            return Err(FormatError::Invalid {
                rule: "a table's symbols lie in order inside the alphabet",
            });
        }
        let mut frequencies = vec![0u16; alphabet * count];
        let mut before = vec![0u32; last + 1 - first];
        let mut reader = fields.bits();
        for table in frequencies.chunks_exact_mut(alphabet) {
            let mut left = 0;
            let mut sum = 0u32;
            for (frequency, before) in table[first..=last].iter_mut().zip(&mut before) {
                let expected = (*before + left).div_ceil(2) as i32;
                let length = expected + take_change(&mut reader);
                if length < 0 || length > bits as i32 {
                    return Err(FormatError::Invalid {
                        rule: "a frequency has at most as many bits as its table's sum",
                    });
                }
                let length = length as u32;
                if length > 0 {
                    *frequency = 1u16 << (length - 1) | reader.take(length - 1) as u16;
                }
                sum += u32::from(*frequency);
                left = length;
                *before = length;
            }
            if sum != 1 << bits {
                return Err(FormatError::Invalid {
                    rule: "the frequencies of a table sum to its power of two",
                });
            }
        }
        fields.skip_bits(&reader)?;
        Ok(Self::new(bits, alphabet, &frequencies))
    }
}

/// Zigzag, then as many ones and a zero; a run of 24 ones cannot be written or read.
fn put_change(bits: &mut BitWriter, change: i32) {
    let code = ((change << 1) ^ (change >> 31)) as u32;
    bits.put((1u64 << code) - 1, code + 1);
}

fn take_change(bits: &mut super::bits::BitReader) -> i32 {
    let mut code = 0;
    while code < 26 && bits.take(1) == 1 {
        code += 1;
    }
    (code >> 1) ^ -(code & 1)
}

/// Scales counts to frequencies that sum to `2^bits`; symbols with a count get at least 1.
///
/// At least two symbols must have a count, and at most `2^bits`.
pub(super) fn normalise(counts: &[u32], bits: u32, frequencies: &mut [u16]) {
    let sum: u64 = counts.iter().map(|&c| u64::from(c)).sum();
    let target = 1i64 << bits;
    let mut left = target;
    for (frequency, &count) in frequencies.iter_mut().zip(counts) {
        *frequency = 0;
        if count > 0 {
            let share = (u64::from(count) << bits) + sum / 2;
            let share = (share / sum).clamp(1, target as u64 - 1) as u16;
            *frequency = share;
            left -= i64::from(share);
        }
    }
    // What rounding left over goes, one by one, where it costs or gains the most.
    while left != 0 {
        let step: i32 = if left > 0 { 1 } else { -1 };
        let best = (0..counts.len())
            .filter(|&s| counts[s] > 0)
            .filter(|&s| i64::from(frequencies[s]) + i64::from(step) >= 1)
            .filter(|&s| i64::from(frequencies[s]) + i64::from(step) < target)
            .map(|s| {
                let now = f64::from(frequencies[s]);
                let gain = f64::from(counts[s]) * ((now + f64::from(step)) / now).ln();
                (gain, s)
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, symbol)) = best else { return };
        frequencies[symbol] = frequencies[symbol].wrapping_add_signed(step as i16);
        left -= i64::from(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_behind_the_last_frequency_are_zero() {
        let mut unused = 0;
        for few in 1..40_u16 {
            let mut bytes = Vec::new();
            let frequencies = [few, 1024 - few, 0];
            Tables::new(10, 3, &frequencies).write(&mut bytes);
            let read = |bytes: &[u8]| {
                let mut fields = Fields::new(bytes, "a table");
                Tables::read(&mut fields, 10, 3, 1)
            };
            assert_eq!(read(&bytes).unwrap().slots().len(), 3);
            for bit in 0..8 {
                let mut other = bytes.clone();
                *other.last_mut().unwrap() ^= 1 << bit;
                // Either the set is another one, or it is refused: no set has two encodings.
                match read(&other) {
                    Ok(tables) => {
                        let mut again = Vec::new();
                        tables.write(&mut again);
                        assert_eq!(again, other);
                    }
                    Err(FormatError::NotCanonical { .. }) => unused += 1,
                    Err(_) => {}
                }
            }
        }
        assert!(unused > 0);
    }
}
