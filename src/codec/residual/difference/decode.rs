//! The way back of blocks coded as differences to a prediction.
//!
//! May use: `store_format` and the files beside its parent. Blocks lie side by side, for the coder
//! of one waits for itself at every step.

use store_format::FormatError;

use super::super::bits::BitReader;
use super::super::block::{CodedBlock, UNFINISHED};
use super::super::kernel;
use super::super::number;
use super::super::operands::{Join, RAW_BYTES};
use super::super::part::{PART, Part, Room};
use super::super::rans::{self, Stream};
use super::super::scale::Scales;
use super::{Difference, Fast, element_of, raw_bits};

/// A block between two parts.
struct Lane<'a> {
    block: CodedBlock<'a>,
    bits: BitReader<'a>,
    room: Room,
    indexes: [u8; PART],
    symbols: [u8; PART],
}

impl Difference {
    /// Decodes blocks side by side.
    pub fn decode<const N: usize>(
        &self,
        own: &Scales,
        blocks: [CodedBlock; N],
    ) -> Result<(), FormatError> {
        let width = self.alphabet.number.bytes;
        let fast = self.fast();
        let mut lanes = blocks.map(|block| Lane {
            bits: BitReader::new(block.raw),
            block,
            room: Room::new(),
            indexes: [0; PART],
            symbols: [0; PART],
        });
        let longest = lanes.iter().map(|lane| lane.block.out.len()).max();
        for start in (0..longest.unwrap_or(0) / width).step_by(PART) {
            let streams = lanes.each_mut().map(|lane| {
                let range = lane.block.part(width, start);
                let (at, count) = (range.start, range.len());
                let part = lane.room.fill(
                    self.alphabet.number,
                    own,
                    lane.block.first + at as u64,
                    lane.block.prediction.slice(width, at, count),
                    count,
                );
                self.indexes(&fast, &part, &mut lane.indexes[..count]);
                let next = lane.block.part(width, start + PART);
                let next = lane.block.prediction.slice(width, next.start, next.len());
                Stream {
                    soon: next.soon(count),
                    decoder: &mut lane.block.decoder,
                    indexes: &lane.indexes[..count],
                    symbols: &mut lane.symbols[..count],
                }
            });
            rans::decode(streams, &self.tables);
            for lane in &mut lanes {
                let range = lane.block.part(width, start);
                let (at, count) = (range.start, range.len());
                let prediction = lane.block.prediction.slice(width, at, count);
                let part = lane.room.part(prediction, count);
                let out = &mut lane.block.out[at * width..][..count * width];
                self.join(&fast, &part, &lane.symbols[..count], &mut lane.bits, out);
            }
        }
        let is_finished = |lane: &Lane| lane.block.decoder.is_finished() && lane.bits.is_finished();
        if lanes.iter().all(is_finished) {
            Ok(())
        } else {
            Err(UNFINISHED)
        }
    }

    /// Puts the elements of a part together.
    fn join(&self, fast: &Fast, part: &Part, symbols: &[u8], bits: &mut BitReader, out: &mut [u8]) {
        let number = self.alphabet.number;
        let width = number.bytes;
        let mut at = 0;
        let mut padded = [0u8; 8 * RAW_BYTES];
        while at < symbols.len() {
            // Near the end the last raw bits again with zeros behind them, which is what follows.
            let from = bits.position / 8;
            let (raw, mut position) = match bits.bytes().get(from..) {
                Some(rest) if rest.len() >= RAW_BYTES => (bits.bytes(), bits.position),
                rest => {
                    let rest = rest.unwrap_or(&[]);
                    padded[..rest.len()].copy_from_slice(rest);
                    padded[rest.len()..].fill(0);
                    (padded.as_slice(), bits.position % 8)
                }
            };
            let before = position;
            let join = Join {
                number,
                moves: self.alphabet.moves(),
                places: &fast.places,
                zeros: self.zeros,
                raw,
            };
            let left = &symbols[at..];
            let predicted = part.predicted.get(width * at..).unwrap_or(&[]);
            let place = &mut out[width * at..];
            let patch = &mut |i: usize, raw: u32| {
                let (pattern, fraction) = part.prediction.pattern(number, at + i);
                let zero = self.zeros && pattern & 0x7FFF_FFFF == 0;
                let place = (part.scales[at + i], pattern, fraction);
                element_of(&self.alphabet, zero, place, left[i], raw)
            };
            let done = if width == 2 {
                let fractions = part.fractions.map(|fractions| &fractions[at..]);
                kernel::join16(
                    &join,
                    left,
                    predicted,
                    fractions,
                    &mut position,
                    place,
                    patch,
                )
            } else if width == 4 {
                kernel::join32(&join, left, predicted, &mut position, place, patch)
            } else {
                0
            };
            bits.position += position - before;
            if done > 0 {
                at += done;
                continue;
            }
            // One group by the plain twin, then the vectors again.
            let end = (at + 16).min(symbols.len());
            for (i, &symbol) in symbols[..end].iter().enumerate().skip(at) {
                let (pattern, fraction) = part.prediction.pattern(number, i);
                let zero = self.zeros && pattern & 0x7FFF_FFFF == 0;
                let low = bits.take(raw_bits(&self.alphabet, zero, symbol)) as u32;
                let place = (part.scales[i], pattern, fraction);
                let element = element_of(&self.alphabet, zero, place, symbol, low);
                number::store(out, number.bytes, i, element);
            }
            at = end;
        }
    }
}
