//! Where the time of a checkout and of a commit goes: the whole on all cores beside its parts, each
//! done alone on one core; and how fast each kind of prediction decodes.
//!
//! `SPARSE_DATA` names a directory of models; without it nothing is measured.

mod models;

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sparse_store::codec::Level;
use sparse_store::codec::residual::{Statistics, decode, encode, is_supported};
use sparse_store::flow::checkout::{self, Request as Checkout};
use sparse_store::flow::commit::{self, BaseChoice, Report, Request, Signature};
use sparse_store::flow::read::Rebuilder;
use sparse_store::flow::relatives::files_of;
use sparse_store::par::{Pool, Threads};
use sparse_store::progress::{Note, Progress, Silent};
use sparse_store::store::Store;
use sparse_store::store::host::Host;
use store_format::ids::CommitId;

use models::Tensor;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Base and target.
const PAIRS: &[(&str, &str)] = &[
    ("minilm/base-bf16", "minilm/full-ft-bf16"),
    ("minilm/base-f32", "minilm/full-ft-f32"),
    ("llama-small/base", "llama-small/full-ft"),
];

/// A model, and versions made of it in the order of their commits.
const DERIVED: (&str, &[&str]) = (
    "llama-small/base",
    &[
        "llama-small/full-ft",
        "llama-small/lora",
        "llama-small/lora-merged",
        "llama-small/average",
        "llama-small/slerp",
        "llama-small/pruned-glu",
        "llama-small/f16-cast",
        "llama-small/f32-cast",
        "llama-small/vocab-resized",
        "llama-small/gguf-f16",
        "llama-small/gguf-q8_0",
        "llama-small/gguf-q4_0",
        "llama-small/gguf-q4_k_m",
        "llama-small/int8-perchannel",
    ],
);

/// The file of a model's weights.
const WEIGHTS: &str = "model.safetensors";

/// How often each is done, the fastest counting: as often as fits into the time, in these bounds.
const TIMES: std::ops::RangeInclusive<usize> = 5..=15;
const TIME: Duration = Duration::from_secs(2);

/// The least time of some runs, in milliseconds.
fn fastest(mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    let mut least = f64::INFINITY;
    for time in 1..=*TIMES.end() {
        let begun = Instant::now();
        work()?;
        least = least.min(begun.elapsed().as_secs_f64() * 1e3);
        if time >= *TIMES.start() && start.elapsed() > TIME {
            break;
        }
    }
    Ok(least)
}

/// A store in a folder of its own with the base in it.
struct Bench {
    scratch: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new(pool: &Pool, base: &Path) -> Outcome<Self> {
        let scratch = tempfile::tempdir()?;
        let store = Store::create(&scratch.path().join("store"), Host::system())?;
        let bench = Self { scratch, store };
        bench.commit(pool, base, "base", BaseChoice::None, Level::Fast)?;
        Ok(bench)
    }

    fn commit(
        &self,
        pool: &Pool,
        path: &Path,
        branch: &str,
        base: BaseChoice,
        level: Level,
    ) -> Outcome<CommitId> {
        Ok(self
            .report(pool, path, branch, (base, level), &Silent)?
            .commit)
    }

    fn report(
        &self,
        pool: &Pool,
        path: &Path,
        branch: &str,
        (base, level): (BaseChoice, Level),
        progress: &dyn Progress,
    ) -> Outcome<Report> {
        let request = Request {
            path,
            branch,
            base,
            kind: None,
            message: "bench",
            signature: Signature::default(),
            attributes: Vec::new(),
            level,
            factors: None,
            head: None,
            work: None,
            dry_run: false,
        };
        Ok(commit::commit(&self.store, pool, &request, progress)?)
    }

    fn rebuilder(&self) -> Outcome<Rebuilder> {
        Ok(Rebuilder::new(self.store.reader()?))
    }

    /// Milliseconds of decoding every chunk of a version, and what it is predicted from, on one
    /// core, reading included.
    fn decode(&self, commit: &CommitId) -> Outcome<f64> {
        let known = files_of(&self.rebuilder()?, commit)?;
        fastest(|| {
            let rebuilder = self.rebuilder()?;
            for chunk in known.iter().flat_map(|(_, file)| &file.manifest().chunks) {
                std::hint::black_box(rebuilder.chunk(&chunk.id)?);
            }
            Ok(())
        })
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn main() -> Outcome<()> {
    let Some(data) = std::env::var_os("SPARSE_DATA").map(PathBuf::from) else {
        println!("SPARSE_DATA names no directory of models: nothing is measured");
        return Ok(());
    };
    let (one, all) = (Pool::new(Threads::new(1))?, Pool::new(Threads::all())?);
    let cores = Threads::all().count();
    println!(
        "| target | plain MB | read ms | decode and check ms | BLAKE3 of files ms | write and sync ms | sum | checkout, 1 core | checkout, {cores} cores | of the sum a core |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (base, target) in PAIRS {
        let (base, path) = (data.join(base), data.join(target));
        if !base.is_dir() || !path.is_dir() {
            continue;
        }
        for level in [Level::Fast, Level::Default] {
            let bench = Bench::new(&all, &base)?;
            let on = BaseChoice::Revision("base".into());
            let commit = bench.commit(&all, &path, "target", on, level)?;
            row(
                &bench,
                (&one, &all, cores),
                commit,
                &format!("{target}, {level:?}"),
            )?;
        }
    }
    commits(&data, (&one, &all, cores))?;
    derived(&data, &all)
}

/// How long a commit chooses predictions, which no other part of it can stand for.
#[derive(Default)]
struct Choosing(Mutex<(Option<Instant>, Duration)>);

impl Progress for Choosing {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: u64, _: u64) {}
    fn note(&self, _: Note, _: &str) {}
    fn end(&self) {}
    fn stopped(&self) -> bool {
        false
    }

    fn step(&self, what: &'static str) {
        if let Ok(mut state) = self.0.lock() {
            if let Some(begun) = state.0.take() {
                state.1 += begun.elapsed();
            }
            if what == "choosing predictions" {
                state.0 = Some(Instant::now());
            }
        }
    }
}

impl Choosing {
    fn milliseconds(self) -> f64 {
        self.0
            .into_inner()
            .map_or(0.0, |(_, time)| time.as_secs_f64() * 1e3)
    }
}

/// The parts of commits of plain differences, and the whole.
fn commits(data: &Path, (one, all, cores): (&Pool, &Pool, usize)) -> Outcome<()> {
    println!(
        "\n| target | plain MB | read ms | base, decoded ms | BLAKE3 of file and chunks ms | choosing ms | tables, coding, checking ms | write and sync ms | sum | commit, 1 core | commit, {cores} cores | of the sum a core |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for (base, target) in PAIRS {
        let (base, path) = (data.join(base), data.join(target));
        if !base.is_dir() || !path.is_dir() {
            continue;
        }
        let on = || BaseChoice::Revision("base".into());
        let (mut on_one, mut on_all, mut choosing) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
        let (mut known, mut new_bytes) = (f64::INFINITY, 0);
        for _ in 0..*TIMES.start() {
            for (pool, least) in [(one, &mut on_one), (all, &mut on_all)] {
                // A store that does not know the target yet.
                let bench = Bench::new(all, &base)?;
                let clock = Choosing::default();
                let begun = Instant::now();
                let report = bench.report(pool, &path, "target", (on(), Level::Fast), &clock)?;
                *least = least.min(begun.elapsed().as_secs_f64() * 1e3);
                new_bytes = report.new_bytes;
                if std::ptr::eq(pool, one) {
                    choosing = choosing.min(clock.milliseconds());
                }
                if let (Some(base), true) = (report.base, known.is_infinite()) {
                    known = bench.decode(&base)?;
                }
            }
        }
        let plain: Vec<PathBuf> = files(&path)?;
        let mut held = Vec::new();
        let read = fastest(|| {
            held = plain.iter().map(fs::read).collect::<Result<_, _>>()?;
            Ok(())
        })?;
        // The file's hash, and each chunk's.
        let hash = 2.0
            * fastest(|| {
                for file in &held {
                    std::hint::black_box(blake3::hash(file));
                }
                Ok(())
            })?;
        let coding = code(
            &models::read(&path.join(WEIGHTS)),
            &models::read(&base.join(WEIGHTS)),
        )?;
        let scratch = tempfile::tempdir()?;
        let pack = vec![1u8; usize::try_from(new_bytes)?];
        let write = fastest(|| {
            let mut file = fs::File::create(scratch.path().join("pack"))?;
            file.write_all(&pack)?;
            Ok(file.sync_data()?)
        })?;
        let megabytes = held.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
        let sum = read + known + hash + choosing + coding + write;
        let share = on_all / (sum / cores as f64);
        println!(
            "| {}, Fast | {megabytes:.1} | {read:.0} | {known:.0} | {hash:.0} | {choosing:.0} | {coding:.0} | {write:.0} | {sum:.0} | {on_one:.0} | {on_all:.0} | {share:.2} |",
            target
        );
    }
    Ok(())
}

/// Milliseconds of both passes of the coder over all tensors and of the check that every chunk
/// comes back, on one core.
fn code(targets: &HashMap<String, Tensor>, bases: &HashMap<String, Tensor>) -> Outcome<f64> {
    fastest(|| {
        for (name, target) in targets {
            let base = bases.get(name).filter(|base| base.shape == target.shape);
            if !is_supported(target.shape.dtype, base.is_some()) {
                continue;
            }
            let Some(mut seen) = Statistics::new(target.shape, Level::Fast, base.is_some()) else {
                continue;
            };
            for (first, part, prediction) in models::chunks(target, base) {
                seen.add(first, part, prediction);
            }
            let model = seen.finish();
            let (mut coded, mut again) = (Vec::new(), Vec::new());
            for (first, part, prediction) in models::chunks(target, base) {
                coded.clear();
                encode(&model, first, part, prediction, &mut coded);
                again.resize(part.len(), 0);
                decode(&model, first, &coded, prediction, &mut again)?;
                if again != part {
                    return Err("a chunk does not come back".into());
                }
            }
        }
        Ok(())
    })
}

/// How fast versions by other predictions decode, beside the plain difference.
fn derived(data: &Path, pool: &Pool) -> Outcome<()> {
    let (base, versions) = DERIVED;
    let base = data.join(base);
    let (Some(first), true) = (versions.first(), base.is_dir()) else {
        return Ok(());
    };
    println!(
        "\n| version | million elements | decode and check ms | ns an element | of the plain difference |\n| --- | --- | --- | --- | --- |"
    );
    let on_base = || BaseChoice::Revision("base".into());
    let row = |bench: &Bench, commit: CommitId, name: &str, plain: Option<f64>| -> Outcome<f64> {
        let elements: u64 = files_of(&bench.rebuilder()?, &commit)?
            .iter()
            .flat_map(|(_, file)| &file.manifest().tensors)
            .map(|tensor| tensor.shape.iter().product::<u64>())
            .sum();
        let (millions, ms) = (elements as f64 / 1e6, bench.decode(&commit)?);
        let each = ms / millions;
        let of_plain = plain.unwrap_or(each) / each;
        println!("| {name} | {millions:.1} | {ms:.0} | {each:.2} | {of_plain:.2} |");
        Ok(each)
    };
    let bench = Bench::new(pool, &base)?;
    let path = data.join(first);
    let commit = bench.commit(pool, &path, "plain", on_base(), Level::Fast)?;
    let plain = row(&bench, commit, &format!("{first}, plain difference"), None)?;
    let bench = Bench::new(pool, &base)?;
    for name in versions {
        let path = data.join(name);
        if path.is_dir() {
            let branch = name.replace('/', "-");
            let commit = bench.commit(pool, &path, &branch, on_base(), Level::Default)?;
            row(&bench, commit, name, Some(plain))?;
        }
    }
    Ok(())
}

/// The parts of a checkout, and the whole.
fn row(
    bench: &Bench,
    (one, all, cores): (&Pool, &Pool, usize),
    commit: CommitId,
    name: &str,
) -> Outcome<()> {
    let packs: Vec<PathBuf> = files(&bench.scratch.path().join("store/packs"))?;
    let read = fastest(|| {
        for pack in &packs {
            std::hint::black_box(fs::read(pack)?);
        }
        Ok(())
    })?;
    // Reads the packs too, which the first part is taken from.
    let decode = bench.decode(&commit)? - read;
    let out = bench.scratch.path().join("out");
    let whole = |pool: &Pool| {
        fastest(|| {
            let _ = fs::remove_dir_all(&out);
            let request = Checkout {
                commit,
                target: &out,
                tensors: &[],
                force: false,
                before: None,
            };
            checkout::checkout(&bench.rebuilder()?, pool, &request, &Silent)?;
            Ok(())
        })
    };
    let (on_one, on_all) = (whole(one)?, whole(all)?);
    let plain: Vec<Vec<u8>> = files(&out)?
        .iter()
        .map(fs::read)
        .collect::<Result<_, _>>()?;
    let hash = fastest(|| {
        for file in &plain {
            std::hint::black_box(blake3::hash(file));
        }
        Ok(())
    })?;
    let again = bench.scratch.path().join("again");
    let write = fastest(|| {
        for bytes in &plain {
            let mut file = fs::File::create(&again)?;
            bytes
                .chunks(1 << 20)
                .try_for_each(|part| file.write_all(part))?;
            file.sync_data()?;
        }
        fs::remove_file(&again)?;
        Ok(())
    })?;
    let megabytes = plain.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    let sum = read + decode + hash + write;
    let share = on_all / (sum / cores as f64);
    println!(
        "| {name} | {megabytes:.1} | {read:.0} | {decode:.0} | {hash:.0} | {write:.0} | {sum:.0} | {on_one:.0} | {on_all:.0} | {share:.2} |"
    );
    Ok(())
}
