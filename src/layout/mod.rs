//! Files to regions to spans: what kind of file it is, and where it is cut into chunks.
//!
//! May use: `bytes`, `error`, `store_format`. Must never write, and never execute what a file
//! says. Holds: regions tile the file exactly, in order, and so do spans; a file that only looks
//! like a known kind falls back to `opaque` with a note, and is never an error.
//!
//! A fuzz target is three lines:
//! ```
//! # let data: &[u8] = b"GGUF\x03\0\0\0";
//! let parsed = sparse_store::layout::parse("fuzz", data).expect("a slice can always be read");
//! assert!(parsed.tiles(data.len() as u64));
//! assert!(sparse_store::layout::cut(&parsed, data).all(|piece| piece.is_ok()));
//! ```

pub mod cut;
mod gguf;
pub mod names;
mod pickle;
mod raw;
mod safetensors;
pub mod shards;
mod subset;
#[cfg(test)]
mod testing;
mod tile;
mod torch_zip;
mod zip;

pub use self::cut::{
    CUT_BYTES_AVG, CUT_BYTES_MAX, CUT_BYTES_MIN, Cutter, Piece, Pieces, Span, Stretch, View, cut,
    stretches,
};
pub use self::gguf::{GgufMeta, GgufValue, gguf_meta};
pub use self::safetensors::safetensors_metadata;
pub use self::subset::{Subset, safetensors_subset};

use store_format::layout::{Layout, Tensor};

use crate::bytes::ReadAt;
use crate::error::{Error, Result};

/// More tensors than this in one file are not looked at: it bounds the memory of a parse.
pub const TENSORS_MAX: usize = 1_000_000;

/// A longer header is not looked at; the limit of the safetensors format itself.
pub const HEADER_BYTES_MAX: u64 = 100_000_000;

/// More dimensions than this are not believed: it bounds what a short header can ask for.
pub const DIMENSIONS_MAX: usize = 64;

/// What a file is, and how its bytes fall into regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The kind of the file.
    pub layout: Layout,
    /// Tile the file exactly, in order; none is empty.
    pub regions: Vec<Region>,
    /// By first byte; tensors without bytes stand here too, but have no region.
    pub tensors: Vec<Tensor>,
    /// Why a file that was recognised fell back to `opaque`, or what could not be named in it.
    pub note: Option<String>,
}

/// A run of file bytes with one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its role.
    pub kind: RegionKind,
    /// The first byte in the file.
    pub start: u64,
    /// How many bytes; never 0.
    pub bytes: u64,
}

/// The role of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// What describes the rest: it stands at the front.
    Header,
    /// A whole tensor: its index in [`Parsed::tensors`].
    Tensor(usize),
    /// Padding or description between tensors or after them.
    Gap,
    /// Bytes without known structure, to be cut by content.
    Raw,
}

impl Parsed {
    /// A file of one region without structure.
    fn raw(layout: Layout, file_bytes: u64, note: Option<String>) -> Self {
        let mut regions = Vec::new();
        tile::push(&mut regions, RegionKind::Raw, 0, file_bytes);
        Self {
            layout,
            regions,
            tensors: Vec::new(),
            note,
        }
    }

    /// Whether the regions tile a file of `file_bytes` bytes: the law of this module.
    #[must_use]
    pub fn tiles(&self, file_bytes: u64) -> bool {
        let mut position = 0_u64;
        for region in &self.regions {
            if region.start != position || region.bytes == 0 {
                return false;
            }
            if let RegionKind::Tensor(index) = region.kind
                && !self
                    .tensors
                    .get(index)
                    .is_some_and(|t| t.start == region.start && t.bytes == region.bytes)
            {
                return false;
            }
            match position.checked_add(region.bytes) {
                Some(end) => position = end,
                None => return false,
            }
        }
        position == file_bytes
    }
}

/// Why a reader of one layout gave no regions.
enum Refusal {
    /// The file is of another kind that shares its first bytes.
    Unrelated,
    /// The file is not what it seems; it is kept as opaque bytes with this note.
    Odd(String),
    /// The source could not be read.
    Failed(Error),
}

/// A reader's answer.
type Read<T> = std::result::Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(source: Error) -> Self {
        Self::Failed(source)
    }
}

/// A refusal with a note.
fn odd<T>(note: impl Into<String>) -> Read<T> {
    Err(Refusal::Odd(note.into()))
}

/// `value`, or a refusal with a note.
fn some<T>(value: Option<T>, note: &str) -> Read<T> {
    value.ok_or_else(|| Refusal::Odd(note.into()))
}

/// Finds out what a file is and where its regions lie. The name only helps to word the note.
///
/// # Errors
/// Only if `file` cannot be read. Whatever the bytes are, they have a layout.
pub fn parse(name: &str, file: &(impl ReadAt + ?Sized)) -> Result<Parsed> {
    let file = &Borrowed(file);
    let file_bytes = file.len();
    let window = raw::window(file)?;
    let parsed = match recognise(name, &window, file_bytes) {
        Seems::Safetensors => safetensors::parse(file),
        Seems::Gguf => gguf::parse(file),
        Seems::Zip => torch_zip::parse(file),
        Seems::Text => Ok(Parsed::raw(Layout::Text, file_bytes, None)),
        Seems::Other => Ok(Parsed::raw(Layout::Opaque, file_bytes, None)),
    };
    match parsed {
        Ok(parsed) if parsed.tiles(file_bytes) => Ok(parsed),
        Ok(parsed) => {
            debug_assert!(false, "regions do not tile: {:?}", parsed.regions);
            let note = "its regions do not tile it".into();
            Ok(Parsed::raw(Layout::Opaque, file_bytes, Some(note)))
        }
        Err(Refusal::Unrelated) => Ok(Parsed::raw(Layout::Opaque, file_bytes, None)),
        Err(Refusal::Odd(note)) => Ok(Parsed::raw(Layout::Opaque, file_bytes, Some(note))),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

/// Lets readers take one type of source, whatever the caller has.
struct Borrowed<'a, F: ?Sized>(&'a F);

impl<F: ReadAt + ?Sized> ReadAt for Borrowed<'_, F> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read_at(start, buffer)
    }
}

/// What a file seems to be before its reader has seen it.
enum Seems {
    Safetensors,
    Gguf,
    Zip,
    Text,
    Other,
}

/// What the first bytes say the file is; the name decides where a reader will say why it is not.
fn recognise(name: &str, window: &[u8], file_bytes: u64) -> Seems {
    if window.starts_with(gguf::MAGIC) || name.ends_with(".gguf") {
        Seems::Gguf
    } else if safetensors::looks_like(window, file_bytes) || name.ends_with(".safetensors") {
        Seems::Safetensors
    } else if window.starts_with(zip::MAGIC) {
        Seems::Zip
    } else if raw::is_text(window, file_bytes) {
        Seems::Text
    } else {
        Seems::Other
    }
}
