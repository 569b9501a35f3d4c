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
        *to = (round_half_away(v * id).clamp(-128, 127) as i8).cast_unsigned();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What ggml makes of `frac(i * 2654435761 / 2^32) - 0.5`, cut to 24 bits.
    const VECTORS: [(&str, &str); 10] = [
        ("Q4_0", "002ce08a24ce68f1ab35df7913bd57f19a34"),
        ("Q4_1", "2d2c00b8e08924bd67f19b35de7913bc56e18a24"),
        ("Q5_0", "00284a4b6b69c004488bcff3377abee2266aade11559"),
        ("Q5_1", "0b2800b84a4b6b69c004478bbff3367aaee22669add11559"),
        (
            "Q8_0",
            "081c811ebd5af99835d47110af4ceb8a27c66302a13edd7a19b855f4922fce6b0aa9",
        ),
        (
            "Q2_K",
            "ffcdeececddecfeecedfcdeececdeedf6cc6b11b866c1ab16bc66d1bb56cc6b15bc66c16b16bc6bc \
             1bc16c16b15bc6ac6c1ab15bc6ac1bf16c06b15bc6ac1ab16fc6b11b856c1ab16bc66c1ab56cc6b1 \
             fa241928",
        ),
        (
            "Q3_K",
            "9e61b44be19e4bb41f61be4bf49e63b4e40b5da21ff4aa5de01bf5a25ff42b5d481de6f78859e2f7 \
             875d2df2bb5821f68dd81762bd88d7227d88d7227e88d42337225d88f7235d89f7235e89f823628d \
             481fe6f5885be2f5845c2ff2b95b23e696a9900a95556aa6f0333cc3e29c",
        ),
        (
            "Q4_K",
            "33141720fffffefcfcfdfefcadfebdffc06903ad47d17b15be58f29c36c06a14ad48e28b25cf69f3 \
             9d37d17a14be58e259f39c36d07a04ae48e28b25cf69f39d37d17b15be58f29c26c06a04ad47e18b \
             e18b25cf69f39c36d07a14be58f29c35cf6903ad47e18b25be58f29c36d07a147a14be58e28c25cf \
             6903ad47d17b15be58f29c36c07a14ae47e18b25cf69f39d",
        ),
        (
            "Q5_K",
            "21101920fffffdfffffdfffdcdedddff6639cc7398e631cc6719ce339c6639cc7399c6338c6739ce \
             7398e631cc6799c680c4084b7fb3f63a6ea2e6296d91d5195c90c4084b7fb3f73a7ea2e62a6da1d5 \
             a2e61a5d91d5194d80c4084c7fb3f73b7fa2e62a5e91d5195d80c4084c80b3f7d3074b8fc2f63a7d \
             b1e5296da0e4185c9fd3074b8fc2063a7eb2f5296da0e418e5295d90d4185c8fc3074b8fb2f63a6e \
             a2e5296d90d4185c90c3074b8fc3f63a",
        ),
        (
            "Q6_K",
            "41a73fa61e960d950c74fc63fb63da52c640b930b920aa139a038df47df46de7b229c059c058ff56 \
             ff65fe95fc940b92e56ed64fd74fc830a9229a129b038cf45be06bf08a058a059f24af34be39ce48 \
             30a931aa029a039b046cf56df66ec65fc640b930aa20aa139a038df47de46dd7b229c058cf58ff66 \
             fe65fe950c940b92ac0670db05acd671ab066cdb31ac067114ca6315be60c9b314ce6309be54c963 \
             53298e54f99324ce53398e24f953248eac0573d802afd572a8056fd872af05728078867c86837885 \
             747d78867b8882781788",
        ),
    ];

    #[test]
    fn blocks_are_those_of_ggml() {
        let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0 - 0.5;
        for (name, want) in VECTORS {
            let dtype = DType::from_name(name).unwrap();
            let (elements, bytes) = dtype.block();
            let x: Vec<f32> = (0..elements as u32).map(value).collect();
            let mut out = vec![0xAA; bytes as usize];
            filler(dtype).unwrap()(&x, &mut out);
            let got: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
            let want: String = want.split_whitespace().collect();
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn blocks_of_zeros_and_of_no_numbers_are_defined() {
        for (name, _) in VECTORS {
            let dtype = DType::from_name(name).unwrap();
            let (elements, bytes) = dtype.block();
            for value in [
                0.0,
                -0.0,
                f32::NAN,
                -f32::NAN,
                f32::INFINITY,
                f32::MAX,
                1e-40,
            ] {
                let x = vec![value; elements as usize];
                let (mut once, mut again) = (vec![0; bytes as usize], vec![0xFF; bytes as usize]);
                filler(dtype).unwrap()(&x, &mut once);
                filler(dtype).unwrap()(&x, &mut again);
                assert_eq!(once, again, "{name} of {value}");
            }
        }
    }
}
