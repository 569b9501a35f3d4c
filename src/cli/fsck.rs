//! `sparse fsck`.
//!
//! May use: everything below.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::flow::fsck::{self, Severity};
use crate::progress::{Note, Progress};
use crate::store::Store;
use crate::store::host::Host;

use super::Context;
use super::args::FsckArgs;
use super::out::{Page, Report, Tint};
use super::session::pool;
use super::text::{escaped, size};

/// Findings and hurt files that a person is shown; JSON has all.
const SHOWN_MAX: usize = 50;

/// The command that helps a hurt store.
const REPAIR: &str = "sparse repair";

#[derive(Serialize)]
struct Checked {
    clean: bool,
    read_data: bool,
    packs: u64,
    records: u64,
    bytes: u64,
    commits: u64,
    files: u64,
    rebuilt_bytes: u64,
    indexes_rebuilt: u64,
    findings: Vec<Finding>,
    hurt: Vec<Hurt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repair: Option<&'static str>,
}

#[derive(Serialize)]
pub(super) struct Finding {
    severity: &'static str,
    kind: &'static str,
    file: Option<String>,
    id: Option<String>,
    why: String,
}

#[derive(Serialize)]
pub(super) struct Hurt {
    pub(super) commit: String,
    path: Option<String>,
    references: Vec<String>,
}

impl Report for Checked {
    const SCHEMA: &'static str = "sparse.fsck/1";

    fn human(&self, page: &mut Page) {
        show(page, &self.findings, &self.hurt);
        page.line(format_args!(
            "checked {} packs, {} records, {} versions, {} files; {} {}",
            self.packs,
            self.records,
            self.commits,
            self.files,
            size(if self.read_data {
                self.rebuilt_bytes
            } else {
                self.bytes
            }),
            if self.read_data {
                "rebuilt and compared"
            } else {
                "of packs read"
            }
        ));
        if self.indexes_rebuilt > 0 {
            page.line(format_args!("made {} indexes again", self.indexes_rebuilt));
        }
        if self.clean {
            page.line("the store is whole");
        }
    }

    fn quiet(&self, page: &mut Page) {
        for finding in &self.findings {
            page.line(finding.id.as_deref().unwrap_or(finding.kind));
        }
    }
}

/// Findings, then the files of versions that are hurt.
pub(super) fn show(page: &mut Page, findings: &[Finding], hurt: &[Hurt]) {
    for finding in findings.iter().take(SHOWN_MAX) {
        let word = match finding.severity {
            "hurt" => format!("{}", Tint::Gone.on("hurt")),
            other => other.to_owned(),
        };
        let id = finding.id.as_ref().map(|id| format!(" {:.12}", id));
        let file = finding.file.as_ref().map(|file| format!(" '{file}'"));
        page.line(format_args!(
            "{word}: {}{}{}: {}",
            finding.kind,
            id.unwrap_or_default(),
            file.unwrap_or_default(),
            escaped(&finding.why)
        ));
    }
    more(page, findings.len(), "findings");
    for one in hurt.iter().take(SHOWN_MAX) {
        let path = one.path.as_deref().unwrap_or("all of it");
        page.line(format_args!(
            "lost: {} in {} ({})",
            escaped(path),
            Tint::Id.on(&one.commit[..12]),
            if one.references.is_empty() {
                "only undo reaches it".to_owned()
            } else {
                one.references.join(", ")
            }
        ));
    }
    more(page, hurt.len(), "files");
}

fn more(page: &mut Page, count: usize, what: &str) {
    if count > SHOWN_MAX {
        page.line(format_args!(
            "and {} more {what}; --json has all",
            count - SHOWN_MAX
        ));
    }
}

pub(super) fn findings(report: &fsck::Report) -> Vec<Finding> {
    let findings = report.findings.iter().map(|finding| Finding {
        severity: match finding.severity {
            Severity::Harmless => "harmless",
            Severity::Hurt => "hurt",
        },
        kind: finding.what.name(),
        file: finding.file.clone(),
        id: finding.id.map(|id| id.to_string()),
        why: finding.why.clone(),
    });
    findings.collect()
}

pub(super) fn hurt(report: &fsck::Report) -> Vec<Hurt> {
    let hurt = report.hurt.iter().map(|hurt| Hurt {
        commit: hurt.commit.to_string(),
        path: hurt.path.clone(),
        references: hurt.references.clone(),
    });
    hurt.collect()
}

pub(super) fn run(context: &Context, args: &FsckArgs) -> Result<()> {
    // Not a session: that refuses what is to be looked at here.
    let store = Store::open(&context.place()?.store, Host::system())?;
    let report = fsck::fsck(&store, &pool(context)?, args.read_data, &context.progress)?;
    let indexes_rebuilt = match store.rebuild_indexes(&report.indexes) {
        Ok(made) => made,
        Err(error) => {
            let text = format!("the indexes could not be made again: {error}");
            context.progress.note(Note::Warning, &text);
            0
        }
    };
    let clean = !report.is_hurt();
    context.out.print(&Checked {
        clean,
        read_data: args.read_data,
        packs: report.packs,
        records: report.records,
        bytes: report.bytes,
        commits: report.commits,
        files: report.files,
        rebuilt_bytes: report.rebuilt_bytes,
        indexes_rebuilt,
        findings: findings(&report),
        hurt: hurt(&report),
        repair: (!clean).then_some(REPAIR),
    })?;
    if clean {
        return Ok(());
    }
    Err(Error::corrupt("the store is hurt").hint(REPAIR))
}
