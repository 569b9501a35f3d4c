//! What the first pass over a tensor keeps: sums for the scales and a bounded sample.
//!
//! May use: `number`, `prediction`, `scale`. Serves encoders only; sums are floating point.

use super::number::{self, Number};
use super::prediction::{Expected, PART, Prediction};
use super::scale::{SCALES_MAX, STEPS_MAX};

/// Elements of a run of the sample.
const RUN: u64 = 1024;

/// Weighted sum and sum of weights.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mean {
    pub sum: f32,
    pub weight: f32,
}

impl Mean {
    fn add(&mut self, sum: f32, weight: f32) {
        self.sum += sum;
        self.weight += weight;
    }

    pub fn value(self) -> f32 {
        if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        }
    }
}

/// Sums of the sizes of changes, or of the elements themselves, by row and by column.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    pub all: Mean,
    /// Empty where rows have no scale.
    pub rows: Vec<Mean>,
    /// Empty where columns have no scale.
    pub columns: Vec<Mean>,
    row_len: u64,
}

impl Sums {
    pub fn new(rows: u64, row_len: u64, wanted: bool) -> Self {
        let by_row = wanted && (2..=SCALES_MAX).contains(&rows) && row_len >= 8;
        let by_column = wanted && (2..=SCALES_MAX).contains(&row_len) && rows >= 8;
        let of = |is: bool, count: u64| vec![Mean::default(); if is { count as usize } else { 0 }];
        Self {
            all: Mean::default(),
            rows: of(by_row, rows),
            columns: of(by_column, row_len),
            row_len,
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.all.add(other.all.sum, other.all.weight);
        for (mine, its) in [
            (&mut self.rows, &other.rows),
            (&mut self.columns, &other.columns),
        ] {
            for (mine, its) in mine.iter_mut().zip(its) {
                mine.add(its.sum, its.weight);
            }
        }
    }

    /// Adds part of one row. `change` and `size` give what is expected of each element and how
    /// large it is; elements that are not finite weigh nothing.
    fn add_row_part(&mut self, row: u64, column: usize, changes: &[f32], weights: &[f32]) {
        let mut mean = Mean::default();
        for (&change, &weight) in changes.iter().zip(weights) {
            mean.add(change * weight, weight);
        }
        if !mean.sum.is_finite() {
            return;
        }
        self.all.add(mean.sum, mean.weight);
        if let Some(sums) = self.rows.get_mut(row as usize) {
            sums.add(mean.sum, mean.weight);
        }
        let expected = mean.value();
        if expected > 0.0
            && let Some(columns) = self.columns.get_mut(column..column + changes.len())
        {
            for ((sums, &change), &weight) in columns.iter_mut().zip(changes).zip(weights) {
                sums.add(weight * change / expected, weight);
            }
        }
    }

    /// Adds elements from `first` on.
    pub fn add(&mut self, number: Number, first: u64, target: &[u8], prediction: Prediction) {
        let len = target.len() / number.bytes;
        let mut changes = vec![0f32; PART];
        let mut weights = vec![0f32; PART];
        let mut expected = Expected::boxed();
        let mut typical = self.all.value();
        let mut at = 0;
        while at < len {
            let element = first + at as u64;
            let (row, column) = (element / self.row_len, element % self.row_len);
            let run = (self.row_len - column)
                .min(PART as u64)
                .min((len - at) as u64) as usize;
            prediction.fill(number, at, run, &mut expected);
            sizes(
                number,
                target,
                at,
                &expected,
                &mut changes[..run],
                &mut weights[..run],
            );
            if typical == 0.0 {
                typical = changes[..run].iter().sum::<f32>() / run as f32;
            }
            // A change smaller than an element's last place is seen badly there, so elements
            // larger than the typical change can show weigh less.
            let least = typical * (1u64 << number.mantissa.min(23)) as f32;
            if !matches!(prediction, Prediction::None) {
                for weight in &mut weights[..run] {
                    *weight = if *weight > 0.0 {
                        1.0 / weight.max(least).max(1e-30)
                    } else {
                        0.0
                    };
                }
            } else {
                for weight in &mut weights[..run] {
                    *weight = f32::from(*weight > 0.0);
                }
            }
            self.add_row_part(row, column as usize, &changes[..run], &weights[..run]);
            at += run;
        }
    }
}

/// Sizes of the changes and of the predictions; a prediction's size is 0 where not both are
/// finite, and at least the smallest number otherwise.
fn sizes(
    number: Number,
    target: &[u8],
    start: usize,
    expected: &Expected,
    changes: &mut [f32],
    weights: &mut [f32],
) {
    let mask = number.magnitude_max();
    for (i, (change, weight)) in changes.iter_mut().zip(weights).enumerate() {
        let bits = number::load(target, number.bytes, start + i) as u32;
        let value = number.value(bits & mask, 0);
        let predicted = number.value(expected.pattern[i] & mask, i32::from(expected.fraction[i]));
        let same = (bits >> (number.width() - 1)) & 1 == expected.pattern[i] >> 31;
        let distance = if same {
            (value - predicted).abs()
        } else {
            value + predicted
        };
        if distance.is_finite() && value.is_finite() {
            *change = distance;
            *weight = predicted.max(f32::MIN_POSITIVE);
        } else {
            *change = 0.0;
            *weight = 0.0;
        }
    }
}

/// Half octaves by which means differ from a reference.
pub(super) fn steps(means: &[Mean], reference: f32) -> Vec<i16> {
    means
        .iter()
        .map(|mean| {
            let value = mean.value();
            if value > 0.0 && reference > 0.0 {
                let steps = (2.0 * (value / reference).log2()).round();
                (steps as i16).clamp(-STEPS_MAX, STEPS_MAX)
            } else {
                -STEPS_MAX
            }
        })
        .collect()
}

/// Parts of a tensor kept for counting symbols: all of it, or runs at jittered places.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    width: usize,
    period: u64,
    /// First element and length of each run.
    pub runs: Vec<(u64, usize)>,
    pub target: Vec<u8>,
    /// As in [`Prediction::Fraction`], or bytes of the target's type.
    pub patterns: Vec<u32>,
    pub bytes: Vec<u8>,
}

impl Sample {
    /// A sample of at most about `most` of `total` elements.
    pub fn new(width: usize, total: u64, most: u64) -> Self {
        let period = if total <= most {
            RUN
        } else {
            (total / (most / RUN)).max(RUN)
        };
        Self {
            width,
            period,
            runs: Vec::new(),
            target: Vec::new(),
            patterns: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Elements kept.
    pub fn len(&self) -> usize {
        self.target.len() / self.width
    }

    /// Keeps what falls into the sample.
    pub fn add(&mut self, first: u64, target: &[u8], prediction: Prediction) {
        let len = (target.len() / self.width) as u64;
        let mut period = first / self.period;
        while period * self.period < first + len {
            let from = period * self.period + jitter(period, self.period - RUN);
            let start = from.max(first);
            let end = (from + RUN).min(first + len);
            if start < end {
                let (at, run) = ((start - first) as usize, (end - start) as usize);
                self.keep(start, run, at, target, prediction);
            }
            period += 1;
        }
    }

    fn keep(&mut self, first: u64, run: usize, at: usize, target: &[u8], prediction: Prediction) {
        self.runs.push((first, run));
        let bytes = at * self.width..(at + run) * self.width;
        self.target.extend_from_slice(&target[bytes.clone()]);
        match prediction {
            Prediction::None => {}
            Prediction::Same(same) => self.bytes.extend_from_slice(&same[bytes]),
            Prediction::Fraction(patterns) => {
                self.patterns.extend_from_slice(&patterns[at..at + run]);
            }
        }
    }

    /// The prediction of the elements kept.
    pub fn prediction(&self) -> Prediction<'_> {
        if !self.patterns.is_empty() {
            Prediction::Fraction(&self.patterns)
        } else if !self.bytes.is_empty() {
            Prediction::Same(&self.bytes)
        } else {
            Prediction::None
        }
    }

    /// Appends another sample of the same tensor.
    pub fn merge(&mut self, other: &Self) {
        self.runs.extend_from_slice(&other.runs);
        self.target.extend_from_slice(&other.target);
        self.patterns.extend_from_slice(&other.patterns);
        self.bytes.extend_from_slice(&other.bytes);
    }
}

/// A place in `0..=room` that depends on `period` alone, so that runs do not fall on the same
/// columns of every row.
fn jitter(period: u64, room: u64) -> u64 {
    let mixed = (period + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 16) % (room + 1)
}
