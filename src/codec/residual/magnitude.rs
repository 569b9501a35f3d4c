//! Floating-point elements coded without a prediction.
//!
//! May use: `store_format` and the files beside it. The exponent and two bits of mantissa are a
//! symbol in the context of the row's and column's size; sign and the other bits of the upper
//! half follow raw, low bytes of wide types as planes.

use store_format::FormatError;

use super::bits::{BitReader, BitWriter, Fields};
use super::block::{CodedBlock, UNFINISHED};
use super::kernel::{self, Heads, Map16};
use super::merge::Histogram;
use super::number::{self, Number};
use super::part::PART;
use super::planes::Planes;
use super::rans::{self, Stream};
use super::scale::{Scales, read_steps, write_steps};
use super::table::{TABLES_MAX, Tables};

/// Logarithm of the sum of a table's frequencies.
pub(super) const BITS: u32 = 11;

/// Contexts before they are merged.
pub(super) const CONTEXTS: usize = 32;

/// The symbol of a head that follows raw.
pub(super) const ESCAPE: u8 = 255;

/// Symbols beside zero and the escape.
pub(super) const WINDOW: u32 = 254;

const ROWS: u8 = 1;
const COLUMNS: u8 = 2;

/// The upper bytes of an element, which hold sign, exponent and the first bits of mantissa.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Bytes of the head, 1 or 2.
    pub bytes: usize,
    /// Bytes below it.
    pub tail: usize,
    /// Bits of the head's magnitude that follow raw.
    pub low: u32,
}

impl Head {
    pub fn of(number: Number) -> Self {
        let bytes = number.bytes.min(2);
        let tail = number.bytes - bytes;
        let mantissa = number.mantissa - 8 * tail as u32;
        Self {
            bytes,
            tail,
            low: if bytes == 1 { 0 } else { mantissa - 2 },
        }
    }

    /// The head of an element, as the low bits.
    pub fn load(self, bytes: &[u8], index: usize) -> u32 {
        (number::load(bytes, self.bytes + self.tail, index) >> (8 * self.tail)) as u32
    }

    /// The heads of elements side by side, in `room` where they are not so already.
    fn gather<'a>(self, target: &'a [u8], room: &'a mut [u8]) -> &'a [u8] {
        if self.tail == 0 {
            return target;
        }
        let width = self.bytes + self.tail;
        let count = target.len() / width;
        for (place, element) in room.chunks_exact_mut(2).zip(target.chunks_exact(width)) {
            place.copy_from_slice(&element[width - 2..]);
        }
        &room[..2 * count]
    }

    /// The part of a head that chooses the symbol.
    pub fn upper(self, head: u32) -> u32 {
        (head & ((1 << (8 * self.bytes - 1)) - 1)) >> self.low
    }

    /// The symbol of a head; `lowest` is the upper part of symbol 1.
    pub fn symbol(self, head: u32, lowest: u32) -> u8 {
        if head == 0 {
            return 0;
        }
        let place = self.upper(head).wrapping_sub(lowest);
        if place < WINDOW {
            place as u8 + 1
        } else {
            ESCAPE
        }
    }
}

/// What the elements of a tensor share.
#[derive(Clone, Debug)]
pub(super) struct Magnitude {
    pub head: Head,
    /// The upper part of a head that symbol 1 stands for.
    pub lowest: u16,
    pub scales: Scales,
    /// The table of each context.
    pub map: [u8; CONTEXTS],
    pub tables: Tables,
    /// Tables of the low bytes.
    pub tail: Planes,
}

/// A block between two parts.
struct Lane<'a> {
    block: CodedBlock<'a>,
    indexes: [u8; PART],
    /// All of the block's, for where the raw bytes lie follows from them.
    symbols: Vec<u8>,
}

/// The context of a scale relative to the tensor's.
pub(super) fn context(scale: i16) -> usize {
    ((scale + 32) >> 1).clamp(0, 31) as usize
}

impl Magnitude {
    /// Fills the tables of the elements from `first` on; at most [`PART`].
    fn indexes(&self, first: u64, out: &mut [u8]) {
        let mut scales = [0i16; PART];
        let scales = &mut scales[..out.len()];
        self.scales.fill(first, scales);
        // The contexts are those of 16-bit elements whose exponent is 0.
        let map = Map16 {
            mantissa: 7,
            low: -32,
            map: self.map,
            zero: None,
        };
        let done = kernel::indexes16(&map, scales, None, out);
        for (index, &scale) in out.iter_mut().zip(scales.iter()).skip(done) {
            *index = self.map[context(scale)];
        }
    }

    fn heads(&self) -> Heads<'_> {
        Heads {
            low: self.head.low,
            lowest: self.lowest,
            tables: &self.tables,
        }
    }

    /// Slots, raw bits and exceptions of a part.
    fn split(
        &self,
        indexes: &[u8],
        target: &[u8],
        slots: &mut [u32],
        bits: &mut BitWriter,
        exceptions: &mut Vec<u8>,
    ) {
        let head = self.head;
        let mut gathered = [0u8; 2 * PART];
        let heads = head.gather(target, &mut gathered);
        let mut done = 0;
        if head.bytes == 2 {
            done = kernel::split_heads(&self.heads(), indexes, heads, slots, bits, &mut |i| {
                exceptions.extend_from_slice(&heads[2 * i..2 * i + 2]);
            });
        }
        let sign = 8 * head.bytes as u32 - 1;
        for (i, slot) in slots.iter_mut().enumerate().skip(done) {
            let value = number::load(heads, head.bytes, i) as u32;
            let mut symbol = head.symbol(value, u32::from(self.lowest));
            *slot = self.tables.slot(indexes[i], symbol);
            if *slot == 0 {
                symbol = ESCAPE;
                *slot = self.tables.slot(indexes[i], symbol);
            }
            if symbol == ESCAPE {
                exceptions.extend_from_slice(&value.to_le_bytes()[..head.bytes]);
            } else if symbol != 0 {
                let low = value & ((1 << head.low) - 1);
                bits.put(u64::from(low | (value >> sign) << head.low), head.low + 1);
            }
        }
    }

    /// Counts the symbols of elements in their contexts; the model must have counting tables and
    /// as its map the contexts themselves.
    pub fn count(&self, first: u64, target: &[u8], histogram: &mut Histogram) {
        let width = self.head.bytes + self.head.tail;
        let (mut bits, mut exceptions) = (BitWriter::default(), Vec::new());
        for (n, part) in target.chunks(PART * width).enumerate() {
            let count = part.len() / width;
            let indexes = &mut histogram.indexes[..count];
            self.indexes(first + (n * PART) as u64, indexes);
            let slots = &mut histogram.slots[..count];
            self.split(indexes, part, slots, &mut bits, &mut exceptions);
            bits.clear();
            exceptions.clear();
            histogram.add(count);
        }
    }

    /// Codes a block; the stream, and the raw bytes.
    pub fn encode(&self, first: u64, target: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let width = self.head.bytes + self.head.tail;
        let mut indexes = [0u8; PART];
        let mut bits = BitWriter::default();
        let mut exceptions = Vec::new();
        let mut stream = Vec::new();
        kernel::with_slots(target.len() / width, |slots| {
            for (n, part) in target.chunks(PART * width).enumerate() {
                let count = part.len() / width;
                let start = n * PART;
                self.indexes(first + start as u64, &mut indexes[..count]);
                let slots = &mut slots[start..start + count];
                self.split(&indexes[..count], part, slots, &mut bits, &mut exceptions);
            }
            rans::encode(BITS, rans::LANES, slots, &mut stream);
        });
        let mut raw = bits.finish();
        raw.extend_from_slice(&exceptions);
        for plane in 0..self.head.tail {
            let bytes: Vec<u8> = target.chunks_exact(width).map(|e| e[plane]).collect();
            self.tail.encode_plane(plane, &bytes, &mut raw);
        }
        (stream, raw)
    }

    /// Decodes blocks side by side.
    pub fn decode<const N: usize>(&self, blocks: [CodedBlock; N]) -> Result<(), FormatError> {
        let width = self.head.bytes + self.head.tail;
        let mut lanes = blocks.map(|block| Lane {
            symbols: vec![0; block.out.len() / width],
            indexes: [0; PART],
            block,
        });
        let longest = lanes.iter().map(|lane| lane.symbols.len()).max();
        for start in (0..longest.unwrap_or(0)).step_by(PART) {
            let streams = lanes.each_mut().map(|lane| {
                let range = lane.block.part(width, start);
                let indexes = &mut lane.indexes[..range.len()];
                self.indexes(lane.block.first + range.start as u64, indexes);
                Stream {
                    decoder: &mut lane.block.decoder,
                    indexes,
                    symbols: &mut lane.symbols[range],
                }
            });
            rans::decode(streams, &self.tables);
        }
        for lane in lanes {
            if !lane.block.decoder.is_finished() {
                return Err(UNFINISHED);
            }
            self.join(&lane.symbols, lane.block.raw, lane.block.out)?;
        }
        Ok(())
    }

    /// Puts elements together from symbols and raw bytes.
    fn join(&self, symbols: &[u8], raw: &[u8], out: &mut [u8]) -> Result<(), FormatError> {
        let head = self.head;
        let width = head.bytes + head.tail;
        let escapes = kernel::count(symbols, ESCAPE);
        let zeros = kernel::count(symbols, 0);
        let coded = (symbols.len() - escapes - zeros) * (head.low as usize + 1);
        let mut fields = Fields::new(raw, "the raw bytes of a block");
        let mut bits = BitReader::new(fields.take(coded.div_ceil(8))?);
        let mut exceptions = fields.take(escapes * head.bytes)?.chunks_exact(head.bytes);
        let planes = (0..head.tail)
            .map(|plane| self.tail.read_plane(plane, &mut fields, symbols.len()))
            .collect::<Result<Vec<_>, _>>()?;
        fields.finish()?;
        let mut room = [0u8; 2 * PART];
        for (n, (symbols, out)) in symbols
            .chunks(PART)
            .zip(out.chunks_mut(PART * width))
            .enumerate()
        {
            let heads = if head.tail == 0 {
                &mut *out
            } else {
                &mut room[..symbols.len() * head.bytes]
            };
            self.join_part(symbols, &mut bits, heads);
            for at in memchr::memchr_iter(ESCAPE, symbols) {
                if let Some(exception) = exceptions.next() {
                    heads[at * head.bytes..][..head.bytes].copy_from_slice(exception);
                }
            }
            if head.tail > 0 {
                let range = n * PART..n * PART + symbols.len();
                let tails: Vec<&[u8]> = planes.iter().map(|plane| &plane[range.clone()]).collect();
                put_tails(&tails, &room, out);
            }
        }
        if !bits.is_finished() {
            return Err(FormatError::Invalid {
                rule: "unused bits of a block are zero",
            });
        }
        Ok(())
    }

    /// Heads of a part, escapes as zeros.
    fn join_part(&self, symbols: &[u8], bits: &mut BitReader, heads: &mut [u8]) {
        let head = self.head;
        let mut done = 0;
        if head.bytes == 2 {
            let raw = bits.bytes();
            done = kernel::join_heads(&self.heads(), symbols, raw, &mut bits.position, heads);
        }
        let sign = 8 * head.bytes as u32 - 1;
        for (i, &symbol) in symbols.iter().enumerate().skip(done) {
            let mut value = 0;
            if symbol != ESCAPE && symbol != 0 {
                let low = bits.take(head.low + 1) as u32;
                let upper = u32::from(self.lowest) + u32::from(symbol) - 1;
                let size = upper << head.low | low & ((1 << head.low) - 1);
                value = (low >> head.low) << sign | size & ((1 << sign) - 1);
            }
            number::store(heads, head.bytes, i, u64::from(value));
        }
    }

    /// Appends what a tensor's chunks share.
    pub fn write(&self, out: &mut Vec<u8>) {
        let rows = if self.scales.rows.is_empty() { 0 } else { ROWS };
        let columns = if self.scales.columns.is_empty() {
            0
        } else {
            COLUMNS
        };
        out.push(rows | columns);
        out.extend_from_slice(&self.lowest.to_le_bytes());
        for scales in [&self.scales.rows, &self.scales.columns] {
            if !scales.is_empty() {
                let steps: Vec<i16> = scales.iter().map(|&s| s / 2).collect();
                write_steps(&steps, out);
            }
        }
        let mut map = 0u32;
        for i in 1..CONTEXTS {
            if self.map[i] != self.map[i - 1] {
                map |= 1 << i;
            }
        }
        out.extend_from_slice(&map.to_le_bytes());
        self.tables.write(out);
        self.tail.write(out);
    }

    /// Reads what [`Magnitude::write`] wrote.
    pub fn read(
        fields: &mut Fields,
        number: Number,
        rows: u64,
        row_len: u64,
    ) -> Result<Self, FormatError> {
        let flags = fields.byte()?;
        if flags & !(ROWS | COLUMNS) != 0 {
            return Err(FormatError::Unknown {
                field: "flags of side information",
                value: u64::from(flags),
            });
        }
        let lowest = fields.number(2)? as u16;
        let mut scales = Scales {
            row_len,
            ..Scales::default()
        };
        let doubled = |steps: Vec<i16>| steps.into_iter().map(|s| 2 * s).collect();
        if flags & ROWS != 0 {
            scales.rows = doubled(read_steps(fields, rows)?);
        }
        if flags & COLUMNS != 0 {
            scales.columns = doubled(read_steps(fields, row_len)?);
        }
        let bits = fields.number(4)? as u32;
        let mut map = [0u8; CONTEXTS];
        for i in 1..CONTEXTS {
            map[i] = map[i - 1] + (bits >> i & 1) as u8;
        }
        let count = usize::from(map[CONTEXTS - 1]) + 1;
        if bits & 1 != 0 || count > TABLES_MAX {
            return Err(FormatError::Invalid {
                rule: "the first context has table 0, and there are at most 40 tables",
            });
        }
        let tables = Tables::read(fields, BITS, 256, count)?;
        let head = Head::of(number);
        let tail = Planes::read(fields, head.tail)?;
        Ok(Self {
            head,
            lowest,
            scales,
            map,
            tables,
            tail,
        })
    }
}

/// Puts heads of two bytes on top of the planes below them.
fn put_tails(planes: &[&[u8]], heads: &[u8], out: &mut [u8]) {
    let (heads, _) = heads.as_chunks::<2>();
    if let [low, high] = planes {
        // As whole numbers, which becomes vectors.
        let tails = low.iter().zip(*high);
        for ((element, (&low, &high)), &head) in
            out.as_chunks_mut::<4>().0.iter_mut().zip(tails).zip(heads)
        {
            let head = u32::from(u16::from_le_bytes(head));
            *element = (head << 16 | u32::from(high) << 8 | u32::from(low)).to_le_bytes();
        }
        return;
    }
    let width = planes.len() + 2;
    for (i, (element, head)) in out.chunks_exact_mut(width).zip(heads).enumerate() {
        for (byte, plane) in element.iter_mut().zip(planes) {
            *byte = plane[i];
        }
        element[width - 2..].copy_from_slice(head);
    }
}
