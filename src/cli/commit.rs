//! `sparse commit`.
//!
//! May use: everything below.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use store_format::commit::Derivation;
use store_format::ids::CommitId;

use crate::error::{Error, IoContext, Result};
use crate::flow::attribute;
use crate::flow::commit::{self, BaseChoice, Request};
use crate::flow::worktree::Head;
use crate::progress::{Note, Progress};

use super::Context;
use super::args::{Base, CommitArgs, Level};
use super::attach;
use super::env::now_ns;
use super::out::{Page, Report, Tint};
use super::place::lies_in;
use super::session::{Session, pool, signature};
use super::status::Tree;
use super::text::{duration, escaped, saving, size};

#[derive(Serialize)]
struct Committed {
    commit: String,
    branch: String,
    base: Option<String>,
    kind: &'static str,
    unchanged: bool,
    dry_run: bool,
    files: u64,
    logical_bytes: u64,
    new_bytes: u64,
    new_chunks: u64,
    known_chunks: u64,
    predicted_bytes: u64,
    seconds: f64,
    /// Where they went.
    steps: BTreeMap<&'static str, f64>,
    notes: Vec<FileNote>,
    #[serde(skip)]
    timeline: Option<String>,
}

#[derive(Serialize)]
struct FileNote {
    file: String,
    note: String,
}

impl Report for Committed {
    const SCHEMA: &'static str = "sparse.commit/1";

    fn human(&self, page: &mut Page) {
        let verb = if self.dry_run {
            "would commit"
        } else {
            "committed"
        };
        if !headline(page, verb, &self.commit, &self.branch, self.unchanged) {
            return;
        }
        match &self.base {
            Some(base) => page.line(format_args!(
                "  base    {} ({}); {} predicted from it",
                Tint::Id.on(&base[..12]),
                self.kind,
                size(self.predicted_bytes)
            )),
            None => page.line("  base    none"),
        }
        page.line(format_args!(
            "  files   {}, {} new and {} known chunks",
            self.files, self.new_chunks, self.known_chunks
        ));
        page.line(format_args!(
            "  bytes   {} in {}",
            saving(self.logical_bytes, self.new_bytes),
            if self.seconds < 1.0 {
                "less than 1 s".to_owned()
            } else {
                duration(self.seconds as u64)
            }
        ));
        if let Some(timeline) = &self.timeline {
            page.line(format_args!("  time    {timeline}"));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.commit);
    }
}

pub(super) fn run(context: &Context, args: &CommitArgs) -> Result<()> {
    let started = Instant::now();
    let session = Session::open(context)?;
    let now_ns = now_ns();
    let work = session.work.clone();
    let followed = work.as_ref().and_then(|head| head.branch.clone());
    let branch = args
        .branch
        .clone()
        .or_else(|| followed.clone())
        .ok_or_else(|| {
            Error::usage("there is no branch to commit to").hint("name one: -b BRANCH")
        })?;
    let (path, from_tree) = what(&session, args, &branch)?;
    let mut attributes = Vec::new();
    for stated in &args.attributes {
        attributes.push((stated.namespace.clone(), attach::value(&stated.source)?));
    }
    let is_own = followed.as_deref() == Some(&branch);
    let request = Request {
        path: &path,
        branch: &branch,
        base: match &args.base {
            Base::Auto => BaseChoice::Auto,
            Base::None => BaseChoice::None,
            Base::Revision(text) => BaseChoice::Revision(text.clone()),
        },
        kind: None,
        message: args.message.as_deref().unwrap_or_default(),
        signature: signature(context)?,
        attributes: attribute::collect(attributes)?,
        level: level(context.level(args.level)?),
        factors: None,
        head: session.head_commit(),
        // Who names the work tree means its files as they are.
        work: work.as_ref().filter(|_| is_own && args.path.is_none()),
        dry_run: args.dry_run,
    };
    let report = commit::commit(&session.store, &pool(context)?, &request, &context.progress)?;
    // The work tree holds what was committed from it. It follows the branch, too, where its own
    // has no commit.
    let follows = is_own || session.head_commit().is_none();
    if from_tree && follows && !args.dry_run && work.is_some() {
        Head {
            branch: Some(branch.clone()),
            commit: Some(report.commit),
        }
        .write(&session.store)?;
        let tree = Tree::of(&session, now_ns)?;
        for (path, stat, file) in &report.observed {
            tree.known().learn(path, stat, file);
        }
    }
    for (file, note) in &report.notes {
        context.progress.note(
            Note::Warning,
            &format!("'{file}' was taken as plain bytes: {note}"),
        );
    }
    let seconds = started.elapsed().as_secs_f64();
    let mut committed = Committed::of(report, branch, args.dry_run, seconds);
    let steps = context.progress.steps();
    committed.timeline = (context.globals.verbose > 0).then(|| {
        let step = |(what, seconds): &(&str, f64)| format!("{what} {seconds:.2} s");
        steps.iter().map(step).collect::<Vec<_>>().join(", ")
    });
    committed.steps = steps.into_iter().collect();
    context.out.print(&committed)
}

/// What is committed: the path, and whether that is the whole work tree.
fn what(session: &Session, args: &CommitArgs, branch: &str) -> Result<(PathBuf, bool)> {
    let tree = session.place.work_tree.as_ref();
    let Some(path) = &args.path else {
        let tree = tree.ok_or_else(|| {
            Error::usage("a bare store has no work tree to commit")
                .hint("name a directory or a file: sparse commit PATH -m MESSAGE")
        })?;
        return Ok((tree.clone(), true));
    };
    let is_root = tree.is_some_and(|tree| lies_in(path, tree) && lies_in(tree, path));
    if !is_root {
        refuse_part(session, path, branch, args.branch.is_some())?;
    }
    Ok((path.clone(), is_root))
}

/// Refuses a path that nobody means to make a whole version of a branch.
fn refuse_part(session: &Session, path: &Path, branch: &str, is_stated: bool) -> Result<()> {
    let shown = path.display();
    if lies_in(path, &session.place.store) {
        return Err(
            Error::usage(format!("'{shown}' lies in the store's own folder"))
                .hint("the whole work tree: sparse commit -m MESSAGE"),
        );
    }
    // A link in the work tree lies in it, wherever it leads to.
    let whole = std::path::absolute(path).at("find", path)?;
    let parent = path.file_name().and(whole.parent());
    let lies_below =
        |tree: &PathBuf| lies_in(path, tree) || parent.is_some_and(|parent| lies_in(parent, tree));
    let is_part = session.place.work_tree.as_ref().is_some_and(lies_below);
    if is_part && !is_stated && path.exists() {
        return Err(
            Error::usage(format!("'{branch}' would hold only '{shown}'"))
                .hint("the whole work tree: sparse commit -m MESSAGE; as its own branch: -b NAME"),
        );
    }
    Ok(())
}

impl Committed {
    fn of(report: commit::Report, branch: String, dry_run: bool, seconds: f64) -> Self {
        Self {
            commit: report.commit.to_string(),
            branch,
            base: report.base.as_ref().map(CommitId::to_string),
            kind: report.kind.map_or("none", Derivation::name),
            unchanged: report.unchanged,
            dry_run,
            files: report.files,
            logical_bytes: report.logical_bytes,
            new_bytes: report.new_bytes,
            new_chunks: report.chunks.new_chunks,
            known_chunks: report.chunks.known_chunks,
            predicted_bytes: report.chunks.predicted_bytes,
            seconds,
            steps: BTreeMap::new(),
            timeline: None,
            notes: report
                .notes
                .into_iter()
                .map(|(file, note)| FileNote { file, note })
                .collect(),
        }
    }
}

/// The first line about a version that a verb made; whether there is more to tell.
pub(super) fn headline(
    page: &mut Page,
    verb: &str,
    commit: &str,
    branch: &str,
    unchanged: bool,
) -> bool {
    let branch = Tint::Name.on(escaped(branch));
    if unchanged {
        page.line(format_args!(
            "nothing to commit: {branch} holds the same content"
        ));
    } else {
        page.line(format_args!(
            "{verb} {} on {branch}",
            Tint::Id.on(&commit[..12])
        ));
    }
    !unchanged
}

/// The library's word for a level.
pub(super) const fn level(level: Level) -> crate::codec::Level {
    match level {
        Level::Fast => crate::codec::Level::Fast,
        Level::Default => crate::codec::Level::Default,
        Level::Max => crate::codec::Level::Max,
    }
}
