//! From counts to tables: which contexts share one, and what each costs.
//!
//! May use: `part`, `table`. Serves encoders only; estimates are floating point and decide sizes,
//! never decoded bytes.

use std::f64::consts::LOG2_E;
use std::sync::LazyLock;

use super::part::PART;
use super::table::{TABLES_MAX, Tables, normalise};

/// Counts of symbols in contexts, side by side.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub alphabet: usize,
    pub counts: Vec<u32>,
}

impl Counts {
    /// Bits of all symbols, each context by its own counts: enough to compare scales. What a
    /// sample's own counts flatter it by is made up for (Miller 1955: half a nat a symbol but one).
    pub fn bits(&self) -> f64 {
        let flattery = |used: u32| f64::from(used.saturating_sub(1)) * LOG2_E / 2.0;
        self.counts
            .chunks_exact(self.alphabet)
            .map(|counts| Cost::of(counts.iter().copied()))
            .map(|cost| cost.bits + flattery(cost.used))
            .sum()
    }

    pub fn new(contexts: usize, alphabet: usize) -> Self {
        Self {
            alphabet,
            counts: vec![0; contexts * alphabet],
        }
    }
}

/// Counts slots of counting tables. Neighbours often have the same slot, and a counter can go up
/// only once in a few cycles: so there are four of each.
pub(super) struct Histogram {
    counters: Vec<[u32; 4]>,
    /// Room for what is counted, used again for every run.
    pub indexes: Vec<u8>,
    pub slots: Vec<u32>,
}

impl Histogram {
    pub fn new(slots: usize) -> Self {
        Self {
            counters: vec![[0; 4]; slots],
            indexes: vec![0; PART],
            slots: vec![0; PART],
        }
    }

    /// Counts the first `len` slots of the room.
    pub fn add(&mut self, len: usize) {
        let slots = &self.slots[..len];
        let counters = self.counters.as_mut_slice();
        let mut count = |slot: u32, lane: usize| {
            // A slot of a counting table is never 0.
            if let Some(counters) = counters.get_mut((slot as usize).wrapping_sub(1)) {
                counters[lane] += 1;
            }
        };
        let (fours, rest) = slots.as_chunks::<4>();
        for four in fours {
            for (lane, &slot) in four.iter().enumerate() {
                count(slot, lane);
            }
        }
        for &slot in rest {
            count(slot, 0);
        }
    }

    /// The sums of the counters, added to `counts`.
    pub fn finish(self, counts: &mut [u32]) {
        for (count, counters) in counts.iter_mut().zip(self.counters) {
            *count += counters.iter().sum::<u32>();
        }
    }
}

/// `count * log2(count)`; small counts, nearly all of them, from a table.
fn weight_of(count: u32) -> f64 {
    static SMALL: LazyLock<Vec<f64>> = LazyLock::new(|| {
        (0..4096)
            .map(|count| f64::from(count) * f64::from(count.max(1)).log2())
            .collect()
    });
    match SMALL.get(count as usize) {
        Some(&weight) => weight,
        None => f64::from(count) * f64::from(count).log2(),
    }
}

/// Bits of symbols coded by their own counts.
pub(super) fn bits_of(counts: &[u32]) -> f64 {
    Cost::of(counts.iter().copied()).bits
}

/// What the symbols of a context cost.
#[derive(Clone, Copy)]
struct Cost {
    /// Bits of the symbols.
    bits: f64,
    /// Symbols that occur.
    used: u32,
}

impl Cost {
    fn of(counts: impl Iterator<Item = u32>) -> Self {
        let (mut sum, mut used, mut below) = (0u64, 0, 0.0);
        for count in counts {
            if count > 0 {
                sum += u64::from(count);
                used += 1;
                below += weight_of(count);
            }
        }
        let total = sum as f64;
        let bits = if sum > 0 {
            total * total.log2() - below
        } else {
            0.0
        };
        Self { bits, used }
    }

    /// With about what the table takes in side information.
    fn total(self, scale: f64) -> f64 {
        scale * self.bits + 12.0 + 6.0 * f64::from(self.used)
    }
}

/// A run of neighbouring contexts with one table.
struct Group {
    contexts: usize,
    counts: Vec<u32>,
    cost: f64,
}

/// Tables for contexts, neighbours merged while that saves bits.
pub(super) struct Merged {
    /// The table of each context.
    pub map: Vec<u8>,
    pub tables: Tables,
}

/// The symbol of elements that follow raw.
pub(super) struct Escape {
    pub symbol: u8,
    /// Raw bits that an escape takes beyond those of each symbol.
    pub extra: Vec<u32>,
}

impl Escape {
    /// Counts as escapes what is rarer than a slot of the table by so much that the slot, shared by
    /// the other symbols, saves more than the escapes cost.
    fn take_rare(&self, counts: &mut [u32], bits: u32) {
        let sum: u64 = counts.iter().map(|&c| u64::from(c)).sum();
        let slot = sum as f64 * LOG2_E / f64::from(1u32 << bits);
        let mut taken = 0;
        for (symbol, (count, &extra)) in counts.iter_mut().zip(&self.extra).enumerate() {
            if symbol != usize::from(self.symbol) && f64::from(*count) * f64::from(extra) < slot {
                taken += std::mem::take(count);
            }
        }
        counts[usize::from(self.symbol)] += taken;
    }
}

/// Merges the first `ordered` contexts; the ones after it keep a table each.
///
/// `scale` is how many elements of the tensor one counted element stands for.
pub(super) fn merge(
    counts: &Counts,
    ordered: usize,
    escape: &Escape,
    scale: f64,
    bits: u32,
) -> Merged {
    let apart = counts.counts.len() / counts.alphabet - ordered;
    let cost = |counts: &[u32]| Cost::of(counts.iter().copied()).total(scale);
    let mut groups: Vec<Group> = Vec::new();
    for part in counts.counts.chunks_exact(counts.alphabet).take(ordered) {
        match groups.last_mut() {
            Some(last) if part.iter().all(|&c| c == 0) => last.contexts += 1,
            Some(last) if last.counts.iter().all(|&c| c == 0) => {
                last.contexts += 1;
                last.counts = part.to_vec();
                last.cost = cost(part);
            }
            _ => groups.push(Group {
                contexts: 1,
                counts: part.to_vec(),
                cost: cost(part),
            }),
        }
    }
    join_neighbours(&mut groups, TABLES_MAX - apart, scale);
    let mut map = Vec::with_capacity(ordered + apart);
    for (table, group) in groups.iter().enumerate() {
        map.extend(std::iter::repeat_n(table as u8, group.contexts));
    }
    for part in counts.counts.chunks_exact(counts.alphabet).skip(ordered) {
        map.push(groups.len() as u8);
        groups.push(Group {
            contexts: 1,
            counts: part.to_vec(),
            cost: cost(part),
        });
    }
    let mut frequencies = vec![0u16; groups.len() * counts.alphabet];
    for (group, frequencies) in groups
        .iter_mut()
        .zip(frequencies.chunks_exact_mut(counts.alphabet))
    {
        // What a sample did not show escapes.
        let rare = group.counts.iter().filter(|&&c| c == 1).count() as u32;
        let unseen = if scale > 1.0 { rare } else { 0 };
        group.counts[usize::from(escape.symbol)] += 1 + unseen;
        escape.take_rare(&mut group.counts, bits);
        if group.counts.iter().filter(|&&c| c > 0).count() < 2 {
            let other = usize::from(group.counts[0] > 0);
            group.counts[other] += 1;
        }
        normalise(&group.counts, bits, frequencies);
    }
    Merged {
        map,
        tables: Tables::new(bits, counts.alphabet, &frequencies),
    }
}

fn join_neighbours(groups: &mut Vec<Group>, most: usize, scale: f64) {
    let change_of = |a: &Group, b: &Group| {
        let counts = a.counts.iter().zip(&b.counts).map(|(a, b)| a + b);
        Cost::of(counts).total(scale) - a.cost - b.cost
    };
    let mut change: Vec<f64> = groups.windows(2).map(|w| change_of(&w[0], &w[1])).collect();
    while let Some(at) = (0..change.len()).min_by(|&a, &b| change[a].total_cmp(&change[b])) {
        if change[at] >= 0.0 && groups.len() <= most {
            break;
        }
        let gone = groups.remove(at + 1);
        let group = &mut groups[at];
        group.contexts += gone.contexts;
        group.cost += gone.cost + change[at];
        for (count, more) in group.counts.iter_mut().zip(&gone.counts) {
            *count += more;
        }
        change.remove(at);
        if at > 0 {
            change[at - 1] = change_of(&groups[at - 1], &groups[at]);
        }
        if at + 1 < groups.len() {
            change[at] = change_of(&groups[at], &groups[at + 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_too_rare_for_a_slot_escapes_and_no_element_is_lost() {
        let mut counts = vec![0; 8];
        (counts[0], counts[1], counts[2], counts[3]) = (1 << 20, 1 << 18, 5, 500);
        let before: u32 = counts.iter().sum();
        let escape = Escape {
            symbol: 7,
            extra: vec![16, 9, 9, 9, 9, 9, 9, 0],
        };
        escape.take_rare(&mut counts, 10);
        // A slot of 1024 is worth 1.44 bits in 1024 elements: more than 5 escapes cost, and less
        // than 500 do.
        assert_eq!(counts, [1 << 20, 1 << 18, 0, 500, 0, 0, 0, 5]);
        assert_eq!(counts.iter().sum::<u32>(), before);
    }
}
