//! A fine-tune to its base plus a truncated singular value decomposition of the change: a new,
//! smaller, lossy version.
//!
//! May use: tiers 0 to 5, `ops::spectrum`. Holds: the version that is committed is stored exactly;
//! what its tensors are is stated by rounded factors and a fixed order of sums, so every machine
//! makes the same bits of them.
//!
//! The steps, each over all tensors: find the components; choose the ranks; write the factors;
//! make the tensors; commit what was made with its factors as hint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use store_format::commit::Derivation;
use store_format::dtype::DType;
use store_format::ids::CommitId;
use store_format::layout::Tensor;
use store_format::record::View;

use crate::bytes::{FileBytes, ReadAt};
use crate::codec::Level;
use crate::error::{Error, Result};
use crate::flow::approach::{Approach, BaseTensor};
use crate::flow::checkout::{self, checkout};
use crate::flow::choose::pairs;
use crate::flow::commit::{self, BaseChoice, Signature, commit};
use crate::flow::output::Directory;
use crate::flow::read::Rebuilder;
use crate::flow::relatives::{BaseFiles, files_of};
use crate::flow::{attribute, hint, made};
use crate::layout::safetensors_subset;
use crate::ops::spectrum::{Spectrum, spectrum};
use crate::par::{Budget, Pool};
use crate::predict::{Recipe, Shape, float};
use crate::progress::Progress;
use crate::store::Store;

/// A tensor of fewer elements stays as the fine-tune has it.
const ELEMENTS_MIN: u64 = 1001;

/// The largest rank that is looked for where it is not stated.
const RANK_MAX: usize = 256;

/// Rows of a change that are read at a time.
const ROWS: u64 = 64;

/// Tensors that are taken apart together; each states what its vectors take.
const IN_FLIGHT: Budget = Budget {
    bytes_max: 256 << 20,
    count_max: 16,
};

/// What is kept of a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// So many components of each tensor.
    Rank(usize),
    /// The components of each tensor that together have this share of its squared change.
    Energy(f64),
    /// The components of all tensors that save most for their bytes, in so many bytes of factors.
    Budget(u64),
}

/// What to make, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// What the change is relative to.
    pub base: CommitId,
    /// The version that was trained from it.
    pub tuned: CommitId,
    /// How much of the change stays.
    pub keep: Keep,
    /// The branch of the new version.
    pub branch: &'a str,
    /// What it is.
    pub message: &'a str,
    /// Who, and when.
    pub signature: Signature,
    /// How hard to try when it is stored.
    pub level: Level,
    /// An empty folder for what is made on the way.
    pub scratch: &'a Path,
}

/// What was kept of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its file and name.
    pub file: String,
    /// Its name.
    pub name: String,
    /// Elements.
    pub elements: u64,
    /// Components that were kept.
    pub rank: usize,
    /// Bytes of their factors in binary16.
    pub factor_bytes: u64,
    /// The mean of the magnitudes of what is left out.
    pub mean_error: f64,
    /// The largest of them.
    pub max_error: f64,
    /// The mean by that of the change itself.
    pub relative_error: f64,
    /// The root of the squared change that is left out, by that of the whole.
    pub frobenius_error: f64,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Report {
    /// The commit.
    pub commit: commit::Report,
    /// The tensors whose change was cut, in the order of their files.
    pub tensors: Vec<Kept>,
    /// Plain bytes of the version's files.
    pub original_bytes: u64,
    /// Elements of all tensors of the version.
    pub total_params: u64,
}

/// Makes the version and commits it.
///
/// # Errors
/// `Usage` where no tensor of the two versions can be compared; `NotFound` and `Corrupt` where the
/// store is hurt; failures of the disk.
pub fn svd(
    store: &Store,
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let files = files_of(rebuilder, &request.tuned)?;
    let changes = changes(&files, &files_of(rebuilder, &request.base)?);
    if changes.is_empty() {
        return Err(
            Error::usage("no tensor of the two versions can be compared").hint(
                "the fine-tune needs tensors of the base's names and shapes, with float elements",
            ),
        );
    }
    let places = Places::make(request.scratch)?;
    let energies = take_apart(rebuilder, pool, &changes, request.keep, &places, progress)?;
    let ranks = ranks(request.keep, &changes, &energies);
    write_factors(&changes, &ranks, &places)?;
    let tensors = make(
        rebuilder,
        pool,
        request,
        (&files, &changes, &ranks),
        &places,
        progress,
    )?;
    let total_params = files
        .iter()
        .flat_map(|(_, file)| &file.manifest().tensors)
        .map(|tensor| tensor.shape.iter().product::<u64>())
        .sum();
    let original_bytes = files.iter().map(|(_, file)| file.manifest().bytes).sum();
    let mut report = Report {
        commit: commit::Report::new(Some(request.base), Some(Derivation::Svd)),
        tensors,
        original_bytes,
        total_params,
    };
    let stated = ("svd".to_owned(), report.attribute(request.keep));
    let commit_request = commit::Request {
        path: &places.model,
        branch: request.branch,
        base: BaseChoice::Revision(request.base.to_string()),
        kind: Some(Derivation::Svd),
        message: request.message,
        signature: request.signature.clone(),
        attributes: attribute::collect(vec![stated])?,
        level: request.level,
        factors: Some(&places.factors),
        head: None,
        dry_run: false,
    };
    report.commit = commit(store, pool, &commit_request, progress)?;
    Ok(report)
}

/// A tensor whose change is cut.
struct Change {
    /// The number of its file among the version's.
    file: usize,
    path: String,
    /// Its index in that file.
    index: usize,
    tuned: BaseTensor,
    base: BaseTensor,
}

impl Change {
    fn tensor(&self) -> &Tensor {
        self.tuned.tensor()
    }

    fn shape(&self) -> Shape {
        self.tuned.shape()
    }

    /// Bytes of the factors of one component.
    fn component_bytes(&self) -> u64 {
        2 * (self.shape().rows + self.shape().cols)
    }
}

/// The folders of what is made on the way.
struct Places {
    spectra: PathBuf,
    factors: PathBuf,
    model: PathBuf,
}

impl Places {
    fn make(scratch: &Path) -> Result<Self> {
        let [spectra, factors, model] =
            ["spectra", "factors", "model"].map(|name| scratch.join(name));
        Directory::target(&spectra)?;
        Directory::target(&factors)?;
        Ok(Self {
            spectra,
            factors,
            model,
        })
    }

    fn spectrum(&self, number: usize) -> PathBuf {
        self.spectra.join(number.to_string())
    }
}

/// The tensors that can be cut: large float matrices that the base has in the same shape.
fn changes(files: &BaseFiles, base_files: &BaseFiles) -> Vec<Change> {
    let mut changes = Vec::new();
    for (number, (path, file)) in files.iter().enumerate() {
        let tensors = &file.manifest().tensors;
        for (index, base) in pairs(path, tensors, base_files).into_iter().enumerate() {
            let Approach::Base(base) = base else { continue };
            let tuned = BaseTensor {
                file: Arc::clone(file),
                index,
            };
            let (old, new) = (base.shape(), tuned.shape());
            let fits = old.rows == new.rows && old.cols == new.cols;
            let is_matrix = tensors[index].shape.len() >= 2 && new.elements() >= ELEMENTS_MIN;
            let computable = [old.dtype, new.dtype].into_iter().all(float::is_computable);
            if fits && is_matrix && computable {
                changes.push(Change {
                    file: number,
                    path: path.clone(),
                    index,
                    tuned,
                    base,
                });
            }
        }
    }
    changes
}

/// Squared singular values that were found.
struct Energies {
    found: Vec<f64>,
    /// The rank that the wish for a rank or an energy comes to.
    rank: usize,
}

/// Finds the components of every change and keeps them on disk.
fn take_apart(
    rebuilder: &Rebuilder,
    pool: &Pool,
    changes: &[Change],
    keep: Keep,
    places: &Places,
    progress: &dyn Progress,
) -> Result<Vec<Energies>> {
    let total = changes.iter().map(|change| change.tensor().bytes).sum();
    progress.begin("decomposing", Some(total));
    let jobs = changes.iter().enumerate().map(|(number, change)| {
        let vectors = match keep {
            Keep::Rank(rank) => rank,
            Keep::Energy(_) | Keep::Budget(_) => RANK_MAX,
        };
        let bytes = (change.component_bytes() * 6).saturating_mul(vectors as u64);
        Ok((
            usize::try_from(bytes).unwrap_or(usize::MAX),
            (number, change),
        ))
    });
    let mut energies = Vec::with_capacity(changes.len());
    pool.ordered(
        jobs,
        IN_FLIGHT,
        |(number, change)| {
            let (found, rank) = components(rebuilder, change, keep, progress)?;
            write_spectrum(places, number, &found)?;
            let energies = Energies {
                found: found.energies,
                rank,
            };
            Ok((energies, change.tensor().bytes))
        },
        |(found, bytes)| {
            energies.push(found);
            progress.advance(bytes, 0);
            progress.check()
        },
    )?;
    progress.end();
    Ok(energies)
}

/// The components of one change, as many as may be kept, and the rank that is asked for.
fn components(
    rebuilder: &Rebuilder,
    change: &Change,
    keep: Keep,
    progress: &dyn Progress,
) -> Result<(Spectrum, usize)> {
    let shape = change.shape();
    let (rows, cols) = (size(shape.rows), size(shape.cols));
    let most = RANK_MAX.min(rows).min(cols);
    let find = |wanted: usize| {
        let mut window = (0, Vec::new());
        spectrum(rows, cols, wanted, |row, out| {
            let have = window.1.len() / cols;
            if row < window.0 || row >= window.0 + have {
                let count = ROWS.min(shape.rows - row as u64);
                window = (row, differences(rebuilder, change, row as u64, count)?);
                progress.check()?;
            }
            let at = (row - window.0) * cols;
            out.copy_from_slice(&window.1[at..at + cols]);
            Ok::<_, Error>(())
        })
    };
    match keep {
        Keep::Rank(rank) => Ok((find(rank.min(rows).min(cols))?, rank)),
        Keep::Budget(_) => Ok((find(most)?, 0)),
        Keep::Energy(share) => {
            let mut wanted = 16.min(most);
            loop {
                let found = find(wanted)?;
                match found.rank_of(share) {
                    Some(rank) => return Ok((found, rank)),
                    None if wanted == most => return Ok((found, most)),
                    None => wanted = (2 * wanted).min(most),
                }
            }
        }
    }
}

/// Fine-tune minus base of some rows.
fn differences(rebuilder: &Rebuilder, change: &Change, row: u64, count: u64) -> Result<Vec<f32>> {
    let cols = change.shape().cols;
    let values = |tensor| made::values(rebuilder, tensor, row * cols, count * cols);
    let mut differences = values(&change.tuned)?;
    for (new, old) in differences.iter_mut().zip(values(&change.base)?) {
        *new -= old;
    }
    Ok(differences)
}

/// Keeps components as binary16, one after the other: its part of A, then its part of B. Each is
/// scaled by a power of two so that both parts have numbers of one size: small ones would vanish.
fn write_spectrum(places: &Places, number: usize, found: &Spectrum) -> Result<()> {
    let (name, directory) = (number.to_string(), Directory::target(&places.spectra)?);
    let mut file = directory.begin(&name, false)?;
    let size_of = |part: &[f32]| {
        let squares: f64 = part.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        (squares / part.len().max(1) as f64).sqrt()
    };
    for (left, right) in found.left.iter().zip(found.right.iter()) {
        let ratio = (size_of(left) / size_of(right)).log2() / 2.0;
        let exponent = if ratio.is_finite() {
            ratio.round()
        } else {
            0.0
        };
        let up = (exponent as f32).exp2();
        let halves = |part: &[f32], factor: f32| -> Vec<u8> {
            let halves = part.iter().map(|x| float::to_f16(x * factor).to_le_bytes());
            halves.flatten().collect()
        };
        file.append(&halves(right, up))?;
        file.append(&halves(left, 1.0 / up))?;
    }
    file.finish()
}

/// How many components of each change stay.
fn ranks(keep: Keep, changes: &[Change], energies: &[Energies]) -> Vec<usize> {
    let found = |(at, wanted): (usize, usize)| wanted.min(energies[at].found.len());
    let Keep::Budget(bytes) = keep else {
        let wanted = energies.iter().map(|energies| energies.rank);
        return wanted.enumerate().map(found).collect();
    };
    // The next component of each tensor by what it saves for a byte: energies of a tensor fall,
    // so taking the best first takes them in order.
    let mut offers: Vec<(f64, usize)> = Vec::new();
    for (at, (change, energies)) in changes.iter().zip(energies).enumerate() {
        let price = change.component_bytes() as f64;
        offers.extend(energies.found.iter().map(|energy| (energy / price, at)));
    }
    offers.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let (mut ranks, mut left) = (vec![0; changes.len()], bytes);
    for (_, at) in offers {
        let price = changes[at].component_bytes();
        if price > left {
            break;
        }
        left -= price;
        ranks[at] += 1;
    }
    ranks
}

/// Writes the factors of each file's tensors as a safetensors file of the same path.
fn write_factors(changes: &[Change], ranks: &[usize], places: &Places) -> Result<()> {
    let all: Vec<_> = changes.iter().zip(ranks).enumerate().collect();
    for file in all.chunk_by(|(_, a), (_, b)| a.0.file == b.0.file) {
        let kept: Vec<_> = file.iter().filter(|(_, (_, rank))| **rank > 0).collect();
        let mut tensors = Vec::new();
        let mut at = 0;
        for (_, (change, rank)) in &kept {
            let (shape, rank) = (change.shape(), **rank as u64);
            let shapes = [vec![rank, shape.cols], vec![shape.rows, rank]];
            for (name, shape) in hint::factor_names(&change.tensor().name)
                .into_iter()
                .zip(shapes)
            {
                let bytes = 2 * shape.iter().product::<u64>();
                tensors.push(Tensor {
                    name,
                    dtype: DType::F16,
                    shape,
                    start: at,
                    bytes,
                });
                at += bytes;
            }
        }
        let Some((_, (first, _))) = kept.first() else {
            continue;
        };
        let subset = safetensors_subset(&tensors, &BTreeMap::new())?;
        let (directory, name) =
            checkout::make_parents(&Directory::target(&places.factors)?, &first.path)?;
        let mut out = directory.begin(name, false)?;
        out.append(&subset.header)?;
        for (number, (change, rank)) in kept {
            let [a, b] = factors(places, *number, change.shape(), **rank)?;
            out.append(&a)?;
            out.append(&b)?;
        }
        out.finish()?;
    }
    Ok(())
}

/// The factors of the first `rank` components: A with a row for each, B with a column.
fn factors(places: &Places, number: usize, shape: Shape, rank: usize) -> Result<[Vec<u8>; 2]> {
    let file = FileBytes::open(&places.spectrum(number))?;
    let (of_a, of_b) = (2 * shape.cols, 2 * shape.rows);
    let (mut a, mut b) = (Vec::new(), vec![0; size(of_b) * rank]);
    for k in 0..rank {
        let start = k as u64 * (of_a + of_b);
        a.extend(file.read_vec(start, size(of_a))?);
        let column = file.read_vec(start + of_a, size(of_b))?;
        for (row, entry) in column.chunks_exact(2).enumerate() {
            let at = 2 * (row * rank + k);
            b[at..at + 2].copy_from_slice(entry);
        }
    }
    Ok([a, b])
}

/// A tensor on its way: its recipe, and where its factors stand.
struct Maker<'a> {
    number: usize,
    change: &'a Change,
    recipe: Recipe,
    /// The same without the last rounding.
    unrounded: Recipe,
    factors: [Vec<u8>; 2],
}

/// What is left out of a piece of a change.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    left_out: f64,
    left_out_squared: f64,
    largest: f64,
    change: f64,
    change_squared: f64,
}

impl Errors {
    fn add(&mut self, other: &Self) {
        self.left_out += other.left_out;
        self.left_out_squared += other.left_out_squared;
        self.largest = self.largest.max(other.largest);
        self.change += other.change;
        self.change_squared += other.change_squared;
    }

    fn one(change: f64, left_out: f64) -> Self {
        Self {
            left_out: left_out.abs(),
            left_out_squared: left_out * left_out,
            largest: left_out.abs(),
            change: change.abs(),
            change_squared: change * change,
        }
    }
}

/// Writes the version as it will be committed: the fine-tune, with the cut tensors made.
fn make(
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    (files, changes, ranks): (&BaseFiles, &[Change], &[usize]),
    places: &Places,
    progress: &dyn Progress,
) -> Result<Vec<Kept>> {
    let whole = checkout::Request {
        commit: request.tuned,
        target: &places.model,
        tensors: &[],
        force: false,
        before: None,
    };
    checkout(rebuilder, pool, &whole, progress)?;
    // By tensor and first element: summed in order, so that they do not depend on the threads.
    let errors: Mutex<BTreeMap<(usize, u64), Errors>> = Mutex::default();
    let target = Directory::target(&places.model)?;
    for (number, (path, file)) in files.iter().enumerate() {
        let mut makers = BTreeMap::new();
        for (at, change) in changes
            .iter()
            .enumerate()
            .filter(|(_, change)| change.file == number)
        {
            makers.insert(change.index, Maker::new(places, at, change, ranks[at])?);
        }
        if makers.is_empty() {
            continue;
        }
        progress.begin("making", Some(file.manifest().bytes));
        let (directory, name) = checkout::make_parents(&target, path)?;
        let is_executable = matches!(
            directory.look(name)?,
            crate::flow::output::Standing::File(_, true)
        );
        let mut out = directory.begin(name, is_executable)?;
        let piece = |maker: &Maker<'_>, first: u64, bytes: u64| {
            let (made, left_out) = maker.make(rebuilder, first, bytes)?;
            let mut errors = errors.lock().unwrap_or_else(PoisonError::into_inner);
            errors.insert((maker.number, first), left_out);
            Ok(made)
        };
        made::write(
            rebuilder,
            pool,
            file,
            &makers,
            piece,
            |bytes| out.append(bytes),
            progress,
        )?;
        out.finish()?;
        progress.end();
    }
    let errors = errors.into_inner().unwrap_or_else(PoisonError::into_inner);
    let kept = changes
        .iter()
        .zip(ranks)
        .enumerate()
        .map(|(number, (change, rank))| {
            let mut all = Errors::default();
            errors
                .range((number, 0)..(number + 1, 0))
                .for_each(|(_, piece)| all.add(piece));
            Kept::of(change, *rank, &all)
        });
    Ok(kept.collect())
}

impl<'a> Maker<'a> {
    fn new(places: &Places, number: usize, change: &'a Change, rank: usize) -> Result<Self> {
        let (target, base) = (change.shape(), change.base.shape());
        // Without a component the tensor is the base's: a row of zeros stands for none.
        let factors = match rank {
            0 => [target.cols, target.rows].map(|count| vec![0; size(2 * count)]),
            rank => factors(places, number, target, rank)?,
        };
        let of = |rows, cols| Shape {
            dtype: DType::F16,
            rows,
            cols,
        };
        let rank = rank.max(1) as u64;
        let shapes = [of(rank, target.cols), of(target.rows, rank)];
        let wide = Shape {
            dtype: DType::F32,
            ..target
        };
        Ok(Self {
            number,
            change,
            recipe: hint::recipe(target, base, shapes)?,
            unrounded: hint::recipe(wide, base, shapes)?,
            factors,
        })
    }

    /// The bytes from an element on, and what they leave out.
    fn make(&self, rebuilder: &Rebuilder, first: u64, bytes: u64) -> Result<(Vec<u8>, Errors)> {
        let width = self.recipe.target.dtype.block().1;
        let count = bytes / width;
        let mut base = Vec::new();
        let mut ranges = Vec::new();
        for range in self.recipe.sources(first, count)? {
            match range.source {
                0 => {
                    let mut view = View::default();
                    self.change.base.parts(range.start, range.bytes, &mut view);
                    base = rebuilder.view(&view)?;
                }
                factor => ranges.push((factor, size(range.start), size(range.bytes))),
            }
        }
        let mut parts: Vec<&[u8]> = vec![&base];
        for (factor, start, bytes) in ranges {
            parts.push(&self.factors[factor - 1][start..start + bytes]);
        }
        let mut made = vec![0; size(bytes)];
        self.recipe.predict(first, &parts, &mut made)?;
        let mut wide = vec![0; size(4 * count)];
        self.unrounded.predict(first, &parts, &mut wide)?;
        let tuned = made::values(rebuilder, &self.change.tuned, first, count)?;
        let old = made::values(rebuilder, &self.change.base, first, count)?;
        let mut errors = Errors::default();
        let wide = wide
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes));
        for ((new, old), made) in tuned.iter().zip(&old).zip(wide) {
            if made.is_finite() {
                errors.add(&Errors::one(f64::from(new - old), f64::from(new - made)));
            }
        }
        Ok((made, errors))
    }
}

impl Kept {
    fn of(change: &Change, rank: usize, errors: &Errors) -> Self {
        let elements = change.shape().elements();
        let mean = |sum: f64| sum / elements.max(1) as f64;
        Self {
            file: change.path.clone(),
            name: change.tensor().name.clone(),
            elements,
            rank,
            factor_bytes: rank as u64 * change.component_bytes(),
            mean_error: mean(errors.left_out),
            max_error: errors.largest,
            relative_error: mean(errors.left_out) / (mean(errors.change) + 1e-8),
            frobenius_error: share(errors.left_out_squared, errors.change_squared),
        }
    }
}

/// The root of a part of a sum of squares by the whole; 0 of nothing.
fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).sqrt()
    } else {
        0.0
    }
}

impl Report {
    /// Bytes of all factors in binary16.
    #[must_use]
    pub fn factor_bytes(&self) -> u64 {
        self.tensors.iter().map(|kept| kept.factor_bytes).sum()
    }

    /// The mean over the tensors of their mean errors, and the largest error of all.
    #[must_use]
    pub fn reconstruction_errors(&self) -> (f64, f64) {
        let means: f64 = self.tensors.iter().map(|kept| kept.mean_error).sum();
        let largest = self.tensors.iter().map(|kept| kept.max_error);
        (
            means / self.tensors.len().max(1) as f64,
            largest.fold(0.0, f64::max),
        )
    }

    /// The relative Frobenius error of the tensors, the mean weighted by their elements.
    #[must_use]
    pub fn frobenius_error(&self) -> f64 {
        let elements: u64 = self.tensors.iter().map(|kept| kept.elements).sum();
        let weighted = |kept: &Kept| kept.frobenius_error * kept.elements as f64;
        self.tensors.iter().map(weighted).sum::<f64>() / elements.max(1) as f64
    }

    /// The attribute `svd`.
    fn attribute(&self, keep: Keep) -> serde_json::Value {
        let tensors: Vec<_> = self
            .tensors
            .iter()
            .map(|kept| {
                json!({
                    "name": kept.name,
                    "rank": kept.rank,
                    "mean_error": rounded(kept.mean_error),
                    "max_error": rounded(kept.max_error),
                    "relative_error": rounded(kept.relative_error),
                    "frobenius_error": rounded(kept.frobenius_error),
                })
            })
            .collect();
        let (mean, largest) = self.reconstruction_errors();
        let mut value = json!({
            "factor_dtype": "F16",
            "solver": "randomised range finder, 2 power iterations",
            "per_tensor": tensors,
            "num_layers": self.tensors.len(),
            "total_params": self.total_params,
            "original_size_bytes": self.original_bytes,
            "compressed_size_bytes": self.factor_bytes(),
            "avg_reconstruction_error": rounded(mean),
            "max_reconstruction_error": rounded(largest),
            "relative_error": rounded(self.frobenius_error()),
            "lossy": true,
        });
        let (name, stated) = match keep {
            Keep::Rank(rank) => ("rank", json!(rank)),
            Keep::Energy(share) => ("energy", json!(share)),
            Keep::Budget(bytes) => ("budget_bytes", json!(bytes)),
        };
        value[name] = stated;
        value
    }
}

/// Six digits: what is told of an error.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// Counts that a tensor's bytes bound.
fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
