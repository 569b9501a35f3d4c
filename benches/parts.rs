//! Where the time of a checkout goes: the whole on all cores beside its parts, each done alone on
//! one core; and how fast each kind of prediction decodes.
//!
//! `SPARSE_DATA` names a directory of models; without it nothing is measured.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sparse_store::codec::Level;
use sparse_store::flow::checkout::{self, Request as Checkout};
use sparse_store::flow::commit::{self, BaseChoice, Request, Signature};
use sparse_store::flow::read::Rebuilder;
use sparse_store::flow::relatives::files_of;
use sparse_store::par::{Pool, Threads};
use sparse_store::progress::Silent;
use sparse_store::store::Store;
use sparse_store::store::host::Host;
use store_format::ids::CommitId;

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

/// How often each is done; the fastest counts.
const TIMES: usize = 3;

/// The least time of some runs, in milliseconds.
fn fastest(mut work: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..TIMES {
        let begun = Instant::now();
        work()?;
        least = least.min(begun.elapsed().as_secs_f64() * 1e3);
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
            dry_run: false,
        };
        Ok(commit::commit(&self.store, pool, &request, &Silent)?.commit)
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
    derived(&data, &all)
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
