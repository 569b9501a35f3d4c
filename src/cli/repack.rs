//! `sparse repack`.
//!
//! May use: everything below.

use serde::Serialize;

use crate::error::Result;
use crate::flow::repack::{self, Request};

use super::Context;
use super::args::RepackArgs;
use super::commit::level;
use super::gc::policy;
use super::out::{Page, Report};
use super::session::{Session, pool, signature};
use super::text::size;

#[derive(Serialize)]
struct Repacked {
    packs_before: u64,
    packs_after: u64,
    bytes_before: u64,
    bytes_after: u64,
    records: u64,
    recoded: u64,
    rerooted: u64,
}

impl Report for Repacked {
    const SCHEMA: &'static str = "sparse.repack/1";

    fn human(&self, page: &mut Page) {
        if self.records == 0 {
            page.line("nothing to repack");
            return;
        }
        page.line(format_args!(
            "repacked {} records: {} packs → {}, {} → {}",
            self.records,
            self.packs_before,
            self.packs_after,
            size(self.bytes_before),
            size(self.bytes_after)
        ));
        if self.recoded + self.rerooted > 0 {
            page.line(format_args!(
                "  {} coded smaller, {} made less deep; all verified",
                self.recoded, self.rerooted
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(self.bytes_after);
    }
}

pub(super) fn run(context: &Context, args: &RepackArgs) -> Result<()> {
    let session = Session::open(context)?;
    let signature = signature(context)?;
    let request = Request {
        policy: policy(&session),
        level: args.level.map(level),
        author: signature.author,
        time: signature.time,
    };
    let report = repack::repack(&session.store, &pool(context)?, &request, &context.progress)?;
    context.out.print(&Repacked {
        packs_before: report.packs_before,
        packs_after: report.packs_after,
        bytes_before: report.bytes_before,
        bytes_after: report.bytes_after,
        records: report.records,
        recoded: report.recoded,
        rerooted: report.rerooted,
    })
}
