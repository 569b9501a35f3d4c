//! Elements of a tensor coded as what their prediction leaves open.
//!
//! May use: `store_format`, `error`. Pure functions: the bytes depend on the arguments alone, and
//! decoded bytes never on the machine's floating point. SPEC.md section 8 is normative.
//!
//! A first pass ([`Statistics`]) makes a [`Model`] that all chunks of a tensor share; then each
//! chunk is coded and decoded on its own.
#![cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(
        dead_code,
        reason = "laid out for vector code that other machines lack"
    )
)]

mod alphabet;
#[cfg(target_arch = "x86_64")]
mod avx2_decode;
#[cfg(target_arch = "x86_64")]
mod avx2_encode;
#[cfg(target_arch = "x86_64")]
mod avx2_fine;
#[cfg(target_arch = "x86_64")]
mod avx2_heads;
#[cfg(target_arch = "x86_64")]
mod avx2_join16;
#[cfg(target_arch = "x86_64")]
mod avx2_join32;
#[cfg(target_arch = "x86_64")]
mod avx2_sample;
#[cfg(target_arch = "x86_64")]
mod avx2_wide;
#[cfg(target_arch = "x86_64")]
mod avx512_context;
#[cfg(target_arch = "x86_64")]
mod avx512_decode;
#[cfg(target_arch = "x86_64")]
mod avx512_join;
mod bits;
mod block;
mod builtin;
mod difference;
mod kernel;
mod magnitude;
mod merge;
mod model;
#[cfg(target_arch = "aarch64")]
mod neon_bits;
#[cfg(target_arch = "aarch64")]
mod neon_context;
#[cfg(target_arch = "aarch64")]
mod neon_decode;
#[cfg(target_arch = "aarch64")]
mod neon_encode;
#[cfg(target_arch = "aarch64")]
mod neon_heads;
#[cfg(target_arch = "aarch64")]
mod neon_join;
#[cfg(target_arch = "aarch64")]
mod neon_sample;
#[cfg(target_arch = "aarch64")]
mod neon_split;
mod number;
mod operands;
mod part;
mod planes;
mod prediction;
mod rans;
mod sample;
mod scale;
mod side;
mod soon;
mod statistics;
mod table;

use store_format::FormatError;
use store_format::dtype::DType;

use self::bits::Fields;
use self::block::{CodedBlock, ENTRY, Mode, block_len};
use self::number::Number;
use self::rans::Decoder;
use self::scale::{GLOBAL_MAX, Scales};
use crate::error::{Error, Result};

use self::model::Kind;
pub use self::model::Model;
pub use self::prediction::Prediction;
pub use self::statistics::Statistics;

/// A tensor as rows of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// The type of its elements.
    pub dtype: DType,
    /// Rows: the product of all dimensions but the last.
    pub rows: u64,
    /// Elements of a row.
    pub cols: u64,
}

impl TensorShape {
    /// Elements of the tensor, where they can be counted.
    #[must_use]
    pub fn elements(self) -> Option<u64> {
        self.rows.checked_mul(self.cols)
    }

    /// Bytes of an element; 0 for types packed in blocks.
    fn width(self) -> usize {
        match self.dtype.block() {
            (1, bytes) => bytes as usize,
            _ => 0,
        }
    }
}

/// How much work an encoder does. Every level has the same decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One scale a tensor, a smaller sample.
    Fast,
    /// Row and column scales where they pay.
    Default,
    /// Everything is tried on more of the tensor.
    Max,
}

/// Whether a type has a model.
#[must_use]
pub fn is_supported(dtype: DType, with_prediction: bool) -> bool {
    model::Family::of(dtype, with_prediction).is_some()
}

/// The most bytes that [`encode`] appends for a chunk of `plain_bytes`.
#[must_use]
pub fn coded_bytes_max(dtype: DType, plain_bytes: usize) -> usize {
    let width = dtype.block().1 as usize;
    let elements = plain_bytes / width.max(1);
    plain_bytes + 64 + ENTRY * elements.div_ceil(block_len(elements))
}

/// Codes the elements from `first_element` on and appends the chunk's bytes.
///
/// `target` holds whole elements, and the prediction one for each; where it does not, the chunk
/// is stored plain. Wants a model that [`Model::builtin`] or a first pass made.
pub fn encode(
    model: &Model,
    first_element: u64,
    target: &[u8],
    prediction: Prediction,
    out: &mut Vec<u8>,
) {
    let width = model.shape.width();
    let usable = prediction.covers(width, target.len() / width);
    let (Kind::Builtin(builtin), true) = (&model.kind, usable) else {
        let scales = model.scales();
        encode_blocks(model, scales, first_element, target, prediction, out);
        return;
    };
    // The mean is a guess where few elements change; its neighbours are tried too.
    let guess = sample::guess_scale(builtin.alphabet.number, target, prediction);
    let mut best = Vec::new();
    for global in [guess - 4, guess, guess + 4] {
        let scales = Scales {
            global,
            ..Scales::default()
        };
        let mut coded = global.to_le_bytes().to_vec();
        encode_blocks(
            model,
            &scales,
            first_element,
            target,
            prediction,
            &mut coded,
        );
        if best.is_empty() || coded.len() < best.len() {
            best = coded;
        }
    }
    out.extend_from_slice(&best);
}

fn encode_blocks(
    model: &Model,
    scales: &Scales,
    first_element: u64,
    target: &[u8],
    prediction: Prediction,
    out: &mut Vec<u8>,
) {
    let width = model.shape.width();
    let len = target.len() / width;
    let block_len = block_len(len);
    let blocks = len.div_ceil(block_len);
    let directory = out.len();
    out.resize(directory + blocks * ENTRY, 0);
    let usable = prediction.covers(width, len);
    for (n, part) in target.chunks(block_len * width).enumerate() {
        let start = n * block_len;
        let first = first_element + start as u64;
        let (mode, stream, raw) = if usable {
            let prediction = prediction.slice(width, start, part.len() / width);
            encode_block(model, scales, first, part, prediction)
        } else {
            (Mode::Plain, Vec::new(), part.to_vec())
        };
        let entry = &mut out[directory + n * ENTRY..][..ENTRY];
        block::write_entry(entry, mode, stream.len(), raw.len());
        out.extend_from_slice(&stream);
        out.extend_from_slice(&raw);
    }
}

fn encode_block(
    model: &Model,
    scales: &Scales,
    first: u64,
    target: &[u8],
    prediction: Prediction,
) -> (Mode, Vec<u8>, Vec<u8>) {
    let width = model.shape.width();
    let number = Number::of(model.shape.dtype);
    let budget = match &model.kind {
        // Elements that are as predicted cost so little that a longer list does not pay.
        Kind::Difference(_) | Kind::Builtin(_) => (target.len() / 32 + 64).min(1024),
        Kind::Magnitude(_) | Kind::Planes { .. } => target.len() / 32 + 64,
    };
    let simple = block::encode_simple(number, width, target, prediction, budget);
    if let Some((mode @ (Mode::Equal | Mode::Constant), raw)) = simple {
        return (mode, Vec::new(), raw);
    }
    let (stream, raw) = match &model.kind {
        Kind::Difference(model) => model.encode(scales, first, target, prediction),
        Kind::Builtin(model) => model.encode(scales, first, target, prediction),
        Kind::Magnitude(model) => model.encode(first, target),
        Kind::Planes { float, planes } => (Vec::new(), planes.encode(*float, target, prediction)),
    };
    let coded = stream.len() + raw.len();
    match simple {
        Some((mode, raw)) if raw.len() <= coded => (mode, Vec::new(), raw),
        _ if coded >= target.len() => (Mode::Plain, Vec::new(), target.to_vec()),
        _ => (Mode::Coded, stream, raw),
    }
}

/// Decodes a chunk of the elements from `first_element` on into `out`, whose length says how many
/// there are.
///
/// # Errors
/// Bytes that are not a chunk of these elements. Most damage is found here, all of it by the
/// caller's check of the plain bytes.
pub fn decode(
    model: &Model,
    first_element: u64,
    coded: &[u8],
    prediction: Prediction,
    out: &mut [u8],
) -> Result<()> {
    let width = model.shape.width();
    let len = out.len() / width;
    let end = first_element.checked_add(len as u64);
    if !out.len().is_multiple_of(width) || end.is_none_or(|end| Some(end) > model.shape.elements())
    {
        return Err(Error::corrupt(
            "a chunk's elements do not lie in its tensor",
        ));
    }
    if !prediction.covers(width, len) {
        return Err(Error::corrupt(
            "a prediction has another length than its chunk",
        ));
    }
    if !model.is_for(prediction) {
        return Err(Error::corrupt(
            "a model for predictions is used without one, or the other way round",
        ));
    }
    let mut own = Scales::default();
    let mut scales = model.scales();
    let mut fields = Fields::new(coded, "a chunk of coded elements");
    if model.is_builtin() {
        own.global = fields.i16()?.clamp(-GLOBAL_MAX, GLOBAL_MAX);
        scales = &own;
    }
    let block_len = block_len(len);
    let blocks = block::read_directory(fields, len.div_ceil(block_len))?;
    let number = Number::of(model.shape.dtype);
    // Two blocks side by side take little longer than one, so one waits for the next.
    let mut waiting = None;
    let parts = out.chunks_mut(block_len * width);
    for (n, (block, out)) in blocks.iter().zip(parts).enumerate() {
        let start = n * block_len;
        let prediction = prediction.slice(width, start, out.len() / width);
        if block::decode_simple(block, number, width, prediction, out)? {
            continue;
        }
        let lanes = match &model.kind {
            Kind::Builtin(model) => model.lanes,
            Kind::Difference(model) => model.lanes,
            Kind::Magnitude(_) => rans::LANES,
            Kind::Planes { float, planes } => {
                if !block.stream.is_empty() {
                    return Err(block::STREAM.into());
                }
                planes.decode(*float, block.raw, prediction, out)?;
                continue;
            }
        };
        let coded = CodedBlock {
            first: first_element + start as u64,
            decoder: Decoder::new(block.stream, lanes)?,
            raw: block.raw,
            prediction,
            out,
        };
        match waiting.take() {
            None => waiting = Some(coded),
            Some(before) => decode_coded(model, scales, [before, coded])?,
        }
    }
    if let Some(last) = waiting {
        decode_coded(model, scales, [last])?;
    }
    Ok(())
}

fn decode_coded<const N: usize>(
    model: &Model,
    scales: &Scales,
    blocks: [CodedBlock; N],
) -> std::result::Result<(), FormatError> {
    match &model.kind {
        Kind::Builtin(model) => model.decode(scales, blocks),
        Kind::Difference(model) => model.decode(scales, blocks),
        Kind::Magnitude(model) => model.decode(blocks),
        // These have no blocks that wait.
        Kind::Planes { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests;
