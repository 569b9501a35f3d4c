//! `sparse undo`.
//!
//! May use: everything below.

use serde::Serialize;
use store_format::ids::CommitId;

use crate::error::Result;
use crate::flow::undo::{self, Plan};

use super::Context;
use super::args::UndoArgs;
use super::out::{Page, Report, Tint};
use super::session::{Session, signature};
use super::text::{escaped, time_utc};

#[derive(Serialize)]
struct Undone {
    operation: String,
    verb: String,
    author: String,
    time: String,
    dry_run: bool,
    changes: Vec<Change>,
}

#[derive(Serialize)]
struct Change {
    reference: String,
    before: Option<String>,
    after: Option<String>,
}

impl Undone {
    fn new(plan: Plan, dry_run: bool) -> Self {
        let text = |id: Option<CommitId>| id.map(|id| id.to_string());
        let change = |change: store_format::reference::Change| Change {
            reference: change.name,
            before: text(change.old),
            after: text(change.new),
        };
        Self {
            operation: plan.id.to_string(),
            verb: plan.operation.verb,
            author: plan.operation.author,
            time: time_utc(plan.operation.time),
            dry_run,
            changes: plan.changes.into_iter().map(change).collect(),
        }
    }
}

impl Report for Undone {
    const SCHEMA: &'static str = "sparse.undo/1";

    fn human(&self, page: &mut Page) {
        page.line(format_args!(
            "{} '{}' of {} by {}",
            if self.dry_run { "would undo" } else { "undid" },
            escaped(&self.verb),
            self.time,
            escaped(&self.author)
        ));
        let short = |id: &Option<String>| id.as_ref().map_or("nothing", |id| &id[..12]).to_owned();
        for change in &self.changes {
            page.line(format_args!(
                "  {}  {} → {}",
                Tint::Name.on(escaped(&change.reference)),
                Tint::Id.on(short(&change.before)),
                Tint::Id.on(short(&change.after))
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.operation);
    }
}

pub(super) fn run(context: &Context, args: &UndoArgs) -> Result<()> {
    let session = Session::open(context)?;
    let plan = undo::plan(&session.store)?;
    if !args.dry_run {
        undo::undo(&session.store, &plan, &signature(context)?)?;
    }
    context.out.print(&Undone::new(plan, args.dry_run))
}
