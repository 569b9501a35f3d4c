//! Plain bytes together with the id they hash to.
//!
//! A value can only be made by hashing, so whatever takes [`Verified`] need not ask again.

use alloc::vec::Vec;

use crate::FormatError;
use crate::ids::ChunkId;

/// The plain bytes of a chunk, proven to match their id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    id: ChunkId,
    bytes: Vec<u8>,
}

impl Verified {
    /// Names fresh bytes.
    #[must_use]
    pub fn of(bytes: Vec<u8>) -> Self {
        Self {
            id: ChunkId::of(&bytes),
            bytes,
        }
    }

    /// Takes bytes as the chunk that they should be.
    ///
    /// # Errors
    /// [`FormatError::Checksum`] where they hash to another id.
    pub fn check(expected: &ChunkId, bytes: Vec<u8>) -> Result<Self, FormatError> {
        let verified = Self::of(bytes);
        if verified.id == *expected {
            Ok(verified)
        } else {
            Err(FormatError::Checksum { what: "a chunk" })
        }
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
