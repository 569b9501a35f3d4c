//! What a store holds, what that would take without it, and where the bytes went.
//!
//! May use: tiers 0 to 4. Reads indexes and objects, never chunks.

use std::collections::{BTreeMap, HashMap, HashSet};

use store_format::commit::Commit;
use store_format::ids::{CommitId, ManifestId, TreeId};
use store_format::layout::Layout;
use store_format::limits;
use store_format::manifest::Manifest;
use store_format::record::{Coding, Kind, Predictor};
use store_format::reference::{NOTES, ReferenceTable};
use store_format::tree::{Node, Tree};

use crate::error::{Error, Result};
use crate::flow::read::Rebuilder;

/// Records of one kind, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How many.
    pub records: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// What they take in packs, headers included.
    pub stored_bytes: u64,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The files of every version, each version counted in full.
    pub logical_bytes: u64,
    /// What the packs take.
    pub stored_bytes: u64,
    /// Versions that references reach.
    pub commits: u64,
    /// Branches and tags.
    pub references: u64,
    /// Files of every version.
    pub files: u64,
    /// Records of chunks.
    pub chunks: u64,
    /// Records of objects.
    pub objects: u64,
    /// Packs.
    pub packs: u64,
    /// Chunks by how they were predicted and coded.
    pub codings: BTreeMap<(Predictor, Coding), Share>,
    /// Different files by their layout, and their bytes; only where that was asked for.
    pub layouts: BTreeMap<Layout, (u64, u64)>,
}

/// Counts what a store holds; `layouts` reads every manifest besides.
///
/// # Errors
/// Damaged objects; failures of the disk.
pub fn stats(rebuilder: &Rebuilder, table: &ReferenceTable, layouts: bool) -> Result<Report> {
    // The record of attachments is no version of anything.
    let versions = table.references.iter();
    let versions = versions.filter(|reference| reference.name != NOTES);
    let tips: Vec<_> = versions.map(|reference| reference.commit).collect();
    let mut report = Report {
        references: tips.len() as u64,
        ..Report::default()
    };
    count_records(rebuilder, &mut report)?;
    let manifests = count_versions(rebuilder, tips, &mut report)?;
    if layouts {
        for id in manifests {
            let manifest = rebuilder.object::<Manifest>(&id)?;
            let (files, bytes) = report.layouts.entry(manifest.layout).or_default();
            *files += 1;
            *bytes += manifest.bytes;
        }
    }
    Ok(report)
}

fn count_records(rebuilder: &Rebuilder, report: &mut Report) -> Result<()> {
    let view = rebuilder.reader().view();
    for pack in view.packs() {
        report.packs += 1;
        report.stored_bytes += view.pack_bytes(&pack).unwrap_or(0);
        for (_, place) in view.records(&pack)? {
            let entry = place.entry;
            if entry.kind != Kind::Chunk {
                report.objects += 1;
                continue;
            }
            report.chunks += 1;
            let share = report.codings.entry((entry.predictor, entry.coding));
            let share = share.or_default();
            share.records += 1;
            share.plain_bytes += entry.plain_bytes;
            share.stored_bytes += u64::from(entry.header_bytes) + entry.stored_bytes;
        }
    }
    Ok(())
}

/// Counts versions and their files, and gives the different manifests.
fn count_versions(
    rebuilder: &Rebuilder,
    tips: Vec<CommitId>,
    report: &mut Report,
) -> Result<HashSet<ManifestId>> {
    let mut trees = Trees {
        rebuilder,
        known: HashMap::new(),
        manifests: HashSet::new(),
    };
    let mut open = tips;
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let commit = rebuilder.object::<Commit>(&id)?;
        let (files, bytes) = trees.count(&commit.tree, 0)?;
        report.commits += 1;
        report.files = report.files.saturating_add(files);
        report.logical_bytes = report.logical_bytes.saturating_add(bytes);
        open.extend(commit.parents);
    }
    Ok(trees.manifests)
}

/// Trees that were counted; versions share most of them.
struct Trees<'a> {
    rebuilder: &'a Rebuilder,
    known: HashMap<TreeId, (u64, u64)>,
    manifests: HashSet<ManifestId>,
}

impl Trees<'_> {
    fn count(&mut self, id: &TreeId, depth: usize) -> Result<(u64, u64)> {
        if let Some(known) = self.known.get(id) {
            return Ok(*known);
        }
        if depth > limits::TREE_DEPTH_MAX {
            return Err(Error::corrupt(format!("tree {id:.12} lies too deep")));
        }
        let (mut files, mut total) = (0, 0);
        for entry in self.rebuilder.object::<Tree>(id)?.entries {
            let (count, bytes) = match entry.node {
                Node::Tree(tree) => self.count(&tree, depth + 1)?,
                Node::File {
                    manifest, bytes, ..
                } => {
                    self.manifests.insert(manifest);
                    (1, bytes)
                }
                Node::Symlink(_) | Node::Attachment(_) => (0, 0),
            };
            // Lengths are claims, and trees may share what is below them.
            files = u64::saturating_add(files, count);
            total = u64::saturating_add(total, bytes);
        }
        self.known.insert(*id, (files, total));
        Ok((files, total))
    }
}
