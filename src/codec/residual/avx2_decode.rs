//! Decoding with 256-bit vectors. Every function has a plain twin that gives the same results.
//!
//! May use: `avx2_encode`, `kernel`, `operands`, `rans`, `table`. Must never read or write outside
//! its slices, whatever the coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::avx2_encode::{SWAP_MIDDLE, look_up};
use super::kernel::{STEP_BYTES, is_available};
use super::operands::Map16;
use super::rans::{LANES, Stream, whole_groups};
use super::table::Tables;

/// For each set of lanes that need a word: the shuffle that brings the next words, in order, to
/// the low halves of those lanes and zero to all else.
static EXPAND: [[u8; 32]; 256] = {
    let mut table = [[0x80u8; 32]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
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
    let groups = whole_groups(streams, tables);
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; all slices hold `groups` groups, and every index
    // is below the number of tables.
    let done = unsafe {
        match tables.bits() {
            10 => steps::<10, N>(tables.entries(), streams, groups),
            11 => steps::<11, N>(tables.entries(), streams, groups),
            12 => steps::<12, N>(tables.entries(), streams, groups),
            _ => 0,
        }
    };
    done * LANES
}

/// # Safety
/// The instructions of [`is_available`]; in every stream, indexes and symbols of `groups` groups
/// and every index below the number of tables; `entries` holds `2^BITS` a table.
#[target_feature(enable = "avx2,bmi2,popcnt")]
#[expect(
    clippy::too_many_lines,
    clippy::needless_range_loop,
    reason = "one step of a loop, its values in registers; loops over streams and vectors unroll"
)]
unsafe fn steps<const BITS: i32, const N: usize>(
    entries: &[u32],
    streams: &mut [Stream; N],
    groups: usize,
) -> usize {
    let is_near = |s: &Stream| s.decoder.position + STEP_BYTES > s.decoder.words.len();
    if streams.iter().any(is_near) {
        return 0;
    }
    let low = _mm256_set1_epi32((1 << BITS) - 1);
    let byte = _mm256_set1_epi32(0xFF);
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let mut done = 0;
    // SAFETY: `states` has 32 numbers. In a step, words are read only up to `STEP_BYTES` from
    // `at`, which the loop's condition keeps inside the stream's words; indexes and symbols have a
    // whole group; a gather reads entry `table * 2^BITS + slot` with `table` below the number of
    // tables and `slot` below `2^BITS`; `EXPAND` has a row for each of the 256 masks.
    unsafe {
        let mut x = [[_mm256_setzero_si256(); 4]; N];
        // The next word, and the last place where a step may begin.
        let (mut at, mut last) = ([std::ptr::null::<u8>(); N], [std::ptr::null::<u8>(); N]);
        let mut indexes = [std::ptr::null::<u8>(); N];
        let mut symbols = [std::ptr::null_mut::<u8>(); N];
        let soon: [_; N] = std::array::from_fn(|n| streams[n].soon);
        for (n, stream) in streams.iter_mut().enumerate() {
            let states = stream.decoder.states.as_ptr().cast::<__m256i>();
            for v in 0..4 {
                x[n][v] = _mm256_loadu_si256(states.add(v));
            }
            let words = stream.decoder.words;
            at[n] = words.as_ptr().add(stream.decoder.position);
            last[n] = words.as_ptr().add(words.len() - STEP_BYTES);
            indexes[n] = stream.indexes.as_ptr();
            symbols[n] = stream.symbols.as_mut_ptr();
        }
        while done < groups && (0..N).all(|n| at[n] <= last[n]) {
            for soon in soon {
                soon.ask(done);
            }
            // What every stream looks up is under way before the first is waited for.
            let mut e = [[_mm256_setzero_si256(); 4]; N];
            for n in 0..N {
                let index = indexes[n].add(done * LANES);
                for v in 0..4 {
                    let table = _mm256_cvtepu8_epi32(_mm_loadl_epi64(index.add(8 * v).cast()));
                    let place = _mm256_or_si256(
                        _mm256_slli_epi32::<BITS>(table),
                        _mm256_and_si256(x[n][v], low),
                    );
                    e[n][v] = look_up(entries.as_ptr().cast(), place);
                }
            }
            for n in 0..N {
                for v in 0..4 {
                    let frequency = _mm256_srli_epi32::<8>(e[n][v]);
                    let frequency = _mm256_and_si256(frequency, _mm256_set1_epi32(0xFFF));
                    let next = _mm256_add_epi32(
                        _mm256_mullo_epi32(frequency, _mm256_srli_epi32::<BITS>(x[n][v])),
                        _mm256_srli_epi32::<20>(e[n][v]),
                    );
                    let upper = _mm256_srli_epi32::<16>(next);
                    let short = _mm256_cmpeq_epi32(upper, _mm256_setzero_si256());
                    let set = _mm256_movemask_ps(_mm256_castsi256_ps(short)) as usize;
                    let fresh = _mm256_broadcastsi128_si256(_mm_loadu_si128(at[n].cast()));
                    let expand = _mm256_loadu_si256(EXPAND[set].as_ptr().cast());
                    let taken = _mm256_shuffle_epi8(fresh, expand);
                    let full = _mm256_or_si256(_mm256_slli_epi32::<16>(next), taken);
                    x[n][v] = _mm256_blendv_epi8(next, full, short);
                    at[n] = at[n].add(2 * set.count_ones() as usize);
                }
                let front = _mm256_packus_epi32(
                    _mm256_and_si256(e[n][0], byte),
                    _mm256_and_si256(e[n][1], byte),
                );
                let back = _mm256_packus_epi32(
                    _mm256_and_si256(e[n][2], byte),
                    _mm256_and_si256(e[n][3], byte),
                );
                let packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back), order);
                _mm256_storeu_si256(symbols[n].add(done * LANES).cast(), packed);
            }
            done += 1;
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let decoder = &mut *stream.decoder;
            let states = decoder.states.as_mut_ptr().cast::<__m256i>();
            for (v, x) in x[n].iter().enumerate() {
                _mm256_storeu_si256(states.add(v), *x);
            }
            decoder.position = at[n].offset_from(decoder.words.as_ptr()) as usize;
        }
    }
    done
}

/// The tables of whole groups of 32 elements; gives how many elements.
pub(super) fn indexes16(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let len = scales.len().min(predicted.len() / 2).min(out.len()) / 32 * 32;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes16_steps(map, &scales[..len], predicted, &mut out[..len]) };
    len
}

/// # Safety
/// The instructions of [`is_available`]; scales and tables of equal length, a multiple of 32, and
/// at least as many elements predicted.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn indexes16_steps(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let nothing = _mm256_setzero_si256();
    let low = _mm256_set1_epi16(map.low);
    let shift = _mm_cvtsi32_si128(map.mantissa);
    // SAFETY: `map.map` has 32 bytes; each step reads 32 scales and 64 bytes of elements and
    // writes 32 bytes at places below the common length.
    unsafe {
        let [front, back] = halves(&map.map);
        // Distances of 16 elements in steps of contexts, and which have a prediction of zero.
        let distance = |at: usize| {
            let scale = _mm256_loadu_si256(scales.as_ptr().add(at).cast());
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let p = _mm256_and_si256(p, magnitude);
            let exponent = _mm256_slli_epi16::<2>(_mm256_srl_epi16(p, shift));
            let distance = _mm256_sub_epi16(_mm256_sub_epi16(scale, low), exponent);
            let none = _mm256_cmpeq_epi16(p, nothing);
            (_mm256_srai_epi16::<1>(distance), none)
        };
        for at in (0..out.len()).step_by(32) {
            let ((a, none_a), (b, none_b)) = (distance(at), distance(at + 16));
            let context = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(_mm256_packs_epi16(a, b));
            let context = _mm256_max_epi8(context, nothing);
            let context = _mm256_min_epi8(context, _mm256_set1_epi8(31));
            let mut index = of_32(front, back, context);
            if let Some(zero) = map.zero {
                let none = _mm256_packs_epi16(none_a, none_b);
                let none = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(none);
                index = _mm256_blendv_epi8(index, _mm256_set1_epi8(zero as i8), none);
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// A table of 32 bytes, laid out for [`of_32`].
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn halves(table: &[u8; 32]) -> [__m256i; 2] {
    // SAFETY: both loads lie in the 32 bytes.
    [0, 16].map(|from| unsafe {
        _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().add(from).cast()))
    })
}

/// Bytes of a table, by indexes below 32.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn of_32(front: __m256i, back: __m256i, index: __m256i) -> __m256i {
    _mm256_blendv_epi8(
        _mm256_shuffle_epi8(front, index),
        _mm256_shuffle_epi8(back, index),
        _mm256_cmpgt_epi8(index, _mm256_set1_epi8(15)),
    )
}
