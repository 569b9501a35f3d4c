//! 16-bit heads without a prediction, with 256-bit vectors. Every function has a plain twin that
//! gives the same results.
//!
//! May use: `avx2_encode`, `bits`, `kernel`. Must never read or write outside its slices; each
//! block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::avx2_encode::{Raw, lanes64, look_up};
use super::bits::BitWriter;
use super::kernel::{Heads, is_available, largest};

/// Symbols of groups of 16 heads as slots, and their raw bits; `escape` is told the escapes.
pub(super) fn split_heads(
    split: &Heads,
    indexes: &[u8],
    heads: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    escape: &mut dyn FnMut(usize),
) -> usize {
    let len = indexes.len().min(heads.len() / 2).min(slots.len()) / 16 * 16;
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
        steps(split, &indexes[..len], heads, slots, raw, escape);
    }
    len
}

/// # Safety
/// As [`split_heads`] has checked.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn split_steps<const COUNTING: bool>(
    split: &Heads,
    indexes: &[u8],
    heads: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    escape: &mut dyn FnMut(usize),
) {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let shift = _mm_cvtsi32_si128(split.low as i32);
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
            let place = _mm256_sub_epi16(upper, _mm256_set1_epi16(split.lowest as i16));
            let window = _mm256_min_epu16(place, _mm256_set1_epi16(253));
            let inside = _mm256_cmpeq_epi16(window, place);
            let symbol = _mm256_add_epi16(place, _mm256_set1_epi16(1));
            let symbol = _mm256_blendv_epi8(last, symbol, inside);
            let symbol = _mm256_andnot_si256(_mm256_cmpeq_epi16(t, zero), symbol);
            let row = _mm256_cvtepu8_epi16(_mm_loadu_si128(indexes.as_ptr().add(at).cast()));
            let row = _mm256_slli_epi16::<8>(row);
            let gather = |code: __m256i| {
                let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(code));
                let high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(code));
                [look_up(table, low), look_up(table, high)]
            };
            let code = _mm256_or_si256(row, symbol);
            let place = slots.as_mut_ptr().add(at);
            if COUNTING {
                let one = _mm256_set1_epi32(1);
                let low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(code));
                let high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(code));
                _mm256_storeu_si256(place.cast(), _mm256_add_epi32(low, one));
                _mm256_storeu_si256(place.add(8).cast(), _mm256_add_epi32(high, one));
                continue;
            }
            let mut slot = gather(code);
            let absent = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(
                _mm256_cmpeq_epi32(slot[0], zero),
                _mm256_cmpeq_epi32(slot[1], zero),
            ));
            let symbol = _mm256_blendv_epi8(symbol, last, absent);
            if _mm256_movemask_epi8(absent) != 0 {
                slot = gather(_mm256_or_si256(row, symbol));
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

/// Puts groups of 16 heads together, escapes as zeros, until the end of the raw bits is near;
/// gives how many, and moves `position`, in bits.
pub(super) fn join_heads(
    join: &Heads,
    symbols: &[u8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let len = symbols.len().min(out.len() / 2) / 16 * 16;
    if !is_available() || join.low > 8 {
        return 0;
    }
    // SAFETY: the processor has the instructions; both slices hold `len` elements.
    unsafe { join_steps(join, &symbols[..len], raw, position, out) }
}

/// # Safety
/// The instructions of [`is_available`]; `symbols` has a multiple of 16, `out` at least as many
/// elements; at most 9 raw bits an element.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn join_steps(
    join: &Heads,
    symbols: &[u8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let shift = _mm_cvtsi32_si128(join.low as i32);
    let below = _mm256_set1_epi16(((1u32 << join.low) - 1) as i16);
    let full = _mm256_set1_epi16(((2u32 << join.low) - 1) as i16);
    let before = _mm256_set1_epi16((join.lowest as i16).wrapping_sub(1));
    // SAFETY: each step reads and writes 16 elements at places below the length of `symbols`; four
    // loads of 8 raw bytes begin at most 3 * 36 bits after `position`, and 40 bytes are left.
    unsafe {
        let mut at = 0;
        while at < symbols.len() && *position / 8 + 40 <= raw.len() {
            let symbol = _mm256_cvtepu8_epi16(_mm_loadu_si128(symbols.as_ptr().add(at).cast()));
            let without = _mm256_or_si256(
                _mm256_cmpeq_epi16(symbol, zero),
                _mm256_cmpeq_epi16(symbol, _mm256_set1_epi16(255)),
            );
            let mut lanes = lanes64(_mm256_andnot_si256(without, full));
            for lane in &mut lanes {
                let from = raw.as_ptr().add(*position / 8).cast::<u64>();
                let bits = from.read_unaligned().to_le() >> (*position & 7);
                *position += lane.count_ones() as usize;
                *lane = _pdep_u64(bits, *lane);
            }
            let low = _mm256_loadu_si256(lanes.as_ptr().cast());
            let upper = _mm256_sll_epi16(_mm256_add_epi16(symbol, before), shift);
            let size = _mm256_or_si256(upper, _mm256_and_si256(low, below));
            let sign = _mm256_slli_epi16::<15>(_mm256_srl_epi16(low, shift));
            let head = _mm256_or_si256(_mm256_and_si256(size, magnitude), sign);
            let head = _mm256_andnot_si256(without, head);
            _mm256_storeu_si256(out.as_mut_ptr().add(2 * at).cast(), head);
            at += 16;
        }
        at
    }
}
