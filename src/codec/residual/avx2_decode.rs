//! Decoding with 256-bit vectors. Every function has a plain twin that gives the same results.
//!
//! May use: `kernel`, `rans`, `table`. Must never read or write outside its slices,
//! whatever the coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::kernel::{FLIP, Join, Map16, NEGATIVE, is_available, largest};
use super::rans::{Decoder, LANES};
use super::table::Tables;

/// For each set of lanes that need a word: which of the next words each lane takes.
static EXPAND: [[u32; 8]; 256] = {
    let mut table = [[0u32; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < 8 {
            table[set][lane] = next;
            next += (set >> lane & 1) as u32;
            lane += 1;
        }
        set += 1;
    }
    table
};

/// Bytes that one step over all lanes may read: a word a lane, and the width of the last load.
const STEP_BYTES: usize = 2 * LANES + 16;

/// Decodes whole groups of [`LANES`] symbols; gives how many symbols. The rest is for the twin.
pub(super) fn decode(
    decoder: &mut Decoder,
    tables: &Tables,
    indexes: &[u8],
    symbols: &mut [u8],
) -> usize {
    let count = tables.count();
    let groups = indexes.len().min(symbols.len()) / LANES;
    let used = &indexes[..groups * LANES];
    if !is_available() || usize::from(largest(used)) >= count {
        return 0;
    }
    let mut done = 0;
    // SAFETY: the processor has the instructions; every index is below the number of tables, as
    // just checked; both slices hold `groups` groups.
    unsafe {
        done += run(tables, used, symbols, decoder, decoder.words);
        if done < groups && decoder.position <= decoder.words.len() {
            // The last words again with zeros behind them, so that few scalar steps are left.
            let rest = &decoder.words[decoder.position..];
            if rest.len() < STEP_BYTES {
                let mut padded = [0u8; 4 * STEP_BYTES];
                padded[..rest.len()].copy_from_slice(rest);
                let before = std::mem::replace(&mut decoder.position, 0);
                let at = done * LANES;
                done += run(tables, &used[at..], &mut symbols[at..], decoder, &padded);
                decoder.position += before;
            }
        }
    }
    done * LANES
}

/// # Safety
/// The instructions of [`is_available`]; every index below the number of tables; `symbols` at
/// least as long as `indexes`, which holds whole groups.
unsafe fn run(
    tables: &Tables,
    indexes: &[u8],
    symbols: &mut [u8],
    decoder: &mut Decoder,
    words: &[u8],
) -> usize {
    // SAFETY: passed on.
    unsafe {
        match tables.bits() {
            10 => steps::<10>(tables.entries(), indexes, symbols, decoder, words),
            11 => steps::<11>(tables.entries(), indexes, symbols, decoder, words),
            12 => steps::<12>(tables.entries(), indexes, symbols, decoder, words),
            _ => 0,
        }
    }
}

/// # Safety
/// As [`run`]; `entries` holds `2^BITS` a table.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn steps<const BITS: i32>(
    entries: &[u32],
    indexes: &[u8],
    symbols: &mut [u8],
    decoder: &mut Decoder,
    words: &[u8],
) -> usize {
    let groups = indexes.len() / LANES;
    let low = _mm256_set1_epi32((1 << BITS) - 1);
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    let mut position = decoder.position;
    let mut done = 0;
    // SAFETY: `states` has 32 numbers. In a step, words are read only up to `STEP_BYTES` from
    // `position`, which the loop's condition keeps inside `words`; indexes and symbols have a
    // whole group; a gather reads entry `table * 2^BITS + slot` with `table` below the number of
    // tables and `slot` below `2^BITS`; `EXPAND` has a row for each of the 256 masks.
    unsafe {
        let states = decoder.states.as_mut_ptr().cast::<__m256i>();
        let mut x = [
            _mm256_loadu_si256(states),
            _mm256_loadu_si256(states.add(1)),
            _mm256_loadu_si256(states.add(2)),
            _mm256_loadu_si256(states.add(3)),
        ];
        while done < groups && position + STEP_BYTES <= words.len() {
            let index = indexes.as_ptr().add(done * LANES);
            let mut e = [_mm256_setzero_si256(); 4];
            for v in 0..4 {
                let table = _mm256_cvtepu8_epi32(_mm_loadl_epi64(index.add(8 * v).cast()));
                let place = _mm256_or_si256(
                    _mm256_slli_epi32::<BITS>(table),
                    _mm256_and_si256(x[v], low),
                );
                e[v] = _mm256_i32gather_epi32::<4>(entries.as_ptr().cast(), place);
            }
            for v in 0..4 {
                let frequency =
                    _mm256_and_si256(_mm256_srli_epi32::<8>(e[v]), _mm256_set1_epi32(0xFFF));
                let next = _mm256_add_epi32(
                    _mm256_mullo_epi32(frequency, _mm256_srli_epi32::<BITS>(x[v])),
                    _mm256_srli_epi32::<20>(e[v]),
                );
                let short =
                    _mm256_cmpeq_epi32(_mm256_srli_epi32::<16>(next), _mm256_setzero_si256());
                let set = _mm256_movemask_ps(_mm256_castsi256_ps(short)) as usize;
                let fresh =
                    _mm256_cvtepu16_epi32(_mm_loadu_si128(words.as_ptr().add(position).cast()));
                let taken = _mm256_permutevar8x32_epi32(
                    fresh,
                    _mm256_loadu_si256(EXPAND[set].as_ptr().cast()),
                );
                let full = _mm256_or_si256(_mm256_slli_epi32::<16>(next), taken);
                x[v] = _mm256_blendv_epi8(next, full, short);
                position += 2 * set.count_ones() as usize;
            }
            let byte = _mm256_set1_epi32(0xFF);
            let front =
                _mm256_packus_epi32(_mm256_and_si256(e[0], byte), _mm256_and_si256(e[1], byte));
            let back =
                _mm256_packus_epi32(_mm256_and_si256(e[2], byte), _mm256_and_si256(e[3], byte));
            let packed = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back), order);
            _mm256_storeu_si256(symbols.as_mut_ptr().add(done * LANES).cast(), packed);
            done += 1;
        }
        for (v, x) in x.iter().enumerate() {
            _mm256_storeu_si256(states.add(v), *x);
        }
    }
    decoder.position = position;
    done
}

/// The tables of whole groups of 16 elements; gives how many elements.
pub(super) fn indexes16(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) -> usize {
    let len = scales.len().min(predicted.len() / 2).min(out.len()) / 16 * 16;
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; the slices hold `len` elements.
    unsafe { indexes16_steps(map, &scales[..len], &predicted[..2 * len], &mut out[..len]) };
    len
}

/// # Safety
/// The instructions of [`is_available`]; slices of equal length in elements, a multiple of 16.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn indexes16_steps(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8]) {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let low = _mm256_set1_epi16(map.low);
    let shift = _mm_cvtsi32_si128(map.mantissa);
    // SAFETY: `map.map` has 32 bytes; each step reads 16 scales and 32 bytes of elements and
    // writes 16 bytes at places below the common length.
    unsafe {
        let front = _mm_loadu_si128(map.map.as_ptr().cast());
        let back = _mm_loadu_si128(map.map.as_ptr().add(16).cast());
        for at in (0..out.len()).step_by(16) {
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let scale = _mm256_loadu_si256(scales.as_ptr().add(at).cast());
            let p = _mm256_and_si256(p, magnitude);
            let exponent = _mm256_srl_epi16(p, shift);
            let distance = _mm256_sub_epi16(
                _mm256_sub_epi16(scale, _mm256_slli_epi16::<2>(exponent)),
                low,
            );
            let half = _mm256_srai_epi16::<1>(distance);
            let context = _mm256_min_epi16(
                _mm256_max_epi16(half, _mm256_setzero_si256()),
                _mm256_set1_epi16(31),
            );
            let narrow = narrow16(context);
            let large = _mm_cmpgt_epi8(narrow, _mm_set1_epi8(15));
            let mut index = _mm_blendv_epi8(
                _mm_shuffle_epi8(front, narrow),
                _mm_shuffle_epi8(back, narrow),
                large,
            );
            if let Some(zero) = map.zero {
                let none = _mm256_cmpeq_epi16(p, _mm256_setzero_si256());
                let none = _mm_packs_epi16(
                    _mm256_castsi256_si128(none),
                    _mm256_extracti128_si256::<1>(none),
                );
                index = _mm_blendv_epi8(index, _mm_set1_epi8(zero as i8), none);
            }
            _mm_storeu_si128(out.as_mut_ptr().add(at).cast(), index);
        }
    }
}

/// Sixteen numbers below 128 as bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow16(wide: __m256i) -> __m128i {
    _mm_packs_epi16(
        _mm256_castsi256_si128(wide),
        _mm256_extracti128_si256::<1>(wide),
    )
}

/// Puts groups of 16 elements together until a special one, the end, or the end of the raw bits
/// is near; gives how many elements, and moves `position`, in bits.
pub(super) fn join16(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let mut len = symbols.len().min(predicted.len() / 2).min(out.len() / 2) / 16 * 16;
    if let Some(fractions) = fractions {
        len = len.min(fractions.len() / 16 * 16);
    }
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements.
    unsafe { join16_steps(join, &symbols[..len], predicted, fractions, position, out) }
}

/// # Safety
/// The instructions of [`is_available`]; `symbols` has a multiple of 16, the other slices at
/// least as many elements.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn join16_steps(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    // SAFETY: each step reads and writes 16 elements at places below the length of `symbols`;
    // `small` has 16 bytes; gathers index tables of 256 by a byte; raw bits are read only where
    // 40 bytes are left, and 16 elements of at most 15 raw bits take 30, read 8 at a time.
    unsafe {
        let small = _mm_loadu_si128(join.places.small.as_ptr().cast());
        let mut at = 0;
        while at < symbols.len() {
            let symbol = _mm_loadu_si128(symbols.as_ptr().add(at).cast());
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let size = _mm256_and_si256(p, magnitude);
            if join.zeros {
                let none = narrow16(_mm256_cmpeq_epi16(size, _mm256_setzero_si256()));
                let same = _mm_cmpeq_epi8(symbol, _mm_setzero_si128());
                if _mm_movemask_epi8(_mm_andnot_si128(same, none)) != 0 {
                    break;
                }
            }
            let large = _mm_movemask_epi8(_mm_cmpeq_epi8(
                _mm_max_epu8(symbol, _mm_set1_epi8(15)),
                symbol,
            ));
            let mut difference = _mm256_setzero_si256();
            let mut flip = _mm256_setzero_si256();
            if large == 0 {
                difference = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(small, symbol));
            } else if *position / 8 + 40 > join.raw.len()
                || !wide16(join, symbol, position, &mut difference, &mut flip)
            {
                break;
            }
            if let Some(fractions) = fractions {
                let fraction = _mm256_loadu_si256(fractions.as_ptr().add(at).cast());
                let turned = _mm256_sub_epi16(_mm256_setzero_si256(), difference);
                let below = _mm256_andnot_si256(
                    _mm256_cmpeq_epi16(flip, _mm256_set1_epi16(-1)),
                    _mm256_srai_epi16::<15>(fraction),
                );
                difference = _mm256_blendv_epi8(difference, turned, below);
            }
            let moved = _mm256_and_si256(_mm256_add_epi16(size, difference), magnitude);
            let sign = _mm256_andnot_si256(magnitude, _mm256_xor_si256(p, flip));
            let element = _mm256_or_si256(moved, sign);
            _mm256_storeu_si256(out.as_mut_ptr().add(2 * at).cast(), element);
            at += 16;
        }
        at
    }
}

/// Differences of 16 symbols with raw bits; `false` where one is an escape.
///
/// # Safety
/// The instructions of [`is_available`]; at least 40 bytes from `position` on in `raw`.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn wide16(
    join: &Join,
    symbol: __m128i,
    position: &mut usize,
    difference: &mut __m256i,
    flip: &mut __m256i,
) -> bool {
    // SAFETY: gathers index a table of 256 by a byte; four loads of 8 bytes begin at most
    // 3 * 60 / 8 bytes after `position`.
    unsafe {
        let table = join.places.wide.as_ptr().cast::<i32>();
        let front = _mm256_i32gather_epi32::<4>(table, _mm256_cvtepu8_epi32(symbol));
        let back =
            _mm256_i32gather_epi32::<4>(table, _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(symbol)));
        let escapes = _mm256_slli_epi32::<5>(_mm256_or_si256(front, back));
        if _mm256_movemask_ps(_mm256_castsi256_ps(escapes)) != 0 {
            return false;
        }
        let one = _mm256_set1_epi32(1);
        let byte = _mm256_set1_epi32(0xFF);
        let mask_of = |e: __m256i| {
            let bits = _mm256_and_si256(_mm256_srli_epi32::<16>(e), byte);
            _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one)
        };
        let low = _mm256_set1_epi32(0xFFFF);
        let start = pack16(_mm256_and_si256(front, low), _mm256_and_si256(back, low));
        let masks = pack16(mask_of(front), mask_of(back));
        let mut lanes = [0u64; 4];
        _mm256_storeu_si256(lanes.as_mut_ptr().cast(), masks);
        for lane in &mut lanes {
            let at = join.raw.as_ptr().add(*position / 8).cast::<u64>();
            let bits = at.read_unaligned().to_le() >> (*position & 7);
            *position += lane.count_ones() as usize;
            *lane = _pdep_u64(bits, *lane);
        }
        let raw = _mm256_loadu_si256(lanes.as_ptr().cast());
        let sum = _mm256_add_epi16(start, raw);
        let spread = |e: __m256i, bit: __m256i| _mm256_cmpeq_epi32(_mm256_and_si256(e, bit), bit);
        let bit = _mm256_set1_epi32(NEGATIVE as i32);
        let negative = signs16(spread(front, bit), spread(back, bit));
        let bit = _mm256_set1_epi32(FLIP as i32);
        *flip = signs16(spread(front, bit), spread(back, bit));
        *difference = _mm256_sub_epi16(_mm256_xor_si256(sum, negative), negative);
        true
    }
}

/// Two vectors of numbers below 2^16 as one.
#[inline]
#[target_feature(enable = "avx2")]
fn pack16(front: __m256i, back: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(front, back))
}

/// Two vectors of masks as one.
#[inline]
#[target_feature(enable = "avx2")]
fn signs16(front: __m256i, back: __m256i) -> __m256i {
    _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(front, back))
}
