//! Putting elements together with 512-bit vectors. The plain twin gives the same results.
//!
//! May use: `kernel`, `number`, `operands`. Must never read or write outside its slices, whatever
//! the coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::x86_64::*;

use super::kernel::is_wide;
use super::number;
use super::operands::{Heads, Join, RAW_BYTES};

/// Elements of a step, and of one with 32-bit elements.
const STEP: usize = 32;
const HALF: usize = 16;

/// The most raw bits of a step: with what lies before them in their first byte they fill the
/// vector that they are taken from.
const BITS_MAX: usize = 8 * RAW_BYTES - 7;

/// Puts elements together in whole groups of 32 until one needs the twin or the end of the raw
/// bits is near; gives how many, and moves `position`, in bits.
pub(super) fn join16(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let mut len = symbols.len().min(predicted.len() / 2).min(out.len() / 2);
    if let Some(fractions) = fractions {
        len = len.min(fractions.len());
    }
    len = len / STEP * STEP;
    if !is_wide() {
        return 0;
    }
    let parts = Parts {
        symbols: &symbols[..len],
        predicted,
        fractions,
    };
    let mut at = 0;
    loop {
        // SAFETY: the processor has the instructions; every slice holds `len` elements, and `at` is
        // a multiple of 32.
        let patches = unsafe { steps16(join, &parts, &mut at, position, out) };
        let Some(Patches { set, raw }) = patches else {
            return at;
        };
        put_patches::<2>(set, &raw, at - STEP, out, patch);
    }
}

/// The elements of the last step that are made of their raw bits alone.
struct Patches<const N: usize> {
    set: u32,
    raw: [u32; N],
}

/// What elements are made of beside raw bits.
struct Parts<'a> {
    symbols: &'a [u8],
    predicted: &'a [u8],
    fractions: Option<&'a [i16]>,
}

/// Goes on from `place` until a step has elements to patch, or to where another must go on. Makes
/// no call, so that all stays in registers.
///
/// # Safety
/// The instructions of [`is_wide`]; `symbols` has a multiple of 32, the other slices and `out` at
/// least as many elements; `place` is a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn steps16(
    join: &Join,
    parts: &Parts,
    place: &mut usize,
    position: &mut usize,
    out: &mut [u8],
) -> Option<Patches<STEP>> {
    let zero = _mm512_setzero_si512();
    let magnitude = _mm512_set1_epi16(0x7FFF);
    let sign = _mm512_set1_epi16(i16::MIN);
    let kept = _mm256_set1_epi8(2 * join.moves as i8);
    let escape = _mm256_set1_epi8(2 * join.moves as i8 + 21);
    let of_zero = _mm256_set1_epi8(join.number.mantissa as i8 + 1);
    let (factors, counts) = (
        Table::new(&join.places.factor),
        Table::new(&join.places.count),
    );
    // Places of their own, which the compiler keeps in registers.
    let (mut bits, mut at) = (*position, *place);
    let mut patches = None;
    // SAFETY: reads and writes 32 elements at places from `at` on; the vector of raw bits is read
    // only where `RAW_BYTES` are left.
    unsafe {
        while at < parts.symbols.len() && bits / 8 + RAW_BYTES <= join.raw.len() {
            let symbol = _mm256_loadu_si256(parts.symbols.as_ptr().add(at).cast());
            if _mm256_cmpgt_epu8_mask(symbol, escape) != 0 {
                break;
            }
            // So many steps have some of these that a branch would often be foretold wrongly.
            let special = _mm256_cmpgt_epu8_mask(symbol, kept);
            let escapes = _mm256_cmpeq_epi8_mask(symbol, escape);
            let p = _mm512_loadu_si512(parts.predicted.as_ptr().add(2 * at).cast());
            let size = _mm512_and_si512(p, magnitude);
            let wide = _mm512_castsi256_si512(symbol);
            let factor = _mm512_castsi512_si256(factors.of(wide));
            let mut count = _mm512_castsi512_si256(counts.of(wide));
            let mut patched = 0;
            if join.zeros {
                let none = _mm512_testn_epi16_mask(size, size);
                if none != 0 {
                    patched = none & _mm256_test_epi8_mask(symbol, symbol) & !escapes;
                    count = _mm256_mask_mov_epi8(count, patched, of_zero);
                }
            }
            let (ends, total) = ends16(count);
            if total > BITS_MAX {
                break;
            }
            let raw = take16(join.raw, bits, ends);
            bits += total;

            let count = _mm512_cvtepu8_epi16(count);
            let factor = _mm512_cvtepi8_epi16(factor);
            let sum = _mm512_shldv_epi16(factor, raw, count);
            // Even symbols are negative.
            let mut negative = _mm256_testn_epi8_mask(symbol, _mm256_set1_epi8(1));
            if let Some(fractions) = parts.fractions {
                let fraction = _mm512_loadu_si512(fractions.as_ptr().add(at).cast());
                negative ^= _mm512_movepi16_mask(fraction);
            }
            let difference = _mm512_mask_sub_epi16(sum, negative & !special, zero, sum);
            let moved = _mm512_add_epi16(size, difference);
            // All bits but the sign of the sum, and the sign of the prediction.
            let element = _mm512_ternarylogic_epi32::<0xE4>(moved, p, magnitude);
            // The upper bit is added without a carry.
            let element = _mm512_mask_add_epi16(element, special, element, sign);
            let element = _mm512_mask_mov_epi16(element, escapes, raw);
            _mm512_storeu_si512(out.as_mut_ptr().add(2 * at).cast(), element);
            at += STEP;
            if patched != 0 {
                let below = _mm512_sub_epi16(_mm512_set1_epi16(16), count);
                let mut lanes = [0u16; STEP];
                let raw = _mm512_srlv_epi16(raw, below);
                _mm512_storeu_si512(lanes.as_mut_ptr().cast(), raw);
                patches = Some(Patches {
                    set: patched,
                    raw: lanes.map(u32::from),
                });
                break;
            }
        }
    }
    (*position, *place) = (bits, at);
    patches
}

/// Puts elements of `WIDTH` bytes that are made of their raw bits alone where they belong.
fn put_patches<const WIDTH: usize>(
    mut set: u32,
    raw: &[u32],
    at: usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) {
    while set != 0 {
        let lane = set.trailing_zeros() as usize;
        number::store(out, WIDTH, at + lane, patch(at + lane, raw[lane]));
        set &= set - 1;
    }
}

/// A table of 128 bytes.
struct Table([__m512i; 2]);

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(table: &[u8; 128]) -> Self {
        // SAFETY: both loads lie in the 128 bytes.
        Self([0, 64].map(|from| unsafe { _mm512_loadu_si512(table.as_ptr().add(from).cast()) }))
    }

    /// The bytes at 64 places, counted modulo 128.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi")]
    fn of(&self, places: __m512i) -> __m512i {
        _mm512_permutex2var_epi8(self.0[0], places, self.0[1])
    }
}

/// Where the raw bits of each of 32 elements end, counted from the first one's start, and how many
/// those of all are; at most 16 each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn ends16(count: __m256i) -> (__m512i, usize) {
    // Sums of up to eight numbers of at most 16 fit a byte.
    let within = _mm256_mullo_epi64(count, _mm256_set1_epi8(1));
    let sums = _mm256_srli_epi64::<56>(within);
    // Sums of the eights before each eight.
    let one = _mm256_maskz_permutex_epi64::<0b10_01_00_00>(0b1110, sums);
    let two = _mm256_maskz_permutex_epi64::<0b01_00_00_00>(0b1100, sums);
    let three = _mm256_maskz_permutex_epi64::<0>(0b1000, sums);
    let before = _mm256_add_epi64(_mm256_add_epi64(one, two), three);
    let total = _mm256_add_epi64(before, sums);
    let eights = _mm512_set_epi64(
        0x000C_000C_000C_000C,
        0x000C_000C_000C_000C,
        0x0008_0008_0008_0008,
        0x0008_0008_0008_0008,
        0x0004_0004_0004_0004,
        0x0004_0004_0004_0004,
        0,
        0,
    );
    let before = _mm512_permutexvar_epi16(eights, _mm512_castsi256_si512(before));
    let ends = _mm512_add_epi16(_mm512_cvtepu8_epi16(within), before);
    (ends, _mm256_extract_epi64::<3>(total) as usize)
}

/// The 16 bits before each of 32 ends, which are counted from bit `position` on: raw bits at the
/// top, and whatever lies before them below.
///
/// # Safety
/// The instructions of [`is_wide`]; [`RAW_BYTES`] from `position` on, and ends at most
/// [`BITS_MAX`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
unsafe fn take16(raw: &[u8], position: usize, ends: __m512i) -> __m512i {
    // SAFETY: the caller says that the bytes are there.
    let window = unsafe { _mm512_loadu_si512(raw.as_ptr().add(position / 8).cast()) };
    let ends = _mm512_add_epi16(ends, _mm512_set1_epi16((position % 8) as i16));
    // Places count modulo 32: what is before the first word does not matter, for none ends there.
    let next = _mm512_srli_epi16::<4>(ends);
    let word = _mm512_sub_epi16(next, _mm512_set1_epi16(1));
    let low = _mm512_permutexvar_epi16(word, window);
    let high = _mm512_permutexvar_epi16(next, window);
    _mm512_shrdv_epi16(low, high, ends)
}

/// Puts 32-bit elements together in whole groups of 16 until one needs the twin or the end of the
/// raw bits is near; gives how many, and moves `position`, in bits.
pub(super) fn join32(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let len = symbols.len().min(predicted.len() / 4).min(out.len() / 4) / HALF * HALF;
    if !is_wide() {
        return 0;
    }
    let mut at = 0;
    loop {
        // SAFETY: the processor has the instructions; every slice holds `len` elements, and `at` is
        // a multiple of 16.
        let patches = unsafe { steps32(join, &symbols[..len], predicted, &mut at, position, out) };
        let Some(Patches { set, raw }) = patches else {
            return at;
        };
        put_patches::<4>(set, &raw, at - HALF, out, patch);
    }
}

/// As [`steps16`].
///
/// # Safety
/// The instructions of [`is_wide`]; `symbols` has a multiple of 16, `predicted` and `out` at least
/// as many elements; `place` is a multiple of 16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
#[expect(
    clippy::too_many_lines,
    reason = "one step of a loop, its values in registers"
)]
unsafe fn steps32(
    join: &Join,
    symbols: &[u8],
    predicted: &[u8],
    place: &mut usize,
    position: &mut usize,
    out: &mut [u8],
) -> Option<Patches<HALF>> {
    let zero = _mm512_setzero_si512();
    let magnitude = _mm512_set1_epi32(0x7FFF_FFFF);
    let last = 2 * join.moves as u8;
    let byte = |value: u8| _mm_set1_epi8(value as i8);
    let (kept, escape) = (byte(last), byte(last + 21));
    let first_flip = byte(last + 9);
    let (sign, first_hot) = (_mm512_set1_epi32(i32::MIN), byte(last + 22));
    let mantissa = byte(join.number.mantissa as u8);
    let of_zero = byte(join.number.mantissa as u8 + 1);
    let (factors, counts) = (
        Table::new(&join.places.factor),
        Table::new(&join.places.count),
    );
    let hot = &join.places.hot[usize::from(last) + 22..][..2 * HALF];
    let (mut bits, mut at) = (*position, *place);
    let mut patches = None;
    // SAFETY: reads and writes 16 elements at places from `at` on; the vector of raw bits is read
    // only where `RAW_BYTES` are left; `hot` has 32 numbers.
    unsafe {
        let hot = [0, 16].map(|from| _mm512_loadu_si512(hot[from..].as_ptr().cast()));
        while at < symbols.len() && bits / 8 + RAW_BYTES <= join.raw.len() {
            let symbol = _mm_loadu_si128(symbols.as_ptr().add(at).cast());
            let p = _mm512_loadu_si512(predicted.as_ptr().add(4 * at).cast());
            let size = _mm512_and_si512(p, magnitude);
            let wide = _mm512_castsi128_si512(symbol);
            let mut count = _mm512_castsi512_si128(counts.of(wide));
            let mut factor = _mm512_castsi512_si128(factors.of(wide));
            // As above, no branch.
            let special = _mm_cmpgt_epu8_mask(symbol, kept);
            let escapes = _mm_cmpeq_epi8_mask(symbol, escape);
            let is_hot = _mm_cmpgt_epu8_mask(symbol, escape);
            // Of eight escapes the sum does not fit a byte.
            if escapes & 0xFF == 0xFF || escapes >> 8 == 0xFF {
                break;
            }
            factor = _mm_mask_sub_epi8(factor, special, symbol, first_flip);
            count = _mm_mask_mov_epi8(count, special, mantissa);
            count = _mm_mask_mov_epi8(count, escapes, byte(32));
            count = _mm_mask_mov_epi8(count, is_hot, _mm_setzero_si128());
            let mut patched = 0;
            if join.zeros {
                let none = _mm512_testn_epi32_mask(size, size);
                if none != 0 {
                    patched = none & _mm_test_epi8_mask(symbol, symbol) & !escapes;
                    count = _mm_mask_mov_epi8(count, patched, of_zero);
                }
            }
            let (ends, total) = ends32(count);
            if total > BITS_MAX {
                break;
            }
            let raw = take32(join.raw, bits, ends);
            bits += total;

            let count = _mm512_cvtepu8_epi32(count);
            let sum = _mm512_shldv_epi32(_mm512_cvtepi8_epi32(factor), raw, count);
            let place = _mm512_cvtepu8_epi32(_mm_sub_epi8(symbol, first_hot));
            let own = _mm512_permutex2var_epi32(hot[0], place, hot[1]);
            let sum = _mm512_mask_mov_epi32(sum, is_hot, own);
            // Even symbols are negative.
            let negative = _mm_testn_epi8_mask(symbol, _mm_set1_epi8(1));
            let difference = _mm512_mask_sub_epi32(sum, negative & !special, zero, sum);
            let moved = _mm512_add_epi32(size, difference);
            // All bits but the sign of the sum, and the sign of the prediction.
            let element = _mm512_ternarylogic_epi32::<0xE4>(moved, p, magnitude);
            let flips = special & !is_hot;
            let element = _mm512_mask_xor_epi32(element, flips, element, sign);
            let element = _mm512_mask_mov_epi32(element, escapes, raw);
            _mm512_storeu_si512(out.as_mut_ptr().add(4 * at).cast(), element);
            at += HALF;
            if patched != 0 {
                let mut lanes = [0u32; HALF];
                let below = _mm512_sub_epi32(_mm512_set1_epi32(32), count);
                let raw = _mm512_srlv_epi32(raw, below);
                _mm512_storeu_si512(lanes.as_mut_ptr().cast(), raw);
                patches = Some(Patches {
                    set: patched.into(),
                    raw: lanes,
                });
                break;
            }
        }
    }
    (*position, *place) = (bits, at);
    patches
}

/// Where the raw bits of each of 16 elements end, counted from the first one's start, and how many
/// those of all are; below 256 those of each half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn ends32(count: __m128i) -> (__m512i, usize) {
    let within = _mm_mullo_epi64(count, _mm_set1_epi8(1));
    let sums = _mm_srli_epi64::<56>(within);
    let before = _mm_slli_si128::<8>(sums);
    let order = _mm512_set_epi32(2, 2, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0);
    let before32 = _mm512_permutexvar_epi32(order, _mm512_castsi128_si512(before));
    let ends = _mm512_add_epi32(_mm512_cvtepu8_epi32(within), before32);
    let total = _mm_add_epi64(before, sums);
    (ends, _mm_extract_epi64::<1>(total) as usize)
}

/// The 32 bits before each of 16 ends, which are counted from bit `position` on: raw bits at the
/// top, and whatever lies before them below.
///
/// # Safety
/// As [`take16`].
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2")]
unsafe fn take32(raw: &[u8], position: usize, ends: __m512i) -> __m512i {
    // SAFETY: the caller says that the bytes are there.
    let window = unsafe { _mm512_loadu_si512(raw.as_ptr().add(position / 8).cast()) };
    let ends = _mm512_add_epi32(ends, _mm512_set1_epi32((position % 8) as i32));
    // Places count modulo 16, as there.
    let next = _mm512_srli_epi32::<5>(ends);
    let word = _mm512_sub_epi32(next, _mm512_set1_epi32(1));
    let low = _mm512_permutexvar_epi32(word, window);
    let high = _mm512_permutexvar_epi32(next, window);
    _mm512_shrdv_epi32(low, high, ends)
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
    let len = symbols.len().min(floors.len()).min(out.len() / 2) / STEP * STEP;
    if !is_wide() || join.low > 14 {
        return 0;
    }
    // SAFETY: the processor has the instructions; both slices hold `len` elements; an element has
    // at most 15 raw bits.
    unsafe { steps_heads(join, &symbols[..len], floors, raw, position, out) }
}

/// # Safety
/// The instructions of [`is_wide`]; `symbols` has a multiple of 32, `floors` and `out` at least as
/// many elements; at most 15 raw bits an element.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2")]
unsafe fn steps_heads(
    join: &Heads,
    symbols: &[u8],
    floors: &[i8],
    raw: &[u8],
    position: &mut usize,
    out: &mut [u8],
) -> usize {
    let magnitude = _mm512_set1_epi16(0x7FFF);
    let shift = _mm512_set1_epi16(join.low as i16);
    let before = _mm512_set1_epi16(join.lowest.wrapping_sub(1));
    let full = _mm256_set1_epi8(join.low as i8 + 1);
    let all = ends16(full);
    let mut bits = *position;
    let mut at = 0;
    // SAFETY: each step reads and writes 32 elements at places below the length of `symbols`; the
    // vector of raw bits is read only where `RAW_BYTES` are left.
    unsafe {
        while at < symbols.len() && bits / 8 + RAW_BYTES <= raw.len() {
            let symbol = _mm256_loadu_si256(symbols.as_ptr().add(at).cast());
            // 0 and 255 have no raw bits.
            let next = _mm256_add_epi8(symbol, _mm256_set1_epi8(1));
            let with = _mm256_cmpgt_epu8_mask(next, _mm256_set1_epi8(1));
            let (ends, total) = if with == u32::MAX {
                all
            } else {
                ends16(_mm256_maskz_mov_epi8(with, full))
            };
            // The sign lies above the other raw bits.
            let low = take16(raw, bits, ends);
            bits += total;
            let floor = _mm256_loadu_si256(floors.as_ptr().add(at).cast());
            let first = _mm512_add_epi16(before, _mm512_cvtepi8_epi16(floor));
            let upper = _mm512_add_epi16(_mm512_cvtepu8_epi16(symbol), first);
            let size = _mm512_shldv_epi16(upper, _mm512_slli_epi16::<1>(low), shift);
            let head = _mm512_ternarylogic_epi32::<0xE4>(size, low, magnitude);
            let head = _mm512_maskz_mov_epi16(with, head);
            _mm512_storeu_si512(out.as_mut_ptr().add(2 * at).cast(), head);
            at += STEP;
        }
    }
    *position = bits;
    at
}
