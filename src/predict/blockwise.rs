//! Blockwise: codes of 4 bits with one scale for a block of elements, and these scales, by the
//! rules of bitsandbytes.
//!
//! May use: `store_format`. Must never look further than one block.
//!
//! The rules are those of its CUDA kernels and of its torch code (csrc/kernels.cu,
//! backends/default/ops.py, MIT licence), stated in the specification and written here anew.

mod scales;

use store_format::FormatError;
use store_format::dtype::DType;
use store_format::limits::CHUNK_BYTES_MAX;

use super::wire::{Reader, unknown};
use super::{Shape, float, invalid, widen_at};

pub use self::scales::Search;

/// The elements of a block are a power of two between these.
const BLOCK_BITS: std::ops::RangeInclusive<u8> = 5..=12;
/// Elements of the longest block.
const BLOCK_MAX: usize = 1 << 12;
/// Elements that are coded together.
const TILE: usize = 32;

/// Which numbers the codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Quantiles of the normal distribution, with the borders of the CUDA kernels.
    Nf4,
    /// Sign, two bits of exponent, one of mantissa, with the borders of the CUDA kernels.
    Fp4,
    /// As [`Table::Nf4`], with the means of two numbers as borders, as the torch code has it.
    Nf4Means,
    /// As [`Table::Fp4`], with such borders.
    Fp4Means,
}

/// How an element meets the largest magnitude of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// `w / largest`.
    Divide,
    /// `w * (1 / largest)`, the reciprocal rounded first.
    Reciprocal,
    /// The same with a largest magnitude that is not below 1e-38.
    BoundedReciprocal,
}

/// What follows from a block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// A code for each element, two in a byte, the first in the upper half, as U8.
    Codes {
        /// What the codes stand for.
        table: Table,
        /// What is coded.
        meeting: Meeting,
    },
    /// The largest magnitude, as F32.
    Largest,
    /// A code of 8 bits for the largest magnitude less an offset, with a scale for 256 blocks, as
    /// U8.
    LargestCodes {
        /// How it is found.
        search: Search,
        /// What is taken off.
        offset: f32,
    },
}

/// How blocks of the base become the target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blockwise {
    rule: Rule,
    block_bits: u8,
}

/// `1e-38` in binary32.
const LEAST: f32 = f32::from_bits(0x006C_E3EE);

/// Ascending borders, then the codes between them; the last code is that of NaN.
struct Codes {
    borders: [u32; 15],
    codes: [u8; 17],
}

/// The kernels' constants are decimal; some of them round otherwise than the means they write.
const NF4: Codes = Codes {
    borders: [
        0xBF59_1CD9,
        0xBF1C_5270,
        0xBEEB_8480,
        0xBEAD_EA76,
        0xBE70_3CEC,
        0xBE0D_38BC,
        0xBD3A_7871,
        0x3D22_FAFF,
        0x3DF6_4863,
        0x3E50_67E0,
        0x3E95_82D4,
        0x3EC7_53F9,
        0x3F00_6D03,
        0x3F24_8DAF,
        0x3F5C_89D9,
    ],
    codes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0],
};

const NF4_MEANS: Codes = Codes {
    borders: [
        0xBF59_1CD8,
        0xBF1C_5270,
        0xBEEB_8480,
        0xBEAD_EA76,
        0xBE70_3CEC,
        0xBE0D_38BC,
        0xBD3A_7871,
        0x3D22_FAFF,
        0x3DF6_4862,
        0x3E50_67E0,
        0x3E95_82D4,
        0x3EC7_53F9,
        0x3F00_6D04,
        0x3F24_8DAF,
        0x3F5C_89DA,
    ],
    codes: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0],
};

/// The kernels compare magnitudes, so the borders below 0 lie one place further from it, and only
/// 0 itself has the code of 0.
const FP4: Codes = Codes {
    borders: [
        0xBF55_5556,
        0xBF15_5551,
        0xBED5_5557,
        0xBE95_5556,
        0xBE55_5556,
        0xBDB0_0001,
        0xBB2A_AABA,
        0x8000_0001,
        0x3B2A_AAB9,
        0x3DB0_0000,
        0x3E55_5555,
        0x3E95_5555,
        0x3ED5_5556,
        0x3F15_5550,
        0x3F55_5555,
    ],
    codes: [11, 10, 13, 12, 15, 14, 9, 8, 0, 1, 6, 7, 4, 5, 2, 3, 0],
};

const FP4_MEANS: Codes = Codes {
    borders: [
        0xBF55_5556,
        0xBF15_5556,
        0xBED5_5556,
        0xBE95_5556,
        0xBE55_5556,
        0xBDB0_0000,
        0xBB2A_AAAB,
        0x0000_0000,
        0x3B2A_AAAB,
        0x3DB0_0000,
        0x3E55_5556,
        0x3E95_5556,
        0x3ED5_5556,
        0x3F15_5556,
        0x3F55_5556,
    ],
    codes: [11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3, 0],
};

impl Table {
    const fn codes(self) -> &'static Codes {
        match self {
            Self::Nf4 => &NF4,
            Self::Fp4 => &FP4,
            Self::Nf4Means => &NF4_MEANS,
            Self::Fp4Means => &FP4_MEANS,
        }
    }
}

impl Codes {
    /// The codes of numbers, one each; `out` is as long as `numbers`.
    fn code(&self, numbers: &[f32; TILE], out: &mut [u8; TILE]) {
        // As wide as the numbers, so that a vector of both is compared and counted at once.
        let mut above = [0u32; TILE];
        for (above, number) in above.iter_mut().zip(numbers) {
            *above = u32::from(number.is_nan()) << 4;
        }
        for border in self.borders {
            let border = f32::from_bits(border);
            for (above, number) in above.iter_mut().zip(numbers) {
                *above += u32::from(*number > border);
            }
        }
        for (out, above) in out.iter_mut().zip(above) {
            *out = self.codes[above as usize];
        }
    }
}

impl Blockwise {
    /// A rule for blocks of so many elements; nothing where that is no power of two from 32 to
    /// 4096.
    #[must_use]
    pub fn new(rule: Rule, block: u64) -> Option<Self> {
        let block_bits = u8::try_from(block.trailing_zeros()).unwrap_or(u8::MAX);
        let fits = block.is_power_of_two() && BLOCK_BITS.contains(&block_bits);
        fits.then_some(Self { rule, block_bits })
    }

    /// The rule for blocks of which `elements` elements fill `blocks`; nothing where no length
    /// does.
    #[must_use]
    pub fn of_blocks(rule: Rule, elements: u64, blocks: u64) -> Option<Self> {
        let mut all = BLOCK_BITS.map(|block_bits| Self { rule, block_bits });
        all.find(|one| one.blocks(elements) == blocks)
    }

    /// The rules that may have made codes, the likeliest first.
    #[must_use]
    pub fn candidates() -> [Rule; 6] {
        [
            (Table::Nf4, Meeting::Reciprocal),
            (Table::Fp4, Meeting::Reciprocal),
            (Table::Nf4Means, Meeting::BoundedReciprocal),
            (Table::Fp4Means, Meeting::BoundedReciprocal),
            (Table::Nf4, Meeting::Divide),
            (Table::Fp4, Meeting::Divide),
        ]
        .map(|(table, meeting)| Rule::Codes { table, meeting })
    }

    /// What follows from a block.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        self.rule
    }

    /// Elements of a block.
    #[must_use]
    pub const fn block(&self) -> u64 {
        1 << self.block_bits
    }

    fn blocks(&self, elements: u64) -> u64 {
        elements.div_ceil(self.block())
    }

    /// The type of the target.
    #[must_use]
    pub const fn target(&self) -> DType {
        match self.rule {
            Rule::Codes { .. } | Rule::LargestCodes { .. } => DType::U8,
            Rule::Largest => DType::F32,
        }
    }

    /// Elements of the base that become one of the target.
    #[must_use]
    pub const fn each(&self) -> u64 {
        match self.rule {
            Rule::Codes { .. } => 2,
            Rule::Largest | Rule::LargestCodes { .. } => self.block(),
        }
    }

    /// Elements of the base that are looked at together.
    const fn unit(&self) -> u64 {
        match self.rule {
            Rule::Codes { .. } | Rule::Largest => self.block(),
            Rule::LargestCodes { .. } => self.block() * scales::GROUP as u64,
        }
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self.rule {
            Rule::Codes { table, meeting } => {
                let table = match table {
                    Table::Nf4 => 0,
                    Table::Fp4 => 1,
                    Table::Nf4Means => 2,
                    Table::Fp4Means => 3,
                };
                let meeting = match meeting {
                    Meeting::Divide => 0,
                    Meeting::Reciprocal => 1,
                    Meeting::BoundedReciprocal => 2,
                };
                out.extend([0, self.block_bits, table, meeting]);
            }
            Rule::Largest => out.extend([1, self.block_bits]),
            Rule::LargestCodes { search, offset } => {
                let search = match search {
                    Search::Nearest => 0,
                    Search::Stepped => 1,
                };
                out.extend([2, self.block_bits, search]);
                out.extend(offset.to_le_bytes());
            }
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        let number = reader.byte()?;
        let block_bits = reader.byte()?;
        let rule = match number {
            0 => Rule::Codes {
                table: match reader.byte()? {
                    0 => Table::Nf4,
                    1 => Table::Fp4,
                    2 => Table::Nf4Means,
                    3 => Table::Fp4Means,
                    value => return unknown("table of codes", value),
                },
                meeting: match reader.byte()? {
                    0 => Meeting::Divide,
                    1 => Meeting::Reciprocal,
                    2 => Meeting::BoundedReciprocal,
                    value => return unknown("use of a scale", value),
                },
            },
            1 => Rule::Largest,
            2 => Rule::LargestCodes {
                search: match reader.byte()? {
                    0 => Search::Nearest,
                    1 => Search::Stepped,
                    value => return unknown("search of a code", value),
                },
                offset: reader.f32()?,
            },
            value => return unknown("rule of blocks", value),
        };
        if !BLOCK_BITS.contains(&block_bits) {
            return unknown("length of a block", block_bits);
        }
        Ok(Self { rule, block_bits })
    }

    pub(super) fn check(
        &self,
        base: &Shape,
        target: &Shape,
        extra: &[Shape],
    ) -> Result<(), FormatError> {
        if !float::is_computable(base.dtype) {
            return invalid("what is quantised are float elements");
        }
        if !extra.is_empty() {
            return invalid("a recipe has no source that it does not use");
        }
        if let Rule::LargestCodes { offset, .. } = self.rule
            && !offset.is_finite()
        {
            return invalid("a parameter of a predictor is finite");
        }
        let elements = base.elements().div_ceil(self.each());
        if target.dtype != self.target() || target.elements() != elements {
            return invalid("codes are two in a byte, and largest magnitudes one a block");
        }
        Ok(())
    }

    /// The whole blocks of the base that elements of the target follow from: the first element,
    /// and how many.
    pub(super) fn base_range(
        &self,
        base: &Shape,
        first: u64,
        count: u64,
    ) -> Result<(u64, u64), FormatError> {
        if count == 0 {
            return Ok((0, 0));
        }
        // The range lies in the target, so all this is at most a unit more than the base has.
        let (each, unit) = (self.each(), self.unit());
        let from = first * each / unit * unit;
        let until = ((first + count) * each).next_multiple_of(unit);
        let count = until.min(base.elements()) - from;
        if count > CHUNK_BYTES_MAX {
            return Err(FormatError::TooLarge {
                field: "elements of the blocks of a range",
                value: count,
                max: CHUNK_BYTES_MAX,
            });
        }
        Ok((from, count))
    }

    /// Fills `out`, the target from element `first` on, from the elements of the base that
    /// [`Blockwise::base_range`] tells.
    pub(super) fn fill(
        &self,
        base: &Shape,
        first: u64,
        bytes: &[u8],
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        let width = base.dtype.block().1 as usize;
        let (count, block) = (bytes.len() / width, 1usize << self.block_bits);
        let mut values = [0.0; BLOCK_MAX];
        match self.rule {
            Rule::Largest => {
                let blocks = (0..count).step_by(block).zip(out.as_chunks_mut().0);
                for (at, out) in blocks {
                    let values = &mut values[..block.min(count - at)];
                    widen_at(base.dtype, bytes, at, values)?;
                    *out = largest(values).to_le_bytes();
                }
            }
            Rule::LargestCodes { search, offset } => {
                let (mut scales, mut coded) = ([0.0; scales::GROUP], [0; scales::GROUP]);
                let mut sink = Sink::new(first, scales::GROUP, out);
                for group in (0..count).step_by(block * scales::GROUP) {
                    let end = count.min(group + block * scales::GROUP);
                    for (scale, at) in scales.iter_mut().zip((group..end).step_by(block)) {
                        let values = &mut values[..block.min(end - at)];
                        widen_at(base.dtype, bytes, at, values)?;
                        *scale = largest(values);
                    }
                    let n = (end - group).div_ceil(block);
                    scales::code(search, offset, &mut scales[..n], &mut coded[..n]);
                    sink.put(&coded[..n]);
                }
            }
            Rule::Codes { table, meeting } => {
                let mut coded = [0; BLOCK_MAX / 2];
                let mut sink = Sink::new(first, block / 2, out);
                for at in (0..count).step_by(block) {
                    let n = block.min(count - at);
                    widen_at(base.dtype, bytes, at, &mut values[..n])?;
                    // An odd last element shares its byte with a 0.
                    values[n..n.next_multiple_of(2)].fill(0.0);
                    let n = n.div_ceil(2);
                    code_block(table, meeting, &values[..2 * n], &mut coded[..n]);
                    sink.put(&coded[..n]);
                }
            }
        }
        Ok(())
    }
}

/// A range of bytes that comes in pieces, of which the first may begin before it and the last may
/// end behind it.
struct Sink<'a> {
    before: usize,
    out: &'a mut [u8],
}

impl<'a> Sink<'a> {
    fn new(first: u64, piece: usize, out: &'a mut [u8]) -> Self {
        let before = first as usize % piece;
        Self { before, out }
    }

    fn put(&mut self, piece: &[u8]) {
        let piece = piece.get(self.before..).unwrap_or_default();
        self.before = 0;
        let out = std::mem::take(&mut self.out);
        let (to, rest) = out.split_at_mut(piece.len().min(out.len()));
        to.copy_from_slice(&piece[..to.len()]);
        self.out = rest;
    }
}

/// The bytes of a block of an even number of elements.
fn code_block(table: Table, meeting: Meeting, values: &[f32], out: &mut [u8]) {
    let most = largest(values);
    let factor = match meeting {
        Meeting::Divide => most,
        Meeting::Reciprocal => 1.0 / most,
        Meeting::BoundedReciprocal => 1.0 / if most > LEAST { most } else { LEAST },
    };
    for (values, out) in values.chunks(TILE).zip(out.chunks_mut(TILE / 2)) {
        let (mut numbers, mut codes) = ([0.0; TILE], [0; TILE]);
        for (number, value) in numbers.iter_mut().zip(values) {
            *number = match meeting {
                Meeting::Divide => value / factor,
                Meeting::Reciprocal | Meeting::BoundedReciprocal => value * factor,
            };
        }
        table.codes().code(&numbers, &mut codes);
        for (out, [high, low]) in out.iter_mut().zip(codes.as_chunks().0) {
            *out = high << 4 | low;
        }
    }
}

/// The largest magnitude; NaN is passed over.
fn largest(values: &[f32]) -> f32 {
    // Side by side, which gives the same: a maximum does not depend on the order.
    let mut lanes = [0.0f32; 8];
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (lane, value) in lanes.iter_mut().zip(eight) {
            let magnitude = value.abs();
            *lane = if magnitude > *lane { magnitude } else { *lane };
        }
    }
    let rest = rest.iter().map(|value| value.abs());
    let all = lanes.into_iter().chain(rest);
    all.fold(0.0, |most, value| if value > most { value } else { most })
}

#[cfg(test)]
mod tests;
