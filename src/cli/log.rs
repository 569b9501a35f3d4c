//! `sparse log`.
//!
//! May use: everything below.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use store_format::ids::CommitId;
use store_format::reference::{BRANCHES, ReferenceTable, TAGS};

use crate::error::Result;
use crate::flow::history::{self, Drawn, Graph, Past};
use crate::flow::naming;
use crate::flow::notes::{self, Note, Notes};

use super::Context;
use super::args::LogArgs;
use super::out::{Mode, Page, Report, Tint};
use super::session::Session;
use super::text::{escaped, escaped_lines, time_at, time_utc};

/// A commit as people and programs see it.
#[derive(Serialize)]
pub(super) struct Described {
    pub(super) commit: String,
    tree: String,
    parents: Vec<String>,
    origins: Vec<Origin>,
    author: String,
    time: String,
    offset_minutes: i32,
    message: String,
    references: Vec<String>,
    /// What is known by namespace: attributes, with attachments over them.
    pub(super) attributes: BTreeMap<String, Value>,
    pub(super) attachments: Vec<Attached>,
    #[serde(skip)]
    seconds: i64,
}

#[derive(Serialize)]
struct Origin {
    kind: &'static str,
    base: String,
    stated: bool,
}

#[derive(Serialize)]
pub(super) struct Attached {
    pub(super) attachment: String,
    pub(super) namespace: String,
    value: Value,
    pub(super) author: String,
    pub(super) time: String,
}

impl Described {
    pub(super) fn new(past: &Past, notes: &[Note], references: Vec<String>) -> Result<Self> {
        let Past { id, commit } = past;
        let origin = |origin: &store_format::commit::Origin| Origin {
            kind: origin.kind.name(),
            base: origin.base.to_string(),
            stated: origin.stated,
        };
        let attached = |note: &Note| {
            Ok(Attached {
                attachment: note.id.to_string(),
                namespace: note.attachment.attribute.namespace.clone(),
                value: notes::value(&note.attachment.attribute)?,
                author: note.attachment.author.clone(),
                time: time_utc(note.attachment.time),
            })
        };
        Ok(Self {
            commit: id.to_string(),
            tree: commit.tree.to_string(),
            parents: commit.parents.iter().map(CommitId::to_string).collect(),
            origins: commit.origins.iter().map(origin).collect(),
            author: commit.author.clone(),
            time: time_utc(commit.time),
            offset_minutes: commit.offset_minutes,
            message: commit.message.clone(),
            references,
            attributes: notes::united(commit, notes)?,
            attachments: notes.iter().map(attached).collect::<Result<_>>()?,
            seconds: commit.time,
        })
    }

    /// The lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut first = format!("commit {}", Tint::Id.on(&self.commit[..12]));
        if !self.references.is_empty() {
            let names: Vec<_> = self
                .references
                .iter()
                .map(|n| escaped(n).to_string())
                .collect();
            first.push_str(&format!(" ({})", Tint::Name.on(names.join(", "))));
        }
        let mut lines = vec![first];
        if self.parents.len() > 1 {
            let parents: Vec<_> = self.parents.iter().map(|id| &id[..12]).collect();
            lines.push(format!("merge   {}", parents.join(" ")));
        }
        for origin in &self.origins {
            lines.push(format!(
                "base    {} ({}, {})",
                Tint::Id.on(&origin.base[..12]),
                origin.kind,
                if origin.stated { "stated" } else { "found" }
            ));
        }
        lines.push(format!("author  {}", escaped(&self.author)));
        lines.push(format!(
            "date    {}",
            time_at(self.seconds, self.offset_minutes)
        ));
        if !self.attributes.is_empty() {
            let names: Vec<_> = self
                .attributes
                .keys()
                .map(|n| escaped(n).to_string())
                .collect();
            lines.push(format!("facts   {}", names.join(", ")));
        }
        if !self.message.is_empty() {
            lines.push(String::new());
            let message = escaped_lines(self.message.trim_end()).to_string();
            lines.extend(
                message
                    .lines()
                    .map(|line| format!("    {line}").trim_end().to_owned()),
            );
        }
        lines
    }
}

impl Report for Described {
    const SCHEMA: &'static str = "sparse.log/1";

    fn human(&self, page: &mut Page) {
        self.lines().iter().for_each(|line| page.line(line));
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.commit);
    }
}

/// The whole list, for people.
#[derive(Serialize)]
struct History {
    commits: Vec<Described>,
    #[serde(skip)]
    graph: Vec<Drawn>,
}

impl Report for History {
    const SCHEMA: &'static str = "sparse.log/1";

    fn human(&self, page: &mut Page) {
        for (number, commit) in self.commits.iter().enumerate() {
            let last = number + 1 == self.commits.len();
            match self.graph.get(number) {
                Some(drawn) => beside(drawn, &commit.lines(), last, page),
                None => {
                    commit.human(page);
                    if !last {
                        page.line("");
                    }
                }
            }
        }
    }

    fn quiet(&self, page: &mut Page) {
        self.commits.iter().for_each(|commit| commit.quiet(page));
    }
}

/// A commit's lines beside its part of the drawing.
fn beside(drawn: &Drawn, lines: &[String], last: bool, page: &mut Page) {
    let width = drawn.turns.iter().map(String::len).max().unwrap_or(0);
    let width = width.max(drawn.node.len()).max(drawn.rest.len());
    let mut turns = drawn.turns.iter();
    let gap = (!last).then(String::new);
    for (number, line) in lines.iter().chain(&gap).enumerate() {
        let sign = match number {
            0 => &drawn.node,
            _ => turns.next().unwrap_or(&drawn.rest),
        };
        page.line(format!("{sign:<width$}  {line}").trim_end());
    }
    turns.for_each(|turn| page.line(turn));
}

/// The names that point to commits, as people write them.
pub(super) fn references(table: &ReferenceTable) -> BTreeMap<CommitId, Vec<String>> {
    let mut names: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for reference in &table.references {
        let name = match reference.name.strip_prefix(TAGS) {
            Some(tag) => format!("tag {tag}"),
            None => reference.name.trim_start_matches(BRANCHES).to_owned(),
        };
        names.entry(reference.commit).or_default().push(name);
    }
    names
}

/// Where a history begins: as stated, else at `HEAD`; at every branch where `HEAD` has no commit.
fn starts(session: &Session, rev: Option<&str>) -> Result<Vec<CommitId>> {
    let branches = naming::list(&session.head.table, BRANCHES);
    if rev.is_none() && session.head_commit().is_none() && !branches.is_empty() {
        return Ok(branches.into_iter().map(|(_, commit)| commit).collect());
    }
    Ok(vec![session.resolve(rev.unwrap_or("HEAD"))?])
}

pub(super) fn run(context: &Context, args: &LogArgs) -> Result<()> {
    let session = Session::open(context)?;
    let starts = starts(&session, args.rev.as_deref())?;
    let notes = Notes::open(&session.rebuilder, &session.head.table)?;
    let names = references(&session.head.table);
    let most = args
        .count
        .map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let describe = |past: &Past| {
        let names = names.get(&past.id).cloned().unwrap_or_default();
        Described::new(past, &notes.of(&past.id)?, names)
    };
    let mut history = History {
        commits: Vec::new(),
        graph: Vec::new(),
    };
    if args.graph {
        let mut graph = Graph::default();
        for past in history::by_ancestry(&session.rebuilder, &starts)?
            .iter()
            .take(most)
        {
            history
                .graph
                .push(graph.draw(past.id, &past.commit.parents));
            history.commits.push(describe(past)?);
        }
    } else {
        for past in history::walk(&session.rebuilder, &starts).take(most) {
            let described = describe(&past?)?;
            if context.out.mode() == Mode::Human {
                history.commits.push(described);
            } else {
                context.out.print(&described)?;
            }
        }
    }
    if context.out.mode() == Mode::Human {
        return context.out.page(&history);
    }
    let mut commits = history.commits.iter();
    commits.try_for_each(|commit| context.out.print(commit))
}
