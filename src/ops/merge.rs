//! An adapter's version to the full model: its base with the adapter merged in.
//!
//! May use: tiers 0 to 5. Holds: the weights are those that PEFT's `merge_and_unload` gives on a
//! processor whose sums are fused in rising order; on every machine the same bits.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use store_format::commit::{Commit, Derivation};
use store_format::dtype::DType;
use store_format::ids::CommitId;

use crate::error::{Error, Kind, Result};
use crate::flow::approach::{BaseTensor, ByRecipe};
use crate::flow::checkout::{self, Report};
use crate::flow::made;
use crate::flow::output::Directory;
use crate::flow::peft;
use crate::flow::predicted::{Predicted, predict};
use crate::flow::read::Rebuilder;
use crate::flow::relatives::{BaseFiles, Relatives, files_of};
use crate::flow::tree::{self, Leaf, Leafy};
use crate::flow::viewed::Viewed;
use crate::par::Pool;
use crate::plan::pair::BaseFile;
use crate::predict::adapter::{Adapter, Order};
use crate::predict::{Recipe, Step};
use crate::progress::Progress;

/// What to merge, and where to.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The version of the adapter.
    pub commit: CommitId,
    /// The directory.
    pub target: &'a Path,
    /// Overwrite files that hold something else.
    pub force: bool,
}

/// A file of the base, and what makes the tensors that the adapter changes.
struct Merged {
    path: String,
    file: Arc<BaseFile>,
    executable: bool,
    makers: BTreeMap<usize, ByRecipe>,
}

/// Writes the base with the adapter merged in.
///
/// # Errors
/// `Usage` for a version that is no adapter or changes nothing, `Unsupported` for one of a kind that is not merged
/// here, `NotFound` where its base is not in the store, `Conflict` where something else would be
/// overwritten.
pub fn merge(
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let base = base_of(rebuilder, &request.commit)?;
    let commit: Commit = rebuilder
        .object(&base)
        .map_err(|error| match error.kind() {
            Kind::NotFound => error.hint("fetch the base of this adapter first"),
            _ => error,
        })?;
    let mut adapter_files = files_of(rebuilder, &request.commit)?;
    adapter_files.retain(|(path, _)| peft::is_weights(path) || path.ends_with(peft::CONFIG));
    let adapter = Relatives::of_files(rebuilder, &adapter_files)?;
    if let Some(what) = adapter.unmergeable() {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{what} are stored but cannot be merged here"),
        )
        .hint("check it out without --merge and merge it with PEFT"));
    }
    let leaves = tree::leaves(rebuilder, &commit.tree)?;
    let (merged, others) = split(rebuilder, leaves, &adapter, &adapter_files)?;
    if merged.is_empty() {
        return Err(Error::usage(format!(
            "the adapter {:.12} changes no tensor of its base: there is nothing to merge",
            request.commit
        ))
        .hint("'sparse ls REV' shows whether its weights are there"));
    }
    let target = Directory::target(request.target)?;
    if !request.force {
        checkout::refuse_standing(&target, merged.iter().map(|file| &*file.path))?;
    }
    let mut report = checkout::write_leaves(
        rebuilder,
        pool,
        &target,
        &others,
        &[],
        request.force,
        progress,
    )?;
    for file in merged {
        write(rebuilder, pool, &target, &file, &mut report, progress)?;
    }
    Ok(report)
}

/// The version that an adapter was committed for.
fn base_of(rebuilder: &Rebuilder, commit: &CommitId) -> Result<CommitId> {
    let origins = rebuilder.object::<Commit>(commit)?.origins;
    let stated = origins
        .iter()
        .find(|origin| origin.kind == Derivation::Adapter);
    stated.map(|origin| origin.base).ok_or_else(|| {
        Error::usage(format!(
            "{commit:.12} is no adapter: there is nothing to merge"
        ))
        .hint("'sparse adapter add BASE DIR -b NAME' commits one")
    })
}

/// The base's files that the adapter changes, and its other leaves.
fn split(
    rebuilder: &Rebuilder,
    leaves: Vec<Leaf>,
    adapter: &Relatives,
    adapter_files: &BaseFiles,
) -> Result<(Vec<Merged>, Vec<Leaf>)> {
    let (mut merged, mut others) = (Vec::new(), Vec::new());
    let mut used = BTreeSet::new();
    for leaf in leaves {
        let Leafy::File {
            manifest,
            executable,
            ..
        } = &leaf.node
        else {
            others.push(leaf);
            continue;
        };
        let file = Arc::new(BaseFile::new(rebuilder.object(manifest)?));
        let mut makers = BTreeMap::new();
        for index in 0..file.manifest().tensors.len() {
            let base = BaseTensor {
                file: Arc::clone(&file),
                index,
            };
            if let Some(recipe) = changed(&base, adapter)? {
                let named = recipe.sources.iter().filter(|source| !source.is(&base));
                used.extend(named.map(|source| source.tensor().name.clone()));
                makers.insert(index, recipe);
            }
        }
        if makers.is_empty() {
            others.push(leaf);
        } else {
            merged.push(Merged {
                path: leaf.path,
                file,
                executable: *executable,
                makers,
            });
        }
    }
    let tensors = adapter_files
        .iter()
        .flat_map(|(_, file)| &file.manifest().tensors);
    if let Some(unused) = tensors
        .map(|tensor| &tensor.name)
        .find(|name| !used.contains(*name))
    {
        return Err(Error::new(
            Kind::Unsupported,
            format!("tensor '{unused}' of the adapter has no place in the base"),
        )
        .hint("check it out without --merge and merge it with PEFT"));
    }
    Ok((merged, others))
}

/// How an adapter changes a tensor of the base: by a product, or by a copy that was trained whole.
fn changed(base: &BaseTensor, adapter: &Relatives) -> Result<Option<ByRecipe>> {
    let (shape, name) = (base.shape(), &base.tensor().name);
    if let Some(layer) = adapter.adapters(name).first() {
        let way = Adapter {
            scale: layer.scale,
            order: Order::Fused,
            change: DType::F32,
            form: layer.form,
        };
        let sources = layer.sources(base);
        let shapes = sources.iter().map(BaseTensor::shape).collect();
        let recipe = Recipe::new(shape, shapes, None, Step::Adapter(way))
            .map_err(|error| Error::usage(format!("the adapter does not fit '{name}': {error}")))?;
        return Ok(Some(ByRecipe::new(recipe, sources)));
    }
    let Some(whole) = adapter.named(name).first() else {
        return Ok(None);
    };
    let step = if whole.shape().dtype == shape.dtype {
        Step::Same
    } else {
        Step::Cast
    };
    let recipe = Recipe::new(shape, vec![whole.shape()], None, step)
        .map_err(|error| Error::usage(format!("the adapter does not fit '{name}': {error}")))?;
    Ok(Some(ByRecipe::new(recipe, vec![whole.clone()])))
}

fn write(
    rebuilder: &Rebuilder,
    pool: &Pool,
    target: &Directory,
    merged: &Merged,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let Merged {
        path,
        file,
        executable,
        makers,
    } = merged;
    let (directory, name) = checkout::make_parents(target, path)?;
    progress.begin("merging", Some(file.manifest().bytes));
    let mut out = directory.begin(name, *executable)?;
    let piece = |recipe: &ByRecipe, first: u64, bytes: u64| make(rebuilder, recipe, first, bytes);
    let give = |bytes: &[u8]| out.append(bytes);
    made::write(rebuilder, pool, file, makers, piece, give, progress)?;
    out.finish()?;
    progress.end();
    report.files += 1;
    report.written += 1;
    report.logical_bytes += file.manifest().bytes;
    report.written_bytes += file.manifest().bytes;
    Ok(())
}

/// The bytes of a changed tensor from an element on.
fn make(rebuilder: &Rebuilder, recipe: &ByRecipe, first: u64, bytes: u64) -> Result<Viewed> {
    let too_much = || {
        Error::new(
            Kind::Unsupported,
            "a layer's factors are too large to merge",
        )
    };
    let view = recipe.view(first, bytes)?.ok_or_else(too_much)?;
    let sources = rebuilder.pieces(&view)?;
    let coding = store_format::record::Coding::Difference;
    match predict(&recipe.recipe, first, &sources, bytes, coding)? {
        Predicted::Bytes(bytes) => Ok(bytes),
        Predicted::Patterns(_) | Predicted::None => Err(too_much()),
    }
}
