//! From counts to tables: which contexts share one, and what each costs.
//!
//! May use: `table`. Serves encoders only; estimates are floating point and decide sizes, never
//! decoded bytes.

use super::table::{TABLES_MAX, Tables, normalise};

/// Counts of symbols in contexts, side by side.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub alphabet: usize,
    pub counts: Vec<u32>,
}

impl Counts {
    pub fn new(contexts: usize, alphabet: usize) -> Self {
        Self {
            alphabet,
            counts: vec![0; contexts * alphabet],
        }
    }
}

/// Bits of symbols coded by their own counts.
pub(super) fn bits_of(counts: &[u32]) -> f64 {
    let mut sum = 0u64;
    let mut bits = 0.0;
    for &count in counts {
        if count > 0 {
            sum += u64::from(count);
            bits -= f64::from(count) * f64::from(count).log2();
        }
    }
    if sum > 0 {
        bits += sum as f64 * (sum as f64).log2();
    }
    bits
}

/// About what a table costs in side information, in bits.
fn table_bits(counts: &[u32]) -> f64 {
    12.0 + 6.0 * counts.iter().filter(|&&c| c > 0).count() as f64
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
    /// Bits of the counted symbols with these tables, times the scale.
    pub bits: f64,
}

/// Merges the first `ordered` contexts; the ones after it keep a table each.
///
/// `scale` is how many elements of the tensor one counted element stands for.
pub(super) fn merge(
    counts: &Counts,
    ordered: usize,
    escape: Option<u8>,
    scale: f64,
    bits: u32,
) -> Merged {
    let apart = counts.counts.len() / counts.alphabet - ordered;
    let cost = |counts: &[u32]| scale * bits_of(counts) + table_bits(counts);
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
    join_neighbours(&mut groups, TABLES_MAX - apart, cost);
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
    let total = groups.iter().map(|group| group.cost).sum();
    let mut frequencies = vec![0u16; groups.len() * counts.alphabet];
    for (group, frequencies) in groups
        .iter_mut()
        .zip(frequencies.chunks_exact_mut(counts.alphabet))
    {
        if let Some(escape) = escape {
            // What a sample did not show escapes.
            let rare = group.counts.iter().filter(|&&c| c == 1).count() as u32;
            let unseen = if scale > 1.0 { rare } else { 0 };
            group.counts[usize::from(escape)] += 1 + unseen;
        }
        if group.counts.iter().filter(|&&c| c > 0).count() < 2 {
            let other = usize::from(group.counts[0] > 0);
            group.counts[other] += 1;
        }
        normalise(&group.counts, bits, frequencies);
    }
    Merged {
        map,
        tables: Tables::new(bits, counts.alphabet, &frequencies),
        bits: total,
    }
}

fn join_neighbours(groups: &mut Vec<Group>, most: usize, cost: impl Fn(&[u32]) -> f64) {
    let joined = |a: &Group, b: &Group| {
        let counts: Vec<u32> = a.counts.iter().zip(&b.counts).map(|(a, b)| a + b).collect();
        let total = cost(&counts);
        (total - a.cost - b.cost, counts, total)
    };
    let mut change: Vec<f64> = groups.windows(2).map(|w| joined(&w[0], &w[1]).0).collect();
    while let Some(at) = (0..change.len()).min_by(|&a, &b| change[a].total_cmp(&change[b])) {
        if change[at] >= 0.0 && groups.len() <= most {
            break;
        }
        let (_, counts, total) = joined(&groups[at], &groups[at + 1]);
        let gone = groups.remove(at + 1);
        groups[at].contexts += gone.contexts;
        groups[at].counts = counts;
        groups[at].cost = total;
        change.remove(at);
        if at > 0 {
            change[at - 1] = joined(&groups[at - 1], &groups[at]).0;
        }
        if at + 1 < groups.len() {
            change[at] = joined(&groups[at], &groups[at + 1]).0;
        }
    }
}
