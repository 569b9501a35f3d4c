//! Interleaved range coding with static tables (rANS): the plain version.
//!
//! May use: `store_format`, `kernel`, `soon`, `table`. States are 32 bits in [2^16, 2^32), words 16
//! bits; element `i` lies on lane `i mod lanes`. The decoder reads zeros past the end and checks
//! the end once: all lanes back at 2^16 and every word used.

use store_format::FormatError;

use super::kernel::{self, Words};
use super::soon::Soon;
use super::table::Tables;

/// The most lanes a stream has, and the number that blocks of elements use.
pub(super) const LANES: usize = 32;

/// The state that an encoder starts from, so the state that a decoder must end in.
const START: u32 = 1 << 16;

/// Codes slots, `frequency | start << 16` each of a table of `2^bits`; appends the states, then
/// the words. No frequency may be 0.
pub(super) fn encode(bits: u32, lanes: usize, slots: &[u32], out: &mut Vec<u8>) {
    let mut states = [START; LANES];
    let mut words = Words::new(slots.len());
    let groups = slots.len() / LANES * LANES;
    let mut done = slots.len();
    if lanes == LANES {
        encode_part(
            bits,
            lanes,
            groups,
            &slots[groups..],
            &mut states,
            &mut words,
        );
        done = groups - kernel::encode(bits, &mut states, &slots[..groups], &mut words);
    }
    encode_part(bits, lanes, 0, &slots[..done], &mut states, &mut words);
    for state in &states[..lanes] {
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.extend_from_slice(words.as_bytes());
}

/// Codes slots from the last to the first; the first one is element `first`.
fn encode_part(
    bits: u32,
    lanes: usize,
    first: usize,
    slots: &[u32],
    states: &mut [u32; LANES],
    words: &mut Words,
) {
    for (i, slot) in slots.iter().enumerate().rev() {
        let (frequency, start) = (slot & 0xFFFF, slot >> 16);
        let state = &mut states[(first + i) % lanes];
        if *state >> (32 - bits) >= frequency {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << bits) + *state % frequency + start;
    }
}

/// A decoder between two elements.
pub(super) struct Decoder<'a> {
    pub states: [u32; LANES],
    lanes: usize,
    /// Bytes after the states.
    pub words: &'a [u8],
    /// Bytes of `words` used so far; may run past the end.
    pub position: usize,
    /// Elements decoded so far, modulo the lanes.
    lane: usize,
}

impl<'a> Decoder<'a> {
    /// Reads the states, then words to the end.
    pub fn new(bytes: &'a [u8], lanes: usize) -> Result<Self, FormatError> {
        let (head, words) = bytes
            .split_at_checked(4 * lanes)
            .ok_or(FormatError::Truncated {
                what: "the states of a coder",
            })?;
        let mut states = [START; LANES];
        for (state, four) in states.iter_mut().zip(head.chunks_exact(4)) {
            *state = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }
        Ok(Self {
            states,
            lanes,
            words,
            position: 0,
            lane: 0,
        })
    }

    /// Decodes one symbol for each table index, without vectors.
    pub fn decode_plain(&mut self, tables: &Tables, indexes: &[u8], symbols: &mut [u8]) {
        let bits = tables.bits();
        let mask = (1u32 << bits) - 1;
        for (&table, symbol) in indexes.iter().zip(symbols) {
            let state = self.states[self.lane];
            let entry = tables.entry(table, state & mask);
            *symbol = entry as u8;
            let frequency = (entry >> 8) & 0xFFF;
            let mut next = frequency
                .wrapping_mul(state >> bits)
                .wrapping_add(entry >> 20);
            if next < START {
                next = next << 16 | u32::from(self.word());
            }
            self.states[self.lane] = next;
            self.lane += 1;
            if self.lane == self.lanes {
                self.lane = 0;
            }
        }
    }

    fn word(&mut self) -> u16 {
        let at = self.position;
        self.position += 2;
        match self.words.get(at..at + 2) {
            Some(two) => u16::from_le_bytes([two[0], two[1]]),
            None => 0,
        }
    }

    /// As [`decode`] of one stream.
    pub fn decode(&mut self, tables: &Tables, indexes: &[u8], symbols: &mut [u8]) {
        decode(
            [Stream {
                decoder: self,
                indexes,
                symbols,
                soon: Soon::NONE,
            }],
            tables,
        );
    }

    /// Whether the stream ended as an encoder ends it.
    pub fn is_finished(&self) -> bool {
        self.position == self.words.len()
            && self.states[..self.lanes]
                .iter()
                .all(|&state| state == START)
    }
}

/// What one decoder has to do.
pub(super) struct Stream<'a, 'w> {
    pub decoder: &'a mut Decoder<'w>,
    pub indexes: &'a [u8],
    /// As long as the indexes.
    pub symbols: &'a mut [u8],
    /// Memory that is wanted next.
    pub soon: Soon,
}

impl Stream<'_, '_> {
    /// Whether vectors can go on from here.
    fn is_even(&self) -> bool {
        self.decoder.lanes == LANES && self.decoder.lane == 0
    }

    /// The last words again with zeros behind them, so that few scalar steps are left.
    fn decode_last(&mut self, tables: &Tables) {
        let decoder = &mut *self.decoder;
        let rest = decoder.words.get(decoder.position..).unwrap_or(&[]);
        let mut padded = [0u8; 4 * kernel::STEP_BYTES];
        if rest.len() >= kernel::STEP_BYTES || self.indexes.is_empty() {
            return;
        }
        padded[..rest.len()].copy_from_slice(rest);
        let mut last = Decoder {
            words: &padded,
            position: 0,
            ..*decoder
        };
        let stream = Stream {
            decoder: &mut last,
            indexes: self.indexes,
            symbols: self.symbols,
            soon: Soon::NONE,
        };
        let done = kernel::decode(&mut [stream], tables);
        decoder.states = last.states;
        decoder.position += last.position;
        self.skip(done);
    }

    fn skip(&mut self, done: usize) {
        self.indexes = &self.indexes[done..];
        self.symbols = &mut std::mem::take(&mut self.symbols)[done..];
    }
}

/// Whole groups of lanes that every stream has; none where an index has no table.
pub(super) fn whole_groups(streams: &[Stream], tables: &Tables) -> usize {
    let each = |stream: &Stream| stream.indexes.len().min(stream.symbols.len()) / LANES;
    let groups = streams.iter().map(each).min().unwrap_or(0);
    let largest = |stream: &Stream| kernel::largest(&stream.indexes[..groups * LANES]);
    let is_known = |stream: &Stream| usize::from(largest(stream)) < tables.count();
    if streams.iter().all(is_known) {
        groups
    } else {
        0
    }
}

/// Decodes one symbol for each table index of every stream. Streams side by side hide the wait of
/// each step for the one before it.
pub(super) fn decode<const N: usize>(mut streams: [Stream; N], tables: &Tables) {
    if N > 1 && streams.iter().all(Stream::is_even) {
        let done = kernel::decode(&mut streams, tables);
        streams.iter_mut().for_each(|stream| stream.skip(done));
    }
    for mut stream in streams {
        if stream.is_even() {
            let mut one = [stream];
            let done = kernel::decode(&mut one, tables);
            [stream] = one;
            stream.skip(done);
            stream.decode_last(tables);
        }
        stream
            .decoder
            .decode_plain(tables, stream.indexes, stream.symbols);
    }
}
