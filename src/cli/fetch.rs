//! `sparse fetch`.
//!
//! May use: everything below.

use std::time::Instant;

use serde::Serialize;

use crate::error::Result;
use crate::flow::fetch::{self, Request, Select, Under};

use super::args::FetchArgs;
use super::out::{Page, Report, Tint};
use super::push::Ref;
use super::session::{Session, pool, signature};
use super::text::{escaped, size};
use super::{Context, far};

#[derive(Serialize)]
struct Fetched {
    remote: String,
    refs: Vec<Ref>,
    logical_bytes: u64,
    received_bytes: u64,
    seconds: f64,
    dry_run: bool,
}

impl Report for Fetched {
    const SCHEMA: &'static str = "sparse.fetch/1";

    fn human(&self, page: &mut Page) {
        let verb = if self.dry_run {
            "would fetch"
        } else {
            "fetched"
        };
        page.line(format_args!(
            "{verb} from {}",
            Tint::Name.on(escaped(&self.remote))
        ));
        self.refs.iter().for_each(|moved| moved.line(page));
        page.line(amounts(
            self.logical_bytes,
            self.received_bytes,
            self.dry_run,
        ));
    }

    fn quiet(&self, page: &mut Page) {
        self.refs.iter().for_each(|moved| moved.quiet(page));
    }
}

/// Plain and coded bytes, side by side.
pub(super) fn amounts(logical_bytes: u64, received_bytes: u64, dry_run: bool) -> String {
    let received = if dry_run { "to receive" } else { "received" };
    format!(
        "{} logical, {} {received}",
        size(logical_bytes),
        size(received_bytes)
    )
}

pub(super) fn run(context: &Context, args: &FetchArgs) -> Result<()> {
    let started = Instant::now();
    let session = Session::open(context)?;
    let far = far::open(context, args.remote.as_deref())?;
    let request = Request {
        select: if args.refs.is_empty() {
            Select::All
        } else {
            Select::Named(args.refs.clone())
        },
        under: Under::Remote(&far.name),
        signature: signature(context)?,
        verb: "fetch",
        heal: args.heal,
        dry_run: args.dry_run,
    };
    let report = fetch::fetch(
        &session.store,
        &far.store,
        &pool(context)?,
        &request,
        &context.progress,
    )?;
    let refs = report.refs.iter();
    context.out.print(&Fetched {
        remote: far.shown,
        refs: refs
            .map(|moved| Ref::new(shown(&moved.here), moved))
            .collect(),
        logical_bytes: report.logical_bytes,
        received_bytes: report.received_bytes,
        seconds: started.elapsed().as_secs_f64(),
        dry_run: args.dry_run,
    })
}

/// The name by which a fetched reference can be used here.
pub(super) fn shown(here: &str) -> &str {
    let remote = here.strip_prefix(store_format::reference::REMOTES);
    remote.unwrap_or(here)
}
