//! `sparse status`.
//!
//! May use: everything below.

use std::path::PathBuf;

use serde::Serialize;
use store_format::ids::CommitId;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::flow::status::{self, Change, Changed, Known, root_key};
use crate::progress::{Note, Progress};

use super::Context;
use super::args::StatusArgs;
use super::env::now_ns;
use super::out::{Page, Report, Tint};
use super::session::Session;
use super::text::escaped;

#[derive(Serialize)]
struct Status {
    branch: Option<String>,
    commit: Option<String>,
    files: u64,
    changes: Vec<Line>,
    #[serde(skip)]
    bare: bool,
}

#[derive(Serialize)]
struct Line {
    path: String,
    change: &'static str,
}

/// The word for a change.
pub(super) const fn word(change: Change) -> &'static str {
    match change {
        Change::New => "new",
        Change::Content => "changed",
        Change::Kind => "kind",
        Change::Mode => "mode",
        Change::Deleted => "deleted",
    }
}

/// The colour of a change.
pub(super) fn tint(word: &str) -> Tint {
    match word {
        "new" => Tint::New,
        "deleted" => Tint::Gone,
        _ => Tint::Strong,
    }
}

impl Report for Status {
    const SCHEMA: &'static str = "sparse.status/1";

    fn human(&self, page: &mut Page) {
        if self.bare {
            for line in &self.changes {
                page.name(&format!("{} {}", line.change, line.path));
            }
            return;
        }
        let branch = self.branch.as_deref().unwrap_or("no branch");
        let at = self
            .commit
            .as_ref()
            .map_or("without a commit yet".to_owned(), |commit| {
                format!("at {}", Tint::Id.on(&commit[..12]))
            });
        page.line(format_args!("on {} {at}", Tint::Name.on(escaped(branch))));
        for line in &self.changes {
            let word = format!("{:<8}", line.change);
            page.line(format_args!(
                "  {} {}",
                tint(line.change).on(word),
                escaped(&line.path)
            ));
        }
        if self.changes.is_empty() {
            page.line(format_args!("nothing differs in {} files", self.files));
        }
    }

    fn quiet(&self, page: &mut Page) {
        self.changes.iter().for_each(|line| page.name(&line.path));
    }
}

/// The work tree of a session, and what the cache knows of it.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    cache: Cache,
    key: [u8; 16],
    now_ns: i64,
}

impl Tree {
    /// `now_ns` is the time before anything of it was looked at.
    pub(super) fn of(session: &Session, now_ns: i64) -> Result<Self> {
        let root = session.place.work_tree.clone().ok_or_else(|| {
            Error::usage("a bare store has no work tree")
                .hint("compare two versions: sparse diff REV REV")
        })?;
        Ok(Self {
            cache: Cache::open(
                &session.place.store.join("cache"),
                session.store.file().store,
            ),
            key: root_key(&root),
            now_ns,
            root,
        })
    }

    pub(super) fn known(&self) -> Known<'_> {
        Known {
            cache: &self.cache,
            root: self.key,
            now_ns: self.now_ns,
        }
    }
}

pub(super) fn run(context: &Context, args: &StatusArgs) -> Result<()> {
    let session = Session::open(context)?;
    let tree = Tree::of(&session, now_ns())?;
    let commit = session.head_commit();
    let work = session.work.clone();
    if let Some(work) = &work
        && let (Some(held), Some(now)) = (work.commit, commit)
        && held != now
    {
        let text = format!(
            "the branch moved from {held:.12} to {now:.12} since these files were checked out"
        );
        context.progress.note(Note::Hint, &text);
    }
    let progress = &context.progress;
    let report = status::status(
        &session.rebuilder,
        &tree.root,
        commit,
        &tree.known(),
        progress,
    )?;
    let line = |Changed { path, change }| Line {
        path,
        change: word(change),
    };
    let status = Status {
        branch: work.and_then(|work| work.branch),
        commit: commit.as_ref().map(CommitId::to_string),
        files: report.files,
        changes: report.changes.into_iter().map(line).collect(),
        bare: args.nul,
    };
    if args.nul {
        context.out.print_nul(&status)
    } else {
        context.out.print(&status)
    }
}
