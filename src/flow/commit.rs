//! Files to a new version on a branch.
//!
//! May use: tiers 0 to 4. Holds: what is reported was published and is durable; a failure before
//! leaves the store as it was.

use std::collections::BTreeSet;
use std::path::Path;

use store_format::commit::{Attribute, Commit, Derivation, Origin};
use store_format::ids::{CommitId, FileId};
use store_format::manifest::Manifest;
use store_format::record::Kind;
use store_format::reference::{BRANCHES, Change, ReferenceTable};

use crate::bytes::FileBytes;
use crate::codec::Level;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::flow::approach::Bases;
use crate::flow::choose;
use crate::flow::code::{self, Writer, Written};
use crate::flow::hint;
use crate::flow::links::{self, Entry};
use crate::flow::naming;
use crate::flow::read::Rebuilder;
use crate::flow::relatives::{BaseFiles, Manifests, Relatives, whole};
use crate::flow::scan::{Scanned, Stat, What, scan};
use crate::flow::stale;
use crate::flow::tree::{self, Leaf, Leafy};
use crate::flow::worktree::Head;
use crate::flow::write;
use crate::flow::{closure, revision};
use crate::layout;
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;
use crate::store::advance::{Deed, Outcome};

/// How often a file that changes, or a commit that a collection overtook, is tried again.
const TRIES: usize = 3;

/// Which version the tensors are compared with.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum BaseChoice {
    /// What the branch points to.
    #[default]
    Auto,
    /// Nothing.
    None,
    /// A stated version.
    Revision(String),
}

/// Who, and when.
#[derive(Clone, Debug, Default)]
pub struct Signature {
    /// `Name <address>`.
    pub author: String,
    /// Seconds since 1970 (UTC).
    pub time: i64,
    /// The offset from UTC in minutes.
    pub offset_minutes: i32,
}

/// What to commit, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// A directory or a file.
    pub path: &'a Path,
    /// The branch, without `heads/`.
    pub branch: &'a str,
    /// What it is compared with.
    pub base: BaseChoice,
    /// How it was made from the base, where that is stated.
    pub kind: Option<Derivation>,
    /// The message.
    pub message: &'a str,
    /// Who, and when.
    pub signature: Signature,
    /// Attributes, ascending by namespace.
    pub attributes: Vec<Attribute>,
    /// How hard to try.
    pub level: Level,
    /// A folder of factors by which an operation changed tensors of the base: for each file one
    /// of the same path ([`crate::flow::hint`]).
    pub factors: Option<&'a Path>,
    /// What `HEAD` stands for.
    pub head: Option<CommitId>,
    /// Where the whole work tree is committed to the branch that it follows: what it holds.
    pub work: Option<&'a Head>,
    /// Stop before publishing.
    pub dry_run: bool,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The new version.
    pub commit: CommitId,
    /// What its tensors were compared with.
    pub base: Option<CommitId>,
    /// How it was made.
    pub kind: Option<Derivation>,
    /// Whether the branch was there and its version has the same content.
    pub unchanged: bool,
    /// Files in it.
    pub files: u64,
    /// Their lengths together.
    pub logical_bytes: u64,
    /// Bytes that the packs grew by.
    pub new_bytes: u64,
    /// Chunks that the store held, and those that are new.
    pub chunks: Written,
    /// What the files are, for the state cache: path, state, identity.
    pub observed: Vec<(String, Stat, FileId)>,
    /// Files that looked like a known layout but were taken as opaque, and why.
    pub notes: Vec<(String, String)>,
}

/// Commits what lies at a path.
///
/// # Errors
/// `NotFound` for a path or base that is not there, `Usage` for what cannot be stored,
/// `Conflict` where the branch moved or a file kept changing, failures of the disk.
pub fn commit(
    store: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    if store
        .head()?
        .table
        .get(&format!("{BRANCHES}{}", request.branch))
        .is_none()
    {
        naming::check_new(BRANCHES, request.branch)?;
    }
    progress.step("listing files");
    let scanned = scan(request.path, progress)?;
    check_links(&scanned)?;
    let total = scanned.iter().map(|one| one.what.bytes()).sum();
    for _ in 0..TRIES {
        progress.begin("committing", Some(total));
        let outcome = try_commit(store, pool, request, &scanned, progress)?;
        progress.end();
        match outcome {
            (Some(Outcome::Collected { .. }), _) => {}
            (Some(outcome), report) => return outcome.done().map(|_| report),
            (None, report) => return Ok(report),
        }
    }
    Err(Error::conflict("collections kept deleting what this commit needs").hint("try again"))
}

/// Refuses links that no checkout would make.
fn check_links(scanned: &[Scanned]) -> Result<()> {
    let entries = scanned.iter().map(|one| match &one.what {
        What::Symlink(to) => (&*one.path, Entry::Link(to)),
        What::EmptyDirectory => (&*one.path, Entry::Directory),
        What::File { .. } => (&*one.path, Entry::Other),
    });
    let Some(path) = links::leading_out(entries) else {
        return Ok(());
    };
    Err(Error::usage(format!(
        "cannot store '{path}': the link goes through what is not in the directory"
    ))
    .hint("lead it to its target by a path inside, or name it in '.sparseignore'"))
}

/// Refuses to take back what the branch of the work tree got since its files were taken.
fn check_taken_back(
    rebuilder: &Rebuilder,
    request: &Request<'_>,
    tip: Option<CommitId>,
    leaves: &[Leaf],
) -> Result<()> {
    let (Some(work), Some(tip), branch) = (request.work, tip, request.branch) else {
        return Ok(());
    };
    let Some(path) = stale::taken_back(rebuilder, work.commit, &tip, leaves)? else {
        return Ok(());
    };
    Err(Error::conflict(format!(
        "'{branch}' has moved since the files here were taken from it: '{path}' would become again \
         what it was"
    ))
    .hint(format!(
        "see what changed: sparse diff {branch}; then take it: sparse checkout {branch}; or commit \
         the files as they are: sparse commit {} -b {branch}",
        request.path.display()
    )))
}

fn try_commit(
    store: &Store,
    pool: &Pool,
    request: &Request<'_>,
    scanned: &[Scanned],
    progress: &dyn Progress,
) -> Result<(Option<Outcome>, Report)> {
    let txn = store.begin()?;
    let rebuilder = Rebuilder::new(txn.reader().clone());
    let table = &txn.head().table;
    let reference = format!("{BRANCHES}{}", request.branch);
    let parent = table.get(&reference);
    progress.step("finding relatives");
    let (base, known) = find_base(&rebuilder, table, request, parent)?;
    let level = request.level;
    let writer = Writer {
        txn: &txn,
        rebuilder: &rebuilder,
        pool,
        level,
        progress,
        keeps: !request.dry_run,
    };
    let mut report = Report::new(base, request.kind);
    let leaves = write_files(&writer, scanned, &known, &mut report)?;
    check_taken_back(&rebuilder, request, parent, &leaves)?;
    progress.step("publishing");
    let tree = tree::write(&txn, &leaves)?;
    let parents: Vec<_> = parent.into_iter().collect();
    if let Some(parent) = parent {
        let before = whole(rebuilder.object::<Commit>(&parent))?;
        let stated = &request.attributes;
        let same = |before: Commit| {
            before.tree == tree && (stated.is_empty() || *stated == before.attributes)
        };
        if before.is_some_and(same) {
            report.commit = parent;
            report.unchanged = true;
            if txn.is_empty() || request.dry_run {
                return Ok((None, report));
            }
            // Something of the content was lost, and is here again.
            report.new_bytes = txn.seal()?;
            let heal = deed(request, "heal", Vec::new());
            return Ok((Some(txn.publish(&heal, None)?), report));
        }
    }
    let origin = |base| Origin {
        kind: request.kind.unwrap_or(Derivation::Derived),
        base,
        stated: request.base != BaseChoice::Auto,
    };
    let commit = Commit {
        tree,
        parents,
        origins: base.map(origin).into_iter().collect(),
        author: request.signature.author.clone(),
        time: request.signature.time,
        offset_minutes: request.signature.offset_minutes,
        message: request.message.to_owned(),
        attributes: request.attributes.clone(),
    };
    report.commit = tree::put(&txn, Kind::Commit, &commit)?;
    if request.dry_run {
        report.new_bytes = txn.seal()?;
        return Ok((None, report));
    }
    let change = Change {
        name: reference,
        old: parent,
        new: Some(report.commit),
    };
    let deed = deed(request, "commit", vec![change]);
    let roots = [report.commit];
    let missing = |reader: &_| closure::missing(reader, &roots);
    report.new_bytes = txn.seal()?;
    Ok((Some(txn.publish(&deed, Some(&missing))?), report))
}

/// The version that tensors are compared with, and its files.
fn find_base<'r>(
    rebuilder: &Rebuilder,
    table: &ReferenceTable,
    request: &Request<'r>,
    parent: Option<CommitId>,
) -> Result<(Option<CommitId>, Known<'r>)> {
    let base = match &request.base {
        BaseChoice::None => None,
        BaseChoice::Auto => parent,
        BaseChoice::Revision(text) => {
            Some(revision::resolve(rebuilder, table, request.head, text)?)
        }
    };
    let mut manifests = Manifests::default();
    let base_files = match base {
        // A hurt version can be committed on: what is lost heals by it.
        Some(base) if request.base == BaseChoice::Auto => {
            whole(manifests.files_of(rebuilder, &base))?.unwrap_or_default()
        }
        Some(base) => manifests.files_of(rebuilder, &base)?,
        None => Vec::new(),
    };
    let relatives = match request.base {
        BaseChoice::None => None,
        BaseChoice::Auto | BaseChoice::Revision(_) => Some(Relatives::of(
            rebuilder,
            table,
            base,
            &base_files,
            manifests,
        )?),
    };
    let known = Known {
        base_files,
        relatives,
        factors: request.factors,
    };
    Ok((base, known))
}

/// What tensors may be predicted from.
struct Known<'a> {
    base_files: BaseFiles,
    /// None where nothing is to be compared.
    relatives: Option<Relatives>,
    /// See [`Request::factors`].
    factors: Option<&'a Path>,
}

impl Report {
    /// Nothing was done yet.
    #[must_use]
    pub fn new(base: Option<CommitId>, kind: Option<Derivation>) -> Self {
        Self {
            commit: CommitId::from_bytes([0; 32]),
            base,
            kind: base.map(|_| kind.unwrap_or(Derivation::Derived)),
            unchanged: false,
            files: 0,
            logical_bytes: 0,
            new_bytes: 0,
            chunks: Written::default(),
            observed: Vec::new(),
            notes: Vec::new(),
        }
    }
}

fn deed(request: &Request<'_>, verb: &str, changes: Vec<Change>) -> Deed {
    Deed {
        verb: verb.into(),
        author: request.signature.author.clone(),
        time: request.signature.time,
        changes,
        undoes: None,
    }
}

fn write_files(
    writer: &Writer<'_>,
    scanned: &[Scanned],
    known: &Known<'_>,
    report: &mut Report,
) -> Result<Vec<Leaf>> {
    let bases = Bases::of(&known.base_files);
    let mut leaves = Vec::with_capacity(scanned.len());
    for Scanned { path, what } in scanned {
        let node = match what {
            What::Symlink(target) => Leafy::Symlink(target.clone()),
            What::EmptyDirectory => Leafy::EmptyDirectory,
            What::File {
                source,
                stat,
                executable,
            } => {
                let (manifest, written) = write_file(writer, path, source, stat, known, &bases)
                    .map_err(|error| in_file(path, error))?;
                report.files += 1;
                report.logical_bytes += manifest.bytes;
                report.chunks.add(&written);
                report.observed.push((path.clone(), *stat, manifest.file));
                report
                    .notes
                    .extend(manifest.note.clone().map(|note| (path.clone(), note)));
                Leafy::File {
                    manifest: tree::put(writer.txn, Kind::Manifest, &manifest)?,
                    bytes: manifest.bytes,
                    executable: *executable,
                }
            }
        };
        leaves.push(Leaf {
            path: path.clone(),
            node,
        });
    }
    Ok(leaves)
}

/// Adds the file to a failure, unless that names it already.
fn in_file(path: &str, error: Error) -> Error {
    if error.kind() == ErrorKind::Interrupted || error.to_string().contains(path) {
        return error;
    }
    error.while_doing(format!("cannot commit '{path}'"))
}

/// Reads a file until its state is the same before and after; what was stored is right in any
/// case, but it should be what somebody meant.
fn write_file(
    writer: &Writer<'_>,
    path: &str,
    source: &Path,
    stat: &Stat,
    known: &Known<'_>,
    bases: &Bases<'_>,
) -> Result<(Manifest, Written)> {
    let mut before = *stat;
    for _ in 0..TRIES {
        let file = FileBytes::open(source)?;
        let outcome = layout::parse(path, &file).and_then(|parsed| {
            let mut approaches = bases.by_name(path, &parsed.tensors);
            let (made, of_factors) = match known.factors {
                Some(folder) => {
                    hint::changed_by_factors(writer, folder, path, &parsed, &mut approaches)?
                }
                None => (BTreeSet::new(), Written::default()),
            };
            writer.progress.step("choosing predictions");
            if let Some(relatives) = &known.relatives {
                let file = &file;
                approaches = choose::choose(writer, file, &parsed, relatives, approaches, &made)?;
            }
            writer.progress.step("coding");
            let (manifest, mut written) = write::file(writer, &file, &parsed, &approaches)?;
            written.add(&of_factors);
            Ok((manifest, written))
        });
        let after = Stat::of(&file.metadata()?);
        match outcome {
            Ok(done) if after == before => return Ok(done),
            Err(error) if after == before && error.kind() != ErrorKind::Conflict => {
                return Err(error);
            }
            Ok(_) | Err(_) => before = after,
        }
    }
    Err(code::changed().hint("commit it again once nobody writes to it"))
}
