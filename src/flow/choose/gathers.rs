//! Rows and columns of known tensors in another place: pruned, appended, fused, split, transposed
//! or in another order.
//!
//! May use: tiers 0 to 4.

use std::sync::Arc;

use store_format::layout::Tensor;

use super::Chooser;
use super::trials::{Target, size, span};
use crate::bytes::ReadAt;
use crate::error::Result;
use crate::flow::approach::{Approach, BaseTensor, ByRecipe, shape_of};
use crate::plan::trial;
use crate::predict::gather::find::{RowIndex, columns, row_hash};
use crate::predict::gather::{Gather, Rows};
use crate::predict::{Recipe, Shape, Step};

/// Sizes of heads whose halves are tried in the other order.
const HEAD_SIZES: [u64; 9] = [64, 128, 32, 96, 80, 256, 48, 40, 16];

/// Rows that columns are recognised by.
const COLUMN_ROWS: u64 = 8;

/// Bytes of rows that are hashed at a time, and the longest row that is looked at.
const READ_BYTES: u64 = 4 << 20;

/// Rows or columns that are looked for among as many: an index of them takes some 50 bytes each,
/// and there may be an element to each.
const LINES_MAX: u64 = 1 << 20;

/// Weights that some models keep in one tensor: the name of the whole, and of its parts in order.
const FUSED: [(&str, &[&str]); 6] = [
    ("qkv_proj", &["q_proj", "k_proj", "v_proj"]),
    ("query_key_value", &["q_proj", "k_proj", "v_proj"]),
    ("Wqkv", &["q_proj", "k_proj", "v_proj"]),
    ("attn_qkv", &["attn_q", "attn_k", "attn_v"]),
    ("gate_up_proj", &["gate_proj", "up_proj"]),
    ("c_attn", &["q_proj", "k_proj", "v_proj"]),
];

/// The orders of rows in which rotary halves may stand: halves to pairs, and back.
pub(super) fn rotary_orders(shape: Shape) -> impl Iterator<Item = Gather> {
    let sizes = HEAD_SIZES
        .into_iter()
        .filter(move |size| shape.rows.is_multiple_of(*size) && shape.rows > 1);
    sizes.flat_map(|size| {
        [(2, size / 2), (size / 2, 2)].map(|(a, b)| Gather {
            sources: 1,
            rows: Rows::Swap { a, b },
            cols: None,
        })
    })
}

impl Chooser<'_> {
    /// Finds the tensor's rows or columns in tensors of the same meaning, or in those that it
    /// was fused from or split off; else what it was given.
    pub(super) fn gathered(
        &self,
        tensor: &Tensor,
        otherwise: Approach,
        target: Option<&Target>,
    ) -> Result<Approach> {
        let shape = shape_of(tensor);
        if shape.elements() == 0 || shape.dtype.block().0 != 1 || tensor.shape.len() < 2 {
            return Ok(otherwise);
        }
        let own;
        let target = if let Some(target) = target {
            target
        } else {
            own = Target::read(self.file, tensor, shape, trial::strips(shape, trial::FEW))?;
            &own
        };
        for sources in self.families(&tensor.name) {
            let fitting = |base: &BaseTensor| base.shape().dtype == shape.dtype;
            if sources.is_empty() || !sources.iter().all(fitting) {
                continue;
            }
            let view = match sources.as_slice() {
                [one] if one.shape().rows == shape.cols && one.shape().cols == shape.rows => {
                    Some(Gather::transposed())
                }
                [one] if one.shape().rows == shape.rows && one.shape().cols != shape.cols => {
                    self.columns(target, one)?
                }
                all if all.iter().all(|base| base.shape().cols == shape.cols) => {
                    self.rows(target, all)?
                }
                _ => None,
            };
            let Some(view) = view else { continue };
            let shapes = sources.iter().map(BaseTensor::shape).collect();
            let Ok(recipe) = Recipe::new(shape, shapes, Some(view), Step::Same) else {
                continue;
            };
            let recipe = Arc::new(ByRecipe::new(recipe, sources));
            if self.cost(target, &recipe)? < trial::plain_cost(target.bytes.len()) / 2.0 {
                return Ok(Approach::Recipe(recipe));
            }
        }
        Ok(otherwise)
    }

    /// Tensors that may hold the rows of a tensor, each with the others it was fused with.
    fn families(&self, name: &str) -> Vec<Vec<BaseTensor>> {
        let named = |name: &str| self.relatives.named(name);
        let mut families: Vec<Vec<BaseTensor>> =
            named(name).iter().map(|one| vec![one.clone()]).collect();
        for (whole, parts) in FUSED {
            if name.contains(whole) {
                let parts: Option<Vec<_>> = parts
                    .iter()
                    .map(|part| named(&name.replace(whole, part)).first().cloned())
                    .collect();
                families.extend(parts);
            }
            for part in parts.iter().filter(|part| name.contains(**part)) {
                let whole = named(&name.replace(part, whole)).first();
                families.extend(whole.map(|whole| vec![whole.clone()]));
            }
        }
        families
    }

    /// Where each row of the target stands in the sources.
    fn rows(&self, target: &Target, sources: &[BaseTensor]) -> Result<Option<Gather>> {
        let row = span(target.shape.dtype, 0, target.shape.cols).1;
        let known = sources.iter().map(|source| source.shape().rows);
        if row == 0 || row > READ_BYTES || target.shape.rows.max(known.sum()) > LINES_MAX {
            return Ok(None);
        }
        let mut index = RowIndex::new();
        for source in sources {
            index.add_source();
            let shape = source.shape();
            let step = (READ_BYTES / row).max(1);
            for first in (0..shape.rows).step_by(size(step)) {
                let count = step.min(shape.rows - first);
                let cells = (first * shape.cols, count * shape.cols);
                let Some(bytes) = self.elements(shape.dtype, source, cells.0, cells.1)? else {
                    return Ok(None);
                };
                bytes
                    .chunks_exact(size(row))
                    .for_each(|row| index.add_row(row));
                self.writer.progress.check()?;
            }
        }
        let known = target
            .bytes
            .chunks_exact(size(row))
            .filter(|row| index.has_row(row))
            .count();
        if known * 2 < target.bytes.len() / size(row) {
            return Ok(None);
        }
        let mut hashes = Vec::with_capacity(size(target.shape.rows));
        let step = (READ_BYTES / row).max(1);
        for first in (0..target.shape.rows).step_by(size(step)) {
            let count = step.min(target.shape.rows - first);
            let bytes = self
                .file
                .read_vec(target.start + first * row, size(count * row))?;
            hashes.extend(bytes.chunks_exact(size(row)).map(row_hash));
        }
        let Some(runs) = index.find(hashes.into_iter()) else {
            return Ok(None);
        };
        // At most 64 sources are named in a recipe.
        let count = u8::try_from(sources.len()).unwrap_or(u8::MAX);
        Ok(Some(Gather::listed(count, runs)))
    }

    /// Where each column of the target stands in the source, judged by a few rows.
    fn columns(&self, target: &Target, source: &BaseTensor) -> Result<Option<Gather>> {
        let (new, old) = (target.shape, source.shape());
        let cols = new.cols.max(old.cols);
        if cols > LINES_MAX || span(new.dtype, 0, cols).1 > READ_BYTES {
            return Ok(None);
        }
        let rows = COLUMN_ROWS.min(new.rows);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for row in (0..rows).map(|n| n * (new.rows - 1) / (rows - 1).max(1)) {
            let (start, bytes) = span(new.dtype, row * new.cols, new.cols);
            after.push(self.file.read_vec(target.start + start, size(bytes))?);
            let old = self.elements(old.dtype, source, row * old.cols, old.cols)?;
            let Some(old) = old else { return Ok(None) };
            before.push(old);
        }
        let before: Vec<&[u8]> = before.iter().map(|strip| &**strip).collect();
        let after: Vec<&[u8]> = after.iter().map(Vec::as_slice).collect();
        let width = size(new.dtype.block().1);
        Ok(columns(&before, &after, width).map(Gather::columns))
    }
}
