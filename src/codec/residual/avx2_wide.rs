//! 32-bit elements with 256-bit vectors. Every function has a plain twin that gives the same
//! results.
//!
//! May use: `avx2_encode`, `avx2_fine`, `bits`, `kernel`, `operands`. Must never read or write
//! outside its slices; each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::avx2_encode::{Raw, SWAP_MIDDLE, lanes64, look_up, ranks};
use super::avx2_fine::{by_sixteen, table_of};
use super::bits::BitWriter;
use super::kernel::{Coded, is_available, largest};
use super::operands::{Map32, Split};

/// The tables of whole groups of 32 elements.
pub(super) fn indexes32(map: &Map32, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let len = scales.len().min(predicted.len() / 4).min(out.len()) / 32 * 32;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes32_steps(map, &scales[..len], &predicted[..4 * len], &mut out[..len]) };
    len
}

/// # Safety
/// The instructions of [`is_available`]; slices of equal length in elements, a multiple of 32.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn indexes32_steps(map: &Map32, scales: &[i16], predicted: &[u8], out: &mut [u8]) {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    let low = _mm256_set1_epi16(map.low as i16);
    let seconds = _mm256_set1_epi16(if map.mantissa { 3 } else { 0 });
    let zero = _mm256_setzero_si256();
    let last = _mm256_set1_epi16(31);
    let tables = by_sixteen(&map.map);
    // SAFETY: each step reads 32 scales and 128 bytes of elements and writes 32 bytes at places
    // below the common length.
    unsafe {
        // Contexts of 16 elements, and which have a prediction of zero.
        let context = |at: usize| {
            let from = predicted.as_ptr().add(4 * at).cast::<__m256i>();
            let a = _mm256_and_si256(_mm256_loadu_si256(from), magnitude);
            let b = _mm256_and_si256(_mm256_loadu_si256(from.add(1)), magnitude);
            let upper = _mm256_packus_epi32(_mm256_srli_epi32::<21>(a), _mm256_srli_epi32::<21>(b));
            // The exponent, and below it two bits of the mantissa.
            let upper = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(upper);
            let scale = _mm256_loadu_si256(scales.as_ptr().add(at).cast());
            let scale = _mm256_srai_epi16::<2>(_mm256_sub_epi16(scale, low));
            let distance = _mm256_sub_epi16(scale, _mm256_srli_epi16::<2>(upper));
            let distance = _mm256_min_epi16(_mm256_max_epi16(distance, zero), last);
            let second = _mm256_and_si256(upper, seconds);
            let none = _mm256_packs_epi32(_mm256_cmpeq_epi32(a, zero), _mm256_cmpeq_epi32(b, zero));
            let none = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(none);
            (
                _mm256_or_si256(_mm256_slli_epi16::<2>(distance), second),
                none,
            )
        };
        for at in (0..out.len()).step_by(32) {
            let ((context_a, none_a), (context_b, none_b)) = (context(at), context(at + 16));
            let context = _mm256_packus_epi16(context_a, context_b);
            let context = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(context);
            let mut index = table_of(&tables, context);
            if let Some(table) = map.zero {
                let none = _mm256_packs_epi16(none_a, none_b);
                let none = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(none);
                index = _mm256_blendv_epi8(index, _mm256_set1_epi8(table as i8), none);
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// Takes groups of 8 elements apart.
pub(super) fn split32(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) -> usize {
    let len = indexes.len().min(predicted.len() / 4).min(target.len() / 4);
    let len = len.min(slots.len()) / 8 * 8;
    let right = split.alphabet as usize == split.tables.alphabet()
        && split.first_hot as usize + split.hot.len() <= split.tables.alphabet();
    let inside = usize::from(largest(&indexes[..len])) < split.tables.count();
    if !is_available() || !right || !inside || split.number.bytes != 4 {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements, a multiple of
    // 8; every index is below the number of tables, every symbol inside the alphabet.
    unsafe {
        let steps = if split.tables.is_counting() {
            split32_steps::<true>
        } else {
            split32_steps::<false>
        };
        steps(split, &indexes[..len], predicted, target, slots, raw, patch);
    }
    len
}

/// # Safety
/// As [`split32`] has checked.
#[expect(
    clippy::too_many_lines,
    reason = "one step of a loop, its values in registers"
)]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn split32_steps<const COUNTING: bool>(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) {
    let magnitude = _mm256_set1_epi32(0x7FFF_FFFF);
    let zero = _mm256_setzero_si256();
    let one = _mm256_set1_epi32(1);
    let alphabet = _mm256_set1_epi32(split.alphabet as i32);
    let table = split.tables.slots().as_ptr().cast::<i32>();
    let mut raw = Raw::new(raw, if COUNTING { 0 } else { 4 * indexes.len() });
    // SAFETY: each step reads and writes 8 elements at places below the length of `indexes`; slot
    // `table * alphabet + symbol` is read with `table` below the number of tables and `symbol`
    // below the alphabet, since special lanes are set to 0 before; an element has at most 32 raw
    // bits.
    unsafe {
        for at in (0..indexes.len()).step_by(8) {
            let p = _mm256_loadu_si256(predicted.as_ptr().add(4 * at).cast());
            let t = _mm256_loadu_si256(target.as_ptr().add(4 * at).cast());
            let size = _mm256_and_si256(p, magnitude);
            let mut special = _mm256_srai_epi32::<31>(_mm256_xor_si256(p, t));
            let difference = _mm256_sub_epi32(_mm256_and_si256(t, magnitude), size);
            if split.zeros {
                let none = _mm256_cmpeq_epi32(size, zero);
                let same = _mm256_cmpeq_epi32(p, t);
                special = _mm256_or_si256(special, _mm256_andnot_si256(same, none));
            }
            let away = _mm256_abs_epi32(difference);
            let (rank, bits) = ranks(away, 23);
            let positive = _mm256_cmpgt_epi32(difference, zero);
            let mut symbol = _mm256_add_epi32(_mm256_add_epi32(rank, rank), positive);
            let mut mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one);
            let mut beyond = _mm256_cmpgt_epi32(rank, _mm256_set1_epi32(split.moves as i32));
            // The hottest come first; no more are looked at than some element needs.
            let mut far = _mm256_cmpgt_epi32(away, _mm256_set1_epi32(7));
            for (number, &hot) in split.hot.iter().enumerate() {
                let hit = _mm256_cmpeq_epi32(difference, _mm256_set1_epi32(hot));
                let hit = _mm256_and_si256(hit, far);
                let own = _mm256_set1_epi32(split.first_hot as i32 + number as i32);
                symbol = _mm256_blendv_epi8(symbol, own, hit);
                mask = _mm256_andnot_si256(hit, mask);
                beyond = _mm256_andnot_si256(hit, beyond);
                far = _mm256_andnot_si256(hit, far);
                if _mm256_testz_si256(far, far) == 1 {
                    break;
                }
            }
            special = _mm256_or_si256(special, beyond);
            let tables = _mm256_cvtepu8_epi32(_mm_loadl_epi64(indexes.as_ptr().add(at).cast()));
            let code = _mm256_add_epi32(_mm256_mullo_epi32(tables, alphabet), symbol);
            let code = _mm256_andnot_si256(special, code);
            let place = slots.as_mut_ptr().add(at);
            if COUNTING {
                _mm256_storeu_si256(place.cast(), _mm256_add_epi32(code, one));
                let mut set = _mm256_movemask_ps(_mm256_castsi256_ps(special)) as u32;
                while set != 0 {
                    let lane = set.trailing_zeros() as usize;
                    *place.add(lane) = patch(at + lane).slot;
                    set &= set - 1;
                }
                continue;
            }
            let slot = look_up(table, code);
            _mm256_storeu_si256(place.cast(), slot);
            special = _mm256_or_si256(special, _mm256_cmpeq_epi32(slot, zero));
            let mut set = _mm256_movemask_ps(_mm256_castsi256_ps(special)) as u32;
            let (mut masks, mut values) = (lanes64(mask), lanes64(away));
            while set != 0 {
                let lane = set.trailing_zeros() as usize;
                let coded = patch(at + lane);
                *place.add(lane) = coded.slot;
                let shift = 32 * (lane % 2);
                let kept = u64::from(u32::MAX) << (32 - shift);
                let mask = (1u64 << coded.count) - 1;
                masks[lane / 2] = masks[lane / 2] & kept | mask << shift;
                values[lane / 2] = values[lane / 2] & kept | u64::from(coded.raw) << shift;
                set &= set - 1;
            }
            for (mask, value) in masks.into_iter().zip(values) {
                let (bits, count) = (_pext_u64(value, mask), mask.count_ones());
                if count <= 56 {
                    raw.put(bits, count);
                } else {
                    raw.put_long(bits, count);
                }
            }
        }
    }
    raw.finish();
}
