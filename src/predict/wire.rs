//! The bytes of parameters: numbers in little endian, whole numbers as shortest LEB128.
//!
//! May use: `store_format`. Must never trust a length, and never read two encodings as one value.

use store_format::FormatError;
use store_format::cursor;

/// Reads parameters from the front of a slice.
pub(super) struct Reader<'a> {
    rest: cursor::Reader<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let rest = cursor::Reader::new(bytes, "the parameters of a predictor");
        Self { rest }
    }

    /// How many bytes are left: bounds every count before anything is allocated for it.
    pub(super) fn left(&self) -> usize {
        self.rest.left()
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], FormatError> {
        self.rest.take(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, FormatError> {
        self.rest.u8()
    }

    /// A whole number in LEB128; a longer encoding than needed is refused.
    pub(super) fn number(&mut self) -> Result<u64, FormatError> {
        self.rest.varint()
    }

    /// A number of at most `max`.
    pub(super) fn number_up_to(
        &mut self,
        field: &'static str,
        max: u64,
    ) -> Result<u64, FormatError> {
        let value = self.number()?;
        if value > max {
            return Err(FormatError::TooLarge { field, value, max });
        }
        Ok(value)
    }

    /// A finite binary32.
    pub(super) fn f32(&mut self) -> Result<f32, FormatError> {
        let value = f32::from_le_bytes(self.rest.array()?);
        value.is_finite().then_some(value).ok_or(NOT_FINITE)
    }

    /// A finite binary64.
    pub(super) fn f64(&mut self) -> Result<f64, FormatError> {
        let value = f64::from_le_bytes(self.rest.array()?);
        value.is_finite().then_some(value).ok_or(NOT_FINITE)
    }

    pub(super) fn end(self) -> Result<(), FormatError> {
        self.rest.finish()
    }
}

const NOT_FINITE: FormatError = FormatError::Invalid {
    rule: "a parameter of a predictor is finite",
};

/// Refuses a number that names nothing of a closed set.
pub(super) fn unknown<T>(field: &'static str, value: u8) -> Result<T, FormatError> {
    let value = u64::from(value);
    Err(FormatError::Unknown { field, value })
}

/// Appends a whole number in LEB128.
pub(super) fn put_number(out: &mut Vec<u8>, value: u64) {
    cursor::put_varint(value, out);
}

/// A signed step as an unsigned number: 0, -1, 1, -2, …
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for value in [0, 1, 127, 128, 300, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_number(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.number(), Ok(value));
            assert!(reader.end().is_ok());
            let signed = value.cast_signed();
            assert_eq!(unzigzag(zigzag(signed)), signed);
        }
    }

    #[test]
    fn a_number_that_is_longer_than_needed_is_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xFF; 10], &[0xFF; 11], &[0x80], &[]] {
            assert!(Reader::new(bytes).number().is_err());
        }
        let mut too_large = [0xFF; 10];
        too_large[9] = 2;
        assert!(Reader::new(&too_large).number().is_err());
    }

    #[test]
    fn parameters_that_are_not_finite_are_refused() {
        assert!(Reader::new(&f32::NAN.to_le_bytes()).f32().is_err());
        assert!(Reader::new(&f64::INFINITY.to_le_bytes()).f64().is_err());
    }
}
