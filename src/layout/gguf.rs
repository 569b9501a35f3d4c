//! GGUF versions 2 and 3: where the tensors lie, and what the metadata say.
//!
//! May use: `bytes`, `error`, `store_format`. Must never trust a count or a length of the file.
//!
//! Source of the facts: `docs/gguf.md` and the type table of ggml.

use std::collections::HashSet;

use store_format::dtype::DType;
use store_format::layout::{Layout, Tensor};

use super::{HEADER_BYTES_MAX, Parsed, Read, Refusal, TENSORS_MAX, odd, some, tile};
use crate::bytes::ReadAt;
use crate::error::Result;

/// The first bytes of every GGUF file.
pub(super) const MAGIC: &[u8; 4] = b"GGUF";

/// More keys than this are not believed.
const KEYS_MAX: u64 = 1 << 20;

/// ggml has four dimensions; a few more are taken.
const DIMENSIONS_MAX: u32 = 8;

/// Arrays of arrays deeper than this are not followed.
const ARRAY_DEPTH_MAX: u32 = 4;

/// Elements of an array that are kept: enough to see what it holds.
const ARRAY_HEAD: usize = 8;

/// Elements of all arrays together that are kept: in arrays of arrays of many keys, an element of a
/// byte would take forty times as much.
const KEPT_MAX: usize = 1 << 16;

/// Where tensors begin if the file does not say.
const ALIGNMENT: u64 = 32;

/// The metadata of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufMeta {
    /// 2 or 3.
    pub version: u32,
    /// Tensors begin at multiples of this.
    pub alignment: u64,
    /// Keys and values in the order of the file.
    pub keys: Vec<(String, GgufValue)>,
}

impl GgufMeta {
    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&GgufValue> {
        self.keys.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// A text: `general.architecture`, say.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            GgufValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number of any width that is not negative: `llama.attention.head_count`, say.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            GgufValue::Unsigned(number) => Some(*number),
            GgufValue::Signed(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

/// One value of the metadata, whatever its width in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// 8 to 64 bits without sign.
    Unsigned(u64),
    /// 8 to 64 bits with sign.
    Signed(i64),
    /// 32 or 64 bits.
    Float(f64),
    /// A byte, not 0 for true.
    Bool(bool),
    /// UTF-8; what is not is replaced.
    Text(String),
    /// A list, of which only the beginning is kept, or nothing where others kept too much.
    Array {
        /// How many elements there are.
        count: u64,
        /// The first few of them.
        head: Vec<GgufValue>,
    },
}

/// The metadata of a GGUF file; `None` if it is not one.
///
/// # Errors
/// Only if `file` cannot be read.
pub fn gguf_meta(file: &(impl ReadAt + ?Sized)) -> Result<Option<GgufMeta>> {
    match front(&mut Cursor::new(&super::Borrowed(file))) {
        Ok((meta, _)) => Ok(Some(meta)),
        Err(Refusal::Odd(_) | Refusal::Unrelated) => Ok(None),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

/// Reads a GGUF file.
pub(super) fn parse(file: &dyn ReadAt) -> Read<Parsed> {
    let mut cursor = Cursor::new(file);
    let (meta, tensor_count) = front(&mut cursor)?;
    let mut tensors = Vec::new();
    let mut unknown = 0;
    for _ in 0..tensor_count {
        match tensor(&mut cursor)? {
            Some(tensor) => tensors.push(tensor),
            None => unknown += 1,
        }
    }
    tile::named_once(&tensors)?;
    let end = cursor.position;
    let data = some(
        end.checked_next_multiple_of(meta.alignment),
        "its alignment is wrong",
    )?;
    for tensor in &mut tensors {
        // Offsets count from the first aligned byte behind the table.
        tensor.start = some(
            tensor.start.checked_add(data),
            "a tensor begins beyond the file",
        )?;
    }
    // Padding belongs to the header, but a file without tensors may end before it.
    let header_bytes = data.min(file.len());
    let mut parsed = tile::tile(Layout::Gguf, header_bytes, tensors, Vec::new(), file.len())?;
    if unknown > 0 {
        parsed.note = Some(format!("{unknown} tensors are of an unknown type"));
    }
    Ok(parsed)
}

/// Everything before the table of tensors, and the number of its rows.
fn front(cursor: &mut Cursor<'_>) -> Read<(GgufMeta, u64)> {
    if &cursor.array::<4>()? != MAGIC {
        return odd("it does not begin like GGUF");
    }
    let version = cursor.u32()?;
    if version.swap_bytes() <= 3 {
        return odd("it is a big-endian GGUF file");
    }
    if !(2..=3).contains(&version) {
        return odd(format!("its GGUF version {version} is not known"));
    }
    let tensor_count = cursor.u64()?;
    let key_count = cursor.u64()?;
    if tensor_count > TENSORS_MAX as u64 || key_count > KEYS_MAX {
        return odd("it claims too many tensors or keys");
    }
    let mut keys = Vec::new();
    let mut names = HashSet::new();
    let mut room = KEPT_MAX;
    for _ in 0..key_count {
        let key = cursor.name()?;
        if !names.insert(key.clone()) {
            return odd(format!("key '{key}' stands there twice"));
        }
        let kind = cursor.u32()?;
        keys.push((key, value(cursor, kind, 0, &mut room)?));
    }
    let mut meta = GgufMeta {
        version,
        alignment: ALIGNMENT,
        keys,
    };
    if meta.value("general.alignment").is_some() {
        let alignment = meta.number("general.alignment");
        let alignment = alignment.filter(|a| a.is_power_of_two() && *a <= 1 << 20);
        meta.alignment = some(alignment, "its alignment is wrong")?;
    }
    Ok((meta, tensor_count))
}

/// Bytes of a value of fixed length.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// One value; `depth` counts the arrays around it, `room` what its own may keep.
fn value(cursor: &mut Cursor<'_>, kind: u32, depth: u32, room: &mut usize) -> Read<GgufValue> {
    Ok(match kind {
        0 => GgufValue::Unsigned(u64::from(u8::from_le_bytes(cursor.array()?))),
        1 => GgufValue::Signed(i64::from(i8::from_le_bytes(cursor.array()?))),
        2 => GgufValue::Unsigned(u64::from(u16::from_le_bytes(cursor.array()?))),
        3 => GgufValue::Signed(i64::from(i16::from_le_bytes(cursor.array()?))),
        4 => GgufValue::Unsigned(u64::from(cursor.u32()?)),
        5 => GgufValue::Signed(i64::from(i32::from_le_bytes(cursor.array()?))),
        6 => GgufValue::Float(f64::from(f32::from_le_bytes(cursor.array()?))),
        7 => GgufValue::Bool(cursor.array::<1>()? != [0]),
        8 => GgufValue::Text(String::from_utf8_lossy(&cursor.text()?).into_owned()),
        9 if depth < ARRAY_DEPTH_MAX => array(cursor, depth, room)?,
        9 => return odd("its arrays are too deep"),
        10 => GgufValue::Unsigned(cursor.u64()?),
        11 => GgufValue::Signed(i64::from_le_bytes(cursor.array()?)),
        12 => GgufValue::Float(f64::from_le_bytes(cursor.array()?)),
        _ => return odd(format!("a key has the unknown type {kind}")),
    })
}

/// A list: the first elements are kept, the others passed over.
fn array(cursor: &mut Cursor<'_>, depth: u32, room: &mut usize) -> Read<GgufValue> {
    let kind = cursor.u32()?;
    let count = cursor.u64()?;
    let mut head = Vec::new();
    let mut left = count;
    while left > 0 && *room > 0 && head.len() < ARRAY_HEAD {
        *room -= 1;
        head.push(value(cursor, kind, depth + 1, room)?);
        left -= 1;
    }
    if let Some(bytes) = width(kind) {
        cursor.skip(some(left.checked_mul(bytes), "an array is too long")?)?;
    } else {
        // Each element takes at least eight bytes of the file, so this ends with the file.
        for _ in 0..left {
            if kind == 8 {
                let bytes = cursor.u64()?;
                cursor.skip(bytes)?;
            } else {
                value(cursor, kind, depth + 1, &mut 0)?;
            }
        }
    }
    Ok(GgufValue::Array { count, head })
}

/// A row of the table, if its type is known. `start` counts from the first byte of data.
fn tensor(cursor: &mut Cursor<'_>) -> Read<Option<Tensor>> {
    let name = cursor.name()?;
    let dimensions = cursor.u32()?;
    if dimensions > DIMENSIONS_MAX {
        return odd(format!("tensor '{name}' has too many dimensions"));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64()?);
    }
    let dtype = element_type(cursor.u32()?);
    let start = cursor.u64()?;
    let Some(dtype) = dtype else {
        return Ok(None);
    };
    // ggml has the innermost dimension first, and blocks lie within it.
    let whole = shape
        .first()
        .is_none_or(|row| row.is_multiple_of(dtype.block().0));
    shape.reverse();
    let elements = shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
    let bytes = elements.and_then(|n| dtype.bytes_of(n));
    let Some(bytes) = bytes.filter(|_| whole) else {
        return odd(format!("the shape of tensor '{name}' is wrong"));
    };
    Ok(Some(Tensor {
        name,
        dtype,
        shape,
        start,
        bytes,
    }))
}

/// ggml's number of an element type. The numbers left out were withdrawn, or are newer than this.
fn element_type(number: u32) -> Option<DType> {
    Some(match number {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        9 => DType::Q8_1,
        10 => DType::Q2K,
        11 => DType::Q3K,
        12 => DType::Q4K,
        13 => DType::Q5K,
        14 => DType::Q6K,
        15 => DType::Q8K,
        16 => DType::Iq2Xxs,
        17 => DType::Iq2Xs,
        18 => DType::Iq3Xxs,
        19 => DType::Iq1S,
        20 => DType::Iq4Nl,
        21 => DType::Iq3S,
        22 => DType::Iq2S,
        23 => DType::Iq4Xs,
        24 => DType::I8,
        25 => DType::I16,
        26 => DType::I32,
        27 => DType::I64,
        28 => DType::F64,
        29 => DType::Iq1M,
        30 => DType::Bf16,
        34 => DType::Tq1_0,
        35 => DType::Tq2_0,
        39 => DType::Mxfp4,
        _ => return None,
    })
}

/// Reads a file from its front, a window at a time, and no further than a header may go.
struct Cursor<'a> {
    file: &'a dyn ReadAt,
    position: u64,
    /// The next byte to read stands `behind` bytes after the front of the window.
    window: Vec<u8>,
    behind: usize,
}

/// Bytes read at a time.
const WINDOW_BYTES: u64 = 64 << 10;

impl<'a> Cursor<'a> {
    fn new(file: &'a dyn ReadAt) -> Self {
        Self {
            file,
            position: 0,
            window: Vec::new(),
            behind: 0,
        }
    }

    /// Refuses to go on for `bytes` bytes if the file or the limit ends before.
    fn allow(&self, bytes: u64) -> Read<()> {
        let end = some(self.position.checked_add(bytes), "its header is too long")?;
        if end > self.file.len() {
            return odd("it ends within its header");
        }
        if end > HEADER_BYTES_MAX {
            return odd("its header is too long");
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        self.allow(N as u64)?;
        if self.window.len() - self.behind < N {
            let bytes = (self.file.len() - self.position).min(WINDOW_BYTES);
            self.window.resize(usize::try_from(bytes).unwrap_or(N), 0);
            self.file.read_at(self.position, &mut self.window)?;
            self.behind = 0;
        }
        let found = self.window.get(self.behind..).and_then(<[u8]>::first_chunk);
        let found = *some(found, "it ends within its header")?;
        self.behind += N;
        self.position += N as u64;
        Ok(found)
    }

    fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Read<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn skip(&mut self, bytes: u64) -> Read<()> {
        self.allow(bytes)?;
        self.position += bytes;
        let behind = usize::try_from(bytes).map_or(usize::MAX, |b| self.behind.saturating_add(b));
        self.behind = behind.min(self.window.len());
        Ok(())
    }

    /// A text of any bytes, with its length in front.
    fn text(&mut self) -> Read<Vec<u8>> {
        let bytes = self.u64()?;
        self.allow(bytes)?;
        let length = some(usize::try_from(bytes).ok(), "a text is too long")?;
        let text = match self.window.get(self.behind..).and_then(|w| w.get(..length)) {
            Some(text) => text.to_vec(),
            None => self.file.read_vec(self.position, length)?,
        };
        self.skip(bytes)?;
        Ok(text)
    }

    /// The name of a key or tensor.
    fn name(&mut self) -> Read<String> {
        some(
            String::from_utf8(self.text()?).ok(),
            "a name is not UTF-8 text",
        )
    }
}

#[cfg(test)]
mod tests;
