//! Names of things: 32-byte BLAKE3 hashes, one Rust type for each kind of thing.
//!
//! Ids of chunks, files and packs are plain BLAKE3, so that people can check them with public
//! tools. Ids of objects are BLAKE3 in key-derivation mode with one context string a type, so
//! that no object's bytes can pose as another's.

use core::fmt;
use core::str::FromStr;

use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::FormatError;

/// Bytes of an id.
pub const ID_BYTES: usize = 32;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident $(, context $context:literal)?) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; ID_BYTES]);

        impl $name {
            id!(@of $name $($context)?);

            /// The id with these bytes; says nothing about whether the thing exists.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let shown = f.precision().unwrap_or(ID_BYTES.saturating_mul(2));
                write_hex(f, &self.0, shown)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:.12})", stringify!($name), self)
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                parse_hex(text).map(Self)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), EncodeError<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, DecodeError> {
                let bytes = d.bytes()?;
                bytes.try_into().map(Self).map_err(|_| DecodeError::message("an id has 32 bytes"))
            }
        }
    };
    (@of $name:ident) => {
        /// Names these bytes: plain BLAKE3.
        #[must_use]
        pub fn of(bytes: &[u8]) -> Self {
            Self(*blake3::hash(bytes).as_bytes())
        }
    };
    (@of $name:ident $context:literal) => {
        /// Names these encoded bytes: BLAKE3 in key-derivation mode.
        #[must_use]
        pub fn of(bytes: &[u8]) -> Self {
            Self(blake3::derive_key($context, bytes))
        }
    };
}

id!(
    /// Names the plain bytes of one chunk.
    ChunkId
);
id!(
    /// Names the bytes of one file; what `b3sum` prints.
    FileId
);
id!(
    /// Names a pack file by all its bytes.
    PackId
);
id!(
    /// Names the encoding of a manifest.
    ManifestId, context "sparse-store 2026-11 manifest v1"
);
id!(
    /// Names the encoding of a tree.
    TreeId, context "sparse-store 2026-11 tree v1"
);
id!(
    /// Names the encoding of a commit.
    CommitId, context "sparse-store 2026-11 commit v1"
);
id!(
    /// Names the encoding of an attachment.
    AttachmentId, context "sparse-store 2026-11 attachment v1"
);
id!(
    /// Names the encoding of an operation record.
    OperationId, context "sparse-store 2026-11 operation v1"
);
id!(
    /// Names the encoding of a reference table.
    TableId, context "sparse-store 2026-11 references v1"
);

impl ChunkId {
    /// Stands for zeros where a view names no chunk; no bytes are known to have this hash.
    pub const ZEROS: Self = Self([0; ID_BYTES]);

    /// Whether this stands for zeros.
    #[must_use]
    pub fn is_zeros(&self) -> bool {
        *self == Self::ZEROS
    }
}

/// Names what a record holds, whatever its kind: the key of packs and indexes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordId([u8; ID_BYTES]);

impl RecordId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(
            f,
            &self.0,
            f.precision().unwrap_or(ID_BYTES.saturating_mul(2)),
        )
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordId({self:.12})")
    }
}

macro_rules! record_ids {
    ($($name:ident)*) => { $(
        impl From<$name> for RecordId {
            fn from(id: $name) -> Self { Self(id.0) }
        }
    )* };
}

record_ids!(ChunkId ManifestId TreeId CommitId AttachmentId);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8], shown: usize) -> fmt::Result {
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(shown);
    for digit in digits {
        write!(f, "{digit:x}")?;
    }
    Ok(())
}

fn parse_hex(text: &str) -> Result<[u8; ID_BYTES], FormatError> {
    const RULE: FormatError = FormatError::Invalid {
        rule: "an id is 64 lower-case hex digits",
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; ID_BYTES];
    if pairs.len() != ID_BYTES || !rest.is_empty() {
        return Err(RULE);
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high).ok_or(RULE)? << 4 | digit(*low).ok_or(RULE)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_chunk_and_an_object_of_the_same_bytes_have_different_names() {
        let bytes = b"the same bytes";
        let names = [
            *ChunkId::of(bytes).as_bytes(),
            *ManifestId::of(bytes).as_bytes(),
            *TreeId::of(bytes).as_bytes(),
            *CommitId::of(bytes).as_bytes(),
            *AttachmentId::of(bytes).as_bytes(),
            *OperationId::of(bytes).as_bytes(),
            *TableId::of(bytes).as_bytes(),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(names.iter().skip(index + 1).all(|other| other != name));
        }
    }

    #[test]
    fn hex_leads_back_and_nothing_else_is_an_id() {
        let id = ChunkId::of(b"x");
        assert_eq!(id.to_string().parse(), Ok(id));
        let upper = id.to_string().to_uppercase();
        for text in ["", "ab", upper.as_str(), &id.to_string()[..63]] {
            assert!(text.parse::<ChunkId>().is_err());
        }
    }
}
