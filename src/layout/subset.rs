//! A safetensors header for some of the tensors of a file: what a partial checkout writes first.
//!
//! May use: `error`, `store_format`. Must never touch the tensors' bytes.

use std::collections::{BTreeMap, HashSet};

use store_format::layout::Tensor;

use super::HEADER_BYTES_MAX;
use super::safetensors::{LENGTH_BYTES, METADATA, is_known};
use crate::error::{Error, Result};

/// The header ends on a multiple of this, so that the data behind it are aligned.
const ALIGNMENT: usize = 8;

/// A new file: its first bytes, and the tensors that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subset {
    /// The header with its length in front and its padding.
    pub header: Vec<u8>,
    /// The tensors with their place in the new file, without gaps, in the order in which their
    /// bytes follow the header.
    pub tensors: Vec<Tensor>,
    /// For each of `tensors`, its first byte in the old file.
    pub sources: Vec<u64>,
}

/// The safetensors file that holds `tensors` only, in the order of their old place.
///
/// # Errors
/// Usage: a name that stands there twice or is reserved, an element type that safetensors does
/// not have, a length that does not fit the shape, or a header beyond the format's limit.
pub fn safetensors_subset(
    tensors: &[Tensor],
    metadata: &BTreeMap<String, String>,
) -> Result<Subset> {
    let mut tensors = tensors.to_vec();
    tensors.sort_by_key(|tensor| (tensor.start, tensor.bytes));
    check(&tensors)?;
    let mut json = String::from("{");
    if !metadata.is_empty() {
        json.push_str(&format!("{}:", text(METADATA)));
        json.push_str(&serde_json::json!(metadata).to_string());
    }
    let sources = tensors.iter().map(|tensor| tensor.start).collect();
    let mut end = 0_u64;
    for tensor in &mut tensors {
        tensor.start = end;
        end = end
            .checked_add(tensor.bytes)
            .ok_or_else(|| Error::usage("the tensors are too long together"))?;
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&format!(
            "{}:{{\"dtype\":\"{}\",\"shape\":{},\"data_offsets\":[{},{}]}}",
            text(&tensor.name),
            tensor.dtype.name(),
            serde_json::json!(tensor.shape),
            tensor.start,
            end,
        ));
    }
    json.push('}');
    while !json.len().is_multiple_of(ALIGNMENT) {
        json.push(' ');
    }
    let length = json.len() as u64;
    if length > HEADER_BYTES_MAX {
        return Err(Error::usage("too many tensors for one safetensors file"));
    }
    for tensor in &mut tensors {
        tensor.start = tensor
            .start
            .checked_add(LENGTH_BYTES + length)
            .ok_or_else(|| Error::usage("the tensors are too long together"))?;
    }
    Ok(Subset {
        header: [&length.to_le_bytes(), json.as_bytes()].concat(),
        tensors,
        sources,
    })
}

/// A JSON text.
fn text(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// Refuses what no safetensors reader would take.
fn check(tensors: &[Tensor]) -> Result<()> {
    let mut names = HashSet::new();
    for Tensor {
        name,
        dtype,
        shape,
        bytes,
        ..
    } in tensors
    {
        if name == METADATA || !names.insert(name) {
            let what = format!("tensor '{name}' cannot stand in one safetensors file");
            return Err(Error::usage(what));
        }
        if !is_known(*dtype) {
            return Err(Error::usage(format!(
                "tensor '{name}' has type {}, which safetensors does not have",
                dtype.name()
            )));
        }
        let elements = shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
        if elements.and_then(|n| dtype.bytes_of(n)) != Some(*bytes) {
            return Err(Error::usage(format!(
                "the shape of tensor '{name}' does not fit its length"
            )));
        }
    }
    Ok(())
}
