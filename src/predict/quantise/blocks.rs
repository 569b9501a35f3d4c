//! The block types of ggml with one scale for 32 elements.
//!
//! May use: `store_format`. Must never look further than one block.
//!
//! The rules are those of ggml's reference functions (`quantize_row_*_ref`, ggml-quants.c,
//! MIT licence), stated in the specification and written here anew.

use store_format::FormatError;
use store_format::dtype::DType;

use super::super::{float, invalid, widen_at};
use super::{k_quants, round_half_away};

/// Fills the bytes of one block from its elements.
pub(super) type Filler = fn(&[f32], &mut [u8]);

/// The rule of a block type, if there is one here.
pub(super) fn filler(dtype: DType) -> Option<Filler> {
    Some(match dtype {
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q5_0 => q5_0,
        DType::Q5_1 => q5_1,
        DType::Q8_0 => q8_0,
        DType::Q2K => k_quants::q2,
        DType::Q3K => k_quants::q3,
        DType::Q4K => k_quants::q4,
        DType::Q5K => k_quants::q5,
        DType::Q6K => k_quants::q6,
        _ => return None,
    })
}

/// Fills all blocks of `out` from the elements of `bytes`.
pub(super) fn fill(
    from: DType,
    to: DType,
    bytes: &[u8],
    out: &mut [u8],
) -> Result<(), FormatError> {
    let Some(filler) = filler(to) else {
        return invalid("the target is of a block type that is defined here");
    };
    let (elements, block) = to.block();
    let mut values = [0.0; 256];
    let values = &mut values[..elements as usize];
    for (i, block) in out.chunks_exact_mut(block as usize).enumerate() {
        widen_at(from, bytes, i * values.len(), values)?;
        filler(values, block);
    }
    Ok(())
}

/// Writes a scale as binary16; every NaN is one.
pub(super) fn put_f16(out: &mut [u8], value: f32) {
    let raw = if value.is_nan() {
        0x7E00
    } else {
        float::to_f16(value)
    };
    out[..2].copy_from_slice(&raw.to_le_bytes());
}

/// `1 / d`, or 0 for a `d` of 0.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The first element of the largest magnitude.
pub(super) fn extreme(x: &[f32]) -> f32 {
    let (mut largest, mut value) = (0.0, 0.0);
    for &v in x {
        if v.abs() > largest {
            largest = v.abs();
            value = v;
        }
    }
    value
}

/// The whole part of a number that is not negative, at most `max`.
fn level(x: f32, max: i32) -> u8 {
    (x as i32).clamp(0, max) as u8
}

fn q8_0(x: &[f32], out: &mut [u8]) {
    let d = extreme(x).abs() / 127.0;
    let id = inverse(d);
    put_f16(out, d);
    for (to, &v) in out[2..].iter_mut().zip(x) {
        *to = (round_half_away(v * id) as i8).cast_unsigned();
    }
}

/// Two halves of a block share bytes: low nibbles the first, high ones the second.
fn halves(x: &[f32], out: &mut [u8], quantised: impl Fn(f32) -> u8) -> u32 {
    let (low, high) = x.split_at(16);
    let mut fifth = 0u32;
    for (j, to) in out.iter_mut().enumerate() {
        let (a, b) = (quantised(low[j]), quantised(high[j]));
        *to = (a & 15) | (b & 15) << 4;
        fifth |= u32::from(a >> 4) << j | u32::from(b >> 4) << (j + 16);
    }
    fifth
}

fn q4_0(x: &[f32], out: &mut [u8]) {
    let d = extreme(x) / -8.0;
    let id = inverse(d);
    put_f16(out, d);
    halves(x, &mut out[2..18], |v| level(v * id + 8.5, 15));
}

fn q5_0(x: &[f32], out: &mut [u8]) {
    let d = extreme(x) / -16.0;
    let id = inverse(d);
    put_f16(out, d);
    let fifth = halves(x, &mut out[6..22], |v| level(v * id + 16.5, 31));
    out[2..6].copy_from_slice(&fifth.to_le_bytes());
}

/// The least and the largest element.
fn bounds(x: &[f32]) -> (f32, f32) {
    let (mut min, mut max) = (f32::MAX, -f32::MAX);
    for &v in x {
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
    }
    (min, max)
}

fn q4_1(x: &[f32], out: &mut [u8]) {
    let (min, max) = bounds(x);
    let d = (max - min) / 15.0;
    let id = inverse(d);
    put_f16(out, d);
    put_f16(&mut out[2..], min);
    halves(x, &mut out[4..20], |v| level((v - min) * id + 0.5, 15));
}

fn q5_1(x: &[f32], out: &mut [u8]) {
    let (min, max) = bounds(x);
    let d = (max - min) / 31.0;
    let id = inverse(d);
    put_f16(out, d);
    put_f16(&mut out[2..], min);
    let fifth = halves(x, &mut out[8..24], |v| level((v - min) * id + 0.5, 31));
    out[4..8].copy_from_slice(&fifth.to_le_bytes());
}
