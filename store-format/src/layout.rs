//! Kinds of files, and what a manifest says about the tensors in them.

use alloc::string::String;
use alloc::vec::Vec;

use crate::FormatError;
use crate::dtype::DType;

/// How the bytes of a file fall into regions. The discriminant is the number stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Layout {
    /// Bytes without known structure.
    Opaque = 0,
    /// UTF-8 text, JSON included.
    Text = 1,
    /// A safetensors file.
    Safetensors = 2,
    /// A GGUF file of version 2 or 3.
    Gguf = 3,
    /// A PyTorch checkpoint in a zip container.
    TorchZip = 4,
    /// A Parquet file.
    Parquet = 5,
    /// An Arrow IPC file.
    Arrow = 6,
    /// A compressed wrapper around another file.
    Container = 7,
}

impl Layout {
    /// Every layout, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::Opaque,
        Self::Text,
        Self::Safetensors,
        Self::Gguf,
        Self::TorchZip,
        Self::Parquet,
        Self::Arrow,
        Self::Container,
    ];

    /// The number stored.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Opaque => 0,
            Self::Text => 1,
            Self::Safetensors => 2,
            Self::Gguf => 3,
            Self::TorchZip => 4,
            Self::Parquet => 5,
            Self::Arrow => 6,
            Self::Container => 7,
        }
    }

    /// The word that people see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Text => "text",
            Self::Safetensors => "safetensors",
            Self::Gguf => "gguf",
            Self::TorchZip => "torch-zip",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Container => "container",
        }
    }

    /// The layout with a stored number.
    ///
    /// # Errors
    /// [`FormatError::Unknown`] for a number that the format does not define.
    pub fn from_number(number: u8) -> Result<Self, FormatError> {
        Self::ALL
            .iter()
            .copied()
            .find(|layout| layout.number() == number)
            .ok_or(FormatError::Unknown {
                field: "layout",
                value: u64::from(number),
            })
    }
}

/// One tensor of a file: what it is called, what it holds, and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// The name in the file.
    pub name: String,
    /// The type of its elements.
    pub dtype: DType,
    /// Its dimensions, outermost first; empty for a scalar.
    pub shape: Vec<u64>,
    /// The first byte in the file.
    pub start: u64,
    /// Bytes in the file; `dtype.bytes_of(product of shape)`.
    pub bytes: u64,
}
