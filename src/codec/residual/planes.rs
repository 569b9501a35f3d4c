//! Byte planes of elements: runs that are raw, constant, or coded by the plane's table.
//!
//! May use: `store_format` and the files beside it. Serves integers and booleans whole, 64-bit
//! floats beside a prediction, and the low bytes of wide floats without one.

use std::borrow::Cow;
use std::ops::Range;

use store_format::FormatError;

use super::bits::Fields;
use super::number;
use super::prediction::Prediction;
use super::rans;
use super::table::Tables;

/// Logarithm of the sum of a table's frequencies.
pub(super) const BITS: u32 = 12;

/// What a run of a plane is. The discriminant is the number stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Raw = 0,
    Constant = 1,
    Coded = 2,
}

impl Kind {
    fn from_number(number: u8) -> Result<Self, FormatError> {
        KINDS
            .into_iter()
            .find(|&kind| kind as u8 == number)
            .ok_or(FormatError::Unknown {
                field: "kind of a run of a plane",
                value: u64::from(number),
            })
    }
}

const KINDS: [Kind; 3] = [Kind::Raw, Kind::Constant, Kind::Coded];

/// Bytes of a piece: an encoder's runs begin and end with whole ones.
const PIECE: usize = 256;

/// The table of each plane, lowest byte first; none where a plane is not worth one.
#[derive(Clone, Debug)]
pub(super) struct Planes {
    pub tables: Vec<Option<Tables>>,
}

impl Planes {
    /// Appends one plane of a block.
    pub fn encode_plane(&self, plane: usize, bytes: &[u8], out: &mut Vec<u8>) {
        let slots = self.tables[plane].as_ref().map_or(&[][..], Tables::slots);
        for (kind, run) in cheapest_runs(bytes, slots) {
            let bytes = &bytes[run];
            out.push(kind as u8);
            put_length(bytes.len(), out);
            match kind {
                Kind::Raw => out.extend_from_slice(bytes),
                Kind::Constant => out.push(bytes[0]),
                Kind::Coded => {
                    let slots: Vec<u32> = bytes.iter().map(|&b| slots[usize::from(b)]).collect();
                    let mut stream = Vec::new();
                    rans::encode(BITS, rans::LANES, &slots, &mut stream);
                    put_length(stream.len(), out);
                    out.extend_from_slice(&stream);
                }
            }
        }
    }

    /// Reads one plane of a block of `len` elements.
    pub fn read_plane<'a>(
        &self,
        plane: usize,
        fields: &mut Fields<'a>,
        len: usize,
    ) -> Result<Cow<'a, [u8]>, FormatError> {
        let mut out = Vec::new();
        while out.len() < len {
            let kind = Kind::from_number(fields.byte()?)?;
            let run = fields.number(3)? as usize;
            if run == 0 || run > len - out.len() {
                return Err(FormatError::Invalid {
                    rule: "the runs of a plane have bytes, as many as the plane",
                });
            }
            if kind == Kind::Raw && run == len {
                return Ok(Cow::Borrowed(fields.take(len)?));
            }
            out.reserve_exact(len - out.len());
            match kind {
                Kind::Raw => out.extend_from_slice(fields.take(run)?),
                Kind::Constant => out.resize(out.len() + run, fields.byte()?),
                Kind::Coded => {
                    let stream = fields.number(3)? as usize;
                    let start = out.len();
                    out.resize(start + run, 0);
                    self.decode_run(plane, fields.take(stream)?, &mut out[start..])?;
                }
            }
        }
        Ok(Cow::Owned(out))
    }

    /// Decodes a run that has a stream.
    fn decode_run(&self, plane: usize, stream: &[u8], out: &mut [u8]) -> Result<(), FormatError> {
        let tables = self.tables[plane].as_ref().ok_or(FormatError::Invalid {
            rule: "a coded plane has a table",
        })?;
        let mut decoder = rans::Decoder::new(stream, rans::LANES)?;
        let indexes = [0u8; 1024];
        for part in out.chunks_mut(1024) {
            decoder.decode(tables, &indexes[..part.len()], part);
        }
        if decoder.is_finished() {
            Ok(())
        } else {
            Err(FormatError::Invalid {
                rule: "a coded plane ends where its coder began",
            })
        }
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

/// A length of three bytes.
fn put_length(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&(len as u32).to_le_bytes()[..3]);
}

/// More than any plane costs.
const NEVER: u64 = 1 << 40;

/// The runs that take the least bytes: piece by piece the cheapest way to each kind (Viterbi 1967).
/// Costs are in parts of 256 of a bit. Without slots nothing is coded.
fn cheapest_runs(bytes: &[u8], slots: &[u32]) -> Vec<(Kind, Range<usize>)> {
    const BYTE: u64 = 8 * 256;
    // What a run costs to begin: kind and length, then a byte; or a length and a coder's states.
    const BEGIN: [u64; 3] = [4 * BYTE, 5 * BYTE, (4 + 3 + 96) * BYTE];
    let cost_of = |slot: &u32| match slot & 0xFFFF {
        0 => NEVER,
        frequency => (256.0 * (f64::from(BITS) - f64::from(frequency).log2())) as u64,
    };
    let costs: Vec<u64> = slots.iter().map(cost_of).collect();
    let mut least = [0; 3];
    // For each piece and the kind it may have, the kind before it, and whether a run begins here.
    let mut steps = Vec::with_capacity(bytes.len().div_ceil(PIECE));
    let mut before = None;
    for piece in bytes.chunks(PIECE) {
        let is_constant = piece.iter().all(|byte| *byte == piece[0]);
        let own = [
            BYTE * piece.len() as u64,
            if is_constant { 0 } else { NEVER },
            if costs.is_empty() {
                NEVER
            } else {
                piece.iter().map(|&byte| costs[usize::from(byte)]).sum()
            },
        ];
        let cheapest = (0..3).min_by_key(|&kind| least[kind]).unwrap_or(0);
        let mut step = [(0, true); 3];
        let last = least;
        for kind in 0..3 {
            let goes_on =
                before.is_some_and(|byte| KINDS[kind] != Kind::Constant || byte == piece[0]);
            let begin = last[cheapest] + BEGIN[kind];
            step[kind] = if goes_on && last[kind] <= begin {
                (kind, false)
            } else {
                (cheapest, true)
            };
            least[kind] = own[kind] + if step[kind].1 { begin } else { last[kind] };
        }
        steps.push(step);
        before = piece.last().copied();
    }
    let mut kind = (0..3).min_by_key(|&kind| least[kind]).unwrap_or(0);
    let (mut runs, mut end) = (Vec::new(), bytes.len());
    for (n, step) in steps.iter().enumerate().rev() {
        let (from, begins) = step[kind];
        if begins {
            runs.push((KINDS[kind], n * PIECE..end));
            (kind, end) = (from, n * PIECE);
        }
    }
    runs.reverse();
    runs
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Planes {
        let mut frequencies = [0u16; 256];
        frequencies[..8].fill(1 << (BITS - 3));
        let tables = bytes
            .contains(&7)
            .then(|| Tables::new(BITS, 256, &frequencies));
        Planes {
            tables: vec![tables],
        }
    }

    #[test]
    fn a_plane_is_cut_where_its_kind_changes() {
        let noise: Vec<u8> = (0..2000u32)
            .map(|n| (n.wrapping_mul(n * 40_503) >> 9) as u8)
            .collect();
        let few: Vec<u8> = noise.iter().map(|byte| byte % 8).collect();
        let plane = [&noise[..], &[5; 1000], &few, &[6; 700], &noise].concat();
        let planes = of(&plane);
        let mut coded = Vec::new();
        planes.encode_plane(0, &plane, &mut coded);
        // The pieces on a border are raw.
        let ideal = 2 * noise.len() + few.len() * 3 / 8;
        assert!(
            coded.len() < ideal + 128 + 5 * 300,
            "{} {ideal}",
            coded.len()
        );
        let mut fields = Fields::new(&coded, "a plane");
        let read = planes.read_plane(0, &mut fields, plane.len());
        assert!(read.expect("a plane") == plane);
        fields.finish().expect("its end");
        for end in 0..coded.len() {
            let mut short = Fields::new(&coded[..end], "a plane");
            assert!(planes.read_plane(0, &mut short, plane.len()).is_err());
        }
        for at in 0..coded.len() {
            coded[at] ^= 0x5A;
            let mut hurt = Fields::new(&coded, "a plane");
            if let Ok(read) = planes.read_plane(0, &mut hurt, plane.len()) {
                assert_eq!(read.len(), plane.len());
            }
            coded[at] ^= 0x5A;
        }
    }

    #[test]
    fn runs_that_do_not_fill_their_plane_are_refused() {
        let planes = of(&[]);
        for coded in [
            &[1, 0, 0, 0, 9][..],
            &[1, 5, 0, 0, 9],
            &[1, 3, 0, 0, 9],
            &[0, 4, 0, 0, 9, 9, 9],
            &[2, 4, 0, 0, 0, 0, 0],
            &[3, 4, 0, 0, 9],
        ] {
            let mut fields = Fields::new(coded, "a plane");
            assert!(planes.read_plane(0, &mut fields, 4).is_err(), "{coded:?}");
        }
    }
}
