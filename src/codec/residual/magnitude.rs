//! Floating-point elements coded without a prediction.
//!
//! May use: `store_format` and the files beside it. The exponent and two bits of mantissa are a
//! symbol, counted from the octave that the row's and column's scale expects; sign and the other
//! bits of the upper half follow raw, low bytes of wide types as planes.
//!
//! Elements of one distribution have the same symbols whatever their scale, so that few tables
//! serve all rows; a context says where in the octave the scale lies, and roughly which octave.

mod decode;

use store_format::FormatError;

use super::bits::{BitWriter, Fields};
use super::kernel;
use super::merge::Histogram;
use super::number::{self, Number};
use super::operands::Heads;
use super::part::PART;
use super::planes::Planes;
use super::rans;
use super::scale::{COLUMNS, ROWS, Scales};
use super::table::{TABLES_MAX, Tables};

/// Logarithm of the sum of a table's frequencies.
pub(super) const BITS: u32 = 11;

/// Contexts before they are merged.
pub(super) const CONTEXTS: usize = 32;

/// The symbol of a head that follows raw.
pub(super) const ESCAPE: u8 = 255;

/// Symbols beside zero and the escape.
pub(super) const WINDOW: i32 = 254;

/// The upper bytes of an element, which hold sign, exponent and the first bits of mantissa.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Bytes of the head, 1 or 2.
    pub bytes: usize,
    /// Bytes below it.
    pub tail: usize,
    /// Bits of the head's magnitude that follow raw.
    pub low: u32,
    /// Bits of mantissa above those: an octave has so many upper parts, as a power of two.
    pub octave: u32,
}

impl Head {
    pub fn of(number: Number) -> Self {
        let bytes = number.bytes.min(2);
        let tail = number.bytes - bytes;
        let mantissa = number.mantissa - 8 * tail as u32;
        let octave = if bytes == 1 { mantissa } else { 2 };
        Self {
            bytes,
            tail,
            low: mantissa - octave,
            octave,
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

    /// Where the upper part lies, counted from the octave of a scale.
    pub fn place(self, head: u32, floor: i8) -> i32 {
        self.upper(head) as i32 - self.first(floor)
    }

    /// The upper part that places in an octave count from.
    fn first(self, floor: i8) -> i32 {
        i32::from(floor / 4) << self.octave
    }

    /// The symbol of a head; `lowest` is the place of symbol 1.
    fn symbol(self, head: u32, floor: i8, lowest: i16) -> u8 {
        if head == 0 {
            return 0;
        }
        let symbol = self.place(head, floor) - i32::from(lowest);
        if (0..WINDOW).contains(&symbol) {
            symbol as u8 + 1
        } else {
            ESCAPE
        }
    }
}

/// What the elements of a tensor share.
#[derive(Clone, Debug)]
pub(super) struct Magnitude {
    pub head: Head,
    /// The place of the head that symbol 1 stands for.
    pub lowest: i16,
    pub scales: Scales,
    /// The table of each context.
    pub map: [u8; CONTEXTS],
    pub tables: Tables,
    /// Tables of the low bytes.
    pub tail: Planes,
}

/// The whole octaves of a scale, in quarter octaves as it is: at most 120 to either side.
pub(super) fn floor(scale: i16) -> i8 {
    (scale & !3) as i8
}

/// The context of a scale: its place in the octave, then the octave roughly.
fn context(scale: i16) -> usize {
    let near = (floor(scale) / 4 + 4).clamp(0, 7);
    8 * (scale & 3) as usize + near as usize
}

impl Magnitude {
    /// Fills the tables of the elements from `first` on, and the floors of their scales; at most
    /// [`PART`].
    fn indexes(&self, first: u64, indexes: &mut [u8], floors: &mut [i8]) {
        let mut scales = [0i16; PART];
        let scales = &mut scales[..indexes.len()];
        self.scales.fill(first, scales);
        let map = std::array::from_fn(|scale| self.map[context(scale as i16 - 16)]);
        let done = kernel::indexes_alone(&map, scales, indexes, floors);
        let both = indexes.iter_mut().zip(floors);
        for ((index, place), &scale) in both.zip(scales.iter()).skip(done) {
            *index = self.map[context(scale)];
            *place = floor(scale);
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
        floors: &[i8],
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
            let mut escape = |i: usize| exceptions.extend_from_slice(&heads[2 * i..2 * i + 2]);
            let rule = self.heads();
            done = kernel::split_heads(&rule, indexes, floors, heads, slots, bits, &mut escape);
        }
        let sign = 8 * head.bytes as u32 - 1;
        for (i, slot) in slots.iter_mut().enumerate().skip(done) {
            let value = number::load(heads, head.bytes, i) as u32;
            let mut symbol = head.symbol(value, floors[i], self.lowest);
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
        let mut floors = [0; PART];
        for (n, part) in target.chunks(PART * width).enumerate() {
            let count = part.len() / width;
            let indexes = &mut histogram.indexes[..count];
            let floors = &mut floors[..count];
            self.indexes(first + (n * PART) as u64, indexes, floors);
            let slots = &mut histogram.slots[..count];
            self.split(indexes, floors, part, slots, &mut bits, &mut exceptions);
            bits.clear();
            exceptions.clear();
            histogram.add(count);
        }
    }

    /// The low bytes of a block.
    fn encode_planes(&self, target: &[u8]) -> Vec<u8> {
        let Head { bytes, tail, .. } = self.head;
        let len = target.len() / (bytes + tail);
        let mut planes: Vec<_> = (0..tail).map(|_| Vec::with_capacity(len)).collect();
        // Part by part, so that each comes from memory once.
        for part in target.chunks(PART * (bytes + tail)) {
            for (n, plane) in planes.iter_mut().enumerate() {
                plane.extend(part.chunks_exact(bytes + tail).map(|element| element[n]));
            }
        }
        let mut out = Vec::with_capacity(target.len());
        for (n, plane) in planes.iter().enumerate() {
            self.tail.encode_plane(n, plane, &mut out);
        }
        out
    }

    /// Codes a block; the stream, and the raw bytes.
    pub fn encode(&self, first: u64, target: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let width = self.head.bytes + self.head.tail;
        let (mut indexes, mut floors) = ([0; PART], [0; PART]);
        let mut bits = BitWriter::after(self.encode_planes(target));
        let mut exceptions = Vec::new();
        let mut stream = Vec::new();
        kernel::with_slots(target.len() / width, |slots| {
            for (n, part) in target.chunks(PART * width).enumerate() {
                let count = part.len() / width;
                let start = n * PART;
                let (indexes, floors) = (&mut indexes[..count], &mut floors[..count]);
                self.indexes(first + start as u64, indexes, floors);
                let slots = &mut slots[start..start + count];
                self.split(indexes, floors, part, slots, &mut bits, &mut exceptions);
            }
            rans::encode(BITS, rans::LANES, slots, &mut stream);
        });
        let mut raw = bits.finish();
        raw.extend_from_slice(&exceptions);
        (stream, raw)
    }

    /// Appends what a tensor's chunks share.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(self.scales.flags());
        out.extend_from_slice(&self.lowest.to_le_bytes());
        self.scales.write(out);
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
        let lowest = fields.i16()?;
        let scales = Scales::read(fields, flags, rows, row_len)?;
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
