//! Decoding with 256-bit vectors. Every function has a plain twin that gives the same results.
//!
//! May use: `kernel`, `rans`, `table`. Must never read or write outside its slices,
//! whatever the coded bytes say: each block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::avx2_encode::{lanes16, lanes64, look_up};
use super::kernel::{Join, Map16, RAW_BYTES, is_available, largest};
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
                e[v] = look_up(entries.as_ptr().cast(), place);
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
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let mut len = symbols.len().min(predicted.len() / 2).min(out.len() / 2) / 16 * 16;
    if let Some(fractions) = fractions {
        len = len.min(fractions.len() / 16 * 16);
    }
    if !is_available() {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements.
    unsafe {
        join16_steps(
            join,
            &symbols[..len],
            predicted,
            fractions,
            position,
            out,
            patch,
        )
    }
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
    patch: &mut dyn FnMut(usize, u32) -> u64,
) -> usize {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let starts = Starts::new(join);
    // SAFETY: each step reads and writes 16 elements at places below the length of `symbols`;
    // `small` has 16 bytes; raw bits are read only where 40 bytes are left.
    unsafe {
        let small = _mm_loadu_si128(join.places.small.as_ptr().cast());
        let mut at = 0;
        while at < symbols.len() {
            let symbol = _mm_loadu_si128(symbols.as_ptr().add(at).cast());
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let size = _mm256_and_si256(p, magnitude);
            // Elements whose prediction is 0 and whose symbol therefore means something else.
            let mut none = zero;
            let mut any_none = false;
            if join.zeros {
                none = _mm256_cmpeq_epi16(size, zero);
                any_none = _mm256_movemask_epi8(none) != 0;
            }
            let large = _mm_movemask_epi8(_mm_cmpeq_epi8(
                _mm_max_epu8(symbol, _mm_set1_epi8(15)),
                symbol,
            ));
            let mut flip = zero;
            let mut difference;
            let mut whole = None;
            if large == 0 && !any_none {
                difference = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(small, symbol));
            } else if *position / 8 + RAW_BYTES > join.raw.len() {
                break;
            } else {
                let Some(found) = wide16(&starts, join.raw, symbol, none, position) else {
                    break;
                };
                (difference, flip) = (found.difference, found.flip);
                whole = Some(found);
            }
            if let Some(fractions) = fractions {
                let fraction = _mm256_loadu_si256(fractions.as_ptr().add(at).cast());
                let turned = _mm256_sub_epi16(zero, difference);
                let below = _mm256_andnot_si256(
                    _mm256_cmpeq_epi16(flip, _mm256_set1_epi16(-1)),
                    _mm256_srai_epi16::<15>(fraction),
                );
                difference = _mm256_blendv_epi8(difference, turned, below);
            }
            let moved = _mm256_and_si256(_mm256_add_epi16(size, difference), magnitude);
            let sign = _mm256_andnot_si256(magnitude, _mm256_xor_si256(p, flip));
            let mut element = _mm256_or_si256(moved, sign);
            let mut set = 0;
            let mut raw = zero;
            if let Some(found) = whole {
                element = _mm256_blendv_epi8(element, found.raw, found.escape);
                set = _mm256_movemask_epi8(found.patched) as u32 & 0x5555_5555;
                raw = found.raw;
            }
            _mm256_storeu_si256(out.as_mut_ptr().add(2 * at).cast(), element);
            if set != 0 {
                let raw = lanes16(raw);
                while set != 0 {
                    let lane = set.trailing_zeros() as usize / 2;
                    let element = patch(at + lane, u32::from(raw[lane])) as u16;
                    let place = 2 * (at + lane);
                    out[place..place + 2].copy_from_slice(&element.to_le_bytes());
                    set &= set - 1;
                }
            }
            at += 16;
        }
        at
    }
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
        let table = |value: &dyn Fn(u32) -> u32| {
            let bytes: [u8; 16] = std::array::from_fn(|rank| value(rank as u32) as u8);
            // SAFETY: `bytes` has 16 bytes.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        };
        // Rank 8 + 2 k + h starts at (2 + h) 2^(k + 2) and has k + 2 raw bits.
        let start = |rank: u32| (2 + (rank & 1)) << (rank / 2 - 2);
        let mask = |rank: u32| (1 << (rank / 2 - 2)) - 1;
        let kept = 2 * join.moves as i16;
        Self {
            near: [
                table(&|rank| if rank < 8 { rank } else { start(rank) }),
                table(&|rank| if rank < 8 { 0 } else { mask(rank) }),
            ],
            far: [
                table(&|rank| if rank < 4 { start(rank + 16) >> 6 } else { 0 }),
                table(&|rank| if rank < 4 { mask(rank + 16) } else { 0 }),
            ],
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
