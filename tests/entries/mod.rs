//! The doors through which untrusted bytes reach the library's own decoders, one function each:
//! what the mutation test and the fuzz targets call. Each takes one run of bytes that holds all
//! of a decoder's arguments, and says whether they were good.
#![allow(dead_code, reason = "every fuzz target uses a part of it")]

use sparse_store::codec::residual::{self, Model, Prediction, TensorShape};
use sparse_store::codec::{self, Elements};
use sparse_store::layout;
use sparse_store::predict;
use store_format::dtype::DType;
use store_format::record::{Coding, Predictor, Recipe};

/// Reads the arguments out of a run of bytes.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(part)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|part| part[0])
    }

    fn number(&mut self) -> Option<usize> {
        let part = self.take(2)?;
        Some(usize::from(u16::from_le_bytes([part[0], part[1]])))
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let bytes = self.number()?.min(self.0.len());
        self.take(bytes)
    }
}

/// Writes the arguments of a door, for seeds.
#[derive(Default)]
pub struct Arguments(pub Vec<u8>);

impl Arguments {
    /// A byte.
    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// A number of two bytes.
    pub fn number(mut self, number: usize) -> Self {
        let number = u16::try_from(number).expect("a small number");
        self.0.extend(number.to_le_bytes());
        self
    }

    /// Bytes that know their length.
    pub fn part(mut self, bytes: &[u8]) -> Self {
        self = self.number(bytes.len());
        self.rest(bytes)
    }

    /// The last bytes.
    pub fn rest(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }
}

/// Any bytes are a file of some layout, whose regions and spans fill it.
pub fn layout(bytes: &[u8]) -> bool {
    let parsed = layout::parse("x.bin", bytes).expect("a slice can always be read");
    assert!(parsed.tiles(bytes.len() as u64));
    let pieces = layout::cut(&parsed, bytes);
    let total: u64 = pieces
        .map(|piece| piece.expect("a slice can always be read").span.bytes)
        .sum();
    assert_eq!(total, bytes.len() as u64);
    let _ = layout::shards::weight_map(bytes);
    let _ = layout::gguf_meta(bytes);
    let _ = layout::safetensors_metadata(bytes);
    !parsed.tensors.is_empty()
}

/// Any bytes as coded bytes of any coding: an error, or as many bytes as were asked for.
pub fn coding(bytes: &[u8]) -> bool {
    coded(bytes).is_some()
}

fn coded(bytes: &[u8]) -> Option<()> {
    let mut fields = Fields(bytes);
    let coding = Coding::from_number(fields.byte()? % 7).ok()?;
    let (parameters, side) = (fields.part()?, fields.part()?);
    let (predicted, plain_bytes) = (fields.part()?, fields.number()?);
    let recipe = Recipe {
        predictor: Predictor::Base,
        ..Recipe::plain(coding, parameters.to_vec())
    };
    let elements = Elements::from_parameters(parameters).ok();
    let model = elements.and_then(|elements| Model::parse(elements.shape, side).ok());
    let predicted = Prediction::Same(predicted);
    let plain = codec::decode(&recipe, fields.0, predicted, model.as_ref(), plain_bytes).ok()?;
    assert_eq!(plain.len(), plain_bytes);
    Some(())
}

/// Any bytes as a tensor's model and as elements coded by it.
pub fn residual(bytes: &[u8]) -> bool {
    modelled(bytes).is_some()
}

fn modelled(bytes: &[u8]) -> Option<()> {
    let mut fields = Fields(bytes);
    let kind = fields.byte()?;
    // Some are long enough for two blocks side by side.
    let times = if kind < 128 { 1 } else { 8 };
    let dtype = DType::from_number(fields.byte()?).ok()?;
    let first = fields.number()? as u64;
    let (rows, cols) = (fields.number()? as u64, fields.number()? as u64);
    let (side, prediction) = (fields.part()?, fields.part()?.repeat(times));
    let mut plain = vec![0; times * fields.number()?];
    let model = match rows {
        0 => Model::builtin(dtype, true)?,
        _ => {
            let shape = TensorShape { dtype, rows, cols };
            let model = Model::parse(shape, side).ok()?;
            assert!(Model::parse(shape, &model.to_bytes()).is_ok());
            model
        }
    };
    let fours = prediction.as_chunks::<4>().0.iter();
    let patterns: Vec<_> = fours.map(|four| u32::from_le_bytes(*four)).collect();
    let prediction = match kind % 3 {
        0 => Prediction::None,
        1 => Prediction::Same(&prediction),
        _ => Prediction::Fraction(&patterns),
    };
    residual::decode(&model, first, fields.0, prediction, &mut plain).ok()
}

/// Source bytes that a prediction may ask for here; beyond it only asking is tried.
const SOURCE_BYTES_MAX: u64 = 1 << 18;

/// Any bytes as the parameters of a predictor, and as its sources.
pub fn prediction(bytes: &[u8]) -> bool {
    predicted(bytes).is_some()
}

fn predicted(bytes: &[u8]) -> Option<()> {
    let mut fields = Fields(bytes);
    let recipe = predict::Recipe::parse(fields.part()?).ok()?;
    let again = predict::Recipe::parse(&recipe.to_bytes()).expect("what was read can be written");
    assert_eq!(again, recipe);
    let (first, blocks) = (fields.number()? as u64, fields.number()? as u64);
    let (per_block, block_bytes) = recipe.target.dtype.block();
    let count = blocks * per_block;
    let ranges = recipe.sources(first, count).ok()?;
    if ranges.iter().map(|range| range.bytes).sum::<u64>() > SOURCE_BYTES_MAX {
        return None;
    }
    let mut source = fields.0.iter().copied().cycle();
    let mut fill = |bytes: u64| -> Vec<u8> {
        let filled = (0..bytes).map(|_| source.next().unwrap_or(7));
        filled.collect()
    };
    let parts: Vec<_> = ranges.iter().map(|range| fill(range.bytes)).collect();
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    let mut plain = vec![0; usize::try_from(blocks * block_bytes).ok()?];
    recipe.predict(first, &parts, &mut plain).ok()?;
    if recipe.has_patterns() {
        let mut patterns = vec![0; usize::try_from(count).ok()?];
        let _ = recipe.patterns(first, &parts, &mut patterns);
    }
    Some(())
}
