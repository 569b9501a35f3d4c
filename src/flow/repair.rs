//! Repair: what can be made again is made again, what cannot is moved aside and stays listed.
//!
//! May use: tiers 0 to 4. Never invents bytes. Holds: nothing that could be read before cannot
//! be read after; damaged files are kept in `quarantine`.

use store_format::ids::PackId;

use crate::error::Result;
use crate::flow::fsck::{self, Severity, What};
use crate::par::Pool;
use crate::progress::Progress;
use crate::store::Store;
use crate::store::advance::Deed;
use crate::store::heal::Saved;
use crate::store::paths;

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What was found before.
    pub before: fsck::Report,
    /// What is left of it; the same as before where nothing was to be changed.
    pub after: fsck::Report,
    /// Index files that were made again.
    pub indexes: u64,
    /// The number of the reference table that was made again.
    pub table: Option<u64>,
    /// Damaged packs that were moved aside, and what was saved from them.
    pub saved: Saved,
    /// Other damaged files that were moved aside.
    pub moved: u64,
    /// What could not be repaired, and why.
    pub refused: Vec<String>,
}

/// Who repairs, and when.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `Name <address>`.
    pub author: String,
    /// Seconds since 1970 (UTC).
    pub time: i64,
    /// Change nothing, say what would be done.
    pub dry_run: bool,
}

/// Repairs a store.
///
/// # Errors
/// A wish to stop; failures of the disk, after which what could be read before still can.
pub fn repair(
    store: &Store,
    pool: &Pool,
    request: &Request,
    progress: &dyn Progress,
) -> Result<Report> {
    let before = fsck::fsck(store, pool, true, progress)?;
    if request.dry_run || before.findings.is_empty() {
        return Ok(Report {
            after: before.clone(),
            before,
            ..Report::default()
        });
    }
    let deed = Deed {
        verb: "repair".into(),
        author: request.author.clone(),
        time: request.time,
        changes: Vec::new(),
        undoes: None,
    };
    let mut report = Report::default();
    // First the table: nothing can be published on a damaged one.
    if before.newest_table_is_hurt {
        match store.rebuild_table(&deed) {
            Ok(table) => report.table = table,
            Err(error) => {
                let hint = error.hint_text().unwrap_or_default();
                report
                    .refused
                    .push(format!("{}; {hint}", fsck::told(&error)));
            }
        }
    }
    move_files(store, &before, &mut report)?;
    report.indexes = store.rebuild_indexes(&before.indexes)?;
    if !before.newest_table_is_hurt || report.table.is_some() {
        let packs: Vec<PackId> = before.bad_packs.iter().copied().collect();
        report.saved = store.set_aside(&deed, &packs, &before.bad_copies)?;
    }
    report.after = fsck::fsck(store, pool, false, progress)?;
    report.before = before;
    Ok(report)
}

/// Moves small damaged files aside that nothing needs any more.
fn move_files(store: &Store, before: &fsck::Report, report: &mut Report) -> Result<()> {
    for finding in &before.findings {
        let Some(path) = &finding.file else {
            continue;
        };
        let is_replaced = report.table.is_some() && path.starts_with(paths::REFS);
        let goes = match (finding.what, finding.severity) {
            (What::Table, Severity::Hurt) => is_replaced && path != paths::REFS,
            (What::Table | What::Operation, Severity::Harmless) | (What::Head, Severity::Hurt) => {
                true
            }
            (What::Condemned, _) => {
                store.drop_condemned(path)?;
                false
            }
            _ => false,
        };
        if goes {
            store.move_aside(path)?;
            report.moved += 1;
        }
    }
    Ok(())
}
