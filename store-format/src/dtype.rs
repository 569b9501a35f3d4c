//! Element types of tensors: stable numbers, names as safetensors spells them, widths.
//!
//! A closed set. Block-quantised types of GGUF stand here too, so that a tensor table can name
//! them; their unit is a block of several elements.

use crate::FormatError;

macro_rules! dtypes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $elements:literal per $bytes:literal bytes;)*) => {
        /// The type of a tensor's elements. The discriminant is the number stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType { $($(#[$doc])* $name = $number,)* }

        impl DType {
            /// Every element type, in the order of their numbers.
            pub const ALL: &'static [DType] = &[$(DType::$name,)*];

            /// The name in a safetensors header, or ggml's name of a block type.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The number stored.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// Elements and bytes of the smallest unit that can be addressed.
            #[must_use]
            pub const fn block(self) -> (u64, u64) {
                match self { $(Self::$name => ($elements, $bytes),)* }
            }

            /// The type with a stored number.
            ///
            /// # Errors
            /// [`FormatError::Unknown`] for a number that the format does not define.
            pub fn from_number(number: u8) -> Result<Self, FormatError> {
                match number {
                    $($number => Ok(Self::$name),)*
                    _ => Err(FormatError::Unknown { field: "element type", value: u64::from(number) }),
                }
            }

            /// The type with a name, as written by [`DType::name`].
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

dtypes! {
    /// One byte, 0 or 1.
    Bool = 0, "BOOL", 1 per 1 bytes;
    /// Unsigned 8 bits.
    U8 = 1, "U8", 1 per 1 bytes;
    /// Signed 8 bits.
    I8 = 2, "I8", 1 per 1 bytes;
    /// Unsigned 16 bits.
    U16 = 3, "U16", 1 per 2 bytes;
    /// Signed 16 bits.
    I16 = 4, "I16", 1 per 2 bytes;
    /// Unsigned 32 bits.
    U32 = 5, "U32", 1 per 4 bytes;
    /// Signed 32 bits.
    I32 = 6, "I32", 1 per 4 bytes;
    /// Unsigned 64 bits.
    U64 = 7, "U64", 1 per 8 bytes;
    /// Signed 64 bits.
    I64 = 8, "I64", 1 per 8 bytes;
    /// IEEE binary16.
    F16 = 9, "F16", 1 per 2 bytes;
    /// The upper half of binary32.
    Bf16 = 10, "BF16", 1 per 2 bytes;
    /// IEEE binary32.
    F32 = 11, "F32", 1 per 4 bytes;
    /// IEEE binary64.
    F64 = 12, "F64", 1 per 8 bytes;
    /// 8 bits: 4 of exponent, 3 of mantissa, no infinity (OCP).
    F8E4M3 = 13, "F8_E4M3", 1 per 1 bytes;
    /// 8 bits: 5 of exponent, 2 of mantissa (OCP).
    F8E5M2 = 14, "F8_E5M2", 1 per 1 bytes;
    /// 8 bits of exponent only: a power of two.
    F8E8M0 = 15, "F8_E8M0", 1 per 1 bytes;
    /// 8 bits: 4 of exponent, 3 of mantissa, one zero, one NaN.
    F8E4M3Fnuz = 16, "F8_E4M3FNUZ", 1 per 1 bytes;
    /// 8 bits: 5 of exponent, 2 of mantissa, one zero, one NaN.
    F8E5M2Fnuz = 17, "F8_E5M2FNUZ", 1 per 1 bytes;
    /// 6 bits: 2 of exponent, 3 of mantissa, packed.
    F6E2M3 = 18, "F6_E2M3", 4 per 3 bytes;
    /// 6 bits: 3 of exponent, 2 of mantissa, packed.
    F6E3M2 = 19, "F6_E3M2", 4 per 3 bytes;
    /// 4 bits, packed two a byte.
    F4 = 20, "F4", 2 per 1 bytes;
    /// Two binary32.
    C64 = 21, "C64", 1 per 8 bytes;
    /// ggml: 32 elements of 4 bits and a scale.
    Q4_0 = 32, "Q4_0", 32 per 18 bytes;
    /// ggml: 32 elements of 4 bits, a scale and a minimum.
    Q4_1 = 33, "Q4_1", 32 per 20 bytes;
    /// ggml: 32 elements of 5 bits and a scale.
    Q5_0 = 34, "Q5_0", 32 per 22 bytes;
    /// ggml: 32 elements of 5 bits, a scale and a minimum.
    Q5_1 = 35, "Q5_1", 32 per 24 bytes;
    /// ggml: 32 elements of 8 bits and a scale.
    Q8_0 = 36, "Q8_0", 32 per 34 bytes;
    /// ggml: 32 elements of 8 bits, a scale and a sum.
    Q8_1 = 37, "Q8_1", 32 per 36 bytes;
    /// ggml: super-block of 256 elements of 2 bits.
    Q2K = 38, "Q2_K", 256 per 84 bytes;
    /// ggml: super-block of 256 elements of 3 bits.
    Q3K = 39, "Q3_K", 256 per 110 bytes;
    /// ggml: super-block of 256 elements of 4 bits.
    Q4K = 40, "Q4_K", 256 per 144 bytes;
    /// ggml: super-block of 256 elements of 5 bits.
    Q5K = 41, "Q5_K", 256 per 176 bytes;
    /// ggml: super-block of 256 elements of 6 bits.
    Q6K = 42, "Q6_K", 256 per 210 bytes;
    /// ggml: super-block of 256 elements of 8 bits.
    Q8K = 43, "Q8_K", 256 per 292 bytes;
    /// ggml: 256 elements, importance-weighted, 2.06 bits each.
    Iq2Xxs = 44, "IQ2_XXS", 256 per 66 bytes;
    /// ggml: 256 elements, importance-weighted, 2.31 bits each.
    Iq2Xs = 45, "IQ2_XS", 256 per 74 bytes;
    /// ggml: 256 elements, importance-weighted, 3.06 bits each.
    Iq3Xxs = 46, "IQ3_XXS", 256 per 98 bytes;
    /// ggml: 256 elements, importance-weighted, 1.56 bits each.
    Iq1S = 47, "IQ1_S", 256 per 50 bytes;
    /// ggml: 32 elements of 4 bits through a table.
    Iq4Nl = 48, "IQ4_NL", 32 per 18 bytes;
    /// ggml: 256 elements, importance-weighted, 3.44 bits each.
    Iq3S = 49, "IQ3_S", 256 per 110 bytes;
    /// ggml: 256 elements, importance-weighted, 2.5 bits each.
    Iq2S = 50, "IQ2_S", 256 per 82 bytes;
    /// ggml: 256 elements of 4 bits through a table.
    Iq4Xs = 51, "IQ4_XS", 256 per 136 bytes;
    /// ggml: 256 elements, importance-weighted, 1.75 bits each.
    Iq1M = 52, "IQ1_M", 256 per 56 bytes;
    /// ggml: 256 ternary elements, 1.69 bits each.
    Tq1_0 = 53, "TQ1_0", 256 per 54 bytes;
    /// ggml: 256 ternary elements, 2.06 bits each.
    Tq2_0 = 54, "TQ2_0", 256 per 66 bytes;
    /// ggml: 32 elements of 4 bits with a shared exponent.
    Mxfp4 = 55, "MXFP4", 32 per 17 bytes;
}

impl<C> minicbor::Encode<C> for DType {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u8(self.number())?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for DType {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let number = d.u8()?;
        Self::from_number(number)
            .map_err(|_| minicbor::decode::Error::message("unknown element type"))
    }
}

impl DType {
    /// Bytes that `elements` elements take, or `None` where they do not fill whole blocks or the
    /// number overflows.
    #[must_use]
    pub fn bytes_of(self, elements: u64) -> Option<u64> {
        let (per_block, bytes) = self.block();
        (elements.checked_rem(per_block)? == 0)
            .then(|| elements.checked_div(per_block)?.checked_mul(bytes))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_back() {
        for &dtype in DType::ALL {
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
            assert_eq!(DType::from_number(dtype.number()), Ok(dtype));
        }
    }

    #[test]
    fn a_part_of_a_block_has_no_size() {
        assert_eq!(DType::F4.bytes_of(3), None);
        assert_eq!(DType::Q4K.bytes_of(512), Some(288));
        assert_eq!(DType::F64.bytes_of(u64::MAX), None);
    }
}
