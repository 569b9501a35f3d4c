//! Kinds of files, and what a manifest says about the tensors in them.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::closed::closed;
use crate::dtype::DType;

closed! {
    /// How the bytes of a file fall into regions. The discriminant is the number stored.
    Layout, "layout";
    /// Bytes without known structure.
    Opaque = 0, "opaque";
    /// UTF-8 text, JSON included.
    Text = 1, "text";
    /// A safetensors file.
    Safetensors = 2, "safetensors";
    /// A GGUF file of version 2 or 3.
    Gguf = 3, "gguf";
    /// A PyTorch checkpoint in a zip container.
    TorchZip = 4, "torch-zip";
    /// A Parquet file.
    Parquet = 5, "parquet";
    /// An Arrow IPC file.
    Arrow = 6, "arrow";
    /// A compressed wrapper around another file.
    Container = 7, "container";
}

/// One tensor of a file: what it is called, what it holds, and where its bytes lie.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Tensor {
    /// The name in the file.
    #[n(0)]
    pub name: String,
    /// The type of its elements.
    #[n(1)]
    pub dtype: DType,
    /// Its dimensions, outermost first; empty for a scalar.
    #[n(2)]
    pub shape: Vec<u64>,
    /// The first byte in the file.
    #[n(3)]
    pub start: u64,
    /// Bytes in the file; `dtype.bytes_of(product of shape)`.
    #[n(4)]
    pub bytes: u64,
}
