//! References of this store, and all they need, into another.
//!
//! May use: tiers 0 to 4. Nothing moves over there before all that it needs is there, and no
//! commit of somebody else is lost unless that was asked for.

use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, Change, NOTES, REMOTES, ReferenceTable, TAGS};

use crate::error::{Error, Kind, Result};
use crate::flow::commit::Signature;
use crate::flow::fetch::{self, Moved, Select, Under};
use crate::flow::read::Rebuilder;
use crate::flow::transfer::{self, TRIES, Trust};
use crate::flow::{ancestry, closure};
use crate::par::Pool;
use crate::progress::{Note, Progress};
use crate::store::Store;
use crate::store::advance::{Deed, Outcome};

/// When a reference may move although commits are lost by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Force {
    /// Never.
    No,
    /// Always.
    Always,
    /// If it stands where it was last seen.
    Seen,
    /// If this one (a full name) stands at this commit; the others never.
    Expected(String, CommitId),
}

/// What to push, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Full names of branches and tags.
    pub names: Vec<String>,
    /// When they may move against history.
    pub force: Force,
    /// The name under which the other side's branches are remembered here, if it has one.
    pub remote: Option<&'a str>,
    /// Who, and when.
    pub signature: Signature,
    /// Stop before anything is transferred.
    pub dry_run: bool,
}

/// What a push did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The references; those that stand still too.
    pub refs: Vec<Moved>,
    /// Lengths of the files that are new over there.
    pub logical_bytes: u64,
    /// Bytes that were sent; in a dry run, those of the records that would be.
    pub sent_bytes: u64,
}

/// Pushes.
///
/// # Errors
/// `Conflict` where commits would be lost, `NotFound` where something is missing here, failures
/// of the disks or the line.
pub fn push(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Report> {
    let mut last = None;
    let mut sent_bytes = 0;
    for _ in 0..TRIES {
        if !request.dry_run {
            take_notes(near, far, pool, request, progress)?;
        }
        let (outcome, mut report) = try_push(near, far, pool, request, progress)?;
        sent_bytes += report.sent_bytes;
        match outcome {
            Some(outcome @ (Outcome::Collected { .. } | Outcome::Moved { .. })) => {
                last = outcome.done().err();
            }
            Some(Outcome::Done(_)) | None => {
                report.sent_bytes = sent_bytes;
                remember(near, request, &report, progress);
                return Ok(report);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::conflict("others keep being faster").hint("try again")))
}

/// Notes of others that are not here are taken first, so that both sides end with all.
fn take_notes(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<()> {
    let theirs = far.head()?.table.get(NOTES);
    let ours = near.head()?.table.get(NOTES);
    if theirs.is_none() || theirs == ours || ours.is_none() {
        return Ok(());
    }
    let request = fetch::Request {
        select: Select::Notes,
        under: Under::Branches,
        signature: request.signature.clone(),
        verb: "push",
        heal: false,
        dry_run: false,
    };
    fetch::fetch(near, far, pool, &request, progress).map(|_| ())
}

fn try_push(
    near: &Store,
    far: &Store,
    pool: &Pool,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<(Option<Outcome>, Report)> {
    let ours = near.head()?.table;
    let from = Rebuilder::new(near.reader()?);
    let txn = match request.dry_run {
        true => None,
        false => Some(far.begin()?),
    };
    let theirs = txn.as_ref().map_or_else(
        || far.head().map(|head| head.table),
        |txn| Ok(txn.head().table.clone()),
    )?;
    let reader = txn
        .as_ref()
        .map_or_else(|| far.reader(), |txn| Ok(txn.reader().clone()))?;
    let refs = decide(&from, &ours, &theirs, request)?;
    let notes = notes_to_push(&from, &ours, &theirs)?;

    let mut moving: Vec<Change> = refs
        .iter()
        .filter(|moved| moved.old != Some(moved.new))
        .map(|moved| Change {
            name: moved.there.clone(),
            old: moved.old,
            new: Some(moved.new),
        })
        .collect();
    moving.extend(notes);
    let mut report = Report {
        refs,
        ..Report::default()
    };
    if moving.is_empty() {
        return Ok((None, report));
    }
    let wanted: Vec<_> = moving.iter().filter_map(|change| change.new).collect();
    progress.begin("looking", None);
    // All that lies behind a reference over there is there.
    let tips = theirs.references.iter().map(|reference| reference.commit);
    let complete = ancestry::behind(&from, tips)?;
    let plan = transfer::plan(&from, &from, &reader, &wanted, &complete, progress)?;
    report.logical_bytes = plan.logical_bytes;
    let Some(txn) = txn else {
        progress.end();
        report.sent_bytes = plan.stored_bytes;
        return Ok((None, report));
    };
    progress.begin("pushing", Some(plan.plain_bytes));
    transfer::copy(from.reader(), &txn, &plan, &Trust::Own, pool, progress)?;
    report.sent_bytes = txn.seal()?;
    let deed = Deed {
        verb: "push".into(),
        author: request.signature.author.clone(),
        time: request.signature.time,
        changes: moving,
        undoes: None,
    };
    let outcome = txn.publish(&deed, Some(&|reader| closure::missing(reader, &wanted)))?;
    progress.end();
    Ok((Some(outcome), report))
}

/// What moves, or why it must not.
fn decide(
    rebuilder: &Rebuilder,
    ours: &ReferenceTable,
    theirs: &ReferenceTable,
    request: &Request<'_>,
) -> Result<Vec<Moved>> {
    let mut refs = Vec::new();
    if let Force::Expected(name, _) = &request.force
        && !request.names.contains(name)
    {
        return Err(Error::usage(format!(
            "'{name}' is not among what is pushed"
        )));
    }
    for name in &request.names {
        let new = ours
            .get(name)
            .ok_or_else(|| Error::not_found(format!("there is no '{name}' here")))?;
        let old = theirs.get(name);
        let mut moved = Moved {
            there: name.clone(),
            here: name.clone(),
            old,
            new,
            forced: false,
        };
        let follows = match old {
            None => true,
            Some(old) if old == new => true,
            Some(_) if name.starts_with(TAGS) => false,
            Some(old) => ancestry::is_ancestor(rebuilder, &old, &new)?,
        };
        if !follows || is_leased(request, name) {
            let allowed = may_force(ours, request, name, old)?;
            if !follows && !allowed {
                return Err(lost(rebuilder, name, old));
            }
            moved.forced = !follows;
        }
        refs.push(moved);
    }
    Ok(refs)
}

fn is_leased(request: &Request<'_>, name: &str) -> bool {
    match &request.force {
        Force::Seen => true,
        Force::Expected(expected, _) => expected == name,
        Force::No | Force::Always => false,
    }
}

/// Whether a reference may move whatever is behind it.
fn may_force(
    ours: &ReferenceTable,
    request: &Request<'_>,
    name: &str,
    old: Option<CommitId>,
) -> Result<bool> {
    let expected = match &request.force {
        Force::No => return Ok(false),
        Force::Always => return Ok(true),
        Force::Seen => {
            let remote = request.remote.ok_or_else(|| {
                Error::usage("nothing is remembered of a store without a name")
                    .hint("say what you expect: --force-with-lease=BRANCH:COMMIT")
            })?;
            let branch = name.strip_prefix(BRANCHES).unwrap_or(name);
            ours.get(&format!("{REMOTES}{remote}/{branch}"))
        }
        Force::Expected(leased, commit) if leased == name => Some(*commit),
        Force::Expected(..) => return Ok(false),
    };
    if expected == old {
        return Ok(true);
    }
    let show = |commit: Option<CommitId>| {
        commit.map_or_else(|| "nothing".to_owned(), |commit| format!("{commit:.12}"))
    };
    Err(Error::conflict(format!(
        "'{}' is not where you expect it over there: {} instead of {}",
        short(name),
        show(old),
        show(expected)
    ))
    .hint("sparse fetch, and look at what is new"))
}

fn lost(rebuilder: &Rebuilder, name: &str, old: Option<CommitId>) -> Error {
    let short = short(name);
    if name.starts_with(TAGS) {
        return Error::conflict(format!("the tag '{short}' points elsewhere over there"))
            .hint("choose another name, or add --force");
    }
    let known = old.is_some_and(|old| rebuilder.reader().contains(&old.into()));
    let what = if known {
        format!("'{short}' here does not follow '{short}' over there")
    } else {
        format!("'{short}' has commits over there that are not here")
    };
    Error::conflict(what).hint("sparse pull first, then push again")
}

fn short(name: &str) -> &str {
    let branch = name.strip_prefix(BRANCHES);
    branch.or_else(|| name.strip_prefix(TAGS)).unwrap_or(name)
}

/// Notes go along where those over there are behind them. Where they are not, somebody was
/// faster: the publication fails on that, and all is done again.
fn notes_to_push(
    rebuilder: &Rebuilder,
    ours: &ReferenceTable,
    theirs: &ReferenceTable,
) -> Result<Option<Change>> {
    let (Some(new), old) = (ours.get(NOTES), theirs.get(NOTES)) else {
        return Ok(None);
    };
    let follows = match old {
        None => true,
        Some(old) => old != new && ancestry::is_ancestor(rebuilder, &old, &new)?,
    };
    Ok(follows.then(|| Change {
        name: NOTES.into(),
        old,
        new: Some(new),
    }))
}

/// Takes note of where the other side stands now. It was pushed in any case.
fn remember(near: &Store, request: &Request<'_>, report: &Report, progress: &dyn Progress) {
    let Some(remote) = request.remote.filter(|_| !request.dry_run) else {
        return;
    };
    let record = || -> Result<()> {
        for _ in 0..TRIES {
            let txn = near.begin()?;
            let table = &txn.head().table;
            let branches = report.refs.iter().filter_map(|moved| {
                let branch = moved.there.strip_prefix(BRANCHES)?;
                let name = format!("{REMOTES}{remote}/{branch}");
                let old = table.get(&name);
                (old != Some(moved.new)).then_some(Change {
                    name,
                    old,
                    new: Some(moved.new),
                })
            });
            let changes: Vec<_> = branches.collect();
            if changes.is_empty() {
                return Ok(());
            }
            let roots: Vec<_> = changes.iter().filter_map(|change| change.new).collect();
            let deed = Deed {
                verb: "push".into(),
                author: request.signature.author.clone(),
                time: request.signature.time,
                changes,
                undoes: None,
            };
            let closure = |reader: &_| closure::missing(reader, &roots);
            match txn.publish(&deed, Some(&closure))? {
                Outcome::Done(_) => return Ok(()),
                Outcome::Moved { .. } | Outcome::Collected { .. } => {}
            }
        }
        Err(Error::new(
            Kind::Conflict,
            "others keep changing this store",
        ))
    };
    if let Err(error) = record() {
        let text = format!("pushed, but where '{remote}' stands was not noted here: {error}");
        progress.note(Note::Warning, &text);
    }
}
