//! `sparse branch`, and what it has in common with `sparse tag`.
//!
//! May use: everything below.

use serde::Serialize;
use store_format::commit::Commit;
use store_format::reference::BRANCHES;

use crate::error::{Error, Result};
use crate::flow::naming;

use super::Context;
use super::args::BranchArgs;
use super::errors::no_such;
use super::out::{Page, Report, Tint};
use super::session::{Session, signature};
use super::text::escaped;

#[derive(Serialize)]
struct Branches {
    branches: Vec<Named>,
}

/// A branch or tag.
#[derive(Serialize)]
pub(super) struct Named {
    pub(super) name: String,
    commit: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_out: Option<bool>,
}

impl Report for Branches {
    const SCHEMA: &'static str = "sparse.branches/1";

    fn human(&self, page: &mut Page) {
        lines(&self.branches, page);
    }

    fn quiet(&self, page: &mut Page) {
        self.branches
            .iter()
            .for_each(|named| page.name(&named.name));
    }
}

/// A list of names for people.
pub(super) fn lines(list: &[Named], page: &mut Page) {
    let width = list
        .iter()
        .map(|named| named.name.chars().count())
        .max()
        .unwrap_or(0);
    for named in list {
        let sign = match named.checked_out {
            Some(true) => "* ",
            Some(false) => "  ",
            None => "",
        };
        let name = format!("{:<width$}", escaped(&named.name).to_string());
        let line = format!(
            "{sign}{}  {}  {}",
            Tint::Name.on(name),
            Tint::Id.on(&named.commit[..12]),
            escaped(&named.subject)
        );
        page.line(line.trim_end());
    }
}

/// The names below a prefix, with what they point to.
pub(super) fn all(
    session: &Session,
    prefix: &str,
    followed: Option<Option<&str>>,
) -> Result<Vec<Named>> {
    let mut list = Vec::new();
    for (name, commit) in naming::list(&session.head.table, prefix) {
        let message = session.rebuilder.object::<Commit>(&commit)?.message;
        list.push(Named {
            checked_out: followed.map(|followed| followed == Some(name.as_str())),
            name,
            commit: commit.to_string(),
            subject: message.lines().next().unwrap_or_default().to_owned(),
        });
    }
    Ok(list)
}

/// What was made or deleted.
#[derive(Serialize)]
pub(super) struct Done {
    name: String,
    commit: String,
    deleted: bool,
    #[serde(skip)]
    what: &'static str,
}

impl Report for Done {
    const SCHEMA: &'static str = "sparse.named/1";

    fn human(&self, page: &mut Page) {
        let did = if self.deleted { "deleted" } else { "made" };
        let prepared = format!("{did} {} {}", self.what, Tint::Name.on(escaped(&self.name)));
        let at = if self.deleted { "it was at" } else { "at" };
        page.line(format_args!(
            "{prepared}, {at} {}",
            Tint::Id.on(&self.commit[..12])
        ));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.commit);
    }
}

/// Makes a name at a version.
pub(super) fn make(
    context: &Context,
    what: &'static str,
    prefix: &str,
    name: &str,
    rev: Option<&str>,
) -> Result<()> {
    let session = Session::open(context)?;
    let commit = session.resolve(rev.unwrap_or("HEAD"))?;
    naming::create(
        &session.store,
        what,
        prefix,
        name,
        commit,
        &signature(context)?,
    )?;
    context.out.print(&Done {
        name: name.to_owned(),
        commit: commit.to_string(),
        deleted: false,
        what,
    })
}

/// Deletes a name.
pub(super) fn delete(
    context: &Context,
    what: &'static str,
    prefix: &str,
    name: &str,
) -> Result<()> {
    let session = Session::open(context)?;
    let table = &session.head.table;
    let Some(commit) = table.get(&format!("{prefix}{name}")) else {
        let there = naming::list(table, prefix);
        return Err(no_such(
            what,
            name,
            there.iter().map(|(name, _)| name.as_str()),
        ));
    };
    let followed = session
        .work
        .as_ref()
        .and_then(|work| work.branch.as_deref());
    if prefix == BRANCHES && followed == Some(name) {
        return Err(Error::conflict(format!("branch '{name}' is checked out"))
            .hint("check out another one first: sparse checkout BRANCH"));
    }
    naming::delete(
        &session.store,
        what,
        prefix,
        name,
        commit,
        &signature(context)?,
    )?;
    context.out.print(&Done {
        name: name.to_owned(),
        commit: commit.to_string(),
        deleted: true,
        what,
    })
}

pub(super) fn run(context: &Context, args: &BranchArgs) -> Result<()> {
    match &args.name {
        Some(name) if args.delete => delete(context, "branch", BRANCHES, name),
        Some(name) => make(context, "branch", BRANCHES, name, args.rev.as_deref()),
        None => {
            let session = Session::open(context)?;
            let followed = session.work.as_ref().map(|work| work.branch.as_deref());
            let branches = all(&session, BRANCHES, followed)?;
            context.out.print(&Branches { branches })
        }
    }
}
