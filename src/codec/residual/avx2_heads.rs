//! 16-bit heads without a prediction, with 256-bit vectors. Every function has a plain twin that
//! gives the same results.
//!
//! May use: `avx2_decode`, `avx2_encode`, `avx2_join16`, `bits`, `kernel`, `operands`. Must never
//! read or write outside its slices; each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::avx2_decode::{halves, of_32};
use super::avx2_encode::{Raw, SWAP_MIDDLE, lanes64, look_up};
use super::avx2_join16::take_four;
use super::bits::BitWriter;
use super::kernel::{is_available, largest};
use super::operands::{Heads, RAW_BYTES};

/// Symbols of groups of 16 heads as slots, and their raw bits; `escape` is told the escapes.
pub(super) fn split_heads(
    split: &Heads,
    indexes: &[u8],
    floors: &[i8],
    heads: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    escape: &mut dyn FnMut(usize),
) -> usize {
    let len = indexes.len().min(heads.len() / 2).min(slots.len()) / 16 * 16;
    let len = len.min(floors.len() / 16 * 16);
    let inside = usize::from(largest(&indexes[..len])) < split.tables.count();
    if !is_available() || !inside || split.tables.alphabet() != 256 || split.low > 8 {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements, a multiple of
    // 16; every index is below the number of tables.
    unsafe {
        let steps = if split.tables.is_counting() {
            split_steps::<true>
        } else {
            split_steps::<false>
        };
        steps(split, &indexes[..len], floors, heads, slots, raw, escape);
    }
    len
}

/// # Safety
/// As [`split_heads`] has checked.
#[target_feature(enable = "avx2,bmi2,popcnt")]
#[expect(
    clippy::too_many_lines,
    reason = "one step of a loop, its values in registers"
)]
unsafe fn split_steps<const COUNTING: bool>(
    split: &Heads,
    indexes: &[u8],
    floors: &[i8],
    heads: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    escape: &mut dyn FnMut(usize),
) {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let shift = _mm_cvtsi32_si128(split.low as i32);
    let lowest = _mm256_set1_epi16(split.lowest);
    let last = _mm256_set1_epi16(255);
    let below = _mm256_set1_epi16(((1u32 << split.low) - 1) as i16);
    let full = _mm256_set1_epi16(((2u32 << split.low) - 1) as i16);
    let table = split.tables.slots().as_ptr().cast::<i32>();
    // Two quarters of a group fit one word where an element has at most 7 raw bits.
    let in_pairs = split.low <= 6;
    let mut raw = Raw::new(raw, if COUNTING { 0 } else { 2 * indexes.len() });
    // SAFETY: each step reads and writes 16 elements at places below the length of `indexes`; a
    // gather reads slot `table * 256 + symbol` with `table` below the number of tables.
    unsafe {
        for at in (0..indexes.len()).step_by(16) {
            let t = _mm256_loadu_si256(heads.as_ptr().add(2 * at).cast());
            let upper = _mm256_srl_epi16(_mm256_and_si256(t, magnitude), shift);
            // A quarter octave is an upper part. All counts modulo 2^16, but what they stand for
            // lies nearer than that, so that no place outside the window looks like one inside.
            let floor = _mm_loadu_si128(floors.as_ptr().add(at).cast());
            let first = _mm256_add_epi16(lowest, _mm256_cvtepi8_epi16(floor));
            let place = _mm256_sub_epi16(upper, first);
            let window = _mm256_min_epu16(place, _mm256_set1_epi16(253));
            let inside = _mm256_cmpeq_epi16(window, place);
            let symbol = _mm256_add_epi16(place, _mm256_set1_epi16(1));
            let symbol = _mm256_blendv_epi8(last, symbol, inside);
            let symbol = _mm256_andnot_si256(_mm256_cmpeq_epi16(t, zero), symbol);
            let row = _mm256_cvtepu8_epi16(_mm_loadu_si128(indexes.as_ptr().add(at).cast()));
            let row = _mm256_slli_epi16::<8>(row);
            let wide = |code: __m256i| {
                let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(code));
                [
                    low,
                    _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(code)),
                ]
            };
            let code = _mm256_or_si256(row, symbol);
            let place = slots.as_mut_ptr().add(at);
            if COUNTING {
                let ([low, high], one) = (wide(code), _mm256_set1_epi32(1));
                _mm256_storeu_si256(place.cast(), _mm256_add_epi32(low, one));
                _mm256_storeu_si256(place.add(8).cast(), _mm256_add_epi32(high, one));
                continue;
            }
            let [low, high] = wide(code);
            let mut slot = [look_up(table, low), look_up(table, high)];
            let absent = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(_mm256_packs_epi32(
                _mm256_cmpeq_epi32(slot[0], zero),
                _mm256_cmpeq_epi32(slot[1], zero),
            ));
            let symbol = _mm256_blendv_epi8(symbol, last, absent);
            if _mm256_movemask_epi8(absent) != 0 {
                let [low, high] = wide(_mm256_or_si256(row, symbol));
                slot = [look_up(table, low), look_up(table, high)];
            }
            _mm256_storeu_si256(place.cast(), slot[0]);
            _mm256_storeu_si256(place.add(8).cast(), slot[1]);
            let escapes = _mm256_cmpeq_epi16(symbol, last);
            let mut set = _mm256_movemask_epi8(escapes) as u32 & 0x5555_5555;
            while set != 0 {
                escape(at + set.trailing_zeros() as usize / 2);
                set &= set - 1;
            }
            let without = _mm256_or_si256(escapes, _mm256_cmpeq_epi16(symbol, zero));
            let sign = _mm256_sll_epi16(_mm256_srli_epi16::<15>(t), shift);
            let values = lanes64(_mm256_or_si256(_mm256_and_si256(t, below), sign));
            let masks = lanes64(_mm256_andnot_si256(without, full));
            let counts = masks.map(u64::count_ones);
            let bits = [0, 1, 2, 3].map(|i| _pext_u64(values[i], masks[i]));
            if in_pairs {
                raw.put(bits[0] | bits[1] << counts[0], counts[0] + counts[1]);
                raw.put(bits[2] | bits[3] << counts[2], counts[2] + counts[3]);
            } else {
                for (bits, count) in bits.into_iter().zip(counts) {
                    raw.put(bits, count);
                }
            }
        }
    }
    raw.finish();
}

/// The tables of whole groups of 32 elements, and the floors of their scales; gives how many
/// elements.
pub(super) fn indexes_alone(
    map: &[u8; 32],
    scales: &[i16],
    out: &mut [u8],
    floors: &mut [i8],
) -> usize {
    let len = scales.len().min(out.len()).min(floors.len()) / 32 * 32;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes_alone_steps(map, &scales[..len], out, floors) };
    len
}

/// # Safety
/// The instructions of [`is_available`]; a multiple of 32 scales, and room for as many results.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn indexes_alone_steps(map: &[u8; 32], scales: &[i16], out: &mut [u8], floors: &mut [i8]) {
    let [front, back] = halves(map);
    let whole = _mm256_set1_epi8(!3);
    // SAFETY: each step reads 32 scales and writes 32 bytes twice, at places below their number.
    unsafe {
        for at in (0..scales.len()).step_by(32) {
            let scale = |from: usize| _mm256_loadu_si256(scales.as_ptr().add(at + from).cast());
            let scale = _mm256_packs_epi16(scale(0), scale(16));
            let scale = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(scale);
            let floor = _mm256_and_si256(scale, whole);
            _mm256_storeu_si256(floors.as_mut_ptr().add(at).cast(), floor);
            let near = _mm256_add_epi8(floor, _mm256_set1_epi8(16));
            let near = _mm256_max_epi8(near, _mm256_setzero_si256());
            let near = _mm256_min_epi8(near, _mm256_set1_epi8(28));
            let place = _mm256_or_si256(near, _mm256_andnot_si256(whole, scale));
            let index = of_32(front, back, place);
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// Puts groups of 32 heads together, escapes as zeros, until the end of the raw bits is near;
/// gives how many, and moves `position`, in bits.
pub(super) fn join_heads(
    join: &Heads,
    symbols: &[u8],
    floors: &[i8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let len = symbols.len().min(floors.len()).min(out.len() / 2) / 32 * 32;
    if !is_available() || join.low > 8 {
        return 0;
    }
    // SAFETY: the processor has the instructions; both slices hold `len` elements; an element has
    // as many raw bits as the function supposes.
    unsafe {
        if join.low <= 6 {
            join_steps::<true>(join, &symbols[..len], floors, raw, position, out)
        } else {
            join_steps::<false>(join, &symbols[..len], floors, raw, position, out)
        }
    }
}

/// # Safety
/// The instructions of [`is_available`]; `symbols` has a multiple of 32, `floors` and `out` at
/// least as many elements; at most 9 raw bits an element, with `NARROW` at most 7.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn join_steps<const NARROW: bool>(
    join: &Heads,
    symbols: &[u8],
    floors: &[i8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let shift = _mm_cvtsi32_si128(join.low as i32);
    let to_top = _mm_cvtsi32_si128(15 - join.low as i32);
    let full = (2u32 << join.low) - 1;
    let below = _mm256_set1_epi16((full >> 1) as i16);
    let before = _mm256_set1_epi16(join.lowest.wrapping_sub(1));
    // A place of its own, which the compiler keeps in a register.
    let mut bits = *position;
    let mut at = 0;
    // SAFETY: each step reads and writes 32 elements at places below the length of `symbols`; raw
    // bits are read only where `RAW_BYTES` are left: 32 times at most 9 bits, and the width of the
    // last load.
    unsafe {
        while at < symbols.len() && bits / 8 + RAW_BYTES <= raw.len() {
            let symbol = _mm256_loadu_si256(symbols.as_ptr().add(at).cast());
            let symbol = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(symbol);
            let without = _mm256_or_si256(
                _mm256_cmpeq_epi8(symbol, zero),
                _mm256_cmpeq_epi8(symbol, _mm256_set1_epi8(-1)),
            );
            let symbols = [
                _mm256_unpacklo_epi8(symbol, zero),
                _mm256_unpackhi_epi8(symbol, zero),
            ];
            let withouts = [
                _mm256_unpacklo_epi8(without, without),
                _mm256_unpackhi_epi8(without, without),
            ];
            let lows = raw_of::<NARROW>(raw, full, without, &mut bits);
            for half in 0..2 {
                let floor = _mm_loadu_si128(floors.as_ptr().add(at + 16 * half).cast());
                let first = _mm256_add_epi16(before, _mm256_cvtepi8_epi16(floor));
                let upper = _mm256_sll_epi16(_mm256_add_epi16(symbols[half], first), shift);
                let size = _mm256_or_si256(upper, _mm256_and_si256(lows[half], below));
                // The sign lies above the low bits, all else that moves up with it does not count.
                let sign = _mm256_sll_epi16(lows[half], to_top);
                let head = _mm256_or_si256(
                    _mm256_and_si256(size, magnitude),
                    _mm256_andnot_si256(magnitude, sign),
                );
                let head = _mm256_andnot_si256(withouts[half], head);
                let place = out.as_mut_ptr().add(2 * (at + 16 * half));
                _mm256_storeu_si256(place.cast(), head);
            }
            at += 32;
        }
    }
    *position = bits;
    at
}

/// The raw bits of 32 heads as 16 bits each: as many as `full` has ones, or none where the head is
/// `without`. Those lie in quarters as the symbols do.
///
/// # Safety
/// As [`join_steps`], with [`RAW_BYTES`] of `raw` from `position` on.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn raw_of<const NARROW: bool>(
    raw: &[u8],
    full: u32,
    without: __m256i,
    position: &mut usize,
) -> [__m256i; 2] {
    let zero = _mm256_setzero_si256();
    let all = _mm256_testz_si256(without, without) == 1;
    // SAFETY: passed on.
    unsafe {
        if NARROW {
            let whole = u64::from(full) * (u64::MAX / 0xFF);
            let low = if all {
                take_four(raw, [whole; 4], position)
            } else {
                let mask = _mm256_andnot_si256(without, _mm256_set1_epi8(full as i8));
                let [first, third, second, fourth] = lanes64(mask);
                take_four(raw, [first, second, third, fourth], position)
            };
            let low = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(low);
            [
                _mm256_unpacklo_epi8(low, zero),
                _mm256_unpackhi_epi8(low, zero),
            ]
        } else {
            let whole = u64::from(full) * (u64::MAX / 0xFFFF);
            let full = _mm256_set1_epi16(full as i16);
            let withouts = [
                _mm256_unpacklo_epi8(without, without),
                _mm256_unpackhi_epi8(without, without),
            ];
            let mut lows = [zero; 2];
            for half in 0..2 {
                lows[half] = if all {
                    take_four(raw, [whole; 4], position)
                } else {
                    let mask = _mm256_andnot_si256(withouts[half], full);
                    take_four(raw, lanes64(mask), position)
                };
            }
            lows
        }
    }
}
