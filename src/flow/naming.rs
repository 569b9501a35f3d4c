//! Branches and tags: made, deleted, listed.
//!
//! May use: tiers 0 to 4. Holds: a name is never moved here, only made where it is free or
//! deleted where it points to what was seen.

use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, Change, ReferenceTable, TAGS, check_reference};

use crate::error::{Error, Result};
use crate::flow::closure;
use crate::flow::commit::Signature;
use crate::store::Store;
use crate::store::advance::Deed;

/// Names that begin with `prefix`, without it, and what they point to; ascending.
#[must_use]
pub fn list(table: &ReferenceTable, prefix: &str) -> Vec<(String, CommitId)> {
    let named = table.references.iter().filter_map(|reference| {
        let name = reference.name.strip_prefix(prefix)?;
        Some((name.to_owned(), reference.commit))
    });
    named.collect()
}

/// The full name of the branch or tag that a text names; nothing where there is none.
///
/// # Errors
/// `Usage` where it names both.
pub fn full(table: &ReferenceTable, text: &str) -> Result<Option<String>> {
    let is_whole = [BRANCHES, TAGS].iter().any(|start| text.starts_with(start));
    let whole = Some(text.to_owned()).filter(|_| is_whole);
    let short = [BRANCHES, TAGS].map(|start| format!("{start}{text}"));
    let is_there = |name: &String| table.get(name).is_some();
    let found: Vec<_> = whole.into_iter().chain(short).filter(is_there).collect();
    match <[String; 2]>::try_from(found) {
        Ok([one, other]) => Err(Error::usage(format!(
            "'{text}' is the name of a branch and of a tag"
        ))
        .hint(format!("say which: {one} or {other}"))),
        Err(found) => Ok(found.into_iter().next()),
    }
}

/// Makes a name.
///
/// # Errors
/// `Usage` for what is no name, `Conflict` where it is taken, failures of the disk.
pub fn create(
    store: &Store,
    verb: &str,
    prefix: &str,
    name: &str,
    commit: CommitId,
    signature: &Signature,
) -> Result<()> {
    let full = format!("{prefix}{name}");
    check_new(prefix, name)?;
    let txn = store.begin()?;
    if let Some(taken) = txn.head().table.get(&full) {
        return Err(Error::conflict(format!(
            "there is a {verb} '{name}' already, at {taken:.12}"
        ))
        .hint(format!("sparse {verb} -d {name}")));
    }
    if !txn.contains(&commit.into()) {
        return Err(Error::not_found(format!("commit {commit:.12} is not here")));
    }
    let deed = deed(verb, full, None, Some(commit), signature);
    let roots = [commit];
    let missing = |reader: &_| closure::missing(reader, &roots);
    txn.publish(&deed, Some(&missing))?.done().map(|_| ())
}

/// Refuses what cannot be a new name, or would stand for something else wherever a version is
/// named.
///
/// # Errors
/// `Usage`, with the rule.
pub fn check_new(prefix: &str, name: &str) -> Result<()> {
    let why = match check_reference(&format!("{prefix}{name}")) {
        Err(rule) => rule.to_string(),
        Ok(()) if name == "HEAD" => "it stands for what is checked out".into(),
        // The beginning of an id may be one: where it fits two commits, it is refused when used.
        Ok(()) if name.parse::<CommitId>().is_ok() => "it would be taken for an id".into(),
        Ok(()) => return Ok(()),
    };
    Err(Error::usage(format!("'{name}' is no name: {why}")))
}

/// Deletes a name that points to `commit`.
///
/// # Errors
/// `Conflict` where it was moved meanwhile; failures of the disk.
pub fn delete(
    store: &Store,
    verb: &str,
    prefix: &str,
    name: &str,
    commit: CommitId,
    signature: &Signature,
) -> Result<()> {
    let full = format!("{prefix}{name}");
    let deed = deed(verb, full, Some(commit), None, signature);
    store.begin()?.publish(&deed, None)?.done().map(|_| ())
}

fn deed(
    verb: &str,
    name: String,
    old: Option<CommitId>,
    new: Option<CommitId>,
    signature: &Signature,
) -> Deed {
    Deed {
        verb: verb.to_owned(),
        author: signature.author.clone(),
        time: signature.time,
        changes: vec![Change { name, old, new }],
        undoes: None,
    }
}
