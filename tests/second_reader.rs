//! The second reader, written from the specification alone, on a fresh store that holds every
//! layout, coding and predictor that is written today; and its own tests on the golden files.
//!
//! `SPARSE_READER_PYTHON` names a Python with the packages of `requirements.txt`; `.ci/run` makes
//! one in `target/reader`, which is found without it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The interpreter, or that there is none.
fn python() -> Option<PathBuf> {
    let found = match std::env::var_os("SPARSE_READER_PYTHON") {
        Some(named) => Some(PathBuf::from(named)),
        None => Some(root().join("target/reader/bin/python3")).filter(|path| path.exists()),
    };
    if found.is_none() {
        eprintln!("skipped: set SPARSE_READER_PYTHON, or run .ci/run, which makes an environment");
    }
    found
}

fn ok(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

fn sparse(dir: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sparse"));
    ok(command
        .args(words)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("SPARSE_AUTHOR", "Ada <ada@example.org>"))
}

/// Marsaglia's xorshift.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.bits().to_le_bytes()[7]).collect()
    }

    /// About normal, like weights.
    fn weight(&mut self) -> f32 {
        let sum: u64 = (0..6).map(|_| self.bits() >> 44).sum::<u64>();
        (sum as f32 / (1_u64 << 20) as f32 - 3.0) / 20.0
    }
}

fn f32s(weights: &[f32]) -> Vec<u8> {
    weights.iter().flat_map(|w: &f32| w.to_le_bytes()).collect()
}

fn bf16s(weights: &[f32]) -> Vec<u8> {
    let upper = |w: &f32| ((w.to_bits() >> 16) as u16).to_le_bytes();
    weights.iter().flat_map(upper).collect()
}

/// A safetensors file of named tensors of 64 columns.
fn safetensors(tensors: &[(&str, &str, Vec<u8>)]) -> Vec<u8> {
    let (mut header, mut data) = (Vec::new(), Vec::<u8>::new());
    for (name, dtype, bytes) in tensors {
        let width = match *dtype {
            "F32" | "I32" => 4,
            "BF16" => 2,
            _ => 1,
        };
        let (start, rows) = (data.len(), bytes.len() / width / 64);
        data.extend(bytes);
        header.push(format!(
            "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{rows},64],\"data_offsets\":[{start},{}]}}",
            data.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// A GGUF file of one tensor of 64 columns.
fn gguf(weights: &[f32]) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend([1_u64, 0].map(u64::to_le_bytes).concat());
    file.extend([&6_u64.to_le_bytes()[..], b"output"].concat());
    file.extend(2_u32.to_le_bytes());
    let rows = weights.len() as u64 / 64;
    file.extend([64_u64, rows].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(f32s(weights));
    file
}

/// A zip file of one entry that stands in it as it is.
fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("small").to_le_bytes();
    let numbers = [[0; 4], [0; 4], length, length].concat();
    let names = u16::try_from(name.len()).expect("short").to_le_bytes();
    let mut file = b"PK\x03\x04\0\0\0\0\0\0".to_vec();
    file.extend([&numbers[..], &names, &[0, 0], name.as_bytes(), bytes].concat());
    let at = u32::try_from(file.len()).expect("small").to_le_bytes();
    let mut table = b"PK\x01\x02\0\0\0\0\0\0\0\0".to_vec();
    table.extend([&numbers[..], &names, &[0; 16], name.as_bytes()].concat());
    let length = u32::try_from(table.len()).expect("small").to_le_bytes();
    file.extend(table);
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend([&length[..], &at, &[0, 0]].concat());
    file
}

/// One version of everything; each is a little off the one before.
fn write(work: &Path, step: u32) {
    let mut random = Random(11);
    let base: Vec<f32> = (0..64 * 300).map(|_| random.weight()).collect();
    let mut moved = Random(u64::from(step) + 3);
    let mut tune = |weights: &[f32]| -> Vec<f32> {
        let tuned = weights
            .iter()
            .map(|w| w + moved.weight() / 500.0 * step as f32);
        tuned.collect()
    };
    let numbers: Vec<u8> = (0..64 * 100_u32)
        .flat_map(|n| (n * 3 + step * (n % 7)).to_le_bytes())
        .collect();
    let mut weights = tune(&base);
    // Rows that came from a narrower type.
    for weight in &mut weights[..64 * 60] {
        *weight = f32::from_bits(weight.to_bits() & !0x1FFF);
    }
    let noise = random.bytes(5000);
    // A chunk of two blocks.
    let long: Vec<f32> = (0..64 * 2100).map(|_| random.weight()).collect();
    let model = safetensors(&[
        ("f32", "F32", f32s(&weights)),
        ("bf16", "BF16", bf16s(&tune(&base))),
        ("numbers", "I32", numbers),
        ("small", "F32", f32s(&weights[..64])),
        ("bytes", "U8", random.bytes(64 * 40)),
        ("long", "BF16", bf16s(&tune(&long))),
    ]);
    let text = format!("what was tried in step {step}\n").repeat(60);
    for (name, bytes) in [
        ("model.safetensors", model),
        ("output.gguf", gguf(&tune(&base))),
        ("checkpoint.pt", zip("x/data/0", &f32s(&weights[..2000]))),
        ("noise.bin", noise),
        ("notes.txt", text.into_bytes()),
        ("nothing", Vec::new()),
    ] {
        fs::write(work.join(name), bytes).expect("a file");
    }
    fs::create_dir_all(work.join("deep/empty")).expect("a folder");
    let link = work.join("deep/link");
    if !link.is_symlink() {
        std::os::unix::fs::symlink("../notes.txt", link).expect("a link");
    }
}

#[test]
fn a_fresh_store_reads_by_the_specification_alone() {
    let Some(python) = python() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let work = dir.path().join("work");
    fs::create_dir(&work).expect("a folder");
    sparse(&work, &["init", "-q", "."]);
    for (step, level) in ["fast", "default", "max", "default"].iter().enumerate() {
        write(&work, u32::try_from(step).expect("small"));
        sparse(&work, &["-q", "commit", "--level", level, "-m", "step"]);
    }
    sparse(&work, &["attach", "main", "eval", "loss=0.5"]);
    sparse(&work, &["tag", "v1", "main~1"]);
    let reader = |out: &str| {
        let mut command = Command::new(&python);
        let script = root().join("tests/second_reader/read.py");
        let output = ok(command
            .arg("-B")
            .arg(script)
            .arg(work.join(".sparse"))
            .args(["--every", "--out"])
            .arg(dir.path().join(out)));
        String::from_utf8(output.stdout).expect("text")
    };
    let said = reader("out");
    // What it put together is what is in the work tree.
    let main = dir.path().join("out/heads/main");
    for name in [
        "model.safetensors",
        "output.gguf",
        "checkpoint.pt",
        "noise.bin",
        "notes.txt",
        "nothing",
        "deep/link",
    ] {
        let (a, b) = (fs::read(main.join(name)), fs::read(work.join(name)));
        assert!(a.expect("a file") == b.expect("a file"), "{name}");
    }
    // `planes`, `difference` and `exact` are rivals that lose on these files; the golden files of
    // the reader's own tests have them.
    let met: BTreeSet<&str> = said
        .lines()
        .filter(|line| line.starts_with("  chunk "))
        .flat_map(|line| line.trim().split([' ', ':']).skip(1).take(2))
        .collect();
    let wanted = ["none", "base", "stored", "zstd", "residual", "weights"];
    for word in wanted {
        assert!(met.contains(word), "{word}: {said}");
    }
    sparse(&work, &["-q", "repack", "--level", "max"]);
    sparse(&work, &["-q", "gc", "--grace", "0s"]);
    reader("again");
}

#[test]
fn the_second_reader_passes_its_own_tests() {
    let Some(python) = python() else {
        return;
    };
    ok(Command::new(python)
        .args([
            "-B",
            "-m",
            "unittest",
            "discover",
            "-q",
            "tests/second_reader",
        ])
        .current_dir(root()));
}
