//! What a tensor may be predicted from: the tensors of the base, and those of the other versions
//! that references name, by what their names mean.
//!
//! May use: tiers 0 to 4. Holds: the same store and base give the same relatives in the same
//! order, the base's first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use store_format::commit::Commit;
use store_format::ids::CommitId;
use store_format::manifest::Manifest;
use store_format::reference::ReferenceTable;

use crate::bytes::ReadAt;
use crate::error::{Kind, Result};
use crate::flow::approach::BaseTensor;
use crate::flow::partial::StoredFile;
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leafy};
use crate::layout::names;
use crate::plan::pair::BaseFile;
use crate::predict::adapter::Adapter;

/// The files of a version, by path.
pub type BaseFiles = Vec<(String, Arc<BaseFile>)>;

/// Other versions that are looked at.
const VERSIONS_MAX: usize = 32;

/// The longest configuration of an adapter that is read.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// An adapter of a layer.
#[derive(Clone, Debug)]
pub struct LayerAdapter {
    /// Rank rows of the layer's inputs.
    pub a: BaseTensor,
    /// A row of the rank for each output.
    pub b: BaseTensor,
    /// What their product is multiplied by.
    pub scale: f32,
    /// The layer's weight has a row for each input.
    pub by_input: bool,
}

/// Tensors and adapters by the name of the weight that they are or change.
#[derive(Default)]
pub struct Relatives {
    tensors: HashMap<String, Vec<BaseTensor>>,
    adapters: HashMap<String, Vec<LayerAdapter>>,
}

impl Relatives {
    /// Of the base's files, then of every version that a reference names. What is hurt is left
    /// out.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn of(
        rebuilder: &Rebuilder,
        table: &ReferenceTable,
        base: Option<CommitId>,
        base_files: &BaseFiles,
    ) -> Result<Self> {
        let mut relatives = Self::default();
        relatives.add(rebuilder, base_files)?;
        let mut seen: BTreeSet<CommitId> = base.into_iter().collect();
        for reference in &table.references {
            let commit = &reference.commit;
            if seen.len() > VERSIONS_MAX || !seen.insert(*commit) {
                continue;
            }
            if let Some(files) = whole(files_of(rebuilder, commit))? {
                relatives.add(rebuilder, &files)?;
            }
        }
        Ok(relatives)
    }

    /// The tensors with the meaning of a name, the base's first.
    #[must_use]
    pub fn named(&self, name: &str) -> &[BaseTensor] {
        self.tensors.get(&meaning(name)).map_or(&[], Vec::as_slice)
    }

    /// The adapters of the layer whose weight has this name.
    #[must_use]
    pub fn adapters(&self, name: &str) -> &[LayerAdapter] {
        self.adapters.get(&meaning(name)).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, rebuilder: &Rebuilder, files: &BaseFiles) -> Result<()> {
        for (path, file) in files {
            let config = config_beside(rebuilder, path, files)?;
            let mut halves: HashMap<&str, [Option<usize>; 2]> = HashMap::new();
            for (index, tensor) in file.manifest().tensors.iter().enumerate() {
                if let Some((layer, half)) = half_of_adapter(&tensor.name) {
                    halves.entry(layer).or_default()[half] = Some(index);
                } else if tensor.bytes > 0 {
                    let named = self.tensors.entry(meaning(&tensor.name)).or_default();
                    let other = |index| BaseTensor {
                        file: Arc::clone(file),
                        index,
                    };
                    named.push(other(index));
                }
            }
            let Some(config) = config else { continue };
            for (layer, halves) in halves {
                let [Some(a), Some(b)] = halves else { continue };
                let tensor = |index| BaseTensor {
                    file: Arc::clone(file),
                    index,
                };
                let (a, b) = (tensor(a), tensor(b));
                let adapter = LayerAdapter {
                    scale: config.scale(layer, a.shape().rows),
                    by_input: config.by_input,
                    a,
                    b,
                };
                let weight = meaning(&format!("{layer}.weight"));
                self.adapters.entry(weight).or_default().push(adapter);
            }
        }
        Ok(())
    }
}

/// The name under which a tensor is known whatever tool wrote it.
fn meaning(name: &str) -> String {
    let name = name.strip_prefix("base_model.model.").unwrap_or(name);
    names::from_gguf(name).unwrap_or_else(|| name.to_owned())
}

/// The layer whose adapter a tensor is half of: 0 for A, 1 for B.
fn half_of_adapter(name: &str) -> Option<(&str, usize)> {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    let (layer, half) = name.rsplit_once('.')?;
    match half {
        "lora_A" => Some((layer, 0)),
        "lora_B" => Some((layer, 1)),
        _ => None,
    }
}

/// What `adapter_config.json` says of an adapter (PEFT).
struct Config {
    alpha: f64,
    alphas: serde_json::Map<String, serde_json::Value>,
    is_rank_stabilised: bool,
    by_input: bool,
}

impl Config {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        let flag = |name: &str| value.get(name).and_then(serde_json::Value::as_bool);
        // A weight-decomposed adapter is merged by other arithmetic.
        if flag("use_dora") == Some(true) {
            return None;
        }
        let alphas = value.get("alpha_pattern").and_then(|v| v.as_object());
        Some(Self {
            alpha: value.get("lora_alpha")?.as_f64()?,
            alphas: alphas.cloned().unwrap_or_default(),
            is_rank_stabilised: flag("use_rslora").unwrap_or(false),
            by_input: flag("fan_in_fan_out").unwrap_or(false),
        })
    }

    /// The factor of a layer's product; patterns name layers by how their names end.
    fn scale(&self, layer: &str, rank: u64) -> f32 {
        let own = self.alphas.iter().find(|(pattern, _)| {
            let rest = layer.strip_suffix(pattern.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        });
        let alpha = own.and_then(|(_, alpha)| alpha.as_f64());
        let rank = u32::try_from(rank).unwrap_or(u32::MAX).max(1);
        Adapter::scale_of(alpha.unwrap_or(self.alpha), rank, self.is_rank_stabilised)
    }
}

/// The configuration in the folder of a file that holds an adapter.
fn config_beside(rebuilder: &Rebuilder, path: &str, files: &BaseFiles) -> Result<Option<Config>> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let wanted = if folder.is_empty() {
        "adapter_config.json".to_owned()
    } else {
        format!("{folder}/adapter_config.json")
    };
    let found = files.iter().find(|(path, _)| *path == wanted);
    let Some((_, file)) = found.filter(|(_, file)| file.manifest().bytes <= CONFIG_BYTES_MAX)
    else {
        return Ok(None);
    };
    let stored = StoredFile::new(rebuilder, file.manifest().clone());
    let bytes = usize::try_from(file.manifest().bytes).unwrap_or(0);
    let read = whole(stored.read_vec(0, bytes))?;
    Ok(read.and_then(|bytes| Config::parse(&bytes)))
}

/// The files of a version, with what finds the chunks under their bytes.
///
/// # Errors
/// `NotFound` and `Corrupt` where it is hurt.
pub fn files_of(rebuilder: &Rebuilder, commit: &CommitId) -> Result<BaseFiles> {
    let tree = rebuilder.object::<Commit>(commit)?.tree;
    let mut files = Vec::new();
    for leaf in tree::leaves(rebuilder, &tree)? {
        if let Leafy::File { manifest, .. } = leaf.node {
            let manifest = rebuilder.object::<Manifest>(&manifest)?;
            files.push((leaf.path, Arc::new(BaseFile::new(manifest))));
        }
    }
    Ok(files)
}

/// Nothing for what is lost or damaged.
///
/// # Errors
/// Every other failure.
pub fn whole<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if matches!(error.kind(), Kind::Corrupt | Kind::NotFound) => Ok(None),
        other => other.map(Some),
    }
}
