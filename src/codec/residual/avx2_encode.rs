//! Encoding with 256-bit vectors. Every function has a plain twin that gives the same results.
//!
//! May use: `bits`, `kernel`, `operands`, `rans`. Must never read or write outside its slices; each
//! block of unsafe code states why it does not.
#![allow(unsafe_code, reason = "vector loads, stores and gathers")]

use std::arch::x86_64::*;

use super::bits::BitWriter;
use super::kernel::{Coded, Words, is_available, largest};
use super::operands::Split;
use super::rans::LANES;

/// For each set of lanes: the lanes in order at the high end.
static COMPACT: [[u32; 8]; 256] = {
    let mut table = [[0u32; 8]; 256];
    let mut set = 0;
    while set < 256 {
        let (mut lane, mut place) = (8, 8);
        while lane > 0 {
            lane -= 1;
            if set >> lane & 1 == 1 {
                place -= 1;
                table[set][place] = lane as u32;
            }
        }
        set += 1;
    }
    table
};

/// For `_mm256_permute4x64_epi64`: what was packed half by half is in order again, and what will
/// be unpacked half by half comes out in order.
pub(super) const SWAP_MIDDLE: i32 = 0b11_01_10_00;

/// Codes whole groups of [`LANES`] slots, the last group first.
pub(super) fn encode(
    bits: u32,
    states: &mut [u32; LANES],
    slots: &[u32],
    words: &mut Words,
) -> usize {
    let groups = slots.len() / LANES;
    let used = &slots[..groups * LANES];
    // A frequency of 0 has no quotient; each slot may push one word.
    if !is_available() || words.start < 2 * used.len() + 16 {
        return 0;
    }
    // SAFETY: the processor has the instructions; `words` has room for every word and a vector.
    unsafe {
        match bits {
            10 => steps::<10, 22>(states, used, words),
            11 => steps::<11, 21>(states, used, words),
            12 => steps::<12, 20>(states, used, words),
            _ => return 0,
        }
    }
    used.len()
}

/// # Safety
/// The instructions of [`is_available`]; `slots` holds whole groups; `words` has room before its
/// start for two bytes a slot and 16 more.
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn steps<const BITS: i32, const REST: i32>(
    states: &mut [u32; LANES],
    slots: &[u32],
    words: &mut Words,
) {
    let mut start = words.start;
    let low = _mm256_set1_epi32(0xFFFF);
    // SAFETY: `states` has 32 numbers, slots are read group by group below their length; a vector
    // of 16 bytes is stored right before `start`, which moves down by at most 2 bytes a slot and
    // had 16 more.
    unsafe {
        let place = states.as_mut_ptr().cast::<__m256i>();
        let mut x = [
            _mm256_loadu_si256(place),
            _mm256_loadu_si256(place.add(1)),
            _mm256_loadu_si256(place.add(2)),
            _mm256_loadu_si256(place.add(3)),
        ];
        for group in (0..slots.len() / LANES).rev() {
            for v in (0..4).rev() {
                let slot = _mm256_loadu_si256(slots.as_ptr().add(group * LANES + 8 * v).cast());
                let frequency = _mm256_and_si256(slot, low);
                // Not smaller: a word goes out.
                let small = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32::<REST>(x[v]));
                let set = !_mm256_movemask_ps(_mm256_castsi256_ps(small)) as usize & 0xFF;
                let lanes = _mm256_permutevar8x32_epi32(
                    _mm256_and_si256(x[v], low),
                    _mm256_loadu_si256(COMPACT[set].as_ptr().cast()),
                );
                let packed = _mm_packus_epi32(
                    _mm256_castsi256_si128(lanes),
                    _mm256_extracti128_si256::<1>(lanes),
                );
                _mm_storeu_si128(words.buffer.as_mut_ptr().add(start - 16).cast(), packed);
                start -= 2 * set.count_ones() as usize;
                let state = _mm256_blendv_epi8(_mm256_srli_epi32::<16>(x[v]), x[v], small);
                x[v] = next::<BITS>(state, frequency, _mm256_srli_epi32::<16>(slot));
            }
        }
        for (v, x) in x.iter().enumerate() {
            _mm256_storeu_si256(place.add(v), *x);
        }
    }
    words.start = start;
}

/// `(x / f) << BITS | x % f + start`, for `x < f * 2^(32 - BITS)`.
#[inline]
#[target_feature(enable = "avx2")]
fn next<const BITS: i32>(x: __m256i, frequency: __m256i, start: __m256i) -> __m256i {
    // Unsigned to float in two halves. The quotient is below 2^22, so with the roundings of the sum
    // and the division it is off by half at most: what is left of it half lower is right or one
    // too small.
    let high = _mm256_cvtepi32_ps(_mm256_srli_epi32::<16>(x));
    let low = _mm256_cvtepi32_ps(_mm256_and_si256(x, _mm256_set1_epi32(0xFFFF)));
    let whole = _mm256_add_ps(_mm256_mul_ps(high, _mm256_set1_ps(65536.0)), low);
    let quotient = _mm256_div_ps(whole, _mm256_cvtepi32_ps(frequency));
    let quotient = _mm256_cvttps_epi32(_mm256_sub_ps(quotient, _mm256_set1_ps(0.5)));
    let rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, frequency));
    let sum = _mm256_add_epi32(
        _mm256_add_epi32(_mm256_slli_epi32::<BITS>(quotient), rest),
        start,
    );
    let inside = _mm256_cmpgt_epi32(frequency, rest);
    let one_more = _mm256_sub_epi32(_mm256_set1_epi32(1 << BITS), frequency);
    _mm256_add_epi32(sum, _mm256_andnot_si256(inside, one_more))
}

/// Takes groups of 16 elements apart.
#[expect(
    clippy::too_many_arguments,
    reason = "slices of one length, side by side"
)]
pub(super) fn split16(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) -> usize {
    let mut len = indexes.len().min(predicted.len() / 2).min(target.len() / 2);
    len = len.min(slots.len());
    if let Some(fractions) = fractions {
        len = len.min(fractions.len());
    }
    len = len / 16 * 16;
    let count = split.tables.count();
    let right = split.alphabet as usize == split.tables.alphabet();
    let inside = usize::from(largest(&indexes[..len])) < count;
    if !is_available() || !right || !inside || split.number.bytes != 2 {
        return 0;
    }
    // SAFETY: the processor has the instructions; every slice holds `len` elements, a multiple of
    // 16; every index is below the number of tables.
    unsafe {
        let steps = if split.tables.is_counting() {
            split16_steps::<true>
        } else {
            split16_steps::<false>
        };
        let indexes = &indexes[..len];
        steps(
            split, indexes, predicted, fractions, target, slots, raw, patch,
        );
    }
    len
}

/// Ranks of differences and their raw bits, in 8 lanes of 32 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn ranks(size: __m256i, mantissa: i32) -> (__m256i, __m256i) {
    let float = _mm256_castps_si256(_mm256_cvtepi32_ps(size));
    // Two ranges an octave: the exponent and the top bit of the mantissa, counted from 8.
    let octave = _mm256_sub_epi32(_mm256_srli_epi32::<22>(float), _mm256_set1_epi32(252));
    let octave_bits = _mm256_sub_epi32(_mm256_srli_epi32::<23>(float), _mm256_set1_epi32(128));
    let shift = _mm_cvtsi32_si128(mantissa - 1);
    let linear = _mm256_add_epi32(
        _mm256_srl_epi32(size, shift),
        _mm256_set1_epi32(2 * mantissa - 1),
    );
    let is_linear = _mm256_cmpgt_epi32(size, _mm256_set1_epi32((1 << (mantissa - 1)) - 1));
    let is_direct = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), size);
    let rank = _mm256_blendv_epi8(octave, linear, is_linear);
    let bits = _mm256_blendv_epi8(octave_bits, _mm256_set1_epi32(mantissa - 1), is_linear);
    (
        _mm256_blendv_epi8(rank, size, is_direct),
        _mm256_andnot_si256(is_direct, bits),
    )
}

/// The ranges of differences of a 16-bit type, laid out for shuffles: those below 64 by their
/// size in fours, those below 512 by their size in 32s, the others evenly.
#[derive(Clone, Copy)]
struct Ranges {
    /// Ranks and masks of raw bits.
    near: [__m256i; 2],
    far: [__m256i; 2],
    /// Whether there are ranges from 64 to 512 that grow.
    has_far: bool,
    shift: __m128i,
    /// What is added to the rank of the others, and the mask of their raw bits.
    linear: [__m256i; 2],
    /// The largest size that is not among the others.
    last: __m256i,
    most: __m256i,
}

impl Ranges {
    #[target_feature(enable = "avx2")]
    fn new(split: &Split) -> Self {
        let m = split.number.mantissa as i16;
        let table = |step: u32, value: fn(u32) -> u32| {
            let mut bytes = [0u8; 16];
            for (k, byte) in bytes.iter_mut().enumerate().skip(2) {
                *byte = value(k as u32 * step) as u8;
            }
            // SAFETY: `bytes` has 16 bytes.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
        };
        let rank: fn(u32) -> u32 =
            |size| 8 + 2 * (size.ilog2() - 3) + (size >> (size.ilog2() - 1) & 1);
        let mask: fn(u32) -> u32 = |size| (1 << (size.ilog2() - 1)) - 1;
        Self {
            near: [table(4, rank), table(4, mask)],
            far: [table(32, rank), table(32, mask)],
            has_far: m > 7,
            shift: _mm_cvtsi32_si128(i32::from(m) - 1),
            linear: [
                _mm256_set1_epi16(2 * m - 1),
                _mm256_set1_epi16((1 << (m - 1)) - 1),
            ],
            last: _mm256_set1_epi16((1 << (m - 1)) - 1),
            most: _mm256_set1_epi16(split.moves as i16),
        }
    }

    /// Ranks of sizes, and the masks of their raw bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn find(&self, size: __m256i) -> (__m256i, __m256i) {
        // The upper byte of each number finds nothing.
        let upper = _mm256_set1_epi16(i16::MIN);
        let place =
            |size: __m256i| _mm256_or_si256(_mm256_min_epi16(size, _mm256_set1_epi16(15)), upper);
        let four = place(_mm256_srli_epi16::<2>(size));
        let mut rank = _mm256_shuffle_epi8(self.near[0], four);
        let mut mask = _mm256_shuffle_epi8(self.near[1], four);
        if self.has_far {
            let many = place(_mm256_srli_epi16::<5>(size));
            let is_far = _mm256_cmpgt_epi16(size, _mm256_set1_epi16(63));
            rank = _mm256_blendv_epi8(rank, _mm256_shuffle_epi8(self.far[0], many), is_far);
            mask = _mm256_blendv_epi8(mask, _mm256_shuffle_epi8(self.far[1], many), is_far);
        }
        let is_linear = _mm256_cmpgt_epi16(size, self.last);
        let linear = _mm256_add_epi16(_mm256_srl_epi16(size, self.shift), self.linear[0]);
        rank = _mm256_blendv_epi8(rank, linear, is_linear);
        mask = _mm256_blendv_epi8(mask, self.linear[1], is_linear);
        let is_direct = _mm256_cmpgt_epi16(_mm256_set1_epi16(8), size);
        (
            _mm256_blendv_epi8(rank, size, is_direct),
            _mm256_andnot_si256(is_direct, mask),
        )
    }
}

/// Appends raw bits, up to 64 at a time, in registers.
pub(super) struct Raw<'a> {
    writer: &'a mut BitWriter,
    at: *mut u8,
    held: u64,
    count: u32,
}

impl<'a> Raw<'a> {
    /// Room for `bytes` more.
    pub fn new(writer: &'a mut BitWriter, bytes: usize) -> Self {
        writer.bytes.reserve(bytes + 32);
        let len = writer.bytes.len();
        Self {
            // SAFETY: the length is inside the vector.
            at: unsafe { writer.bytes.as_mut_ptr().add(len) },
            held: writer.held,
            count: writer.count,
            writer,
        }
    }

    /// Appends the low `count` bits of `value`, whose other bits are zero; at most 56.
    ///
    /// # Safety
    /// The room that [`Raw::new`] made must not be used up.
    #[inline(always)]
    pub unsafe fn put(&mut self, value: u64, count: u32) {
        self.held |= value << self.count;
        // SAFETY: eight bytes of the room are left, as the caller says.
        unsafe { self.at.cast::<u64>().write_unaligned(self.held.to_le()) };
        self.count += count;
        // SAFETY: as above.
        self.at = unsafe { self.at.add(self.count as usize / 8) };
        self.held >>= self.count & !7;
        self.count &= 7;
    }

    /// As [`Raw::put`], for up to 64 bits.
    ///
    /// # Safety
    /// As [`Raw::put`].
    #[inline(always)]
    pub unsafe fn put_long(&mut self, value: u64, count: u32) {
        let first = count.min(32);
        // SAFETY: passed on.
        unsafe {
            self.put(value & 0xFFFF_FFFF, first);
            self.put(value >> 32, count - first);
        }
    }

    /// Gives the bits to the writer.
    pub fn finish(self) {
        let start = self.writer.bytes.as_ptr();
        // SAFETY: all bytes up to `at` were written, and they lie in the room of the vector.
        unsafe {
            let len = self.at.offset_from(start) as usize;
            self.writer.bytes.set_len(len);
        }
        self.writer.held = self.held;
        self.writer.count = self.count;
    }
}

/// Symbols of 16 elements; those that are special have a symbol of no meaning.
struct Symbols {
    symbol: __m256i,
    special: __m256i,
    /// Masks of raw bits, and the raw bits under them.
    raw: Option<(__m256i, __m256i)>,
}

#[inline]
#[target_feature(enable = "avx2")]
fn symbols16(
    ranges: &Ranges,
    zeros: bool,
    p: __m256i,
    t: __m256i,
    fraction: Option<__m256i>,
) -> Symbols {
    let magnitude = _mm256_set1_epi16(0x7FFF);
    let zero = _mm256_setzero_si256();
    let size = _mm256_and_si256(p, magnitude);
    let mut special = _mm256_srai_epi16::<15>(_mm256_xor_si256(p, t));
    let mut difference = _mm256_sub_epi16(_mm256_and_si256(t, magnitude), size);
    if let Some(fraction) = fraction {
        let below = _mm256_srai_epi16::<15>(fraction);
        difference = _mm256_sub_epi16(_mm256_xor_si256(difference, below), below);
    }
    if zeros {
        let none = _mm256_cmpeq_epi16(size, zero);
        let same = _mm256_cmpeq_epi16(p, t);
        special = _mm256_or_si256(special, _mm256_andnot_si256(same, none));
    }
    let away = _mm256_abs_epi16(difference);
    let positive = _mm256_cmpgt_epi16(difference, zero);
    let mut rank = away;
    let mut raw = None;
    if _mm256_movemask_epi8(_mm256_cmpgt_epi16(away, _mm256_set1_epi16(7))) != 0 {
        let (found, mask) = ranges.find(away);
        rank = found;
        special = _mm256_or_si256(special, _mm256_cmpgt_epi16(rank, ranges.most));
        raw = Some((mask, away));
    }
    Symbols {
        symbol: _mm256_add_epi16(_mm256_add_epi16(rank, rank), positive),
        special,
        raw,
    }
}

/// # Safety
/// As [`split16`] has checked.
#[expect(
    clippy::too_many_arguments,
    clippy::too_many_lines,
    reason = "one step of a loop over slices of one length, its values in registers"
)]
#[target_feature(enable = "avx2,bmi2,popcnt")]
unsafe fn split16_steps<const COUNTING: bool>(
    split: &Split,
    indexes: &[u8],
    predicted: &[u8],
    fractions: Option<&[i16]>,
    target: &[u8],
    slots: &mut [u32],
    raw: &mut BitWriter,
    patch: &mut dyn FnMut(usize) -> Coded,
) {
    let zero = _mm256_setzero_si256();
    let one = _mm256_set1_epi32(1);
    let alphabet = _mm256_set1_epi16(split.alphabet as i16);
    let table = split.tables.slots().as_ptr().cast::<i32>();
    let ranges = Ranges::new(split);
    // Two quarters of a group fit one word where an element has at most 7 raw bits.
    let in_pairs = split.number.mantissa <= 7;
    let mut raw = Raw::new(raw, if COUNTING { 0 } else { 2 * indexes.len() });
    // SAFETY: each step reads and writes 16 elements at places below the length of `indexes`; a
    // gather reads slot `table * alphabet + symbol` with `table` below the number of tables and
    // `symbol` below the alphabet, since special lanes are set to 0 before; an element has at most
    // 16 raw bits.
    unsafe {
        for at in (0..indexes.len()).step_by(16) {
            let p = _mm256_loadu_si256(predicted.as_ptr().add(2 * at).cast());
            let t = _mm256_loadu_si256(target.as_ptr().add(2 * at).cast());
            let fraction =
                fractions.map(|fractions| _mm256_loadu_si256(fractions.as_ptr().add(at).cast()));
            let symbols = symbols16(&ranges, split.zeros, p, t, fraction);
            let mut special = symbols.special;
            let tables = _mm256_cvtepu8_epi16(_mm_loadu_si128(indexes.as_ptr().add(at).cast()));
            let code = _mm256_add_epi16(_mm256_mullo_epi16(tables, alphabet), symbols.symbol);
            let code = _mm256_andnot_si256(special, code);
            let mut front = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(code));
            let mut back = _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(code));
            if COUNTING {
                front = _mm256_add_epi32(front, one);
                back = _mm256_add_epi32(back, one);
            } else {
                front = look_up(table, front);
                back = look_up(table, back);
                let absent = _mm256_permute4x64_epi64::<SWAP_MIDDLE>(_mm256_packs_epi32(
                    _mm256_cmpeq_epi32(front, zero),
                    _mm256_cmpeq_epi32(back, zero),
                ));
                special = _mm256_or_si256(special, absent);
            }
            let place = slots.as_mut_ptr().add(at);
            _mm256_storeu_si256(place.cast(), front);
            _mm256_storeu_si256(place.add(8).cast(), back);
            let mut set = _mm256_movemask_epi8(special) as u32 & 0x5555_5555;
            if COUNTING {
                while set != 0 {
                    let lane = set.trailing_zeros() as usize / 2;
                    *place.add(lane) = patch(at + lane).slot;
                    set &= set - 1;
                }
            } else if set != 0 {
                let (mask, value) = symbols.raw.unwrap_or((zero, zero));
                let (mut masks, mut values) = (lanes16(mask), lanes16(value));
                while set != 0 {
                    let lane = set.trailing_zeros() as usize / 2;
                    let coded = patch(at + lane);
                    *place.add(lane) = coded.slot;
                    masks[lane] = ((1u32 << coded.count) - 1) as u16;
                    values[lane] = coded.raw as u16;
                    set &= set - 1;
                }
                let (masks, values) = (words(&masks), words(&values));
                for (mask, value) in masks.into_iter().zip(values) {
                    raw.put_long(_pext_u64(value, mask), mask.count_ones());
                }
            } else if let Some((mask, value)) = symbols.raw {
                let (masks, values) = (lanes64(mask), lanes64(value));
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
    }
    raw.finish();
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn lanes16(vector: __m256i) -> [u16; 16] {
    let mut lanes = [0u16; 16];
    // SAFETY: `lanes` has 32 bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

/// Four numbers of 16 bits in each word, the first lowest.
fn words(lanes: &[u16; 16]) -> [u64; 4] {
    std::array::from_fn(|n| {
        let lane = |i: usize| u64::from(lanes[4 * n + i]) << (16 * i);
        lane(0) | lane(1) | lane(2) | lane(3)
    })
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn lanes64(vector: __m256i) -> [u64; 4] {
    let mut lanes = [0u64; 4];
    // SAFETY: `lanes` has 32 bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}

/// Numbers of a table by eight indexes. A gather takes about twice as long on many processors.
///
/// # Safety
/// The table must have all the numbers.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn look_up(table: *const i32, place: __m256i) -> __m256i {
    let halves = lanes64(place);
    // SAFETY: the indexes are inside the table, as the caller says.
    let at = |n: usize| unsafe {
        let half = halves[n / 2];
        let index = if n.is_multiple_of(2) {
            half as u32
        } else {
            (half >> 32) as u32
        };
        *table.add(index as usize)
    };
    _mm256_setr_epi32(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states after the largest quotients and remainders, which roundings hurt first.
    #[test]
    fn a_state_goes_on_exactly_whatever_its_quotient() {
        if !is_available() {
            return;
        }
        for frequency in 1..1u32 << 10 {
            // The largest that a table can have.
            let start = (1 << 10) - frequency;
            for quotient in (0..40)
                .chain((1 << 22) - 40..1 << 22)
                .chain([1 << 21, 1 << 16])
            {
                for rest in [0, 1 % frequency, frequency / 2, frequency - 1] {
                    let x = quotient * frequency + rest;
                    // SAFETY: the processor has the instructions.
                    let found = unsafe {
                        let of = |value: u32| _mm256_set1_epi32(value as i32);
                        let next = next::<10>(of(x), of(frequency), of(start));
                        _mm256_extract_epi32::<3>(next) as u32
                    };
                    assert_eq!(found, (quotient << 10) + rest + start, "{x} {frequency}");
                }
            }
        }
    }
}
