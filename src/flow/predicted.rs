//! What a record's recipe makes of the bytes of its sources: the prediction that its coder
//! corrects.
//!
//! May use: tiers 0 to 4. Reads nothing by itself. Holds: what is asked of a recipe is bounded by
//! the plain bytes of the record, whatever its parameters say.

use std::cell::Cell;
use std::ops::Deref;

use store_format::FormatError;
use store_format::cursor::{Reader, put_varint};
use store_format::dtype::DType;
use store_format::record::{Coding, Predictor};

use crate::codec::residual::Prediction;
use crate::error::Result;
use crate::flow::viewed::{Pieces, Viewed};
use crate::predict::{self, Step};

/// A number in the parameters that says: the tensor's recipe follows.
const INLINE: u8 = 255;

/// The longest recipe that stands in each record; a longer one is a side chunk.
pub const INLINE_BYTES_MAX: usize = 64;

thread_local! {
    /// Room that is used again: fresh pages for every chunk cost more than what fills them.
    static ROOM: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// The most elements of room that a thread keeps: those of a chunk as a writer cuts it.
const ROOM_KEPT: usize = 1 << 20;

/// Elements with a fraction ([`predict::float::pattern`]).
#[derive(Clone, Debug)]
pub struct Patterns(Vec<u32>);

impl Patterns {
    /// Room for `count` patterns, whose values do not matter.
    fn room(count: usize) -> Self {
        let mut room = ROOM.take();
        room.reserve_exact(count.saturating_sub(room.len()));
        room.resize(count, 0);
        Self(room)
    }
}

impl Drop for Patterns {
    fn drop(&mut self) {
        if self.0.capacity() <= ROOM_KEPT {
            ROOM.set(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for Patterns {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.0
    }
}

/// A prediction and its memory.
#[derive(Clone, Debug)]
pub enum Predicted {
    /// Nothing is known.
    None,
    /// The bytes of elements of the target's own type.
    Bytes(Viewed),
    /// Elements with a fraction.
    Patterns(Patterns),
}

impl Predicted {
    /// As the coder takes it.
    #[must_use]
    pub fn as_prediction(&self) -> Prediction<'_> {
        match self {
            Self::None => Prediction::None,
            Self::Bytes(bytes) => Prediction::Same(bytes),
            Self::Patterns(patterns) => Prediction::Fraction(patterns),
        }
    }

    /// Whether there is one.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Where the recipe of a record's tensor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the parameters themselves.
    Inline(&'a [u8]),
    /// In the side chunk of this number.
    Side(usize),
}

/// The parameters of predictors 2 to 7 and 9: the first element, and where the recipe stands.
#[must_use]
pub fn parameters(first_element: u64, place: Place<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(first_element, &mut out);
    match place {
        Place::Inline(recipe) => {
            out.push(INLINE);
            out.extend_from_slice(recipe);
        }
        // A record has at most 16 side chunks.
        Place::Side(number) => out.push(u8::try_from(number).unwrap_or(INLINE - 1)),
    }
    out
}

/// Reads what [`parameters`] wrote.
///
/// # Errors
/// [`FormatError`] where they are damaged.
pub fn parse_parameters(bytes: &[u8]) -> std::result::Result<(u64, Place<'_>), FormatError> {
    let mut reader = Reader::new(bytes, "predictor parameters");
    let first = reader.varint()?;
    let place = match reader.u8()? {
        INLINE => Place::Inline(reader.take(reader.left())?),
        number => Place::Side(usize::from(number)),
    };
    reader.finish()?;
    Ok((first, place))
}

/// The number in records of what a recipe does.
#[must_use]
pub const fn predictor_of(recipe: &predict::Recipe) -> Predictor {
    match (&recipe.step, &recipe.view) {
        (Step::Same, None) => Predictor::Base,
        (Step::Same, Some(_)) => Predictor::Gather,
        (Step::Cast, _) => Predictor::Cast,
        (Step::Linear(_), _) => Predictor::Linear,
        (Step::Adapter(_), _) => Predictor::Adapter,
        (Step::Quantise(_), _) => Predictor::Quantise,
        (Step::LowRank(_), _) => Predictor::LowRank,
        (Step::Blockwise(_), _) => Predictor::Blockwise,
    }
}

/// How many elements of the target a record's plain bytes are.
///
/// # Errors
/// [`FormatError`] where they do not end on the border of a block.
pub fn elements(
    recipe: &predict::Recipe,
    plain_bytes: u64,
) -> std::result::Result<u64, FormatError> {
    let (per_block, block_bytes) = recipe.target.dtype.block();
    if !plain_bytes.is_multiple_of(block_bytes) {
        return Err(FormatError::Invalid {
            rule: "a record of a tensor holds whole blocks",
        });
    }
    Ok(plain_bytes / block_bytes * per_block)
}

/// Predicts the elements from `first` on; `sources` are the bytes of the ranges that the recipe
/// asks for, one after the other. A coding that looks at fractions gets them where there are any.
///
/// # Errors
/// [`FormatError`] where the range does not lie in the tensor, or `sources` are not what the
/// recipe asks for.
pub fn predict(
    recipe: &predict::Recipe,
    first: u64,
    sources: &Pieces,
    plain_bytes: u64,
    coding: Coding,
) -> Result<Predicted> {
    let count = elements(recipe, plain_bytes)?;
    let ranges = recipe.sources(first, count)?;
    let lengths: Vec<u64> = ranges.iter().map(|range| range.bytes).collect();
    let parts = sources.split(&lengths).ok_or(FormatError::Invalid {
        rule: "the views of a record are the source ranges of its recipe",
    })?;
    let parts: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
    if coding == Coding::Residual && recipe.has_patterns() && !matches!(recipe.step, Step::Same) {
        let mut patterns = Patterns::room(size(count));
        recipe.patterns(first, &parts, &mut patterns.0)?;
        return Ok(Predicted::Patterns(patterns));
    }
    let mut bytes = vec![0; size(plain_bytes)];
    recipe.predict(first, &parts, &mut bytes)?;
    Ok(Predicted::Bytes(bytes.into()))
}

/// The elements that patterns stand for, without their fraction, as the recipe itself would round
/// them; nothing where they do not tell.
#[must_use]
pub fn rounded(dtype: DType, patterns: &[u32]) -> Option<Vec<u8>> {
    let bytes = dtype.bytes_of(patterns.len() as u64)?;
    let mut out = vec![0; size(bytes)];
    predict::float::round_patterns(dtype, patterns, &mut out).then_some(out)
}

/// Counts that the limit of a chunk's bytes bounds.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
