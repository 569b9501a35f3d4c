//! Decoding with the 128-bit vectors that every AArch64 processor has. Every function has a plain
//! twin that gives the same results.
//!
//! May use: `kernel`, `rans`, `table`. Must never read or write outside its slices, whatever the
//! coded bytes say: loads and stores go through arrays and slices of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::kernel::{ESCAPE, FLIP, Join, Map16, NEGATIVE, RAW_BYTES, STEP_BYTES, largest};
use super::rans::{LANES, Stream};
use super::table::Tables;

/// For each set of lanes that need a word: which bytes of the next words each lane takes; a
/// place beyond them gives 0.
static EXPAND: [[u8; 16]; 16] = {
    let mut table = [[0xFF; 16]; 16];
    let mut set = 0;
    while set < 16 {
        let (mut lane, mut next) = (0, 0);
        while lane < 4 {
            if set >> lane & 1 == 1 {
                table[set][4 * lane] = 2 * next;
                table[set][4 * lane + 1] = 2 * next + 1;
                next += 1;
            }
            lane += 1;
        }
        set += 1;
    }
    table
};

/// Decodes whole groups of [`LANES`] symbols of every stream; gives how many symbols of each. The
/// rest is for the twin.
pub(super) fn decode<const N: usize>(streams: &mut [Stream; N], tables: &Tables) -> usize {
    let groups = streams
        .iter()
        .map(|stream| stream.indexes.len().min(stream.symbols.len()) / LANES)
        .min()
        .unwrap_or(0);
    let is_known = |stream: &Stream| {
        let most = largest(&stream.indexes[..groups * LANES]);
        usize::from(most) < tables.count()
    };
    if !streams.iter().all(is_known) {
        return 0;
    }
    for group in 0..groups {
        let is_near = |stream: &Stream| {
            let decoder = &stream.decoder;
            decoder.position + STEP_BYTES > decoder.words.len()
        };
        if streams.iter().any(is_near) {
            return group * LANES;
        }
        for stream in &mut *streams {
            step(stream, group, tables);
        }
    }
    groups * LANES
}

/// Decodes one group of a stream that has [`STEP_BYTES`] left.
fn step(stream: &mut Stream, group: usize, tables: &Tables) {
    let range = group * LANES..(group + 1) * LANES;
    let (indexes, symbols) = (&stream.indexes[range.clone()], &mut stream.symbols[range]);
    let (entries, bits) = (tables.entries(), tables.bits());
    let decoder = &mut *stream.decoder;
    let words = &decoder.words[decoder.position..decoder.position + STEP_BYTES];
    let states = &mut decoder.states;
    let mut used = 0;
    for v in 0..LANES / 4 {
        let at = 4 * v;
        let entry: [u32; 4] = std::array::from_fn(|i| {
            let slot = states[at + i] & ((1 << bits) - 1);
            entries[(usize::from(indexes[at + i]) << bits) + slot as usize]
        });
        for (symbol, entry) in symbols[at..at + 4].iter_mut().zip(entry) {
            *symbol = entry as u8;
        }
        let set;
        // SAFETY: `entry` and the states have four numbers from where they are loaded; at
        // most `at` words were used before, so 8 bytes are left of `words`; `EXPAND` has a row
        // for each of the 16 masks.
        unsafe {
            let e = vld1q_u32(entry.as_ptr());
            let x = vld1q_u32(states[at..at + 4].as_ptr());
            let frequency = vandq_u32(vshrq_n_u32::<8>(e), vdupq_n_u32(0xFFF));
            let upper = vshlq_u32(x, vdupq_n_s32(-(bits as i32)));
            let next = vmlaq_u32(vshrq_n_u32::<20>(e), frequency, upper);
            let short = vceqq_u32(vshrq_n_u32::<16>(next), vdupq_n_u32(0));
            let lanes = vand_u16(vmovn_u32(short), vld1_u16([1, 2, 4, 8].as_ptr()));
            set = usize::from(vaddv_u16(lanes));
            let fresh = vld1_u8(words[used..used + 8].as_ptr());
            let fresh = vcombine_u8(fresh, vdup_n_u8(0));
            let taken = vqtbl1q_u8(fresh, vld1q_u8(EXPAND[set].as_ptr()));
            let full = vorrq_u32(vshlq_n_u32::<16>(next), vreinterpretq_u32_u8(taken));
            let next = vbslq_u32(short, full, next);
            vst1q_u32(states[at..at + 4].as_mut_ptr(), next);
        }
        used += 2 * set.count_ones() as usize;
    }
    decoder.position += used;
}

/// The tables of whole groups of 8 elements, with nothing predicted those of their scales alone;
/// gives how many elements.
pub(super) fn indexes16(
    map: &Map16,
    scales: &[i16],
    predicted: Option<&[u8]>,
    out: &mut [u8],
) -> usize {
    let (scales, _) = scales.as_chunks::<8>();
    let predicted = predicted.map(|predicted| predicted.as_chunks::<16>().0);
    let (out, _) = out.as_chunks_mut::<8>();
    let mut groups = scales.len().min(out.len());
    if let Some(predicted) = predicted {
        groups = groups.min(predicted.len());
    }
    // SAFETY: every load and store is of an array of its length; `map.map` has 32 bytes.
    unsafe {
        let tables = vld1q_u8_x2(map.map.as_ptr());
        let down = vdupq_n_s16(-(map.mantissa as i16));
        for (n, (scales, out)) in scales.iter().zip(out).take(groups).enumerate() {
            let p = predicted.map_or(&[0; 16], |predicted| &predicted[n]);
            let p = vreinterpretq_u16_u8(vld1q_u8(p.as_ptr()));
            let p = vandq_u16(p, vdupq_n_u16(0x7FFF));
            let exponent = vreinterpretq_s16_u16(vshlq_u16(p, down));
            let scale = vld1q_s16(scales.as_ptr());
            let distance = vsubq_s16(scale, vshlq_n_s16::<2>(exponent));
            let distance = vsubq_s16(distance, vdupq_n_s16(map.low));
            let half = vshrq_n_s16::<1>(distance);
            let context = vminq_s16(vmaxq_s16(half, vdupq_n_s16(0)), vdupq_n_s16(31));
            let mut index = vqtbl2_u8(tables, vqmovun_s16(context));
            if let Some(zero) = map.zero {
                let none = vmovn_u16(vceqq_u16(p, vdupq_n_u16(0)));
                index = vbsl_u8(none, vdup_n_u8(zero), index);
            }
            vst1_u8(out.as_mut_ptr(), index);
        }
    }
    8 * groups
}

/// Puts groups of 8 elements together until a symbol beyond the escape, or the end of the raw
/// bits is near; gives how many elements, and moves `position`, in bits.
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
    for at in 0..groups {
        let (symbol, predicted, out) = (&symbols[at], &predicted[at], &mut out[at]);
        let fraction = fractions.map(|fractions| &fractions[at]);
        let small = step16(join, symbol, predicted, fraction, out);
        if small == u8::MAX {
            continue;
        }
        if *position / 8 + RAW_BYTES > join.raw.len() {
            return 8 * at;
        }
        let before = *position;
        for lane in (0..8).filter(|lane| small >> lane & 1 == 0) {
            let pattern = u16::from_le_bytes([predicted[2 * lane], predicted[2 * lane + 1]]);
            let below = fraction.is_some_and(|fraction| fraction[lane] < 0);
            let Some(element) = wide16(join, symbol[lane], pattern, below, position, |raw| {
                patch(8 * at + lane, raw) as u16
            }) else {
                *position = before;
                return 8 * at;
            };
            out[2 * lane..2 * lane + 2].copy_from_slice(&element.to_le_bytes());
        }
    }
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
    position: &mut usize,
    patch: impl FnOnce(u32) -> u16,
) -> Option<u16> {
    let escape = 2 * join.moves + 21;
    if u32::from(symbol) > escape {
        return None;
    }
    let is_escape = u32::from(symbol) == escape;
    let mut take = |count: u32| {
        let at = *position / 8;
        let bytes = join.raw.get(at..at + 8)?.first_chunk()?;
        let bits = u64::from_le_bytes(*bytes) >> (*position % 8);
        *position += count as usize;
        Some((bits & ((1 << count) - 1)) as u32)
    };
    if join.zeros && pattern & 0x7FFF == 0 && !is_escape {
        if symbol == 0 {
            return Some(pattern);
        }
        return Some(patch(take(join.number.mantissa + 1)?));
    }
    let place = join.places.wide[usize::from(symbol)];
    let raw = take(place >> 16 & 0xFF)?;
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
