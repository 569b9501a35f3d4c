//! Safetensors: a strict reader of the header.
//!
//! May use: `bytes`, `error`, `store_format`. Must never trust a number of the header.
//!
//! Types and sizes are strict, order is not: tensors in any order, holes and trailing bytes are
//! taken, because the bytes come back exactly either way. Overlap is refused: one byte of the
//! file stands in one region only.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use store_format::dtype::DType;
use store_format::layout::{Layout, Tensor};

use super::{
    DIMENSIONS_MAX, HEADER_BYTES_MAX, Parsed, Read, Refusal, TENSORS_MAX, odd, some, tile,
};
use crate::bytes::ReadAt;
use crate::error::Result;

/// The length of the header stands in the first bytes.
pub(super) const LENGTH_BYTES: u64 = 8;

/// More texts than this are not given out.
const TEXTS_MAX: usize = 1 << 16;

/// The key of free text in the header.
pub(super) const METADATA: &str = "__metadata__";

/// Whether a file begins like safetensors: a length that fits and the start of a JSON object.
pub(super) fn looks_like(window: &[u8], file_bytes: u64) -> bool {
    let Some((length, rest)) = window.split_first_chunk() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    (2..=HEADER_BYTES_MAX).contains(&length)
        && length <= file_bytes.saturating_sub(LENGTH_BYTES)
        && rest.first() == Some(&b'{')
}

/// Reads a safetensors file.
pub(super) fn parse(file: &dyn ReadAt) -> Read<Parsed> {
    let json = header(file)?;
    let header_bytes = LENGTH_BYTES + json.len() as u64;
    let data_bytes = file.len() - header_bytes;
    let entries = entries(&json)?;
    let tensors = entries
        .into_iter()
        .map(|entry| entry.tensor(header_bytes, data_bytes))
        .collect::<Read<Vec<_>>>()?;
    tile::named_once(&tensors)?;
    tile::tile(
        Layout::Safetensors,
        header_bytes,
        tensors,
        Vec::new(),
        file.len(),
    )
}

/// The free text in the header of a safetensors file: the key `__metadata__`, as far as it is an
/// object of texts. Empty if there is none, if there are more than 65,536, or if the file is not
/// what it should be.
///
/// # Errors
/// Only if `file` cannot be read.
pub fn safetensors_metadata(file: &(impl ReadAt + ?Sized)) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let read =
        header(&super::Borrowed(file)).and_then(|json| walk(&json, Header::Metadata(&mut texts)));
    match read {
        Ok(()) => Ok(texts),
        Err(Refusal::Odd(_) | Refusal::Unrelated) => Ok(BTreeMap::new()),
        Err(Refusal::Failed(error)) => Err(error),
    }
}

/// The JSON of the header, padding included.
fn header(file: &dyn ReadAt) -> Read<Vec<u8>> {
    if file.len() < LENGTH_BYTES {
        return odd("it ends within the length of its header");
    }
    let mut length = [0; LENGTH_BYTES as usize];
    file.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > HEADER_BYTES_MAX {
        return odd("its header is too long");
    }
    if length > file.len() - LENGTH_BYTES {
        return odd("its header ends beyond the file");
    }
    let length = some(usize::try_from(length).ok(), "its header is too long")?;
    Ok(file.read_vec(LENGTH_BYTES, length)?)
}

/// One tensor as the header has it.
struct Entry {
    name: String,
    dtype: DType,
    shape: Vec<u64>,
    offsets: [u64; 2],
}

impl Entry {
    /// Checks the numbers against each other and against the length of the data.
    fn tensor(self, header_bytes: u64, data_bytes: u64) -> Read<Tensor> {
        let elements = self.shape.iter().try_fold(1_u64, |n, &d| n.checked_mul(d));
        let bytes = elements.and_then(|elements| self.dtype.bytes_of(elements));
        let [begin, end] = self.offsets;
        if bytes.is_none() || end.checked_sub(begin) != bytes {
            return odd(format!(
                "the shape of tensor '{}' does not fit its length",
                self.name
            ));
        }
        if end > data_bytes {
            return odd(format!("tensor '{}' ends beyond the file", self.name));
        }
        Ok(Tensor {
            name: self.name,
            dtype: self.dtype,
            shape: self.shape,
            start: header_bytes + begin,
            bytes: end - begin,
        })
    }
}

/// All tensors of a header.
fn entries(json: &[u8]) -> Read<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(json, Header::Tensors(&mut entries))?;
    Ok(entries)
}

/// Runs over the header with one of the two visits.
fn walk(json: &[u8], header: Header<'_>) -> Read<()> {
    if json.first() != Some(&b'{') {
        return odd("its header is not a JSON object");
    }
    let refused = |e: serde_json::Error| Refusal::Odd(format!("its header is wrong: {e}"));
    let mut json = serde_json::Deserializer::from_slice(json);
    json.deserialize_map(header).map_err(refused)?;
    json.end().map_err(refused)
}

/// What is wanted of the header; the rest is only checked to be JSON.
enum Header<'a> {
    Tensors(&'a mut Vec<Entry>),
    Metadata(&'a mut BTreeMap<String, String>),
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let mut seen_metadata = false;
        let mut this = self;
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if std::mem::replace(&mut seen_metadata, true) {
                    return Err(A::Error::custom("metadata stand there twice"));
                }
                match &mut this {
                    Self::Tensors(_) => drop(map.next_value_seed(Any)?),
                    Self::Metadata(texts) => map.next_value_seed(Texts(texts))?,
                }
                continue;
            }
            match &mut this {
                Self::Tensors(entries) => {
                    if entries.len() == TENSORS_MAX {
                        return Err(A::Error::custom("too many tensors"));
                    }
                    entries.push(map.next_value_seed(Fields(name))?);
                }
                Self::Metadata(_) => drop(map.next_value_seed(Any)?),
            }
        }
        Ok(())
    }
}

/// The fields of one tensor.
struct Fields(String);

impl<'de> DeserializeSeed<'de> for Fields {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Entry, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entry, A::Error> {
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let fresh = match key.as_str() {
                "dtype" => dtype.replace(map.next_value::<String>()?).is_none(),
                "shape" => shape
                    .replace(map.next_value_seed(Numbers(DIMENSIONS_MAX))?)
                    .is_none(),
                "data_offsets" => offsets.replace(map.next_value::<[u64; 2]>()?).is_none(),
                _ => {
                    map.next_value_seed(Any)?;
                    true
                }
            };
            if !fresh {
                return Err(A::Error::custom(format!("{key} stands there twice")));
            }
        }
        let missing = || A::Error::custom("a tensor lacks a field");
        let dtype = dtype.ok_or_else(missing)?;
        Ok(Entry {
            name: self.0,
            dtype: element_type(&dtype)
                .ok_or_else(|| A::Error::custom("an unknown element type"))?,
            shape: shape.ok_or_else(missing)?,
            offsets: offsets.ok_or_else(missing)?,
        })
    }
}

/// An element type that safetensors knows: ggml's block types have no name there.
fn element_type(name: &str) -> Option<DType> {
    DType::from_name(name).filter(|&dtype| is_known(dtype))
}

/// The numbers of element types are grouped: safetensors' own stand before ggml's.
pub(super) fn is_known(dtype: DType) -> bool {
    dtype.number() < DType::Q4_0.number()
}

/// A list of at most so many whole numbers.
struct Numbers(usize);

impl<'de> DeserializeSeed<'de> for Numbers {
    type Value = Vec<u64>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Vec<u64>, D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Vec<u64>, A::Error> {
        let mut numbers = Vec::new();
        while let Some(number) = seq.next_element()? {
            if numbers.len() == self.0 {
                return Err(A::Error::custom("too many dimensions"));
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

/// The texts of an object; values of other kinds are skipped.
struct Texts<'a>(&'a mut BTreeMap<String, String>);

impl<'de> DeserializeSeed<'de> for Texts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Texts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if let Some(text) = map.next_value_seed(Any)? {
                self.0.insert(key, text);
                if self.0.len() > TEXTS_MAX {
                    return Err(A::Error::custom("too many texts"));
                }
            }
        }
        Ok(())
    }
}

/// Any value, of which only a text is kept. It is gone through by recursion, so that the depth
/// limit of the JSON reader holds.
struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        json: D,
    ) -> std::result::Result<Option<String>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Option<String>, E> {
        Ok(Some(text.into()))
    }

    fn visit_unit<E>(self) -> std::result::Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut seq: A,
    ) -> std::result::Result<Option<String>, A::Error> {
        while seq.next_element_seed(Any)?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(
        self,
        mut map: A,
    ) -> std::result::Result<Option<String>, A::Error> {
        while map.next_key::<String>()?.is_some() {
            map.next_value_seed(Any)?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
