//! References of another store, and all they need, into this one.
//!
//! May use: tiers 0 to 4. The other store may lie: each record is rebuilt and compared with its
//! id before it is kept, and a reference moves only when everything behind it is here.

use std::collections::HashSet;

use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, Change, NOTES, REMOTES, ReferenceTable, TAGS};

use crate::error::{Error, Kind, Result};
use crate::flow::commit::Signature;
use crate::flow::naming;
use crate::flow::read::Rebuilder;
use crate::flow::transfer::{self, Plan, TRIES, Trust};
use crate::flow::unite::{self, Standing};
use crate::flow::{ancestry, closure};
use crate::par::Pool;
use crate::progress::{Note, Progress};
use crate::store::Store;
use crate::store::advance::{Deed, Outcome};
use crate::store::txn::Txn;

/// Which references are fetched. Tags that point into what is fetched, and notes, come along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Select {
    /// All branches and tags.
    All,
    /// These branches and tags.
    Named(Vec<String>),
    /// Notes only.
    Notes,
}

/// Where the branches of the other side stand here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under<'a> {
    /// As `remotes/NAME/BRANCH`.
    Remote(&'a str),
    /// As branches of this store: for a copy that was just made.
    Branches,
}

/// What to fetch, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Which references.
    pub select: Select,
    /// Where they stand here.
    pub under: Under<'a>,
    /// Who, and when.
    pub signature: Signature,
    /// The verb, as typed.
    pub verb: &'a str,
    /// Take nothing as complete that is here: what is missing of any version comes again, where
    /// the other side has it.
    pub heal: bool,
    /// Stop before anything is transferred.
    pub dry_run: bool,
}

/// A reference that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its name on the other side.
    pub there: String,
    /// Its full name here.
    pub here: String,
    /// What it pointed to here.
    pub old: Option<CommitId>,
    /// What it points to now.
    pub new: CommitId,
    /// Whether commits that it pointed to are no longer behind it.
    pub forced: bool,
}

/// What a fetch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The references, ascending by their names there; those that stand still too.
    pub refs: Vec<Moved>,
    /// Lengths of the files that are new here.
    pub logical_bytes: u64,
    /// Bytes that came.
    pub received_bytes: u64,
}

/// Fetches.
///
/// # Errors
/// `NotFound` for a name that is not there, `Corrupt` where the other store lies or is hurt,
/// `Conflict` where others keep being faster, failures of the disks.
pub fn fetch(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut last = None;
    let mut received_bytes = 0;
    for _ in 0..TRIES {
        match try_fetch(near, far, pool, request, progress) {
            Ok((Some(outcome @ (Outcome::Collected { .. } | Outcome::Moved { .. })), report)) => {
                received_bytes += report.received_bytes;
                last = outcome.done().err();
            }
            Ok((_, mut report)) => {
                report.received_bytes += received_bytes;
                return Ok(report);
            }
            // A collection over there moved a record between the look and the read.
            Err(Failure::Gone(error)) => last = Some(error),
            Err(Failure::Final(error)) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::conflict("others keep being faster").hint("try again")))
}

enum Failure {
    Gone(Error),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

fn gone(error: Error) -> Failure {
    match error.kind() {
        Kind::NotFound => Failure::Gone(error),
        _ => Failure::Final(error),
    }
}

fn try_fetch(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> std::result::Result<(Option<Outcome>, Report), Failure> {
    let theirs = far.head()?.table;
    let from = Rebuilder::new(far.reader()?);
    let txn = match request.dry_run {
        true => None,
        false => Some(near.begin()?),
    };
    let reader = txn
        .as_ref()
        .map_or_else(|| near.reader(), |txn| Ok(txn.reader().clone()))?;
    let ours = txn.as_ref().map_or_else(
        || near.head().map(|head| head.table),
        |txn| Ok(txn.head().table.clone()),
    )?;
    let rebuilder = Rebuilder::new(reader.clone());
    let tips = ours.references.iter().map(|reference| reference.commit);
    let complete = match request.heal {
        true => HashSet::new(),
        false => ancestry::behind(&rebuilder, tips.clone())?,
    };

    let mut refs = selected(&theirs, &ours, request)?;
    let notes = (ours.get(NOTES), theirs.get(NOTES));
    let standing = unite::standing(&rebuilder, &from, notes.0, notes.1)?;
    let mut wanted: Vec<_> = refs.iter().map(|moved| moved.new).collect();
    wanted.extend(notes.1.filter(|_| standing != Standing::Behind));
    if request.heal {
        wanted.extend(tips.filter(|tip| from.reader().contains(&(*tip).into())));
    }
    progress.begin("looking", None);
    let plan = transfer::plan(&from, &rebuilder, &reader, &wanted, &complete, progress);
    let plan = plan.map_err(gone)?;
    let followed = followed_tags(&theirs, &ours, request, &plan, &complete, progress);
    refs.extend(followed); // they point into the plan or into what is here: it need not grow
    refs.sort_by(|a, b| a.there.cmp(&b.there));
    for moved in &mut refs {
        moved.forced = was_forced(&rebuilder, &from, moved)?;
    }
    let mut report = Report {
        refs,
        logical_bytes: plan.logical_bytes,
        received_bytes: plan.stored_bytes,
    };
    let Some(txn) = txn else {
        progress.end();
        return Ok((None, report));
    };

    progress.begin("fetching", Some(plan.plain_bytes));
    let trust = Trust::Stranger(&rebuilder);
    transfer::copy(from.reader(), &txn, &plan, &trust, pool, progress).map_err(gone)?;
    progress.end();

    let mut changes = changes(&report.refs);
    if let Some(new) = new_notes(&txn, &rebuilder, notes, standing, request)? {
        changes.push(Change {
            name: NOTES.into(),
            old: notes.0,
            new: Some(new),
        });
    }
    report.received_bytes = txn.seal()?;
    if changes.is_empty() && report.received_bytes == 0 {
        return Ok((None, report));
    }
    let outcome = publish(txn, changes, request)?;
    Ok((Some(outcome), report))
}

fn publish(txn: Txn, changes: Vec<Change>, request: &Request<'_>) -> Result<Outcome> {
    let roots: Vec<_> = changes.iter().filter_map(|change| change.new).collect();
    let deed = Deed {
        verb: request.verb.into(),
        author: request.signature.author.clone(),
        time: request.signature.time,
        changes,
        undoes: None,
    };
    txn.publish(&deed, Some(&|reader| closure::missing(reader, &roots)))
}

fn changes(refs: &[Moved]) -> Vec<Change> {
    let moved = refs.iter().filter(|moved| moved.old != Some(moved.new));
    moved
        .map(|moved| Change {
            name: moved.here.clone(),
            old: moved.old,
            new: Some(moved.new),
        })
        .collect()
}

fn new_notes(
    txn: &Txn,
    rebuilder: &Rebuilder,
    (here, there): (Option<CommitId>, Option<CommitId>),
    standing: Standing,
    request: &Request<'_>,
) -> Result<Option<CommitId>> {
    match (standing, here, there) {
        (Standing::Behind, ..) | (_, _, None) => Ok(None),
        (Standing::Ahead, _, Some(there)) | (Standing::Apart, None, Some(there)) => Ok(Some(there)),
        (Standing::Apart, Some(here), Some(there)) => {
            unite::commits(txn, rebuilder, here, there, &request.signature).map(Some)
        }
    }
}

/// The references that were asked for.
fn selected(
    theirs: &ReferenceTable,
    ours: &ReferenceTable,
    request: &Request<'_>,
) -> Result<Vec<Moved>> {
    let is_offered = |name: &str| name.starts_with(BRANCHES) || name.starts_with(TAGS);
    let names: Vec<String> = match &request.select {
        Select::Notes => Vec::new(),
        Select::All => {
            let references = theirs
                .references
                .iter()
                .map(|reference| reference.name.clone());
            let known_tag = |name: &str| name.starts_with(TAGS) && ours.get(name).is_some();
            // Tags stay where they are.
            references
                .filter(|name| is_offered(name) && !known_tag(name))
                .collect()
        }
        Select::Named(texts) => {
            let mut names = Vec::new();
            for text in texts {
                let found = naming::full(theirs, text)?;
                names.push(found.ok_or_else(|| unknown(theirs, text))?);
            }
            names.sort_unstable();
            names.dedup();
            names
        }
    };
    let mut refs = Vec::new();
    for there in names {
        let Some(new) = theirs.get(&there) else {
            continue;
        };
        let here = match (there.strip_prefix(BRANCHES), request.under) {
            (Some(branch), Under::Remote(remote)) => format!("{REMOTES}{remote}/{branch}"),
            _ => there.clone(),
        };
        let old = ours.get(&here);
        if here.starts_with(TAGS) && old.is_some_and(|old| old != new) {
            return Err(Error::conflict(format!("'{here}' points elsewhere here"))
                .hint("delete the tag here first, if it is wrong"));
        }
        refs.push(Moved {
            there,
            here,
            old,
            new,
            forced: false,
        });
    }
    Ok(refs)
}

fn unknown(theirs: &ReferenceTable, text: &str) -> Error {
    let error = Error::not_found(format!("there is no branch or tag '{text}' over there"));
    let names = theirs.references.iter().filter_map(|reference| {
        let name = reference.name.strip_prefix(BRANCHES);
        name.or_else(|| reference.name.strip_prefix(TAGS))
    });
    let names: Vec<_> = names.take(8).collect();
    match names.as_slice() {
        [] => error,
        names => error.hint(format!("there are: {}", names.join(", "))),
    }
}

/// Tags that are not here and point into what is fetched or here.
fn followed_tags(
    theirs: &ReferenceTable,
    ours: &ReferenceTable,
    request: &Request<'_>,
    plan: &Plan,
    complete: &HashSet<CommitId>,
    progress: &dyn Progress,
) -> Vec<Moved> {
    let tags = theirs.references.iter();
    let tags = tags.filter(|reference| reference.name.starts_with(TAGS));
    let mut found = Vec::new();
    for tag in tags.filter(|_| request.select != Select::Notes) {
        match ours.get(&tag.name) {
            Some(known) if known != tag.commit => progress.note(
                Note::Warning,
                &format!(
                    "'{}' points elsewhere over there; left as it is here",
                    tag.name
                ),
            ),
            Some(_) => {}
            None if request.select == Select::All => {} // taken already
            None if named(request, &tag.name) => {}
            None if plan.commits.contains(&tag.commit) || complete.contains(&tag.commit) => {
                found.push(Moved {
                    there: tag.name.clone(),
                    here: tag.name.clone(),
                    old: None,
                    new: tag.commit,
                    forced: false,
                });
            }
            None => {}
        }
    }
    found
}

fn named(request: &Request<'_>, tag: &str) -> bool {
    let short = tag.strip_prefix(TAGS).unwrap_or(tag);
    match &request.select {
        Select::Named(names) => names.iter().any(|name| name == tag || name == short),
        Select::All | Select::Notes => false,
    }
}

fn was_forced(near: &Rebuilder, far: &Rebuilder, moved: &Moved) -> Result<bool> {
    match moved.old {
        Some(old) if old != moved.new => Ok(!ancestry::is_ancestor(near, &old, &moved.new)?
            && !ancestry::is_ancestor(far, &old, &moved.new)?),
        _ => Ok(false),
    }
}
