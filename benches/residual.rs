//! Ratio and speed of the residual coder on real pairs of models, beside memcpy.
//!
//! `SPARSE_DATA` names a directory of models; without it nothing is measured. An argument keeps
//! only the pairs whose name contains it.

mod models;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sparse_store::codec::residual::{Level, Model, Statistics, decode, encode, is_supported};

use models::{Tensor, chunks, read};

/// Target, base or nothing.
const PAIRS: &[(&str, &str)] = &[
    ("minilm/full-ft-bf16", "minilm/base-bf16"),
    ("minilm/ckpt-b-bf16", "minilm/ckpt-a-bf16"),
    ("minilm/full-ft-f16", "minilm/base-f16"),
    ("minilm/ckpt-b-f16", "minilm/ckpt-a-f16"),
    ("minilm/full-ft-f32", "minilm/base-f32"),
    ("minilm/ckpt-b-f32", "minilm/ckpt-a-f32"),
    ("llama-small/full-ft", "llama-small/base"),
    ("smollm/full-ft", "smollm/base"),
    ("smollm/full-ft", "smollm/ckpt-mid"),
    ("minilm/base-bf16", ""),
    ("llama-small/base", ""),
    ("minilm/base-f16", ""),
    ("minilm/base-f32", ""),
];

/// How often each step is done.
const TIMES: u32 = 9;

fn file_of(root: &Path, name: &str) -> PathBuf {
    root.join(name).join("model.safetensors")
}

#[derive(Default)]
struct Total {
    plain: usize,
    elements: usize,
    side: usize,
    coded: usize,
    /// The first pass: what is added, and what becomes of it.
    add: Duration,
    finish: Duration,
    encode: Duration,
    decode: Duration,
}

fn measure(tensor: &Tensor, base: Option<&Tensor>, level: Level, total: &mut Total) {
    let width = tensor.shape.dtype.block().1 as usize;
    total.plain += tensor.bytes.len();
    if !is_supported(tensor.shape.dtype, base.is_some()) {
        total.coded += tensor.bytes.len();
        return;
    }
    total.elements += tensor.bytes.len() / width;
    let statistics = best(&mut total.add, || {
        let mut statistics =
            Statistics::new(tensor.shape, level, base.is_some()).expect("a supported type");
        for (first, part, prediction) in chunks(tensor, base) {
            statistics.add(first, part, prediction);
        }
        statistics
    });
    let (model, side) = best(&mut total.finish, || {
        let model = statistics.clone().finish();
        let side = model.to_bytes();
        (model, side)
    });
    total.side += side.len();
    let (mut coded, mut out) = (Vec::new(), Vec::new());
    let read = if model.is_builtin() {
        model.clone()
    } else {
        Model::parse(tensor.shape, &side).expect("a model parses")
    };
    for (first, part, prediction) in chunks(tensor, base) {
        best(&mut total.encode, || {
            coded.clear();
            encode(&model, first, part, prediction, &mut coded);
        });
        total.coded += coded.len();
        out.resize(part.len(), 0);
        best(&mut total.decode, || {
            decode(&read, first, &coded, prediction, &mut out).expect("a chunk decodes");
        });
        assert!(out == part, "decoded bytes differ");
    }
}

/// Does something a few times and adds the shortest time; other work of the machine disturbs.
fn best<T>(time: &mut Duration, mut work: impl FnMut() -> T) -> T {
    let mut least = Duration::MAX;
    let mut times = 0;
    loop {
        let clock = Instant::now();
        let result = work();
        least = least.min(clock.elapsed());
        times += 1;
        if times == TIMES {
            *time += least;
            return result;
        }
    }
}

/// The levels to measure: all, or those named in `SPARSE_LEVELS`.
fn levels() -> Vec<Level> {
    let wanted = std::env::var("SPARSE_LEVELS").unwrap_or_else(|_| "Fast,Default,Max".into());
    [Level::Fast, Level::Default, Level::Max]
        .into_iter()
        .filter(|level| wanted.contains(&format!("{level:?}")))
        .collect()
}

/// GB/s of a copy that leaves the caches.
fn memcpy() -> f64 {
    let source = vec![1u8; 64 << 20];
    let mut copy = vec![0u8; 64 << 20];
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let clock = Instant::now();
        copy.copy_from_slice(std::hint::black_box(&source));
        fastest = fastest.min(clock.elapsed());
    }
    std::hint::black_box(&copy);
    (64 << 20) as f64 / fastest.as_secs_f64() / 1e9
}

/// A field of the process's status in MiB; nothing where there is none.
fn status(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

fn row(name: &str, level: Level, total: &Total, copied: f64, memory: Option<f64>) -> String {
    let speed = |time: Duration| total.plain as f64 / time.as_secs_f64() / 1e9;
    let each = |time: Duration| time.as_secs_f64() * 1e9 / total.elements as f64;
    format!(
        "| {name} | {level:?} | {:.4} | {:.5} | {:.2} | {:.2} | {copied:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
        (total.coded + total.side) as f64 / total.plain as f64,
        total.side as f64 / total.plain as f64,
        speed(total.add + total.finish + total.encode),
        speed(total.decode),
        each(total.add),
        each(total.finish),
        each(total.encode),
        each(total.decode),
        memory.map_or_else(String::new, |mib| format!("{mib:.1}")),
    )
}

fn main() {
    let Some(root) = std::env::var_os("SPARSE_DATA").map(PathBuf::from) else {
        println!("set SPARSE_DATA to a directory of models");
        return;
    };
    let only = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with("--"))
        .unwrap_or_default();
    println!("One thread, in memory, best of {TIMES}. GB/s of plain bytes; ns an element.\n");
    println!(
        "| target on base | level | ratio | of it side | encode GB/s | decode GB/s | memcpy GB/s | look ns | model ns | encode ns | decode ns | peak MiB |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for &(target_name, base_name) in PAIRS {
        let target_path = file_of(&root, target_name);
        if !format!("{target_name} {base_name}").contains(&only) || !target_path.exists() {
            continue;
        }
        let targets = read(&target_path);
        let bases = if base_name.is_empty() {
            HashMap::new()
        } else {
            read(&file_of(&root, base_name))
        };
        let mut names: Vec<&String> = targets.keys().collect();
        names.sort();
        for level in levels() {
            let mut total = Total::default();
            // The peak is counted from here where the system can do so.
            let before = std::fs::write("/proc/self/clear_refs", "5")
                .ok()
                .and_then(|()| status("VmRSS:"));
            for &name in &names {
                let base = bases.get(name).filter(|b| b.shape == targets[name].shape);
                measure(&targets[name], base, level, &mut total);
            }
            let peak = before.and_then(|before| Some(status("VmHWM:")? - before));
            let base = if base_name.is_empty() {
                "nothing"
            } else {
                base_name
            };
            let name = format!("{target_name} on {base}");
            println!("{}", row(&name, level, &total, memcpy(), peak));
        }
    }
}
