//! Why bytes are not what the format says. Knows nothing of paths; callers add the object.

use alloc::string::String;
use core::fmt;

/// A reason to refuse bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// The bytes end before the structure does.
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// Bytes are left after the structure.
    Trailing {
        /// What was being read.
        what: &'static str,
    },
    /// A number that this version of the format does not define.
    Unknown {
        /// The field that holds it.
        field: &'static str,
        /// The number found.
        value: u64,
    },
    /// A value that is beyond a limit of the format.
    TooLarge {
        /// The field that holds it.
        field: &'static str,
        /// The value found.
        value: u64,
        /// The largest value allowed.
        max: u64,
    },
    /// A rule of the format does not hold.
    Invalid {
        /// The rule, as a statement about the bytes.
        rule: &'static str,
    },
    /// A checksum over the bytes does not match.
    Checksum {
        /// What the checksum covers.
        what: &'static str,
    },
    /// The bytes decode, but are not the one encoding that the format allows for their value.
    NotCanonical {
        /// What was being read.
        what: &'static str,
    },
    /// The file asks for a feature or a version that this reader does not have.
    Unsupported {
        /// The number of the feature or version.
        feature: u64,
    },
    /// The store uses a feature that this version does not know.
    UnknownFeature {
        /// Its name in the `format` file.
        name: String,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { what } => write!(f, "{what} is cut short"),
            Self::Trailing { what } => write!(f, "bytes are left after {what}"),
            Self::Unknown { field, value } => write!(f, "{field} has the unknown value {value}"),
            Self::TooLarge { field, value, max } => {
                write!(f, "{field} is {value}, more than the limit of {max}")
            }
            Self::Invalid { rule } => f.write_str(rule),
            Self::Checksum { what } => write!(f, "the checksum of {what} does not match"),
            Self::NotCanonical { what } => write!(f, "{what} is not in its canonical encoding"),
            Self::Unsupported { feature } => {
                write!(f, "feature {feature} was made by a newer version")
            }
            Self::UnknownFeature { name } => {
                write!(
                    f,
                    "the store uses the feature '{name}', which this version lacks"
                )
            }
        }
    }
}

impl core::error::Error for FormatError {}
