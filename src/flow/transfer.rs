//! Records from one store to another: what is missing there, in an order in which each can be
//! rebuilt when it arrives.
//!
//! May use: tiers 0 to 4. Records travel as they are coded. What comes from a stranger is rebuilt
//! and compared with its id before it is appended, so a lie never enters a store.

use std::collections::{HashMap, HashSet};

use store_format::commit::{Attachment, Commit};
use store_format::ids::{AttachmentId, CommitId, ManifestId, RecordId, TreeId};
use store_format::limits;
use store_format::record::Kind as RecordKind;
use store_format::tree::{Node, Tree};

use crate::error::{Error, Kind, Result};
use crate::flow::read::Rebuilder;
use crate::flow::tree;
use crate::par::{Budget, Pool};
use crate::progress::Progress;
use crate::store::index::{Origin, Place};
use crate::store::pack_read::StoredRecord;
use crate::store::read::{Reader, Wholeness};
use crate::store::txn::Txn;

/// How often a transfer that a collection or another writer overtook is planned again.
pub const TRIES: usize = 5;

/// Records in work; each states its plain bytes three times, for its prediction and coded bytes.
const IN_FLIGHT: Budget = Budget {
    bytes_max: 160 << 20,
    count_max: 256,
};

/// What is to be transferred.
#[derive(Debug, Default)]
pub struct Plan {
    /// The copy of each record that travels; sources before what is predicted from them.
    pub records: Vec<(RecordId, Place)>,
    /// Commits that the other side lacks.
    pub commits: HashSet<CommitId>,
    /// Lengths of the files that the other side lacks.
    pub logical_bytes: u64,
    /// Plain bytes of the records.
    pub plain_bytes: u64,
    /// Bytes of the records as they travel.
    pub stored_bytes: u64,
}

/// Plans what `to` lacks of all that the commits need. `complete` are commits that it has with
/// all they need; `near` can read those of them that the walk meets.
///
/// # Errors
/// `NotFound` where `from` lacks something; damaged objects; failures of the disks.
pub fn plan(
    from: &Rebuilder,
    near: &Rebuilder,
    to: &Reader,
    wanted: &[CommitId],
    complete: &HashSet<CommitId>,
    progress: &dyn Progress,
) -> Result<Plan> {
    let mut planner = Planner {
        from,
        to,
        here: Wholeness::default(),
        there: Wholeness::default(),
        chosen: HashMap::new(),
        seen: HashSet::new(),
        plan: Plan::default(),
    };
    let (trees, edge) = planner.commits(wanted, complete)?;
    for commit in edge {
        planner.pass_over(near, &commit)?;
    }
    for tree in trees {
        planner.tree(&tree, 0, progress)?;
    }
    Ok(planner.finish())
}

struct Planner<'a> {
    from: &'a Rebuilder,
    to: &'a Reader,
    /// What the other side can rebuild, and what this one can.
    here: Wholeness,
    there: Wholeness,
    chosen: HashMap<RecordId, Place>,
    /// Trees, manifests and attachments that were dealt with.
    seen: HashSet<RecordId>,
    plan: Plan,
}

impl Planner<'_> {
    /// Takes the commits that are missing; gives their trees, and the complete ones behind them.
    fn commits(
        &mut self,
        wanted: &[CommitId],
        complete: &HashSet<CommitId>,
    ) -> Result<(Vec<TreeId>, HashSet<CommitId>)> {
        let mut open = wanted.to_vec();
        let (mut trees, mut edge) = (Vec::new(), HashSet::new());
        while let Some(id) = open.pop() {
            if complete.contains(&id) {
                edge.insert(id);
            } else if self.plan.commits.insert(id) {
                let commit = self.from.object::<Commit>(&id)?;
                self.object(id.into())?;
                open.extend(commit.parents);
                open.extend(commit.origins.iter().map(|origin| origin.base));
                trees.push(commit.tree);
            }
        }
        Ok((trees, edge))
    }

    /// Marks the objects of a complete commit, so that they are not read from afar.
    fn pass_over(&mut self, near: &Rebuilder, commit: &CommitId) -> Result<()> {
        let mut open = match near.object::<Commit>(commit) {
            Ok(commit) => vec![commit.tree],
            Err(error) if error.kind() == Kind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(id) = open.pop() {
            if !self.seen.insert(id.into()) {
                continue;
            }
            for entry in near.object::<Tree>(&id)?.entries {
                match entry.node {
                    Node::Tree(tree) => open.push(tree),
                    Node::File { manifest, .. } => {
                        self.seen.insert(manifest.into());
                    }
                    Node::Attachment(id) => {
                        self.seen.insert(id.into());
                    }
                    Node::Symlink(_) => {}
                }
            }
        }
        Ok(())
    }

    fn tree(&mut self, id: &TreeId, depth: usize, progress: &dyn Progress) -> Result<()> {
        if depth > limits::TREE_DEPTH_MAX {
            return Err(Error::corrupt("a tree lies too deep"));
        }
        if !self.seen.insert((*id).into()) {
            return Ok(());
        }
        progress.check()?;
        for entry in self.from.object::<Tree>(id)?.entries {
            match entry.node {
                Node::Tree(tree) => self.tree(&tree, depth + 1, progress)?,
                Node::File {
                    manifest, bytes, ..
                } => self.manifest(&manifest, bytes)?,
                Node::Attachment(id) => self.attachment(&id)?,
                Node::Symlink(_) => {}
            }
        }
        self.object((*id).into())
    }

    fn manifest(&mut self, id: &ManifestId, bytes: u64) -> Result<()> {
        if !self.seen.insert((*id).into()) {
            return Ok(());
        }
        let manifest = tree::manifest(self.from, id, bytes)?;
        let logical = &mut self.plan.logical_bytes;
        *logical = logical.saturating_add(manifest.bytes);
        for chunk in &manifest.chunks {
            self.chunk(chunk.id.into(), limits::DEPTH_MAX)?;
        }
        self.object((*id).into())
    }

    fn attachment(&mut self, id: &AttachmentId) -> Result<()> {
        if self.seen.insert((*id).into()) {
            self.from.object::<Attachment>(id)?;
            self.object((*id).into())?;
        }
        Ok(())
    }

    fn object(&mut self, id: RecordId) -> Result<()> {
        if self.to.contains(&id) {
            return Ok(());
        }
        let place = self.from.reader().places(&id).into_iter().next();
        let place = place.ok_or_else(|| absent(&id))?;
        self.chosen.insert(id, place);
        Ok(())
    }

    /// Sees to it that the other side can rebuild a chunk at a depth of at most `depth_max`: a
    /// record counts on its sources being less deep than itself.
    fn chunk(&mut self, id: RecordId, depth_max: u8) -> Result<()> {
        let mut open = vec![(id, depth_max)];
        while let Some((id, depth_max)) = open.pop() {
            let planned = self.chosen.get(&id).map(|place| place.entry.depth);
            if planned.is_some_and(|depth| depth <= depth_max) {
                continue;
            }
            let here = self.here.depth(self.to, &id);
            if here.is_some_and(|depth| depth <= depth_max) {
                continue;
            }
            let place = self.choose(&id, depth_max)?;
            let below = place.entry.depth.saturating_sub(1);
            let needs = place
                .needs
                .iter()
                .map(|need| (RecordId::from(*need), below));
            open.extend(needs);
            self.chosen.insert(id, place);
        }
        Ok(())
    }

    /// The shortest copy whose sources the other side has or gets anyway; else the least deep.
    fn choose(&mut self, id: &RecordId, depth_max: u8) -> Result<Place> {
        let reader = self.from.reader();
        let mut places = reader.places(id);
        // A record without depth needs side chunks only, and those need nothing: this ends.
        places.retain(|place| place.entry.depth <= depth_max && self.there.holds(reader, place));
        if places.len() > 1 {
            let ready: Vec<_> = places.iter().map(|place| self.is_ready(place)).collect();
            let ready = places.iter().zip(ready).filter(|(_, ready)| *ready);
            if let Some((place, _)) = ready.min_by_key(|(place, _)| place.entry.stored_bytes) {
                return Ok(place.clone());
            }
        }
        places.into_iter().next().ok_or_else(|| absent(id))
    }

    fn is_ready(&mut self, place: &Place) -> bool {
        let below = place.entry.depth.saturating_sub(1);
        place.needs.iter().all(|need| {
            let id = RecordId::from(*need);
            let planned = self.chosen.get(&id).map(|place| place.entry.depth);
            planned
                .or_else(|| self.here.depth(self.to, &id))
                .is_some_and(|depth| depth <= below)
        })
    }

    fn finish(mut self) -> Plan {
        let mut records: Vec<_> = self.chosen.into_iter().collect();
        records
            .sort_unstable_by_key(|(_, place)| (rank(place), pack_of(place), place.entry.offset));
        // A stranger's index may say anything.
        let sum = |bytes: fn(&Place) -> u64| {
            let all = records.iter().map(|(_, place)| bytes(place));
            all.fold(0, u64::saturating_add)
        };
        self.plan.stored_bytes = sum(record_bytes);
        self.plan.plain_bytes = sum(|place| place.entry.plain_bytes);
        self.plan.records = records;
        self.plan
    }
}

/// Sources come before what needs them, chunks before objects, and commits last.
fn rank(place: &Place) -> u8 {
    match place.entry.kind {
        RecordKind::Chunk if place.needs.is_empty() => 0,
        RecordKind::Chunk => place.entry.depth.saturating_add(1).min(100),
        RecordKind::Attachment => 101,
        RecordKind::Manifest => 102,
        RecordKind::Tree => 103,
        RecordKind::Commit => 104,
    }
}

fn pack_of(place: &Place) -> [u8; 32] {
    match place.origin {
        Origin::Pack(pack) => *pack.as_bytes(),
        Origin::Staged(_) => [0; 32],
    }
}

fn record_bytes(place: &Place) -> u64 {
    u64::from(place.entry.header_bytes).saturating_add(place.entry.stored_bytes)
}

fn absent(id: &RecordId) -> Error {
    Error::not_found(format!(
        "{id:.12} is missing in the store it should come from"
    ))
    .hint("run 'sparse fsck' there to see what is hurt")
}

/// Whether records are believed as they come.
pub enum Trust<'a> {
    /// They come from the own store, where they were checked when they were written.
    Own,
    /// Each is rebuilt, with what this reads, before it is appended.
    Stranger(&'a Rebuilder),
}

/// Appends the records of a plan.
///
/// # Errors
/// `Corrupt` where a record is not what its id says; `NotFound` where one is gone since; failures
/// of the disks.
pub fn copy(
    from: &Reader,
    txn: &Txn,
    plan: &Plan,
    trust: &Trust<'_>,
    pool: &Pool,
    progress: &dyn Progress,
) -> Result<()> {
    // What a record needs is of a lower rank: it was appended before the next rank begins.
    for ranked in plan.records.chunk_by(|(_, a), (_, b)| rank(a) == rank(b)) {
        let jobs = ranked.iter().map(|(id, place)| {
            progress.check()?;
            let plain = place.entry.plain_bytes.saturating_mul(2);
            let bytes = plain.saturating_add(record_bytes(place));
            Ok((usize::try_from(bytes).unwrap_or(usize::MAX), (id, place)))
        });
        let work = |(id, place): (&RecordId, &Place)| {
            let record = from.read(id, place)?;
            if let Trust::Stranger(rebuilder) = trust {
                rebuilder.check(&record)?;
            }
            Ok(record)
        };
        pool.ordered(jobs, IN_FLIGHT, work, |record: StoredRecord| {
            txn.append_stored(&record)?;
            let header = &record.header;
            progress.advance(header.plain_bytes, header.stored_bytes);
            txn.keep_full_packs()
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
