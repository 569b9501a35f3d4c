//! `sparse checkout`.
//!
//! May use: everything below.

use std::path::PathBuf;

use serde::Serialize;
use store_format::reference::BRANCHES;

use crate::error::{Error, Result};
use crate::flow::checkout::{self, Request};
use crate::flow::worktree::Head;
use crate::ops::merge;

use super::Context;
use super::args::CheckoutArgs;
use super::out::{Page, Report, Tint};
use super::place::lies_in;
use super::session::{Session, pool};
use super::text::{escaped, size};

#[derive(Serialize)]
struct CheckedOut {
    commit: String,
    target: PathBuf,
    files: u64,
    written: u64,
    removed: u64,
    logical_bytes: u64,
    written_bytes: u64,
    merged: bool,
}

impl Report for CheckedOut {
    const SCHEMA: &'static str = "sparse.checkout/1";

    fn human(&self, page: &mut Page) {
        let target = self.target.to_string_lossy();
        page.line(format_args!(
            "{} {} to {}",
            if self.merged { "merged" } else { "checked out" },
            Tint::Id.on(&self.commit[..12]),
            escaped(&target)
        ));
        if self.merged {
            page.line(format_args!(
                "  {} written ({})",
                self.written,
                size(self.written_bytes)
            ));
            return;
        }
        let kept = self.files.saturating_sub(self.written);
        page.line(format_args!(
            "  {} written ({}), {kept} right already, {} removed; all verified",
            self.written,
            size(self.written_bytes),
            self.removed
        ));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.commit);
    }
}

pub(super) fn run(context: &Context, args: &CheckoutArgs) -> Result<()> {
    let session = Session::open(context)?;
    let commit = session.resolve(&args.rev)?;
    let (target, before) = match (&args.dir, &session.place.work_tree, &session.work) {
        (Some(dir), ..) => (dir.clone(), None),
        (None, Some(tree), Some(head)) => (tree.clone(), head.commit),
        _ => {
            return Err(Error::usage("a bare store has no work tree")
                .hint("name a directory: sparse checkout REV DIR"));
        }
    };
    if args.dir.is_some() && lies_in(&target, &session.place.store) {
        return Err(Error::usage(
            "a checkout cannot go into the store's own folder",
        ));
    }
    let request = Request {
        commit,
        target: &target,
        tensors: &args.tensors,
        force: args.force,
        before,
    };
    let (rebuilder, pool) = (&session.rebuilder, pool(context)?);
    let report = if args.merge {
        let request = merge::Request {
            commit,
            target: &target,
            force: args.force,
        };
        merge::merge(rebuilder, &pool, &request, &context.progress)?
    } else {
        checkout::checkout(rebuilder, &pool, &request, &context.progress)?
    };
    if args.dir.is_none() {
        let name = args.rev.strip_prefix(BRANCHES).unwrap_or(&args.rev);
        // An id in full is no branch, even if one has that name.
        let is_branch = session.head.table.get(&format!("{BRANCHES}{name}")) == Some(commit);
        let branch = if args.rev == "HEAD" || args.rev == "@" {
            session.work.and_then(|head| head.branch)
        } else {
            is_branch.then(|| name.to_owned())
        };
        Head {
            branch,
            commit: Some(commit),
        }
        .write(&session.store)?;
    }
    context.out.print(&CheckedOut {
        commit: commit.to_string(),
        target,
        files: report.files,
        written: report.written,
        removed: report.removed,
        logical_bytes: report.logical_bytes,
        written_bytes: report.written_bytes,
        merged: args.merge,
    })
}
