//! Manifests: how one file is put together from chunks, and which tensors lie in it.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use crate::FormatError;
use crate::closed::closed;
use crate::ids::{ChunkId, FileId};
use crate::layout::{Layout, Tensor};
use crate::limits;

closed! {
    /// The role of a run of a file's bytes.
    Role, "region role";
    /// What tells the layout: a safetensors header, a GGUF's metadata.
    Header = 0, "header";
    /// The elements of one tensor, or of several that lie together.
    Tensor = 1, "tensor";
    /// Padding, or bytes between what the layout names.
    Gap = 2, "gap";
    /// Bytes without known structure, cut by content.
    Raw = 3, "raw";
}

/// A run of a file's bytes with one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Region {
    /// Its role.
    #[n(0)]
    pub role: Role,
    /// Its length.
    #[n(1)]
    pub bytes: u64,
}

/// One chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ChunkReference {
    /// Names its plain bytes.
    #[n(0)]
    pub id: ChunkId,
    /// Its length.
    #[n(1)]
    pub bytes: u64,
}

/// How one file is put together: the file is its chunks, in order.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Manifest {
    /// The length of the file.
    #[n(0)]
    pub bytes: u64,
    /// Names the bytes of the file.
    #[n(1)]
    pub file: FileId,
    /// How the bytes fall into regions.
    #[n(2)]
    pub layout: Layout,
    /// The regions, in order; they fill the file exactly.
    #[n(3)]
    pub regions: Vec<Region>,
    /// The tensors, by where they start.
    #[n(4)]
    pub tensors: Vec<Tensor>,
    /// The chunks, in order; they fill the file exactly.
    #[n(5)]
    pub chunks: Vec<ChunkReference>,
    /// Why a file that looked like a known layout was taken as opaque.
    #[n(6)]
    pub note: Option<String>,
}

impl Manifest {
    pub(crate) fn check_rules(&self) -> Result<(), FormatError> {
        let filled = |lengths: &mut dyn Iterator<Item = u64>| {
            let mut sum = 0_u64;
            for length in lengths {
                sum = sum.checked_add(length).filter(|_| length > 0)?;
            }
            Some(sum)
        };
        if filled(&mut self.chunks.iter().map(|chunk| chunk.bytes)) != Some(self.bytes) {
            return Err(FormatError::Invalid {
                rule: "the chunks of a manifest fill its file",
            });
        }
        if filled(&mut self.regions.iter().map(|region| region.bytes)) != Some(self.bytes) {
            return Err(FormatError::Invalid {
                rule: "the regions of a manifest fill its file",
            });
        }
        if let Some(chunk) = self
            .chunks
            .iter()
            .find(|chunk| chunk.bytes > limits::CHUNK_BYTES_MAX)
        {
            let (value, max) = (chunk.bytes, limits::CHUNK_BYTES_MAX);
            return Err(FormatError::TooLarge {
                field: "a chunk",
                value,
                max,
            });
        }
        if !self.tensors.is_sorted_by_key(|tensor| tensor.start) {
            return Err(FormatError::Invalid {
                rule: "tensors stand by where they start",
            });
        }
        self.tensors
            .iter()
            .try_for_each(|tensor| self.check_tensor(tensor))
    }

    fn check_tensor(&self, tensor: &Tensor) -> Result<(), FormatError> {
        let elements = if tensor.shape.contains(&0) {
            Some(0)
        } else {
            let mut sides = tensor.shape.iter();
            sides.try_fold(1_u64, |n, side| n.checked_mul(*side))
        };
        if elements.and_then(|elements| tensor.dtype.bytes_of(elements)) != Some(tensor.bytes) {
            return Err(FormatError::Invalid {
                rule: "a tensor is as long as its shape says",
            });
        }
        if tensor
            .start
            .checked_add(tensor.bytes)
            .is_none_or(|end| end > self.bytes)
        {
            return Err(FormatError::Invalid {
                rule: "a tensor lies within its file",
            });
        }
        Ok(())
    }
}
