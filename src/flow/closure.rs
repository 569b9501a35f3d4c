//! Everything that a commit needs: its history, trees, manifests, chunks, and what those are
//! predicted from.
//!
//! May use: tiers 0 to 4. Reads objects and indexes, never chunks.

use std::collections::HashSet;

use store_format::commit::{Attachment, Commit};
use store_format::ids::{AttachmentId, CommitId, ManifestId, RecordId, TreeId};
use store_format::manifest::Manifest;
use store_format::tree::{Node, Tree};

use crate::error::{Kind as ErrorKind, Result};
use crate::flow::read::Rebuilder;
use crate::store::read::{Reader, Wholeness};

/// A walk over a graph of objects, each visited once.
#[derive(Default)]
pub struct Closure {
    /// Every record that was reached.
    pub live: HashSet<RecordId>,
    /// Objects that were reached and are not here: what lies behind them is not known.
    pub missing_objects: Vec<RecordId>,
    /// Chunks that were reached and cannot be rebuilt from what is here.
    pub missing_chunks: Vec<RecordId>,
    wholeness: Wholeness,
}

impl Closure {
    /// Adds all that the commits need. Commits for which `stop` holds, and what lies behind
    /// them, are taken as complete.
    ///
    /// # Errors
    /// Damaged objects; failures of the disk.
    pub fn add(
        &mut self,
        rebuilder: &Rebuilder,
        roots: &[CommitId],
        stop: &dyn Fn(&CommitId) -> bool,
    ) -> Result<()> {
        let mut open: Vec<Step> = roots.iter().copied().map(Step::Commit).collect();
        while let Some(step) = open.pop() {
            if let Step::Commit(commit) = &step
                && stop(commit)
            {
                continue;
            }
            let id = step.id();
            if !self.live.insert(id) {
                continue;
            }
            match self.visit(rebuilder, &step, &mut open) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.missing_objects.push(id),
                other => other?,
            }
        }
        Ok(())
    }

    fn visit(&mut self, rebuilder: &Rebuilder, step: &Step, open: &mut Vec<Step>) -> Result<()> {
        match step {
            Step::Commit(id) => {
                let commit = rebuilder.object::<Commit>(id)?;
                open.extend(commit.parents.into_iter().map(Step::Commit));
                open.extend(
                    commit
                        .origins
                        .into_iter()
                        .map(|origin| Step::Commit(origin.base)),
                );
                open.push(Step::Tree(commit.tree));
            }
            Step::Tree(id) => {
                for entry in rebuilder.object::<Tree>(id)?.entries {
                    match entry.node {
                        Node::File { manifest, .. } => open.push(Step::Manifest(manifest)),
                        Node::Tree(tree) => open.push(Step::Tree(tree)),
                        Node::Attachment(id) => open.push(Step::Attachment(id)),
                        Node::Symlink(_) => {}
                    }
                }
            }
            Step::Manifest(id) => {
                for chunk in rebuilder.object::<Manifest>(id)?.chunks {
                    self.chunk(rebuilder.reader(), chunk.id.into());
                }
            }
            Step::Attachment(id) => {
                rebuilder.object::<Attachment>(id)?;
            }
        }
        Ok(())
    }

    /// A chunk and, by the indexes, what every copy of it is predicted from.
    fn chunk(&mut self, reader: &Reader, id: RecordId) {
        if !self.live.contains(&id) && self.wholeness.depth(reader, &id).is_none() {
            self.missing_chunks.push(id);
        }
        let mut open = vec![id];
        while let Some(id) = open.pop() {
            if !self.live.insert(id) {
                continue;
            }
            let places = reader.places(&id);
            open.extend(
                places
                    .iter()
                    .flat_map(|place| place.needs.iter().map(|id| RecordId::from(*id))),
            );
        }
    }
}

enum Step {
    Commit(CommitId),
    Tree(TreeId),
    Manifest(ManifestId),
    Attachment(AttachmentId),
}

impl Step {
    fn id(&self) -> RecordId {
        match self {
            Self::Commit(id) => (*id).into(),
            Self::Tree(id) => (*id).into(),
            Self::Manifest(id) => (*id).into(),
            Self::Attachment(id) => (*id).into(),
        }
    }
}

/// What is missing of all that the commits need.
///
/// # Errors
/// Damaged objects; failures of the disk.
pub fn missing(reader: &Reader, roots: &[CommitId]) -> Result<Vec<RecordId>> {
    let rebuilder = Rebuilder::new(reader.clone());
    let mut closure = Closure::default();
    closure.add(&rebuilder, roots, &|_| false)?;
    closure.missing_objects.append(&mut closure.missing_chunks);
    Ok(closure.missing_objects)
}
