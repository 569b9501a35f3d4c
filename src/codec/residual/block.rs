//! The directory of a chunk's blocks, and the ways to code a block that need no tables.
//!
//! May use: `store_format`, `bits`, `number`, `part`, `prediction`, `rans`. A block is never larger
//! than its plain bytes.

use std::ops::Range;

use store_format::FormatError;

use super::bits::Fields;
use super::number::{self, Number};
use super::part::PART;
use super::prediction::Prediction;
use super::rans::Decoder;

/// The most elements of a chunk that is one block.
const ALONE: usize = 1 << 17;

/// The most elements of two blocks.
const TWO: usize = 1 << 20;

/// Elements of each block of a chunk; the last one may be shorter.
///
/// Two equal halves, since two blocks are decoded side by side and each one's coder costs 128
/// bytes; whole parts, since a block is coded part by part.
pub(super) fn block_len(elements: usize) -> usize {
    let count = if elements <= ALONE {
        1
    } else {
        2 * elements.div_ceil(TWO)
    };
    elements.max(1).div_ceil(count).next_multiple_of(PART)
}

/// Bytes of a block's entry in the directory.
pub(super) const ENTRY: usize = 7;

/// How a block is coded. The discriminant is the number stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    /// By the model's tables.
    Coded = 0,
    /// Every element is as predicted; zero where nothing is predicted.
    Equal = 1,
    /// As `Equal`, but for a list.
    Exceptions = 2,
    /// The bytes themselves.
    Plain = 3,
    /// Every element is the one that follows.
    Constant = 4,
}

impl Mode {
    fn from_number(number: u8) -> Result<Self, FormatError> {
        Ok(match number {
            0 => Self::Coded,
            1 => Self::Equal,
            2 => Self::Exceptions,
            3 => Self::Plain,
            4 => Self::Constant,
            _ => {
                return Err(FormatError::Unknown {
                    field: "mode of a block",
                    value: u64::from(number),
                });
            }
        })
    }
}

/// A block's place: its mode, the bytes of its coder's stream and its raw bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    pub mode: Mode,
    pub stream: &'a [u8],
    pub raw: &'a [u8],
}

/// A block that needs the model's tables, on its way back.
pub(super) struct CodedBlock<'a> {
    /// The tensor's element that it begins with.
    pub first: u64,
    pub decoder: Decoder<'a>,
    pub raw: &'a [u8],
    pub prediction: Prediction<'a>,
    pub out: &'a mut [u8],
}

impl CodedBlock<'_> {
    /// Which of its elements lie in the part that begins at `start`; none past its end.
    pub fn part(&self, width: usize, start: usize) -> Range<usize> {
        let len = self.out.len() / width;
        start.min(len)..(start + PART).min(len)
    }
}

/// Why a block that was decoded is refused.
pub(super) const UNFINISHED: FormatError = FormatError::Invalid {
    rule: "a coded block ends where its coder began",
};

/// Reads the directory of `count` blocks; their bytes must be the exact rest.
pub(super) fn read_directory<'a>(
    mut fields: Fields<'a>,
    count: usize,
) -> Result<Vec<Block<'a>>, FormatError> {
    let mut directory = Fields::new(fields.take(count * ENTRY)?, "a directory of blocks");
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let mode = Mode::from_number(directory.byte()?)?;
        let stream = directory.number(3)? as usize;
        let raw = directory.number(3)? as usize;
        blocks.push(Block {
            mode,
            stream: fields.take(stream)?,
            raw: fields.take(raw)?,
        });
    }
    fields.finish()?;
    Ok(blocks)
}

/// Writes a block's entry at its place in the directory.
pub(super) fn write_entry(entry: &mut [u8], mode: Mode, stream: usize, raw: usize) {
    entry[0] = mode as u8;
    entry[1..4].copy_from_slice(&(stream as u32).to_le_bytes()[..3]);
    entry[4..7].copy_from_slice(&(raw as u32).to_le_bytes()[..3]);
}

/// Codes a block without tables where it is equal, constant or nearly equal to what is expected;
/// gives up beyond `budget` bytes.
pub(super) fn encode_simple(
    number: Option<Number>,
    width: usize,
    target: &[u8],
    prediction: Prediction,
    budget: usize,
) -> Option<(Mode, Vec<u8>)> {
    let len = target.len() / width;
    let first = target.get(..width)?;
    if target.chunks_exact(width).all(|element| element == first)
        && !matches!(prediction, Prediction::Same(bytes) if bytes == target)
        && first.iter().any(|&b| b != 0)
    {
        return Some((Mode::Constant, first.to_vec()));
    }
    if differs_much(width, target, prediction, budget) {
        return None;
    }
    let mut list = Vec::new();
    let (mut count, mut next) = (0u64, 0usize);
    let mut known = 0;
    for index in 0..len {
        if index == known
            && let Prediction::Same(bytes) = prediction
        {
            // Most of a nearly equal block is passed over quickly.
            known = index + equal_run(&target[index * width..], &bytes[index * width..]) / width;
        }
        if index < known {
            continue;
        }
        known = index + 1;
        let value = number::load(target, width, index);
        if value == prediction.element(number, width, index) {
            continue;
        }
        put_varint(&mut list, (index - next) as u64);
        list.extend_from_slice(&target[index * width..(index + 1) * width]);
        count += 1;
        next = index + 1;
        if list.len() > budget {
            return None;
        }
    }
    if count == 0 {
        return Some((Mode::Equal, Vec::new()));
    }
    let mut out = Vec::with_capacity(list.len() + 3);
    put_varint(&mut out, count);
    out.extend_from_slice(&list);
    Some((Mode::Exceptions, out))
}

/// Whether more elements differ from the prediction's than a list of `budget` bytes can hold.
fn differs_much(width: usize, target: &[u8], prediction: Prediction, budget: usize) -> bool {
    let Prediction::Same(bytes) = prediction else {
        return false;
    };
    let most = budget / (width + 1);
    let mut differ = 0;
    // Whole parts at a time, so that the comparison becomes vectors.
    for (target, predicted) in target.chunks(1 << 12).zip(bytes.chunks(1 << 12)) {
        differ += match width {
            2 => differing::<2>(target, predicted),
            4 => differing::<4>(target, predicted),
            8 => differing::<8>(target, predicted),
            _ => differing::<1>(target, predicted),
        };
        if differ > most {
            return true;
        }
    }
    false
}

fn differing<const WIDTH: usize>(a: &[u8], b: &[u8]) -> usize {
    let mut count = 0u32;
    for (a, b) in a.chunks_exact(WIDTH).zip(b.chunks_exact(WIDTH)) {
        count += u32::from(a != b);
    }
    count as usize
}

/// Bytes at the start of both that are equal, counted in whole lines of 64.
fn equal_run(a: &[u8], b: &[u8]) -> usize {
    a.chunks_exact(64)
        .zip(b.chunks_exact(64))
        .take_while(|(a, b)| a == b)
        .count()
        * 64
}

/// Decodes a block that needs no tables; `false` where it needs them.
pub(super) fn decode_simple(
    block: &Block,
    number: Option<Number>,
    width: usize,
    prediction: Prediction,
    out: &mut [u8],
) -> Result<bool, FormatError> {
    match block.mode {
        Mode::Coded => return Ok(false),
        Mode::Plain | Mode::Constant if !block.stream.is_empty() => {
            return Err(STREAM);
        }
        Mode::Plain => {
            if block.raw.len() != out.len() {
                return Err(FormatError::Invalid {
                    rule: "a plain block has the bytes of its elements",
                });
            }
            out.copy_from_slice(block.raw);
        }
        Mode::Constant => {
            if block.raw.len() != width {
                return Err(FormatError::Invalid {
                    rule: "a constant block has one element",
                });
            }
            for element in out.chunks_exact_mut(width) {
                element.copy_from_slice(block.raw);
            }
        }
        Mode::Equal | Mode::Exceptions => {
            if !block.stream.is_empty() {
                return Err(STREAM);
            }
            match prediction {
                Prediction::Same(bytes) => out.copy_from_slice(bytes),
                Prediction::None => out.fill(0),
                Prediction::Fraction(_) => {
                    for index in 0..out.len() / width {
                        let value = prediction.element(number, width, index);
                        number::store(out, width, index, value);
                    }
                }
            }
            let mut fields = Fields::new(block.raw, "a list of exceptions");
            if block.mode == Mode::Exceptions {
                read_exceptions(&mut fields, width, out)?;
            }
            fields.finish()?;
        }
    }
    Ok(true)
}

pub(super) const STREAM: FormatError = FormatError::Invalid {
    rule: "only a coded block has a stream",
};

fn read_exceptions(fields: &mut Fields, width: usize, out: &mut [u8]) -> Result<(), FormatError> {
    let len = (out.len() / width) as u64;
    let count = take_varint(fields)?;
    let mut next = 0u64;
    // Each takes at least two bytes, so a count beyond the bytes ends the loop early.
    for _ in 0..count {
        let index = next.saturating_add(take_varint(fields)?);
        if index >= len {
            return Err(FormatError::Invalid {
                rule: "an exception lies inside its block",
            });
        }
        let at = index as usize * width;
        out[at..at + width].copy_from_slice(fields.take(width)?);
        next = index + 1;
    }
    Ok(())
}

/// Seven bits a byte, lowest first, the top bit set on all but the last.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A varint of at most four bytes.
pub(super) fn take_varint(fields: &mut Fields) -> Result<u64, FormatError> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21] {
        let byte = fields.byte()?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(FormatError::Invalid {
        rule: "a number of exceptions has at most four bytes",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_one_block_or_two_halves_of_whole_parts() {
        let blocks =
            |elements: usize| (block_len(elements), elements.div_ceil(block_len(elements)));
        assert_eq!(blocks(0), (PART, 0));
        assert_eq!(blocks(1), (PART, 1));
        assert_eq!(blocks(1 << 17), (1 << 17, 1));
        assert_eq!(blocks((1 << 17) + 1), (17 * PART, 2));
        assert_eq!(blocks(384 * 384), (18 * PART, 2));
        assert_eq!(blocks(1 << 20), (1 << 19, 2));
        assert_eq!(blocks((1 << 20) + 1), ((1 << 18) + PART, 4));
    }
}
