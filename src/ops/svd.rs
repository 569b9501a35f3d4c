//! A fine-tune to its base plus a truncated singular value decomposition of the change: a new,
//! smaller, lossy version.
//!
//! May use: tiers 0 to 5, `ops::spectrum`. Holds: the version that is committed is stored exactly;
//! what its tensors are is stated by rounded factors and a fixed order of sums, so every machine
//! makes the same bits of them.
//!
//! The steps, each over all tensors: find the components; choose the ranks; write the factors;
//! make the tensors; commit what was made with its factors as hint.

mod making;
mod parts;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use store_format::commit::Derivation;
use store_format::dtype::DType;
use store_format::ids::CommitId;
use store_format::layout::Tensor;

use crate::codec::Level;
use crate::error::{Error, Result};
use crate::flow::checkout;
use crate::flow::commit::{self, BaseChoice, Signature, commit};
use crate::flow::output::Directory;
use crate::flow::read::Rebuilder;
use crate::flow::relatives::files_of;
use crate::flow::{attribute, hint};
use crate::layout::safetensors_subset;
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;

use making::make;
use parts::{Change, Energies, Places, changes, factors, take_apart};

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
    /// Its file.
    pub file: String,
    /// Its name.
    pub name: String,
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
    /// The sum of the squares of what is left out.
    pub left_out_squared: f64,
    /// The sum of the squares of the change.
    pub change_squared: f64,
}

impl Kept {
    /// The Frobenius norm of what is left out by that of the change.
    #[must_use]
    pub fn frobenius_error(&self) -> f64 {
        root_of_part(self.left_out_squared, self.change_squared)
    }
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
        work: None,
        head: None,
        dry_run: false,
    };
    report.commit = commit(store, pool, &commit_request, progress)?;
    Ok(report)
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

    /// The Frobenius norm of what is left out of all tensors by that of their changes.
    #[must_use]
    pub fn frobenius_error(&self) -> f64 {
        let sum = |of: fn(&Kept) -> f64| self.tensors.iter().map(of).sum();
        root_of_part(
            sum(|kept| kept.left_out_squared),
            sum(|kept| kept.change_squared),
        )
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
                    "frobenius_error": rounded(kept.frobenius_error()),
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

/// The root of a part of a sum of squares by the whole; 0 of nothing.
fn root_of_part(part: f64, whole: f64) -> f64 {
    if whole > 0.0 {
        (part / whole).sqrt()
    } else {
        0.0
    }
}

/// Six digits: what is told of an error.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
