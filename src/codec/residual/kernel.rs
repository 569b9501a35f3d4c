//! The doors to vector code, and the room that coders use again.
//!
//! May use: `vectors`, `bits`, `operands`, `rans`, `sample`, `table`, the vector files. Each function
//! does a first part of its work and says how many elements that were; 0 is always a right answer,
//! and the caller's plain code does the rest with the same result.

use std::cell::Cell;

use super::bits::BitWriter;
use super::operands::{Heads, Join, Map16, Map32, MapFine, Split};
use super::rans::{LANES, Stream};
use super::sample::Weigh;
use super::table::Tables;
#[cfg(target_arch = "x86_64")]
use crate::vectors::has_avx512;
use crate::vectors::wide;

#[cfg(target_arch = "x86_64")]
use super::{
    avx2_decode, avx2_encode, avx2_fine, avx2_heads, avx2_join16, avx2_join32, avx2_sample,
    avx2_wide, avx512_context, avx512_decode, avx512_join,
};

#[cfg(target_arch = "aarch64")]
use super::{
    neon_context, neon_decode, neon_encode, neon_heads, neon_join, neon_sample, neon_split,
};

#[cfg(test)]
thread_local! {
    /// Bits of the widest vectors to use, set by tests that compare them with each other and with
    /// the plain twins.
    pub(super) static WIDEST: Cell<u32> = const { Cell::new(512) };
}

/// Whether vector code runs here.
pub(super) fn is_available() -> bool {
    #[cfg(test)]
    if WIDEST.get() == 0 {
        return false;
    }
    #[cfg(target_arch = "x86_64")]
    {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("popcnt")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // Every such processor has the vectors.
        cfg!(target_arch = "aarch64")
    }
}

/// Whether vector code of 512 bits runs here.
#[cfg(target_arch = "x86_64")]
pub(super) fn is_wide() -> bool {
    #[cfg(test)]
    if WIDEST.get() < 512 {
        return false;
    }
    is_available() && has_avx512()
}

/// Defines a door: the vector function where it runs, 0 elsewhere.
macro_rules! door {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*) in $file:ident, $other:ident) => {
        door! { $(#[$doc])* $name($($arg: $kind),*) in $file, $file, $other }
    };
    ($(#[$doc:meta])* $name:ident($($arg:ident: $kind:ty),*)
     in $wide:ident, $file:ident, $other:ident) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "slices of one length, side by side")]
        pub(super) fn $name($($arg: $kind),*) -> usize {
            #[cfg(target_arch = "x86_64")]
            if is_wide() {
                return $wide::$name($($arg),*);
            }
            #[cfg(target_arch = "x86_64")]
            if is_available() {
                return $file::$name($($arg),*);
            }
            #[cfg(target_arch = "aarch64")]
            if is_available() {
                return $other::$name($($arg),*);
            }
            $(let _ = $arg;)*
            0
        }
    };
}

/// Bytes that one step of the coder over all lanes may read: a word a lane, and the width of the
/// last load.
pub(super) const STEP_BYTES: usize = 2 * LANES + 16;

/// Decodes symbols of streams side by side in whole groups of lanes; gives how many of each.
pub(super) fn decode<const N: usize>(streams: &mut [Stream; N], tables: &Tables) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_wide() {
        return avx512_decode::decode(streams, tables);
    }
    #[cfg(target_arch = "x86_64")]
    if is_available() {
        return avx2_decode::decode(streams, tables);
    }
    #[cfg(target_arch = "aarch64")]
    if is_available() {
        return neon_decode::decode(streams, tables);
    }
    let _ = (streams, tables);
    0
}

door! {
    /// The tables of 16-bit elements; `predicted` holds two bytes an element.
    indexes16(map: &Map16, scales: &[i16], predicted: &[u8], out: &mut [u8])
    in avx512_context, avx2_decode, neon_context
}
door! {
    /// The tables of elements without a prediction, and the floors of their scales; `map` is the
    /// table of each scale from -16 on, and other octaves have that of the nearest.
    indexes_alone(map: &[u8; 32], scales: &[i16], out: &mut [u8], floors: &mut [i8])
    in avx512_context, avx2_heads, neon_heads
}
door! {
    /// The tables of 16-bit elements whose prediction has a fraction.
    indexes_fine(map: &MapFine, scales: &[i16], predicted: &[u8], fractions: &[i16],
                 out: &mut [u8]) in avx512_context, avx2_fine, neon_context
}
door! {
    /// Predictions of 16-bit elements, rounded: the bits of elements, and what lies beyond.
    rounded16(patterns: &[u32], elements: &mut [u8], fractions: &mut [i16])
    in avx512_context, avx2_fine, neon_context
}
door! {
    /// Puts 16-bit elements together until a symbol beyond the escape or the end of the raw bits is
    /// near; moves `position`, in bits. `patch` makes an element of its raw bits where that
    /// is less work.
    join16(join: &Join, symbols: &[u8], predicted: &[u8], fractions: Option<&[i16]>,
           position: &mut usize, out: &mut [u8], patch: &mut dyn FnMut(usize, u32) -> u64)
    in avx512_join, avx2_join16, neon_join
}
door! {
    /// Symbols of 16-bit elements as slots, and their raw bits; `patch` does the special ones.
    split16(split: &Split, indexes: &[u8], predicted: &[u8], fractions: Option<&[i16]>,
            target: &[u8], slots: &mut [u32], raw: &mut BitWriter,
            patch: &mut dyn FnMut(usize) -> Coded) in avx2_encode, neon_split
}
door! {
    /// The tables of 32-bit elements; `predicted` holds four bytes an element.
    indexes32(map: &Map32, scales: &[i16], predicted: &[u8], out: &mut [u8])
    in avx512_context, avx2_wide, neon_context
}
door! {
    /// Symbols of 32-bit elements as slots, and their raw bits; `patch` does the special ones.
    split32(split: &Split, indexes: &[u8], predicted: &[u8], target: &[u8], slots: &mut [u32],
            raw: &mut BitWriter, patch: &mut dyn FnMut(usize) -> Coded) in avx2_wide, neon_split
}
door! {
    /// As [`join16`], for 32-bit elements.
    join32(join: &Join, symbols: &[u8], predicted: &[u8], position: &mut usize, out: &mut [u8],
           patch: &mut dyn FnMut(usize, u32) -> u64) in avx512_join, avx2_join32, neon_join
}
door! {
    /// Symbols of 16-bit heads as slots, and their raw bits; `escape` is told the escapes.
    split_heads(split: &Heads, indexes: &[u8], floors: &[i8], heads: &[u8], slots: &mut [u32],
                raw: &mut BitWriter, escape: &mut dyn FnMut(usize)) in avx2_heads, neon_heads
}
door! {
    /// Puts 16-bit heads together, escapes as zeros, until the end of the raw bits is near; moves
    /// `position`, in bits.
    join_heads(join: &Heads, symbols: &[u8], floors: &[i8], raw: &[u8], position: &mut usize,
               out: &mut [u8]) in avx512_join, avx2_heads, neon_heads
}
door! {
    /// 16-bit elements as numbers: the magnitude shifted up into 32 bits, times a scale.
    values16(bytes: &[u8], shift: u32, scale: f32, out: &mut [f32]) in avx2_sample, neon_sample
}
door! {
    /// Changes and weights of 16-bit elements, of every so-manieth whole group of 16; gives how
    /// many.
    weigh16(rule: &Weigh, target: &[u8], predicted: &[u8], changes: &mut [f32],
            weights: &mut [f32]) in avx2_sample, neon_sample
}
door! {
    /// Codes slots from the end in whole groups of lanes; gives how many, all up to the first.
    /// `states` and `words` go on from what the caller coded; words are the last first.
    encode(bits: u32, states: &mut [u32; 32], slots: &[u32], words: &mut Words)
    in avx2_encode, neon_encode
}

/// Asks for a line of memory that is wanted soon, if there is any.
#[inline(always)]
#[allow(unsafe_code, reason = "a hint")]
pub(super) fn prefetch(at: *const u8) {
    // SAFETY: a hint reads nothing and does nothing where there is no memory.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        use std::arch::asm;
        asm!("prfm pldl1keep, [{}]", in(reg) at, options(nostack, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = at;
}

/// The largest byte, 0 where there is none.
pub(super) fn largest(bytes: &[u8]) -> u8 {
    wide(
        #[inline(always)]
        || {
            // A plain fold becomes vectors, a search that may stop early does not.
            bytes.iter().fold(0, |most, &byte| most.max(byte))
        },
    )
}

/// One coded element: its slot, and its raw bits and their number.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coded {
    pub slot: u32,
    pub raw: u32,
    pub count: u32,
}

thread_local! {
    /// Room that is used again: fresh pages for every block would cost as much as the coding.
    static WORDS: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static SLOTS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Runs `work` with room for `count` slots, whose values do not matter.
pub(super) fn with_slots<T>(count: usize, work: impl FnOnce(&mut [u32]) -> T) -> T {
    let mut slots = SLOTS.take();
    if slots.len() < count {
        slots.resize(count, 0);
    }
    let result = work(&mut slots[..count]);
    SLOTS.set(slots);
    result
}

impl Drop for Words {
    fn drop(&mut self) {
        WORDS.set(std::mem::take(&mut self.buffer));
    }
}

/// Words written from the end of a buffer towards its start.
pub(super) struct Words {
    pub buffer: Vec<u8>,
    /// Where the words begin.
    pub start: usize,
}

impl Words {
    /// Room for `count` words and the width of a vector.
    pub fn new(count: usize) -> Self {
        let bytes = 2 * count + 32;
        let mut buffer = WORDS.take();
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        Self {
            start: buffer.len(),
            buffer,
        }
    }

    pub fn push(&mut self, word: u16) {
        self.start -= 2;
        self.buffer[self.start..self.start + 2].copy_from_slice(&word.to_le_bytes());
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use store_format::dtype::DType;

    use super::super::block::CodedBlock;
    use super::super::difference::{Second, context, context_rule};
    use super::super::magnitude::{Head, Magnitude};
    use super::super::number::{self, Number};
    use super::super::planes::Planes;
    use super::super::prediction::{Prediction, element};
    use super::super::rans;
    use super::super::scale::Scales;
    use super::super::tests::at_every_width;
    use super::*;

    /// Pseudo-random numbers, the same in every run.
    fn numbers() -> impl FnMut() -> u32 {
        let mut state = 7u32;
        move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state ^ state >> 15
        }
    }

    /// Numbers all over, and those where something turns.
    fn patterns(len: u32) -> Vec<u32> {
        let edges = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x7FFF_8000, u32::MAX];
        let mut next = numbers();
        (0..len)
            .map(|n| match next() % 4 {
                0 => edges[n as usize % 8] | next() & 1 << 31,
                1 => next() & 0x8000_FFFF,
                _ => next(),
            })
            .collect()
    }

    #[test]
    fn predictions_are_rounded_and_choose_tables_as_the_plain_code_does() {
        at_every_width(round_and_choose);
    }

    fn round_and_choose() {
        for (dtype, len) in [(DType::Bf16, 4096), (DType::F16, 4096 + 45)] {
            let Some(number) = Number::of(dtype) else {
                continue;
            };
            let raw = patterns(len);
            let plain: Vec<_> = (0..raw.len())
                .map(|i| Prediction::Fraction(&raw).pattern(number, i))
                .collect();
            let (mut elements, mut fractions) = (vec![0; 2 * raw.len()], vec![0; raw.len()]);
            let done = rounded16(&raw, &mut elements, &mut fractions);
            assert_eq!(done > 0, is_available());
            for (i, &(pattern, fraction)) in plain.iter().enumerate() {
                if i >= done {
                    number::store(&mut elements, 2, i, element(number, pattern));
                    fractions[i] = fraction;
                }
                assert_eq!(number::load(&elements, 2, i), element(number, pattern));
                assert_eq!(fractions[i], fraction);
            }
            for (zero, global) in [(None, -300), (Some(200), 0), (Some(0), 8000)] {
                let map = MapFine {
                    mantissa: number.mantissa as i32,
                    low: context_rule(number).0 as i16,
                    map: std::array::from_fn(|i| (i * 37 % 251) as u8),
                    zero,
                };
                let scales: Vec<i16> = (0..raw.len() as i16).map(|i| global + i % 240).collect();
                let mut out = vec![0; raw.len()];
                let done = indexes_fine(&map, &scales, &elements, &fractions, &mut out);
                assert_eq!(done > 0, is_available());
                for i in 0..done {
                    let (pattern, fraction) = plain[i];
                    let place = context(number, Second::Fraction, scales[i], pattern, fraction);
                    let wanted = match zero {
                        Some(zero) if pattern & 0x7FFF_FFFF == 0 => zero,
                        _ => map.map[place],
                    };
                    assert_eq!(out[i], wanted);
                }
            }
        }
    }

    #[test]
    fn wide_predictions_choose_tables_as_the_plain_code_does() {
        at_every_width(choose_for_wide);
    }

    fn choose_for_wide() {
        let Some(number) = Number::of(DType::F32) else {
            panic!("F32 is a number");
        };
        let raw = patterns(4096 + 45);
        let bytes: Vec<u8> = raw.iter().flat_map(|raw| raw.to_le_bytes()).collect();
        for (zero, global, second) in [
            (None, -300, Second::Mantissa),
            (Some(200), 0, Second::Nothing),
            (Some(0), 8000, Second::Mantissa),
        ] {
            let map = Map32 {
                low: context_rule(number).0,
                mantissa: second == Second::Mantissa,
                map: std::array::from_fn(|i| (i * 37 % 251) as u8),
                zero,
            };
            let scales: Vec<i16> = (0..raw.len() as i16).map(|i| global + i % 240).collect();
            let mut out = vec![0; raw.len()];
            let done = indexes32(&map, &scales, &bytes, &mut out);
            assert_eq!(done > 0, is_available());
            for i in 0..done {
                let wanted = match zero {
                    Some(zero) if raw[i] & 0x7FFF_FFFF == 0 => zero,
                    _ => map.map[context(number, second, scales[i], raw[i], 0)],
                };
                assert_eq!(out[i], wanted);
            }
        }
    }

    #[test]
    fn heads_of_any_scale_are_coded_as_the_plain_code_does() {
        let number = Number::of(DType::Bf16).unwrap();
        let mut next = numbers();
        for lowest in [i16::MIN, -300, 0, 400, i16::MAX] {
            let mut frequencies = [2; 256];
            // Some symbols are absent, so that what they stand for escapes.
            (frequencies[0], frequencies[17], frequencies[18]) = (4, 0, 0);
            frequencies[255] = 2048 - frequencies[..255].iter().sum::<u16>();
            let row: Vec<i16> = (0..4096 + 45).map(|_| (next() % 121) as i16 - 60).collect();
            let model = Magnitude {
                head: Head::of(number),
                lowest,
                scales: Scales {
                    rows: vec![-60, -7, 0, 60],
                    row_len: row.len() as u64,
                    columns: row,
                    global: 0,
                },
                map: std::array::from_fn(|context| context as u8),
                tables: Tables::new(11, 256, &frequencies.repeat(32)),
                tail: Planes { tables: Vec::new() },
            };
            let target: Vec<u8> = patterns(4 * (4096 + 45))
                .iter()
                .flat_map(|pattern| (*pattern as u16).to_le_bytes())
                .collect();
            let code = || model.encode(0, &target);
            let (stream, raw) = at_every_width(code);
            let decode = || {
                let mut out = vec![0; target.len()];
                let block = CodedBlock {
                    first: 0,
                    decoder: rans::Decoder::new(&stream, LANES).unwrap(),
                    raw: &raw,
                    prediction: Prediction::None,
                    out: &mut out,
                };
                model.decode([block]).map(|()| out)
            };
            assert!(at_every_width(|| decode().unwrap()) == target);
        }
    }

    #[test]
    fn slots_of_any_frequency_are_coded_as_the_plain_code_does() {
        let mut next = numbers();
        for bits in 10..=12 {
            let sum = 1 << bits;
            let slots: Vec<u32> = (0..LANES * 500 + 7)
                .map(|_| {
                    let frequency = match next() % 4 {
                        0 => 1,
                        1 => sum - 1,
                        2 => 1 << (next() % bits),
                        _ => 1 + next() % (sum - 1),
                    };
                    let start = match next() % 3 {
                        0 => 0,
                        1 => sum - frequency,
                        _ => next() % (sum - frequency + 1),
                    };
                    frequency | start << 16
                })
                .collect();
            at_every_width(|| {
                let mut out = Vec::new();
                rans::encode(bits, LANES, &slots, &mut out);
                out
            });
        }
    }
}
