//! The version as it will be committed: the fine-tune, with the cut tensors made anew.
//!
//! May use: tiers 0 to 5. Holds: what is told of the errors does not depend on the threads.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use store_format::dtype::DType;
use store_format::record::View;

use super::parts::{Change, Places, factors, size};
use super::{Kept, Request};
use crate::error::Result;
use crate::flow::checkout::{self, checkout};
use crate::flow::output::{Directory, Standing};
use crate::flow::read::Rebuilder;
use crate::flow::relatives::BaseFiles;
use crate::flow::viewed::Viewed;
use crate::flow::{hint, made};
use crate::par::Pool;
use crate::predict::{Recipe, Shape};
use crate::progress::Progress;

/// A tensor on its way: its recipe, and where its factors stand.
struct Maker<'a> {
    number: usize,
    change: &'a Change,
    recipe: Recipe,
    /// The same without the last rounding.
    unrounded: Recipe,
    factors: [Vec<u8>; 2],
}

/// What is left out of a piece of a change.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    left_out: f64,
    left_out_squared: f64,
    largest: f64,
    change: f64,
    change_squared: f64,
}

impl Errors {
    fn add(&mut self, other: &Self) {
        self.left_out += other.left_out;
        self.left_out_squared += other.left_out_squared;
        self.largest = self.largest.max(other.largest);
        self.change += other.change;
        self.change_squared += other.change_squared;
    }

    fn one(change: f64, left_out: f64) -> Self {
        Self {
            left_out: left_out.abs(),
            left_out_squared: left_out * left_out,
            largest: left_out.abs(),
            change: change.abs(),
            change_squared: change * change,
        }
    }
}

/// Writes the version as it will be committed: the fine-tune, with the cut tensors made.
pub(super) fn make(
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    (files, changes, ranks): (&BaseFiles, &[Change], &[usize]),
    places: &Places,
    progress: &dyn Progress,
) -> Result<Vec<Kept>> {
    let whole = checkout::Request {
        commit: request.tuned,
        target: &places.model,
        tensors: &[],
        force: false,
        before: None,
    };
    checkout(rebuilder, pool, &whole, progress)?;
    // By tensor and first element: summed in order, so that they do not depend on the threads.
    let errors: Mutex<BTreeMap<(usize, u64), Errors>> = Mutex::default();
    let target = Directory::target(&places.model)?;
    for (number, (path, file)) in files.iter().enumerate() {
        let mut makers = BTreeMap::new();
        for (at, change) in changes
            .iter()
            .enumerate()
            .filter(|(_, change)| change.file == number)
        {
            makers.insert(change.index, Maker::new(places, at, change, ranks[at])?);
        }
        if makers.is_empty() {
            continue;
        }
        progress.begin("making", Some(file.manifest().bytes));
        let (directory, name) = checkout::make_parents(&target, path)?;
        let is_executable = matches!(directory.look(name)?, Standing::File(_, true));
        let mut out = directory.begin(name, is_executable)?;
        let piece = |maker: &Maker<'_>, first: u64, bytes: u64| {
            let (made, left_out) = maker.make(rebuilder, first, bytes)?;
            let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
            errors.insert((maker.number, first), left_out);
            Ok(made.into())
        };
        made::write(
            rebuilder,
            pool,
            file,
            &makers,
            piece,
            |bytes| out.append(bytes),
            progress,
        )?;
        out.finish()?;
        progress.end();
    }
    let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    let kept = changes
        .iter()
        .zip(ranks)
        .enumerate()
        .map(|(number, (change, rank))| {
            let mut all = Errors::default();
            errors
                .range((number, 0)..(number + 1, 0))
                .for_each(|(_, piece)| all.add(piece));
            Kept::of(change, *rank, &all)
        });
    Ok(kept.collect())
}

impl<'a> Maker<'a> {
    fn new(places: &Places, number: usize, change: &'a Change, rank: usize) -> Result<Self> {
        let (target, base) = (change.shape(), change.base.shape());
        // Without a component the tensor is the base's: a row of zeros stands for none.
        let factors = match rank {
            0 => [target.cols, target.rows].map(|count| vec![0; size(2 * count)]),
            rank => factors(places, number, target, rank)?,
        };
        let of = |rows, cols| Shape {
            dtype: DType::F16,
            rows,
            cols,
        };
        let rank = rank.max(1) as u64;
        let shapes = [of(rank, target.cols), of(target.rows, rank)];
        let wide = Shape {
            dtype: DType::F32,
            ..target
        };
        Ok(Self {
            number,
            change,
            recipe: hint::recipe(target, base, shapes)?,
            unrounded: hint::recipe(wide, base, shapes)?,
            factors,
        })
    }

    /// The bytes from an element on, and what they leave out.
    fn make(&self, rebuilder: &Rebuilder, first: u64, bytes: u64) -> Result<(Vec<u8>, Errors)> {
        let width = self.recipe.target.dtype.block().1;
        let count = bytes / width;
        let mut base = Viewed::Gathered(Vec::new());
        let mut ranges = Vec::new();
        for range in self.recipe.sources(first, count)? {
            match range.source {
                0 => {
                    let mut view = View::default();
                    self.change.base.parts(range.start, range.bytes, &mut view);
                    base = rebuilder.view(&view)?;
                }
                factor => ranges.push((factor, size(range.start), size(range.bytes))),
            }
        }
        let mut parts: Vec<&[u8]> = vec![&base];
        for (factor, start, bytes) in ranges {
            parts.push(&self.factors[factor - 1][start..start + bytes]);
        }
        let mut made = vec![0; size(bytes)];
        self.recipe.predict(first, &parts, &mut made)?;
        let mut wide = vec![0; size(4 * count)];
        self.unrounded.predict(first, &parts, &mut wide)?;
        let tuned = made::values(rebuilder, &self.change.tuned, first, count)?;
        let old = made::values(rebuilder, &self.change.base, first, count)?;
        let mut errors = Errors::default();
        let wide = wide
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        for ((new, old), made) in tuned.iter().zip(&old).zip(wide) {
            if made.is_finite() {
                errors.add(&Errors::one(f64::from(new - old), f64::from(new - made)));
            }
        }
        Ok((made, errors))
    }
}

impl Kept {
    fn of(change: &Change, rank: usize, errors: &Errors) -> Self {
        let elements = change.shape().elements();
        let mean = |sum: f64| sum / elements.max(1) as f64;
        Self {
            file: change.path.clone(),
            name: change.tensor().name.clone(),
            rank,
            factor_bytes: rank as u64 * change.component_bytes(),
            mean_error: mean(errors.left_out),
            max_error: errors.largest,
            relative_error: mean(errors.left_out) / (mean(errors.change) + 1e-8),
            left_out_squared: errors.left_out_squared,
            change_squared: errors.change_squared,
        }
    }
}
