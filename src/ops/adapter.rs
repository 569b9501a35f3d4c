//! An adapter's folder to a version that knows its base.
//!
//! May use: tiers 0 to 5. Holds: the folder is stored byte for byte; what its configuration says
//! stands in the commit, so that nobody needs to open it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use store_format::commit::Derivation;
use store_format::ids::CommitId;
use store_format::layout::Tensor;

use crate::bytes::{FileBytes, ReadAt};
use crate::codec::Level;
use crate::error::{Error, Kind, Result};
use crate::flow::attribute;
use crate::flow::commit::{self, BaseChoice, Signature, commit};
use crate::flow::peft::{CONFIG, CONFIG_BYTES_MAX, Config, Part, is_weights, part_of_adapter};
use crate::flow::read::Rebuilder;
use crate::flow::relatives::{Relatives, files_of};
use crate::flow::scan::{What, scan};
use crate::layout;
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;

/// What to add, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The version that the adapter belongs to.
    pub base: CommitId,
    /// The folder.
    pub path: &'a Path,
    /// The branch of the new version.
    pub branch: &'a str,
    /// What it is.
    pub message: &'a str,
    /// Who, and when.
    pub signature: Signature,
    /// How hard to try.
    pub level: Level,
}

/// What was added.
#[derive(Clone, Debug)]
pub struct Report {
    /// The commit.
    pub commit: commit::Report,
    /// The value of the attribute `adapter`.
    pub adapter: Value,
    /// Layers that the adapter changes.
    pub layers: u64,
    /// Elements of its tensors.
    pub params: u64,
}

/// Commits a folder as an adapter of a base, after a look whether it fits.
///
/// # Errors
/// `Usage` for a folder that is no adapter or does not fit the base; whatever a commit fails with.
pub fn add(
    store: &Store,
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let config = read_config(request.path)?;
    let tensors = tensors_of(request.path, progress)?;
    let base = Relatives::of_files(rebuilder, &files_of(rebuilder, &request.base)?)?;
    let layers = match config.peft_type() {
        "LORA" => fitting_layers(&tensors, &config, &base)?,
        // Other types name their tensors in their own ways: kept, not looked into.
        _ => 0,
    };
    let mut adapter = config.attribute();
    adapter.insert("base".into(), request.base.to_string().into());
    let adapter = Value::Object(adapter);
    let commit_request = commit::Request {
        path: request.path,
        branch: request.branch,
        base: BaseChoice::Revision(request.base.to_string()),
        kind: Some(Derivation::Adapter),
        message: request.message,
        signature: request.signature.clone(),
        attributes: attribute::collect(vec![("adapter".to_owned(), adapter.clone())])?,
        level: request.level,
        factors: None,
        work: None,
        head: None,
        dry_run: false,
    };
    Ok(Report {
        commit: commit(store, pool, &commit_request, progress)?,
        adapter,
        layers,
        params: tensors
            .iter()
            .map(|tensor| tensor.shape.iter().product::<u64>())
            .sum(),
    })
}

fn no_adapter(folder: &Path, why: &str) -> Error {
    Error::usage(format!("'{}' is no adapter: {why}", folder.display()))
        .hint("name the folder that PEFT's save_pretrained wrote")
}

fn read_config(folder: &Path) -> Result<Config> {
    let path = folder.join(CONFIG);
    let no_adapter = |why: String| no_adapter(folder, &why);
    if !path.is_file() {
        return Err(no_adapter(format!("it has no {CONFIG}")));
    }
    let file = FileBytes::open(&path)?;
    if file.len() > CONFIG_BYTES_MAX {
        return Err(no_adapter(format!("its {CONFIG} is too long")));
    }
    let bytes = file.read_vec(0, usize::try_from(file.len()).unwrap_or(0))?;
    Config::parse(&bytes)
        .ok_or_else(|| no_adapter(format!("its {CONFIG} names no type of adapter")))
}

/// The tensors of the adapter in a folder.
fn tensors_of(folder: &Path, progress: &dyn Progress) -> Result<Vec<Tensor>> {
    let mut files = scan(folder, progress)?;
    files.retain(|file| is_weights(&file.path));
    if files.is_empty() {
        let why = "it has no adapter_model.safetensors or adapter_model.bin";
        return Err(no_adapter(folder, why));
    }
    let mut tensors = Vec::new();
    for scanned in files {
        if let What::File { source, .. } = &scanned.what {
            let file = FileBytes::open(source)?;
            tensors.extend(layout::parse(&scanned.path, &file)?.tensors);
        }
    }
    if tensors.is_empty() {
        return Err(no_adapter(
            folder,
            "its weights have no tensor that can be read",
        ));
    }
    Ok(tensors)
}

/// How many layers an adapter changes; each must stand in the base with its rows and columns.
fn fitting_layers(tensors: &[Tensor], config: &Config, base: &Relatives) -> Result<u64> {
    // Those of embeddings are kept, but not looked into.
    if !tensors.iter().any(|tensor| tensor.name.contains("lora_")) {
        return Err(Error::usage("the adapter's weights have no layer")
            .hint("name the folder that PEFT's save_pretrained wrote"));
    }
    let mut layers: BTreeMap<&str, [Option<&Tensor>; Part::COUNT]> = BTreeMap::new();
    for tensor in tensors {
        if let Some((layer, part)) = part_of_adapter(&tensor.name) {
            layers.entry(layer).or_default()[part.place()] = Some(tensor);
        }
    }
    for (layer, parts) in &layers {
        let wrong = |why: &str| {
            Error::new(
                Kind::Usage,
                format!("the adapter does not fit the base: layer '{layer}' {why}"),
            )
            .hint("name the version that it was trained on")
        };
        let [Some(a), Some(b), magnitude] = parts else {
            return Err(wrong("has one factor only"));
        };
        if let Some(rank) = a.shape.first().filter(|rank| !config.allows_rank(**rank)) {
            return Err(Error::usage(format!(
                "layer '{layer}' of the adapter has rank {rank}, which {CONFIG} does not state"
            ))
            .hint("take the configuration and the weights of one adapter"));
        }
        let named = base.named(&format!("{layer}.weight"));
        if named.is_empty() {
            return Err(wrong("is not in it"));
        }
        let ([rank, inputs], [outputs, also_rank]) = (a.shape.as_slice(), b.shape.as_slice())
        else {
            continue; // A convolution's.
        };
        if magnitude.is_some_and(|lengths| lengths.shape.iter().product::<u64>() != *outputs) {
            return Err(wrong("has another number of magnitudes than outputs"));
        }
        let fits = named.iter().any(|base| {
            let shape = base.shape();
            let sides = [(shape.rows, shape.cols), (shape.cols, shape.rows)];
            rank == also_rank && sides.contains(&(*outputs, *inputs))
        });
        if !fits {
            return Err(wrong("has other rows and columns there"));
        }
    }
    Ok(layers.len() as u64)
}
