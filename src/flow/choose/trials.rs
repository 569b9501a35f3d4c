//! The strips of a tensor that is chosen for, and what predictions of them cost.
//!
//! May use: tiers 0 to 4.

use store_format::dtype::DType;
use store_format::layout::Tensor;
use store_format::record::{Coding, View};

use super::Chooser;
use crate::bytes::{FileBytes, ReadAt};
use crate::codec::residual::{self, Level, Prediction, Statistics, TensorShape};
use crate::error::{Kind, Result};
use crate::flow::approach::{BaseTensor, ByRecipe};
use crate::flow::predicted::{Predicted, predict};
use crate::flow::relatives::whole;
use crate::flow::viewed::Viewed;
use crate::plan::trial;
use crate::predict::{Shape, float};

/// A tensor and some strips of it.
pub(super) struct Target {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// Where it starts in its file.
    pub(super) start: u64,
    /// The strips: the first element of each, and how many.
    pub(super) strips: Vec<(u64, u64)>,
    /// Their bytes, one after the other.
    pub(super) bytes: Vec<u8>,
}

impl Target {
    pub(super) fn read(
        file: &FileBytes,
        tensor: &Tensor,
        shape: Shape,
        strips: Vec<(u64, u64)>,
    ) -> Result<Self> {
        let mut target = Self {
            name: tensor.name.clone(),
            shape,
            start: tensor.start,
            strips: Vec::new(),
            bytes: Vec::new(),
        };
        target.take(file, strips)?;
        Ok(target)
    }

    /// The same tensor by other strips.
    pub(super) fn by(&self, file: &FileBytes, strips: Vec<(u64, u64)>) -> Result<Self> {
        let mut target = Self {
            name: self.name.clone(),
            strips: Vec::new(),
            bytes: Vec::new(),
            ..*self
        };
        target.take(file, strips)?;
        Ok(target)
    }

    fn take(&mut self, file: &FileBytes, strips: Vec<(u64, u64)>) -> Result<()> {
        for (first, count) in &strips {
            let (start, length) = span(self.shape.dtype, *first, *count);
            self.bytes
                .extend(file.read_vec(self.start + start, size(length))?);
        }
        self.strips = strips;
        Ok(())
    }

    /// The strips with their bytes.
    fn parts(&self) -> impl Iterator<Item = (u64, u64, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.strips.iter().map(move |(first, count)| {
            let (_, bytes) = span(self.shape.dtype, *first, *count);
            let (part, left) = rest.split_at(size(bytes));
            rest = left;
            (*first, *count, part)
        })
    }

    /// The strips as numbers.
    pub(super) fn values(&self) -> Vec<f32> {
        float::widened(self.shape.dtype, &self.bytes)
    }
}

impl Chooser<'_> {
    /// What the strips cost over the same elements of a tensor.
    pub(super) fn cost_of_base(&self, target: &Target, base: &BaseTensor) -> Result<f64> {
        let mut cost = 0.0;
        for (first, count, part) in target.parts() {
            let predicted = self.elements(target.shape.dtype, base, first, count)?;
            let Some(predicted) = predicted else {
                return Ok(f64::INFINITY);
            };
            cost += trial::cost(target.shape.dtype, part, &predicted);
        }
        Ok(cost)
    }

    /// What the strips cost over what a recipe makes.
    pub(super) fn cost(&self, target: &Target, recipe: &ByRecipe) -> Result<f64> {
        let mut cost = 0.0;
        for (first, _, part) in target.parts() {
            match self.predicted(recipe, first, part.len(), Coding::Difference)? {
                Predicted::Bytes(predicted) => {
                    cost += trial::cost(target.shape.dtype, part, &predicted);
                }
                Predicted::Patterns(_) | Predicted::None => return Ok(f64::INFINITY),
            }
        }
        Ok(cost)
    }

    /// Elements of a tensor that is read as another type, where it is whole; zeros beyond its
    /// end.
    pub(super) fn elements(
        &self,
        dtype: DType,
        base: &BaseTensor,
        first: u64,
        count: u64,
    ) -> Result<Option<Viewed>> {
        let (start, bytes) = span(dtype, first, count);
        let mut view = View::default();
        base.parts(start, bytes, &mut view);
        whole(self.writer.rebuilder.view(&view))
    }

    /// The strips of a source as numbers; zeros where it is hurt.
    pub(super) fn values(&self, target: &Target, source: &BaseTensor) -> Result<Vec<f32>> {
        let dtype = source.shape().dtype;
        let mut values = Vec::new();
        for (first, count) in &target.strips {
            let bytes = self.elements(dtype, source, *first, *count)?;
            let bytes =
                bytes.unwrap_or_else(|| vec![0; size(span(dtype, *first, *count).1)].into());
            values.extend(float::widened(dtype, &bytes));
        }
        Ok(values)
    }

    /// Bits of the strips as the residual coder writes them over the same elements of a tensor of
    /// their type.
    pub(super) fn bits_over_base(&self, target: &Target, base: &BaseTensor) -> Result<f64> {
        let mut predicted = Vec::new();
        for (first, count) in &target.strips {
            match self.elements(target.shape.dtype, base, *first, *count)? {
                Some(strip) => predicted.extend_from_slice(&strip),
                None => return Ok(f64::INFINITY),
            }
        }
        Ok(coded_bits(target, Prediction::Same(&predicted)))
    }

    /// Bits of the strips as the residual coder writes them over what a recipe makes, whose
    /// fractions it sees.
    pub(super) fn bits_over(&self, target: &Target, recipe: &ByRecipe) -> Result<f64> {
        let mut predicted = Vec::new();
        for (first, _, part) in target.parts() {
            match self.predicted(recipe, first, part.len(), Coding::Residual)? {
                Predicted::Patterns(strip) => predicted.extend_from_slice(&strip),
                Predicted::Bytes(_) | Predicted::None => return Ok(f64::INFINITY),
            }
        }
        Ok(coded_bits(target, Prediction::Fraction(&predicted)))
    }

    fn predicted(
        &self,
        recipe: &ByRecipe,
        first: u64,
        bytes: usize,
        coding: Coding,
    ) -> Result<Predicted> {
        let view = match recipe.view(first, bytes as u64) {
            // A range that a reader would not get either.
            Err(error) if matches!(error.kind(), Kind::Corrupt) => None,
            other => other?,
        };
        let Some(view) = view else {
            return Ok(Predicted::None);
        };
        match whole(self.writer.rebuilder.pieces(&view))? {
            Some(sources) => predict(&recipe.recipe, first, &sources, bytes as u64, coding),
            None => Ok(Predicted::None),
        }
    }
}

/// Bits of the strips over a prediction of them, without what the chunks of a tensor share;
/// without end for elements that are not coded so.
fn coded_bits(target: &Target, prediction: Prediction) -> f64 {
    let count = target.strips.iter().map(|(_, count)| count).sum::<u64>();
    let cols = target.shape.cols;
    let whole_rows = count.is_multiple_of(cols);
    let strips = TensorShape {
        dtype: target.shape.dtype,
        rows: if whole_rows { count / cols } else { 1 },
        cols: if whole_rows { cols } else { count },
    };
    let Some(mut statistics) = Statistics::new(strips, Level::Default, true) else {
        return f64::INFINITY;
    };
    statistics.add(0, &target.bytes, prediction);
    let mut coded = Vec::new();
    residual::encode(
        &statistics.finish(),
        0,
        &target.bytes,
        prediction,
        &mut coded,
    );
    8.0 * coded.len() as f64
}

/// Where elements lie in their tensor: the first byte, and how many.
pub(super) fn span(dtype: DType, first: u64, count: u64) -> (u64, u64) {
    let bytes = |elements| dtype.bytes_of(elements).unwrap_or(0);
    (bytes(first), bytes(count))
}

/// Bytes that a tensor in a file has.
pub(super) fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
