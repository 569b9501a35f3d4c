//! The way back of blocks coded without a prediction.
//!
//! May use: `store_format`, `vectors` and the files beside its parent. Blocks lie side by side, for
//! the coder of one waits for itself at every step.

use std::borrow::Cow;

use store_format::FormatError;

use super::super::bits::{BitReader, Fields};
use super::super::block::{CodedBlock, UNFINISHED};
use super::super::kernel;
use super::super::number;
use super::super::part::PART;
use super::super::rans::{self, Stream};
use super::super::soon::Soon;
use super::{ESCAPE, Magnitude};
use crate::vectors::wide;

const RAW: &str = "the raw bytes of a block";

/// A block between two parts.
struct Lane<'a> {
    block: CodedBlock<'a>,
    /// The low bytes of its elements, lowest first.
    planes: Vec<Cow<'a, [u8]>>,
    /// The raw bits of its heads, and the exceptions behind them.
    bits: BitReader<'a>,
    /// Elements whose heads are exceptions.
    escapes: Vec<u32>,
    indexes: [u8; PART],
    floors: [i8; PART],
    symbols: [u8; PART],
}

impl Magnitude {
    /// Decodes blocks side by side.
    pub fn decode<const N: usize>(&self, blocks: [CodedBlock; N]) -> Result<(), FormatError> {
        let width = self.head.bytes + self.head.tail;
        let mut lanes = blocks.map(|block| Lane {
            planes: Vec::new(),
            bits: BitReader::new(block.raw),
            block,
            escapes: Vec::new(),
            indexes: [0; PART],
            floors: [0; PART],
            symbols: [0; PART],
        });
        for lane in &mut lanes {
            self.read_planes(lane)?;
        }
        let longest = lanes.iter().map(|lane| lane.block.out.len()).max();
        for start in (0..longest.unwrap_or(0) / width).step_by(PART) {
            let streams = lanes.each_mut().map(|lane| {
                let range = lane.block.part(width, start);
                let indexes = &mut lane.indexes[..range.len()];
                let floors = &mut lane.floors[..range.len()];
                self.indexes(lane.block.first + range.start as u64, indexes, floors);
                Stream {
                    soon: Soon::NONE,
                    decoder: &mut lane.block.decoder,
                    indexes,
                    symbols: &mut lane.symbols[..range.len()],
                }
            });
            rans::decode(streams, &self.tables);
            for lane in &mut lanes {
                self.join(lane, start);
            }
        }
        lanes.into_iter().try_for_each(|lane| self.finish(lane))
    }

    /// Takes the planes off the front of the raw bytes, so that the bits are next.
    fn read_planes(&self, lane: &mut Lane) -> Result<(), FormatError> {
        let tail = self.head.tail;
        let len = lane.block.out.len() / (self.head.bytes + tail);
        let mut raw = Fields::new(lane.block.raw, RAW);
        for plane in 0..tail {
            lane.planes
                .push(self.tail.read_plane(plane, &mut raw, len)?);
        }
        lane.bits = raw.bits();
        Ok(())
    }

    /// Puts the elements of a part together, exceptions as zeros, and notes where those are.
    fn join(&self, lane: &mut Lane, start: usize) {
        let head = self.head;
        let width = head.bytes + head.tail;
        let range = lane.block.part(width, start);
        let symbols = &lane.symbols[..range.len()];
        let floors = &lane.floors[..range.len()];
        let out = &mut lane.block.out[range.start * width..range.end * width];
        let places = memchr::memchr_iter(ESCAPE, symbols).map(|at| (start + at) as u32);
        lane.escapes.extend(places);
        if head.tail == 0 {
            self.join_heads(symbols, floors, &mut lane.bits, out);
        } else {
            let mut room = [0u8; 2 * PART];
            let heads = &mut room[..2 * symbols.len()];
            self.join_heads(symbols, floors, &mut lane.bits, heads);
            put_tails(&lane.planes, range.start, heads, out);
        }
    }

    /// Heads of a part, exceptions as zeros.
    fn join_heads(&self, symbols: &[u8], floors: &[i8], bits: &mut BitReader, heads: &mut [u8]) {
        let head = self.head;
        let mut done = 0;
        if head.bytes == 2 {
            let (raw, position) = (bits.bytes(), &mut bits.position);
            done = kernel::join_heads(&self.heads(), symbols, floors, raw, position, heads);
        }
        let sign = 8 * head.bytes as u32 - 1;
        for (i, &symbol) in symbols.iter().enumerate().skip(done) {
            let mut value = 0;
            if symbol != ESCAPE && symbol != 0 {
                let low = bits.take(head.low + 1) as u32;
                let place = i32::from(self.lowest) + i32::from(symbol) - 1;
                let upper = (place + head.first(floors[i])) as u32;
                let size = upper << head.low | low & ((1 << head.low) - 1);
                value = (low >> head.low) << sign | size & ((1 << sign) - 1);
            }
            number::store(heads, head.bytes, i, u64::from(value));
        }
    }

    /// Checks the end of a block, and puts its exceptions in.
    fn finish(&self, lane: Lane) -> Result<(), FormatError> {
        if !lane.block.decoder.is_finished() {
            return Err(UNFINISHED);
        }
        let head = self.head;
        let mut rest = Fields::new(lane.bits.bytes(), RAW);
        rest.skip_bits(&lane.bits)?;
        for at in lane.escapes {
            let place = at as usize * (head.bytes + head.tail) + head.tail;
            lane.block.out[place..place + head.bytes].copy_from_slice(rest.take(head.bytes)?);
        }
        rest.finish()
    }
}

/// Puts heads of two bytes on top of the planes below them, from an element of the block on.
fn put_tails(planes: &[Cow<[u8]>], from: usize, heads: &[u8], out: &mut [u8]) {
    let (heads, _) = heads.as_chunks::<2>();
    if let [low, high] = planes {
        let tails = low[from..].iter().zip(&high[from..]);
        let elements = out.as_chunks_mut::<4>().0.iter_mut();
        wide(
            #[inline(always)]
            || {
                // As whole numbers, which becomes vectors.
                for ((element, (&low, &high)), &head) in elements.zip(tails).zip(heads) {
                    let head = u32::from(u16::from_le_bytes(head));
                    *element = (head << 16 | u32::from(high) << 8 | u32::from(low)).to_le_bytes();
                }
            },
        );
        return;
    }
    let width = planes.len() + 2;
    for (i, (element, head)) in out.chunks_exact_mut(width).zip(heads).enumerate() {
        for (byte, plane) in element.iter_mut().zip(planes) {
            *byte = plane[from + i];
        }
        element[width - 2..].copy_from_slice(head);
    }
}
