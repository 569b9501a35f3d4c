//! The first pass over a tensor: from its elements to a model.
//!
//! May use: `store_format` and the files beside it. Bounded memory: sums by row and column, and a
//! sample. The model decides how small a tensor becomes, never what it decodes to.

use super::alphabet::{Alphabet, HOT_MAX};
use super::difference::{self, Difference, Second};
use super::magnitude::{self, Head, Magnitude};
use super::merge::{self, Counts, Escape, Histogram, Merged};
use super::model::{Family, Kind, Model};
use super::number::{self, Number};
use super::planes::{self, Planes};
use super::prediction::Prediction;
use super::rans;
use super::sample::{Detail, Sample, Sums, global_scale, quarters};
use super::scale::Scales;
use super::table::{Tables, normalise};
use super::{Level, TensorShape};

/// About how many of `total` elements the sample has: a part of the tensor, and no less than the
/// tables of small tensors want. With the sums it bounds the memory of a first pass.
fn sample_len(level: Level, total: u64) -> u64 {
    let (part, least, most) = match level {
        Level::Fast => (8, 1 << 16, 1 << 18),
        Level::Default => (4, 1 << 17, 1 << 19),
        Level::Max => (1, 1 << 17, 1 << 21),
    };
    (total / part).clamp(least, most)
}

/// The most elements of a tensor that is tried with the built-in tables.
const TINY: usize = 1 << 14;

/// The most elements that hot differences are looked for and counted on.
const HOT_GLANCE: usize = 4096;
const HOT_SAMPLE: usize = 60_000;

/// The fewest changes that a scale in quarter octaves serves.
const FINE_CHANGES: u64 = 512;

/// About how many elements of a sample choose the window of symbols.
const WINDOW_SAMPLE: usize = 1 << 14;

/// What the first pass over a tensor has seen.
#[derive(Clone, Debug)]
pub struct Statistics {
    shape: TensorShape,
    level: Level,
    seen: Seen,
}

#[derive(Clone, Debug)]
enum Seen {
    Difference {
        number: Number,
        sums: Sums,
        sample: Sample,
    },
    Magnitude {
        number: Number,
        sums: Sums,
        sample: Sample,
    },
    Planes {
        float: bool,
        counts: Vec<[u64; 256]>,
    },
}

impl Statistics {
    /// Statistics of a tensor; `None` for types without a model.
    #[must_use]
    pub fn new(shape: TensorShape, level: Level, with_prediction: bool) -> Option<Self> {
        let total = shape.elements()?;
        let detail = match level {
            Level::Fast => Detail::All,
            Level::Default => Detail::Part,
            Level::Max => Detail::Whole,
        };
        let seen = match Family::of(shape.dtype, with_prediction)? {
            Family::Difference(number) => Seen::Difference {
                number,
                sums: Sums::new(shape.rows, shape.cols, detail),
                sample: Sample::new(number.bytes, total, sample_len(level, total)),
            },
            Family::Magnitude(number) => Seen::Magnitude {
                number,
                sums: Sums::new(
                    shape.rows,
                    shape.cols,
                    if number.bytes < 8 {
                        detail
                    } else {
                        Detail::All
                    },
                ),
                sample: Sample::new(number.bytes, total, sample_len(level, total)),
            },
            Family::Planes { float, width } => Seen::Planes {
                float,
                counts: vec![[0; 256]; width],
            },
        };
        Some(Self { shape, level, seen })
    }

    /// Takes in elements from `first_element` on, each once, in any order.
    ///
    /// A prediction that does not cover the target counts as a programming error and is ignored.
    pub fn add(&mut self, first_element: u64, target: &[u8], prediction: Prediction) {
        if target.is_empty() {
            return;
        }
        match &mut self.seen {
            Seen::Difference {
                number,
                sums,
                sample,
            } => {
                if prediction.covers(number.bytes, target.len() / number.bytes) {
                    sums.add(*number, first_element, target, prediction);
                    sample.add(first_element, target, prediction);
                }
            }
            Seen::Magnitude {
                number,
                sums,
                sample,
            } => {
                if number.bytes < 8 {
                    sums.add(*number, first_element, target, Prediction::None);
                }
                sample.add(first_element, target, Prediction::None);
            }
            Seen::Planes { float, counts } => {
                let width = counts.len();
                for index in 0..target.len() / width {
                    let value = number::load(target, width, index);
                    let change = planes::change_of(*float, width, value, prediction, index);
                    for (counts, byte) in counts.iter_mut().zip(change.to_le_bytes()) {
                        counts[usize::from(byte)] += 1;
                    }
                }
            }
        }
    }

    /// Takes in what another pass over other elements of the same tensor has seen.
    pub fn merge(&mut self, other: &Self) {
        let add = |mine: &mut [[u64; 256]], its: &[[u64; 256]]| {
            for (mine, its) in mine.iter_mut().flatten().zip(its.iter().flatten()) {
                *mine += its;
            }
        };
        match (&mut self.seen, &other.seen) {
            (
                Seen::Difference { sums, sample, .. },
                Seen::Difference {
                    sums: its_sums,
                    sample: its_sample,
                    ..
                },
            ) => {
                sums.merge(its_sums);
                sample.merge(its_sample);
            }
            (
                Seen::Magnitude { sums, sample, .. },
                Seen::Magnitude {
                    sums: its_sums,
                    sample: its_sample,
                    ..
                },
            ) => {
                sums.merge(its_sums);
                sample.merge(its_sample);
            }
            (Seen::Planes { counts, .. }, Seen::Planes { counts: its, .. }) => add(counts, its),
            (Seen::Difference { .. } | Seen::Magnitude { .. } | Seen::Planes { .. }, _) => {}
        }
    }

    /// The model of the tensor.
    #[must_use]
    pub fn finish(self) -> Model {
        let kind = match self.seen {
            Seen::Difference {
                number,
                sums,
                sample,
            } => {
                let model = finish_difference(&self.shape, self.level, number, &sums, &sample);
                return smaller(self.shape, model, &sample);
            }
            Seen::Magnitude {
                number,
                sums,
                sample,
            } => Kind::Magnitude(finish_magnitude(
                &self.shape,
                self.level,
                number,
                &sums,
                &sample,
            )),
            Seen::Planes { float, counts } => Kind::Planes {
                float,
                planes: finish_planes(&counts),
            },
        };
        Model {
            shape: self.shape,
            kind,
        }
    }
}

/// The model, or the built-in one where that codes a tiny tensor in fewer bytes.
fn smaller(shape: TensorShape, model: Difference, sample: &Sample) -> Model {
    let model = Model {
        shape,
        kind: Kind::Difference(model),
    };
    let whole = shape.elements() == Some(sample.len() as u64);
    if sample.len() > TINY || !whole {
        return model;
    }
    let Some(builtin) = Model::builtin(shape.dtype, true) else {
        return model;
    };
    let bytes = |model: &Model| {
        let mut out = model.to_bytes();
        super::encode(model, 0, &sample.target, sample.prediction(), &mut out);
        out.len()
    };
    if bytes(&builtin) <= bytes(&model) {
        builtin
    } else {
        model
    }
}

/// The scales worth trying: none, rows, rows and columns. Those that serve fewer than `fine`
/// elements are whole half octaves, for their own bits count more.
fn candidates(sums: &Sums, global: i16, shape: &TensorShape, fine: u64) -> Vec<Scales> {
    let mean = sums.all.value();
    let step = |served: u64| if served < fine { 2 } else { 1 };
    let mut list = vec![Scales {
        global,
        row_len: shape.cols,
        ..Scales::default()
    }];
    if !sums.rows.is_empty() {
        list.push(Scales {
            rows: quarters(&sums.rows, mean, step(shape.cols)),
            ..list[0].clone()
        });
    }
    if !sums.columns.is_empty() {
        // Sums of columns are relative to their rows already.
        let columns = quarters(&sums.columns, 1.0, step(shape.rows));
        if columns.iter().any(|&scale| scale != 0) {
            list.push(Scales {
                columns,
                ..list.last().cloned().unwrap_or_default()
            });
        }
    }
    list
}

/// The cheapest of a list. What is alone is not weighed.
fn cheapest<T>(mut list: Vec<T>, mut cost: impl FnMut(&mut T) -> f64) -> Option<T> {
    if list.len() < 2 {
        return list.pop();
    }
    list.into_iter()
        .map(|mut one| (cost(&mut one), one))
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, one)| one)
}

/// Bits that scales take in side information.
fn scale_bits(scales: &Scales) -> f64 {
    let mut out = Vec::new();
    scales.write(&mut out);
    8.0 * out.len() as f64
}

fn finish_difference(
    shape: &TensorShape,
    level: Level,
    number: Number,
    sums: &Sums,
    sample: &Sample,
) -> Difference {
    let global = global_scale(number, sums.all.value());
    let alphabet = Alphabet::new(number, hot_differences(number, sample));
    let mut model = Difference {
        tables: Tables::counting(0, alphabet.len()),
        alphabet,
        scales: Scales::default(),
        fraction: matches!(sample.prediction(), Prediction::Fraction(_)) && number.bytes < 4,
        zeros: true,
        map: [0; difference::CONTEXTS],
        lanes: rans::LANES,
    };
    // Contexts whose lower part says nothing are counted as one.
    let fold = if model.second() == Second::Nothing {
        4
    } else {
        1
    };
    let ordered = difference::ZERO / fold;
    model.map = std::array::from_fn(|context| (context / fold) as u8);
    model.tables = Tables::counting(ordered + 1, model.alphabet.len());
    let total = shape.elements().unwrap_or(0) as f64;
    let weight = |every: usize| total * every as f64 / sample.len().max(1) as f64;
    let every = sample.len().div_ceil(trial_len(level, sample.len())).max(1);
    let tried = candidates(sums, global, shape, FINE_CHANGES);
    let best = cheapest(tried, |scales| {
        std::mem::swap(&mut model.scales, scales);
        let counts = count_difference(&model, sample, every);
        std::mem::swap(&mut model.scales, scales);
        counts.bits() * weight(every) + scale_bits(scales)
    });
    model.scales = best.unwrap_or_default();
    let mut counts = count_difference(&model, sample, 1);
    let zeros = &counts.counts[ordered * counts.alphabet..];
    let changed: u32 = zeros[1..].iter().sum();
    model.zeros = f64::from(changed) * weight(1) > 40.0;
    if !model.zeros {
        if zeros.iter().any(|&count| count > 0) {
            counts = count_difference(&model, sample, 1);
        }
        counts.counts.truncate(ordered * counts.alphabet);
    }
    let escape = Escape {
        symbol: model.alphabet.escape(),
        extra: model
            .alphabet
            .symbols()
            .iter()
            .map(|symbol| number.width() - symbol.raw)
            .collect(),
    };
    let Merged { map, tables } =
        merge::merge(&counts, ordered, &escape, weight(1), difference::BITS);
    let last = map.len() - 1;
    model.map = std::array::from_fn(|context| map[(context / fold).min(last)]);
    model.tables = tables;
    model
}

/// About how many elements of a sample the candidates for scales are compared on.
fn trial_len(level: Level, sample: usize) -> usize {
    match level {
        Level::Fast | Level::Default => (sample / 8).clamp(1 << 14, 1 << 16),
        Level::Max => 1 << 18,
    }
}

/// Counts symbols in contexts on every `every`-th run of the sample.
fn count_difference(model: &Difference, sample: &Sample, every: usize) -> Counts {
    let width = model.alphabet.number.bytes;
    let fast = model.fast();
    let mut counts = Counts::new(model.tables.count(), model.alphabet.len());
    let mut histogram = Histogram::new(counts.counts.len());
    let mut at = 0;
    for (n, &(first, run)) in sample.runs.iter().enumerate() {
        if n % every == 0 {
            let target = &sample.target[at * width..(at + run) * width];
            let prediction = sample.prediction().slice(width, at, run);
            model.count(&fast, first, target, prediction, &mut histogram);
        }
        at += run;
    }
    histogram.finish(&mut counts.counts);
    counts
}

/// Differences that are met so often that each gets a symbol of its own, the most frequent first.
fn hot_differences(number: Number, sample: &Sample) -> Vec<i32> {
    if number.bytes != 4 || sample.len() == 0 {
        return Vec::new();
    }
    let prediction = sample.prediction();
    let difference = |index: usize| {
        let target = number::load(&sample.target, 4, index) as u32;
        let predicted = prediction.element(Some(number), 4, index) as u32;
        let difference = (target & 0x7FFF_FFFF) as i32 - (predicted & 0x7FFF_FFFF) as i32;
        (target >> 31 == predicted >> 31 && difference.unsigned_abs() >= 8).then_some(difference)
    };
    // Few elements tell which can be hot, more of them which are.
    let stride = sample.len().div_ceil(HOT_GLANCE);
    let mut glance: Vec<i32> = (0..sample.len())
        .step_by(stride)
        .filter_map(difference)
        .collect();
    glance.sort_unstable();
    let mut met: Vec<(i32, u32)> = glance
        .chunk_by(|a, b| a == b)
        .filter(|same| same.len() >= 3)
        .map(|same| (same[0], 0))
        .collect();
    if met.is_empty() {
        return Vec::new();
    }
    let stride = sample.len().div_ceil(HOT_SAMPLE);
    let mut looked = 0u32;
    for index in (0..sample.len()).step_by(stride) {
        looked += 1;
        if let Some(difference) = difference(index)
            && let Ok(at) = met.binary_search_by_key(&difference, |&(hot, _)| hot)
        {
            met[at].1 += 1;
        }
    }
    met.retain(|&(_, count)| count * 400 > looked && count > 8);
    met.sort_unstable_by_key(|&(hot, count)| std::cmp::Reverse((count, hot)));
    met.truncate(HOT_MAX);
    met.into_iter().map(|(hot, _)| hot).collect()
}

fn finish_magnitude(
    shape: &TensorShape,
    level: Level,
    number: Number,
    sums: &Sums,
    sample: &Sample,
) -> Magnitude {
    let head = Head::of(number);
    let weight = shape.elements().unwrap_or(0) as f64 / sample.len().max(1) as f64;
    let head_bits = 8 * head.bytes as u32;
    let mut extra = vec![head_bits - head.low - 1; 256];
    extra[0] = head_bits;
    let escape = Escape {
        symbol: magnitude::ESCAPE,
        extra,
    };
    let mut model = Magnitude {
        head,
        lowest: 0,
        scales: Scales::default(),
        map: std::array::from_fn(|context| context as u8),
        tables: Tables::counting(magnitude::CONTEXTS, 256),
        tail: Planes { tables: Vec::new() },
    };
    let every = sample.len().div_ceil(trial_len(level, sample.len())).max(1);
    let tried = candidates(sums, 0, shape, 0)
        .into_iter()
        .map(|scales| (lowest_place(head, &scales, sample, weight == 1.0), scales))
        .collect();
    let best = cheapest(tried, |(lowest, scales)| {
        model.lowest = *lowest;
        std::mem::swap(&mut model.scales, scales);
        let counts = count_magnitude(&model, number, sample, every);
        std::mem::swap(&mut model.scales, scales);
        counts.bits() * weight * every as f64 + scale_bits(scales)
    });
    (model.lowest, model.scales) = best.unwrap_or_default();
    let merged = merge::merge(
        &count_magnitude(&model, number, sample, 1),
        magnitude::CONTEXTS,
        &escape,
        weight,
        magnitude::BITS,
    );
    model.map.copy_from_slice(&merged.map);
    model.tables = merged.tables;
    model.tail = finish_planes(&count_tail(head, sample));
    model
}

/// Counts symbols in contexts on every `every`-th run of the sample.
fn count_magnitude(model: &Magnitude, number: Number, sample: &Sample, every: usize) -> Counts {
    let mut counts = Counts::new(magnitude::CONTEXTS, 256);
    let mut histogram = Histogram::new(counts.counts.len());
    let mut at = 0;
    for (n, &(first, run)) in sample.runs.iter().enumerate() {
        if n % every == 0 {
            let bytes = at * number.bytes..(at + run) * number.bytes;
            model.count(first, &sample.target[bytes], &mut histogram);
        }
        at += run;
    }
    histogram.finish(&mut counts.counts);
    counts
}

/// Counts the low bytes of those runs of the sample that a table could make smaller: the others
/// stay raw. Where many bytes occur, those that the sample did not show count too, so that they
/// can be coded.
fn count_tail(head: Head, sample: &Sample) -> Vec<[u64; 256]> {
    let width = head.bytes + head.tail;
    let mut tail = vec![[0u64; 256]; head.tail];
    let mut rest = sample.target.as_slice();
    for &(_, run) in &sample.runs {
        let elements;
        (elements, rest) = rest.split_at(run * width);
        for (plane, counts) in tail.iter_mut().enumerate() {
            let mut own = Counts::new(1, 256);
            for element in elements.chunks_exact(width) {
                own.counts[usize::from(element[plane])] += 1;
            }
            // By more than a run of noise does by chance.
            if own.bits() < 0.98 * 8.0 * run as f64 {
                for (count, own) in counts.iter_mut().zip(own.counts) {
                    *count += u64::from(own);
                }
            }
        }
    }
    for counts in &mut tail {
        if counts.iter().filter(|&&count| count > 0).count() > 64 {
            counts.iter_mut().for_each(|count| *count = (*count).max(1));
        }
    }
    tail
}

/// The start of the window of places that covers most of the sample, and of several the lowest,
/// which wastes no symbols between the largest elements and the escape. Above a sample of part of a
/// tensor there is an octave of room.
fn lowest_place(head: Head, scales: &Scales, sample: &Sample, whole: bool) -> i16 {
    // Scales lie at most 30 octaves to either side.
    let least = -32 << head.octave;
    let uppers = 1 << (8 * head.bytes as u32 - 1 - head.low);
    let mut counts = vec![0u32; (uppers - 2 * least) as usize];
    let width = head.bytes + head.tail;
    let every = sample.len().div_ceil(WINDOW_SAMPLE).max(1);
    let mut quarters = Vec::new();
    let mut at = 0;
    for (n, &(first, run)) in sample.runs.iter().enumerate() {
        if n % every == 0 {
            quarters.resize(run, 0);
            scales.fill(first, &mut quarters);
            let target = &sample.target[at * width..(at + run) * width];
            for (i, &scale) in quarters.iter().enumerate() {
                let value = head.load(target, i);
                if value != 0 {
                    let place = head.place(value, magnitude::floor(scale));
                    counts[(place - least) as usize] += 1;
                }
            }
        }
        at += run;
    }
    let window = magnitude::WINDOW as usize;
    let mut inside: u32 = counts.iter().take(window).sum();
    let (mut most, mut best) = (inside, 0..=0);
    for start in 1..=counts.len().saturating_sub(window) {
        inside = inside + counts[start + window - 1] - counts[start - 1];
        if inside > most {
            (most, best) = (inside, start..=start);
        } else if inside == most && *best.end() == start - 1 {
            best = *best.start()..=start;
        }
    }
    let room = if whole { 0 } else { 1 << head.octave };
    let start = (best.start() + room).min(*best.end());
    (start as i32 + least) as i16
}

/// A table for each plane that is worth one.
fn finish_planes(counts: &[[u64; 256]]) -> Planes {
    let tables = counts
        .iter()
        .map(|counts| {
            let sum: u64 = counts.iter().sum();
            let used = counts.iter().filter(|&&c| c > 0).count();
            if used < 2 {
                return None;
            }
            // Counts of 64 bits are scaled so that none that was met vanishes.
            let shift = 64 - (sum >> 31).leading_zeros();
            let scaled: Vec<u32> = counts
                .iter()
                .map(|&c| {
                    if c > 0 {
                        ((c >> shift) as u32).max(1)
                    } else {
                        0
                    }
                })
                .collect();
            let saved = 8.0 * sum as f64 - merge::bits_of(&scaled) * (1u64 << shift) as f64;
            if saved < 12.0 * used as f64 + 0.01 * 8.0 * sum as f64 {
                return None;
            }
            let mut frequencies = [0u16; 256];
            normalise(&scaled, planes::BITS, &mut frequencies);
            Some(Tables::new(planes::BITS, 256, &frequencies))
        })
        .collect();
    Planes { tables }
}
