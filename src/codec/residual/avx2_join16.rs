//! Putting 16-bit elements together with 256-bit vectors. The plain twin gives the same results.
//!
//! May use: `avx2_encode`, `kernel`, `operands`. Must never read or write outside its slices,
//! whatever the coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::x86_64::*;

use super::avx2_encode::{SWAP_MIDDLE, lanes16, lanes64};
use super::kernel::is_available;
use super::operands::{Join, RAW_BYTES};

/// Puts elements together in whole groups of 16 until one needs the twin or the end of the raw
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
    let mut len = symbols.len().min(predicted.len() / 2).min(out.len() / 2) / 16 * 16;
    if let Some(fractions) = fractions {
        len = len.min(fractions.len() / 16 * 16);
    }
    if !is_available() {
        return 0;
    }
    let parts = Parts {
        symbols: &symbols[..len],
        predicted,
        fractions,
    };
    // SAFETY: the processor has the instructions; every slice holds `len` elements.
    unsafe {
        if join.number.mantissa <= 7 {
            steps::<true>(join, &parts, position, out, patch)
        } else {
            steps::<false>(join, &parts, position, out, patch)
        }
    }
}

/// What elements are made of beside raw bits.
struct Parts<'a> {
    symbols: &'a [u8],
    predicted: &'a [u8],
    fractions: Option<&'a [i16]>,
}

/// # Safety
/// The instructions of [`is_available`]; `symbols` has a multiple of 16, the other slices and
/// `out` at least as many elements; with `NARROW` the mantissa has at most 7 bits.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn steps<const NARROW: bool>(
    join: &Join,
    parts: &Parts,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let ranks = Ranks::new(join);
    let starts = Starts::new(join);
    let mut at = 0;
    // A place of its own, which the compiler keeps in a register.
    let mut bits = *position;
    while at < parts.symbols.len() {
        // SAFETY: 32 or 16 elements from `at` on are there.
        unsafe {
            if at + 32 <= parts.symbols.len()
                && two_groups::<NARROW>(join, &ranks, parts, at, &mut bits, out, patch)
            {
                at += 32;
            } else if group(join, &starts, parts, at, &mut bits, out, patch) {
                at += 16;
            } else {
                break;
            }
        }
    }
    *position = bits;
    at
}

/// The ranges of differences by rank, laid out for shuffles of bytes: a range of rank `r` starts
/// at `low + 64 * high`. Ranks from 32 on are left to [`Starts`].
struct Ranks {
    /// The differences of the first 15 symbols, which have no raw bits.
    small: __m256i,
    low: __m256i,
    high: [__m256i; 2],
    /// Masks of the raw bits; their ninth bit is set from rank `wide` on.
    mask: [__m256i; 2],
    wide: __m256i,
    /// The first symbol of a changed sign, and the mask of the raw bits of all of those.
    first_flip: __m256i,
    flip_mask: [__m256i; 2],
}

impl Ranks {
    #[target_feature(enable = "avx2")]
    fn new(join: &Join) -> Self {
        let places = join.places;
        let m = join.number.mantissa;
        let full = (1u32 << m) - 1;
        Self {
            small: twice(&places.small.map(|difference| difference as u8)),
            low: twice(&places.low),
            high: [twice(&places.high[0]), twice(&places.high[1])],
            mask: [twice(&places.mask[0]), twice(&places.mask[1])],
            wide: _mm256_set1_epi8(if m - 1 > 8 { 2 * m as i8 - 1 } else { i8::MAX }),
            first_flip: _mm256_set1_epi8(2 * join.moves as i8 + 1),
            flip_mask: [
                _mm256_set1_epi8(full as i8),
                _mm256_set1_epi8((full >> 8) as i8),
            ],
        }
    }
}

/// A table of 16 bytes for shuffles of both halves.
#[inline]
#[target_feature(enable = "avx2")]
fn twice(table: &[u8; 16]) -> __m256i {
    // SAFETY: `table` has 16 bytes.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(table.as_ptr().cast()) })
}

/// Where the elements of each quarter of a vector of 32 symbols begin: in such an order that its
/// halves unpack to elements in theirs.
const QUARTERS: [usize; 4] = [0, 16, 8, 24];

/// Puts 32 elements together that have small differences or, few of them, a changed sign. `false`
/// where others are among them or the end of the raw bits is near: then nothing is done.
///
/// # Safety
/// As [`steps`], with 32 elements from `at` on.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn two_groups<const NARROW: bool>(
    join: &Join,
    ranks: &Ranks,
    parts: &Parts,
    at: usize,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> bool {
    let zero = _mm256_setzero_si256();
    let magnitude = _mm256_set1_epi16(0x7FFF);
    // SAFETY: reads and writes 32 elements at places from `at` on; raw bits are read only where
    // `RAW_BYTES` are left: 32 times at most 10 bits, and the width of the last load.
    unsafe {
        let symbol = _mm256_loadu_si256(parts.symbols.as_ptr().add(at).cast());
        let symbol = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(symbol);
        let predicted = parts.predicted.as_ptr().add(2 * at).cast::<__m256i>();
        let p = [
            _mm256_loadu_si256(predicted),
            _mm256_loadu_si256(predicted.add(1)),
        ];
        let size = p.map(|p| _mm256_and_si256(p, magnitude));
        if join.zeros {
            let none = _mm256_or_si256(
                _mm256_cmpeq_epi16(size[0], zero),
                _mm256_cmpeq_epi16(size[1], zero),
            );
            if _mm256_testz_si256(none, none) == 0 {
                return false;
            }
        }
        let at_least = |least: i8| {
            let least = _mm256_max_epu8(symbol, _mm256_set1_epi8(least));
            _mm256_movemask_epi8(_mm256_cmpeq_epi8(least, symbol)) as u32
        };
        let mut flip = zero;
        let flips = at_least(63);
        if flips != 0 {
            let beyond = _mm256_sub_epi8(symbol, ranks.first_flip);
            flip = _mm256_cmpeq_epi8(_mm256_min_epu8(beyond, _mm256_set1_epi8(19)), beyond);
            if _mm256_movemask_epi8(flip) as u32 != flips {
                return false;
            }
        }
        let mut raw = [zero; 2];
        let differences = if at_least(15) == 0 {
            let difference = _mm256_shuffle_epi8(ranks.small, symbol);
            let negative = _mm256_cmpgt_epi8(zero, difference);
            [
                _mm256_unpacklo_epi8(difference, negative),
                _mm256_unpackhi_epi8(difference, negative),
            ]
        } else if *position / 8 + RAW_BYTES > join.raw.len() {
            return false;
        } else {
            raw = raw_of::<NARROW>(ranks, join.raw, symbol, flip, position);
            differences_of::<NARROW>(ranks, symbol, raw)
        };
        for half in 0..2 {
            let mut difference = differences[half];
            if let Some(fractions) = parts.fractions {
                let fraction = _mm256_loadu_si256(fractions.as_ptr().add(at + 16 * half).cast());
                let sign = _mm256_or_si256(fraction, _mm256_set1_epi16(1));
                difference = _mm256_sign_epi16(difference, sign);
            }
            let moved = _mm256_add_epi16(size[half], difference);
            let element = _mm256_or_si256(
                _mm256_and_si256(moved, magnitude),
                _mm256_andnot_si256(magnitude, p[half]),
            );
            let place = out.as_mut_ptr().add(2 * (at + 16 * half));
            _mm256_storeu_si256(place.cast(), element);
        }
        if flips != 0 {
            put_flips::<NARROW>(flips, raw, at, out, patch);
        }
    }
    true
}

/// The raw bits of 32 symbols, those of a changed sign being set in `flip`: bytes in the order of
/// the symbols, or 16 bits each in that of the elements.
///
/// # Safety
/// The instructions of [`is_available`]; [`RAW_BYTES`] of `raw` from `position` on.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn raw_of<const NARROW: bool>(
    ranks: &Ranks,
    raw: &[u8],
    symbol: __m256i,
    flip: __m256i,
    position: &mut usize,
) -> [__m256i; 2] {
    let zero = _mm256_setzero_si256();
    let rank = _mm256_avg_epu8(symbol, zero);
    let flip_mask = _mm256_and_si256(flip, ranks.flip_mask[0]);
    let mask = _mm256_or_si256(by_rank(&ranks.mask, rank), flip_mask);
    // SAFETY: passed on.
    unsafe {
        if NARROW {
            let [first, third, second, fourth] = lanes64(mask);
            let bits = take_four(raw, [first, second, third, fourth], position);
            [_mm256_permute4x64_epi64::<SWAP_MIDDLE>(bits), zero]
        } else {
            let is_wide = _mm256_cmpgt_epi8(rank, ranks.wide);
            let ninth = _mm256_and_si256(is_wide, _mm256_set1_epi8(1));
            let upper = _mm256_or_si256(ninth, _mm256_and_si256(flip, ranks.flip_mask[1]));
            let first = lanes64(_mm256_unpacklo_epi8(mask, upper));
            let second = lanes64(_mm256_unpackhi_epi8(mask, upper));
            [
                take_four(raw, first, position),
                take_four(raw, second, position),
            ]
        }
    }
}

/// The differences of 32 symbols, as if none had a changed sign.
#[inline]
#[target_feature(enable = "avx2")]
fn differences_of<const NARROW: bool>(
    ranks: &Ranks,
    symbol: __m256i,
    raw: [__m256i; 2],
) -> [__m256i; 2] {
    let one = _mm256_set1_epi8(1);
    let zero = _mm256_setzero_si256();
    let rank = _mm256_avg_epu8(symbol, zero);
    let mut low = _mm256_shuffle_epi8(ranks.low, _mm256_add_epi8(rank, _mm256_set1_epi8(112)));
    let high = by_rank(&ranks.high, rank);
    if NARROW {
        low = _mm256_add_epi8(low, raw[0]);
    }
    let weights = _mm256_set1_epi16(64 << 8 | 1);
    let mut sums = [
        _mm256_maddubs_epi16(_mm256_unpacklo_epi8(low, high), weights),
        _mm256_maddubs_epi16(_mm256_unpackhi_epi8(low, high), weights),
    ];
    if !NARROW {
        sums = [
            _mm256_add_epi16(sums[0], raw[0]),
            _mm256_add_epi16(sums[1], raw[1]),
        ];
    }
    // Even symbols are negative.
    let even = _mm256_cmpeq_epi8(_mm256_and_si256(symbol, one), zero);
    [
        _mm256_sign_epi16(sums[0], _mm256_unpacklo_epi8(one, even)),
        _mm256_sign_epi16(sums[1], _mm256_unpackhi_epi8(one, even)),
    ]
}

/// What 32 bytes of a table are at the ranks; those from 32 on do not matter.
#[inline]
#[target_feature(enable = "avx2")]
fn by_rank(table: &[__m256i; 2], rank: __m256i) -> __m256i {
    // A shuffle gives 0 where the top bit is set: the first from rank 16 on, the second below.
    let first = _mm256_add_epi8(rank, _mm256_set1_epi8(112));
    let second = _mm256_sub_epi8(rank, _mm256_set1_epi8(16));
    _mm256_or_si256(
        _mm256_shuffle_epi8(table[0], first),
        _mm256_shuffle_epi8(table[1], second),
    )
}

/// Puts elements of a changed sign where they belong; `flips` and narrow raw bits are in the order
/// of the symbols.
#[inline]
#[target_feature(enable = "avx2")]
fn put_flips<const NARROW: bool>(
    mut flips: u32,
    raw: [__m256i; 2],
    at: usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) {
    let raw = [lanes64(raw[0]), lanes64(raw[1])];
    let raw = raw.as_flattened();
    while flips != 0 {
        let byte = flips.trailing_zeros() as usize;
        let lane = QUARTERS[byte / 8] + byte % 8;
        let bits = if NARROW {
            raw[byte / 8] >> (8 * (byte % 8)) & 0xFF
        } else {
            raw[lane / 4] >> (16 * (lane % 4)) & 0xFFFF
        };
        let element = patch(at + lane, bits as u32) as u16;
        let place = 2 * (at + lane);
        out[place..place + 2].copy_from_slice(&element.to_le_bytes());
        flips &= flips - 1;
    }
}

/// Takes at most 57 raw bits to where each of four masks has ones, one after another.
///
/// # Safety
/// The instructions of [`is_available`]; in `raw`, from `position` on, all bits of the masks and at
/// least 8 bytes from where those of the last begin.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
pub(super) unsafe fn take_four(raw: &[u8], masks: [u64; 4], position: &mut usize) -> __m256i {
    let mut lanes = [0i64; 4];
    for (lane, mask) in lanes.iter_mut().zip(masks) {
        // SAFETY: the caller says that the bytes are there.
        let word = unsafe {
            raw.as_ptr()
                .add(*position / 8)
                .cast::<u64>()
                .read_unaligned()
        };
        let bits = word.to_le() >> (*position & 7);
        *position += mask.count_ones() as usize;
        *lane = _pdep_u64(bits, mask) as i64;
    }
    _mm256_setr_epi64x(lanes[0], lanes[1], lanes[2], lanes[3])
}

/// Puts 16 elements together; `false` where one is beyond the escape or the end of the raw bits is
/// near: then nothing is done.
///
/// # Safety
/// As [`steps`], with 16 elements from `at` on.
// Apart, so that the common step keeps its registers.
#[inline(never)]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn group(
    join: &Join,
    starts: &Starts,
    parts: &Parts,
    at: usize,
    position: &mut usize,
    out: &mut [u8],
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> bool {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    // SAFETY: reads and writes 16 elements at places from `at` on; raw bits are read only where
    // `RAW_BYTES` are left.
    unsafe {
        let symbol = _mm_loadu_si128(parts.symbols.as_ptr().add(at).cast());
        let p = _mm256_loadu_si256(parts.predicted.as_ptr().add(2 * at).cast());
        let size = _mm256_and_si256(p, magnitude);
        // Elements whose prediction is 0 and whose symbol therefore means something else.
        let none = if join.zeros {
            _mm256_cmpeq_epi16(size, zero)
        } else {
            zero
        };
        if *position / 8 + RAW_BYTES > join.raw.len() {
            return false;
        }
        let Some(found) = wide16(starts, join.raw, symbol, none, position) else {
            return false;
        };
        let mut difference = found.difference;
        if let Some(fractions) = parts.fractions {
            let fraction = _mm256_loadu_si256(fractions.as_ptr().add(at).cast());
            let turned = _mm256_sub_epi16(zero, difference);
            let below = _mm256_andnot_si256(found.flip, _mm256_srai_epi16::<15>(fraction));
            difference = _mm256_blendv_epi8(difference, turned, below);
        }
        let moved = _mm256_and_si256(_mm256_add_epi16(size, difference), magnitude);
        let sign = _mm256_andnot_si256(magnitude, _mm256_xor_si256(p, found.flip));
        let element = _mm256_or_si256(moved, sign);
        let element = _mm256_blendv_epi8(element, found.raw, found.escape);
        _mm256_storeu_si256(out.as_mut_ptr().add(2 * at).cast(), element);
        let mut set = _mm256_movemask_epi8(found.patched) as u32 & 0x5555_5555;
        let raw = lanes16(found.raw);
        while set != 0 {
            let lane = set.trailing_zeros() as usize / 2;
            let element = patch(at + lane, u32::from(raw[lane])) as u16;
            let place = 2 * (at + lane);
            out[place..place + 2].copy_from_slice(&element.to_le_bytes());
            set &= set - 1;
        }
    }
    true
}

/// What the ranges of symbols of a 16-bit type start at and the masks of their raw bits, laid out
/// for shuffles as in the encoder.
#[derive(Clone, Copy)]
struct Starts {
    near: [__m256i; 2],
    far: [__m256i; 2],
    has_far: bool,
    /// The last rank that the shuffles know, and the shift and mask of the others.
    last: __m256i,
    shift: __m128i,
    mask: __m256i,
    /// The last symbol that keeps the sign, the escape, and the shift and mask of those
    /// between.
    kept: __m256i,
    escape: __m256i,
    flip_low: __m256i,
    flip_shift: __m128i,
    flip_mask: __m256i,
    /// The mask of the raw bits of a prediction of zero.
    zero_mask: __m256i,
}

impl Starts {
    #[target_feature(enable = "avx2")]
    fn new(join: &Join) -> Self {
        let m = join.number.mantissa as i32;
        let places = join.places;
        // Of the first 16 ranks the upper parts are below 4, so that none moves into its neighbour.
        let upper = _mm256_slli_epi16::<6>(twice(&places.high[0]));
        let kept = 2 * join.moves as i16;
        Self {
            near: [
                _mm256_add_epi8(twice(&places.low), upper),
                twice(&places.mask[0]),
            ],
            far: [twice(&places.high[1]), twice(&places.mask[1])],
            has_far: m > 7,
            last: _mm256_set1_epi16(2 * m as i16 - 1),
            shift: _mm_cvtsi32_si128(m - 1),
            mask: _mm256_set1_epi16((1 << (m - 1)) - 1),
            kept: _mm256_set1_epi16(kept),
            escape: _mm256_set1_epi16(kept + 21),
            flip_low: _mm256_set1_epi16(kept + 1 + 8),
            flip_shift: _mm_cvtsi32_si128(m),
            flip_mask: _mm256_set1_epi16((1 << m) - 1),
            zero_mask: _mm256_set1_epi16((2 << m) - 1),
        }
    }
}

/// What 16 symbols with raw bits stand for.
struct Wide {
    difference: __m256i,
    /// Which change the sign.
    flip: __m256i,
    /// Which follow raw.
    escape: __m256i,
    /// Which have a prediction of zero and symbols of their own.
    patched: __m256i,
    raw: __m256i,
}

/// Takes the raw bits of 16 symbols; nothing where one is beyond the escape.
///
/// # Safety
/// The instructions of [`is_available`]; at least 40 bytes from `position` on in `raw`.
#[inline]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn wide16(
    starts: &Starts,
    raw: &[u8],
    symbol: __m128i,
    none: __m256i,
    position: &mut usize,
) -> Option<Wide> {
    let symbol = _mm256_cvtepu8_epi16(symbol);
    let beyond = _mm256_cmpgt_epi16(symbol, starts.escape);
    if _mm256_movemask_epi8(beyond) != 0 {
        return None;
    }
    let one = _mm256_set1_epi16(1);
    let upper = _mm256_set1_epi16(i16::MIN);
    let rank = _mm256_srli_epi16::<1>(_mm256_add_epi16(symbol, one));
    let place = _mm256_or_si256(_mm256_min_epi16(rank, _mm256_set1_epi16(15)), upper);
    let mut start = _mm256_shuffle_epi8(starts.near[0], place);
    let mut mask = _mm256_shuffle_epi8(starts.near[1], place);
    if starts.has_far {
        let is_far = _mm256_cmpgt_epi16(rank, _mm256_set1_epi16(15));
        let place = _mm256_or_si256(_mm256_sub_epi16(rank, _mm256_set1_epi16(16)), upper);
        let far = _mm256_slli_epi16::<6>(_mm256_shuffle_epi8(starts.far[0], place));
        start = _mm256_blendv_epi8(start, far, is_far);
        mask = _mm256_blendv_epi8(mask, _mm256_shuffle_epi8(starts.far[1], place), is_far);
    }
    let is_linear = _mm256_cmpgt_epi16(rank, starts.last);
    let linear = _mm256_sll_epi16(_mm256_sub_epi16(rank, starts.last), starts.shift);
    start = _mm256_blendv_epi8(start, linear, is_linear);
    mask = _mm256_blendv_epi8(mask, starts.mask, is_linear);
    let flip = _mm256_cmpgt_epi16(symbol, starts.kept);
    let flipped = _mm256_sll_epi16(_mm256_sub_epi16(symbol, starts.flip_low), starts.flip_shift);
    start = _mm256_blendv_epi8(start, flipped, flip);
    mask = _mm256_blendv_epi8(mask, starts.flip_mask, flip);
    let escape = _mm256_cmpeq_epi16(symbol, starts.escape);
    mask = _mm256_or_si256(mask, escape);
    let same = _mm256_cmpeq_epi16(symbol, _mm256_setzero_si256());
    let patched = _mm256_andnot_si256(_mm256_or_si256(same, escape), none);
    mask = _mm256_blendv_epi8(mask, starts.zero_mask, patched);
    let masks = lanes64(mask);
    let counts = masks.map(|mask| mask.count_ones() as usize);
    let mut lanes = [0u64; 4];
    for n in 0..4 {
        // SAFETY: four loads of 9 bytes begin at most 3 * 64 / 8 bytes after `position`.
        let bits = unsafe { bits_at(raw, *position) };
        *position += counts[n];
        lanes[n] = _pdep_u64(bits, masks[n]);
    }
    // SAFETY: `lanes` has 32 bytes.
    let raw = unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) };
    let sum = _mm256_add_epi16(start, raw);
    // Even symbols are negative.
    let odd = _mm256_cmpeq_epi16(_mm256_and_si256(symbol, one), one);
    let kept = _mm256_or_si256(odd, flip);
    let negative = _mm256_andnot_si256(kept, _mm256_set1_epi16(-1));
    Some(Wide {
        difference: _mm256_sub_epi16(_mm256_xor_si256(sum, negative), negative),
        flip,
        escape,
        patched,
        raw,
    })
}

/// 64 bits from a place in bits.
///
/// # Safety
/// At least 9 bytes from there on in `raw`.
#[inline(always)]
pub(super) unsafe fn bits_at(raw: &[u8], position: usize) -> u64 {
    let shift = position & 7;
    // SAFETY: the caller says that the bytes are there.
    unsafe {
        let at = raw.as_ptr().add(position / 8);
        let low = at.cast::<u64>().read_unaligned().to_le() >> shift;
        // Two shifts, for one of 64 would do nothing.
        low | u64::from(*at.add(8)) << 1 << (63 - shift)
    }
}
