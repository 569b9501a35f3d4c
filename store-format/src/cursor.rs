//! Reading and writing of fixed little-endian fields over untrusted bytes.
//!
//! Nothing here indexes or allocates by a number it has read; a reader that runs past the end
//! says what it was reading.

use alloc::vec::Vec;

use crate::FormatError;

/// A position in bytes that are not trusted.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte; `what` names the structure in errors.
    #[must_use]
    pub const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] where fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(FormatError::Truncated { what: self.what })?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] where fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(FormatError::Truncated { what: self.what })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] at the end.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        self.array().map(|[byte]| byte)
    }

    /// The next two bytes, little endian.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] where fewer are left.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes, little endian.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] where fewer are left.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes, little endian.
    ///
    /// # Errors
    /// [`FormatError::Truncated`] where fewer are left.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// An unsigned LEB128 number in its shortest form.
    ///
    /// # Errors
    /// [`FormatError::Invalid`] beyond 64 bits, [`FormatError::NotCanonical`] for a longer form,
    /// [`FormatError::Truncated`] where bytes are missing.
    pub fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return if byte == 0 && shift > 0 {
                    Err(FormatError::NotCanonical { what: "a number" })
                } else {
                    Ok(value)
                };
            }
        }
        Err(FormatError::Invalid {
            rule: "a number takes at most 64 bits",
        })
    }

    /// A length of four bytes that may not exceed `max`, then as many bytes.
    ///
    /// # Errors
    /// [`FormatError::TooLarge`] beyond `max`, [`FormatError::Truncated`] where bytes are missing.
    pub fn bytes(&mut self, field: &'static str, max: u32) -> Result<&'a [u8], FormatError> {
        let count = self.u32()?;
        if count > max {
            return Err(FormatError::TooLarge {
                field,
                value: count.into(),
                max: max.into(),
            });
        }
        self.take(usize_of(count.into())?)
    }

    /// Bytes that are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`FormatError::Trailing`] where bytes are left.
    pub const fn finish(self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(FormatError::Trailing { what: self.what })
        }
    }
}

/// Appends an unsigned number in LEB128.
pub fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [last, ..] = value.to_le_bytes();
    out.push(last);
}

/// A number read from bytes as a size in memory.
///
/// # Errors
/// [`FormatError::TooLarge`] where the machine cannot address it.
pub fn usize_of(value: u64) -> Result<usize, FormatError> {
    let too_large = FormatError::TooLarge {
        field: "size",
        value,
        max: u64::from(u32::MAX),
    };
    usize::try_from(value).map_err(|_| too_large)
}

/// A size in memory as the number that is written.
#[must_use]
pub fn u64_of(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Appends a size as four bytes; sizes beyond are refused by every reader, so it saturates.
pub fn put_u32(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
}
