//! Changes to bytes as a fuzzer makes them, the same on every machine.
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "lengths of what the test itself has made"
)]

/// Marsaglia's xorshift.
pub struct Random(pub u64);

impl Random {
    /// A number below `end`; 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end.max(1)
    }
}

/// Changes bytes in one of the ways of a fuzzer; `seeds` lend parts of themselves.
pub fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len());
    let end = at + random.below((bytes.len() - at).min(64));
    match random.below(6) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.below(256) as u8,
        2 => drop(bytes.drain(at..end)),
        3 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        4 => {
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            let to = from + random.below((other.len() - from).min(64));
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        _ => bytes[at..end].fill([0, 255, 1, 0x80][random.below(4)]),
    }
}
