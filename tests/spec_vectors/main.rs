//! Small cases of every predictor and of residual coding, as files that the second reader
//! (`tests/second_reader`) must come to the same bits from. `SPARSE_WRITE_GOLDEN` writes them;
//! they never change once a version of the format was released.
//!
//! May use: the library's public face.

mod golden;
mod predictors;
mod residual;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use store_format::dtype::DType;

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end.max(1)
    }

    /// Elements like those of weights, among them zeros, infinities, NaN and any bits at all.
    fn elements(&mut self, dtype: DType, count: u64) -> Vec<u8> {
        let (block, width) = dtype.block();
        if block > 1 {
            let bytes = count / block * width;
            return (0..bytes).map(|_| self.next() as u8).collect();
        }
        let width = width as usize;
        let mut out = Vec::new();
        for _ in 0..count {
            let unit = (self.below(1 << 24) as f32 / f32::from(1u16 << 12) - 2048.0) / 4096.0;
            let value = match self.below(40) {
                0 => self.next(),
                1 => 0,
                _ => match dtype {
                    DType::F32 => unit.to_bits().into(),
                    DType::Bf16 => (unit.to_bits() >> 16).into(),
                    DType::F16 => {
                        u64::from(unit.to_bits() >> 31 << 15) | (0x3000 + self.below(0x800))
                    }
                    DType::F64 => f64::from(unit).to_bits(),
                    _ => self.next(),
                },
            };
            out.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        out
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a text takes all");
    }
    if out.is_empty() { "-".into() } else { out }
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("store-format/testdata")
}

/// The recorded cases of a file; where golden files are written, the given ones first.
fn recorded(name: &str, written: &str) -> String {
    let folder = testdata().join("vectors");
    if std::env::var_os("SPARSE_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), written).expect("a file");
    }
    fs::read_to_string(folder.join(name)).expect("the vectors are there")
}

const FLOATS: [DType; 6] = [
    DType::F32,
    DType::Bf16,
    DType::F16,
    DType::F64,
    DType::F8E4M3,
    DType::F8E5M2,
];
