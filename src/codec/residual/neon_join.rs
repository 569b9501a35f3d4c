//! Putting elements together with 128-bit vectors. Every function has a plain twin that gives the
//! same results.
//!
//! May use: `bits`, `neon_bits`, `operands`. Must never read or write outside its slices,
//! whatever the coded bytes say: loads and stores go through arrays of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::bits::BitReader;
use super::neon_bits::take4;
use super::operands::{ESCAPE, FLIP, Join, NEGATIVE};

/// Puts groups of 8 elements together until a symbol beyond the escape; gives how many elements,
/// and moves `position`, in bits.
pub(super) fn join16(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let (symbols, _) = symbols.as_chunks::<8>();
    let (predicted, _) = predicted.as_chunks::<16>();
    let (out, _) = out.as_chunks_mut::<16>();
    let fractions = fractions.map(|fractions| fractions.as_chunks::<8>().0);
    let mut groups = symbols.len().min(predicted.len()).min(out.len());
    if let Some(fractions) = fractions {
        groups = groups.min(fractions.len());
    }
    let mut bits = BitReader::new(join.raw);
    bits.position = *position;
    for at in 0..groups {
        let (symbol, predicted, out) = (&symbols[at], &predicted[at], &mut out[at]);
        let fraction = fractions.map(|fractions| &fractions[at]);
        let small = step16(join, symbol, predicted, fraction, out);
        // Where the group began, for the twin begins there too.
        *position = bits.position;
        for lane in (0..8).filter(|lane| small >> lane & 1 == 0) {
            let pattern = u16::from_le_bytes([predicted[2 * lane], predicted[2 * lane + 1]]);
            let below = fraction.is_some_and(|fraction| fraction[lane] < 0);
            let Some(element) = wide16(join, symbol[lane], pattern, below, &mut bits, |raw| {
                patch(8 * at + lane, raw) as u16
            }) else {
                return 8 * at;
            };
            out[2 * lane..2 * lane + 2].copy_from_slice(&element.to_le_bytes());
        }
    }
    *position = bits.position;
    8 * groups
}

/// Puts 8 elements together as if all symbols were small; gives the set of those that were.
fn step16(
    join: &Join,
    symbol: &[u8; 8],
    predicted: &[u8; 16],
    fraction: Option<&[i16; 8]>,
    out: &mut [u8; 16],
) -> u8 {
    // SAFETY: every load and store is of an array of its length; `small` has 16 bytes.
    unsafe {
        let symbols = vld1_u8(symbol.as_ptr());
        let p = vreinterpretq_u16_u8(vld1q_u8(predicted.as_ptr()));
        let size = vandq_u16(p, vdupq_n_u16(0x7FFF));
        let small = vqtbl1_s8(vld1q_s8(join.places.small.as_ptr()), symbols);
        let mut difference = vmovl_s8(small);
        if let Some(fraction) = fraction {
            let below = vcltzq_s16(vld1q_s16(fraction.as_ptr()));
            difference = vbslq_s16(below, vnegq_s16(difference), difference);
        }
        let moved = vaddq_u16(size, vreinterpretq_u16_s16(difference));
        let moved = vandq_u16(moved, vdupq_n_u16(0x7FFF));
        let sign = vandq_u16(p, vdupq_n_u16(0x8000));
        vst1q_u8(
            out.as_mut_ptr(),
            vreinterpretq_u8_u16(vorrq_u16(moved, sign)),
        );
        let mut fits = vclt_u8(symbols, vdup_n_u8(15));
        if join.zeros {
            fits = vand_u8(fits, vmovn_u16(vtstq_u16(size, size)));
        }
        vaddv_u8(vand_u8(
            fits,
            vld1_u8([1, 2, 4, 8, 16, 32, 64, 128].as_ptr()),
        ))
    }
}

/// One element whose symbol has raw bits or meets a prediction of zero; nothing where the symbol
/// is beyond the escape.
fn wide16(
    join: &Join,
    symbol: u8,
    pattern: u16,
    below: bool,
    bits: &mut BitReader,
    patch: impl FnOnce(u32) -> u16,
) -> Option<u16> {
    let escape = 2 * join.moves + 21;
    if u32::from(symbol) > escape {
        return None;
    }
    let is_escape = u32::from(symbol) == escape;
    if join.zeros && pattern & 0x7FFF == 0 && !is_escape {
        if symbol == 0 {
            return Some(pattern);
        }
        return Some(patch(bits.take(join.number.mantissa + 1) as u32));
    }
    let place = join.places.wide[usize::from(symbol)];
    let raw = bits.take(place >> 16 & 0xFF) as u32;
    if place & ESCAPE != 0 {
        return Some(raw as u16);
    }
    let size = (place as u16).wrapping_add(raw as u16);
    let base = pattern & 0x7FFF;
    let flips = place & FLIP != 0;
    let up = flips || (place & NEGATIVE != 0) == below;
    let moved = if up {
        base.wrapping_add(size)
    } else {
        base.wrapping_sub(size)
    };
    let sign = if flips { !pattern } else { pattern };
    Some(sign & 0x8000 | moved & 0x7FFF)
}

/// Puts groups of 4 elements together; gives how many elements, and moves `position`, in bits.
pub(super) fn join32(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let (symbols, _) = symbols.as_chunks::<4>();
    let (predicted, _) = predicted.as_chunks::<16>();
    let (out, _) = out.as_chunks_mut::<16>();
    let groups = symbols.len().min(predicted.len()).min(out.len());
    let mut bits = BitReader::new(join.raw);
    bits.position = *position;
    for (at, out) in out.iter_mut().take(groups).enumerate() {
        let (raw, patched) = step32(join, &symbols[at], &predicted[at], &mut bits, out);
        if patched == [0; 4] {
            continue;
        }
        for lane in (0..4).filter(|&lane| patched[lane] != 0) {
            let element = patch(4 * at + lane, raw[lane]) as u32;
            out[4 * lane..4 * lane + 4].copy_from_slice(&element.to_le_bytes());
        }
    }
    *position = bits.position;
    4 * groups
}

/// Puts 4 elements together; gives their raw bits, and which are made of those alone and are not
/// done.
#[inline(always)]
fn step32(
    join: &Join,
    symbol: &[u8; 4],
    predicted: &[u8; 16],
    bits: &mut BitReader,
    out: &mut [u8; 16],
) -> ([u32; 4], [u32; 4]) {
    let places = symbol.map(|symbol| join.places.wide[usize::from(symbol)]);
    let starts = symbol.map(|symbol| join.places.starts[usize::from(symbol)]);
    let (mut raws, mut patches) = ([0; 4], [0; 4]);
    // SAFETY: loads and stores of arrays of their length.
    unsafe {
        let magnitude = vdupq_n_u32(0x7FFF_FFFF);
        let place = vld1q_u32(places.as_ptr());
        let is = |flag| vtstq_u32(place, vdupq_n_u32(flag));
        let p = vreinterpretq_u32_u8(vld1q_u8(predicted.as_ptr()));
        let size = vandq_u32(p, magnitude);
        let mut counts = vandq_u32(vshrq_n_u32::<16>(place), vdupq_n_u32(0xFF));
        if join.zeros {
            let none = vceqq_u32(size, vdupq_n_u32(0));
            let same = vceqq_u32(vld1q_u32(symbol.map(u32::from).as_ptr()), vdupq_n_u32(0));
            let patched = vbicq_u32(none, vorrq_u32(same, is(ESCAPE)));
            let own = vdupq_n_u32(join.number.mantissa + 1);
            counts = vbslq_u32(patched, own, counts);
            vst1q_u32(patches.as_mut_ptr(), patched);
        }
        let raw = take4(bits, counts);
        vst1q_u32(raws.as_mut_ptr(), raw);
        let sum = vaddq_u32(vld1q_u32(starts.as_ptr()), raw);
        let down = is(NEGATIVE);
        let moved = vbslq_u32(down, vsubq_u32(size, sum), vaddq_u32(size, sum));
        let sign = veorq_u32(p, is(FLIP));
        let element = vbslq_u32(magnitude, moved, sign);
        let element = vbslq_u32(is(ESCAPE), raw, element);
        vst1q_u8(out.as_mut_ptr(), vreinterpretq_u8_u32(element));
    }
    (raws, patches)
}
