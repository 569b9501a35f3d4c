//! Some tensors of a version, as safetensors files that hold only those.
//!
//! May use: tiers 0 to 4. Reads the chunks that the tensors lie in, and the headers.

use std::collections::BTreeMap;

use store_format::layout::{Layout, Tensor};
use store_format::manifest::Manifest;
use store_format::record::View;

use crate::bytes::ReadAt;
use crate::error::{Error, Result};
use crate::flow::checkout::{IN_FLIGHT, Report, Request, make_parents, refuse_standing};
use crate::flow::output::{Directory, Unfinished};
use crate::flow::read::Rebuilder;
use crate::flow::tree::{Leaf, Leafy};
use crate::layout::{safetensors_metadata, safetensors_subset};
use crate::par::Pool;
use crate::plan::pair::BaseFile;
use crate::progress::Progress;

/// A stored file, read like one on disk.
pub struct StoredFile<'a> {
    rebuilder: &'a Rebuilder,
    file: BaseFile,
}

impl<'a> StoredFile<'a> {
    /// The file of a manifest.
    #[must_use]
    pub fn new(rebuilder: &'a Rebuilder, manifest: Manifest) -> Self {
        Self {
            rebuilder,
            file: BaseFile::new(manifest),
        }
    }
}

impl ReadAt for StoredFile<'_> {
    fn len(&self) -> u64 {
        self.file.manifest().bytes
    }

    fn read_at(&self, start: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = buffer.len() as u64;
        if start.checked_add(bytes).is_none_or(|end| end > self.len()) {
            return Err(Error::corrupt(
                "the file ends before the part that was asked for",
            ));
        }
        let mut view = View::default();
        self.file.parts(start, bytes, self.len(), &mut view);
        let mut rest = buffer;
        for part in view.parts {
            let bytes = usize::try_from(part.bytes).unwrap_or(usize::MAX);
            let Some((now, later)) = std::mem::take(&mut rest).split_at_mut_checked(bytes) else {
                break;
            };
            now.copy_from_slice(&self.rebuilder.view(&View { parts: vec![part] })?);
            rest = later;
        }
        Ok(())
    }
}

/// Checks out the tensors that the request's patterns fit.
///
/// # Errors
/// `NotFound` where nothing fits, `Conflict` where something else would be overwritten.
pub fn checkout(
    rebuilder: &Rebuilder,
    pool: &Pool,
    request: &Request<'_>,
    leaves: &[Leaf],
    progress: &dyn Progress,
) -> Result<Report> {
    let chosen = choose(rebuilder, request, leaves)?;
    let target = Directory::target(request.target)?;
    if !request.force {
        refuse_standing(&target, chosen.keys().copied())?;
    }
    let total = chosen
        .values()
        .flat_map(|(_, tensors)| tensors)
        .map(|tensor| tensor.bytes)
        .sum();
    progress.begin("checking out", Some(total));
    let mut report = Report {
        logical_bytes: total,
        ..Report::default()
    };
    for (path, (manifest, tensors)) in chosen {
        let (directory, name) = make_parents(&target, path)?;
        let mut file = directory.begin(name, false)?;
        report.written_bytes += write(rebuilder, pool, manifest, &tensors, &mut file, progress)?;
        file.finish()?;
        report.files += 1;
        report.written += 1;
    }
    progress.end();
    Ok(report)
}

/// The files that hold a tensor which a pattern fits, with those tensors.
fn choose<'l>(
    rebuilder: &Rebuilder,
    request: &Request<'_>,
    leaves: &'l [Leaf],
) -> Result<BTreeMap<&'l str, (Manifest, Vec<Tensor>)>> {
    let patterns: Vec<_> = request
        .tensors
        .iter()
        .map(|text| wildmatch::WildMatch::new(text))
        .collect();
    let mut chosen = BTreeMap::new();
    for leaf in leaves {
        let Leafy::File { manifest, .. } = &leaf.node else {
            continue;
        };
        let manifest = rebuilder.object::<Manifest>(manifest)?;
        let fits = |tensor: &&Tensor| patterns.iter().any(|pattern| pattern.matches(&tensor.name));
        let tensors: Vec<Tensor> = manifest.tensors.iter().filter(fits).cloned().collect();
        if manifest.layout == Layout::Safetensors && !tensors.is_empty() {
            chosen.insert(leaf.path.as_str(), (manifest, tensors));
        }
    }
    if chosen.is_empty() {
        return Err(
            Error::not_found(format!("no tensor fits '{}'", request.tensors.join("', '")))
                .hint("'sparse ls --tensors REV' lists them"),
        );
    }
    Ok(chosen)
}

/// Writes a safetensors file of these tensors; how many of their bytes it holds.
fn write(
    rebuilder: &Rebuilder,
    pool: &Pool,
    manifest: Manifest,
    tensors: &[Tensor],
    file: &mut Unfinished<'_>,
    progress: &dyn Progress,
) -> Result<u64> {
    let stored = StoredFile::new(rebuilder, manifest);
    let subset = safetensors_subset(tensors, &safetensors_metadata(&stored)?)?;
    file.append(&subset.header)?;
    let mut view = View::default();
    for (tensor, start) in subset.tensors.iter().zip(&subset.sources) {
        let end = start + tensor.bytes;
        stored.file.parts(*start, tensor.bytes, end, &mut view);
    }
    let jobs = view.parts.into_iter().map(|part| {
        let bytes = usize::try_from(part.bytes).unwrap_or(usize::MAX);
        Ok((bytes.saturating_mul(3), part))
    });
    pool.ordered(
        jobs,
        IN_FLIGHT,
        |part| rebuilder.view(&View { parts: vec![part] }),
        |bytes| {
            progress.advance(bytes.len() as u64, 0);
            file.append(&bytes)?;
            progress.check()
        },
    )?;
    Ok(subset.tensors.iter().map(|tensor| tensor.bytes).sum())
}
