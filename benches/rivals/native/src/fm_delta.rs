//! FM-Delta's method, written from its paper (Ning et al., NeurIPS 2024): floats mapped to integers
//! in their order, their difference split into a symbol (sign and bit length) under an adaptive
//! range coder with one model a tensor, and the bits below the highest as they are.

use std::path::Path;

use crate::measure::{best, report};
use crate::plain::{Plain, width};

const TOTAL_BITS: u32 = 14;
/// Symbols between two remakes of the tables; starts lower, so that short tensors adapt.
const PERIOD: u32 = 1024;
/// The coder's range never falls below this.
const LEAST: u32 = 1 << 24;

/// Adaptive frequencies of the symbols of one tensor.
struct Model {
    counts: Vec<u32>,
    /// Start of each symbol in the total, and the total at the end.
    starts: Vec<u32>,
    /// The symbol that holds the first slot of each 64.
    search: Vec<u8>,
    period: u32,
    left: u32,
}

impl Model {
    fn new(symbols: usize) -> Self {
        let mut model = Self {
            counts: vec![1; symbols],
            starts: vec![0; symbols + 1],
            search: vec![0; 1 << (TOTAL_BITS - 6)],
            period: 16,
            left: 0,
        };
        model.remake();
        model
    }

    fn remake(&mut self) {
        let total = 1 << TOTAL_BITS;
        let sum: u32 = self.counts.iter().sum();
        let spread = total - self.counts.len() as u32;
        let mut start = 0;
        let mut highest = 0;
        for (symbol, &count) in self.counts.iter().enumerate() {
            self.starts[symbol] = start;
            start += 1 + (u64::from(count) * u64::from(spread) / u64::from(sum)) as u32;
            if count > self.counts[highest] {
                highest = symbol;
            }
        }
        for later in &mut self.starts[highest + 1..] {
            *later += total - start;
        }
        let last = self.counts.len();
        self.starts[last] = total;
        let mut symbol = 0;
        for (n, entry) in self.search.iter_mut().enumerate() {
            while self.starts[symbol + 1] <= (n as u32) << 6 {
                symbol += 1;
            }
            *entry = symbol as u8;
        }
        if sum > 1 << 16 {
            self.counts
                .iter_mut()
                .for_each(|count| *count = count.div_ceil(2));
        }
        self.period = (self.period * 2).min(PERIOD);
        self.left = self.period;
    }

    fn seen(&mut self, symbol: usize) {
        self.counts[symbol] += 1;
        self.left -= 1;
        if self.left == 0 {
            self.remake();
        }
    }
}

struct Encoder {
    low: u64,
    range: u32,
    held: u8,
    holding: u64,
    out: Vec<u8>,
}

impl Encoder {
    fn put(&mut self, start: u32, size: u32, bits: u32) {
        let step = self.range >> bits;
        self.low += u64::from(step) * u64::from(start);
        self.range = step * size;
        while self.range < LEAST {
            self.range <<= 8;
            self.shift();
        }
    }

    /// Moves one byte out, with the carry into those that wait.
    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        if self.low < 0xFF00_0000 || carry == 1 {
            if self.holding > 0 {
                self.out.push(self.held.wrapping_add(carry));
                for _ in 1..self.holding {
                    self.out.push(0xFF_u8.wrapping_add(carry));
                }
            }
            self.holding = 0;
            self.held = (self.low >> 24) as u8;
        }
        self.holding += 1;
        self.low = (self.low & 0x00FF_FFFF) << 8;
    }

    fn finish(mut self) -> Vec<u8> {
        (0..5).for_each(|_| self.shift());
        self.out
    }
}

struct Decoder<'a> {
    code: u32,
    range: u32,
    bytes: std::slice::Iter<'a, u8>,
}

impl Decoder<'_> {
    fn next(&mut self) -> u32 {
        u32::from(self.bytes.next().copied().unwrap_or(0))
    }

    fn slot(&self, bits: u32) -> u32 {
        (self.code / (self.range >> bits)).min((1 << bits) - 1)
    }

    fn take(&mut self, start: u32, size: u32, bits: u32) {
        let step = self.range >> bits;
        self.code -= step * start;
        self.range = step * size;
        while self.range < LEAST {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }
}

/// A float's bits as a number that grows with the float.
fn ordered(bits: u32, width: usize) -> i64 {
    let sign = 1_u32 << (width * 8 - 1);
    let low = i64::from(bits & (sign - 1));
    if bits & sign == 0 { low } else { -low - 1 }
}

fn unordered(value: i64, width: usize) -> u32 {
    let sign = 1_u32 << (width * 8 - 1);
    if value >= 0 {
        value as u32
    } else {
        sign | (-value - 1) as u32
    }
}

fn load(bytes: &[u8]) -> u32 {
    match *bytes {
        [a, b] => u32::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u32::from_le_bytes([a, b, c, d]),
        _ => unreachable!("elements of 2 or 4 bytes"),
    }
}

fn encode(target: &[u8], base: &[u8], width: usize) -> Vec<u8> {
    let middle = width * 8 + 1;
    let mut model = Model::new(middle * 2 + 1);
    let mut coder = Encoder {
        low: 0,
        range: u32::MAX,
        held: 0,
        holding: 0,
        out: Vec::with_capacity(target.len() / 2),
    };
    for (new, old) in target.chunks_exact(width).zip(base.chunks_exact(width)) {
        let change = ordered(load(new), width) - ordered(load(old), width);
        let size = change.unsigned_abs();
        let length = 64 - size.leading_zeros();
        let symbol = if change < 0 {
            middle - length as usize
        } else {
            middle + length as usize
        };
        let start = model.starts[symbol];
        coder.put(start, model.starts[symbol + 1] - start, TOTAL_BITS);
        model.seen(symbol);
        let mut left = length.saturating_sub(1);
        while left > 0 {
            let bits = left.min(16);
            left -= bits;
            coder.put((size >> left) as u32 & ((1 << bits) - 1), 1, bits);
        }
    }
    coder.finish()
}

fn decode(coded: &[u8], base: &[u8], width: usize, out: &mut [u8]) {
    let middle = width * 8 + 1;
    let mut model = Model::new(middle * 2 + 1);
    let mut coder = Decoder {
        code: 0,
        range: u32::MAX,
        bytes: coded.iter(),
    };
    for _ in 0..4 {
        coder.code = coder.code << 8 | coder.next();
    }
    for (new, old) in out.chunks_exact_mut(width).zip(base.chunks_exact(width)) {
        let slot = coder.slot(TOTAL_BITS);
        let mut symbol = usize::from(model.search[(slot >> 6) as usize]);
        while model.starts[symbol + 1] <= slot {
            symbol += 1;
        }
        let start = model.starts[symbol];
        coder.take(start, model.starts[symbol + 1] - start, TOTAL_BITS);
        model.seen(symbol);
        let length = symbol.abs_diff(middle) as u32;
        let mut size = u64::from(length > 0);
        let mut left = length.saturating_sub(1);
        while left > 0 {
            let bits = left.min(16);
            left -= bits;
            let slot = coder.slot(bits);
            coder.take(slot, 1, bits);
            size = size << bits | u64::from(slot);
        }
        let change = if symbol < middle {
            -(size as i64)
        } else {
            size as i64
        };
        let value = unordered(ordered(load(old), width) + change, width);
        new.copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

pub fn run(dir: &Path, repeat: usize) {
    let plain = Plain::read(dir);
    let base = plain.base.as_ref().expect("a base");
    let (coded, encoding) = best(repeat, || {
        let tensors = plain.ranges().map(|(shape, range)| {
            encode(
                &plain.target[range.clone()],
                &base[range],
                width(shape.dtype),
            )
        });
        tensors.collect::<Vec<_>>()
    });
    let (out, decoding) = best(repeat, || {
        let mut out = vec![0; plain.target.len()];
        for ((shape, range), coded) in plain.ranges().zip(&coded) {
            let width = width(shape.dtype);
            decode(coded, &base[range.clone()], width, &mut out[range]);
        }
        out
    });
    assert!(out == plain.target, "decoded bytes differ");
    report(coded.iter().map(Vec::len).sum(), encoding, decoding);
}
