//! A stored file in which some tensors are made anew: what an operation changes, and the rest as
//! it is stored.
//!
//! May use: tiers 0 to 4. Memory is bounded by the pool's budget.

use std::collections::BTreeMap;

use store_format::record::{Part, View};

use crate::error::Result;
use crate::flow::approach::{BaseTensor, shape_of};
use crate::flow::checkout::IN_FLIGHT;
use crate::flow::read::Rebuilder;
use crate::flow::viewed::Viewed;
use crate::par::Pool;
use crate::plan::pair::BaseFile;
use crate::predict::float;
use crate::progress::Progress;

/// Elements that are made at a time.
const PIECE_ELEMENTS: u64 = 1 << 20;

/// A piece of the new file.
enum Piece<'m, M> {
    Stored(Part),
    /// The maker, the first element, the bytes.
    Made(&'m M, u64, u64),
}

/// Gives the bytes of a file in order, those of the tensors in `makers` as `make` makes them:
/// from an element on, so many bytes.
///
/// # Errors
/// `NotFound` and `Corrupt` where the store is hurt; what `make` and `give` return.
pub fn write<M: Sync>(
    rebuilder: &Rebuilder,
    pool: &Pool,
    file: &BaseFile,
    makers: &BTreeMap<usize, M>,
    make: impl Fn(&M, u64, u64) -> Result<Viewed> + Sync,
    mut give: impl FnMut(&[u8]) -> Result<()>,
    progress: &dyn Progress,
) -> Result<()> {
    let jobs = pieces(file, makers).map(|piece| {
        let bytes = match &piece {
            Piece::Stored(part) => part.bytes,
            Piece::Made(_, _, bytes) => *bytes,
        };
        let stated = usize::try_from(bytes).map_or(usize::MAX, |bytes| bytes.saturating_mul(3));
        Ok((stated, piece))
    });
    pool.ordered(
        jobs,
        IN_FLIGHT,
        |piece| match piece {
            Piece::Stored(part) => rebuilder.view(&View { parts: vec![part] }),
            Piece::Made(maker, first, bytes) => make(maker, first, bytes),
        },
        |bytes| {
            give(&bytes)?;
            progress.advance(bytes.len() as u64, 0);
            progress.check()
        },
    )
}

/// The pieces of a file in order.
fn pieces<'m, M>(
    file: &BaseFile,
    makers: &'m BTreeMap<usize, M>,
) -> impl Iterator<Item = Piece<'m, M>> {
    let manifest = file.manifest();
    let tensors = &manifest.tensors;
    let made = makers
        .iter()
        .filter_map(|(index, maker)| Some((tensors.get(*index)?, maker)));
    let mut made: Vec<_> = made.filter(|(tensor, _)| tensor.bytes > 0).collect();
    made.sort_by_key(|(tensor, _)| tensor.start);
    let mut at = 0;
    let mut stretches = Vec::new();
    for (tensor, maker) in made {
        stretches.push((at, tensor.start, None));
        at = tensor.start + tensor.bytes;
        stretches.push((tensor.start, at, Some((tensor.dtype, maker))));
    }
    stretches.push((at, manifest.bytes, None));
    let stored = |start: u64, end: u64| {
        let mut view = View::default();
        file.parts(start, end - start, end, &mut view);
        view.parts.into_iter().map(Piece::Stored)
    };
    let stretches = stretches.into_iter().map(move |(start, end, maker)| {
        let (parts, made) = match maker {
            None => (Some(stored(start, end)), None),
            Some((dtype, maker)) => {
                let step = dtype.bytes_of(PIECE_ELEMENTS).unwrap_or(end - start).max(1);
                let count = (end - start).div_ceil(step);
                let piece = move |n: u64| {
                    let bytes = step.min(end - start - n * step);
                    Piece::Made(maker, n * PIECE_ELEMENTS, bytes)
                };
                (None, Some((0..count).map(piece)))
            }
        };
        parts
            .into_iter()
            .flatten()
            .chain(made.into_iter().flatten())
    });
    stretches.flatten()
}

/// Elements of a stored tensor as numbers; 0 where they are not finite.
///
/// # Errors
/// `NotFound` and `Corrupt` where the store is hurt.
pub fn values(
    rebuilder: &Rebuilder,
    tensor: &BaseTensor,
    first: u64,
    count: u64,
) -> Result<Vec<f32>> {
    let dtype = shape_of(tensor.tensor()).dtype;
    let bytes_of = |elements| dtype.bytes_of(elements).unwrap_or(0);
    let mut view = View::default();
    tensor.parts(bytes_of(first), bytes_of(count), &mut view);
    let bytes = rebuilder.view(&view)?;
    let mut values = float::widened(dtype, &bytes);
    values
        .iter_mut()
        .filter(|value| !value.is_finite())
        .for_each(|value| *value = 0.0);
    Ok(values)
}
