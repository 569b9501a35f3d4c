//! Objects: deterministic CBOR (RFC 8949 section 4.2), named by their own hash.
//!
//! Every object type is encoded and decoded by [`Object`], which holds the one rule that makes
//! ids meaningful: bytes that decode must encode to the same bytes again, or they are refused.

use alloc::vec::Vec;

use minicbor::{Decode, Decoder, Encode};

use crate::FormatError;
use crate::cbor;
use crate::cursor::u64_of;
use crate::ids::{AttachmentId, CommitId, ManifestId, OperationId, TableId, TreeId};
use crate::limits;

/// Something stored as one deterministic CBOR item and named by its bytes.
pub trait Object: Sized + Encode<()> + for<'b> Decode<'b, ()> {
    /// The type of its id.
    type Id: Copy + Eq + core::fmt::Debug;

    /// What it is called in errors.
    const WHAT: &'static str;

    /// The longest encoding.
    const BYTES_MAX: u64;

    /// Names encoded bytes.
    fn id_of(bytes: &[u8]) -> Self::Id;

    /// The rules that the encoding alone does not hold.
    ///
    /// # Errors
    /// [`FormatError`] naming the first rule or limit that is broken.
    fn check(&self) -> Result<(), FormatError>;

    /// The bytes and the id of this object.
    ///
    /// # Errors
    /// [`FormatError`] where the object breaks a rule or a limit.
    fn to_bytes(&self) -> Result<(Self::Id, Vec<u8>), FormatError> {
        self.check()?;
        let bytes = encode(self, 0)?;
        within_bytes::<Self>(&bytes)?;
        // What readers bound beyond the length: items and levels.
        cbor::scan(&bytes, Self::WHAT)?;
        Ok((Self::id_of(&bytes), bytes))
    }

    /// Reads an object from exactly its bytes, without knowing its id.
    ///
    /// # Errors
    /// [`FormatError`] where the bytes are damaged, not canonical, or break a rule.
    fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        within_bytes::<Self>(bytes)?;
        cbor::scan(bytes, Self::WHAT)?;
        let mut decoder = Decoder::new(bytes);
        let object: Self = decoder.decode().map_err(|_| FormatError::Invalid {
            rule: "an object is an item as its CDDL says",
        })?;
        object.check()?;
        // Also holds that nothing is left, that no key is unknown and none stands twice.
        if encode(&object, bytes.len())? != bytes {
            return Err(FormatError::NotCanonical { what: Self::WHAT });
        }
        Ok(object)
    }

    /// Reads an object and checks its id.
    ///
    /// # Errors
    /// As [`Object::from_bytes`], and [`FormatError::Checksum`] where the id differs.
    fn from_bytes_as(id: &Self::Id, bytes: &[u8]) -> Result<Self, FormatError> {
        if Self::id_of(bytes) != *id {
            return Err(FormatError::Checksum { what: Self::WHAT });
        }
        Self::from_bytes(bytes)
    }
}

macro_rules! objects {
    ($($type:path, $id:ident, $what:literal, $max:ident;)*) => { $(
        impl Object for $type {
            type Id = $id;
            const WHAT: &'static str = $what;
            const BYTES_MAX: u64 = limits::$max;
            fn id_of(bytes: &[u8]) -> $id { $id::of(bytes) }
            fn check(&self) -> Result<(), FormatError> { self.check_rules() }
        }
    )* };
}

objects! {
    crate::manifest::Manifest, ManifestId, "a manifest", OBJECT_BYTES_MAX;
    crate::tree::Tree, TreeId, "a tree", OBJECT_BYTES_MAX;
    crate::commit::Commit, CommitId, "a commit", OBJECT_BYTES_MAX;
    crate::commit::Attachment, AttachmentId, "an attachment", OBJECT_BYTES_MAX;
    crate::reference::ReferenceTable, TableId, "a reference table", TABLE_BYTES_MAX;
    crate::reference::Operation, OperationId, "an operation record", OPERATION_BYTES_MAX;
}

fn encode<T: Object>(object: &T, capacity: usize) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::with_capacity(capacity);
    // Writing to a vector cannot fail; an encoder's own message would still be refused here.
    minicbor::encode(object, &mut bytes).map_err(|_| FormatError::Invalid {
        rule: "an object has an encoding",
    })?;
    Ok(bytes)
}

fn within_bytes<T: Object>(bytes: &[u8]) -> Result<(), FormatError> {
    let (value, max) = (u64_of(bytes.len()), T::BYTES_MAX);
    if value > max {
        return Err(FormatError::TooLarge {
            field: T::WHAT,
            value,
            max,
        });
    }
    Ok(())
}

/// Refuses a text or a list beyond a limit.
pub(crate) fn within(field: &'static str, value: usize, max: usize) -> Result<(), FormatError> {
    if value > max {
        return Err(FormatError::TooLarge {
            field,
            value: u64_of(value),
            max: u64_of(max),
        });
    }
    Ok(())
}
