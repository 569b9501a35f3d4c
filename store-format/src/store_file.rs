//! The `format` file: what a store is, checked before anything else is read.

use alloc::format;
use alloc::string::{String, ToString};

use crate::FormatError;
use crate::limits;
use crate::object::within;

/// The version of the format that this crate reads and writes.
pub const FORMAT_VERSION: u32 = 1;

/// What the names of features begin with that only writers must know.
pub const FOR_WRITERS: &str = "write-";

const RULE: FormatError = FormatError::Invalid {
    rule: "a format file holds the eight lines of its version",
};

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
    /// [`FormatError::Unsupported`] or [`FormatError::UnknownFeature`] for a store that needs a
    /// newer reader, [`FormatError`] otherwise where the text is damaged.
    pub fn decode(text: &str) -> Result<Self, FormatError> {
        within("the format file", text.len(), limits::STORE_FILE_BYTES_MAX)?;
        let body = checked_body(text)?;
        let mut lines = body.lines();
        let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name));
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<u32>().ok()).ok_or(RULE);
        if field("sparse store") != Some("") {
            return Err(RULE);
        }
        let store = parse_id(field("id ").ok_or(RULE)?).ok_or(RULE)?;
        let version = number(field("version "))?;
        let reader = number(field("reader "))?;
        // Before anything that a later version may say in another way.
        if reader > FORMAT_VERSION {
            return Err(FormatError::Unsupported {
                feature: reader.into(),
            });
        }
        let writer = number(field("writer "))?;
        field("hash blake3").ok_or(RULE)?;
        let file = Self {
            store,
            version,
            reader,
            writer,
            features: field("features ").ok_or(RULE)?.to_string(),
        };
        if !(1 <= reader && reader <= writer && reader <= version) {
            return Err(FormatError::Invalid {
                rule: "who can read a store may be older than it and than who can write to it",
            });
        }
        let is_even = file.features.is_empty() || file.features.split(' ').all(|w| !w.is_empty());
        if file.encode() != text || !is_even {
            return Err(FormatError::NotCanonical {
                what: "the format file",
            });
        }
        // Version 1 defines no feature, so every word that a reader must know is unknown.
        if let Some(name) = file.words().find(|word| !word.starts_with(FOR_WRITERS)) {
            return Err(FormatError::UnknownFeature { name: name.into() });
        }
        Ok(file)
    }

    /// Whether this crate may write to the store.
    ///
    /// # Errors
    /// [`FormatError::Unsupported`] or [`FormatError::UnknownFeature`] where it may only read.
    pub fn check_writer(&self) -> Result<(), FormatError> {
        if self.writer > FORMAT_VERSION {
            return Err(FormatError::Unsupported {
                feature: self.writer.into(),
            });
        }
        match self.words().next() {
            Some(name) => Err(FormatError::UnknownFeature { name: name.into() }),
            None => Ok(()),
        }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.features.split(' ').filter(|word| !word.is_empty())
    }
}

/// The text before the check, once the check is found to hold.
fn checked_body(text: &str) -> Result<&str, FormatError> {
    let start = text.rfind("\ncheck ").ok_or(RULE)?;
    let (body, check) = text.split_at_checked(start.saturating_add(1)).ok_or(RULE)?;
    let expected = blake3::hash(body.as_bytes()).to_hex();
    let found = check
        .strip_prefix("check ")
        .and_then(|c| c.strip_suffix('\n'));
    if found != Some(&expected) {
        return Err(FormatError::Checksum {
            what: "the format file",
        });
    }
    Ok(body)
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
