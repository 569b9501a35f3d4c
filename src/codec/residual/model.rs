//! What all chunks of a tensor share, and its bytes.
//!
//! May use: `store_format` and the files beside it. A reader parses a model once a tensor; its
//! memory is bounded by the tensor's rows and columns and by the number of tables.

use store_format::FormatError;
use store_format::dtype::DType;

use super::TensorShape;
use super::bits::Fields;
use super::builtin;
use super::difference::Difference;
use super::magnitude::Magnitude;
use super::number::Number;
use super::planes::Planes;
use super::prediction::Prediction;
use super::scale::Scales;

/// The version of the side information.
const VERSION: u8 = 3;

/// Flag of the second byte: the model expects a prediction.
const PREDICTED: u8 = 0x80;

/// Ways to code elements, by their type and whether a prediction is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Difference(Number),
    Magnitude(Number),
    Planes { float: bool, width: usize },
}

impl Family {
    /// The family of a type; `None` for types that have no model.
    pub fn of(dtype: DType, with_prediction: bool) -> Option<Self> {
        if let Some(number) = Number::of(dtype) {
            return Some(match (with_prediction, number.bytes) {
                (true, 8) => Self::Planes {
                    float: true,
                    width: 8,
                },
                (true, _) => Self::Difference(number),
                (false, _) => Self::Magnitude(number),
            });
        }
        let width = match dtype {
            DType::Bool | DType::U8 | DType::I8 | DType::F8E8M0 => 1,
            DType::U16 | DType::I16 => 2,
            DType::U32 | DType::I32 => 4,
            DType::U64 | DType::I64 => 8,
            _ => return None,
        };
        Some(Self::Planes {
            float: false,
            width,
        })
    }
}

/// What all chunks of a tensor share: scales, contexts and tables.
#[derive(Clone, Debug)]
pub struct Model {
    pub(super) shape: TensorShape,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// The tables of the format; a chunk brings its own scale.
    Builtin(&'static Difference),
    Difference(Difference),
    Magnitude(Magnitude),
    Planes {
        float: bool,
        planes: Planes,
    },
}

impl Model {
    /// The tensor that the model is for.
    #[must_use]
    pub fn shape(&self) -> TensorShape {
        self.shape
    }

    /// The model of tiny tensors, which needs no side information; `None` for types without one.
    /// Any chunk of any tensor of the type may use it.
    #[must_use]
    pub fn builtin(dtype: DType, with_prediction: bool) -> Option<Self> {
        let Family::Difference(number) = Family::of(dtype, with_prediction)? else {
            return None;
        };
        Some(Self {
            shape: TensorShape {
                dtype,
                rows: 1,
                cols: u64::MAX,
            },
            kind: Kind::Builtin(builtin::difference(number)?),
        })
    }

    /// The scales of the tensor; none for integers.
    pub(super) fn scales(&self) -> &Scales {
        static NONE: Scales = Scales::NONE;
        match &self.kind {
            Kind::Builtin(model) => &model.scales,
            Kind::Difference(model) => &model.scales,
            Kind::Magnitude(model) => &model.scales,
            Kind::Planes { .. } => &NONE,
        }
    }

    /// Whether the model is for chunks with a prediction like this, or for those without one.
    /// That of integers serves both.
    pub(super) fn is_for(&self, prediction: Prediction) -> bool {
        let is_predicted = !matches!(prediction, Prediction::None);
        match &self.kind {
            Kind::Builtin(_) | Kind::Difference(_) | Kind::Planes { float: true, .. } => {
                is_predicted
            }
            Kind::Magnitude(_) => !is_predicted,
            Kind::Planes { float: false, .. } => true,
        }
    }

    /// Whether the model is [`Model::builtin`]'s: its side information is empty and not stored.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        matches!(self.kind, Kind::Builtin(_))
    }

    /// The side information; empty where the model is built in.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_builtin() {
            return Vec::new();
        }
        let mut out = vec![VERSION];
        let dtype = self.shape.dtype;
        let with_prediction = match &self.kind {
            Kind::Difference(_) | Kind::Builtin(_) => true,
            Kind::Magnitude(_) => false,
            Kind::Planes { float, .. } => *float,
        };
        out.push(dtype.number() | if with_prediction { PREDICTED } else { 0 });
        match &self.kind {
            Kind::Difference(model) => model.write(&mut out),
            Kind::Builtin(model) => model.write(&mut out),
            Kind::Magnitude(model) => model.write(&mut out),
            Kind::Planes { planes, .. } => planes.write(&mut out),
        }
        out
    }

    /// Reads side information.
    ///
    /// # Errors
    /// Bytes that are not the side information of a tensor of this shape.
    pub fn parse(shape: TensorShape, bytes: &[u8]) -> Result<Self, FormatError> {
        shape.elements().ok_or(FormatError::Invalid {
            rule: "a tensor's elements can be counted",
        })?;
        let mut fields = Fields::new(bytes, "the side information of a tensor");
        let version = fields.byte()?;
        if version != VERSION {
            return Err(FormatError::Unknown {
                field: "version of side information",
                value: u64::from(version),
            });
        }
        let second = fields.byte()?;
        let dtype = DType::from_number(second & !PREDICTED)?;
        if dtype != shape.dtype {
            return Err(FormatError::Invalid {
                rule: "side information is for the tensor's type",
            });
        }
        let family =
            Family::of(dtype, second & PREDICTED != 0).ok_or(FormatError::Unsupported {
                feature: u64::from(second),
            })?;
        let (rows, cols) = (shape.rows, shape.cols);
        let kind = match family {
            Family::Difference(number) => {
                Kind::Difference(Difference::read(&mut fields, number, rows, cols)?)
            }
            Family::Magnitude(number) => {
                Kind::Magnitude(Magnitude::read(&mut fields, number, rows, cols)?)
            }
            Family::Planes { float, width } => Kind::Planes {
                float,
                planes: Planes::read(&mut fields, width)?,
            },
        };
        fields.finish()?;
        Ok(Self { shape, kind })
    }
}
