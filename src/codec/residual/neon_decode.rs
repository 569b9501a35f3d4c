//! Decoding with the 128-bit vectors that every AArch64 processor has. The plain twin gives the
//! same results.
//!
//! May use: `kernel`, `rans`, `table`. Must never read or write outside its slices, whatever the
//! coded bytes say: loads and stores go through arrays and slices of their length.
#![allow(unsafe_code, reason = "vector loads and stores")]

use std::arch::aarch64::*;

use super::kernel::STEP_BYTES;
use super::rans::{LANES, Stream, whole_groups};
use super::table::Tables;

/// For each set of lanes that need a word: which bytes of the next words each lane takes; a
/// place beyond them gives 0.
static EXPAND: [[u8; 16]; 16] = {
    let mut table = [[0xFF; 16]; 16];
    let mut set = 0;
    while set < 16 {
        let (mut lane, mut next) = (0, 0);
        while lane < 4 {
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
    for group in 0..groups {
        let is_near = |stream: &Stream| {
            let decoder = &stream.decoder;
            decoder.position + STEP_BYTES > decoder.words.len()
        };
        if streams.iter().any(is_near) {
            return group * LANES;
        }
        for stream in &mut *streams {
            stream.soon.ask(group);
            step(stream, group, tables);
        }
    }
    groups * LANES
}

/// Decodes one group of a stream that has [`STEP_BYTES`] left.
fn step(stream: &mut Stream, group: usize, tables: &Tables) {
    let range = group * LANES..(group + 1) * LANES;
    let (indexes, symbols) = (&stream.indexes[range.clone()], &mut stream.symbols[range]);
    let (entries, bits) = (tables.entries(), tables.bits());
    let decoder = &mut *stream.decoder;
    let words = &decoder.words[decoder.position..decoder.position + STEP_BYTES];
    let states = &mut decoder.states;
    let mut used = 0;
    for v in 0..LANES / 4 {
        let at = 4 * v;
        let entry: [u32; 4] = std::array::from_fn(|i| {
            let slot = states[at + i] & ((1 << bits) - 1);
            entries[(usize::from(indexes[at + i]) << bits) + slot as usize]
        });
        for (symbol, entry) in symbols[at..at + 4].iter_mut().zip(entry) {
            *symbol = entry as u8;
        }
        let set;
        // SAFETY: `entry` and the states have four numbers from where they are loaded; at
        // most `at` words were used before, so 8 bytes are left of `words`; `EXPAND` has a row
        // for each of the 16 masks.
        unsafe {
            let e = vld1q_u32(entry.as_ptr());
            let x = vld1q_u32(states[at..at + 4].as_ptr());
            let frequency = vandq_u32(vshrq_n_u32::<8>(e), vdupq_n_u32(0xFFF));
            let upper = vshlq_u32(x, vdupq_n_s32(-(bits as i32)));
            let next = vmlaq_u32(vshrq_n_u32::<20>(e), frequency, upper);
            let short = vceqq_u32(vshrq_n_u32::<16>(next), vdupq_n_u32(0));
            let lanes = vand_u16(vmovn_u32(short), vld1_u16([1, 2, 4, 8].as_ptr()));
            set = usize::from(vaddv_u16(lanes));
            let fresh = vld1_u8(words[used..used + 8].as_ptr());
            let fresh = vcombine_u8(fresh, vdup_n_u8(0));
            let taken = vqtbl1q_u8(fresh, vld1q_u8(EXPAND[set].as_ptr()));
            let full = vorrq_u32(vshlq_n_u32::<16>(next), vreinterpretq_u32_u8(taken));
            let next = vbslq_u32(short, full, next);
            vst1q_u32(states[at..at + 4].as_mut_ptr(), next);
        }
        used += 2 * set.count_ones() as usize;
    }
    decoder.position += used;
}
