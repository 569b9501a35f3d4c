//! `sparse push`.
//!
//! May use: everything below.

use std::time::Instant;

use serde::Serialize;
use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, TAGS};

use crate::error::{Error, Result};
use crate::flow::fetch::Moved;
use crate::flow::naming;
use crate::flow::push::{self, Force, Request};

use super::args::{Lease, PushArgs};
use super::out::{Page, Report, Tint};
use super::session::{Session, pool, signature};
use super::text::{escaped, size};
use super::{Context, errors, far};

#[derive(Serialize)]
struct Pushed {
    remote: String,
    refs: Vec<Ref>,
    logical_bytes: u64,
    sent_bytes: u64,
    seconds: f64,
    dry_run: bool,
}

/// A reference that was moved, or stands where it should.
#[derive(Serialize)]
pub(super) struct Ref {
    name: String,
    old: Option<String>,
    new: String,
    forced: bool,
}

impl Ref {
    pub(super) fn new(name: &str, moved: &Moved) -> Self {
        Self {
            name: name.to_owned(),
            old: moved.old.map(|id| id.to_string()),
            new: moved.new.to_string(),
            forced: moved.forced,
        }
    }

    pub(super) fn line(&self, page: &mut Page) {
        let name = escaped(short(&self.name));
        let name = Tint::Name.on(name);
        let new = Tint::Id.on(&self.new[..12]);
        match &self.old {
            None => page.line(format_args!("  {name}  {new} {}", Tint::New.on("new"))),
            Some(old) if *old == self.new => page.line(format_args!("  {name}  {new} up to date")),
            Some(old) => {
                let forced = if self.forced { " forced" } else { "" };
                let old = Tint::Id.on(&old[..12]);
                page.line(format_args!("  {name}  {old} → {new}{forced}"));
            }
        }
    }

    pub(super) fn quiet(&self, page: &mut Page) {
        page.line(&self.new);
    }
}

/// A reference without the word for its kind.
pub(super) fn short(name: &str) -> &str {
    let kinds = [BRANCHES, TAGS];
    let short = kinds.iter().find_map(|kind| name.strip_prefix(kind));
    short.unwrap_or(name)
}

impl Report for Pushed {
    const SCHEMA: &'static str = "sparse.push/1";

    fn human(&self, page: &mut Page) {
        let verb = if self.dry_run { "would push" } else { "pushed" };
        page.line(format_args!(
            "{verb} to {}",
            Tint::Name.on(escaped(&self.remote))
        ));
        self.refs.iter().for_each(|moved| moved.line(page));
        let sent = if self.dry_run { "to send" } else { "sent" };
        page.line(format_args!(
            "{} logical, {} {sent}",
            size(self.logical_bytes),
            size(self.sent_bytes)
        ));
    }

    fn quiet(&self, page: &mut Page) {
        self.refs.iter().for_each(|moved| moved.quiet(page));
    }
}

pub(super) fn run(context: &Context, args: &PushArgs) -> Result<()> {
    let started = Instant::now();
    let session = Session::open(context)?;
    let far = far::open(context, Some(&args.remote))?;
    let request = Request {
        names: names(&session, &args.refs)?,
        force: force(&session, &far.store, args)?,
        remote: far.named.then_some(&*far.name),
        signature: signature(context)?,
        dry_run: args.dry_run,
    };
    let report = push::push(
        &session.store,
        &far.store,
        &pool(context)?,
        &request,
        &context.progress,
    )?;
    let refs = report.refs.iter();
    context.out.print(&Pushed {
        remote: far.shown,
        refs: refs.map(|moved| Ref::new(&moved.there, moved)).collect(),
        logical_bytes: report.logical_bytes,
        sent_bytes: report.sent_bytes,
        seconds: started.elapsed().as_secs_f64(),
        dry_run: args.dry_run,
    })
}

/// The full names of what is pushed.
fn names(session: &Session, stated: &[String]) -> Result<Vec<String>> {
    let table = &session.head.table;
    if !stated.is_empty() {
        let mut names = stated
            .iter()
            .map(|name| full(session, name))
            .collect::<Result<Vec<_>>>()?;
        names.sort_unstable();
        names.dedup();
        return Ok(names);
    }
    match &session.work {
        Some(head) => {
            let branch = head.branch.as_ref().ok_or_else(|| {
                Error::usage("no branch is checked out").hint("name what to push")
            })?;
            let name = format!("{BRANCHES}{branch}");
            if table.get(&name).is_none() {
                return Err(
                    Error::not_found(format!("there is no commit on '{branch}' yet"))
                        .hint("sparse commit -m MESSAGE"),
                );
            }
            Ok(vec![name])
        }
        None => {
            let names = table.references.iter().map(|reference| &reference.name);
            let branches: Vec<_> = names
                .filter(|name| name.starts_with(BRANCHES))
                .cloned()
                .collect();
            if branches.is_empty() {
                return Err(Error::not_found("there is no branch here"));
            }
            Ok(branches)
        }
    }
}

fn full(session: &Session, name: &str) -> Result<String> {
    let table = &session.head.table;
    naming::full(table, name)?.ok_or_else(|| {
        let names = table.references.iter();
        let names = names.map(|reference| short(&reference.name));
        errors::no_such("branch or tag", name, names)
    })
}

fn force(session: &Session, far: &crate::store::Store, args: &PushArgs) -> Result<Force> {
    match &args.force_with_lease {
        None if args.force => Ok(Force::Always),
        None => Ok(Force::No),
        Some(Lease::Seen) => Ok(Force::Seen),
        Some(Lease::Expected(name, text)) => {
            let name = full(session, name)?;
            // The commit may be one that is over there only: then its beginning is enough.
            let there = far.head()?.table.get(&name);
            let begins = |id: &CommitId| text.len() >= 4 && id.to_string().starts_with(text);
            let expected = match there.filter(begins) {
                Some(there) => there,
                None => session.resolve(text)?,
            };
            Ok(Force::Expected(name, expected))
        }
    }
}
