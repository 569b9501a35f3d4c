//! What factors of low rank save of the changes between real models.

use std::collections::BTreeMap;
use std::time::Instant;

use sparse_store::predict::low_rank::fit::{Effort, fit};
use sparse_store::predict::{Recipe, Step, float};
use store_format::dtype::DType;

use crate::files::safetensors;

/// Bits that the differences to a prediction cost in the context of the exponent and the row's
/// scale: what a coder with such contexts comes near to.
fn cost(
    patterns: &[u32],
    target: &[u8],
    cols: usize,
    totals: &mut BTreeMap<(i32, u32), BTreeMap<i32, u64>>,
) -> f64 {
    let mut raw = 0.0;
    for (patterns, target) in patterns.chunks(cols).zip(target.chunks(cols * 2)) {
        let elements: Vec<(u32, u32)> = patterns
            .iter()
            .zip(target.as_chunks::<2>().0)
            .map(|(&p, &t)| (p, u32::from(u16::from_le_bytes(t))))
            .collect();
        let value = |x: u32| f32::from_bits(x);
        let scale: f32 = elements
            .iter()
            .map(|&(p, t)| (value(t << 16) - value(p)).abs())
            .sum::<f32>()
            / cols as f32;
        let row = ((scale.max(1e-30)).log2() * 2.0).round() as i32;
        for (p, t) in elements {
            let x = p & 0x7FFF_FFFF;
            let ip = ((x + 0x8000) >> 16) as i32;
            let fr = ((x + 0x8000) & 0xFFFF) as i32 - 0x8000;
            let c0 = (row - 2 * (x >> 23) as i32 + 254).clamp(-14, 18);
            let c1 = (fr.unsigned_abs() >> 13).min(3);
            let d = (t & 0x7FFF) as i32 - ip;
            let d = if fr < 0 { -d } else { d };
            let flipped = (t >> 15) != (p >> 31);
            let symbol = if flipped {
                raw += 7.0;
                1000 + ((t & 0x7FFF) as i32 >> 7)
            } else if d.abs() < 8 {
                d
            } else {
                let octave = 31 - d.unsigned_abs().leading_zeros() as i32;
                raw += f64::from(octave);
                d.signum() * (100 + octave)
            };
            *totals
                .entry((c0, c1))
                .or_default()
                .entry(symbol)
                .or_default() += 1;
        }
        raw += 5.0;
    }
    raw
}

fn entropy(totals: &BTreeMap<(i32, u32), BTreeMap<i32, u64>>) -> f64 {
    totals
        .values()
        .map(|counts| {
            let all: u64 = counts.values().sum();
            counts
                .values()
                .map(|&n| -(n as f64) * (n as f64 / all as f64).log2())
                .sum::<f64>()
        })
        .sum()
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a measurement read from top to bottom"
)]
fn low_rank_pays_on_real_changes() {
    for (from, to, most) in [
        ("llama-small/base", "llama-small/full-ft", 32),
        ("llama-small/ckpt-series/1", "llama-small/ckpt-series/2", 32),
        ("llama-small/base", "llama-small/lora-merged", 32),
        ("minilm/base-bf16", "minilm/full-ft-bf16", 32),
        ("minilm/ckpt-a-bf16", "minilm/ckpt-b-bf16", 32),
        ("smollm/base", "smollm/full-ft", 32),
        ("smollm/base", "smollm/lora-merged", 32),
    ] {
        let load = |name: &str| safetensors(&format!("{name}/model.safetensors"));
        let (Some(base), Some(file)) = (load(from), load(to)) else {
            continue;
        };
        let (mut plain_bits, mut low_bits, mut factor_bytes, mut zstd_bytes, mut factor_bits) =
            (0.0, 0.0, 0, 0, 0.0);
        let (mut fit_time, mut fill_time, mut bytes) = (0.0, 0.0, 0);
        let mut ranks: BTreeMap<usize, usize> = BTreeMap::new();
        for (name, target) in &file {
            let source = &base[name];
            let (rows, cols) = (target.shape.rows as usize, target.shape.cols as usize);
            bytes += target.bytes.len();
            let same = Recipe::new(target.shape, vec![source.shape], None, Step::Same).unwrap();
            let mut patterns = vec![0; rows * cols];
            same.patterns(0, &[&source.bytes], &mut patterns).unwrap();
            let mut totals = BTreeMap::new();
            let raw = cost(&patterns, &target.bytes, cols, &mut totals);
            let plain = raw + entropy(&totals);
            plain_bits += plain;
            let start = Instant::now();
            let mut spare = vec![0.0; cols];
            let effort = Effort {
                rank: most,
                ..Effort::DEFAULT
            };
            let found = fit(rows, cols, &effort, None, |row, out| -> Result<(), ()> {
                let span = row * cols * 2..(row + 1) * cols * 2;
                assert!(float::widen(DType::Bf16, &target.bytes[span.clone()], out));
                assert!(float::widen(DType::Bf16, &source.bytes[span], &mut spare));
                for (out, base) in out.iter_mut().zip(&spare) {
                    let change = *out - base;
                    *out = if change.is_finite() { change } else { 0.0 };
                }
                Ok(())
            })
            .unwrap();
            fit_time += start.elapsed().as_secs_f64();
            let Some(found) = found else {
                low_bits += plain;
                continue;
            };
            let mut bits = 0.0;
            for k in 0..found.rank() {
                let a: Vec<i8> = found
                    .a()
                    .iter()
                    .skip(k)
                    .step_by(found.rank())
                    .copied()
                    .collect();
                for part in [&a[..], &found.b()[k * cols..(k + 1) * cols]] {
                    let mut counts: BTreeMap<i8, u64> = BTreeMap::new();
                    part.iter()
                        .for_each(|&x| *counts.entry(x).or_default() += 1);
                    let n = part.len() as f64;
                    bits += 16.0
                        + counts
                            .values()
                            .map(|&c| -(c as f64) * (c as f64 / n).log2())
                            .sum::<f64>();
                }
            }
            let rank = found.rank();
            let recipe =
                Recipe::new(target.shape, vec![source.shape], None, Step::LowRank(found)).unwrap();
            let start = Instant::now();
            recipe.patterns(0, &[&source.bytes], &mut patterns).unwrap();
            fill_time += start.elapsed().as_secs_f64();
            let mut totals = BTreeMap::new();
            let low = cost(&patterns, &target.bytes, cols, &mut totals) + entropy(&totals);
            if low + bits >= plain {
                low_bits += plain;
                *ranks.entry(0).or_default() += 1;
                continue;
            }
            *ranks.entry(rank).or_default() += 1;
            low_bits += low;
            factor_bits += bits;
            let coded = recipe.to_bytes();
            factor_bytes += coded.len();
            zstd_bytes += zstd::bulk::compress(&coded, 19).unwrap().len();
        }
        let share = |bits: f64| bits / 8.0 / bytes as f64;
        println!(
            "{to} on {from}: rank 0 {:.4}, low rank {:.4} + factors {:.4} (as bytes {:.4}, zstd {:.4}); fit {:.2} ns, fill {:.2} ns an element; ranks {ranks:?}",
            share(plain_bits),
            share(low_bits),
            share(factor_bits),
            share(factor_bytes as f64 * 8.0),
            share(zstd_bytes as f64 * 8.0),
            fit_time * 2e9 / bytes as f64,
            fill_time * 2e9 / bytes as f64,
        );
        assert!(low_bits + factor_bits <= plain_bits);
    }
}
