//! Damage is refused or harmless, and vectors give what their plain twins give on whole and on
//! damaged bytes.

use super::*;

/// A model, a target of its tensor, the base, and patterns near the base.
struct Case {
    model: Model,
    target: Vec<u8>,
    base: Vec<u8>,
    patterns: Vec<u32>,
    kind: usize,
}

impl Case {
    fn prediction(&self) -> Prediction<'_> {
        match self.kind {
            0 => Prediction::None,
            1 => Prediction::Same(&self.base),
            _ => Prediction::Fraction(&self.patterns),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut coded = Vec::new();
        encode(&self.model, 0, &self.target, self.prediction(), &mut coded);
        coded
    }

    fn decode(&self, coded: &[u8]) -> (bool, Vec<u8>) {
        let mut out = vec![0x55; self.target.len()];
        let is_ok = decode(&self.model, 0, coded, self.prediction(), &mut out).is_ok();
        (is_ok, out)
    }
}

fn cases(rows: u64, cols: u64) -> Vec<Case> {
    let mut random = Random(9);
    let mut cases = Vec::new();
    for dtype in TYPES {
        for kind in 0..4 {
            let width = dtype.block().1 as usize;
            let is_small_float = Number::of(dtype).is_some_and(|n| n.bytes <= 4);
            if kind >= 2 && !is_small_float {
                continue;
            }
            let base = weights(&mut random, dtype, (rows * cols) as usize);
            let mut target = moved(&mut random, dtype, &base);
            let patterns: Vec<u32> = (0..(rows * cols) as usize)
                .map(|i| {
                    let element = number::load(&base, width, i) as u32;
                    if width >= 4 || !is_small_float {
                        return element;
                    }
                    let sign = element >> (8 * width - 1) << 31;
                    let magnitude = element & ((1u32 << (8 * width - 1)) - 1);
                    sign | (magnitude << 16 ^ (random.below(1 << 16)) as u32)
                })
                .collect();
            if width == 4 && kind == 1 {
                // Differences that are met often enough to be hot.
                for (at, element) in target.chunks_exact_mut(4).enumerate().step_by(3) {
                    let by = if at % 2 == 0 { 288 } else { 431 };
                    let value = (number::load(&base, 4, at) as u32).wrapping_add(by);
                    element.copy_from_slice(&value.to_le_bytes());
                }
            }
            let shape = shape(dtype, rows, cols);
            let mut case = Case {
                model: Statistics::new(shape, Level::Default, kind > 0)
                    .expect("a model")
                    .finish(),
                target,
                base,
                patterns,
                kind: kind.min(2),
            };
            let mut statistics = Statistics::new(shape, Level::Default, kind > 0).expect("model");
            statistics.add(0, &case.target, case.prediction());
            case.model = if kind == 3 {
                Model::builtin(dtype, true).expect("a built-in model")
            } else {
                statistics.finish()
            };
            cases.push(case);
        }
    }
    cases
}

#[test]
fn vectors_and_their_plain_twins_agree() {
    // One block; and two, which are decoded side by side.
    for case in cases(67, 301).into_iter().chain(cases(331, 401)) {
        let coded = at_every_width(|| case.encode());
        let (is_ok, out) = at_every_width(|| case.decode(&coded));
        assert!(is_ok && out == case.target, "{:?}", case.model.shape());
    }
}

#[test]
fn vectors_and_their_plain_twins_agree_on_damaged_bytes() {
    let mut random = Random(10);
    let small = cases(23, 199).into_iter().map(|case| (60, case));
    // Two blocks side by side.
    let large = cases(331, 401).into_iter().map(|case| (4, case));
    for (times, case) in small.chain(large) {
        let coded = case.encode();
        for _ in 0..times {
            let mut hurt = coded.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(hurt.len() as u64) as usize;
                hurt[at] ^= 1 << random.below(8);
            }
            at_every_width(|| {
                let (is_ok, out) = case.decode(&hurt);
                is_ok.then_some(out)
            });
        }
    }
}

#[test]
fn a_chunk_cut_short_is_refused_at_every_length() {
    for case in cases(11, 90) {
        let coded = case.encode();
        for len in 0..coded.len() {
            assert!(!case.decode(&coded[..len]).0, "{:?}", case.model.shape());
        }
        let longer = [coded.as_slice(), &[0]].concat();
        assert!(!case.decode(&longer).0);
    }
}

#[test]
fn side_information_cut_short_or_damaged_never_panics() {
    let mut random = Random(11);
    for case in cases(40, 60) {
        let side = case.model.to_bytes();
        let shape = case.model.shape();
        let coded = case.encode();
        for len in 0..side.len() {
            assert!(Model::parse(shape, &side[..len]).is_err());
        }
        for _ in 0..300 {
            let mut hurt = side.clone();
            if hurt.is_empty() {
                break;
            }
            let at = random.below(hurt.len() as u64) as usize;
            hurt[at] = random.next() as u8;
            if let Ok(model) = Model::parse(shape, &hurt) {
                let mut out = vec![0; case.target.len()];
                let _ = decode(&model, 0, &coded, case.prediction(), &mut out);
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(12);
    for case in cases(9, 70) {
        for _ in 0..200 {
            let len = random.below(300) as usize;
            let mut bytes: Vec<u8> = (0..len).map(|_| (random.next() >> 50) as u8).collect();
            // A directory that fits, so that the block's own decoder is reached.
            let at = if case.model.is_builtin() { 2 } else { 0 };
            if bytes.len() > at + ENTRY {
                let rest = bytes.len() - at - ENTRY;
                let stream = random.below(rest as u64 + 1) as usize;
                let entry = &mut bytes[at..at + ENTRY];
                block::write_entry(entry, Mode::Coded, stream, rest - stream);
            }
            case.decode(&bytes);
            let _ = Model::parse(case.model.shape(), &bytes);
        }
    }
}

#[test]
fn a_stream_that_ends_in_another_state_is_refused() {
    for case in cases(30, 80) {
        let coded = case.encode();
        let at = if case.model.is_builtin() { 2 } else { 0 };
        let stream = u32::from_le_bytes([coded[at + 1], coded[at + 2], coded[at + 3], 0]);
        if coded[at] != Mode::Coded as u8 || stream == 0 {
            continue;
        }
        // The last word decides low bits of a state only: the symbols may stay as they are.
        let last = at + ENTRY + stream as usize - 2;
        for bit in 0..8 {
            let mut hurt = coded.clone();
            hurt[last] ^= 1 << bit;
            let (is_ok, out) = case.decode(&hurt);
            assert!(!is_ok || out != case.target);
        }
    }
}

#[test]
fn elements_outside_the_tensor_and_short_predictions_are_refused() {
    let case = &cases(5, 40)[1];
    let coded = case.encode();
    let mut out = vec![0; case.target.len()];
    let refused = |first, prediction, out: &mut [u8]| {
        decode(&case.model, first, &coded, prediction, out).is_err()
    };
    assert!(refused(1, case.prediction(), &mut out));
    assert!(refused(u64::MAX, case.prediction(), &mut out));
    let short = &case.base[2..];
    assert!(refused(0, Prediction::Same(short), &mut out));
}
