//! What the first pass over a tensor keeps: sums for the scales and a bounded sample.
//!
//! May use: `kernel`, `number`, `part`, `prediction`, `scale`. Serves encoders only; sums are floating point.

use super::kernel;
use super::number::Number;
use super::part::PART;
use super::prediction::Prediction;
use super::scale::{GLOBAL_MAX, SCALE_MAX, SCALES_MAX};

/// Elements of a run of the sample.
const RUN: u64 = 1024;

/// The prediction of 16-bit elements where there is none.
static ZEROS: [u8; 2 * PART] = [0; 2 * PART];

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
    detail: Detail,
}

/// What sums are for, which says at how much of a tensor they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// The size of all alone.
    All,
    /// Rows and columns too, each from a part of its elements.
    Part,
    /// Rows and columns, each from all its elements.
    Whole,
}

impl Sums {
    pub fn new(rows: u64, row_len: u64, detail: Detail) -> Self {
        let wanted = detail != Detail::All;
        let by_row = wanted && (2..=SCALES_MAX).contains(&rows) && row_len >= 8;
        let by_column = wanted && (2..=SCALES_MAX).contains(&row_len) && rows >= 8;
        let of = |is: bool, count: u64| vec![Mean::default(); if is { count as usize } else { 0 }];
        Self {
            all: Mean::default(),
            rows: of(by_row, rows),
            columns: of(by_column, row_len),
            row_len,
            detail,
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

    /// Adds elements from `first` on.
    pub fn add(&mut self, number: Number, first: u64, target: &[u8], prediction: Prediction) {
        let len = target.len() / number.bytes;
        let (mut changes, mut weights) = ([0f32; PART], [0f32; PART]);
        let mut typical = self.all.value();
        let mut at = 0;
        while at < len {
            let element = first + at as u64;
            let (row, column) = (element / self.row_len, element % self.row_len);
            let run = (self.row_len - column)
                .min(PART as u64)
                .min((len - at) as u64) as usize;
            let part = &target[at * number.bytes..(at + run) * number.bytes];
            let (every, with_columns) = self.group_step(row, run);
            let prediction = prediction.slice(number.bytes, at, run);
            let parts = Parts { number, every };
            if typical == 0.0 && !matches!(prediction, Prediction::None) {
                let count = parts.values(part, prediction, &mut changes, &mut weights);
                typical = mean_change(&changes[..count], &weights[..count]);
            }
            let count = parts.weigh(part, prediction, typical, &mut changes, &mut weights);
            let column = with_columns.then_some(column as usize);
            self.add_row_part(row, column, &changes[..count], &weights[..count]);
            at += run;
        }
    }

    /// Of how many groups of 16 elements of a row one is looked at, and whether for the columns:
    /// then all are, but in few of many rows.
    fn group_step(&self, row: u64, run: usize) -> (usize, bool) {
        if self.detail == Detail::Whole {
            return (1, true);
        }
        let rows = self.rows.len();
        let of_columns = match rows {
            0..256 => 1,
            256..1024 => 2,
            _ => 4,
        };
        if !self.columns.is_empty() && row.is_multiple_of(of_columns) {
            (1, true)
        } else if run < 256 {
            (1, false)
        } else if self.rows.is_empty() {
            (16, false)
        } else if run < 512 {
            (2, false)
        } else {
            (4, false)
        }
    }

    /// Adds part of one row: how much its elements change, and what that weighs.
    fn add_row_part(&mut self, row: u64, column: Option<usize>, changes: &[f32], weights: &[f32]) {
        // Sums in eight lanes, so that they become vectors.
        let (mut sums, mut totals) = ([0f32; 8], [0f32; 8]);
        let (head, tail) = (changes.chunks_exact(8), weights.chunks_exact(8));
        let rest = (head.remainder(), tail.remainder());
        for (changes, weights) in head.zip(tail) {
            for lane in 0..8 {
                sums[lane] += changes[lane] * weights[lane];
                totals[lane] += weights[lane];
            }
        }
        for (lane, (change, weight)) in rest.0.iter().zip(rest.1).enumerate() {
            sums[lane] += change * weight;
            totals[lane] += weight;
        }
        let mean = Mean {
            sum: sums.iter().sum(),
            weight: totals.iter().sum(),
        };
        if !mean.sum.is_finite() || !mean.weight.is_finite() {
            return;
        }
        self.all.add(mean.sum, mean.weight);
        if let Some(sums) = self.rows.get_mut(row as usize) {
            sums.add(mean.sum, mean.weight);
        }
        let expected = mean.value();
        if expected > 0.0
            && let Some(column) = column
            && let Some(columns) = self.columns.get_mut(column..column + changes.len())
        {
            let scale = 1.0 / expected;
            for ((sums, &change), &weight) in columns.iter_mut().zip(changes).zip(weights) {
                sums.sum += weight * change * scale;
                sums.weight += weight;
            }
        }
    }
}

/// Part of a row of which every `every`-th group of 16 elements is looked at, or all elements.
#[derive(Clone, Copy)]
struct Parts {
    number: Number,
    every: usize,
}

impl Parts {
    /// The elements and their predictions as numbers; gives how many.
    fn values(
        self,
        target: &[u8],
        prediction: Prediction,
        values: &mut [f32],
        predicted: &mut [f32],
    ) -> usize {
        let width = self.number.bytes;
        let len = target.len() / width;
        let run = if self.every == 1 { len } else { 16 };
        let mut count = 0;
        let mut at = 0;
        while at + run <= len {
            let (values, predicted) = (&mut values[count..][..run], &mut predicted[count..][..run]);
            self::values(self.number, &target[at * width..(at + run) * width], values);
            match prediction.slice(width, at, run) {
                Prediction::None => predicted.fill(0.0),
                Prediction::Same(bytes) => self::values(self.number, bytes, predicted),
                Prediction::Fraction(patterns) => fine_values(self.number, patterns, predicted),
            }
            count += run;
            at += 16 * self.every.max(run.div_ceil(16));
        }
        count
    }

    /// How much the elements change, or how large they are without a prediction, and what each
    /// weighs; gives how many.
    fn weigh(
        self,
        target: &[u8],
        prediction: Prediction,
        typical: f32,
        changes: &mut [f32],
        weights: &mut [f32],
    ) -> usize {
        let number = self.number;
        let rule = Weigh {
            shift: 23 - number.mantissa,
            scale: scale_of(number),
            // A change smaller than an element's last place is seen badly there, so elements
            // larger than the typical change can show weigh less.
            // Without a prediction all weigh the same.
            least: match prediction {
                Prediction::None => 1.0,
                Prediction::Same(_) | Prediction::Fraction(_) => {
                    (typical * (1u64 << number.mantissa) as f32).max(1e-30)
                }
            },
            every: self.every,
        };
        let len = target.len() / number.bytes;
        if number.bytes == 2 && (self.every > 1 || len.is_multiple_of(16)) {
            let bytes = match prediction {
                Prediction::None => &ZEROS[..2 * len],
                Prediction::Same(bytes) => bytes,
                Prediction::Fraction(_) => &[],
            };
            let count = kernel::weigh16(&rule, target, bytes, changes, weights);
            if count > 0 {
                return count;
            }
        }
        let count = self.values(target, prediction, changes, weights);
        rule.apply(&mut changes[..count], &mut weights[..count]);
        count
    }
}

/// How a change and what it weighs come from an element and its prediction.
pub(super) struct Weigh {
    /// From the magnitude of an element to that of a number, up to a factor, and the factor.
    pub shift: u32,
    pub scale: f32,
    /// Elements smaller than this weigh as one of this size.
    pub least: f32,
    /// Of how many groups of 16 one is looked at.
    pub every: usize,
}

impl Weigh {
    /// From targets and predictions to changes and weights.
    pub fn apply(&self, changes: &mut [f32], weights: &mut [f32]) {
        for (change, weight) in changes.iter_mut().zip(weights) {
            let distance = (*change - *weight).abs();
            let is_finite = distance < f32::INFINITY;
            let size = weight.abs();
            let size = if size > self.least { size } else { self.least };
            *weight = if is_finite { 1.0 / size } else { 0.0 };
            *change = if is_finite { distance } else { 0.0 };
        }
    }
}

/// The factor that makes numbers of shifted magnitudes.
fn scale_of(number: Number) -> f32 {
    f32::from_bits(((254 - number.bias) as u32) << 23)
}

/// The elements as numbers. Estimates only, so that patterns of infinity may be large numbers.
fn values(number: Number, bytes: &[u8], out: &mut [f32]) {
    let shift = 23 - number.mantissa;
    let scale = scale_of(number);
    let mask = number.magnitude_max();
    let signed = |bits: u32| {
        let sign = bits << (32 - number.width()) & (1 << 31);
        f32::from_bits(sign | (bits & mask) << shift) * scale
    };
    match number.bytes {
        1 => {
            for (value, &byte) in out.iter_mut().zip(bytes) {
                *value = signed(u32::from(byte));
            }
        }
        2 => {
            let done = kernel::values16(bytes, shift, scale, out);
            for (value, two) in out.iter_mut().zip(bytes.chunks_exact(2)).skip(done) {
                *value = signed(u32::from(u16::from_le_bytes([two[0], two[1]])));
            }
        }
        _ => {
            for (value, four) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            }
        }
    }
}

/// Predictions with a fraction as numbers.
fn fine_values(number: Number, patterns: &[u32], out: &mut [f32]) {
    let scale = scale_of(number);
    let shift = if number.bytes == 4 {
        7
    } else {
        number.mantissa + 16
    };
    for (value, &pattern) in out.iter_mut().zip(patterns) {
        let magnitude = pattern & 0x7FFF_FFFF;
        let bits = (u64::from(magnitude) << 23 >> shift.max(7)) as u32;
        let bits = if number.bytes == 4 { magnitude } else { bits };
        *value = f32::from_bits(bits | pattern & (1 << 31)) * scale;
    }
}

fn mean_change(targets: &[f32], predictions: &[f32]) -> f32 {
    let mut mean = Mean::default();
    for (target, predicted) in targets.iter().zip(predictions) {
        let change = (target - predicted).abs();
        if change < f32::INFINITY {
            mean.add(change, 1.0);
        }
    }
    mean.value()
}

/// The scale that the mean change stands for.
pub(super) fn global_scale(number: Number, mean: f32) -> i16 {
    let scale = if mean > 0.0 {
        (4.0 * mean.log2()).round() as i16
    } else {
        -4 * (number.bias as i16 + number.mantissa as i16) - 40
    };
    scale.clamp(8 - GLOBAL_MAX, GLOBAL_MAX - 8)
}

/// A scale for a few elements.
pub(super) fn guess_scale(number: Number, target: &[u8], prediction: Prediction) -> i16 {
    let mut sums = Sums::new(1, u64::MAX, Detail::All);
    sums.add(number, 0, target, prediction);
    global_scale(number, sums.all.value())
}

/// Quarter octaves by which means differ from a reference, in steps of one or two.
pub(super) fn quarters(means: &[Mean], reference: f32, step: i16) -> Vec<i16> {
    means
        .iter()
        .map(|mean| {
            let value = mean.value();
            if value > 0.0 && reference > 0.0 {
                let most = f32::from(SCALE_MAX / step);
                let steps = 4.0 / f32::from(step) * (value / reference).log2();
                step * steps.round().clamp(-most, most) as i16
            } else {
                -SCALE_MAX
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
            target: Vec::with_capacity(total.min(most) as usize * width),
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
