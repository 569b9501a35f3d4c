//! How the bits of a floating-point type fall into sign, exponent and mantissa.
//!
//! May use: `store_format`. Must never compute with the target in floating point: NaN payloads,
//! infinities and both zeros are integers here.

use store_format::dtype::DType;

/// A floating-point type seen as a sign and an integer magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    /// Bytes of an element.
    pub bytes: usize,
    /// Bits of the mantissa field.
    pub mantissa: u32,
    /// What is subtracted from the exponent field.
    pub bias: i32,
}

impl Number {
    /// The split of a type, if it is a floating-point type of sign, exponent and mantissa.
    pub fn of(dtype: DType) -> Option<Self> {
        let (bytes, mantissa, bias) = match dtype {
            DType::Bf16 => (2, 7, 127),
            DType::F16 => (2, 10, 15),
            DType::F32 => (4, 23, 127),
            DType::F64 => (8, 52, 1023),
            DType::F8E4M3 => (1, 3, 7),
            DType::F8E5M2 => (1, 2, 15),
            DType::F8E4M3Fnuz => (1, 3, 8),
            DType::F8E5M2Fnuz => (1, 2, 16),
            _ => return None,
        };
        Some(Self {
            bytes,
            mantissa,
            bias,
        })
    }

    /// Bits of an element.
    pub const fn width(self) -> u32 {
        self.bytes as u32 * 8
    }

    /// The largest magnitude: all bits but the sign. For types of at most 32 bits.
    pub const fn magnitude_max(self) -> u32 {
        (1u32 << (self.width() - 1)) - 1
    }
}

/// The element at `index`, as the low bits of a `u64`.
#[inline(always)]
pub(super) fn load(bytes: &[u8], width: usize, index: usize) -> u64 {
    let at = index * width;
    match width {
        1 => u64::from(bytes[at]),
        2 => u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]])),
        4 => u64::from(u32::from_le_bytes([
            bytes[at],
            bytes[at + 1],
            bytes[at + 2],
            bytes[at + 3],
        ])),
        _ => {
            let mut eight = [0; 8];
            eight[..width].copy_from_slice(&bytes[at..at + width]);
            u64::from_le_bytes(eight)
        }
    }
}

/// Writes the low `width` bytes of `value` as the element at `index`.
#[inline(always)]
pub(super) fn store(bytes: &mut [u8], width: usize, index: usize, value: u64) {
    let at = index * width;
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}
