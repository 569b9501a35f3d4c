//! Byte planes of elements: each raw, constant, or coded by one table of its own.
//!
//! May use: `store_format` and the files beside it. Serves integers and booleans whole, 64-bit
//! floats beside a prediction, and the low bytes of wide floats without one.

use std::borrow::Cow;

use store_format::FormatError;

use super::bits::Fields;
use super::number;
use super::prediction::Prediction;
use super::rans;
use super::table::Tables;

/// Logarithm of the sum of a table's frequencies.
pub(super) const BITS: u32 = 12;

const RAW: u8 = 0;
const CONSTANT: u8 = 1;
const CODED: u8 = 2;

/// The table of each plane, lowest byte first; none where a plane is not worth one.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    pub tables: Vec<Option<Tables>>,
}

impl Planes {
    /// Appends one plane of a block.
    pub fn encode_plane(&self, plane: usize, bytes: &[u8], out: &mut Vec<u8>) {
        let first = bytes.first().copied().unwrap_or(0);
        if bytes.iter().all(|&byte| byte == first) {
            out.extend_from_slice(&[CONSTANT, first]);
            return;
        }
        if let Some(tables) = &self.tables[plane]
            && let Some(slots) = slots_of(tables, bytes)
        {
            let mut stream = Vec::new();
            rans::encode(BITS, rans::LANES, &slots, &mut stream);
            if stream.len() + 3 < bytes.len() {
                out.push(CODED);
                out.extend_from_slice(&(stream.len() as u32).to_le_bytes()[..3]);
                out.extend_from_slice(&stream);
                return;
            }
        }
        out.push(RAW);
        out.extend_from_slice(bytes);
    }

    /// Reads one plane of a block of `len` elements.
    pub fn read_plane<'a>(
        &self,
        plane: usize,
        fields: &mut Fields<'a>,
        len: usize,
    ) -> Result<Cow<'a, [u8]>, FormatError> {
        Ok(match fields.byte()? {
            RAW => Cow::Borrowed(fields.take(len)?),
            CONSTANT => Cow::Owned(vec![fields.byte()?; len]),
            CODED => {
                let bytes = fields.number(3)? as usize;
                let stream = fields.take(bytes)?;
                let tables = self.tables[plane].as_ref().ok_or(FormatError::Invalid {
                    rule: "a coded plane has a table",
                })?;
                let mut decoder = rans::Decoder::new(stream, rans::LANES)?;
                let indexes = [0u8; 1024];
                let mut out = vec![0; len];
                for part in out.chunks_mut(1024) {
                    decoder.decode(tables, &indexes[..part.len()], part);
                }
                if !decoder.is_finished() {
                    return Err(FormatError::Invalid {
                        rule: "a coded plane ends where its coder began",
                    });
                }
                Cow::Owned(out)
            }
            kind => {
                return Err(FormatError::Unknown {
                    field: "coding of a plane",
                    value: u64::from(kind),
                });
            }
        })
    }

    /// Codes a block of whole elements.
    pub fn encode(&self, float: bool, target: &[u8], prediction: Prediction) -> Vec<u8> {
        let width = self.tables.len();
        let len = target.len() / width;
        let mut planes = vec![0u8; target.len()];
        for index in 0..len {
            let value = number::load(target, width, index);
            let change = change_of(float, width, value, prediction, index);
            for (plane, byte) in change.to_le_bytes()[..width].iter().enumerate() {
                planes[plane * len + index] = *byte;
            }
        }
        let mut out = Vec::new();
        for (plane, bytes) in planes.chunks_exact(len).enumerate() {
            self.encode_plane(plane, bytes, &mut out);
        }
        out
    }

    /// Decodes a block of whole elements.
    pub fn decode(
        &self,
        float: bool,
        raw: &[u8],
        prediction: Prediction,
        out: &mut [u8],
    ) -> Result<(), FormatError> {
        let width = self.tables.len();
        let len = out.len() / width;
        let mut fields = Fields::new(raw, "the planes of a block");
        for plane in 0..width {
            let bytes = self.read_plane(plane, &mut fields, len)?;
            for (element, &byte) in out.chunks_exact_mut(width).zip(&*bytes) {
                element[plane] = byte;
            }
        }
        fields.finish()?;
        if !matches!(prediction, Prediction::None) {
            for index in 0..len {
                let change = number::load(out, width, index);
                let predicted = prediction.element(None, width, index);
                let value = undo(float, width, change, predicted);
                number::store(out, width, index, value);
            }
        }
        Ok(())
    }

    /// Appends the tables.
    pub fn write(&self, out: &mut Vec<u8>) {
        for tables in &self.tables {
            out.push(u8::from(tables.is_some()));
            if let Some(tables) = tables {
                tables.write(out);
            }
        }
    }

    /// Reads the tables of `count` planes.
    pub fn read(fields: &mut Fields, count: usize) -> Result<Self, FormatError> {
        let tables = (0..count)
            .map(|_| match fields.byte()? {
                0 => Ok(None),
                1 => Tables::read(fields, BITS, 256, 1).map(Some),
                other => Err(FormatError::Unknown {
                    field: "presence of a table",
                    value: u64::from(other),
                }),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { tables })
    }
}

/// The slot of each byte, where all of them have one.
fn slots_of(tables: &Tables, bytes: &[u8]) -> Option<Vec<u32>> {
    let slots: Vec<u32> = bytes
        .iter()
        .map(|&b| tables.slots()[usize::from(b)])
        .collect();
    (!slots.contains(&0)).then_some(slots)
}

/// What is coded for an element: itself, or its change against the prediction, zigzag.
pub(super) fn change_of(
    float: bool,
    width: usize,
    value: u64,
    prediction: Prediction,
    index: usize,
) -> u64 {
    if matches!(prediction, Prediction::None) {
        return value;
    }
    let predicted = prediction.element(None, width, index);
    let shift = 64 - 8 * width as u32;
    let change = ordered(float, width, value).wrapping_sub(ordered(float, width, predicted));
    // Sign-extended from the element's width.
    let change = (change << shift) as i64 >> shift;
    ((change << 1) ^ (change >> 63)) as u64 & (u64::MAX >> shift)
}

fn undo(float: bool, width: usize, code: u64, predicted: u64) -> u64 {
    let mask = u64::MAX >> (64 - 8 * width as u32);
    let change = (code >> 1) ^ (code & 1).wrapping_neg();
    let value = ordered(float, width, predicted).wrapping_add(change) & mask;
    if !float {
        return value;
    }
    let top = 1u64 << (8 * width - 1);
    if value & top != 0 {
        value ^ top
    } else {
        !value & mask
    }
}

/// Bits of a float as an integer in the order of its values; integers are themselves.
fn ordered(float: bool, width: usize, bits: u64) -> u64 {
    if !float {
        return bits;
    }
    let top = 1u64 << (8 * width - 1);
    if bits & top != 0 {
        !bits & (u64::MAX >> (64 - 8 * width as u32))
    } else {
        bits | top
    }
}
