//! A change of low rank: whether a tensor has one, and what it saves.
//!
//! May use: tiers 0 to 4. Memory is bounded by a sample of rows and two chunks.

use std::sync::Arc;

use store_format::record::View;

use super::Chooser;
use super::trials::{Target, size, span};
use crate::bytes::ReadAt;
use crate::codec::Level;
use crate::error::Result;
use crate::flow::approach::{BaseTensor, ByRecipe};
use crate::flow::relatives::whole;
use crate::plan::trial;
use crate::predict::low_rank::fit::{Effort, fit};
use crate::predict::{Recipe, Step, float};

/// Bits that an entry of a factor takes, roughly.
const ENTRY_BITS: f64 = 4.0;

/// Elements that are read at a time, in whole rows.
const TOGETHER: usize = 1 << 16;

impl Chooser<'_> {
    /// The base with a change of low rank added, where that saves more than the factors take.
    /// `cost` is what the strips cost over the base alone.
    pub(super) fn low_rank(
        &self,
        target: &Target,
        base: &BaseTensor,
        cost: f64,
    ) -> Result<Option<Arc<ByRecipe>>> {
        let (shape, from) = (target.shape, base.shape());
        let fits = from.rows == shape.rows
            && from.cols == shape.cols
            && float::is_computable(shape.dtype)
            && float::is_computable(from.dtype);
        // A few strips that hardly changed: an adapter would have changed them.
        let sampled: u64 = target.strips.iter().map(|(_, count)| count).sum();
        if !fits || cost < 0.2 * sampled as f64 {
            return Ok(None);
        }
        let (rows, cols) = (size(shape.rows), size(shape.cols));
        let effort = match self.writer.level {
            Level::Max => Effort::MAX,
            Level::Fast | Level::Default => Effort::DEFAULT,
        };
        let mut window = Window {
            first: 0,
            changes: Vec::new(),
        };
        let before = self.factors_of(base)?;
        let warm = before.as_ref().and_then(|recipe| match &recipe.step {
            Step::LowRank(factors) => Some(factors),
            _ => None,
        });
        let found = fit(rows, cols, &effort, warm, |row, out| {
            let have = window.changes.len() / cols;
            if row < window.first || row >= window.first + have {
                // Rows in order come in blocks; a sample comes row by row.
                let count = if row == window.first + have && have > 0 || row == 0 {
                    (TOGETHER / cols).clamp(1, rows - row)
                } else {
                    1
                };
                window.changes = self.changes(target, base, row, count)?;
                window.first = row;
            }
            let at = (row - window.first) * cols;
            out.copy_from_slice(&window.changes[at..at + cols]);
            self.writer.progress.check()
        })?;
        let Some(factors) = found else {
            return Ok(None);
        };
        let spent = (factors.rank() * (rows + cols)) as f64 * ENTRY_BITS;
        let shapes = vec![from];
        let Ok(recipe) = Recipe::new(shape, shapes, None, Step::LowRank(factors)) else {
            return Ok(None);
        };
        let recipe = Arc::new(ByRecipe::new(recipe, vec![base.clone()]));
        // Much of what is saved lies in the fractions, which only the coder itself sees.
        let many = target.by(self.file, trial::strips(shape, trial::MANY))?;
        let saved = self.bits_over_base(&many, base)? - self.bits_over(&many, &recipe)?;
        let sampled: u64 = many.strips.iter().map(|(_, count)| count).sum();
        let whole = shape.elements() as f64 / sampled as f64;
        Ok((saved * whole > spent).then_some(recipe))
    }

    /// The recipe of the base itself: the next change of a run lies much along the one before.
    fn factors_of(&self, base: &BaseTensor) -> Result<Option<Arc<Recipe>>> {
        let mut view = View::default();
        base.parts(0, 1, &mut view);
        match view.parts.first() {
            Some(part) => whole(self.writer.rebuilder.recipe_of(&part.chunk)).map(Option::flatten),
            None => Ok(None),
        }
    }

    /// Target minus base of some rows; 0 where either is not finite.
    fn changes(
        &self,
        target: &Target,
        base: &BaseTensor,
        row: usize,
        count: usize,
    ) -> Result<Vec<f32>> {
        let cols = target.shape.cols;
        let (first, count) = (row as u64 * cols, count as u64 * cols);
        let (start, bytes) = span(target.shape.dtype, first, count);
        let new = self.file.read_vec(target.start + start, size(bytes))?;
        let mut values = float::widened(target.shape.dtype, &new);
        let dtype = base.shape().dtype;
        let old = self.elements(dtype, base, first, count)?;
        let old = old.map(|old| float::widened(dtype, &old));
        for (at, value) in values.iter_mut().enumerate() {
            let old = old.as_ref().map_or(f32::NAN, |old| old[at]);
            let change = *value - old;
            *value = if change.is_finite() { change } else { 0.0 };
        }
        Ok(values)
    }
}

/// Rows whose change is at hand.
struct Window {
    first: usize,
    changes: Vec<f32>,
}
