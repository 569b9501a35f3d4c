//! Byte planes: bytes split by their place in the element, each plane coded on its own, and the
//! difference from a prediction coded in the same way.
//!
//! May use: `error`, `store_format`. Must never look at a float's value: every element is an
//! unsigned little-endian integer of 1, 2, 4 or 8 bytes. Layout of the bytes: SPEC.md.

use store_format::FormatError;
use store_format::cursor::{Reader, put_u32, usize_of};

use super::frame;

const RAW: u8 = 0;
const CONSTANT: u8 = 1;
const ZSTD: u8 = 2;

/// An element width that can be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// One byte.
    W1,
    /// Two bytes.
    W2,
    /// Four bytes.
    W4,
    /// Eight bytes.
    W8,
}

impl Width {
    /// The width of `bytes` bytes, if elements can have it.
    #[must_use]
    pub const fn new(bytes: u64) -> Option<Self> {
        match bytes {
            1 => Some(Self::W1),
            2 => Some(Self::W2),
            4 => Some(Self::W4),
            8 => Some(Self::W8),
            _ => None,
        }
    }

    /// Bytes of an element.
    #[must_use]
    pub const fn bytes(self) -> u8 {
        match self {
            Self::W1 => 1,
            Self::W2 => 2,
            Self::W4 => 4,
            Self::W8 => 8,
        }
    }
}

/// Codes `plain` in planes. Never longer than `plain` and a byte a plane.
#[must_use]
pub fn encode(plain: &[u8], width: Width, level: i32) -> Vec<u8> {
    match width {
        Width::W1 => encode_planes::<1>(plain, level),
        Width::W2 => encode_planes::<2>(plain, level),
        Width::W4 => encode_planes::<4>(plain, level),
        Width::W8 => encode_planes::<8>(plain, level),
    }
}

fn encode_planes<const W: usize>(plain: &[u8], level: i32) -> Vec<u8> {
    let (elements, tail) = plain.as_chunks::<W>();
    let mut out = Vec::with_capacity(plain.len() / 2 + 64);
    let mut plane = vec![0; elements.len()];
    for place in 0..W {
        plane
            .iter_mut()
            .zip(elements)
            .for_each(|(to, element)| *to = element[place]);
        put_plane(&plane, level, &mut out);
    }
    out.extend_from_slice(tail);
    out
}

fn put_plane(plane: &[u8], level: i32, out: &mut Vec<u8>) {
    let Some(first) = plane.first() else { return };
    if plane.iter().all(|byte| byte == first) {
        out.extend_from_slice(&[CONSTANT, *first]);
        return;
    }
    // A plane that shrinks by less than 1 part in 32 stays raw, so that noise costs no time when
    // it is read; a sample tells noise before the whole plane is tried.
    let worth = |coded: usize, plain: usize| coded + plain / 32 < plain;
    let sample = &plane[..plane.len().min(1 << 14)];
    if plane.len() < 1 << 16 || worth(frame::encode(sample, 1).len(), sample.len()) {
        let coded = frame::encode(plane, level);
        if worth(coded.len() + 4, plane.len()) {
            out.push(ZSTD);
            put_u32(out, coded.len());
            out.extend_from_slice(&coded);
            return;
        }
    }
    out.push(RAW);
    out.extend_from_slice(plane);
}

/// Rebuilds `plain_bytes` bytes from their planes.
///
/// # Errors
/// [`FormatError`] where the coded bytes are damaged.
pub fn decode(coded: &[u8], width: Width, plain_bytes: usize) -> Result<Vec<u8>, FormatError> {
    match width {
        Width::W1 => decode_planes::<1>(coded, plain_bytes),
        Width::W2 => decode_planes::<2>(coded, plain_bytes),
        Width::W4 => decode_planes::<4>(coded, plain_bytes),
        Width::W8 => decode_planes::<8>(coded, plain_bytes),
    }
}

fn decode_planes<const W: usize>(coded: &[u8], plain_bytes: usize) -> Result<Vec<u8>, FormatError> {
    let mut reader = Reader::new(coded, "byte planes");
    let mut plain = vec![0; plain_bytes];
    let (elements, tail) = plain.as_chunks_mut::<W>();
    let count = elements.len();
    for place in 0..if count == 0 { 0 } else { W } {
        let places = elements.iter_mut().map(|element| &mut element[place]);
        match reader.u8()? {
            RAW => places
                .zip(reader.take(count)?)
                .for_each(|(to, from)| *to = *from),
            CONSTANT => {
                let value = reader.u8()?;
                places.for_each(|to| *to = value);
            }
            ZSTD => {
                let length = usize_of(reader.u32()?.into())?;
                let plane = frame::decode(reader.take(length)?, count)?;
                places.zip(&plane).for_each(|(to, from)| *to = *from);
            }
            mode => {
                return Err(FormatError::Unknown {
                    field: "plane mode",
                    value: mode.into(),
                });
            }
        }
    }
    tail.copy_from_slice(reader.take(tail.len())?);
    reader.finish()?;
    Ok(plain)
}

macro_rules! folding {
    ($fold:ident, $unfold:ident, $type:ty) => {
        /// Replaces elements by their folded difference from the prediction: small distances
        /// of either sign become small numbers. Bytes after the last element are subtracted.
        fn $fold(plain: &mut [u8], predicted: &[u8]) {
            let (elements, tail) = plain.as_chunks_mut();
            let (sources, source_tail) = predicted.as_chunks();
            for (to, from) in elements.iter_mut().zip(sources) {
                let difference =
                    <$type>::from_le_bytes(*to).wrapping_sub(<$type>::from_le_bytes(*from));
                let sign = (difference.cast_signed() >> (<$type>::BITS - 1)).cast_unsigned();
                *to = ((difference << 1) ^ sign).to_le_bytes();
            }
            for (to, from) in tail.iter_mut().zip(source_tail) {
                *to = to.wrapping_sub(*from);
            }
        }

        /// Takes back the folding.
        fn $unfold(folded: &mut [u8], predicted: &[u8]) {
            let (elements, tail) = folded.as_chunks_mut();
            let (sources, source_tail) = predicted.as_chunks();
            for (to, from) in elements.iter_mut().zip(sources) {
                let folded = <$type>::from_le_bytes(*to);
                let difference = (folded >> 1) ^ (folded & 1).wrapping_neg();
                *to = difference
                    .wrapping_add(<$type>::from_le_bytes(*from))
                    .to_le_bytes();
            }
            for (to, from) in tail.iter_mut().zip(source_tail) {
                *to = to.wrapping_add(*from);
            }
        }
    };
}

folding!(fold_1, unfold_1, u8);
folding!(fold_2, unfold_2, u16);
folding!(fold_4, unfold_4, u32);
folding!(fold_8, unfold_8, u64);

/// Codes the difference of `plain` from a prediction of the same length.
#[must_use]
pub fn encode_difference(plain: &[u8], predicted: &[u8], width: Width, level: i32) -> Vec<u8> {
    let mut folded = plain.to_vec();
    match width {
        Width::W1 => fold_1(&mut folded, predicted),
        Width::W2 => fold_2(&mut folded, predicted),
        Width::W4 => fold_4(&mut folded, predicted),
        Width::W8 => fold_8(&mut folded, predicted),
    }
    encode(&folded, width, level)
}

/// Rebuilds bytes from a prediction of their length and the coded difference.
///
/// # Errors
/// [`FormatError`] where the coded bytes are damaged.
pub fn decode_difference(
    coded: &[u8],
    predicted: &[u8],
    width: Width,
) -> Result<Vec<u8>, FormatError> {
    let mut plain = decode(coded, width, predicted.len())?;
    match width {
        Width::W1 => unfold_1(&mut plain, predicted),
        Width::W2 => unfold_2(&mut plain, predicted),
        Width::W4 => unfold_4(&mut plain, predicted),
        Width::W8 => unfold_8(&mut plain, predicted),
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WIDTHS: [Width; 4] = [Width::W1, Width::W2, Width::W4, Width::W8];

    proptest! {
        #[test]
        fn planes_and_differences_lead_back(plain: Vec<u8>, noise: Vec<u8>) {
            let mut predicted = plain.clone();
            predicted.iter_mut().zip(&noise).for_each(|(byte, n)| *byte ^= n);
            for width in WIDTHS {
                let coded = encode(&plain, width, 3);
                prop_assert!(coded.len() <= plain.len() + usize::from(width.bytes()));
                prop_assert_eq!(&decode(&coded, width, plain.len()).unwrap(), &plain);
                let coded = encode_difference(&plain, &predicted, width, 3);
                prop_assert!(coded.len() <= plain.len() + usize::from(width.bytes()));
                prop_assert_eq!(&decode_difference(&coded, &predicted, width).unwrap(), &plain);
            }
        }

        #[test]
        fn hostile_planes_are_refused_or_have_the_length(coded: Vec<u8>, plain_bytes in 0_usize..4096) {
            for width in WIDTHS {
                if let Ok(plain) = decode(&coded, width, plain_bytes) {
                    prop_assert_eq!(plain.len(), plain_bytes);
                }
            }
        }
    }

    #[test]
    fn a_small_step_of_either_sign_costs_one_plane() {
        let base: Vec<u8> = (0..4096_u32).flat_map(|n| (n << 8).to_le_bytes()).collect();
        let near: Vec<u8> = (0..4096_u32)
            .flat_map(|n| (n << 8).wrapping_add(n % 3).wrapping_sub(1).to_le_bytes())
            .collect();
        let coded = encode_difference(&near, &base, Width::W4, 3);
        assert_eq!(
            &coded[coded.len() - 6..],
            [CONSTANT, 0, CONSTANT, 0, CONSTANT, 0]
        );
        assert!(coded.len() < 300, "{}", coded.len());
    }
}
