//! `sparse stats`.
//!
//! May use: everything below.

use serde::Serialize;

use crate::error::Result;
use crate::flow::stats;

use super::Context;
use super::args::StatsArgs;
use super::out::{Page, Report, Tint};
use super::session::Session;
use super::text::{ratio, saving, size};

#[derive(Serialize)]
struct Stats {
    logical_bytes: u64,
    stored_bytes: u64,
    commits: u64,
    references: u64,
    files: u64,
    chunks: u64,
    objects: u64,
    packs: u64,
    codecs: Vec<Codec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layouts: Option<Vec<OfLayout>>,
}

#[derive(Serialize)]
struct Codec {
    predictor: &'static str,
    coding: &'static str,
    records: u64,
    plain_bytes: u64,
    stored_bytes: u64,
    ratio: Option<f64>,
}

#[derive(Serialize)]
struct OfLayout {
    layout: &'static str,
    files: u64,
    bytes: u64,
}

impl Report for Stats {
    const SCHEMA: &'static str = "sparse.stats/1";

    fn human(&self, page: &mut Page) {
        page.line(format_args!(
            "bytes    {}",
            saving(self.logical_bytes, self.stored_bytes)
        ));
        page.line(format_args!(
            "holds    {} commits, {} files, {} branches and tags",
            self.commits, self.files, self.references
        ));
        page.line(format_args!(
            "records  {} chunks and {} objects in {} packs",
            self.chunks, self.objects, self.packs
        ));
        let Some(layouts) = &self.layouts else {
            return;
        };
        page.line("");
        page.line(Tint::Strong.on(format_args!(
            "{:<10} {:<12} {:>9} {:>10} {:>10} {:>8}",
            "predictor", "coding", "records", "plain", "stored", "ratio"
        )));
        for codec in &self.codecs {
            page.line(format_args!(
                "{:<10} {:<12} {:>9} {:>10} {:>10} {:>8}",
                codec.predictor,
                codec.coding,
                codec.records,
                size(codec.plain_bytes),
                size(codec.stored_bytes),
                ratio(codec.plain_bytes, codec.stored_bytes).unwrap_or_default()
            ));
        }
        page.line("");
        page.line(Tint::Strong.on(format_args!(
            "{:<23} {:>9} {:>10}",
            "layout", "files", "plain"
        )));
        for of in layouts {
            page.line(format_args!(
                "{:<23} {:>9} {:>10}",
                of.layout,
                of.files,
                size(of.bytes)
            ));
        }
    }

    fn quiet(&self, page: &mut Page) {
        page.line(self.stored_bytes);
    }
}

pub(super) fn run(context: &Context, args: &StatsArgs) -> Result<()> {
    let session = Session::open(context)?;
    let report = stats::stats(&session.rebuilder, &session.head.table, args.why)?;
    let codecs = report.codings.iter().map(|((predictor, coding), share)| {
        let ratio = share.plain_bytes as f64 / share.stored_bytes as f64;
        Codec {
            predictor: predictor.name(),
            coding: coding.name(),
            records: share.records,
            plain_bytes: share.plain_bytes,
            stored_bytes: share.stored_bytes,
            ratio: (share.stored_bytes > 0).then_some(ratio),
        }
    });
    let layouts = report
        .layouts
        .iter()
        .map(|(layout, (files, bytes))| OfLayout {
            layout: layout.name(),
            files: *files,
            bytes: *bytes,
        });
    context.out.print(&Stats {
        logical_bytes: report.logical_bytes,
        stored_bytes: report.stored_bytes,
        commits: report.commits,
        references: report.references,
        files: report.files,
        chunks: report.chunks,
        objects: report.objects,
        packs: report.packs,
        codecs: codecs.collect(),
        layouts: args.why.then(|| layouts.collect()),
    })
}
