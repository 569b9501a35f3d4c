//! What a tensor may be predicted from: the tensors of the base, and those of the other versions
//! that references name, by what their names mean.
//!
//! May use: tiers 0 to 4. Holds: the same store and base give the same relatives in the same
//! order, the base's first.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use store_format::commit::Commit;
use store_format::ids::{CommitId, ManifestId};
use store_format::manifest::Manifest;
use store_format::reference::ReferenceTable;

use crate::bytes::ReadAt;
use crate::error::{Kind, Result};
use crate::flow::approach::BaseTensor;
use crate::flow::partial::StoredFile;
use crate::flow::peft::{self, Config, Part, part_of_adapter};
use crate::flow::read::Rebuilder;
use crate::flow::tree::{self, Leafy};
use crate::layout::names;
use crate::plan::pair::BaseFile;
use crate::predict::adapter::Form;

/// The files of a version, by path.
pub type BaseFiles = Vec<(String, Arc<BaseFile>)>;

/// Other versions that are looked at.
const VERSIONS_MAX: usize = 32;

/// An adapter of a layer.
#[derive(Clone, Debug)]
pub struct LayerAdapter {
    /// Rank rows of the layer's inputs.
    pub a: BaseTensor,
    /// A row of the rank for each output.
    pub b: BaseTensor,
    /// The length of each output's row, for [`Form::Decomposed`].
    pub magnitude: Option<BaseTensor>,
    /// What their product is multiplied by.
    pub scale: f32,
    /// How the layer lies in its weight.
    pub form: Form,
}

impl LayerAdapter {
    /// What a merge of it into a base follows from, in the order of a recipe.
    #[must_use]
    pub fn sources(&self, base: &BaseTensor) -> Vec<BaseTensor> {
        let parts = [base, &self.a, &self.b].into_iter();
        parts.chain(&self.magnitude).cloned().collect()
    }
}

/// Tensors and adapters by the name of the weight that they are or change.
#[derive(Debug, Default)]
pub struct Relatives {
    tensors: HashMap<String, Vec<BaseTensor>>,
    adapters: HashMap<String, Vec<LayerAdapter>>,
    unmergeable: Option<String>,
}

impl Relatives {
    /// Of the base's files, which are among `manifests`, then of every version that a reference
    /// names. What is hurt is left out.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn of(
        rebuilder: &Rebuilder,
        table: &ReferenceTable,
        base: Option<CommitId>,
        base_files: &BaseFiles,
        mut manifests: Manifests,
    ) -> Result<Self> {
        let mut relatives = Self::of_files(rebuilder, base_files)?;
        let mut seen: BTreeSet<CommitId> = base.into_iter().collect();
        for reference in &table.references {
            let commit = &reference.commit;
            if seen.len() > VERSIONS_MAX || !seen.insert(*commit) {
                continue;
            }
            if let Some(files) = whole(manifests.files_of(rebuilder, commit))? {
                relatives.add(rebuilder, &files)?;
            }
        }
        Ok(relatives)
    }

    /// Of these files alone.
    ///
    /// # Errors
    /// Failures of the disk.
    pub fn of_files(rebuilder: &Rebuilder, files: &BaseFiles) -> Result<Self> {
        let mut relatives = Self::default();
        relatives.add(rebuilder, files)?;
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

    /// What kind of adapter is among these that cannot be merged, if there is one.
    #[must_use]
    pub fn unmergeable(&self) -> Option<&str> {
        self.unmergeable.as_deref()
    }

    fn add(&mut self, rebuilder: &Rebuilder, files: &BaseFiles) -> Result<()> {
        let configs = files.iter().filter_map(|(path, file)| {
            let (folder, name) = in_folder(path);
            (name == peft::CONFIG).then_some((folder, file))
        });
        let configs: HashMap<&str, &Arc<BaseFile>> = configs.collect();
        for (path, file) in files {
            let config = match configs.get(in_folder(path).0) {
                Some(config) => config_of(rebuilder, config)?,
                None => None,
            };
            let mut parts: HashMap<&str, [Option<usize>; Part::COUNT]> = HashMap::new();
            for (index, tensor) in file.manifest().tensors.iter().enumerate() {
                if let Some((layer, part)) = part_of_adapter(&tensor.name) {
                    parts.entry(layer).or_default()[part.place()] = Some(index);
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
            if let Some(what) = config.unmergeable() {
                self.unmergeable = Some(what);
                continue;
            }
            for (layer, parts) in parts {
                let tensor = |index| BaseTensor {
                    file: Arc::clone(file),
                    index,
                };
                let [Some(a), Some(b), magnitude] = parts.map(|part| part.map(tensor)) else {
                    continue;
                };
                let form = config.form();
                if (form == Form::Decomposed) != magnitude.is_some() {
                    continue;
                }
                let Some(scale) = config.scale(layer, a.shape().rows) else {
                    continue;
                };
                let adapter = LayerAdapter {
                    scale,
                    form,
                    a,
                    b,
                    magnitude,
                };
                let weight = meaning(&format!("{layer}.weight"));
                self.adapters.entry(weight).or_default().push(adapter);
            }
        }
        Ok(())
    }
}

/// The name under which a tensor is known whatever tool wrote it.
#[must_use]
pub fn meaning(name: &str) -> String {
    let name = name.strip_prefix(peft::PREFIX).unwrap_or(name);
    names::from_gguf(name).unwrap_or_else(|| name.to_owned())
}

/// The folder of a path, and its name there.
fn in_folder(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The configuration of an adapter in its file.
fn config_of(rebuilder: &Rebuilder, file: &BaseFile) -> Result<Option<Config>> {
    if file.manifest().bytes > peft::CONFIG_BYTES_MAX {
        return Ok(None);
    }
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
    Manifests::default().files_of(rebuilder, commit)
}

/// The manifests of several versions, which mostly have the same files: each is read and held
/// once.
#[derive(Debug, Default)]
pub struct Manifests {
    read: HashMap<ManifestId, Arc<BaseFile>>,
}

impl Manifests {
    /// As the function of this name.
    ///
    /// # Errors
    /// `NotFound` and `Corrupt` where the version is hurt.
    pub fn files_of(&mut self, rebuilder: &Rebuilder, commit: &CommitId) -> Result<BaseFiles> {
        let tree = rebuilder.object::<Commit>(commit)?.tree;
        let mut files = Vec::new();
        for leaf in tree::leaves(rebuilder, &tree)? {
            if let Leafy::File { manifest: id, .. } = leaf.node {
                let file = match self.read.get(&id) {
                    Some(file) => Arc::clone(file),
                    None => Arc::new(BaseFile::new(rebuilder.object::<Manifest>(&id)?)),
                };
                self.read.insert(id, Arc::clone(&file));
                files.push((leaf.path, file));
            }
        }
        Ok(files)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Level;
    use crate::flow::commit::{self, BaseChoice, Signature};
    use crate::par::{Pool, Threads};
    use crate::progress::Silent;
    use crate::store::Store;
    use crate::store::host::Host;

    #[test]
    fn versions_hold_a_file_that_they_share_once() {
        let dir = tempfile::TempDir::new().unwrap();
        let folder = dir.path().join("files");
        std::fs::create_dir(&folder).unwrap();
        let store = Store::create(&dir.path().join("store"), Host::system()).unwrap();
        let pool = Pool::new(Threads::new(1)).unwrap();
        std::fs::write(folder.join("same"), b"same").unwrap();
        let commits = [b"a", b"b"].map(|other| {
            std::fs::write(folder.join("other"), other).unwrap();
            let request = commit::Request {
                path: &folder,
                branch: "main",
                base: BaseChoice::Auto,
                kind: None,
                message: "m",
                signature: Signature::default(),
                attributes: Vec::new(),
                level: Level::Fast,
                head: None,
                work: None,
                factors: None,
                dry_run: false,
            };
            let made = commit::commit(&store, &pool, &request, &Silent).unwrap();
            made.commit
        });
        let rebuilder = Rebuilder::new(store.reader().unwrap());
        let mut manifests = Manifests::default();
        let [old, new] = commits.map(|id| manifests.files_of(&rebuilder, &id).unwrap());
        let paths = |files: &BaseFiles| files.iter().map(|(path, _)| path.clone()).collect();
        let (old_paths, new_paths): (Vec<_>, Vec<_>) = (paths(&old), paths(&new));
        assert_eq!(old_paths, ["other", "same"]);
        assert_eq!(old_paths, new_paths);
        let is_shared = |at: usize| Arc::ptr_eq(&old[at].1, &new[at].1);
        assert_eq!([is_shared(0), is_shared(1)], [false, true]);
    }
}
