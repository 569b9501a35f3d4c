//! Interleaved range coding with static tables (rANS): the plain version.
//!
//! May use: `table`. States are 32 bits in [2^16, 2^32), words 16 bits; element `i` lies on lane
//! `i mod lanes`. The decoder reads zeros past the end and checks the end once: all lanes back at
//! 2^16 and every word used.

use super::table::Tables;

/// The most lanes a stream has, and the number that blocks of elements use.
pub(super) const LANES: usize = 32;

/// The state that an encoder starts from, so the state that a decoder must end in.
const START: u32 = 1 << 16;

/// Codes symbols, the table of each given beside it; appends the states, then the words.
///
/// Every symbol must be present in its table.
pub(super) fn encode(
    tables: &Tables,
    lanes: usize,
    codes: impl DoubleEndedIterator<Item = (u8, u8)> + ExactSizeIterator,
    out: &mut Vec<u8>,
) {
    let mut states = [START; LANES];
    let mut words: Vec<u16> = Vec::with_capacity(codes.len() / 4 + 16);
    let bits = tables.bits();
    for (i, (table, symbol)) in codes.enumerate().rev() {
        let (frequency, start) = tables.slot(table, symbol);
        let state = &mut states[i % lanes];
        if *state >> (32 - bits) >= frequency {
            words.push(*state as u16);
            *state >>= 16;
        }
        *state = ((*state / frequency) << bits) + *state % frequency + start;
    }
    for state in &states[..lanes] {
        out.extend_from_slice(&state.to_le_bytes());
    }
    for word in words.iter().rev() {
        out.extend_from_slice(&word.to_le_bytes());
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
