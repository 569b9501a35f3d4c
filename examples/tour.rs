//! The main job end to end on real weights: commit a base and its fine-tune, check both out,
//! compare every byte, print what it took.
//!
//! `cargo run --release --example tour -- BASE FINE_TUNE` takes two model directories; without
//! them a small network is trained with candle for some seconds, and then trained further.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{D, DType, Device, Tensor, Var};
use sparse_store::flow::checkout::{self, Request as Checkout};
use sparse_store::flow::commit::{self, BaseChoice, Request, Signature};
use sparse_store::flow::read::Rebuilder;
use sparse_store::par::{Pool, Threads};
use sparse_store::progress::Silent;
use sparse_store::store::Store;
use sparse_store::store::host::Host;

type Outcome<T> = Result<T, Box<dyn Error>>;

const WIDTH: usize = 512;
const LAYERS: usize = 4;
const CLASSES: usize = 64;
const BATCH: usize = 64;

fn main() -> Outcome<()> {
    let scratch = tempfile::tempdir()?;
    let given: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let (base, tuned) = match given.as_slice() {
        [] => train_a_pair(scratch.path())?,
        [base, tuned] => (base.clone(), tuned.clone()),
        _ => return Err("give two model directories, or none".into()),
    };
    let store = Store::create(&scratch.path().join("store"), Host::system())?;
    let pool = Pool::new(Threads::all())?;
    println!(
        "{:<12} {:>12} {:>12} {:>8} {:>10} {:>10}",
        "", "logical B", "new B", "ratio", "commit s", "checkout s"
    );
    for (name, path, against) in [("base", &base, None), ("fine-tune", &tuned, Some("base"))] {
        let request = Request {
            path,
            branch: name,
            base: against.map_or(BaseChoice::None, |base| BaseChoice::Revision(base.into())),
            kind: None,
            message: name,
            signature: Signature {
                author: "tour".into(),
                time: 0,
                offset_minutes: 0,
            },
            attributes: Vec::new(),
            level: sparse_store::codec::Level::Default,
            head: None,
            work: None,
            factors: None,
            dry_run: false,
        };
        let started = Instant::now();
        let report = commit::commit(&store, &pool, &request, &Silent)?;
        let commit_s = started.elapsed().as_secs_f64();
        let target = scratch.path().join(format!("{name}-out"));
        let request = Checkout {
            commit: report.commit,
            target: &target,
            tensors: &[],
            force: false,
            before: None,
        };
        let started = Instant::now();
        checkout::checkout(&Rebuilder::new(store.reader()?), &pool, &request, &Silent)?;
        let checkout_s = started.elapsed().as_secs_f64();
        compare(path, &target)?;
        println!(
            "{name:<12} {:>12} {:>12} {:>8.4} {commit_s:>10.2} {checkout_s:>10.2}",
            report.logical_bytes,
            report.new_bytes,
            report.new_bytes as f64 / report.logical_bytes.max(1) as f64,
        );
    }
    println!("both came back byte for byte");
    Ok(())
}

/// Fails unless both directories hold the same files.
fn compare(one: &Path, other: &Path) -> Outcome<()> {
    let mut names: Vec<_> = std::fs::read_dir(one)?.collect::<Result<Vec<_>, _>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    for entry in names {
        let (a, b) = (entry.path(), other.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            compare(&a, &b)?;
        } else if std::fs::read(&a)? != std::fs::read(&b)? {
            return Err(format!("{} differs", b.display()).into());
        }
    }
    Ok(())
}

/// Trains a classifier of random mixtures, then trains it further on other ones.
fn train_a_pair(scratch: &Path) -> Outcome<(PathBuf, PathBuf)> {
    let device = Device::Cpu;
    let mut weights = Vec::new();
    for _ in 0..LAYERS {
        let scale = (2.0 / WIDTH as f64).sqrt();
        weights.push(Var::from_tensor(&Tensor::randn(
            0.0_f32,
            scale as f32,
            (WIDTH, WIDTH),
            &device,
        )?)?);
    }
    weights.push(Var::from_tensor(&Tensor::randn(
        0.0_f32,
        0.05,
        (CLASSES, WIDTH),
        &device,
    )?)?);
    let centres = Tensor::randn(0.0_f32, 1.0, (CLASSES, WIDTH), &device)?;
    train(&weights, &centres, 60, 0.02)?;
    let base = scratch.join("base");
    save(&weights, &base)?;
    let moved = (&centres + (Tensor::randn(0.0_f32, 0.1, (CLASSES, WIDTH), &device)?))?;
    train(&weights, &moved, 10, 0.001)?;
    let tuned = scratch.join("fine-tune");
    save(&weights, &tuned)?;
    Ok((base, tuned))
}

/// Plain gradient descent on the cross entropy.
fn train(weights: &[Var], centres: &Tensor, steps: usize, rate: f64) -> Outcome<()> {
    let device = Device::Cpu;
    let mut last = 0.0;
    for step in 0..steps {
        let classes: Vec<u32> = (0..BATCH)
            .map(|n| ((n * 7 + step * 13) % CLASSES) as u32)
            .collect();
        let classes = Tensor::new(classes, &device)?;
        let noise = Tensor::randn(0.0_f32, 0.5, (BATCH, WIDTH), &device)?;
        let mut activity = (centres.index_select(&classes, 0)? + noise)?;
        let (output, hidden) = weights.split_last().ok_or("there are layers")?;
        for weight in hidden {
            activity = activity.matmul(&weight.t()?)?.relu()?;
        }
        let logits = activity.matmul(&output.t()?)?;
        let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
        let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
        let log_probability = shifted.broadcast_sub(&log_sum)?;
        let loss = log_probability
            .gather(&classes.unsqueeze(1)?, 1)?
            .mean_all()?
            .neg()?;
        let gradients = loss.backward()?;
        for weight in weights {
            if let Some(gradient) = gradients.get(weight) {
                weight.set(&weight.sub(&(gradient * rate)?)?)?;
            }
        }
        last = loss.to_scalar::<f32>()?;
    }
    println!("trained {steps} steps, loss {last:.3}");
    Ok(())
}

fn save(weights: &[Var], directory: &Path) -> Outcome<()> {
    std::fs::create_dir_all(directory)?;
    let mut tensors = std::collections::HashMap::new();
    for (number, weight) in weights.iter().enumerate() {
        tensors.insert(
            format!("layers.{number}.weight"),
            weight.to_dtype(DType::BF16)?,
        );
    }
    candle_core::safetensors::save(&tensors, directory.join("model.safetensors"))?;
    std::fs::write(
        directory.join("config.json"),
        format!("{{\"layers\": {LAYERS}}}\n"),
    )?;
    Ok(())
}
