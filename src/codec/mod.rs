//! Bytes and their prediction to fewer bytes, and back.
//!
//! May use: `error`, `store_format`, `vectors`. Must never know where a prediction comes from.
//! Holds: decoding what was encoded with the same prediction gives the same bytes.

mod frame;
pub mod planes;
pub mod residual;

use store_format::FormatError;
use store_format::cursor::{Reader, put_varint};
use store_format::dtype::DType;
use store_format::record::{Coding, Recipe};

use planes::Width;
use residual::{Model, Prediction, TensorShape};

pub use residual::Level;

const fn zstd_level(level: Level) -> i32 {
    match level {
        Level::Fast => 1,
        Level::Default => 3,
        Level::Max => 15,
    }
}

/// Coded bytes and how to read them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// How they were coded.
    pub coding: Coding,
    /// What the decoder must know beyond the prediction.
    pub parameters: Vec<u8>,
    /// The coded bytes.
    pub bytes: Vec<u8>,
}

impl Coded {
    /// The bytes as they are.
    #[must_use]
    pub fn stored(plain: &[u8]) -> Self {
        Self {
            coding: Coding::Stored,
            parameters: Vec::new(),
            bytes: plain.to_vec(),
        }
    }

    /// The smaller of two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let cost = |coded: &Self| coded.bytes.len() + coded.parameters.len();
        if cost(&other) < cost(&self) {
            other
        } else {
            self
        }
    }
}

/// Codes bytes without a prediction. `width` is the width of an element, where there are any.
#[must_use]
pub fn encode_plain(plain: &[u8], width: Option<Width>, level: Level) -> Coded {
    let coded = match width {
        Some(width) if width != Width::W1 => Coded {
            coding: Coding::Planes,
            parameters: vec![width.bytes()],
            bytes: planes::encode(plain, width, zstd_level(level)),
        },
        Some(_) | None => Coded {
            coding: Coding::Zstd,
            parameters: Vec::new(),
            bytes: frame::encode(plain, zstd_level(level)),
        },
    };
    // A coding that saves less than 1 part in 64 is not worth its decoding.
    if coded.bytes.len() + plain.len() / 64 < plain.len() {
        coded
    } else {
        Coded::stored(plain)
    }
}

/// Codes bytes as the difference from a prediction of the same length.
#[must_use]
pub fn encode_difference(plain: &[u8], predicted: &[u8], width: Width, level: Level) -> Coded {
    if plain == predicted {
        return Coded {
            coding: Coding::Exact,
            parameters: Vec::new(),
            bytes: Vec::new(),
        };
    }
    Coded {
        coding: Coding::Difference,
        parameters: vec![width.bytes()],
        bytes: planes::encode_difference(plain, predicted, width, zstd_level(level)),
    }
}

/// Where the elements of a chunk lie in their tensor, as a model sees them. The built-in model
/// has no tensor: no rows and no columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elements {
    /// The tensor as rows.
    pub shape: TensorShape,
    /// The chunk's first element, counted from the tensor's start.
    pub first: u64,
}

impl Elements {
    /// Whether the chunk is coded by the built-in model, without side information.
    #[must_use]
    pub const fn is_built_in(self) -> bool {
        self.shape.rows == 0 && self.shape.cols == 0
    }

    fn to_parameters(self) -> Vec<u8> {
        let mut out = vec![self.shape.dtype.number()];
        for value in [self.first, self.shape.rows, self.shape.cols] {
            put_varint(value, &mut out);
        }
        out
    }

    /// Reads the parameters of a modelled coding.
    ///
    /// # Errors
    /// [`FormatError`] where they are damaged.
    pub fn from_parameters(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(bytes, "coding parameters");
        let dtype = DType::from_number(reader.u8()?)?;
        let first = reader.varint()?;
        let shape = TensorShape {
            dtype,
            rows: reader.varint()?,
            cols: reader.varint()?,
        };
        reader.finish()?;
        let elements = Self { shape, first };
        if shape.elements().is_none() || (elements.is_built_in() && first != 0) {
            return Err(FormatError::Invalid {
                rule: "a tensor's elements can be counted",
            });
        }
        Ok(elements)
    }
}

/// Codes elements by the model of tiny tensors, which needs no side information; nothing for
/// types that have none.
#[must_use]
pub fn encode_built_in(plain: &[u8], prediction: Prediction<'_>, dtype: DType) -> Option<Coded> {
    let model = Model::builtin(dtype, true)?;
    let elements = Elements {
        shape: TensorShape {
            dtype,
            rows: 0,
            cols: 0,
        },
        first: 0,
    };
    Some(encode_modelled(plain, prediction, &model, elements))
}

/// Codes elements by their tensor's model: with a prediction the residual, else the weights.
#[must_use]
pub fn encode_modelled(
    plain: &[u8],
    prediction: Prediction<'_>,
    model: &Model,
    elements: Elements,
) -> Coded {
    let coding = match prediction {
        Prediction::None => Coding::Weights,
        Prediction::Same(_) | Prediction::Fraction(_) => Coding::Residual,
    };
    if model.is_builtin()
        && !elements.is_built_in()
        && coding == Coding::Residual
        && let Some(coded) = encode_built_in(plain, prediction, elements.shape.dtype)
    {
        return coded;
    }
    let mut bytes = Vec::with_capacity(plain.len() / 2);
    residual::encode(model, elements.first, plain, prediction, &mut bytes);
    Coded {
        coding,
        parameters: elements.to_parameters(),
        bytes,
    }
}

/// Rebuilds `plain_bytes` bytes. `prediction` is for a coding that corrects one, `model` the side information of a modelled coding. The caller compares the result with its
/// id: damaged bytes may decode to other bytes.
///
/// # Errors
/// Damaged coded bytes or parameters.
pub fn decode(
    recipe: &Recipe,
    coded: &[u8],
    prediction: Prediction<'_>,
    model: Option<&Model>,
    plain_bytes: usize,
) -> crate::error::Result<Vec<u8>> {
    let parameters = recipe.coding_parameters.as_slice();
    let predicted = || match prediction {
        Prediction::Same(bytes) if bytes.len() == plain_bytes => Ok(bytes),
        Prediction::Same(_) | Prediction::Fraction(_) | Prediction::None => {
            Err(FormatError::Invalid {
                rule: "a prediction is as long as the bytes that it predicts",
            })
        }
    };
    let modelled = |prediction: Prediction<'_>| {
        let elements = Elements::from_parameters(parameters)?;
        let built_in = elements.is_built_in().then(|| {
            let predicted = recipe.coding == Coding::Residual;
            Model::builtin(elements.shape.dtype, predicted)
        });
        let built_in = built_in.flatten();
        let model = model.filter(|model| model.shape() == elements.shape);
        let model = built_in.as_ref().or(model).ok_or(FormatError::Invalid {
            rule: "a modelled record names its model",
        })?;
        let mut plain = vec![0; plain_bytes];
        residual::decode(model, elements.first, coded, prediction, &mut plain)?;
        Ok(plain)
    };
    match recipe.coding {
        Coding::Stored => {
            no_parameters(parameters)?;
            Ok(exactly(coded, plain_bytes)?)
        }
        Coding::Zstd => {
            no_parameters(parameters)?;
            Ok(frame::decode(coded, plain_bytes)?)
        }
        Coding::Planes => Ok(planes::decode(coded, width(parameters)?, plain_bytes)?),
        Coding::Difference => Ok(planes::decode_difference(
            coded,
            predicted()?,
            width(parameters)?,
        )?),
        Coding::Exact => {
            no_parameters(parameters)?;
            exactly(coded, 0)?;
            Ok(predicted()?.to_vec())
        }
        Coding::Residual => match prediction {
            Prediction::Same(_) | Prediction::Fraction(_) => modelled(prediction),
            Prediction::None => Err(FormatError::Invalid {
                rule: "a residual corrects a prediction",
            }
            .into()),
        },
        Coding::Weights => modelled(Prediction::None),
    }
}

fn no_parameters(parameters: &[u8]) -> Result<(), FormatError> {
    if parameters.is_empty() {
        Ok(())
    } else {
        Err(FormatError::Invalid {
            rule: "this coding has no parameters",
        })
    }
}

fn exactly(coded: &[u8], bytes: usize) -> Result<Vec<u8>, FormatError> {
    if coded.len() == bytes {
        Ok(coded.to_vec())
    } else {
        Err(FormatError::Invalid {
            rule: "coded bytes are as many as their coding says",
        })
    }
}

fn width(parameters: &[u8]) -> Result<Width, FormatError> {
    let width = match parameters {
        [bytes] => Width::new(u64::from(*bytes)),
        _ => None,
    };
    width.ok_or(FormatError::Invalid {
        rule: "an element is 1, 2, 4 or 8 bytes wide",
    })
}
