//! One pass over untrusted CBOR before anything is built from it.
//!
//! The pass allocates nothing. What it lets through has definite lengths and shortest integers,
//! is not nested deeply, and holds a bounded number of items, so that whatever is decoded from
//! it afterwards is bounded too.

use crate::FormatError;
use crate::cursor::{Reader, u64_of, usize_of};
use crate::limits;

/// Checks that `bytes` are exactly one item of the subset of CBOR that objects use.
///
/// # Errors
/// [`FormatError`] naming what does not hold; `what` names the object.
pub(crate) fn scan(bytes: &[u8], what: &'static str) -> Result<(), FormatError> {
    let mut scan = Scan {
        reader: Reader::new(bytes, what),
        items: 0,
        what,
    };
    scan.item(limits::OBJECT_DEPTH_MAX)?;
    scan.reader.finish()
}

struct Scan<'a> {
    reader: Reader<'a>,
    items: u32,
    what: &'static str,
}

impl Scan<'_> {
    fn item(&mut self, levels: u8) -> Result<(), FormatError> {
        let other = FormatError::NotCanonical { what: self.what };
        self.items = self.items.saturating_add(1);
        if self.items > limits::OBJECT_ITEMS_MAX {
            return Err(FormatError::TooLarge {
                field: "items of an object",
                value: self.items.into(),
                max: limits::OBJECT_ITEMS_MAX.into(),
            });
        }
        let first = self.reader.u8()?;
        let value = self.argument(first & 31)?;
        match first >> 5 {
            0 | 1 => Ok(()),
            2 | 3 => {
                // A length that memory cannot hold is longer than what is left.
                let length = usize_of(value).unwrap_or(usize::MAX);
                self.reader.take(length).map(drop)
            }
            kind @ (4 | 5) => {
                let levels = levels.checked_sub(1).ok_or(other)?;
                let items = value.saturating_mul(if kind == 5 { 2 } else { 1 });
                // Every item takes a byte.
                if items > u64_of(self.reader.left()) {
                    return Err(FormatError::Truncated { what: self.what });
                }
                (0..items).try_for_each(|_| self.item(levels))
            }
            // false, true, null
            7 if matches!(first & 31, 20..=22) => Ok(()),
            _ => Err(other),
        }
    }

    /// The number that an item begins with, which must be in its shortest form.
    fn argument(&mut self, info: u8) -> Result<u64, FormatError> {
        let (value, least) = match info {
            0..=23 => return Ok(info.into()),
            24 => (self.reader.u8()?.into(), 24),
            25 => (u16::from_be_bytes(self.reader.array()?).into(), 1 << 8),
            26 => (u32::from_be_bytes(self.reader.array()?).into(), 1 << 16),
            27 => (u64::from_be_bytes(self.reader.array()?), 1 << 32),
            _ => return Err(FormatError::NotCanonical { what: self.what }),
        };
        if value < least {
            return Err(FormatError::NotCanonical { what: self.what });
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shortest_definite_items_pass() {
        for good in [
            &[0x00][..],
            &[0x38, 0x18],
            &[0x82, 0x61, b'a', 0xf6],
            &[0xa1, 0, 0x80],
            &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0],
        ] {
            assert_eq!(scan(good, "x"), Ok(()), "{good:?}");
        }
        for bad in [
            &[0x18, 0x17][..],
            &[0x19, 0, 0xff],
            &[0x1b, 0, 0, 0, 0, 1, 0, 0, 0],
            &[0x9f, 0xff],
            &[0x7f, 0xff],
            &[0xc0, 0],
            &[0xf9, 0, 0],
            &[0xf7],
        ] {
            assert!(
                matches!(scan(bad, "x"), Err(FormatError::NotCanonical { .. })),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn nesting_and_lengths_beyond_what_is_there_are_refused() {
        assert!(scan(&[0x81; 100], "x").is_err());
        assert!(scan(&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255], "x").is_err());
        assert!(scan(&[0x5b, 255, 255, 255, 255, 255, 255, 255, 255], "x").is_err());
        assert_eq!(scan(&[0, 0], "x"), Err(FormatError::Trailing { what: "x" }));
    }
}
