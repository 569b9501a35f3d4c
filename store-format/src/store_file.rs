//! The `format` file: what a store is, checked before anything else is read.

use alloc::format;
use alloc::string::{String, ToString};

use crate::FormatError;

/// The version of the format that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// What the `format` file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFile {
    /// Random bytes that tell stores apart.
    pub store: [u8; 16],
    /// The version that wrote the store.
    pub version: u32,
    /// The lowest version that can read it.
    pub reader: u32,
    /// The lowest version that may write to it.
    pub writer: u32,
    /// Names of features beyond the version, separated by spaces; empty for none.
    pub features: String,
}

impl StoreFile {
    /// A new store of the present version.
    #[must_use]
    pub fn new(store: [u8; 16]) -> Self {
        let version = FORMAT_VERSION;
        Self {
            store,
            version,
            reader: version,
            writer: version,
            features: String::new(),
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn encode(&self) -> String {
        let hex: String = self
            .store
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let body = format!(
            "sparse store\nid {hex}\nversion {}\nreader {}\nwriter {}\nhash blake3\nfeatures {}\n",
            self.version, self.reader, self.writer, self.features
        );
        let check = blake3::hash(body.as_bytes()).to_hex();
        format!("{body}check {check}\n")
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`FormatError::Unsupported`] for a store that needs a newer reader,
    /// [`FormatError`] otherwise where the text is damaged.
    pub fn decode(text: &str) -> Result<Self, FormatError> {
        const RULE: FormatError = FormatError::Invalid {
            rule: "a format file holds the seven lines of its version",
        };
        let (body, check) = text
            .split_at_checked(text.rfind("check ").ok_or(RULE)?)
            .ok_or(RULE)?;
        let expected = blake3::hash(body.as_bytes()).to_hex();
        if check
            .strip_prefix("check ")
            .and_then(|c| c.strip_suffix('\n'))
            != Some(&expected)
        {
            return Err(FormatError::Checksum {
                what: "the format file",
            });
        }
        let mut lines = body.lines();
        let mut field = |name: &str| {
            let line = lines.next()?;
            line.strip_prefix(name)
        };
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok()).ok_or(RULE);
        if field("sparse store") != Some("") {
            return Err(RULE);
        }
        let id = field("id ").ok_or(RULE)?;
        let file = Self {
            store: parse_id(id).ok_or(RULE)?,
            version: number(field("version "))?,
            reader: number(field("reader "))?,
            writer: number(field("writer "))?,
            features: {
                field("hash blake3").ok_or(RULE)?;
                field("features ").ok_or(RULE)?.to_string()
            },
        };
        if file.reader > FORMAT_VERSION {
            return Err(FormatError::Unsupported {
                feature: file.reader.into(),
            });
        }
        Ok(file)
    }
}

fn parse_id(hex: &str) -> Option<[u8; 16]> {
    let mut id = [0; 16];
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if pairs.len() != id.len() || !rest.is_empty() {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}
