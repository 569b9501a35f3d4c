//! Decoding with 512-bit vectors. The plain twin gives the same results.
//!
//! May use: `kernel`, `rans`, `table`. Must never read or write outside its slices, whatever the
//! coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and look-ups")]

use std::arch::x86_64::*;

use super::kernel::{STEP_BYTES, is_wide};
use super::rans::{LANES, Stream, whole_groups};
use super::table::Tables;

/// Decodes whole groups of [`LANES`] symbols of every stream; gives how many symbols of each. The
/// rest is for the twin.
pub(super) fn decode<const N: usize>(streams: &mut [Stream; N], tables: &Tables) -> usize {
    let groups = whole_groups(streams, tables);
    if !is_wide() {
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
/// The instructions of [`is_wide`]; in every stream, indexes and symbols of `groups` groups and
/// every index below the number of tables; `entries` holds `2^BITS` a table.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,bmi2,popcnt")]
unsafe fn steps<const BITS: u32, const N: usize>(
    entries: &[u32],
    streams: &mut [Stream; N],
    groups: usize,
) -> usize {
    let is_near = |s: &Stream| s.decoder.position + STEP_BYTES > s.decoder.words.len();
    if streams.iter().any(is_near) {
        return 0;
    }
    let low = _mm512_set1_epi32((1 << BITS) - 1);
    let twelve = _mm512_set1_epi32(0xFFF);
    let least = _mm512_set1_epi32(1 << 16);
    let mut done = 0;
    // SAFETY: `states` has 32 numbers. In a step, words are read only up to `STEP_BYTES` from
    // `at`, which the loop's condition keeps inside the stream's words; indexes and symbols have a
    // whole group; entry `table * 2^BITS + slot` is looked up with `table` below the number of
    // tables and `slot` below `2^BITS`.
    unsafe {
        let mut x = [[_mm512_setzero_si512(); 2]; N];
        // The next word, and the last place where a step may begin.
        let (mut at, mut last) = ([std::ptr::null::<u8>(); N], [std::ptr::null::<u8>(); N]);
        let mut indexes = [std::ptr::null::<u8>(); N];
        let mut symbols = [std::ptr::null_mut::<u8>(); N];
        let soon: [_; N] = std::array::from_fn(|n| streams[n].soon);
        for (n, stream) in streams.iter_mut().enumerate() {
            let states = stream.decoder.states.as_ptr();
            x[n] = [0, 16].map(|from| _mm512_loadu_si512(states.add(from).cast()));
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
            let mut e = [[_mm512_setzero_si512(); 2]; N];
            for n in 0..N {
                let index = indexes[n].add(done * LANES);
                for v in 0..2 {
                    let table = _mm512_cvtepu8_epi32(_mm_loadu_si128(index.add(16 * v).cast()));
                    let table = _mm512_slli_epi32::<BITS>(table);
                    // The bits under `low` of the state, or the table's.
                    let place = _mm512_ternarylogic_epi32::<0xF8>(table, x[n][v], low);
                    e[n][v] = look_up(entries.as_ptr(), place);
                }
            }
            for n in 0..N {
                for v in 0..2 {
                    let frequency = _mm512_and_si512(_mm512_srli_epi32::<8>(e[n][v]), twelve);
                    let next = _mm512_add_epi32(
                        _mm512_mullo_epi32(frequency, _mm512_srli_epi32::<BITS>(x[n][v])),
                        _mm512_srli_epi32::<20>(e[n][v]),
                    );
                    let short = _mm512_cmplt_epu32_mask(next, least);
                    let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at[n].cast()));
                    let taken = _mm512_maskz_expand_epi32(short, words);
                    let up = _mm512_mask_slli_epi32::<16>(next, short, next);
                    x[n][v] = _mm512_or_si512(up, taken);
                    at[n] = at[n].add(2 * short.count_ones() as usize);
                    let place = symbols[n].add(done * LANES + 16 * v);
                    _mm_storeu_si128(place.cast(), _mm512_cvtepi32_epi8(e[n][v]));
                }
            }
            done += 1;
        }
        for (n, stream) in streams.iter_mut().enumerate() {
            let decoder = &mut *stream.decoder;
            for (v, x) in x[n].iter().enumerate() {
                _mm512_storeu_si512(decoder.states.as_mut_ptr().add(16 * v).cast(), *x);
            }
            decoder.position = at[n].offset_from(decoder.words.as_ptr()) as usize;
        }
    }
    done
}

/// Numbers of a table by sixteen indexes. A gather takes longer.
///
/// # Safety
/// The table must have all the numbers.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn look_up(table: *const u32, place: __m512i) -> __m512i {
    let mut pairs = [0u64; 8];
    // SAFETY: `pairs` has 64 bytes; the indexes are inside the table, as the caller says.
    unsafe {
        _mm512_storeu_si512(pairs.as_mut_ptr().cast(), place);
        let four = |n: usize| {
            let (a, b) = (pairs[n], pairs[n + 1]);
            let at = |index: u64| *table.add(index as usize) as i32;
            _mm_setr_epi32(
                at(a & 0xFFFF_FFFF),
                at(a >> 32),
                at(b & 0xFFFF_FFFF),
                at(b >> 32),
            )
        };
        let front = _mm256_set_m128i(four(2), four(0));
        let back = _mm256_set_m128i(four(6), four(4));
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(front), back)
    }
}
