//! What an operation says of the tensors that it made: their predictions need not be looked for.
//!
//! May use: tiers 0 to 4. A wrong hint costs bytes, never correctness.
//!
//! The factors of a change are written first, as chunks of the same transaction: the records of
//! the changed tensors name them as sources, so they live as long as those do.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use store_format::dtype::DType;

use crate::bytes::FileBytes;
use crate::error::Result;
use crate::flow::approach::{Approach, BaseTensor, ByRecipe, shape_of};
use crate::flow::code::{Writer, Written};
use crate::flow::write;
use crate::layout::{self, Parsed};
use crate::plan::pair::BaseFile;
use crate::predict::adapter::{Adapter, Form, Order};
use crate::predict::{Recipe, Shape, Step};

/// How a change is made of its factors: summed over rising components without fused operations,
/// added in binary32, rounded once.
pub const CHANGE: Adapter = Adapter {
    scale: 1.0,
    order: Order::Plain,
    change: DType::F32,
    form: Form::ByOutput,
};

/// The names of a tensor's factors: rows of its inputs, then a row for each of its rows.
#[must_use]
pub fn factor_names(tensor: &str) -> [String; 2] {
    [format!("{tensor}.A"), format!("{tensor}.B")]
}

/// The recipe of a tensor that was changed by factors.
///
/// # Errors
/// Shapes that do not fit.
pub fn recipe(target: Shape, base: Shape, factors: [Shape; 2]) -> Result<Recipe> {
    let [a, b] = factors;
    Ok(Recipe::new(
        target,
        vec![base, a, b],
        None,
        Step::Adapter(CHANGE),
    )?)
}

/// Turns the approaches of tensors whose changes stand in a file of the same path below `folder`
/// from their base to their factors; which those are, and what became of the factors.
///
/// # Errors
/// Failures of the disk.
pub fn changed_by_factors(
    writer: &Writer<'_>,
    folder: &Path,
    path: &str,
    parsed: &Parsed,
    approaches: &mut [Approach],
) -> Result<(BTreeSet<usize>, Written)> {
    let source = folder.join(path);
    if !source.is_file() {
        return Ok((BTreeSet::new(), Written::default()));
    }
    let file = FileBytes::open(&source)?;
    let in_factors = layout::parse(path, &file)?;
    let plain = vec![Approach::None; in_factors.tensors.len()];
    let (manifest, written) = write::file(writer, &file, &in_factors, &plain)?;
    let factors = Arc::new(BaseFile::new(manifest));
    let places: HashMap<&str, usize> = in_factors
        .tensors
        .iter()
        .enumerate()
        .map(|(index, tensor)| (tensor.name.as_str(), index))
        .collect();
    let mut changed = BTreeSet::new();
    for (index, target) in parsed.tensors.iter().enumerate() {
        let [a, b] = factor_names(&target.name).map(|name| {
            Some(BaseTensor {
                file: Arc::clone(&factors),
                index: *places.get(name.as_str())?,
            })
        });
        if let (Approach::Base(base), Some(a), Some(b)) = (&approaches[index], a, b) {
            let recipe = recipe(shape_of(target), base.shape(), [a.shape(), b.shape()])?;
            let recipe = ByRecipe::new(recipe, vec![base.clone(), a, b]);
            approaches[index] = Approach::Recipe(Arc::new(recipe));
            changed.insert(index);
        }
    }
    Ok((changed, written))
}
