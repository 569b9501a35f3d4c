//! Interleaved range coding with static tables (rANS): the plain version.
//!
//! May use: `kernel`, `table`. States are 32 bits in [2^16, 2^32), words 16 bits; element `i` lies on lane
//! `i mod lanes`. The decoder reads zeros past the end and checks the end once: all lanes back at
//! 2^16 and every word used.

use super::kernel::{self, Words};
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
    /// Reads the states; `None` where the bytes do not hold them.
    pub fn new(bytes: &'a [u8], lanes: usize) -> Option<Self> {
        let (head, words) = bytes.split_at_checked(4 * lanes)?;
        let mut states = [START; LANES];
        for (state, four) in states.iter_mut().zip(head.chunks_exact(4)) {
            *state = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }
        Some(Self {
            states,
            lanes,
            words,
            position: 0,
            lane: 0,
        })
    }

    /// Decodes one symbol for each table index.
    pub fn decode(&mut self, tables: &Tables, indexes: &[u8], symbols: &mut [u8]) {
        let mut done = 0;
        if self.lanes == LANES && self.lane == 0 {
            done = kernel::decode(self, tables, indexes, symbols);
        }
        self.decode_plain(tables, &indexes[done..], &mut symbols[done..]);
    }

    /// The plain twin of [`kernel::decode`].
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

    /// Whether the stream ended as an encoder ends it.
    pub fn is_finished(&self) -> bool {
        self.position == self.words.len()
            && self.states[..self.lanes]
                .iter()
                .all(|&state| state == START)
    }
}
