//! `sparse repair`.
//!
//! May use: everything below.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::flow::repair::{self, Request};
use crate::store::Store;
use crate::store::host::Host;

use super::Context;
use super::args::RepairArgs;
use super::fsck::{Finding, Hurt, findings, hurt, show};
use super::out::{Page, Report};
use super::session::{pool, signature};
use super::text::size;

#[derive(Serialize)]
struct Repaired {
    dry_run: bool,
    clean: bool,
    found: usize,
    indexes: u64,
    table: Option<u64>,
    packs_set_aside: u64,
    records_saved: u64,
    bytes_saved: u64,
    files_set_aside: u64,
    refused: Vec<String>,
    findings: Vec<Finding>,
    hurt: Vec<Hurt>,
}

impl Report for Repaired {
    const SCHEMA: &'static str = "sparse.repair/1";

    fn human(&self, page: &mut Page) {
        if self.found == 0 {
            page.line("nothing to repair: the store is whole");
            return;
        }
        if self.dry_run {
            show(page, &self.findings, &self.hurt);
            page.line("nothing was changed; damaged packs would be saved from and set aside");
            return;
        }
        if let Some(table) = self.table {
            page.line(format_args!(
                "made reference table {table} from the operations"
            ));
        }
        if self.indexes > 0 {
            page.line(format_args!("made {} indexes again", self.indexes));
        }
        if self.packs_set_aside > 0 {
            page.line(format_args!(
                "saved {} records ({}) from {} damaged packs, which are in 'quarantine'",
                self.records_saved,
                size(self.bytes_saved),
                self.packs_set_aside
            ));
        }
        if self.files_set_aside > 0 {
            page.line(format_args!(
                "moved {} other damaged files to 'quarantine'",
                self.files_set_aside
            ));
        }
        for refused in &self.refused {
            page.line(format_args!("could not: {refused}"));
        }
        show(page, &self.findings, &self.hurt);
        if self.clean {
            page.line("the store is whole");
        }
    }

    fn quiet(&self, page: &mut Page) {
        for hurt in &self.hurt {
            page.line(&hurt.commit);
        }
    }
}

pub(super) fn run(context: &Context, args: &RepairArgs) -> Result<()> {
    // Not a session: that refuses what is to be repaired here.
    let store = Store::open(&context.place()?.store, Host::system())?;
    let signature = signature(context)?;
    let request = Request {
        author: signature.author,
        time: signature.time,
        dry_run: args.dry_run,
    };
    let report = repair::repair(&store, &pool(context)?, &request, &context.progress)?;
    let clean = !report.after.is_hurt();
    let is_lost = !report.after.hurt.is_empty();
    context.out.print(&Repaired {
        dry_run: args.dry_run,
        clean,
        found: report.before.findings.len(),
        indexes: report.indexes,
        table: report.table,
        packs_set_aside: report.saved.packs,
        records_saved: report.saved.records,
        bytes_saved: report.saved.bytes,
        files_set_aside: report.moved,
        refused: report.refused,
        findings: findings(&report.after),
        hurt: hurt(&report.after),
    })?;
    if clean {
        return Ok(());
    }
    let error = Error::corrupt("the store is still hurt");
    Err(match (args.dry_run, is_lost) {
        (true, _) => error.hint("sparse repair"),
        (false, true) => error.hint(
            "what is lost heals where the same files are committed again, or by: sparse fetch --heal REMOTE",
        ),
        (false, false) => error.hint("sparse fsck tells what is left"),
    })
}
