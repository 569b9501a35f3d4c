//! `sparse show`.
//!
//! May use: everything below.

use std::collections::BTreeMap;

use serde::Serialize;
use store_format::commit::Commit;
use store_format::ids::CommitId;
use store_format::manifest::Manifest;

use crate::error::Result;
use crate::flow::history::Past;
use crate::flow::list::{self, Alike, StoredChunk};
use crate::flow::notes;
use crate::flow::tree::{self, Leafy};

use super::Context;
use super::args::ShowArgs;
use super::log::{Described, references};
use super::ls::TensorLine;
use super::out::{Page, Report, Tint};
use super::session::Session;
use super::text::{escaped, saving, size};

#[derive(Serialize)]
struct ShownCommit {
    #[serde(flatten)]
    commit: Described,
    files: u64,
    logical_bytes: u64,
}

impl Report for ShownCommit {
    const SCHEMA: &'static str = "sparse.show/1";

    fn human(&self, page: &mut Page) {
        self.commit.human(page);
        page.line("");
        page.line(format_args!(
            "{} files, {}",
            self.files,
            size(self.logical_bytes)
        ));
        for (namespace, value) in &self.commit.attributes {
            let text = serde_json::to_string_pretty(value).unwrap_or_default();
            page.line(format_args!(
                "{} {}",
                Tint::Strong.on(escaped(namespace)),
                super::text::escaped_lines(&text)
            ));
        }
        for note in &self.commit.attachments {
            page.line(format_args!(
                "attached {} {} by {} at {}",
                escaped(&note.namespace),
                Tint::Id.on(&note.attachment[..12]),
                escaped(&note.author),
                note.time
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        self.commit.quiet(page);
    }
}

#[derive(Serialize)]
struct ShownFile {
    commit: String,
    path: String,
    file: String,
    bytes: u64,
    stored_bytes: u64,
    layout: &'static str,
    note: Option<String>,
    regions: BTreeMap<&'static str, u64>,
    tensors: Vec<TensorLine>,
    chunks: Vec<ChunkLine>,
    stored: Vec<AlikeLine>,
}

#[derive(Serialize)]
struct ChunkLine {
    chunk: String,
    start: u64,
    bytes: u64,
    predictor: Option<&'static str>,
    coding: Option<&'static str>,
    depth: Option<u8>,
    stored_bytes: Option<u64>,
    copies: usize,
}

#[derive(Serialize)]
struct AlikeLine {
    predictor: Option<&'static str>,
    coding: Option<&'static str>,
    chunks: u64,
    bytes: u64,
    stored_bytes: u64,
}

impl ShownFile {
    fn new(commit: &CommitId, path: &str, manifest: &Manifest, chunks: &[StoredChunk]) -> Self {
        let mut regions = BTreeMap::new();
        for region in &manifest.regions {
            *regions.entry(region.role.name()).or_default() += 1;
        }
        let line = |chunk: &StoredChunk| ChunkLine {
            chunk: chunk.id.to_string(),
            start: chunk.start,
            bytes: chunk.plain_bytes,
            predictor: chunk.copy.map(|copy| copy.predictor.name()),
            coding: chunk.copy.map(|copy| copy.coding.name()),
            depth: chunk.copy.map(|copy| copy.depth),
            stored_bytes: chunk.copy.map(|copy| copy.stored_bytes),
            copies: chunk.copies,
        };
        let sums = list::summed(chunks);
        Self {
            commit: commit.to_string(),
            path: path.to_owned(),
            file: manifest.file.to_string(),
            bytes: manifest.bytes,
            stored_bytes: sums.values().map(|sum| sum.stored_bytes).sum(),
            layout: manifest.layout.name(),
            note: manifest.note.clone(),
            regions,
            tensors: manifest
                .tensors
                .iter()
                .map(|t| TensorLine::new(None, t))
                .collect(),
            chunks: chunks.iter().map(line).collect(),
            stored: sums
                .into_iter()
                .map(|(how, sum): (_, Alike)| AlikeLine {
                    predictor: how.map(|(predictor, _)| predictor.name()),
                    coding: how.map(|(_, coding)| coding.name()),
                    chunks: sum.chunks,
                    bytes: sum.plain_bytes,
                    stored_bytes: sum.stored_bytes,
                })
                .collect(),
        }
    }
}

fn how(predictor: Option<&str>, coding: Option<&str>) -> String {
    match (predictor, coding) {
        (Some("none"), Some(coding)) => coding.to_owned(),
        (Some(predictor), Some(coding)) => format!("{predictor} + {coding}"),
        _ => "missing".to_owned(),
    }
}

impl Report for ShownFile {
    const SCHEMA: &'static str = "sparse.show-file/1";

    fn human(&self, page: &mut Page) {
        page.line(format_args!(
            "{} in {}",
            Tint::Name.on(escaped(&self.path)),
            Tint::Id.on(&self.commit[..12])
        ));
        page.line(format_args!("layout  {}", self.layout));
        if let Some(note) = &self.note {
            page.line(format_args!("note    {}", escaped(note)));
        }
        page.line(format_args!("file    {}", self.file));
        page.line(format_args!(
            "bytes   {}",
            saving(self.bytes, self.stored_bytes)
        ));
        for sum in &self.stored {
            page.line(format_args!(
                "stored  {} chunks by {}: {}",
                sum.chunks,
                how(sum.predictor, sum.coding),
                saving(sum.bytes, sum.stored_bytes)
            ));
        }
        if !self.tensors.is_empty() {
            page.line(Tint::Strong.on("tensors"));
            self.tensors.iter().for_each(|tensor| tensor.write(page));
        }
        page.line(Tint::Strong.on("chunks"));
        for chunk in &self.chunks {
            let stored = chunk
                .stored_bytes
                .map_or_else(String::new, |bytes| format!(" → {bytes}"));
            page.line(format_args!(
                "  {} {:>12} {}{stored} B, {}, depth {}",
                Tint::Id.on(&chunk.chunk[..12]),
                chunk.start,
                chunk.bytes,
                how(chunk.predictor, chunk.coding),
                chunk.depth.unwrap_or(0)
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(&self.file);
    }
}

pub(super) fn run(context: &Context, args: &ShowArgs) -> Result<()> {
    let session = Session::open(context)?;
    let id = session.resolve(&args.what.rev)?;
    let rebuilder = &session.rebuilder;
    if let Some(path) = args.what.path.as_deref().filter(|path| !path.is_empty()) {
        let manifest = list::manifest(rebuilder, &id, path)?;
        let chunks = list::stored(rebuilder, &manifest);
        return context
            .out
            .page(&ShownFile::new(&id, path, &manifest, &chunks));
    }
    let past = Past {
        id,
        commit: rebuilder.object::<Commit>(&id)?,
    };
    let attached = notes::of(rebuilder, &session.head.table, &id)?;
    let names = references(&session.head.table)
        .remove(&id)
        .unwrap_or_default();
    let leaves = list::list(rebuilder, &id, "")?;
    let is_file = |leaf: &&tree::Leaf| matches!(leaf.node, Leafy::File { .. });
    context.out.page(&ShownCommit {
        commit: Described::new(&past, &attached, names)?,
        files: leaves.iter().filter(is_file).count() as u64,
        logical_bytes: tree::bytes_of(&leaves),
    })
}
