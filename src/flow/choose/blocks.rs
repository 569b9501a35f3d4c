//! Codes of 4 bits and the scales of their blocks, as bitsandbytes names them: both follow from the
//! weight that the codes are named like.
//!
//! May use: tiers 0 to 4. Reads nothing before names and shapes fit.

use std::collections::HashMap;

use store_format::dtype::DType;
use store_format::layout::Tensor;

use super::trials::{Target, size};
use super::{Best, Chooser, PARENTS_MAX};
use crate::bytes::ReadAt;
use crate::error::Result;
use crate::flow::approach::{BaseTensor, shape_of};
use crate::flow::relatives::Relatives;
use crate::predict::blockwise::{Blockwise, Rule, Search};
use crate::predict::{Step, float};

/// What the scales of a weight are called beside it.
const SCALES: &str = ".absmax";

/// What stands between a weight's name and how it was made, which is JSON.
const STATE: &str = ".quant_state.";

/// Longer JSON is not looked at.
const STATE_BYTES_MAX: u64 = 1 << 16;

/// What a file says of the blocks of its weights, by their names.
pub(super) struct Blocks<'a> {
    of_weights: HashMap<&'a str, OfWeight>,
}

#[derive(Clone, Copy, Default)]
struct OfWeight {
    /// How many there are.
    count: u64,
    /// Where the JSON stands in the file, and how many bytes it has.
    state: (u64, u64),
}

impl<'a> Blocks<'a> {
    pub(super) fn of(tensors: &'a [Tensor]) -> Self {
        let mut of_weights = HashMap::<_, OfWeight>::new();
        for tensor in tensors {
            if let Some(weight) = tensor.name.strip_suffix(SCALES) {
                of_weights.entry(weight).or_default().count = shape_of(tensor).elements();
            } else if let Some((weight, _)) = tensor.name.split_once(STATE) {
                of_weights.entry(weight).or_default().state = (tensor.start, tensor.bytes);
            }
        }
        Self { of_weights }
    }

    /// What is said of the weight that a tensor is, or has the scales of; nothing of nearly
    /// every tensor.
    fn get(&self, tensor: &Tensor) -> Option<(&str, OfWeight)> {
        let weight = tensor.name.strip_suffix(SCALES).unwrap_or(&tensor.name);
        let fits = matches!(tensor.dtype, DType::U8 | DType::F32);
        let (weight, found) = self.of_weights.get_key_value(weight).filter(|_| fits)?;
        Some((weight, *found))
    }

    /// The weights that a tensor may be blocks of.
    pub(super) fn weights<'r>(&self, tensor: &Tensor, known: &'r Relatives) -> &'r [BaseTensor] {
        self.get(tensor)
            .map_or(&[], |(weight, _)| known.named(weight))
    }
}

impl Chooser<'_> {
    /// Tries every rule on every weight that fits.
    pub(super) fn blockwise(
        &self,
        tensor: &Tensor,
        target: &Target,
        best: &mut Best,
    ) -> Result<()> {
        let Some((weight, said)) = self.blocks.get(tensor) else {
            return Ok(());
        };
        let weights = self.relatives.named(weight).iter();
        let computable = weights.filter(|weight| float::is_computable(weight.shape().dtype));
        for weight in computable.take(PARENTS_MAX) {
            for rule in self.rules(tensor, said)? {
                let elements = weight.shape().elements();
                let Some(blockwise) = Blockwise::of_blocks(rule, elements, said.count) else {
                    break;
                };
                let sources = std::slice::from_ref(weight);
                self.offer(target, None, Step::Blockwise(blockwise), sources, best)?;
                if best.is_exact() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What may have made a tensor, the likeliest first.
    fn rules(&self, tensor: &Tensor, said: OfWeight) -> Result<Vec<Rule>> {
        Ok(match (tensor.name.ends_with(SCALES), tensor.dtype) {
            (true, DType::F32) => vec![Rule::Largest],
            (true, _) => {
                let searches = [Search::Nearest, Search::Stepped];
                let offset = self.offset(said)?.into_iter();
                let rules = offset.flat_map(|offset| {
                    searches.map(|search| Rule::LargestCodes { search, offset })
                });
                rules.collect()
            }
            (false, _) => Blockwise::candidates().into(),
        })
    }

    /// What was taken off the scales of a weight before they were coded themselves.
    fn offset(&self, said: OfWeight) -> Result<Option<f32>> {
        let (start, bytes) = said.state;
        if bytes > STATE_BYTES_MAX {
            return Ok(None);
        }
        let json = self.file.read_vec(start, size(bytes))?;
        let state: Option<serde_json::Value> = serde_json::from_slice(&json).ok();
        let offset = state.and_then(|state| state.get("nested_offset")?.as_f64());
        // It was a binary32 number before it was written down.
        Ok(offset
            .map(|offset| offset as f32)
            .filter(|offset| offset.is_finite()))
    }
}
