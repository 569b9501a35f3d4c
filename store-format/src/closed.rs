//! One way to write a closed set: an enum whose stored numbers and words never change.

macro_rules! closed {
    ($(#[$doc:meta])* $name:ident, $field:literal; $($(#[$vdoc:meta])* $variant:ident = $number:literal, $text:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $number,)* }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number stored.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)* }
            }

            /// The word that people see.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The value with a stored number.
            ///
            /// # Errors
            /// [`FormatError::Unknown`](crate::FormatError::Unknown) for a number that the format does not define.
            pub fn from_number(number: u8) -> Result<Self, $crate::FormatError> {
                match number {
                    $($number => Ok(Self::$variant),)*
                    _ => Err($crate::FormatError::Unknown { field: $field, value: u64::from(number) }),
                }
            }

            /// The value with a word, as written by [`Self::name`].
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }

        impl<C> minicbor::Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                e: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u8(self.number())?.ok()
            }
        }

        impl<'b, C> minicbor::Decode<'b, C> for $name {
            fn decode(
                d: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                let number = d.u8()?;
                Self::from_number(number).map_err(|_| minicbor::decode::Error::message("unknown number"))
            }
        }
    };
}
pub(crate) use closed;
