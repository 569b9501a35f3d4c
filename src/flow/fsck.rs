//! Whether a store is whole: every file of it, and everything that its versions need.
//!
//! May use: tiers 0 to 4. Changes nothing. Holds: what is damaged is named, with the files of
//! the versions that are hurt by it; what can be made again is told apart as harmless.

use std::collections::{BTreeSet, HashSet};

use store_format::ids::{CommitId, PackId, RecordId};
use store_format::reference::Operation;

use crate::error::{Error, Kind, Result};
use crate::flow::ancestry;
use crate::flow::closure::Closure;
use crate::flow::fsck_graph;
use crate::flow::read::Rebuilder;
use crate::flow::worktree::Head;
use crate::par::{Budget, Pool};
use crate::progress::Progress;
use crate::store::Store;
use crate::store::check::{ChainState, HurtFile, PackState};
use crate::store::gc::GcPolicy;
use crate::store::paths;
use crate::store::read::Reader;

/// Packs in work; each is read a record at a time.
const PACKS_IN_FLIGHT: Budget = Budget {
    bytes_max: 1 << 30,
    count_max: 64,
};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost: it can be made again, or nothing needs it.
    Harmless,
    /// Data of record is damaged.
    Hurt,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A reference table.
    Table,
    /// An operation record.
    Operation,
    /// An operation that no table names.
    Unpublished,
    /// A pack's file.
    Pack,
    /// A record in a pack.
    Record,
    /// An index file or a merged index.
    Index,
    /// A list of condemned packs.
    Condemned,
    /// The work tree's `HEAD`.
    Head,
    /// A commit, tree, manifest or attachment that is damaged or missing.
    Object,
    /// A chunk of a version that cannot be rebuilt.
    Chunk,
}

impl What {
    /// The word that people and programs see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Operation => "operation",
            Self::Unpublished => "unpublished",
            Self::Pack => "pack",
            Self::Record => "record",
            Self::Index => "index",
            Self::Condemned => "condemned",
            Self::Head => "head",
            Self::Object => "object",
            Self::Chunk => "chunk",
        }
    }
}

/// One thing that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub what: What,
    /// The file of the store, where there is one.
    pub file: Option<String>,
    /// The record, where there is one.
    pub id: Option<RecordId>,
    /// What is wrong.
    pub why: String,
}

/// A file of a version that cannot be checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HurtPath {
    /// The version.
    pub commit: CommitId,
    /// The path in it; nothing where all of it is lost.
    pub path: Option<String>,
    /// The branches and tags that reach the version.
    pub references: Vec<String>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything that is not as it must be.
    pub findings: Vec<Finding>,
    /// Files of versions that are hurt.
    pub hurt: Vec<HurtPath>,
    /// Packs that were looked at.
    pub packs: u64,
    /// Records that were looked at.
    pub records: u64,
    /// Bytes of packs.
    pub bytes: u64,
    /// Versions that were looked at.
    pub commits: u64,
    /// Different files that were looked at.
    pub files: u64,
    /// Plain bytes that were rebuilt and compared.
    pub rebuilt_bytes: u64,
    /// Packs with damage of any kind.
    pub bad_packs: BTreeSet<PackId>,
    /// Copies of records that cannot be used.
    pub bad_copies: HashSet<(PackId, RecordId)>,
    /// Index files that differ from the packs.
    pub indexes: Vec<HurtFile>,
    /// Whether the newest reference table is damaged.
    pub newest_table_is_hurt: bool,
}

impl Report {
    /// Whether data of record is damaged.
    #[must_use]
    pub fn is_hurt(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.severity == Severity::Hurt)
    }

    pub(super) fn find(
        &mut self,
        severity: Severity,
        what: What,
        file: Option<String>,
        why: impl Into<String>,
    ) {
        self.findings.push(Finding {
            severity,
            what,
            file,
            id: None,
            why: why.into(),
        });
    }

    /// Notes a copy that cannot be used.
    pub(super) fn bad_copy(&mut self, pack: PackId, id: RecordId, why: String) {
        self.bad_packs.insert(pack);
        if self.bad_copies.insert((pack, id)) {
            self.findings.push(Finding {
                severity: Severity::Hurt,
                what: What::Record,
                file: Some(paths::pack(&pack)),
                id: Some(id),
                why,
            });
        }
    }
}

/// Checks a store; with `read_data` every chunk is rebuilt and every file put together.
///
/// # Errors
/// Only what stops the check: a wish to stop, a directory that cannot be listed, a file that may
/// not be read.
pub fn fsck(
    store: &Store,
    pool: &Pool,
    read_data: bool,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut report = Report::default();
    let chain = tables_and_operations(store, &mut report)?;
    condemned(store, &mut report)?;
    let reader = store.reader()?;
    packs(store, &reader, pool, read_data, &mut report, progress)?;
    indexes(store, &mut report)?;
    let roots = roots(store, &reader, &chain, &mut report);
    let rebuilder = Rebuilder::new(reader);
    let mut found = fsck_graph::walk(&rebuilder, &roots, &mut report, progress)?;
    if read_data {
        fsck_graph::rebuild(&rebuilder, pool, &mut found, &mut report, progress)?;
    }
    fsck_graph::name_hurt(&rebuilder, &roots, &found, &mut report)?;
    Ok(report)
}

fn tables_and_operations(store: &Store, report: &mut Report) -> Result<ChainState> {
    let chain = store.check_chain()?;
    if chain.newest.is_none() {
        report.newest_table_is_hurt = true;
        let dir = paths::REFS.to_owned();
        report.find(
            Severity::Hurt,
            What::Table,
            Some(dir),
            "there is no reference table",
        );
    }
    for (number, file) in &chain.tables {
        let is_newest = chain.newest == Some(*number);
        report.newest_table_is_hurt |= is_newest;
        let severity = if is_newest {
            Severity::Hurt
        } else {
            Severity::Harmless // the newest table is the state; older ones are history
        };
        let path = Some(file.path.clone());
        report.find(severity, What::Table, path, file.why.clone());
    }
    for file in &chain.broken {
        // The tables hold the state; what operations say beyond it is for undo.
        let why = format!("{}; undo reaches back only to what came after it", file.why);
        let path = Some(file.path.clone());
        report.find(Severity::Harmless, What::Operation, path, why);
    }
    for file in &chain.strays {
        let path = Some(file.path.clone());
        report.find(Severity::Harmless, What::Operation, path, file.why.clone());
    }
    for (id, operation) in &chain.unpublished {
        let path = Some(paths::operation(id));
        report.find(
            Severity::Harmless,
            What::Unpublished,
            path,
            unpublished(operation),
        );
    }
    for (id, operation) in &chain.lost {
        report.newest_table_is_hurt = true;
        let path = Some(paths::operation(id));
        report.find(Severity::Hurt, What::Table, path, lost_table(operation));
    }
    Ok(chain)
}

fn lost_table(operation: &Operation) -> String {
    format!(
        "the reference table that it made is lost ('{}': {})",
        operation.verb,
        changes(operation)
    )
}

/// What an operation would have done, for whoever wonders where it went.
fn unpublished(operation: &Operation) -> String {
    format!(
        "a '{}' that was not finished ({})",
        operation.verb,
        changes(operation)
    )
}

fn changes(operation: &Operation) -> String {
    let changes = operation.changes.iter().map(|change| match change.new {
        Some(commit) => format!("{} at {commit:.12}", change.name),
        None => format!("no {}", change.name),
    });
    changes.collect::<Vec<_>>().join(", ")
}

fn condemned(store: &Store, report: &mut Report) -> Result<()> {
    for file in store.check_condemned()? {
        report.find(Severity::Hurt, What::Condemned, Some(file.path), file.why);
    }
    Ok(())
}

/// Every pack by itself: its own bytes and its records.
fn packs(
    store: &Store,
    reader: &Reader,
    pool: &Pool,
    read_data: bool,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let packs: Vec<_> = reader.view().packs().collect();
    let sizes = packs.iter().map(|pack| {
        let bytes = store.disk().file_bytes(&paths::pack(pack));
        bytes.ok().flatten().unwrap_or(0)
    });
    progress.begin("checking packs", Some(sizes.sum()));
    pool.ordered(
        packs.into_iter().map(|pack| Ok((1 << 20, pack))),
        PACKS_IN_FLIGHT,
        |pack| {
            let state = store.check_pack(&pack, read_data, &mut |header| {
                let record_bytes = header.stored_bytes;
                progress.advance(record_bytes, record_bytes);
                progress.check()
            })?;
            Ok((pack, state))
        },
        |(pack, state)| {
            note_pack(report, pack, state);
            Ok(())
        },
    )?;
    progress.end();
    Ok(())
}

fn note_pack(report: &mut Report, pack: PackId, state: PackState) {
    report.packs += 1;
    report.records += state.records;
    report.bytes += state.bytes;
    for why in state.damage {
        report.bad_packs.insert(pack);
        let path = Some(paths::pack(&pack));
        report.find(Severity::Hurt, What::Pack, path, why);
    }
    for (id, why) in state.hurt {
        report.bad_copy(pack, id, why);
    }
}

fn indexes(store: &Store, report: &mut Report) -> Result<()> {
    report.indexes = store.check_indexes()?;
    for file in report.indexes.clone() {
        report.find(Severity::Harmless, What::Index, Some(file.path), file.why);
    }
    Ok(())
}

/// A version to look at, and what names it.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// The version.
    pub(super) commit: CommitId,
    /// The branch, tag or `HEAD`; nothing for what only undo reaches.
    pub(super) name: Option<String>,
}

fn roots(store: &Store, reader: &Reader, chain: &ChainState, report: &mut Report) -> Vec<Root> {
    let mut roots = Vec::new();
    // Tables that cannot be read were reported.
    let table = store.head().ok().map(|head| head.table);
    for reference in table.iter().flat_map(|table| &table.references) {
        roots.push(Root {
            commit: reference.commit,
            name: Some(reference.name.clone()),
        });
    }
    match Head::read(store) {
        Ok(Some(work)) => {
            let branch = work.branch.as_ref().map(|branch| format!("heads/{branch}"));
            let points_to = branch.as_ref().and_then(|name| table.as_ref()?.get(name));
            match work.commit {
                Some(commit) if !reader.contains(&commit.into()) => {
                    let why = format!("it names commit {commit:.12}, which is not here");
                    report.find(Severity::Hurt, What::Head, Some("HEAD".into()), why);
                }
                Some(commit) => {
                    if branch.is_some() && points_to.is_none() {
                        let why = "it follows a branch that is not there";
                        let file = Some("HEAD".into());
                        report.find(Severity::Harmless, What::Head, file, why);
                    }
                    roots.push(Root {
                        commit,
                        name: Some("HEAD".into()),
                    });
                }
                None => {}
            }
        }
        Ok(None) => {}
        Err(error) => report.find(
            Severity::Hurt,
            What::Head,
            Some("HEAD".into()),
            error.to_string(),
        ),
    }
    let for_undo = kept_for_undo(reader, chain, &roots);
    roots.extend(for_undo);
    roots
}

/// What undo may want, as far as it is here. What an operation before a collection left may have
/// been collected, in parts too: it counts where nothing of it is missing.
fn kept_for_undo(reader: &Reader, chain: &ChainState, named: &[Root]) -> Vec<Root> {
    let rebuilder = Rebuilder::new(reader.clone());
    let tips = named.iter().map(|root| root.commit);
    // What cannot be read is reported by the walk.
    let reached = ancestry::behind(&rebuilder, tips).unwrap_or_default();
    let is_gone = |commit: CommitId| {
        let mut closure = Closure::default();
        let found = closure.add(&rebuilder, &[commit], &|id| reached.contains(id));
        let missing = (&closure.missing_objects, &closure.missing_chunks);
        found.is_ok() && !(missing.0.is_empty() && missing.1.is_empty())
    };
    let kept = usize::try_from(GcPolicy::default().keep_operations).unwrap_or(usize::MAX);
    let (mut roots, mut is_collected) = (Vec::new(), false);
    for (_, operation) in chain.operations.iter().take(kept) {
        is_collected |= operation.collection.is_some();
        for change in &operation.changes {
            for commit in [change.old, change.new].into_iter().flatten() {
                if reader.contains(&commit.into()) && !(is_collected && is_gone(commit)) {
                    roots.push(Root { commit, name: None });
                }
            }
        }
    }
    roots
}

/// A failure and its nearest cause in one line.
pub(super) fn told(error: &Error) -> String {
    match error.causes().first() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Passes on only what stops a check.
pub(super) fn unless_stopped<T>(result: Result<T>) -> Result<std::result::Result<T, Error>> {
    match result {
        Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Forbidden) => Err(error),
        other => Ok(other),
    }
}
