//! Bytes and their prediction to fewer bytes, and back.
//!
//! May use: `error`, `store_format`. Must never know where a prediction comes from.
//! Holds: decoding what was encoded with the same prediction gives the same bytes; a coded chunk
//! is never longer than its plain bytes and a byte a plane.

pub mod planes;
mod zstd;

use store_format::FormatError;
use store_format::record::Coding;

use planes::Width;

/// How hard to try; the decoder is the same for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Level {
    /// While training: one look, small effort.
    Fast,
    /// What is worth its time.
    #[default]
    Default,
    /// For repacking: whatever helps.
    Max,
}

impl Level {
    const fn zstd(self) -> i32 {
        match self {
            Self::Fast => 1,
            Self::Default => 3,
            Self::Max => 15,
        }
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
            bytes: planes::encode(plain, width, level.zstd()),
        },
        Some(_) | None => Coded {
            coding: Coding::Zstd,
            parameters: Vec::new(),
            bytes: zstd::encode(plain, level.zstd()),
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
        bytes: planes::encode_difference(plain, predicted, width, level.zstd()),
    }
}

/// Rebuilds `plain_bytes` bytes. `predicted` is the prediction for a coding that corrects one.
/// The caller compares the result with its id: damaged bytes may decode to other bytes.
///
/// # Errors
/// [`FormatError`] where the coded bytes or the parameters are damaged.
pub fn decode(
    coding: Coding,
    parameters: &[u8],
    coded: &[u8],
    predicted: Option<&[u8]>,
    plain_bytes: usize,
) -> Result<Vec<u8>, FormatError> {
    let predicted = || {
        predicted
            .filter(|bytes| bytes.len() == plain_bytes)
            .ok_or(FormatError::Invalid {
                rule: "a prediction is as long as the bytes that it predicts",
            })
    };
    match coding {
        Coding::Stored => {
            no_parameters(parameters)?;
            exactly(coded, plain_bytes)
        }
        Coding::Zstd => {
            no_parameters(parameters)?;
            zstd::decode(coded, plain_bytes)
        }
        Coding::Planes => planes::decode(coded, width(parameters)?, plain_bytes),
        Coding::Difference => planes::decode_difference(coded, predicted()?, width(parameters)?),
        Coding::Exact => {
            no_parameters(parameters)?;
            exactly(coded, 0)?;
            Ok(predicted()?.to_vec())
        }
        Coding::Residual | Coding::Weights => Err(FormatError::Unknown {
            field: "coding",
            value: coding.number().into(),
        }),
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
