//! A model of any size: bf16 normal numbers, each row with a scale of its own.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

const ROWS: u64 = 16_384;
const COLUMNS: u64 = 4096;

/// SplitMix64: well spread numbers from a counter.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Two normal numbers, by Box and Muller's formula.
    fn normal(&mut self) -> [f32; 2] {
        let bits = self.next();
        let one = ((bits >> 40) as f32 + 1.0) / (1 << 24) as f32;
        let two = (bits & 0xFF_FFFF) as f32 / (1 << 24) as f32;
        let (sine, cosine) = (std::f32::consts::TAU * two).sin_cos();
        let length = (-2.0 * one.ln()).sqrt();
        [length * sine, length * cosine]
    }
}

/// Writes a safetensors file of about `mib` MiB; models of different seeds have nothing in common,
/// and `tuned` moves every weight by a few thousandths of its row's scale.
pub fn run(mib: u64, seed: u64, tuned: bool, path: &Path) {
    let tensor_bytes = ROWS * COLUMNS * 2;
    let tensors = (mib << 20) / tensor_bytes;
    let entries = (0..tensors).map(|n| {
        let (start, end) = (n * tensor_bytes, (n + 1) * tensor_bytes);
        format!(
            "\"layers.{n}.weight\":{{\"dtype\":\"BF16\",\"shape\":[{ROWS},{COLUMNS}],\"data_offsets\":[{start},{end}]}}"
        )
    });
    let mut header = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).expect("room"));
    out.write_all(&(header.len() as u64).to_le_bytes())
        .expect("room");
    out.write_all(header.as_bytes()).expect("room");
    let mut weights = Chance(seed);
    let mut changes = Chance(!seed);
    let mut row = Vec::with_capacity(COLUMNS as usize * 2);
    for _ in 0..tensors * ROWS {
        let scale = 0.02 * (weights.normal()[0] / 3.0).exp();
        row.clear();
        for _ in 0..COLUMNS / 2 {
            let change = if tuned { changes.normal() } else { [0.0; 2] };
            for (weight, change) in weights.normal().into_iter().zip(change) {
                // The fine-tune starts at the rounded weight, as in practice.
                let weight = rounded(weight * scale) + change * scale * 0.003;
                row.extend_from_slice(&((rounded(weight).to_bits() >> 16) as u16).to_le_bytes());
            }
        }
        out.write_all(&row).expect("room");
    }
    out.flush().expect("room");
}

/// The nearest bf16 number.
fn rounded(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF_0000)
}
