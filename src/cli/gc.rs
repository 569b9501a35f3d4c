//! `sparse gc`.
//!
//! May use: everything below.

use serde::Serialize;

use crate::error::Result;
use crate::flow::collect::{self, Request};
use crate::store::gc::GcPolicy;

use super::Context;
use super::args::GcArgs;
use super::out::{Page, Report};
use super::session::{Session, signature};
use super::text::size;

#[derive(Serialize)]
struct Collected {
    dry_run: bool,
    deleted_packs: u64,
    freed_bytes: u64,
    rewritten_packs: u64,
    waiting_packs: u64,
    waiting_bytes: u64,
    abandoned_files: u64,
    #[serde(skip)]
    undo_given: bool,
}

impl Report for Collected {
    const SCHEMA: &'static str = "sparse.gc/1";

    fn human(&self, page: &mut Page) {
        if self.dry_run {
            page.line(format_args!(
                "would delete {} packs ({}) and rewrite {}",
                self.deleted_packs,
                size(self.freed_bytes),
                self.rewritten_packs
            ));
            return;
        }
        page.line(format_args!(
            "freed {}: {} packs deleted, {} rewritten",
            size(self.freed_bytes),
            self.deleted_packs,
            self.rewritten_packs
        ));
        if self.deleted_packs == 0 && !self.undo_given {
            page.line("  what undo may want is kept; less of it: sparse gc --undo DUR");
        }
        if self.waiting_packs > 0 {
            page.line(format_args!(
                "  {} packs ({}) are condemned; a gc after the grace deletes them",
                self.waiting_packs,
                size(self.waiting_bytes)
            ));
        }
        if self.abandoned_files > 0 {
            page.line(format_args!(
                "  {} unfinished files of dead writers removed",
                self.abandoned_files
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(self.freed_bytes);
    }
}

pub(super) fn run(context: &Context, args: &GcArgs) -> Result<()> {
    let session = Session::open(context)?;
    let policy = policy(&session);
    let grace_ms = args.grace.map_or(policy.grace_ms, |grace| {
        u64::try_from(grace.0.as_millis()).unwrap_or(u64::MAX)
    });
    let policy = match args.undo {
        None => policy,
        Some(undo) => GcPolicy {
            keep_seconds: i64::try_from(undo.0.as_secs()).unwrap_or(i64::MAX),
            keep_operations: 0,
            ..policy
        },
    };
    let signature = signature(context)?;
    let request = Request {
        policy: GcPolicy { grace_ms, ..policy },
        author: signature.author,
        time: signature.time,
        dry_run: args.dry_run,
    };
    let report = collect::collect(&session.store, &request)?;
    context.out.print(&Collected {
        dry_run: args.dry_run,
        deleted_packs: report.deleted,
        freed_bytes: report.freed_bytes,
        rewritten_packs: report.rewritten,
        waiting_packs: report.waiting,
        waiting_bytes: report.waiting_bytes,
        abandoned_files: report.abandoned,
        undo_given: args.undo.is_some(),
    })
}

/// What is kept besides references and operations: what the work tree was taken from.
pub(super) fn policy(session: &Session) -> GcPolicy {
    let held = session.work.as_ref().and_then(|head| head.commit);
    let here = held.filter(|commit| session.rebuilder.reader().contains(&(*commit).into()));
    GcPolicy {
        roots: here.into_iter().collect(),
        ..GcPolicy::default()
    }
}
