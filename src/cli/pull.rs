//! `sparse pull`.
//!
//! May use: everything below.

use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::flow::pull::{self, Request};

use super::args::PullArgs;
use super::fetch::amounts;
use super::out::{Page, Report, Tint};
use super::session::{Session, pool, signature};
use super::text::escaped;
use super::{Context, far};

#[derive(Serialize)]
struct Pulled {
    remote: String,
    branch: String,
    old: Option<String>,
    new: String,
    written: u64,
    removed: u64,
    logical_bytes: u64,
    received_bytes: u64,
    seconds: f64,
}

impl Report for Pulled {
    const SCHEMA: &'static str = "sparse.pull/1";

    fn human(&self, page: &mut Page) {
        let branch = Tint::Name.on(escaped(&self.branch));
        let remote = Tint::Name.on(escaped(&self.remote));
        let new = Tint::Id.on(&self.new[..12]);
        match &self.old {
            Some(old) if *old == self.new => {
                page.line(format_args!("{branch} is up to date with {remote}: {new}"));
            }
            Some(old) => {
                let old = Tint::Id.on(&old[..12]);
                page.line(format_args!("pulled {branch} from {remote}: {old} → {new}"));
            }
            None => page.line(format_args!("pulled {branch} from {remote}: {new}")),
        }
        if self.written + self.removed > 0 {
            page.line(format_args!(
                "  {} files written, {} removed; all verified",
                self.written, self.removed
            ));
        }
        page.line(amounts(self.logical_bytes, self.received_bytes, false));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.new);
    }
}

pub(super) fn run(context: &Context, args: &PullArgs) -> Result<()> {
    let started = Instant::now();
    let session = Session::open(context)?;
    let far = far::open(context, args.remote.as_deref())?;
    let followed = session.work.as_ref().and_then(|head| head.branch.as_ref());
    let branch = args
        .branch
        .as_ref()
        .or(followed)
        .ok_or_else(|| Error::usage("no branch is checked out").hint("name what to pull"))?;
    let request = Request {
        branch,
        remote: &far.name,
        work: session.place.work_tree.as_deref().zip(session.work.clone()),
        force: args.force,
        signature: signature(context)?,
    };
    let report = pull::pull(
        &session.store,
        &far.store,
        &pool(context)?,
        &request,
        &context.progress,
    )?;
    let new = report
        .new
        .ok_or_else(|| Error::not_found(format!("there is no branch '{branch}' over there")))?;
    let files = report.checked_out.unwrap_or_default();
    context.out.print(&Pulled {
        remote: far.shown,
        branch: branch.clone(),
        old: report.old.map(|id| id.to_string()),
        new: new.to_string(),
        written: files.written,
        removed: files.removed,
        logical_bytes: report.fetched.logical_bytes,
        received_bytes: report.fetched.received_bytes,
        seconds: started.elapsed().as_secs_f64(),
    })
}
