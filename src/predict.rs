//! Predictors: what a tensor's elements would be if they followed from tensors that are known.
//!
//! May use: `store_format`. Must never read anything but the slices it is given, and never
//! compute what two machines could round differently.
//!
//! A [`Recipe`] belongs to one tensor. It says which parts of which source tensors a range of
//! elements needs ([`Recipe::sources`]) and predicts that range from them ([`Recipe::predict`],
//! [`Recipe::patterns`]). Its bytes are parameters from outside: [`Recipe::parse`] checks them.

pub mod adapter;
pub mod blockwise;
pub mod cast;
pub mod float;
pub mod gather;
pub mod linear;
pub mod low_rank;
pub mod quantise;
mod wire;

use std::borrow::Cow;

use store_format::FormatError;
use store_format::dtype::DType;
use store_format::limits::{CHUNK_BYTES_MAX, SOURCE_BYTES_MAX};

use self::wire::{Reader, put_number, unknown};

/// Elements of one tensor: more than any machine holds, few enough that no sum overflows.
const ELEMENTS_MAX: u64 = 1 << 50;
/// Source tensors of one recipe.
const SOURCES_MAX: usize = 64;
/// Elements that pass through the stack at a time: their values stay in the first cache.
const BLOCK: usize = 2048;

/// What a tensor looks like to a predictor: rows of equal length, the innermost dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The type of the elements.
    pub dtype: DType,
    /// The product of all dimensions but the last; 1 for a scalar.
    pub rows: u64,
    /// The last dimension; 1 for a scalar.
    pub cols: u64,
}

impl Shape {
    /// How many elements there are. Cannot overflow for a shape that a recipe has taken.
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.rows.saturating_mul(self.cols)
    }

    fn check(&self) -> Result<(), FormatError> {
        match self.rows.checked_mul(self.cols) {
            Some(elements) if elements <= ELEMENTS_MAX && self.rows <= ELEMENTS_MAX => {}
            _ => return invalid("a tensor has at most 2^50 elements"),
        }
        if self.cols > ELEMENTS_MAX || !self.cols.is_multiple_of(self.dtype.block().0) {
            return invalid("a row holds whole blocks");
        }
        Ok(())
    }

    /// The bytes of the elements `[first, first + count)`: where they start, how many there are.
    fn span(&self, first: u64, count: u64) -> Result<(u64, u64), FormatError> {
        match (self.dtype.bytes_of(first), self.dtype.bytes_of(count)) {
            (Some(start), Some(bytes)) if first + count <= self.elements() => Ok((start, bytes)),
            _ => invalid("a range lies inside its tensor on the borders of blocks"),
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.dtype.number());
        put_number(out, self.rows);
        put_number(out, self.cols);
    }

    fn read(reader: &mut Reader) -> Result<Self, FormatError> {
        let shape = Self {
            dtype: DType::from_number(reader.byte()?)?,
            rows: reader.number()?,
            cols: reader.number()?,
        };
        shape.check()?;
        Ok(shape)
    }
}

/// Bytes of a source tensor that a prediction needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRange {
    /// Which of the recipe's sources.
    pub source: usize,
    /// The first byte, counted from the start of that tensor.
    pub start: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// How the elements of the base, brought into place, become the prediction.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// They are the prediction.
    Same,
    /// Converted to the type of the target.
    Cast,
    /// Summed with those of other sources.
    Linear(linear::Linear),
    /// With the product of an adapter's two matrices added.
    Adapter(adapter::Adapter),
    /// Rounded to few bits with a scale.
    Quantise(quantise::Quantise),
    /// With a product of two small integer matrices added.
    LowRank(low_rank::LowRank),
    /// In codes of 4 bits with a scale for each block, or these scales.
    Blockwise(blockwise::Blockwise),
}

impl Step {
    /// The number stored.
    #[must_use]
    pub const fn number(&self) -> u8 {
        match self {
            Self::Same => 0,
            Self::Cast => 1,
            Self::Linear(_) => 2,
            Self::Adapter(_) => 3,
            Self::Quantise(_) => 4,
            Self::LowRank(_) => 5,
            Self::Blockwise(_) => 6,
        }
    }
}

/// How a tensor follows from others.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The tensor that is predicted.
    pub target: Shape,
    /// The tensors it follows from: first the base (or, with a view, all that it gathers from),
    /// then what the step needs besides.
    pub sources: Vec<Shape>,
    /// Where the elements of the base come from, if not from the same place.
    pub view: Option<gather::Gather>,
    /// What happens to them.
    pub step: Step,
}

impl Recipe {
    /// A recipe, checked as [`Recipe::parse`] checks it.
    ///
    /// # Errors
    /// [`FormatError`] if the shapes, the view and the step do not fit together.
    pub fn new(
        target: Shape,
        sources: Vec<Shape>,
        view: Option<gather::Gather>,
        step: Step,
    ) -> Result<Self, FormatError> {
        let recipe = Self {
            target,
            sources,
            view,
            step,
        };
        recipe.check()?;
        Ok(recipe)
    }

    /// The canonical bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![self.step.number()];
        self.target.put(&mut out);
        // `check` bounds the count by SOURCES_MAX.
        out.push(self.sources.len() as u8);
        for source in &self.sources {
            source.put(&mut out);
        }
        out.push(u8::from(self.view.is_some()));
        if let Some(view) = &self.view {
            view.put(&mut out);
        }
        match &self.step {
            Step::Same | Step::Cast => {}
            Step::Linear(linear) => linear.put(&mut out),
            Step::Adapter(adapter) => adapter.put(&mut out),
            Step::Quantise(quantise) => quantise.put(&mut out),
            Step::LowRank(low_rank) => low_rank.put(&mut out),
            Step::Blockwise(blockwise) => blockwise.put(&mut out),
        }
        out
    }

    /// Reads and checks a recipe. Memory is bounded by the length of `bytes`.
    ///
    /// # Errors
    /// [`FormatError`] for bytes that [`Recipe::to_bytes`] would not write for a fitting recipe.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes);
        let number = reader.byte()?;
        let target = Shape::read(&mut reader)?;
        let count = usize::from(reader.byte()?);
        if count > SOURCES_MAX {
            return invalid("a recipe has at most 64 sources");
        }
        let mut sources = Vec::with_capacity(count);
        for _ in 0..count {
            sources.push(Shape::read(&mut reader)?);
        }
        let view = match reader.byte()? {
            0 => None,
            1 => Some(gather::Gather::read(&mut reader)?),
            value => return unknown("view", value),
        };
        let step = match number {
            0 => Step::Same,
            1 => Step::Cast,
            2 => Step::Linear(linear::Linear::read(&mut reader)?),
            3 => Step::Adapter(adapter::Adapter::read(&mut reader)?),
            4 => Step::Quantise(quantise::Quantise::read(&mut reader)?),
            5 => Step::LowRank(low_rank::LowRank::read(&mut reader, &target)?),
            6 => Step::Blockwise(blockwise::Blockwise::read(&mut reader)?),
            _ => return unknown("predictor", number),
        };
        reader.end()?;
        Self::new(target, sources, view, step)
    }

    /// About how many bytes of memory the recipe takes: what a reader that keeps it counts.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let step = match &self.step {
            Step::LowRank(low_rank) => low_rank.a().len() + low_rank.b().len(),
            Step::Same
            | Step::Cast
            | Step::Linear(_)
            | Step::Adapter(_)
            | Step::Quantise(_)
            | Step::Blockwise(_) => 0,
        };
        let view = self.view.as_ref().map_or(0, gather::Gather::held_bytes);
        size_of::<Self>() + SOURCES_MAX * size_of::<Shape>() + view + step
    }

    /// How many sources the base takes; the others belong to the step.
    fn base_sources(&self) -> usize {
        self.view.as_ref().map_or(1, |view| view.source_count())
    }

    /// The base as the step sees it: the target's rows and columns in the source's type, or the
    /// source itself where blocks of it become elements.
    fn base(&self) -> Shape {
        let dtype = self.sources[0].dtype;
        let blocks = matches!(self.step, Step::Blockwise(_));
        let seen = if blocks { self.sources[0] } else { self.target };
        Shape { dtype, ..seen }
    }

    fn check(&self) -> Result<(), FormatError> {
        self.target.check()?;
        for source in &self.sources {
            source.check()?;
        }
        if self.sources.is_empty() || self.sources.len() > SOURCES_MAX {
            return invalid("a recipe has 1 to 64 sources");
        }
        let Some((bases, extra)) = self.sources.split_at_checked(self.base_sources()) else {
            return invalid("a view names sources of its recipe");
        };
        match &self.view {
            None if bases[0].elements() != self.base().elements() => {
                return invalid("a base without a view has as many elements as the target");
            }
            None => {}
            Some(_) if matches!(self.step, Step::Blockwise(_)) => {
                return invalid("blocks are those of one source");
            }
            Some(view) => view.check(bases, &self.base())?,
        }
        self.base().check()?;
        match &self.step {
            Step::Same if bases[0].dtype != self.target.dtype => {
                invalid("a prediction by the same elements keeps their type")
            }
            Step::Same | Step::Cast if !extra.is_empty() => {
                invalid("a recipe has no source that it does not use")
            }
            Step::Same => Ok(()),
            Step::Cast => cast::check(bases[0].dtype, self.target.dtype),
            Step::Linear(linear) => linear.check(self),
            Step::Adapter(adapter) => adapter.check(&self.base(), &self.target, extra),
            Step::Quantise(quantise) => quantise.check(&self.base(), &self.target, extra),
            Step::LowRank(low_rank) => low_rank.check(&self.base(), &self.target, extra),
            Step::Blockwise(blockwise) => blockwise.check(&self.base(), &self.target, extra),
        }
    }

    /// The elements of the base that the range needs: the same ones, or the whole rows or blocks
    /// they lie in.
    fn base_range(&self, first: u64, count: u64) -> Result<(u64, u64), FormatError> {
        let needs_rows = match &self.step {
            Step::Blockwise(blockwise) => return blockwise.base_range(&self.base(), first, count),
            Step::Quantise(quantise) => quantise.needs_rows(),
            Step::Adapter(adapter) => adapter.needs_rows(),
            Step::Same | Step::Cast | Step::Linear(_) | Step::LowRank(_) => false,
        };
        if !needs_rows || count == 0 {
            return Ok((first, count));
        }
        let cols = self.target.cols;
        let from = first / cols * cols;
        Ok((from, (first + count).next_multiple_of(cols) - from))
    }

    /// What a prediction of the elements `[first, first + count)` needs, in the order in which
    /// [`Recipe::predict`] takes the slices.
    ///
    /// # Errors
    /// [`FormatError`] for a range outside the tensor, off the borders of its blocks, or one
    /// that needs more source bytes than a record may have.
    pub fn sources(&self, first: u64, count: u64) -> Result<Vec<SourceRange>, FormatError> {
        self.check_range(first, count)?;
        let mut ranges = self.base_ranges(first, count)?;
        let at = self.base_sources();
        match &self.step {
            Step::Same | Step::Cast | Step::LowRank(_) | Step::Blockwise(_) => {}
            Step::Linear(_) => {
                for (source, shape) in self.sources.iter().enumerate().skip(1) {
                    let (start, bytes) = shape.span(first, count)?;
                    ranges.push(SourceRange {
                        source,
                        start,
                        bytes,
                    });
                }
            }
            Step::Adapter(adapter) => {
                ranges.extend(adapter.ranges(
                    &self.target,
                    &self.sources[at..],
                    at,
                    first,
                    count,
                )?);
            }
            Step::Quantise(quantise) => {
                ranges.extend(quantise.ranges(
                    &self.target,
                    &self.sources[at..],
                    at,
                    first,
                    count,
                )?);
            }
        }
        // A million ranges of 2^53 bytes each would overflow.
        let total = ranges
            .iter()
            .fold(0, |sum: u64, range| sum.saturating_add(range.bytes));
        if total > SOURCE_BYTES_MAX {
            return Err(FormatError::TooLarge {
                field: "source bytes of a range",
                value: total,
                max: SOURCE_BYTES_MAX,
            });
        }
        Ok(ranges)
    }

    fn check_range(&self, first: u64, count: u64) -> Result<(), FormatError> {
        let inside = first
            .checked_add(count)
            .is_some_and(|end| end <= self.target.elements());
        if !inside {
            return invalid("a range lies inside its tensor");
        }
        if count > CHUNK_BYTES_MAX {
            return invalid("a range is at most one chunk");
        }
        self.target.span(first, count).map(|_| ())
    }

    fn base_ranges(&self, first: u64, count: u64) -> Result<Vec<SourceRange>, FormatError> {
        let (first, count) = self.base_range(first, count)?;
        if count > CHUNK_BYTES_MAX {
            return invalid("the rows of a range have at most 2^26 elements");
        }
        match &self.view {
            None => {
                let (start, bytes) = self.sources[0].span(first, count)?;
                Ok(vec![SourceRange {
                    source: 0,
                    start,
                    bytes,
                }])
            }
            Some(view) => view.ranges(&self.sources, &self.base(), first, count),
        }
    }

    /// Predicts the elements from `first` on as bytes of the target's type, as many as fill
    /// `out`. `parts` are the bytes of [`Recipe::sources`], in its order.
    ///
    /// # Errors
    /// [`FormatError`] if the range or the lengths of `parts` are not as [`Recipe::sources`]
    /// says.
    pub fn predict(&self, first: u64, parts: &[&[u8]], out: &mut [u8]) -> Result<(), FormatError> {
        let (per_block, block_bytes) = self.target.dtype.block();
        if !(out.len() as u64).is_multiple_of(block_bytes) {
            return invalid("a range lies on the borders of blocks");
        }
        let count = out.len() as u64 / block_bytes * per_block;
        self.run(first, count, parts, &mut Output::Bytes(out))
    }

    /// The same as patterns with 16 bits of fraction ([`float::pattern`]).
    ///
    /// # Errors
    /// As [`Recipe::predict`], and for a target type without patterns.
    pub fn patterns(
        &self,
        first: u64,
        parts: &[&[u8]],
        out: &mut [u32],
    ) -> Result<(), FormatError> {
        if !self.has_patterns() {
            return invalid("only float elements have patterns");
        }
        let count = out.len() as u64;
        self.run(first, count, parts, &mut Output::Patterns(out))
    }

    /// Whether [`Recipe::patterns`] can answer.
    #[must_use]
    pub fn has_patterns(&self) -> bool {
        float::has_pattern(self.target.dtype)
            && !matches!(self.step, Step::Quantise(_) | Step::Blockwise(_))
    }

    fn run(
        &self,
        first: u64,
        count: u64,
        parts: &[&[u8]],
        out: &mut Output,
    ) -> Result<(), FormatError> {
        let ranges = self.sources(first, count)?;
        let fits = ranges.len() == parts.len()
            && ranges
                .iter()
                .zip(parts)
                .all(|(range, part)| range.bytes == part.len() as u64);
        if !fits {
            return invalid("a prediction gets exactly the source bytes that it asked for");
        }
        let (base_parts, extra) = parts.split_at(self.base_ranges(first, count)?.len());
        let (base_first, base_count) = self.base_range(first, count)?;
        let base: Cow<[u8]> = match &self.view {
            None => Cow::Borrowed(base_parts[0]),
            Some(view) => {
                let shape = self.base();
                let (_, bytes) = shape.span(base_first, base_count)?;
                let mut placed = vec![0; bytes as usize];
                view.place(&self.sources, &shape, base_first, base_parts, &mut placed)?;
                Cow::Owned(placed)
            }
        };
        let from = self.sources[0].dtype;
        let to = self.target.dtype;
        match &self.step {
            Step::Same => out.put_bytes(to, &base),
            Step::Cast => cast::fill(from, to, &base, out),
            Step::Linear(linear) => linear.fill(&self.sources, to, parts, out),
            Step::Adapter(adapter) => adapter.fill(
                &self.target,
                &self.sources[self.base_sources()..],
                (base_first, first, count),
                &base,
                from,
                extra,
                out,
            ),
            Step::Quantise(quantise) => {
                let Output::Bytes(bytes) = out else {
                    return invalid("only float elements have patterns");
                };
                quantise.fill(
                    &self.base(),
                    to,
                    first - base_first,
                    first,
                    &base,
                    extra,
                    bytes,
                )
            }
            Step::LowRank(low_rank) => low_rank.fill(&self.target, first, &base, from, out),
            Step::Blockwise(blockwise) => {
                let Output::Bytes(bytes) = out else {
                    return invalid("only float elements have patterns");
                };
                blockwise.fill(&self.base(), first, &base, bytes)
            }
        }
    }

    /// How many bytes of `target`, which starts at element `first`, the recipe predicts wrongly:
    /// the encoder's test of a recipe on a sample.
    ///
    /// # Errors
    /// As [`Recipe::predict`].
    pub fn misses(&self, first: u64, parts: &[&[u8]], target: &[u8]) -> Result<usize, FormatError> {
        let mut predicted = vec![0; target.len()];
        self.predict(first, parts, &mut predicted)?;
        Ok(predicted.iter().zip(target).filter(|(a, b)| a != b).count())
    }
}

/// Where a prediction goes.
enum Output<'a> {
    /// Elements of the target's type.
    Bytes(&'a mut [u8]),
    /// Patterns with a fraction.
    Patterns(&'a mut [u32]),
}

impl Output<'_> {
    /// Sets the elements from the `at`-th on from values.
    fn put(&mut self, dtype: DType, at: usize, values: &[f32]) -> Result<(), FormatError> {
        let done = match self {
            Output::Bytes(out) => {
                let width = dtype.block().1 as usize;
                out.get_mut(at * width..(at + values.len()) * width)
                    .is_some_and(|out| float::round(dtype, values, out))
            }
            Output::Patterns(out) => match out.get_mut(at..at + values.len()) {
                Some(out) => {
                    float::patterns(dtype, values, out);
                    true
                }
                None => false,
            },
        };
        if done {
            Ok(())
        } else {
            invalid("a prediction fits its range")
        }
    }

    /// Sets all elements from bytes of the target's type.
    fn put_bytes(&mut self, dtype: DType, bytes: &[u8]) -> Result<(), FormatError> {
        let done = match self {
            Output::Bytes(out) if out.len() == bytes.len() => {
                out.copy_from_slice(bytes);
                true
            }
            Output::Bytes(_) => false,
            Output::Patterns(out) => float::patterns_of(dtype, bytes, out),
        };
        if done {
            Ok(())
        } else {
            invalid("a prediction fits its range")
        }
    }
}

/// The `at`-th to `at + values`-th element of `bytes`, widened.
fn widen_at(dtype: DType, bytes: &[u8], at: usize, values: &mut [f32]) -> Result<(), FormatError> {
    let width = dtype.block().1 as usize;
    let done = bytes
        .get(at * width..(at + values.len()) * width)
        .is_some_and(|bytes| float::widen(dtype, bytes, values));
    if done {
        Ok(())
    } else {
        invalid("the elements of a source can be computed with")
    }
}

fn invalid<T>(rule: &'static str) -> Result<T, FormatError> {
    Err(FormatError::Invalid { rule })
}

#[cfg(test)]
mod tests;
