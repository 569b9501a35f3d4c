//! Names of versions to commits: branches, tags, ids and their beginnings, `~N` and `HEAD`.
//!
//! May use: tiers 0 to 4. Must never guess: what fits two commits is refused with both.

use store_format::ids::{CommitId, RecordId};
use store_format::record::Kind;
use store_format::reference::{BRANCHES, REMOTES, ReferenceTable, TAGS};

use crate::error::{Error, Result};
use crate::flow::read::Rebuilder;

/// The fewest digits that can stand for an id.
const DIGITS_MIN: usize = 4;

/// The most branches that a hint names.
const NAMED_MAX: usize = 8;

/// The commit that a text names.
///
/// The grammar: `NAME`, `NAME~N` (the N-th first parent), where `NAME` is a branch, a tag, a full
/// reference name, an id or at least four digits of one. `head` is what `HEAD` stands for.
///
/// # Errors
/// `NotFound` where nothing fits, `Usage` where more than one thing does.
pub fn resolve(
    rebuilder: &Rebuilder,
    table: &ReferenceTable,
    head: Option<CommitId>,
    text: &str,
) -> Result<CommitId> {
    let (name, steps) = match text.rsplit_once('~') {
        Some((name, "")) => (name, 1),
        Some((name, steps)) => (name, steps.parse().map_err(|_| unknown(text, table))?),
        None => (text, 0_u32),
    };
    let mut commit = named(rebuilder, table, head, name)?;
    for _ in 0..steps {
        let parents = rebuilder
            .object::<store_format::commit::Commit>(&commit)?
            .parents;
        commit = *parents.first().ok_or_else(|| {
            Error::not_found(format!("'{text}' goes back beyond the first commit"))
        })?;
    }
    Ok(commit)
}

fn named(
    rebuilder: &Rebuilder,
    table: &ReferenceTable,
    head: Option<CommitId>,
    name: &str,
) -> Result<CommitId> {
    if name == "HEAD" || name == "@" {
        return head.ok_or_else(|| unborn(table));
    }
    // An id in full is never a name: whoever gave a reference that name cannot replace the commit.
    if let Ok(id) = name.parse::<CommitId>() {
        let is_there = rebuilder.reader().contains(&id.into());
        return is_there.then_some(id).ok_or_else(|| unknown(name, table));
    }
    if let Some(commit) = table.get(name) {
        return Ok(commit);
    }
    let full = [BRANCHES, TAGS, REMOTES].map(|kind| format!("{kind}{name}"));
    let references = full.into_iter().filter_map(|full| {
        let commit = table.get(&full)?;
        Some((full, commit))
    });
    let mut found: Vec<_> = references.chain(by_digits(rebuilder, name)).collect();
    found.dedup_by_key(|(_, commit)| *commit);
    match found.as_slice() {
        [] => Err(unknown(name, table)),
        [(_, commit)] => Ok(*commit),
        [(one, _), (two, _), ..] => Err(Error::usage(format!("'{name}' could be {one} or {two}"))
            .hint("give the whole name, or more digits of the id")),
    }
}

/// The commits whose ids begin with these digits, each with the beginning of its id.
fn by_digits(rebuilder: &Rebuilder, digits: &str) -> Vec<(String, CommitId)> {
    if !is_digits(digits) {
        return Vec::new();
    }
    let mut found: Vec<RecordId> = rebuilder.reader().with_prefix(digits, Kind::Commit);
    found.dedup();
    let commits = found.into_iter();
    commits
        .map(|id| (format!("{id:.12}"), CommitId::from_bytes(*id.as_bytes())))
        .collect()
}

/// Whether a text can be read as the beginning of an id.
fn is_digits(text: &str) -> bool {
    let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() >= DIGITS_MIN && text.bytes().all(digit)
}

/// `HEAD` stands for nothing: its branch has no commit, or the store is bare. Others may have.
fn unborn(table: &ReferenceTable) -> Error {
    let names = table.references.iter();
    let names: Vec<_> = names
        .filter_map(|reference| reference.name.strip_prefix(BRANCHES))
        .take(NAMED_MAX)
        .collect();
    match names.as_slice() {
        [] => Error::not_found("there is no commit here yet").hint("sparse commit -m MESSAGE"),
        names => Error::not_found("no version is checked out here")
            .hint(format!("name one: {}", names.join(", "))),
    }
}

fn unknown(name: &str, table: &ReferenceTable) -> Error {
    let error = Error::not_found(format!("there is no branch, tag or commit '{name}'"));
    let short = |full: &str| {
        let kinds = [BRANCHES, TAGS];
        kinds
            .iter()
            .find_map(|kind| full.strip_prefix(kind))
            .unwrap_or(full)
            .to_owned()
    };
    let mut near: Vec<_> = table
        .references
        .iter()
        .map(|reference| short(&reference.name))
        .map(|candidate| (strsim::jaro_winkler(&candidate, name), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = near
        .into_iter()
        .take(3)
        .map(|(_, name)| format!("'{name}'"))
        .collect();
    if near.is_empty() {
        error.hint("'sparse branch' lists what there is")
    } else {
        error.hint(format!("did you mean {}?", near.join(" or ")))
    }
}
