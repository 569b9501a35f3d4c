//! The changes of a version's tensors, taken apart: their strongest components, kept on disk.
//!
//! May use: tiers 0 to 5, `ops::spectrum`. Memory is bounded by the vectors of the tensors in work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use store_format::layout::Tensor;

use super::Keep;
use crate::bytes::{FileBytes, ReadAt};
use crate::error::{Error, Result};
use crate::flow::approach::{Approach, BaseTensor, Bases};
use crate::flow::made;
use crate::flow::output::Directory;
use crate::flow::read::Rebuilder;
use crate::flow::relatives::BaseFiles;
use crate::ops::spectrum::{Spectrum, spectrum};
use crate::par::{Budget, Pool};
use crate::predict::{Shape, float};
use crate::progress::Progress;

/// A tensor of fewer elements stays as the fine-tune has it.
const ELEMENTS_MIN: u64 = 1001;

/// The largest rank that is looked for where it is not stated.
const RANK_MAX: usize = 256;

/// The rank that is looked for first where an energy is stated.
const RANK_FIRST: usize = 16;

/// Rows of a change that are read at a time.
const ROWS: u64 = 64;

/// Tensors that are taken apart together; each states what its vectors take.
const IN_FLIGHT: Budget = Budget {
    bytes_max: 256 << 20,
    count_max: 16,
};

/// A tensor whose change is cut.
pub(super) struct Change {
    /// The number of its file among the version's.
    pub(super) file: usize,
    pub(super) path: String,
    /// Its index in that file.
    pub(super) index: usize,
    pub(super) tuned: BaseTensor,
    pub(super) base: BaseTensor,
}

impl Change {
    pub(super) fn tensor(&self) -> &Tensor {
        self.tuned.tensor()
    }

    pub(super) fn shape(&self) -> Shape {
        self.tuned.shape()
    }

    /// Bytes of the factors of one component.
    pub(super) fn component_bytes(&self) -> u64 {
        2 * (self.shape().rows + self.shape().cols)
    }
}

/// The folders of what is made on the way.
pub(super) struct Places {
    spectra: PathBuf,
    pub(super) factors: PathBuf,
    pub(super) model: PathBuf,
}

impl Places {
    pub(super) fn make(scratch: &Path) -> Result<Self> {
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
pub(super) fn changes(files: &BaseFiles, base_files: &BaseFiles) -> Vec<Change> {
    let bases = Bases::of(base_files);
    let mut changes = Vec::new();
    for (number, (path, file)) in files.iter().enumerate() {
        let tensors = &file.manifest().tensors;
        for (index, base) in bases.by_name(path, tensors).into_iter().enumerate() {
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
pub(super) struct Energies {
    pub(super) found: Vec<f64>,
    /// The rank that the wish for a rank or an energy comes to.
    pub(super) rank: usize,
}

/// Finds the components of every change and keeps them on disk.
pub(super) fn take_apart(
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
            let mut wanted = RANK_FIRST.min(most);
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

/// The factors of the first `rank` components: A with a row for each, B with a column.
pub(super) fn factors(
    places: &Places,
    number: usize,
    shape: Shape,
    rank: usize,
) -> Result<[Vec<u8>; 2]> {
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

/// Counts that a tensor's bytes bound.
pub(super) fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
